/**
 * Cells that tables and forms under cells ask for: fabric_nb/notebook/table/exports.js and
 * fabric_nb/notebook/connect/widget.js.
 */

import { INotebookTracker } from '@jupyterlab/notebook';

import { insertCell, runCell } from './insert';

const INSERT_CELL = 'fabric-nb:insert-cell';

/**
 * Insert requested cells below those that have the tables. They are run if that is requested.
 *
 * A table whose notebook is not found, or that is not in JupyterLab, copies the source instead.
 */
export function insertTableCells(tracker: INotebookTracker): void {
  document.addEventListener(INSERT_CELL, event => {
    const { target, detail } = event as CustomEvent<{
      text: unknown;
      run?: boolean;
    }>;
    const { text, run } = detail;
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
    const write = run === true ? runCell : insertCell;
    void write(panel, { text, start: text.length, end: text.length });
  });
}
