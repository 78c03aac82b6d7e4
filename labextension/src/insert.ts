import { Notebook, NotebookActions, NotebookPanel } from '@jupyterlab/notebook';

import { ICellText, loadsFabric, usesFabric } from './cells';

/** A cell of a notebook. */
export type CellWidget = Notebook['widgets'][number];

/**
 * Put text into a cell of its own, below the active one or into that if it is empty, and select
 * what is to be filled in. It is not run.
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
  await notebook.activeCell?.ready; // a new cell has no editor at first
  const editor = notebook.activeCell?.editor;
  const start = editor?.getPositionAt(cell.start);
  const end = editor?.getPositionAt(cell.end);
  if (editor && start && end) {
    editor.setSelection({ start, end });
    editor.focus();
  }
}

/** Insert a cell and run it; for what a button says that it does. */
export async function runCell(
  panel: NotebookPanel,
  cell: ICellText
): Promise<void> {
  await insertCell(panel, cell);
  panel.content.mode = 'command';
  await NotebookActions.run(panel.content, panel.sessionContext);
}

/**
 * Insert a cell above the first one that uses fabric_nb, so that the notebook can be run from its
 * top, and run it; where none uses it yet, or one above loads it, below the active one.
 *
 * @param failed - is run again when that went well.
 */
export async function runAbove(
  panel: NotebookPanel,
  cell: ICellText,
  failed?: CellWidget
): Promise<void> {
  const notebook = panel.content;
  const first =
    notebook.widgets.find(one => one === failed || cares(one.model)) ?? null;
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
  const went = await NotebookActions.run(notebook, panel.sessionContext);
  const again = notebook.widgets.indexOf(failed ?? first);
  if (again >= 0) {
    notebook.activeCellIndex = again;
  }
  if (went && failed && again >= 0) {
    await NotebookActions.run(notebook, panel.sessionContext);
  }
}

/** Whether a cell loads fabric_nb or uses it. */
function cares(model: CellWidget['model']): boolean {
  const { source } = model.sharedModel;
  return model.type === 'code' && (loadsFabric(source) || usesFabric(source));
}
