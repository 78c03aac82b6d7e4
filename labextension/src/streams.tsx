import * as React from 'react';
import { addIcon, runIcon } from '@jupyterlab/ui-components';

import { Actions } from './actions';
import { pauseIcon } from './icons';
import { Mount } from './mount';
import { PanelTables, RowTools } from './tables';

/** Streams of the notebook. */
export function Streams(props: {
  tables: PanelTables;
  actions: Actions;
}): React.ReactElement {
  return (
    <Mount
      view={props.tables.streams.view(toolsOf(props.actions))}
      className="fabric-live"
    />
  );
}

function toolsOf(actions: Actions): RowTools {
  return row => {
    const variable = row.text('variable');
    const state = row.text('state');
    const paused = state === 'paused';
    const pause = {
      label: `${paused ? 'Resume' : 'Pause'} ${variable}`,
      icon: () => (paused ? runIcon : pauseIcon).element({ tag: 'span' }),
      run: () => void actions.pause(row.id)
    };
    const insert = {
      label: `Insert df = ${variable}.df`,
      icon: () => addIcon.element({ tag: 'span' }),
      run: () => actions.insertStream(variable)
    };
    return [
      ...(state === 'closed' ? [] : [pause]),
      ...(variable ? [insert] : [])
    ];
  };
}
