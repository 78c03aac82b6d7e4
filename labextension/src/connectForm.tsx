import * as React from 'react';

import { ConnectForm as FormView } from '../../fabric_nb/notebook/connect/form.js';
import { Actions } from './actions';
import { Companion } from './companion';

/** Form that connects to a broker, by a cell that it writes; the same as under a cell. */
export function ConnectForm(props: {
  companion: Companion;
  actions: Actions;
}): React.ReactElement {
  const { companion, actions } = props;
  const container = React.useRef<HTMLDivElement>(null);
  React.useLayoutEffect(() => {
    const form = new FormView(
      async (name, values) => {
        const answer = await companion.request({
          do: 'broker',
          name,
          arguments: values
        });
        return JSON.parse(answer) as object;
      },
      async ({ uri, domain }) => {
        await actions.connectTo(companion, uri, domain);
        return 'Inserted into a cell, and run.';
      }
    );
    container.current?.append(form.node);
    void form.showRecent();
    return () => form.node.remove();
  }, [companion, actions]);
  return <div ref={container} />;
}
