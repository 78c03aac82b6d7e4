// Connection of a view to the kernel, over the comm of its widget model.

export class KernelConnection {
  /**
   * @param model the widget's model, as anywidget passes it
   * @param view has `hello()`, called when the kernel may not know the view; `receive(content,
   * buffers)`; `restore(text)`, called with the complete state, which the kernel stores in the model
   * until it has received the hello, as while a cell waits for a call; and `setLost(lost)`, called
   * when sending starts or stops failing
   */
  constructor(model, view) {
    this.model = model;
    this.view = view;
    this.lost = false;
    this.onMessage = (content, buffers) => view.receive(content, buffers);
    this.onComm = () => view.hello();
    this.onState = () => view.restore(model.get("_whole"));
    model.on("change:_whole", this.onState);
    model.on("msg:custom", this.onMessage);
    model.on("comm_live_update", this.onComm);
  }

  dispose() {
    this.model.off("change:_whole", this.onState);
    this.model.off("msg:custom", this.onMessage);
    this.model.off("comm_live_update", this.onComm);
  }

  /** Send a message. It fails after a restart or crash of the kernel, for which there is no event. */
  send(content) {
    let lost = false;
    try {
      this.model.send(content);
    } catch {
      lost = true;
    }
    if (lost === this.lost) return;
    this.lost = lost;
    this.view.setLost(lost);
  }

  /** Whether the page hides the static copy below a live view, as JupyterLab and Notebook do. */
  get hides() {
    return "jpThemeName" in document.body.dataset;
  }

  /** Whether the view is rendered from the state in a notebook, without a kernel. */
  get stored() {
    return this.model.stored === true;
  }

  /** Badge of a view without a kernel; empty while it has one. */
  get lostText() {
    if (!this.lost) return "";
    return this.stored ? "stored: last state" : "kernel gone: last state";
  }
}

/** Text of the first buffer of a message. */
export function textIn(buffers) {
  return new TextDecoder().decode(buffers[0]);
}
