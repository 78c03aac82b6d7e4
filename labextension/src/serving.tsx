import * as React from 'react';
import { stopIcon } from '@jupyterlab/ui-components';

import { Actions } from './actions';
import { PanelModel } from './model';

const NUMBER = new Intl.NumberFormat('en');

/** What the notebook serves, and how its methods are doing. */
export function Serving(props: {
  model: PanelModel;
  actions: Actions;
}): React.ReactElement {
  const servers = [...props.model.serving];
  if (servers.length === 0) {
    return (
      <p className="fabric-hint">
        Nothing is served. A cell that begins with{' '}
        <code>%%fabric_serve --id my_service</code> serves its functions.
      </p>
    );
  }
  return (
    <div className="fabric-list">
      {servers.map(([key, server]) => (
        <table key={key} className="fabric-table">
          <caption>
            <div className="fabric-cells">
              <span className="fabric-grow fabric-strong">
                {server.type}.{server.id}
              </span>
              {server.version && (
                <span className="fabric-quiet">{server.version}</span>
              )}
              <button
                className="fabric-button"
                title={`Insert %fabric_stop ${server.type}.${server.id}`}
                onClick={() => props.actions.insertStop(server)}
              >
                <stopIcon.react tag="span" />
              </button>
            </div>
          </caption>
          <thead>
            <tr>
              <th scope="col">method</th>
              <th scope="col">calls</th>
              <th scope="col">errors</th>
              <th scope="col">ms</th>
            </tr>
          </thead>
          <tbody>
            {server.methods.map(method => (
              <tr key={method.name}>
                <td
                  className="fabric-code"
                  title={`${method.name}${method.signature}`}
                >
                  {method.name}
                </td>
                <td>{NUMBER.format(method.calls)}</td>
                <td
                  className={method.errors > 0 ? 'fabric-mod-failed' : ''}
                  title={method.last_error}
                >
                  {NUMBER.format(method.errors)}
                </td>
                <td>
                  {method.mean_ms === null ? '' : method.mean_ms.toFixed(1)}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      ))}
    </div>
  );
}
