import { ISessionContext } from '@jupyterlab/apputils';
import { NotebookPanel } from '@jupyterlab/notebook';
import { UUID } from '@lumino/coreutils';
import { IDisposable } from '@lumino/disposable';

import { commIds } from './commInfo';
import { UiState } from './uiState';
import { KernelLink, Request } from './link';
import { PanelModel, Phase } from './model';
import { PanelTables } from './tables';

/** State of the panel for one notebook, from its opening until it is closed. */
export class Companion implements IDisposable {
  /**
   * @param autoLoad - returns whether to load fabric_nb into new kernels.
   */
  constructor(
    readonly notebook: NotebookPanel,
    private readonly autoLoad: () => boolean
  ) {
    const context = notebook.sessionContext;
    this.model.changed.connect(this._onChange, this);
    context.kernelChanged.connect(this._onKernel, this);
    notebook.disposed.connect(this.dispose, this);
    this._onKernel(context);
  }

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  dispose(): void {
    if (this._isDisposed) {
      return;
    }
    this._isDisposed = true;
    this.notebook.sessionContext.kernelChanged.disconnect(this._onKernel, this);
    this._link?.dispose();
    this._link = null;
    this.tables.dispose();
    this.model.phase = 'none';
  }

  /** Check again whether fabric_nb is loaded, and update the model. */
  async checkLoaded(): Promise<void> {
    await this._link?.checkLoaded();
  }

  /** Send a request to the kernel; see `KernelLink.request`. */
  request(
    request: Request,
    signal?: AbortSignal,
    onProgress?: (text: string) => void
  ): Promise<string> {
    return (
      this._link?.request(request, signal, onProgress) ??
      Promise.reject(new Error('This notebook has no kernel.'))
    );
  }

  private _onChange(model: PanelModel): void {
    const before = this._phase;
    this._phase = model.phase;
    // Once per start of the kernel, because it may have been unloaded on purpose.
    if (
      before === 'starting' &&
      model.phase === 'unloaded' &&
      this.autoLoad()
    ) {
      void this._load();
    }
  }

  private async _load(): Promise<void> {
    const kernel = this.notebook.sessionContext.session?.kernel;
    if (kernel && (await kernel.info).language_info.name === 'python') {
      kernel.requestExecute({
        code: '%load_ext fabric_nb',
        silent: true,
        store_history: false
      });
    }
  }

  private _onKernel(context: ISessionContext): void {
    this._link?.dispose();
    const kernel = context.session?.kernel;
    if (kernel) {
      this._link = new KernelLink(kernel, this.model, commIds, UUID.uuid4);
    } else {
      this._link = null;
      this.model.phase = 'none';
    }
  }

  readonly model = new PanelModel();
  readonly tables = new PanelTables(this.model, (request, signal) =>
    this.request(request, signal)
  );
  readonly uiState = new UiState();
  private _phase: Phase = 'none';
  private _link: KernelLink | null = null;
  private _isDisposed = false;
}
