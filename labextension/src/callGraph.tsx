import * as React from 'react';

import { Actions } from './actions';
import { Mount } from './mount';
import { PanelModel } from './model';
import { PanelTables } from './tables';

/** Number of services up to which they are asked regularly, which costs each of them a call. */
const FEW = 50;
/** Milliseconds between two times. */
const PERIOD = 10_000;

/**
 * Who calls whom, as a picture and a table. While it is visible, few services are asked every ten
 * seconds, and many only when the user wants that.
 */
export function CallGraph(props: {
  model: PanelModel;
  tables: PanelTables;
  actions: Actions;
}): React.ReactElement {
  const { model, tables, actions } = props;
  const view = tables.graph.view();
  const few = (model.facts.services?.up ?? Infinity) <= FEW;
  React.useEffect(() => {
    view.onPick = name => actions.showService(name);
  }, [actions, view]);
  React.useEffect(() => {
    if (!few) {
      return;
    }
    let visible = false;
    let asking = false;
    const ask = async (): Promise<void> => {
      if (visible && !asking) {
        asking = true;
        await actions.refreshGraph();
        asking = false;
      }
    };
    const seen = new IntersectionObserver(entries => {
      visible = entries.some(entry => entry.isIntersecting);
      void ask();
    });
    seen.observe(view.root);
    const timer = setInterval(() => void ask(), PERIOD);
    return () => {
      seen.disconnect();
      clearInterval(timer);
    };
  }, [actions, few, view]);
  return <Mount view={view} className="fabric-live fabric-calls" />;
}
