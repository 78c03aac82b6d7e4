import { Notification } from '@jupyterlab/apputils';
import { Notebook, NotebookActions, NotebookPanel } from '@jupyterlab/notebook';

import { Actions } from './actions';
import { Companion } from './companion';
import { CellWidget } from './insert';
import { loadAdvice, missingMagic } from './missingMagic';

/** Offers to load fabric_nb where a cell has used one of its magics without it. */
export class LoadOffer {
  /**
   * @param show - brings a notebook to the front, so that one sees the cell that is added to it.
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
    // The cell itself may have loaded it, and then have used a magic that nobody has.
    await companion.look();
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
    const id = this._shown.get(kernel);
    if (id && Notification.update({ id, message, type: 'info', ...options })) {
      return; // It was still there; if it was hidden, it is shown again.
    }
    if (id === undefined) {
      const onChange = (): void => {
        if (model.phase !== 'unloaded') {
          model.changed.disconnect(onChange);
          Notification.dismiss(this._shown.get(kernel));
          this._shown.delete(kernel);
        }
      };
      model.changed.connect(onChange);
    }
    this._shown.set(kernel, Notification.info(message, options));
  }

  /** By the kernel's id, the last notification about it. */
  private _shown = new Map<string, string>();
}
