/** A kernel that is driven by hand, as far as the link sees it. */

import type { Kernel, KernelMessage } from '@jupyterlab/services';
import { Signal } from '@lumino/signaling';

import { IPush, IReply, TARGET } from '../src/protocol';

export class FakeComm {
  isDisposed = false;
  opened = false;
  sent: { id: string; [field: string]: unknown }[] = [];
  onMsg?: (message: { content: { data: IReply } }) => void;
  onClose?: () => void;
  subshellStarted = Promise.resolve();

  open(): void {
    this.opened = true;
  }

  send(data: { id: string }): void {
    this.sent.push(data);
  }

  close(): void {
    this.isDisposed = true;
    this.onClose?.();
  }

  answer(reply: IReply): void {
    this.onMsg?.({ content: { data: reply } });
  }
}

export class FakeKernel {
  status: KernelMessage.Status = 'idle';
  supportsSubshells = true;
  isDisposed = false;
  info = Promise.resolve({});
  statusChanged = new Signal<this, KernelMessage.Status>(this);
  iopubMessage = new Signal<this, KernelMessage.IIOPubMessage>(this);
  comms: FakeComm[] = [];
  /** The push comms that it tells of. */
  loaded: string[] = [];
  /** How often it was asked for them, and whether that was urgent. */
  asked: boolean[] = [];

  get asKernel(): Kernel.IKernelConnection {
    return this as unknown as Kernel.IKernelConnection;
  }

  find = (
    _: Kernel.IKernelConnection,
    target: string,
    urgent: boolean
  ): Promise<string[]> => {
    this.asked.push(urgent);
    return Promise.resolve(target === TARGET ? this.loaded : []);
  };

  createComm(): FakeComm {
    const comm = new FakeComm();
    this.comms.push(comm);
    return comm;
  }

  get requests(): FakeComm {
    const last = this.comms.at(-1);
    if (!last) {
      throw new Error('no comm was opened');
    }
    return last;
  }

  setStatus(status: KernelMessage.Status): void {
    this.status = status;
    this.statusChanged.emit(status);
  }

  push(data: IPush, comm = 'push'): void {
    this.say('comm_msg', { comm_id: comm, data });
  }

  /** A cell was run. */
  ran(code: string): void {
    this.say('execute_input', { code });
    this.say('status', { execution_state: 'idle' }, 'execute_request');
  }

  say(type: string, content: unknown, parent = ''): void {
    this.iopubMessage.emit({
      header: { msg_type: type },
      parent_header: { msg_type: parent },
      content
    } as unknown as KernelMessage.IIOPubMessage);
  }
}

/** Let everything that is due happen. */
export async function settled(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) {
    await Promise.resolve();
  }
}
