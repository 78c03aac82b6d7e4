import { IDisposable } from '@lumino/disposable';
import type { Kernel, KernelMessage } from '@jupyterlab/services';

import { RequestError } from './errors';
import { PanelModel } from './model';
import {
  IProgress,
  IPush,
  IReply,
  IResult,
  REQUESTS,
  TableName,
  TARGET
} from './protocol';

/** Milliseconds to wait for the kernel's reply to a request. */
export const REPLY_TIMEOUT = 15_000;

/** Chosen option, texts of a form by field, or null for a button. */
export type Value = null | string | Record<string, string>;

/** Fields of a request, without its id. */
export type Request =
  | { do: 'state' }
  | { do: 'call'; call: string; arguments: Value }
  | { do: 'describe'; call: string }
  | { do: 'logs' }
  | {
      do: 'act';
      table: TableName;
      name: string;
      row?: number;
      value?: Value;
    }
  | { do: 'open'; table: TableName; row: number }
  | { do: 'demo' }
  | { do: 'broker'; name: string; arguments: Record<string, string> }
  | { do: 'cancel'; request: string };

/** Requests the ids of a kernel's comms with a target name. */
export type CommIds = (
  kernel: Kernel.IKernelConnection,
  target: string,
  urgent: boolean
) => Promise<string[]>;

/**
 * Updates a model from one kernel, across restarts.
 *
 * fabric_nb in the kernel opens a comm for pushes without a message. So the kernel's list of comms
 * is requested, when the kernel starts and after each cell, until the comm is found. Its messages
 * are read without a comm object, which would cost the kernel a thread. Requests are sent over a
 * second comm, so that they are handled while a cell is running.
 */
export class KernelLink implements IDisposable {
  constructor(
    private readonly kernel: Kernel.IKernelConnection,
    private readonly model: PanelModel,
    private readonly commIds: CommIds,
    private readonly newId: () => string
  ) {
    model.phase = phaseOf(kernel.status) ?? 'starting';
    kernel.statusChanged.connect(this._onStatus, this);
    kernel.iopubMessage.connect(this._onMessage, this);
    model.progressReceived.connect(this._onProgress, this);
    model.resultReceived.connect(this._onResult, this);
    void this.checkLoaded();
  }

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  /** Disconnect from the kernel, which keeps running. */
  dispose(): void {
    if (this._isDisposed) {
      return;
    }
    this._isDisposed = true;
    this.kernel.statusChanged.disconnect(this._onStatus, this);
    this.kernel.iopubMessage.disconnect(this._onMessage, this);
    this.model.progressReceived.disconnect(this._onProgress, this);
    this.model.resultReceived.disconnect(this._onResult, this);
    this._failAll('The notebook was closed.');
    const comm = this._requests;
    this._requests = null;
    if (comm && !comm.isDisposed && !this.kernel.isDisposed) {
      comm.close();
    }
  }

  /**
   * Send a request to the kernel.
   *
   * @param signal - aborted to cancel the request, which rejects the promise.
   * @param onProgress - receives the progress of a call.
   * @returns the result, empty for most requests.
   */
  request(
    request: Request,
    signal?: AbortSignal,
    onProgress?: (text: string) => void
  ): Promise<string> {
    const comm = this._requests;
    if (!comm || comm.isDisposed) {
      return Promise.reject(new Error('fabric_nb is not loaded.'));
    }
    const id = this.newId();
    return new Promise<string>((resolve, reject) => {
      const timer = setTimeout(() => {
        this._pending.delete(id);
        reject(new Error('The kernel does not reply; it may be busy.'));
      }, REPLY_TIMEOUT);
      const resolveOnReply = request.do === 'state' || request.do === 'open';
      this._pending.set(id, {
        resolve,
        reject,
        timer,
        resolveOnReply,
        onProgress
      });
      comm.send({ id, ...request });
      signal?.addEventListener('abort', () => {
        if (this._pending.has(id) && !comm.isDisposed) {
          comm.send({ id: this.newId(), do: 'cancel', request: id });
        }
      });
    });
  }

  /**
   * Check whether fabric_nb is loaded, and update the model.
   *
   * @param urgent - do not wait for queued cells.
   */
  async checkLoaded(urgent = false): Promise<void> {
    if (this._pushComm === null && !this._isDisposed) {
      this._checking ??= this._check(urgent);
      await this._checking;
    }
  }

  private async _check(urgent: boolean): Promise<void> {
    const generation = this._generation;
    try {
      const [found] = await this.commIds(this.kernel, TARGET, urgent);
      if (this.isDisposed || generation !== this._generation) {
        return;
      }
      if (found === undefined) {
        this.model.phase = 'unloaded';
      } else {
        this._pushComm = found;
        this.model.phase = 'linking';
        await this._open(generation);
      }
    } catch (error) {
      // The kernel is gone or too busy; the check is repeated after the next cell.
      console.debug('fabric_nb:', error);
      if (generation === this._generation) {
        this._pushComm = null;
      }
    } finally {
      if (generation === this._generation) {
        this._checking = null;
      }
    }
  }

  private async _open(generation: number): Promise<void> {
    await this.kernel.info;
    if (this.isDisposed || generation !== this._generation) {
      return;
    }
    const comm = this.kernel.createComm(REQUESTS);
    this._requests = comm;
    comm.onMsg = message => {
      this._onReply(message.content.data);
    };
    comm.onClose = () => {
      this._disconnected('unloaded');
    };
    // JupyterLab 4.4 and later; in earlier versions requests wait for running cells.
    const kernel = this.kernel as { supportsSubshells?: boolean };
    if (kernel.supportsSubshells) {
      // A member of the comm's class, not yet of its interface.
      await (comm as { subshellStarted?: Promise<void> }).subshellStarted;
    }
    if (this._requests === comm && !comm.isDisposed) {
      comm.open();
      await this.request({ do: 'state' });
    }
  }

  private _onStatus(
    _: Kernel.IKernelConnection,
    status: KernelMessage.Status
  ): void {
    const phase = phaseOf(status);
    if (phase !== null) {
      this._disconnected(phase);
    } else if (status === 'idle' && this.model.phase === 'starting') {
      void this.checkLoaded();
    }
  }

  private _onMessage(
    _: Kernel.IKernelConnection,
    message: KernelMessage.IIOPubMessage
  ): void {
    const content = message.content as {
      comm_id?: string;
      data?: unknown;
      execution_state?: string;
      code?: string;
    };
    switch (message.header.msg_type) {
      case 'comm_msg':
        if (content.comm_id === this._pushComm) {
          this._onPush(content.data as IPush);
        }
        break;
      case 'comm_close':
        if (content.comm_id === this._pushComm) {
          this._disconnected('unloaded');
        }
        break;
      case 'execute_input':
        this._mayLoad = content.code?.includes('fabric_nb') ?? false;
        break;
      case 'status': {
        // Only after cells, because the check itself makes the kernel busy and idle.
        const parent = message.parent_header as { msg_type?: string };
        if (
          content.execution_state === 'idle' &&
          parent.msg_type === 'execute_request'
        ) {
          void this.checkLoaded(this._mayLoad);
        }
        break;
      }
    }
  }

  /** Apply a push; the complete state, with the last results, is requested if one was lost. */
  private _onPush(push: IPush): void {
    const before = this._number;
    this._number = push.number ?? null;
    this.model.apply(push);
    const lost = before !== null && push.number !== before + 1;
    if (lost && !push.reset) {
      this.request({ do: 'state' }).catch(() => undefined);
    }
  }

  private _onReply(reply: IReply): void {
    const pending = reply.id ? this._pending.get(reply.id) : undefined;
    if (!reply.id || !pending) {
      return;
    }
    clearTimeout(pending.timer);
    if (reply.error) {
      this._pending.delete(reply.id);
      pending.reject(new Error(reply.error));
    } else if (pending.resolveOnReply) {
      this._pending.delete(reply.id);
      pending.resolve('');
    }
  }

  private _onProgress(_: PanelModel, progress: IProgress): void {
    this._pending.get(progress.id)?.onProgress?.(progress.text);
  }

  private _onResult(_: PanelModel, result: IResult): void {
    const pending = this._pending.get(result.id);
    if (!pending) {
      return; // of another page
    }
    clearTimeout(pending.timer);
    this._pending.delete(result.id);
    if (result.error) {
      pending.reject(new RequestError(result.error, result.field));
    } else {
      pending.resolve(result.text);
    }
  }

  /** Handle the loss of the kernel's side. The kernel object disposes of the comm itself. */
  private _disconnected(phase: 'starting' | 'dead' | 'unloaded'): void {
    if (this._isDisposed) {
      return;
    }
    this._generation += 1;
    this._checking = null;
    this._pushComm = null;
    this._number = null;
    this._requests = null;
    this._failAll('The kernel has stopped.');
    this.model.phase = phase;
  }

  private _failAll(reason: string): void {
    for (const { reject, timer } of this._pending.values()) {
      clearTimeout(timer);
      reject(new Error(reason));
    }
    this._pending.clear();
  }

  private _pushComm: string | null = null;
  /** Number of the last push; null before the first. */
  private _number: number | null = null;
  private _requests: Kernel.IComm | null = null;
  private _pending = new Map<string, IPending>();
  private _checking: Promise<void> | null = null;
  private _mayLoad = false;
  private _generation = 0;
  private _isDisposed = false;
}

interface IPending {
  resolve: (text: string) => void;
  reject: (error: Error) => void;
  timer: ReturnType<typeof setTimeout>;
  resolveOnReply: boolean;
  onProgress?: (text: string) => void;
}

/** Phase for a kernel status; null if the status does not affect it. */
function phaseOf(status: KernelMessage.Status): 'starting' | 'dead' | null {
  switch (status) {
    case 'starting':
    case 'restarting':
    case 'autorestarting':
      return 'starting';
    case 'dead':
    case 'terminating':
      return 'dead';
    default:
      return null;
  }
}
