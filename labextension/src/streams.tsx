import * as React from 'react';
import { addIcon, runIcon } from '@jupyterlab/ui-components';

import { Actions } from './actions';
import { pauseIcon } from './icons';
import { PanelModel } from './model';
import { IStream } from './protocol';

const NUMBER = new Intl.NumberFormat('en');

/** The notebook's streams. */
export function Streams(props: {
  model: PanelModel;
  actions: Actions;
}): React.ReactElement {
  const streams = [...props.model.streams];
  if (streams.length === 0) {
    return (
      <p className="fabric-hint">
        No stream is open. <code>tx = %fabric_stream msg_type=…</code> lets one
        flow into a DataFrame.
      </p>
    );
  }
  return (
    <ul className="fabric-list" aria-label="Streams">
      {streams.map(([key, stream]) => (
        <li key={key}>
          <div className="fabric-cells">
            <span className="fabric-grow fabric-code">
              <b>{stream.variable || 'not in a variable'}</b>
            </span>
            <span className="fabric-number">{rateOf(stream)}</span>
            {stream.state !== 'closed' && (
              <PauseButton
                paused={stream.state === 'paused'}
                name={stream.variable}
                onClick={() =>
                  void props.actions.pause(key, stream.state !== 'paused')
                }
              />
            )}
            {stream.variable && (
              <button
                className="fabric-button"
                title={`Insert df = ${stream.variable}.df`}
                onClick={() => props.actions.insertStream(stream)}
              >
                <addIcon.react tag="span" />
              </button>
            )}
          </div>
          <div className="fabric-quiet fabric-wrap">
            {[stream.headers || 'all data', ...countsOf(stream)].join(' · ')}
          </div>
        </li>
      ))}
    </ul>
  );
}

function PauseButton(props: {
  paused: boolean;
  name: string;
  onClick: () => void;
}): React.ReactElement {
  const Icon = props.paused ? runIcon : pauseIcon;
  const what = props.paused ? 'Go on' : 'Pause';
  return (
    <button
      className="fabric-button"
      title={`${what} ${props.name}`}
      onClick={props.onClick}
    >
      <Icon.react tag="span" />
    </button>
  );
}

function rateOf(stream: IStream): string {
  return stream.state === 'open'
    ? `${NUMBER.format(stream.rate)} rows/s`
    : stream.state;
}

function countsOf(stream: IStream): string[] {
  const counts = [`${NUMBER.format(stream.rows)} rows`];
  if (stream.dropped > 0) {
    counts.push(`${NUMBER.format(stream.dropped)} dropped`);
  }
  if (stream.malformed > 0) {
    counts.push(`${NUMBER.format(stream.malformed)} unreadable`);
  }
  return counts;
}
