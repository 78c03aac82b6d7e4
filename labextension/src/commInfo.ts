import { Kernel, KernelMessage } from '@jupyterlab/services';

/**
 * The ids of a kernel's comms with a target name.
 *
 * @param urgent - ask over the control channel, as the question would otherwise wait for all
 * cells that are queued. A kernel that answers there looks idle for a moment.
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
  const question =
    KernelMessage.createMessage<KernelMessage.ICommInfoRequestMsg>({
      msgType: 'comm_info_request',
      channel: 'shell',
      username: kernel.username,
      session: kernel.clientId,
      content
    });
  // The protocol allows every request on both channels; the types do not.
  const onControl = {
    ...question,
    channel: 'control'
  } as unknown as KernelMessage.IControlMessage;
  const reply = await kernel.sendControlMessage(onControl, true).done;
  const answer = reply as unknown as KernelMessage.ICommInfoReplyMsg;
  return idsIn(answer.content);
}

function idsIn(content: KernelMessage.ICommInfoReplyMsg['content']): string[] {
  return content.status === 'ok' ? Object.keys(content.comms) : [];
}
