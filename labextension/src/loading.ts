import { Notification } from '@jupyterlab/apputils';
import { Notebook, NotebookActions, NotebookPanel } from '@jupyterlab/notebook';

import { Actions } from './actions';
import { Companion } from './companion';
import { CellWidget } from './insert';
import { loadAdvice, missingMagic } from './missingMagic';

/** Offers to load fabric_nb after a cell failed because it is not loaded. */
export class LoadOffer {
  /**
   * @param show - brings a notebook to the front, so that the inserted cell is visible.
   */
  constructor(
    private readonly actions: Actions,
    private readonly show: (notebook: NotebookPanel) => void
  ) {
    NotebookActions.executed.connect(this._onExecuted, this);
  }

  private _onExecuted(
    _: unknown,
    run: {
      notebook: Notebook;
      cell: CellWidget;
      success: boolean;
    }
  ): void {
    const magic = run.success
      ? null
      : missingMagic(run.cell.model.toJSON().outputs);
    const companion = magic && this.actions.current.companionIn(run.notebook);
    if (companion) {
      void this._offer(companion, magic, run.cell);
    }
  }

  private async _offer(
    companion: Companion,
    magic: string,
    cell: CellWidget
  ): Promise<void> {
    // The cell may have loaded fabric_nb itself, and then used a magic that does not exist.
    await companion.checkLoaded();
    const { model, notebook } = companion;
    const kernel = notebook.sessionContext.session?.kernel?.id;
    if (model.phase !== 'unloaded' || kernel === undefined) {
      return;
    }
    const message = loadAdvice(magic, notebook.title.label);
    const options: Notification.IOptions<null> = {
      autoClose: false,
      actions: [
        {
          label: 'Load the extension',
          caption: 'Adds a cell above, and runs both.',
          displayType: 'accent',
          callback: () => {
            this.show(notebook);
            void this.actions.load(companion, cell);
          }
        }
      ]
    };
    const id = this._notifications.get(kernel);
    if (id && Notification.update({ id, message, type: 'info', ...options })) {
      return; // the existing notification was updated, and shown again if it was hidden
    }
    if (id === undefined) {
      const onChange = (): void => {
        if (model.phase !== 'unloaded') {
          model.changed.disconnect(onChange);
          Notification.dismiss(this._notifications.get(kernel));
          this._notifications.delete(kernel);
        }
      };
      model.changed.connect(onChange);
    }
    this._notifications.set(kernel, Notification.info(message, options));
  }

  /** Id of the last notification by kernel id. */
  private _notifications = new Map<string, string>();
}
