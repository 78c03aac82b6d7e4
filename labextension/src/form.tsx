import * as React from 'react';
import { closeIcon } from '@jupyterlab/ui-components';

import { Actions as FormActions } from '../../fabric_nb/notebook/table/actions.js';
import { FormView } from '../../fabric_nb/notebook/table/form.js';
import { Actions } from './actions';
import { PLACEHOLDER, fullAddress, requiredArguments } from './cells';
import { Request } from './link';
import { sendActions } from './tables';
import { IFormTarget } from './uiState';

/** Open forms. They are kept with their input when the panel's elements are recreated. */
const forms = new WeakMap<IFormTarget, HTMLFormElement>();

/** Form that calls a method, or inserts the call. */
export function CallForm(props: {
  target: IFormTarget;
  actions: Actions;
}): React.ReactElement {
  const { target, actions } = props;
  const container = React.useRef<HTMLDivElement>(null);
  React.useLayoutEffect(() => {
    const existing = forms.get(target);
    const form = existing ?? makeForm(target, actions);
    forms.set(target, form);
    container.current?.append(form);
    if (!existing) {
      form.querySelector<HTMLElement>('input, button[type=submit]')?.focus();
    }
    return () => form.remove();
  }, [target, actions]);
  return <div ref={container} className="fabric-form" />;
}

function makeForm(target: IFormTarget, actions: Actions): HTMLFormElement {
  const { service, method } = target;
  const call = fullAddress(service, method) ?? '';
  const companion = actions.current.companion;
  const send = (
    request: Request,
    signal?: AbortSignal,
    onProgress?: (text: string) => void
  ): Promise<string> =>
    companion?.request(request, signal, onProgress) ?? Promise.resolve('');
  const formActions: FormActions = new FormActions(
    sendActions(
      send,
      ({ value }) => ({ do: 'call', call, arguments: value }),
      () => formActions
    )
  );
  const insert = (): void => {
    const given = new Map(form.expressions);
    const missing = requiredArguments(method).filter(name => !given.has(name));
    const placeholders = missing.map(name => [name, PLACEHOLDER] as const);
    actions.insertCall(service, method, new Map([...placeholders, ...given]));
  };
  const form = new FormView(
    {
      name: call,
      fields: method.fields,
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
  const { showAnswer } = form;
  form.showAnswer = (text, error, final, field) => {
    showAnswer(text, error, final, field);
    form.answer.scrollIntoView({ block: 'nearest' });
  };
  // Optional: only services on fabric_nb have docs.
  send({ do: 'describe', call }).then(
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
  const methodName = document.createElement('b');
  methodName.textContent = method.name;
  name.append(`${service.type}.${service.id}.`, methodName);
  const button = document.createElement('button');
  button.type = 'button';
  button.className = 'fabric-button';
  button.title = 'Close the form';
  button.append(closeIcon.element({ tag: 'span' }));
  button.addEventListener('click', close);
  node.append(name, button);
  return node;
}
