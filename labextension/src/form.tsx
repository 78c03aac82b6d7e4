import * as React from 'react';
import { closeIcon } from '@jupyterlab/ui-components';

import { Actions } from './actions';
import { BLANK, fullAddress } from './cells';
import { messageOf } from './errors';
import { IFormTarget } from './uiState';

/** How the kernel calls the field of arguments that a method does not name. */
const FURTHER = '**';

interface IOutcome {
  text: string;
  failed: boolean;
}

interface IDraft {
  values: ReadonlyMap<string, string>;
  outcome: IOutcome | null;
}

/** What the form that is open for a target shows: it outlives the element, as `UiState` does. */
const drafts = new WeakMap<IFormTarget, IDraft>();

/** Calls a method with what is typed in, or inserts that call. */
export function CallForm(props: {
  target: IFormTarget;
  actions: Actions;
}): React.ReactElement {
  const { target, actions } = props;
  const { service, method } = target;
  const draft = drafts.get(target);
  const [values, setValues] = React.useState(
    draft?.values ?? new Map<string, string>()
  );
  const [calling, setCalling] = React.useState<AbortController | null>(null);
  const [seconds, setSeconds] = React.useState(0);
  const [outcome, setOutcome] = React.useState(draft?.outcome ?? null);
  const [doc, setDoc] = React.useState('');
  const first = React.useRef<HTMLFormElement>(null);
  const call = fullAddress(service, method);
  const heading = React.useId();
  const shown = React.useRef<HTMLDivElement>(null);

  React.useEffect(() => {
    if (!drafts.has(target)) {
      first.current
        ?.querySelector<HTMLElement>('input, button[type=submit]')
        ?.focus();
    }
    if (call !== null) {
      // Only fabric_nb services tell it, and the form does without.
      actions.current.companion
        ?.request({ do: 'describe', call })
        .then(setDoc, () => undefined);
    }
  }, [call, target, actions]);

  React.useEffect(() => {
    drafts.set(target, { values, outcome });
  }, [target, values, outcome]);

  React.useEffect(() => {
    if (outcome) {
      shown.current?.scrollIntoView({ block: 'nearest' });
    }
  }, [outcome]);

  React.useEffect(() => {
    if (calling === null) {
      return;
    }
    setSeconds(0);
    const timer = setInterval(() => setSeconds(past => past + 1), 1000);
    return () => clearInterval(timer);
  }, [calling]);

  const given = new Map([...values].filter(([, text]) => text.trim() !== ''));
  const missing = method.required.filter(name => !given.has(name));

  const submit = async (event: React.FormEvent): Promise<void> => {
    event.preventDefault();
    if (call === null || missing.length > 0) {
      return;
    }
    const controller = new AbortController();
    setCalling(controller);
    setOutcome(null);
    try {
      const text = await actions.current.companion?.request(
        { do: 'call', call, arguments: Object.fromEntries(given) },
        controller.signal
      );
      setOutcome({ text: text ?? '', failed: false });
    } catch (error) {
      setOutcome({ text: messageOf(error), failed: true });
    }
    setCalling(null);
  };

  const field = (
    name: string,
    optional: boolean,
    label = name
  ): React.ReactElement => (
    <label key={name} className="fabric-field">
      <span>
        {label}
        {optional && <span className="fabric-quiet"> optional</span>}
      </span>
      <input
        name={name}
        className="jp-mod-styled"
        value={values.get(name) ?? ''}
        required={!optional}
        spellCheck={false}
        onChange={event =>
          setValues(new Map(values).set(name, event.target.value))
        }
      />
    </label>
  );

  return (
    <form
      ref={first}
      className="fabric-form"
      aria-labelledby={heading}
      onSubmit={event => void submit(event)}
      onKeyDown={event => {
        if (event.key === 'Escape') {
          actions.form = null;
        }
      }}
    >
      <div className="fabric-cells">
        <span id={heading} className="fabric-grow fabric-code">
          {service.type}.{service.id}.<b>{method.name}</b>
        </span>
        <button
          type="button"
          className="fabric-button"
          title="Close the form"
          onClick={() => {
            actions.form = null;
          }}
        >
          <closeIcon.react tag="span" />
        </button>
      </div>
      {doc && <p className="fabric-quiet fabric-doc">{doc}</p>}
      {method.required.map(name => field(name, false))}
      {method.optional.map(name => field(name, true))}
      {method.open && field(FURTHER, true, 'further, as {"name": value}')}
      {(method.open || method.required.length + method.optional.length > 0) && (
        <p className="fabric-quiet">
          Values are JSON or Python literals: 5, &quot;text&quot;, [1, 2].
        </p>
      )}
      <div className="fabric-buttons">
        <button
          type="submit"
          className="jp-mod-styled jp-mod-accept"
          disabled={calling !== null || call === null}
        >
          {calling === null ? 'Call' : `Calling … ${seconds} s`}
        </button>
        {calling !== null && (
          <button
            type="button"
            className="jp-mod-styled jp-mod-warn"
            onClick={() => calling.abort()}
          >
            Cancel
          </button>
        )}
        <button
          type="button"
          className="jp-mod-styled jp-mod-reject"
          onClick={() =>
            actions.insertCall(
              service,
              method,
              new Map([
                ...missing.map(name => [name, BLANK] as const),
                ...[...given].filter(([name]) => name !== FURTHER)
              ])
            )
          }
        >
          Insert as cell
        </button>
      </div>
      <div role="status" aria-live="polite" ref={shown}>
        {outcome && (
          <pre
            className={`fabric-outcome ${outcome.failed ? 'fabric-mod-failed' : ''}`}
          >
            {outcome.text}
          </pre>
        )}
      </div>
    </form>
  );
}
