import * as React from 'react';

import { Actions } from './actions';
import { Mount } from './mount';
import { PanelModel } from './model';
import { PanelTables } from './tables';

/** Log records of the domain, received from when this is first shown. */
export function Logs(props: {
  model: PanelModel;
  tables: PanelTables;
  actions: Actions;
}): React.ReactElement {
  const { model, tables, actions } = props;
  const connected = model.connection !== null;
  React.useEffect(() => {
    if (connected) {
      void actions.receiveLogs();
    }
  }, [actions, connected, model]);
  return <Mount view={tables.logs.view()} className="fabric-live" />;
}
