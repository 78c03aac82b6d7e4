import * as React from 'react';
import { stopIcon } from '@jupyterlab/ui-components';

import { Actions } from './actions';
import { LiveTable } from './liveTable';
import { PanelTables, RowTools } from './tables';

/** Methods that the notebook serves. */
export function Serving(props: {
  tables: PanelTables;
  actions: Actions;
}): React.ReactElement {
  return (
    <LiveTable table={props.tables.serving} tools={toolsOf(props.actions)} />
  );
}

function toolsOf(actions: Actions): RowTools {
  return row => {
    const service = row.text('service');
    return [
      {
        label: `Insert %fabric_stop ${service}`,
        icon: () => stopIcon.element({ tag: 'span' }),
        run: () => actions.insertStop(service)
      }
    ];
  };
}
