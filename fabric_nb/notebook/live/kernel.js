// The kernel's side of a view under a cell, reached over the comm of its widget model.

export class KernelConnection {
  /**
   * @param model the widget's model, as anywidget passes it
   * @param view has `hello()`, called when the kernel may have missed the view; `receive(content,
   * buffers)`; and `lose(lost)`, called when sending begins or ceases to fail
   */
  constructor(model, view) {
    this.model = model;
    this.view = view;
    this.lost = false;
    this.onMessage = (content, buffers) => view.receive(content, buffers);
    this.onComm = () => view.hello();
    model.on("msg:custom", this.onMessage);
    model.on("comm_live_update", this.onComm);
  }

  dispose() {
    this.model.off("msg:custom", this.onMessage);
    this.model.off("comm_live_update", this.onComm);
  }

  /** Nothing can be sent once the kernel was restarted or has died, and nothing else tells. */
  send(content) {
    let lost = false;
    try {
      this.model.send(content);
    } catch {
      lost = true;
    }
    if (lost === this.lost) return;
    this.lost = lost;
    this.view.lose(lost);
  }

  /** Whether the page hides the last state under a live view: JupyterLab and Notebook obey that rule. */
  get hides() {
    return "jpThemeName" in document.body.dataset;
  }

  /** Whether the view is drawn from the state in a notebook, without a kernel. */
  get stored() {
    return this.model.stored === true;
  }

  /** What to say of a view once nothing can be sent; empty before. */
  get lostText() {
    if (!this.lost) return "";
    return this.stored ? "stored: as it was last" : "kernel gone: as it was last";
  }
}

/** The JSON text in a message's first buffer. */
export function textIn(buffers) {
  return new TextDecoder().decode(buffers[0]);
}
