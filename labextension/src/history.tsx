import * as React from 'react';

import { Mount } from './mount';
import { PanelTables } from './tables';

/** Calls that the notebook made and served; a row opens to its arguments and result. */
export function History(props: { tables: PanelTables }): React.ReactElement {
  return (
    <Mount
      view={props.tables.calls.view()}
      className="fabric-live fabric-history"
    />
  );
}
