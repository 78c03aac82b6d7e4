/** Fake kernel and comm, controlled by the test. */

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

  reply(reply: IReply): void {
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
  /** Ids of its push comms. */
  pushComms: string[] = [];
  /** Whether each request for the ids was urgent. */
  requestsForIds: boolean[] = [];

  get asKernel(): Kernel.IKernelConnection {
    return this as unknown as Kernel.IKernelConnection;
  }

  commIds = (
    _: Kernel.IKernelConnection,
    target: string,
    urgent: boolean
  ): Promise<string[]> => {
    this.requestsForIds.push(urgent);
    return Promise.resolve(target === TARGET ? this.pushComms : []);
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
    this.send('comm_msg', { comm_id: comm, data });
  }

  /** Send the messages of a cell that has run. */
  runCell(code: string): void {
    this.send('execute_input', { code });
    this.send('status', { execution_state: 'idle' }, 'execute_request');
  }

  send(type: string, content: unknown, parent = ''): void {
    this.iopubMessage.emit({
      header: { msg_type: type },
      parent_header: { msg_type: parent },
      content
    } as unknown as KernelMessage.IIOPubMessage);
  }
}

/** Run all pending microtasks. */
export async function flush(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) {
    await Promise.resolve();
  }
}
