import * as React from 'react';
import { stopIcon } from '@jupyterlab/ui-components';

import { Actions } from './actions';
import { Mount } from './mount';
import { PanelTables, RowTools } from './tables';

/** Methods that the notebook serves. */
export function Serving(props: {
  tables: PanelTables;
  actions: Actions;
}): React.ReactElement {
  return (
    <Mount
      view={props.tables.serving.view(toolsOf(props.actions))}
      className="fabric-live"
    />
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
