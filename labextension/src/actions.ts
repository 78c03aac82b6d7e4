import { Notification, Clipboard } from '@jupyterlab/apputils';
import { ISignal, Signal } from '@lumino/signaling';

import {
  callCell,
  connectCell,
  fullAddress,
  ICellText,
  loadCell,
  openCell,
  stopCell,
  streamCell
} from './cells';
import { Current } from './current';
import { messageOf } from './errors';
import { CellWidget, insertCell, runAbove, runCell } from './insert';
import { IFormTarget } from './uiState';
import { IMethod, IService } from './protocol';
import { Settings } from './settings';
import { Row } from './tree';

/** What can be done in the panel, whether by mouse, key, menu or palette. */
export class Actions {
  constructor(
    readonly current: Current,
    private readonly settings: Settings
  ) {}

  /** Emitted when another row is active or the form opens or closes. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  /** The active row of the current notebook's services. */
  get row(): Row | null {
    return this.current.companion?.uiState.row ?? null;
  }

  set row(row: Row | null) {
    if (this.current.companion) {
      this.current.companion.uiState.row = row;
      this._changed.emit();
    }
  }

  /** What the current notebook's form calls; null when it is closed. */
  get form(): IFormTarget | null {
    return this.current.companion?.uiState.form ?? null;
  }

  set form(form: IFormTarget | null) {
    if (this.current.companion) {
      this.current.companion.uiState.form = form;
      this._changed.emit();
    }
  }

  /** Insert the call that the row stands for; false when it stands for none. */
  insertRow(row: Row | null): boolean {
    if (row?.kind === 'method') {
      this.insertCall(row.service, row.method);
      return true;
    }
    if (row?.kind === 'service' || row?.kind === 'note') {
      const { service } = row;
      this._insert(openCell(service, this._domain, this.settings.insertStyle));
      return true;
    }
    return false;
  }

  insertCall(
    service: IService,
    method: IMethod,
    values?: ReadonlyMap<string, string>
  ): void {
    const { insertStyle } = this.settings;
    this._insert(callCell(service, method, this._domain, insertStyle, values));
  }

  /** Insert a cell that takes the rows of the stream in a variable. */
  insertStream(variable: string): void {
    this._insert(streamCell(variable));
  }

  /** Insert a cell that ends the service with the address `type.id`. */
  insertStop(address: string): void {
    this._insert(stopCell(address));
  }

  /** Copy the full address of what the row stands for. */
  copyAddress(row: Row | null): void {
    const text =
      row && row.kind !== 'type'
        ? fullAddress(
            row.service,
            row.kind === 'method' ? row.method : undefined
          )
        : null;
    if (text !== null) {
      Clipboard.copyToSystem(text);
    }
  }

  /** Load fabric_nb where it is not, and connect: in a cell of its own, which is run. */
  async connect(): Promise<void> {
    const companion = this.current.companion;
    if (companion) {
      const load = companion.model.phase === 'unloaded';
      // To the fabric that one works on already, and else to what the magic finds.
      const other = this.current.neighbour(companion);
      const domain = this.settings.defaultDomain || (other?.domain ?? '');
      const cell = connectCell(load, domain, other?.join);
      await (load ? runAbove : runCell)(companion.notebook, cell);
    }
  }

  /**
   * Load fabric_nb in a notebook, in a cell of its own above those that use it, which is run.
   *
   * @param failed - a cell that needed it, to be run again.
   */
  async load(
    companion = this.current.companion,
    failed?: CellWidget
  ): Promise<void> {
    if (companion) {
      await runAbove(companion.notebook, loadCell(), failed);
    }
  }

  async startDemo(): Promise<void> {
    await this._ask({ do: 'demo' });
  }

  /** Pause the stream in a row of the table, or resume it. */
  async pause(row: number): Promise<void> {
    await this._ask({ do: 'act', table: 'streams', name: 'pause', row });
  }

  async hearLogs(): Promise<void> {
    await this._ask({ do: 'logs' });
  }

  private async _ask(
    request: Parameters<NonNullable<Current['companion']>['request']>[0]
  ): Promise<void> {
    try {
      await this.current.companion?.request(request);
    } catch (error) {
      Notification.error(`Fabric: ${messageOf(error)}`, { autoClose: 8000 });
    }
  }

  private get _domain(): string {
    return this.current.companion?.model.connection?.domain ?? '';
  }

  private _insert(cell: ICellText | null): void {
    const companion = this.current.companion;
    if (!companion) {
      return;
    }
    if (cell === null) {
      Notification.warning(
        'Fabric: this name is no identifier, so it is not written into a cell.'
      );
      return;
    }
    void insertCell(companion.notebook, cell);
  }

  private _changed = new Signal<this, void>(this);
}
