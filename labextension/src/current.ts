import {
  INotebookTracker,
  Notebook,
  NotebookPanel
} from '@jupyterlab/notebook';
import { ISignal, Signal } from '@lumino/signaling';

import { Companion } from './companion';
import { IConnection } from './protocol';
import { Settings } from './settings';

/** The current notebook, which the panel shows. */
export class Current {
  constructor(
    private readonly tracker: INotebookTracker,
    private readonly settings: Settings
  ) {
    tracker.currentChanged.connect(this._onCurrent, this);
    this._onCurrent();
  }

  /** Companion of the current notebook; null if there is no notebook. */
  get companion(): Companion | null {
    return this._companion;
  }

  /** Companion of an open notebook. */
  companionIn(notebook: Notebook): Companion | null {
    const panel = this.tracker.find(({ content }) => content === notebook);
    return panel ? this._companionOf(panel) : null;
  }

  /** Connection of another open notebook, the most recently used one; null if there is none. */
  otherConnection(companion: Companion): IConnection | null {
    const others = [...this._companions.values()].reverse();
    for (const other of others) {
      const { connection } = other.model;
      if (other !== companion && connection !== null) {
        return connection;
      }
    }
    return null;
  }

  /** Emitted when the current notebook, or its state, changes. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  private _onCurrent(): void {
    const panel = this.tracker.currentWidget;
    const companion = panel && this._companionOf(panel);
    if (companion !== this._companion) {
      this._companion?.model.changed.disconnect(this._onChange, this);
      this._companion = companion;
      if (panel && companion) {
        // Ordered by last use.
        this._companions.delete(panel);
        this._companions.set(panel, companion);
      }
      companion?.model.changed.connect(this._onChange, this);
      this._changed.emit();
    }
  }

  private _companionOf(panel: NotebookPanel): Companion {
    const existing = this._companions.get(panel);
    if (existing) {
      return existing;
    }
    const companion = new Companion(panel, () => this.settings.autoLoad);
    this._companions.set(panel, companion);
    panel.disposed.connect(() => {
      this._companions.delete(panel);
    });
    return companion;
  }

  private _onChange(): void {
    this._changed.emit();
  }

  private _companions = new Map<NotebookPanel, Companion>();
  private _companion: Companion | null = null;
  private _changed = new Signal<this, void>(this);
}
