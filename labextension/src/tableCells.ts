/** Cells that tables under cells ask for: fabric_nb/notebook/table/exports.js. */

import { INotebookTracker } from '@jupyterlab/notebook';

import { insertCell } from './insert';

const INSERT_CELL = 'fabric-nb:insert-cell';

/**
 * Insert requested cells below those that have the tables. They are not run.
 *
 * A table whose notebook is not found, or that is not in JupyterLab, copies the source instead.
 */
export function insertTableCells(tracker: INotebookTracker): void {
  document.addEventListener(INSERT_CELL, event => {
    const { target, detail } = event as CustomEvent<{ text: unknown }>;
    const { text } = detail;
    if (!(target instanceof Node) || typeof text !== 'string') {
      return;
    }
    const panel = tracker.find(panel => panel.node.contains(target));
    if (!panel) {
      return;
    }
    const { content } = panel;
    const index = content.widgets.findIndex(cell => cell.node.contains(target));
    if (index >= 0) {
      content.activeCellIndex = index;
    }
    event.preventDefault();
    void insertCell(panel, { text, start: text.length, end: text.length });
  });
}
