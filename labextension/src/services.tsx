import * as React from 'react';
import {
  addIcon,
  caretDownIcon,
  caretRightIcon
} from '@jupyterlab/ui-components';

import { Actions } from './actions';
import { Badge } from './badge';
import { fullAddress } from './cells';
import { CallForm } from './form';
import { formIcon } from './icons';
import { UiState, useUiState } from './uiState';
import { PanelModel } from './model';
import { VirtualRows } from './rows';
import { Row, rows } from './tree';

/** The tree of services, its filter, and the form below it. */
export function Services(props: {
  model: PanelModel;
  uiState: UiState;
  actions: Actions;
}): React.ReactElement {
  const { model, uiState, actions } = props;
  const [filter, setFilter] = useUiState(uiState, 'filter');
  const [expansion, setExpansion] = useUiState(uiState, 'expansion');
  const domain = model.connection?.domain ?? '';
  const shown = rows(model.services.values(), domain, filter, expansion);
  const form = actions.form;
  const remarks = filter === '' ? model.facts.services : null;

  const setExpanded = (row: Row, expanded: boolean): void => {
    setExpansion(new Map(expansion).set(row.key, expanded));
  };

  const open = (row: Row): void => {
    if (row.expanded !== undefined) {
      setExpanded(row, !row.expanded);
    } else {
      actions.insertRow(row);
    }
  };

  const onKey = (row: Row, key: string): boolean => {
    switch (key) {
      case 'ArrowRight':
        if (row.expanded === false) {
          setExpanded(row, true);
        } else if (row.expanded) {
          actions.row = shown[shown.indexOf(row) + 1] ?? row;
        }
        return true;
      case 'ArrowLeft':
        if (row.expanded) {
          setExpanded(row, false);
        } else {
          actions.row = parentOf(row, shown) ?? row;
        }
        return true;
      case ' ':
        if (row.kind === 'method') {
          actions.form = row;
        } else {
          open(row);
        }
        return true;
      default:
        return false;
    }
  };

  return (
    <div className="fabric-section">
      <input
        type="search"
        className="fabric-filter jp-mod-styled"
        aria-label="Filter services"
        placeholder="Filter services"
        value={filter}
        onChange={event => {
          uiState.scrollTop = 0;
          setFilter(event.target.value);
        }}
      />
      {remarks?.alone && remarks.elsewhere !== '' && (
        <p className="fabric-message">
          No other service is in {domain}.{' '}
          <TextWithCode text={remarks.elsewhere} />
        </p>
      )}
      {shown.length > 0 && (
        <VirtualRows
          key={filter} // recreated, to scroll to the first row
          top={uiState.scrollTop}
          onTop={top => {
            uiState.scrollTop = top;
          }}
          rows={shown}
          role="tree"
          label="Services"
          rowHeight={24}
          active={actions.row?.key ?? null}
          onActive={row => {
            actions.row = row;
          }}
          onOpen={open}
          onKey={onKey}
          aria={ariaOf}
          className="fabric-services"
          render={row => <RowContent row={row} actions={actions} />}
        />
      )}
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
  const parts = props.text.split('`');
  return (
    <>
      {parts.map((part, index) =>
        index % 2 === 1 ? <code key={index}>{part}</code> : part
      )}
    </>
  );
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

function RowContent(props: { row: Row; actions: Actions }): React.ReactElement {
  const { row, actions } = props;
  const indent = { paddingLeft: (row.level - 1) * 14 };
  switch (row.kind) {
    case 'type':
      return (
        <div className="fabric-cells" style={indent}>
          <Caret open={row.expanded === true} />
          <span className="fabric-grow fabric-strong">{row.label}</span>
          <span className="fabric-quiet">{row.services}</span>
        </div>
      );
    case 'service': {
      const { service } = row;
      return (
        <div className="fabric-cells" style={indent}>
          <Caret open={row.expanded === true} />
          <span className="fabric-grow">{service.id}</span>
          {service.version && (
            <span className="fabric-quiet">{service.version}</span>
          )}
          {service.count !== 0 && service.count !== 1 && (
            <span className="fabric-quiet" title="instances">
              ×{service.count}
            </span>
          )}
          <Badge content={service.state} />
        </div>
      );
    }
    case 'instance':
      return (
        <div className="fabric-cells" style={indent}>
          <span className="fabric-grow fabric-quiet">
            instance <code>{row.instance.id || 'unnamed'}</code>
            {row.instance.version && ` ${row.instance.version}`}
          </span>
          <Badge content={row.instance.state} />
        </div>
      );
    case 'note':
      return (
        <div className="fabric-cells" style={indent}>
          <span className="fabric-grow fabric-quiet">{row.text}</span>
          {row.on === 'methods' && (
            <addIcon.react tag="span" className="fabric-mark" />
          )}
        </div>
      );
    case 'method':
      return (
        <div
          className="fabric-cells"
          style={indent}
          title={`${row.method.name}${row.method.signature}\nClick to insert the call`}
        >
          <span className="fabric-grow fabric-code">
            <b>{row.method.name}</b>
            {row.method.signature}
          </span>
          <button
            className="fabric-button"
            tabIndex={-1}
            title="Open the form (Space)"
            aria-hidden="true"
            onClick={event => {
              event.stopPropagation();
              actions.form = row;
            }}
          >
            <formIcon.react tag="span" />
          </button>
        </div>
      );
  }
}

function Caret(props: { open: boolean }): React.ReactElement {
  const Icon = props.open ? caretDownIcon : caretRightIcon;
  return <Icon.react tag="span" className="fabric-caret" />;
}

function ariaOf(row: Row): React.AriaAttributes {
  return {
    'aria-level': row.level,
    'aria-posinset': row.position,
    'aria-setsize': row.siblings,
    'aria-expanded': row.expanded
  };
}

function parentOf(row: Row, all: readonly Row[]): Row | undefined {
  return all
    .slice(0, all.indexOf(row))
    .reverse()
    .find(other => other.level < row.level);
}
