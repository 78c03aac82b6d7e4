import * as React from 'react';

import { setQuoted } from '../../fabric_nb/notebook/live/dom.js';
import { Actions } from './actions';
import { fullAddress } from './cells';
import { CallForm } from './form';
import { Mount } from './mount';
import { PanelModel } from './model';
import { rows } from './tree';
import { TreeView } from './treeView';
import { UiState } from './uiState';

/** Trees. They are kept when the panel's elements are recreated. */
const trees = new WeakMap<UiState, TreeView>();

/** The tree of services, its filter, and a form over them. */
export function Services(props: {
  model: PanelModel;
  uiState: UiState;
  actions: Actions;
}): React.ReactElement {
  const { model, uiState, actions } = props;
  const { filter, expansion } = uiState;
  const domain = model.connection?.domain ?? '';
  const shown = rows(
    model.services.values(),
    domain,
    filter,
    expansion,
    model.statistics
  );
  const form = actions.form;
  const remarks = filter === '' ? model.facts.services : null;
  const tree = trees.get(uiState) ?? new TreeView(actions);
  trees.set(uiState, tree);
  React.useLayoutEffect(() => tree.show(shown, filter));

  return (
    <div className="fabric-section">
      <input
        type="search"
        className="fabric-filter jp-mod-styled"
        aria-label="Filter services"
        placeholder="Filter services"
        value={filter}
        onChange={event => actions.filterBy(event.target.value)}
      />
      {remarks?.alone && remarks.elsewhere !== '' && (
        <p className="fabric-message">
          No other service is in {domain}.{' '}
          <TextWithCode text={remarks.elsewhere} />
        </p>
      )}
      {shown.length > 0 && <Mount view={tree} className="fabric-services" />}
      {shown.length === 0 && filter !== '' && (
        <p className="fabric-message">No service matches the filter.</p>
      )}
      {remarks?.alone && remarks.elsewhere === '' && (
        <NoServices model={model} actions={actions} />
      )}
      {remarks?.notes.map(note => (
        <p key={note} className="fabric-message fabric-quiet">
          {note}
        </p>
      ))}
      {form && (
        <CallForm
          key={fullAddress(form.service, form.method)}
          target={form}
          actions={actions}
        />
      )}
    </div>
  );
}

/** Text with code between backticks. */
function TextWithCode(props: { text: string }): React.ReactElement {
  return <span ref={node => node && setQuoted(node, props.text)} />;
}

function NoServices(props: {
  model: PanelModel;
  actions: Actions;
}): React.ReactElement {
  const [starting, setStarting] = React.useState(false);
  return (
    <div className="fabric-message">
      <p>
        No other service yet. Services announce themselves every few seconds.
      </p>
      {props.model.connection?.embedded && (
        <button
          className="jp-mod-styled jp-mod-accept"
          disabled={starting}
          onClick={() => {
            setStarting(true);
            void props.actions.startDemo().finally(() => setStarting(false));
          }}
        >
          {starting ? 'Starting …' : 'Start demo services'}
        </button>
      )}
    </div>
  );
}
