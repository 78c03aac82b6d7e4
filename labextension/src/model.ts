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
 * How far the panel and the kernel are:
 * - `none`: there is no kernel,
 * - `starting`: it starts, or starts again,
 * - `dead`: it has died,
 * - `unloaded`: fabric_nb is not loaded in it,
 * - `linking`: it is loaded and was asked for everything,
 * - `linked`: what is shown is live.
 */
export type Phase =
  'none' | 'starting' | 'dead' | 'unloaded' | 'linking' | 'linked';

/**
 * What is known of one notebook and its fabric.
 *
 * It takes in what the kernel pushes and tells when something is different; it knows nothing of
 * comms nor of the page.
 */
export class PanelModel {
  /** Emitted when something is different. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  /** Emitted with each result of a request. */
  get resulted(): ISignal<this, IResult> {
    return this._resulted;
  }

  /** Emitted with what has changed in the tables. */
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
      this._forget();
    }
    this._changed.emit();
  }

  /** Where the notebook is; null when it is not connected. */
  get connection(): IConnection | null {
    return this._connection;
  }

  /** A sentence on other domains, where the notebook is alone in its own; else empty. */
  get elsewhere(): string {
    return this._elsewhere;
  }

  /** Seconds since 1970 since when a cell has blocked the notebook's loop; null: none does. */
  get busySince(): number | null {
    return this._busySince;
  }

  readonly services = new Map<string, IService>();

  /** The services of the notebook's domain that are there. */
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

  /** Take in a push. */
  apply(push: IPush): void {
    if (push.reset) {
      this._forget();
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
      this._resulted.emit(result);
    }
  }

  private _forget(): void {
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
  private _resulted = new Signal<this, IResult>(this);
}

function merge<T>(items: Map<string, T>, change?: IChange<T>): void {
  for (const key of change?.drop ?? []) {
    items.delete(key);
  }
  for (const [key, item] of Object.entries(change?.put ?? {})) {
    items.set(key, item);
  }
}
