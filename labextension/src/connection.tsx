import * as React from 'react';

import { Actions } from './actions';
import { Badge } from './badge';
import { PanelModel, Phase } from './model';

/** Connection of the current notebook, or the buttons to create one. */
export function ConnectionHeader(props: {
  model: PanelModel | null;
  actions: Actions;
}): React.ReactElement {
  const { model, actions } = props;
  const connection = model?.connection;
  if (!model || model.phase !== 'linked') {
    return <Disconnected phase={model?.phase ?? 'none'} actions={actions} />;
  }
  if (!connection) {
    return (
      <div className="fabric-message">
        <p>This notebook is not connected to a fabric.</p>
        <button
          className="jp-mod-styled jp-mod-accept"
          onClick={() => void actions.connect()}
        >
          Connect
        </button>
        <p className="fabric-quiet">Adds a cell and runs it.</p>
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
    </div>
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
