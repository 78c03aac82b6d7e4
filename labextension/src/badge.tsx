import * as React from 'react';

import { ServiceState } from './protocol';

/** Colours of badges, as in the tables under cells. */
export type Tone = 'good' | 'busy' | 'warn' | 'bad' | 'quiet';

const TONES: { readonly [state in ServiceState]: Tone } = {
  up: 'good',
  busy: 'busy',
  late: 'warn',
  gone: 'bad'
};

/** A coloured label. */
export function Badge(props: {
  text: string;
  tone: Tone;
  title?: string;
}): React.ReactElement {
  return (
    <span className="badge" data-tone={props.tone} title={props.title}>
      {props.text}
    </span>
  );
}

/** State of a service or an instance. */
export function StateBadge(props: { state: ServiceState }): React.ReactElement {
  return <Badge text={props.state} tone={TONES[props.state]} />;
}
