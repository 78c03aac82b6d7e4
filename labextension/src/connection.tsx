import * as React from 'react';

import { Actions } from './actions';
import { Badge } from './badge';
import { Companion } from './companion';
import { ConnectForm } from './connectForm';
import { PanelModel, Phase } from './model';

/** Connection of the current notebook, or the buttons to create one. */
export function ConnectionHeader(props: {
  companion: Companion | null;
  actions: Actions;
}): React.ReactElement {
  const { companion, actions } = props;
  const model = companion?.model;
  const connection = model?.connection;
  if (!companion || !model || model.phase !== 'linked') {
    return <Disconnected phase={model?.phase ?? 'none'} actions={actions} />;
  }
  if (!connection) {
    return (
      <div className="fabric-message">
        <p>This notebook is not connected to a fabric.</p>
        <Connections model={model} actions={actions} />
        <button
          className="jp-mod-styled jp-mod-accept"
          onClick={() => void actions.connect()}
        >
          Connect
        </button>
        <p className="fabric-quiet">
          Adds a cell and runs it, for the configured broker or an embedded one.
        </p>
        <ConnectForm companion={companion} actions={actions} />
      </div>
    );
  }
  return (
    <div className="fabric-connection">
      <div className="fabric-cells">
        <span className="fabric-grow fabric-strong" title={connection.uri}>
          {connection.domain}
        </span>
        {connection.badges.map(badge => (
          <Badge key={badge[0]} content={badge} />
        ))}
        {model.facts.busy_since !== null && (
          <Badge
            content={['busy', 'busy']}
            title="A cell is running; streams and served calls wait for it."
          />
        )}
        <span className="fabric-quiet">{model.facts.services?.up ?? 0} up</span>
      </div>
      <div className="fabric-quiet fabric-wrap">
        {connection.name} · {connection.broker}
      </div>
      <Connections model={model} actions={actions} />
    </div>
  );
}

/** Choice of the connection that is in use, if there are several or none is. */
function Connections(props: {
  model: PanelModel;
  actions: Actions;
}): React.ReactElement | null {
  const { connections } = props.model.facts;
  const current = connections.find(({ current }) => current);
  if (connections.length === 0 || (connections.length === 1 && current)) {
    return null;
  }
  return (
    <label className="fabric-cells fabric-connections">
      <span className="fabric-quiet">Connection</span>
      <select
        className="fabric-grow"
        value={current?.name ?? ''}
        title="Adds a cell that uses another connection, and runs it."
        onChange={event => void props.actions.use(event.target.value)}
      >
        {!current && <option value="">none in use</option>}
        {connections.map(({ name, domain }) => (
          <option key={name} value={name}>
            {name} · {domain}
          </option>
        ))}
      </select>
    </label>
  );
}

function Disconnected(props: {
  phase: Phase;
  actions: Actions;
}): React.ReactElement {
  switch (props.phase) {
    case 'none':
      return (
        <p className="fabric-message">
          Open a notebook with a Python kernel to see its fabric.
        </p>
      );
    case 'starting':
      return <p className="fabric-message">Waiting for the kernel …</p>;
    case 'dead':
      return (
        <p className="fabric-message">The kernel has stopped. Restart it.</p>
      );
    case 'unloaded':
      return (
        <div className="fabric-message">
          <p>fabric_nb is not loaded in this notebook.</p>
          <div className="fabric-buttons">
            <button
              className="jp-mod-styled jp-mod-accept"
              onClick={() => void props.actions.connect()}
            >
              Load and connect
            </button>
            <button
              className="jp-mod-styled jp-mod-reject"
              onClick={() => void props.actions.load()}
            >
              Only load
            </button>
          </div>
          <p className="fabric-quiet">Adds a cell and runs it.</p>
        </div>
      );
    default:
      return (
        <p className="fabric-message">
          Waiting for the kernel, which may be running a cell …
        </p>
      );
  }
}
