import { ISignal, Signal } from '@lumino/signaling';

import {
  IChange,
  IConnection,
  IPush,
  IResult,
  IService,
  TableChanges
} from './protocol';

/**
 * State of the link between panel and kernel:
 * - `none`: there is no kernel,
 * - `starting`: the kernel is starting or restarting,
 * - `dead`: the kernel has died,
 * - `unloaded`: fabric_nb is not loaded,
 * - `linking`: fabric_nb is loaded and its state was requested,
 * - `linked`: the panel is live.
 */
export type Phase =
  'none' | 'starting' | 'dead' | 'unloaded' | 'linking' | 'linked';

/**
 * State of one notebook and its fabric, updated by the kernel's pushes.
 */
export class PanelModel {
  /** Emitted after each change. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  /** Emitted for each result of a request. */
  get resultReceived(): ISignal<this, IResult> {
    return this._resultReceived;
  }

  /** Emitted with the changes of the tables. */
  get tablesChanged(): ISignal<this, TableChanges> {
    return this._tablesChanged;
  }

  get phase(): Phase {
    return this._phase;
  }

  set phase(phase: Phase) {
    if (phase === this._phase) {
      return;
    }
    this._phase = phase;
    if (phase !== 'linked') {
      this._reset();
    }
    this._changed.emit();
  }

  /** Connection of the notebook; null if it is not connected. */
  get connection(): IConnection | null {
    return this._connection;
  }

  /** Sentence on other domains, if the notebook's has no other service; else empty. */
  get elsewhere(): string {
    return this._elsewhere;
  }

  /** Unix time since when a cell has blocked the notebook's event loop; null if it is not blocked. */
  get busySince(): number | null {
    return this._busySince;
  }

  readonly services = new Map<string, IService>();

  /** Number of present services in the notebook's domain. */
  get up(): number {
    const domain = this._connection?.domain;
    let count = 0;
    for (const service of this.services.values()) {
      if (
        service.domain === domain &&
        (service.state === 'up' || service.state === 'busy')
      ) {
        count += 1;
      }
    }
    return count;
  }

  /** Apply a push. */
  apply(push: IPush): void {
    if (push.reset) {
      this._reset();
      this._phase = 'linked';
    }
    if (push.facts) {
      const { connection, busy_since, elsewhere } = push.facts;
      this._connection =
        'domain' in connection ? (connection as IConnection) : null;
      this._busySince = busy_since;
      this._elsewhere = elsewhere ?? '';
    }
    merge(this.services, push.services);
    this._changed.emit();
    if (push.tables) {
      this._tablesChanged.emit(push.tables);
    }
    for (const result of push.results ?? []) {
      this._resultReceived.emit(result);
    }
  }

  private _reset(): void {
    this._connection = null;
    this._elsewhere = '';
    this._busySince = null;
    this.services.clear();
  }

  private _phase: Phase = 'none';
  private _connection: IConnection | null = null;
  private _elsewhere = '';
  private _busySince: number | null = null;
  private _changed = new Signal<this, void>(this);
  private _tablesChanged = new Signal<this, TableChanges>(this);
  private _resultReceived = new Signal<this, IResult>(this);
}

function merge<T>(items: Map<string, T>, change?: IChange<T>): void {
  for (const key of change?.drop ?? []) {
    items.delete(key);
  }
  for (const [key, item] of Object.entries(change?.put ?? {})) {
    items.set(key, item);
  }
}
