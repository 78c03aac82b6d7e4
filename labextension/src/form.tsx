import * as React from 'react';
import { closeIcon } from '@jupyterlab/ui-components';

import { Actions as FormActions } from '../../fabric_nb/notebook/table/actions.js';
import { FormView } from '../../fabric_nb/notebook/table/form.js';
import { Actions } from './actions';
import { BLANK, fullAddress } from './cells';
import { Request } from './link';
import { sendActions } from './tables';
import { IFormTarget } from './uiState';

/** The kernel's name for the field of arguments that a method does not name. */
const FURTHER = '**';
const HINT = 'Values are JSON or Python literals: 5, "text", [1, 2].';

/** The forms that were opened: each outlives the panel's elements, with what was written into it. */
const forms = new WeakMap<IFormTarget, HTMLFormElement>();

/** Calls a method with what is written into the form, or inserts that call. */
export function CallForm(props: {
  target: IFormTarget;
  actions: Actions;
}): React.ReactElement {
  const { target, actions } = props;
  const place = React.useRef<HTMLDivElement>(null);
  React.useLayoutEffect(() => {
    const known = forms.get(target);
    const form = known ?? makeForm(target, actions);
    forms.set(target, form);
    place.current?.append(form);
    if (!known) {
      form.querySelector<HTMLElement>('input, button[type=submit]')?.focus();
    }
    return () => form.remove();
  }, [target, actions]);
  return <div ref={place} className="fabric-form" />;
}

function makeForm(target: IFormTarget, actions: Actions): HTMLFormElement {
  const { service, method } = target;
  const call = fullAddress(service, method) ?? '';
  const companion = actions.current.companion;
  const ask = (request: Request, signal?: AbortSignal): Promise<string> =>
    companion?.request(request, signal) ?? Promise.resolve('');
  const formActions: FormActions = new FormActions(
    sendActions(
      ask,
      ({ value }) => ({ do: 'call', call, arguments: value }),
      () => formActions
    )
  );
  const fields = [
    ...method.required.map(name => ({ name, required: true })),
    ...method.optional.map(name => ({ name, hint: 'optional' })),
    ...(method.open
      ? [{ name: FURTHER, label: 'further', hint: '{"name": value}' }]
      : [])
  ];
  const insert = (): void => {
    const given = new Map(form.values);
    const missing = method.required.filter(name => !given.has(name));
    given.delete(FURTHER);
    const blanks = missing.map(name => [name, BLANK] as const);
    actions.insertCall(service, method, new Map([...blanks, ...given]));
  };
  const form = new FormView(
    {
      name: call,
      fields,
      hint: fields.length > 0 ? HINT : '',
      submit: call && 'Call'
    },
    formActions,
    [{ label: 'Insert as cell', run: insert }]
  );
  const close = (): void => {
    actions.form = null;
  };
  const doc = document.createElement('p');
  form.node.prepend(heading(target, close), doc);
  form.node.setAttribute(
    'aria-label',
    `${service.type}.${service.id}.${method.name}`
  );
  form.node.addEventListener('keydown', event => {
    if (event.key === 'Escape') {
      close();
    }
  });
  const { say } = form;
  form.say = (text, error) => {
    say(text, error);
    form.answer.scrollIntoView({ block: 'nearest' });
  };
  // Only fabric_nb services have docs, and the form does without.
  ask({ do: 'describe', call }).then(
    text => {
      doc.textContent = text;
    },
    () => undefined
  );
  return form.node;
}

function heading(target: IFormTarget, close: () => void): HTMLElement {
  const { service, method } = target;
  const node = document.createElement('div');
  node.className = 'fabric-cells';
  const name = document.createElement('span');
  name.className = 'fabric-grow fabric-code';
  const last = document.createElement('b');
  last.textContent = method.name;
  name.append(`${service.type}.${service.id}.`, last);
  const button = document.createElement('button');
  button.type = 'button';
  button.className = 'fabric-button';
  button.title = 'Close the form';
  button.append(closeIcon.element({ tag: 'span' }));
  button.addEventListener('click', close);
  node.append(name, button);
  return node;
}
