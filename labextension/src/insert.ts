import { Notebook, NotebookActions, NotebookPanel } from '@jupyterlab/notebook';

import { ICellText, loadsFabric, usesFabric } from './cells';

/** A cell of a notebook. */
export type CellWidget = Notebook['widgets'][number];

/**
 * Insert a cell below the active one, or use the active one if it is empty, and select its
 * placeholder. The cell is not run.
 */
export async function insertCell(
  panel: NotebookPanel,
  cell: ICellText
): Promise<void> {
  const notebook = panel.content;
  const active = notebook.activeCell?.model;
  if (active?.type !== 'code' || active.sharedModel.source.trim() !== '') {
    NotebookActions.insertBelow(notebook);
  }
  notebook.activeCell?.model.sharedModel.setSource(cell.text);
  notebook.mode = 'edit';
  await notebook.activeCell?.ready; // a new cell has no editor yet
  const editor = notebook.activeCell?.editor;
  const start = editor?.getPositionAt(cell.start);
  const end = editor?.getPositionAt(cell.end);
  if (editor && start && end) {
    editor.setSelection({ start, end });
    editor.focus();
  }
}

/** Insert a cell and run it. */
export async function runCell(
  panel: NotebookPanel,
  cell: ICellText
): Promise<void> {
  await insertCell(panel, cell);
  panel.content.mode = 'command';
  await NotebookActions.run(panel.content, panel.sessionContext);
}

/**
 * Insert and run a cell above the first one that uses fabric_nb, so that Run All works. If no cell
 * uses fabric_nb, or a cell above loads it, the cell is inserted below the active one.
 *
 * @param failed - cell that is run again if that succeeds.
 */
export async function runAbove(
  panel: NotebookPanel,
  cell: ICellText,
  failed?: CellWidget
): Promise<void> {
  const notebook = panel.content;
  const first =
    notebook.widgets.find(
      cell => cell === failed || isFabricCell(cell.model)
    ) ?? null;
  const active = notebook.activeCell;
  const isBelow =
    first === null ||
    (first !== failed && loadsFabric(first.model.sharedModel.source)) ||
    (active !== null &&
      active !== failed &&
      notebook.widgets.indexOf(active) < notebook.widgets.indexOf(first));
  if (isBelow) {
    return runCell(panel, cell);
  }
  notebook.deselectAll();
  notebook.activeCellIndex = notebook.widgets.indexOf(first);
  NotebookActions.insertAbove(notebook);
  notebook.activeCell?.model.sharedModel.setSource(cell.text);
  notebook.mode = 'command';
  const succeeded = await NotebookActions.run(notebook, panel.sessionContext);
  const next = notebook.widgets.indexOf(failed ?? first);
  if (next >= 0) {
    notebook.activeCellIndex = next;
  }
  if (succeeded && failed && next >= 0) {
    await NotebookActions.run(notebook, panel.sessionContext);
  }
}

/** Whether a cell loads or uses fabric_nb. */
function isFabricCell(model: CellWidget['model']): boolean {
  const { source } = model.sharedModel;
  return model.type === 'code' && (loadsFabric(source) || usesFabric(source));
}
