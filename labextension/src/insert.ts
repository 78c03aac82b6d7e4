import { NotebookActions, NotebookPanel } from '@jupyterlab/notebook';

import { ICellText } from './cells';

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
