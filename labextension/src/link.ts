import { IDisposable } from '@lumino/disposable';
import type { Kernel, KernelMessage } from '@jupyterlab/services';

import { PanelModel } from './model';
import {
  IPush,
  IReply,
  IResult,
  REQUESTS,
  TableName,
  TARGET
} from './protocol';

/** Milliseconds that the kernel may take to say that it has a request. */
export const REPLY_WITHIN = 15_000;

/** An option that was chosen, the texts of a form by field, or null for a button. */
export type Value = null | string | Record<string, string>;

/** Fields of a request, beside its id. */
export type Request =
  | { do: 'tell' }
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
  | { do: 'demo' }
  | { do: 'cancel'; request: string };

/** Asks a kernel for the ids of its comms of that target. */
export type CommIds = (
  kernel: Kernel.IKernelConnection,
  target: string,
  urgent: boolean
) => Promise<string[]>;

/**
 * Keeps a model up to date with one kernel, over all its restarts.
 *
 * fabric_nb in the kernel has a comm that only pushes and that tells nobody that it is there; so
 * the kernel is asked for it, when it starts and after each cell, until it is found. Its messages
 * are read without a comm object of our own, which would cost the kernel a thread. Requests go
 * over a second comm that we open, so that they are answered while a cell runs.
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
    model.resulted.connect(this._onResult, this);
    void this.look();
  }

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  /** Let go of the kernel, which lives on. */
  dispose(): void {
    if (this._isDisposed) {
      return;
    }
    this._isDisposed = true;
    this.kernel.statusChanged.disconnect(this._onStatus, this);
    this.kernel.iopubMessage.disconnect(this._onMessage, this);
    this.model.resulted.disconnect(this._onResult, this);
    this._failAll('The notebook was closed.');
    const comm = this._requests;
    this._requests = null;
    if (comm && !comm.isDisposed && !this.kernel.isDisposed) {
      comm.close();
    }
  }

  /**
   * Ask the kernel for something.
   *
   * @param signal - aborted to have the kernel give it up; the promise is rejected then.
   * @returns what it has to say when that is done, mostly nothing.
   */
  request(request: Request, signal?: AbortSignal): Promise<string> {
    const comm = this._requests;
    if (!comm || comm.isDisposed) {
      return Promise.reject(new Error('fabric_nb is not loaded.'));
    }
    const id = this.newId();
    return new Promise<string>((resolve, reject) => {
      const timer = setTimeout(() => {
        this._pending.delete(id);
        reject(new Error('The kernel does not answer; it may be busy.'));
      }, REPLY_WITHIN);
      const resolveOnReply = request.do === 'tell';
      this._pending.set(id, { resolve, reject, timer, resolveOnReply });
      comm.send({ id, ...request });
      signal?.addEventListener('abort', () => {
        if (this._pending.has(id) && !comm.isDisposed) {
          comm.send({ id: this.newId(), do: 'cancel', request: id });
        }
      });
    });
  }

  /**
   * Find out whether fabric_nb is loaded; done when the model knows, or the kernel is gone.
   *
   * @param urgent - ask past the cells that are queued.
   */
  async look(urgent = false): Promise<void> {
    if (this._push === null && !this._isDisposed) {
      this._looking ??= this._look(urgent);
      await this._looking;
    }
  }

  private async _look(urgent: boolean): Promise<void> {
    const life = this._life;
    try {
      const [found] = await this.commIds(this.kernel, TARGET, urgent);
      if (this.isDisposed || life !== this._life) {
        return;
      }
      if (found === undefined) {
        this.model.phase = 'unloaded';
      } else {
        this._push = found;
        this.model.phase = 'linking';
        await this._open(life);
      }
    } catch (error) {
      // The kernel went away, or is too busy; it is asked again after the next cell.
      console.debug('fabric_nb:', error);
      if (life === this._life) {
        this._push = null;
      }
    } finally {
      if (life === this._life) {
        this._looking = null;
      }
    }
  }

  private async _open(life: number): Promise<void> {
    await this.kernel.info;
    if (this.isDisposed || life !== this._life) {
      return;
    }
    const comm = this.kernel.createComm(REQUESTS);
    this._requests = comm;
    comm.onMsg = message => {
      this._onReply(message.content.data);
    };
    comm.onClose = () => {
      this._lost('unloaded');
    };
    // JupyterLab 4.4 and later; before it, messages wait for running cells.
    const kernel = this.kernel as { supportsSubshells?: boolean };
    if (kernel.supportsSubshells) {
      // Of the comm's class, not yet of its interface.
      await (comm as { subshellStarted?: Promise<void> }).subshellStarted;
    }
    if (this._requests === comm && !comm.isDisposed) {
      comm.open();
      await this.request({ do: 'tell' });
    }
  }

  private _onStatus(
    _: Kernel.IKernelConnection,
    status: KernelMessage.Status
  ): void {
    const phase = phaseOf(status);
    if (phase !== null) {
      this._lost(phase);
    } else if (status === 'idle' && this.model.phase === 'starting') {
      void this.look();
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
        if (content.comm_id === this._push) {
          this.model.apply(content.data as IPush);
        }
        break;
      case 'comm_close':
        if (content.comm_id === this._push) {
          this._lost('unloaded');
        }
        break;
      case 'execute_input':
        this._mayLoad = content.code?.includes('fabric_nb') ?? false;
        break;
      case 'status': {
        // Only after cells: asking makes the kernel busy and idle as well.
        const parent = message.parent_header as { msg_type?: string };
        if (
          content.execution_state === 'idle' &&
          parent.msg_type === 'execute_request'
        ) {
          void this.look(this._mayLoad);
        }
        break;
      }
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

  private _onResult(_: PanelModel, result: IResult): void {
    const pending = this._pending.get(result.id);
    if (!pending) {
      return; // another page's
    }
    clearTimeout(pending.timer);
    this._pending.delete(result.id);
    if (result.error) {
      pending.reject(new Error(result.error));
    } else {
      pending.resolve(result.text);
    }
  }

  /** The other side is gone: the comm object is left alone, as the kernel disposes of it. */
  private _lost(phase: 'starting' | 'dead' | 'unloaded'): void {
    if (this._isDisposed) {
      return;
    }
    this._life += 1;
    this._looking = null;
    this._push = null;
    this._requests = null;
    this._failAll('The kernel has stopped.');
    this.model.phase = phase;
  }

  private _failAll(why: string): void {
    for (const { reject, timer } of this._pending.values()) {
      clearTimeout(timer);
      reject(new Error(why));
    }
    this._pending.clear();
  }

  private _push: string | null = null;
  private _requests: Kernel.IComm | null = null;
  private _pending = new Map<string, IPending>();
  private _looking: Promise<void> | null = null;
  private _mayLoad = false;
  private _life = 0;
  private _isDisposed = false;
}

interface IPending {
  resolve: (text: string) => void;
  reject: (error: Error) => void;
  timer: ReturnType<typeof setTimeout>;
  resolveOnReply: boolean;
}

/** What a status means for us; null when it says nothing about what is loaded. */
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
