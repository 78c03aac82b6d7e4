import * as React from 'react';

import { Actions } from './actions';
import { Mount } from './mount';
import { PanelTables } from './tables';

/** Who calls whom, as a picture and a table; the services are asked when this is first shown. */
export function Calls(props: {
  tables: PanelTables;
  actions: Actions;
}): React.ReactElement {
  const { tables, actions } = props;
  const view = tables.graph.view();
  React.useEffect(() => {
    view.onPick = name => actions.showService(name);
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
  }, [actions, tables, view]);
  return <Mount view={view} className="fabric-live fabric-calls" />;
}
