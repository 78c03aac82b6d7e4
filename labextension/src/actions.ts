import { Notification, Clipboard } from '@jupyterlab/apputils';
import { ISignal, Signal } from '@lumino/signaling';

import {
  callCell,
  connectCell,
  fullAddress,
  ICellText,
  loadCell,
  partialCallCell,
  stopCell,
  streamCell,
  switchCell
} from './cells';
import { Companion } from './companion';
import { Current } from './current';
import { messageOf } from './errors';
import { CellWidget, insertCell, runAbove, runCell } from './insert';
import { IFormTarget, UiState } from './uiState';
import { IMethod, IService } from './protocol';
import { Settings } from './settings';
import { matchesFilter, Row, serviceKey, typeKey } from './tree';

/** Actions of the panel, shared by mouse, keyboard, menus and command palette. */
export class Actions {
  constructor(
    readonly current: Current,
    private readonly settings: Settings
  ) {}

  /** Emitted when the filter, the expanded rows, the active row or the form changes. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  /** Active row in the services of the current notebook. */
  get row(): Row | null {
    return this.current.companion?.uiState.row ?? null;
  }

  set row(row: Row | null) {
    this._update({ row });
  }

  /** Show the services that match a filter. */
  filterBy(filter: string): void {
    this._update({ filter });
  }

  /** Expand or collapse a row. */
  expand(row: Row, expanded: boolean): void {
    const expansion = this.current.companion?.uiState.expansion ?? [];
    this._update({ expansion: new Map(expansion).set(row.key, expanded) });
  }

  /** Method of the current notebook's form; null if the form is closed. */
  get form(): IFormTarget | null {
    return this.current.companion?.uiState.form ?? null;
  }

  set form(form: IFormTarget | null) {
    this._update({ form });
  }

  /** Insert the call for a row; false if there is none. */
  insertRow(row: Row | null): boolean {
    if (row?.kind === 'method') {
      this.insertCall(row.service, row.method);
      return true;
    }
    if (
      row?.kind === 'service' ||
      (row?.kind === 'note' && row.on === 'methods')
    ) {
      const { service } = row;
      this._insert(
        partialCallCell(service, this._domain, this.settings.insertStyle)
      );
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

  /** Insert a cell with the DataFrame of the stream in a variable. */
  insertStream(variable: string): void {
    this._insert(streamCell(variable));
  }

  /** Insert a cell that stops the service with the address `type.id`. */
  insertStop(address: string): void {
    this._insert(stopCell(address));
  }

  /** Copy the full address of a row's service or method. */
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

  /** Insert and run a cell that connects, and loads fabric_nb if necessary. */
  async connect(): Promise<void> {
    const companion = this.current.companion;
    if (companion) {
      const load = companion.model.phase === 'unloaded';
      // The fabric of another open notebook, or else the default of the magic.
      const other = this.current.otherConnection(companion);
      const domain = this.settings.defaultDomain || (other?.domain ?? '');
      const cell = connectCell(load, domain, other?.join);
      await (load ? runAbove : runCell)(companion.notebook, cell);
    }
  }

  /** Insert and run a cell that connects a notebook to a broker. */
  async connectTo(
    companion: Companion,
    uri: string,
    domain: string
  ): Promise<void> {
    await runCell(companion.notebook, connectCell(false, domain, uri));
  }

  /** Insert and run a cell that uses another connection. */
  async use(name: string): Promise<void> {
    const companion = this.current.companion;
    const cell = switchCell(name);
    if (companion && cell) {
      await runCell(companion.notebook, cell);
    }
  }

  /**
   * Insert and run a cell that loads fabric_nb, above the cells that use it.
   *
   * @param failed - cell that failed without fabric_nb and is run again.
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
    await this._request({ do: 'demo' });
  }

  /** Pause or resume the stream in a row of the table. */
  async pause(row: number): Promise<void> {
    await this._request({ do: 'act', table: 'streams', name: 'pause', row });
  }

  /** Show a service in the tree, by its full name; false if it is not there. */
  showService(name: string): boolean {
    const companion = this.current.companion;
    const service = companion?.model.services.get(name);
    if (!companion || !service) {
      return false;
    }
    const { filter, expansion } = companion.uiState;
    const type = typeKey(service);
    this._update({
      filter: matchesFilter(service, filter) ? filter : '',
      expansion: new Map(expansion).set(type, true)
    });
    this._revealed.emit(serviceKey(service));
    return true;
  }

  /** Emitted with the key of a row that is to be scrolled to and focused. */
  get revealed(): ISignal<this, string> {
    return this._revealed;
  }

  /** Ask the services who calls them; an error is not shown, because the user has not asked. */
  async refreshGraph(): Promise<void> {
    await this.current.companion
      ?.request({ do: 'act', table: 'graph', name: 'refresh' })
      .catch((error: unknown) => console.debug('fabric_nb:', error));
  }

  async receiveLogs(): Promise<void> {
    await this._request({ do: 'logs' });
  }

  private async _request(
    request: Parameters<NonNullable<Current['companion']>['request']>[0]
  ): Promise<void> {
    const companion = this.current.companion;
    try {
      await companion?.request(request);
    } catch (error) {
      // That the kernel has stopped is shown by the panel, until it runs again.
      if (companion?.model.phase === 'linked') {
        Notification.error(`Fabric: ${messageOf(error)}`, { autoClose: 8000 });
      }
    }
  }

  private _update(changes: Partial<UiState>): void {
    if (this.current.companion) {
      Object.assign(this.current.companion.uiState, changes);
      this._changed.emit();
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
        'Fabric: this name is not an identifier, so it cannot be inserted into a cell.'
      );
      return;
    }
    void insertCell(companion.notebook, cell);
  }

  private _changed = new Signal<this, void>(this);
  private _revealed = new Signal<this, string>(this);
}
