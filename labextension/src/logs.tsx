import * as React from 'react';
import { HTMLSelect } from '@jupyterlab/ui-components';

import { Actions } from './actions';
import { Badge, Tone } from './badge';
import { UiState, useUiState } from './uiState';
import { INumberedLine, PanelModel } from './model';
import { VirtualRows } from './rows';

const LEVELS = ['DEBUG', 'INFO', 'WARNING', 'ERROR', 'CRITICAL'];

interface ILogRow extends INumberedLine {
  key: string;
}

/** The domain's log lines; they are heard from when this is first seen. */
export function Logs(props: {
  model: PanelModel;
  uiState: UiState;
  actions: Actions;
}): React.ReactElement {
  const { model, uiState, actions } = props;
  const [level, setLevel] = useUiState(uiState, 'logLevel');
  const [filter, setFilter] = useUiState(uiState, 'logFilter');
  const [pausedAt, setPausedAt] = useUiState(uiState, 'logPausedAt');
  const [active, setActive] = useUiState(uiState, 'logActive');
  const [follow, setFollow] = useUiState(uiState, 'logFollow');
  const connected = model.connection !== null;

  React.useEffect(() => {
    if (connected) {
      void actions.hearLogs(level);
    }
  }, [actions, connected, level, model]);

  const lines = pausedAt ?? model.log;
  const shown = React.useMemo(
    () => linesOf(lines, level, filter),
    [lines, level, filter]
  );
  return (
    <div className="fabric-section">
      <div className="fabric-cells fabric-bar">
        <HTMLSelect
          aria-label="The least level"
          value={level}
          onChange={event => setLevel(event.target.value)}
        >
          {LEVELS.map(name => (
            <option key={name}>{name}</option>
          ))}
        </HTMLSelect>
        <Toggle
          on={pausedAt !== undefined}
          onChange={on => setPausedAt(on ? model.log : undefined)}
        >
          Pause
        </Toggle>
        <Toggle on={follow} onChange={setFollow}>
          Follow
        </Toggle>
      </div>
      <input
        type="search"
        className="fabric-filter jp-mod-styled"
        aria-label="Filter log lines"
        placeholder="Filter"
        value={filter}
        onChange={event => setFilter(event.target.value)}
      />
      {shown.length > 0 ? (
        <VirtualRows
          rows={shown}
          role="listbox"
          label="Log lines"
          rowHeight={42}
          active={active && keyOf(active)}
          onActive={row => {
            setActive(row);
            setFollow(false);
          }}
          follow={follow && pausedAt === undefined}
          className="fabric-log"
          render={renderLine}
        />
      ) : (
        <p className="fabric-hint">
          {lines.length > 0
            ? 'No line matches.'
            : 'No service has logged anything since this was opened.'}
        </p>
      )}
      {model.missed > 0 && (
        <p className="fabric-hint" role="status">
          {model.missed} lines came too fast to be shown.
        </p>
      )}
      {active && (
        <div className="fabric-detail">
          <div className="fabric-quiet">
            {active.level} · {active.service}
            {active.logger && ` · ${active.logger}`}
          </div>
          <pre>
            {active.message}
            {active.traceback && `\n${active.traceback}`}
          </pre>
        </div>
      )}
    </div>
  );
}

function Toggle(props: {
  on: boolean;
  onChange: (on: boolean) => void;
  children: string;
}): React.ReactElement {
  return (
    <button
      className={`fabric-toggle ${props.on ? 'fabric-mod-on' : ''}`}
      aria-pressed={props.on}
      onClick={() => props.onChange(!props.on)}
    >
      {props.children}
    </button>
  );
}

function renderLine(line: ILogRow): React.ReactElement {
  const time = new Date(line.time * 1000);
  return (
    <div title={line.message}>
      <div className="fabric-cells">
        <span className="fabric-quiet fabric-number">
          {isNaN(time.getTime()) ? '' : time.toTimeString().slice(0, 8)}
        </span>
        <span className="fabric-quiet fabric-grow">{line.service}</span>
        <Badge text={line.level} tone={toneOf(line.level)} />
      </div>
      <div className="fabric-cells">
        <span className="fabric-grow">{line.message}</span>
      </div>
    </div>
  );
}

function linesOf(
  lines: readonly INumberedLine[],
  level: string,
  filter: string
): ILogRow[] {
  const least = LEVELS.indexOf(level);
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  return lines
    .filter(line => {
      const own = LEVELS.indexOf(line.level);
      const text = `${line.service} ${line.logger} ${line.message}`;
      return (
        (own < 0 || own >= least) &&
        words.every(word => text.toLowerCase().includes(word))
      );
    })
    .map(line => ({ ...line, key: keyOf(line) }));
}

function keyOf(line: INumberedLine): string {
  return `line:${line.number}`;
}

function toneOf(level: string): Tone {
  switch (level) {
    case 'INFO':
      return 'busy';
    case 'WARNING':
      return 'warn';
    case 'ERROR':
    case 'CRITICAL':
      return 'bad';
    default:
      return 'quiet';
  }
}
