/** Tables that the kernel keeps, shown as those under cells are. */

import { IDisposable } from '@lumino/disposable';

import { IRow, Rows } from '../../fabric_nb/notebook/table/rows.js';
import { Actions, Message } from '../../fabric_nb/notebook/table/actions.js';
import { IRowTool, TableView } from '../../fabric_nb/notebook/table/table.js';
import { messageOf } from './errors';
import { Request } from './link';
import { PanelModel } from './model';
import { TableChanges, TableName } from './protocol';

/** Sends a request to the kernel; see `KernelLink.request`. */
type Ask = (request: Request, signal?: AbortSignal) => Promise<string>;

type Action = Message & { type: 'action' };

/**
 * A way to the kernel for the actions of a table or form.
 *
 * @param toRequest - the request for an action.
 * @param actions - where the answer goes.
 */
export function sendActions(
  ask: Ask,
  toRequest: (action: Action) => Request,
  actions: () => Actions
): (message: Message) => void {
  const running = new Map<number, AbortController>();
  const act = async (action: Action): Promise<void> => {
    const { request } = action;
    const controller = new AbortController();
    running.set(request, controller);
    let error = false;
    const text = await ask(toRequest(action), controller.signal).catch(
      (problem: unknown) => {
        error = true;
        return messageOf(problem);
      }
    );
    running.delete(request);
    actions().onAnswer({ request, error, text });
  };
  return message => {
    if (message.type === 'action') {
      void act(message);
      // The panel's requests do not wait for the running cell.
      setTimeout(() => actions().onBegun(message));
    } else if (message.type === 'cancel') {
      running.get(message.request)?.abort();
    }
  };
}

/** A row's cells by the labels of their columns. */
export class TableRow {
  constructor(
    private readonly rows: Rows,
    private readonly row: IRow
  ) {}

  /** The number under which the kernel knows the row. */
  get id(): number {
    return this.row.id;
  }

  /** The text of a cell; empty where there is no such column. */
  text(label: string): string {
    const index = this.rows.columns.findIndex(one => one.label === label);
    const cell = this.row.cells[index];
    return String((Array.isArray(cell) ? cell[0] : cell) ?? '');
  }
}

/** The buttons at the end of a row. */
export type RowTools = (row: TableRow) => IRowTool[];

/** One table: its rows as the kernel has them, and the view of them, which outlives the panel's elements. */
export class PanelTable implements IDisposable {
  constructor(
    private readonly name: TableName,
    private readonly ask: Ask
  ) {}

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  dispose(): void {
    this._isDisposed = true;
    this._view?.dispose();
  }

  /** Apply what has changed; false if a change before it was lost. */
  apply(changes: object): boolean {
    const complete = this._rows.apply(changes);
    this._view?.updated();
    return complete;
  }

  /** The view; `tools` are those of the first call. */
  view(tools?: RowTools): TableView {
    return (this._view ??= new TableView(
      this._rows,
      sendActions(
        this.ask,
        ({ name, value }) => ({ do: 'act', table: this.name, name, value }),
        () => this.view().actions
      ),
      tools ? row => tools(new TableRow(this._rows, row)) : null
    ));
  }

  private _rows = new Rows();
  private _view: TableView | null = null;
  private _isDisposed = false;
}

/** The tables of one notebook. */
export class PanelTables implements IDisposable {
  constructor(model: PanelModel, ask: Ask) {
    this._ask = ask;
    this.streams = new PanelTable('streams', ask);
    this.serving = new PanelTable('serving', ask);
    this.logs = new PanelTable('logs', ask);
    model.tablesChanged.connect(this._onChanges, this);
  }

  readonly streams: PanelTable;
  readonly serving: PanelTable;
  readonly logs: PanelTable;

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  dispose(): void {
    this._isDisposed = true;
    for (const table of [this.streams, this.serving, this.logs]) {
      table.dispose();
    }
  }

  private _onChanges(_: PanelModel, changes: TableChanges): void {
    let complete = true;
    for (const name of ['streams', 'serving', 'logs'] as const) {
      const change = changes[name];
      if (change) {
        complete = this[name].apply(change) && complete;
      }
    }
    if (!complete) {
      this._askAgain();
    }
  }

  /** Messages were lost: everything is sent again, which is asked for once a second at most. */
  private _askAgain(): void {
    if (Date.now() - this._askedAt > 1000) {
      this._askedAt = Date.now();
      this._ask({ do: 'tell' }).catch((error: unknown) =>
        console.debug('fabric_nb:', error)
      );
    }
  }

  private readonly _ask: Ask;
  private _askedAt = 0;
  private _isDisposed = false;
}
