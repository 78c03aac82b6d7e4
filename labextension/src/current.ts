import {
  INotebookTracker,
  Notebook,
  NotebookPanel
} from '@jupyterlab/notebook';
import { ISignal, Signal } from '@lumino/signaling';

import { Companion } from './companion';
import { IConnection } from './protocol';
import { Settings } from './settings';

/** The notebook that the panel is about: the current one. */
export class Current {
  constructor(
    private readonly tracker: INotebookTracker,
    private readonly settings: Settings
  ) {
    tracker.currentChanged.connect(this._onCurrent, this);
    this._onCurrent();
  }

  /** Its companion; null while there is no notebook. */
  get companion(): Companion | null {
    return this._companion;
  }

  /** The companion of any notebook that is open. */
  companionIn(notebook: Notebook): Companion | null {
    const panel = this.tracker.find(one => one.content === notebook);
    return panel ? this._companionOf(panel) : null;
  }

  /** Where another notebook that is open is connected, the one that was current last; or null. */
  neighbour(companion: Companion): IConnection | null {
    const others = [...this._companions.values()].reverse();
    for (const other of others) {
      const { connection } = other.model;
      if (other !== companion && connection !== null) {
        return connection;
      }
    }
    return null;
  }

  /** Emitted when another notebook is current, or when something is different in it. */
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
        // The one that was current last stands last.
        this._companions.delete(panel);
        this._companions.set(panel, companion);
      }
      companion?.model.changed.connect(this._onChange, this);
      this._changed.emit();
    }
  }

  private _companionOf(panel: NotebookPanel): Companion {
    const known = this._companions.get(panel);
    if (known) {
      return known;
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
