import { Kernel, KernelMessage } from '@jupyterlab/services';

/**
 * Request the ids of a kernel's comms with a target name.
 *
 * @param urgent - use the control channel, because on the shell channel the request would wait for
 * all queued cells. A kernel that replies there is shown as idle for a moment.
 */
export async function commIds(
  kernel: Kernel.IKernelConnection,
  target: string,
  urgent: boolean
): Promise<string[]> {
  const content = { target_name: target };
  if (!urgent) {
    return idsIn((await kernel.requestCommInfo(content)).content);
  }
  const request =
    KernelMessage.createMessage<KernelMessage.ICommInfoRequestMsg>({
      msgType: 'comm_info_request',
      channel: 'shell',
      username: kernel.username,
      session: kernel.clientId,
      content
    });
  // The protocol allows all requests on both channels, but the types do not.
  const onControl = {
    ...request,
    channel: 'control'
  } as unknown as KernelMessage.IControlMessage;
  const reply = await kernel.sendControlMessage(onControl, true).done;
  return idsIn((reply as unknown as KernelMessage.ICommInfoReplyMsg).content);
}

function idsIn(content: KernelMessage.ICommInfoReplyMsg['content']): string[] {
  return content.status === 'ok' ? Object.keys(content.comms) : [];
}
