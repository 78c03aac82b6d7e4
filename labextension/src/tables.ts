/** Tables of the kernel, rendered like those under cells. */

import { IDisposable } from '@lumino/disposable';

import { IRow, Rows } from '../../fabric_nb/notebook/table/rows.js';
import { Actions, Message } from '../../fabric_nb/notebook/table/actions.js';
import { IRowTool, TableView } from '../../fabric_nb/notebook/table/table.js';
import { messageOf, RequestError } from './errors';
import { Request } from './link';
import { PanelModel } from './model';
import { TableChanges, TableName } from './protocol';

/** Sends a request to the kernel; see `KernelLink.request`. */
type SendRequest = (
  request: Request,
  signal?: AbortSignal,
  onProgress?: (text: string) => void
) => Promise<string>;

type Action = Message & { type: 'action' };

/**
 * Return a function that sends the actions of a table or form to the kernel.
 *
 * @param toRequest - returns the request for an action.
 * @param actions - returns the receiver of answers.
 */
export function sendActions(
  send: SendRequest,
  toRequest: (action: Action) => Request,
  actions: () => Actions
): (message: Message) => void {
  const running = new Map<number, AbortController>();
  const act = async (action: Action): Promise<void> => {
    const { request } = action;
    const controller = new AbortController();
    running.set(request, controller);
    let error = false;
    let field = '';
    const text = await send(toRequest(action), controller.signal, progress =>
      actions().onProgress({ request, text: progress })
    ).catch((problem: unknown) => {
      error = true;
      field = problem instanceof RequestError ? problem.field : '';
      return messageOf(problem);
    });
    running.delete(request);
    actions().onAnswer({ request, error, text, field });
  };
  return message => {
    if (message.type === 'action') {
      void act(message);
      // Begun at once, because the panel's requests do not wait for the running cell.
      setTimeout(() => actions().onBegun(message));
    } else if (message.type === 'cancel') {
      running.get(message.request)?.abort();
    }
  };
}

/** Cells of a row by column label. */
export class TableRow {
  constructor(
    private readonly rows: Rows,
    private readonly row: IRow
  ) {}

  /** Id of the row in the kernel. */
  get id(): number {
    return this.row.id;
  }

  /** Text of a cell; empty if there is no such column. */
  text(label: string): string {
    const index = this.rows.columns.findIndex(column => column.label === label);
    const cell = this.row.cells[index];
    return String((Array.isArray(cell) ? cell[0] : cell) ?? '');
  }
}

/** Returns the buttons at the end of a row. */
export type RowTools = (row: TableRow) => IRowTool[];

/** A table: its rows, and its view, which is kept when the panel's elements are recreated. */
export class PanelTable implements IDisposable {
  constructor(
    private readonly name: TableName,
    private readonly send: SendRequest
  ) {}

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  dispose(): void {
    this._isDisposed = true;
    this._view?.dispose();
  }

  /** Apply changes; false if an earlier message was lost. */
  apply(changes: object): boolean {
    const complete = this._rows.apply(changes);
    this._view?.updated();
    return complete;
  }

  /** The view; created by the first call, with its `tools`. */
  view(tools?: RowTools): TableView {
    return (this._view ??= new TableView(
      this._rows,
      this._onMessage,
      tools ? row => tools(new TableRow(this._rows, row)) : null
    ));
  }

  private _onMessage = (message: Message): void => {
    if (message.type === 'open') {
      this.send({ do: 'open', table: this.name, row: message.row }).catch(
        (error: unknown) => console.debug('fabric_nb:', error)
      );
    } else {
      this._act(message);
    }
  };

  private _act = sendActions(
    (request, signal, onProgress) => this.send(request, signal, onProgress),
    ({ name, value }) => ({ do: 'act', table: this.name, name, value }),
    () => this.view().actions
  );

  private _rows = new Rows();
  private _view: TableView | null = null;
  private _isDisposed = false;
}

const TABLES = ['calls', 'streams', 'serving', 'graph', 'logs'] as const;

/** Tables of one notebook. */
export class PanelTables implements IDisposable {
  constructor(
    model: PanelModel,
    private readonly send: SendRequest
  ) {
    this.calls = new PanelTable('calls', send);
    this.streams = new PanelTable('streams', send);
    this.serving = new PanelTable('serving', send);
    this.graph = new PanelTable('graph', send);
    this.logs = new PanelTable('logs', send);
    model.tablesChanged.connect(this._onChanges, this);
  }

  readonly calls: PanelTable;
  readonly streams: PanelTable;
  readonly serving: PanelTable;
  readonly graph: PanelTable;
  readonly logs: PanelTable;

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  dispose(): void {
    this._isDisposed = true;
    for (const name of TABLES) {
      this[name].dispose();
    }
  }

  private _onChanges(_: PanelModel, changes: TableChanges): void {
    let complete = true;
    for (const name of TABLES) {
      const change = changes[name];
      if (change) {
        complete = this[name].apply(change) && complete;
      }
    }
    if (!complete) {
      this._requestState();
    }
  }

  /** Request the complete state, because messages were lost; at most once a second. */
  private _requestState(): void {
    if (Date.now() - this._requestedAt > 1000) {
      this._requestedAt = Date.now();
      this.send({ do: 'state' }).catch((error: unknown) =>
        console.debug('fabric_nb:', error)
      );
    }
  }

  private _requestedAt = 0;
  private _isDisposed = false;
}
