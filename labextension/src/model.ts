import { ISignal, Signal } from '@lumino/signaling';

import {
  IChanges,
  IConnection,
  IFacts,
  IProgress,
  IPush,
  IResult,
  IService,
  IStatistics,
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

const NO_FACTS: IFacts = {
  connection: null,
  connections: [],
  busy_since: null,
  services: null
};

/**
 * State of one notebook and its fabric, updated by the kernel's pushes.
 */
export class PanelModel {
  /** Emitted after each change. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  /** Emitted for each progress of a request. */
  get progressReceived(): ISignal<this, IProgress> {
    return this._progressReceived;
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
    return this._facts.connection;
  }

  get facts(): IFacts {
    return this._facts;
  }

  readonly services = new Map<string, IService>();

  /** Statistics of the services that have any. */
  readonly statistics = new Map<string, IStatistics>();

  /** Apply a push. */
  apply(push: IPush): void {
    if (push.reset) {
      this._reset();
      this._phase = 'linked';
    }
    if (push.facts) {
      this._facts = push.facts;
    }
    merge(this.services, push.services);
    merge(this.statistics, push.statistics);
    this._changed.emit();
    if (push.tables) {
      this._tablesChanged.emit(push.tables);
    }
    for (const progress of push.progress ?? []) {
      this._progressReceived.emit(progress);
    }
    for (const result of push.results ?? []) {
      this._resultReceived.emit(result);
    }
  }

  private _reset(): void {
    this._facts = NO_FACTS;
    this.services.clear();
    this.statistics.clear();
  }

  private _phase: Phase = 'none';
  private _facts = NO_FACTS;
  private _changed = new Signal<this, void>(this);
  private _tablesChanged = new Signal<this, TableChanges>(this);
  private _progressReceived = new Signal<this, IProgress>(this);
  private _resultReceived = new Signal<this, IResult>(this);
}

function merge<T>(items: Map<string, T>, changes?: IChanges<T>): void {
  for (const name of changes?.drop ?? []) {
    items.delete(name);
  }
  for (const [name, item] of Object.entries(changes?.put ?? {})) {
    items.set(name, item);
  }
}
