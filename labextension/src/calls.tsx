import * as React from 'react';

import { Actions } from './actions';
import { Mount } from './mount';
import { PanelModel } from './model';
import { PanelTables } from './tables';

/** Number of services up to which they are asked at once, which costs each of them a call. */
const FEW = 50;

/**
 * Who calls whom, as a picture and a table. Few services are asked when this is first shown, many
 * when the user wants that.
 */
export function Calls(props: {
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
    const seen = new IntersectionObserver(entries => {
      if (entries.some(entry => entry.isIntersecting)) {
        seen.disconnect();
        if (tables.graph.isEmpty) {
          void actions.refreshGraph();
        }
      }
    });
    seen.observe(view.root);
    return () => seen.disconnect();
  }, [actions, few, tables, view]);
  return <Mount view={view} className="fabric-live fabric-calls" />;
}
