import * as React from 'react';
import { ReactWidget, UseSignal } from '@jupyterlab/ui-components';
import { TextItem } from '@jupyterlab/statusbar';

import { Current } from './current';

/** Status bar item, `Fabric: my_project · 7 up`; a click shows the panel. */
export function statusItem(current: Current, show: () => void): ReactWidget {
  return ReactWidget.create(
    <UseSignal signal={current.changed}>
      {() => {
        const model = current.companion?.model;
        const connection = model?.connection;
        if (!model || !connection) {
          return <></>;
        }
        const text =
          connection.badges[0]?.[0] ?? `${model.facts.services?.up ?? 0} up`;
        return (
          <TextItem
            source={`Fabric: ${connection.domain} · ${text}`}
            title={`${connection.name} at ${connection.uri}`}
            role="button"
            tabIndex={0}
            onClick={show}
            onKeyDown={event => {
              if (event.key === 'Enter' || event.key === ' ') {
                show();
              }
            }}
          />
        );
      }}
    </UseSignal>
  );
}
