// The form that connects, under a cell.

import { KernelConnection } from "../live/kernel.js";
import { copyText } from "../table/clipboard.js";
import { ConnectForm } from "./form.js";

const INSERT_CELL = "fabric-nb:insert-cell"; // handled by labextension/src/tableCells.ts

class ConnectWidget {
  constructor(model, el) {
    this.pending = new Map(); // request -> {resolve, reject}
    this.requests = Math.floor(Math.random() * 2 ** 30); // random, as views of a widget share answers
    this.kernel = new KernelConnection(model, this);
    this.form = new ConnectForm(
      (name, values) => this.ask(name, values),
      (cell) => this.insert(cell),
    );
    el.append(this.form.node);
    this.hello();
    this.form.showRecent();
  }

  ask(name, values) {
    const request = (this.requests += 1);
    return new Promise((resolve, reject) => {
      this.pending.set(request, { resolve, reject });
      this.kernel.send({ type: "ask", request, name, values });
      if (this.kernel.lost) this.setLost(true);
    });
  }

  /** Write the cell below this one and run it; elsewhere than in JupyterLab, copy its line. */
  async insert({ line }) {
    const detail = { text: line, run: true };
    const asked = new CustomEvent(INSERT_CELL, { bubbles: true, cancelable: true, detail });
    this.form.node.dispatchEvent(asked);
    if (asked.defaultPrevented) return "Inserted into the cell below, and run.";
    return (await copyText(line)) ? `Copied: ${line}` : `Run in a cell: ${line}`;
  }

  hello() {
    this.kernel.send({ type: "hello", hides: this.kernel.hides });
  }

  restore() {}

  receive(content) {
    const pending = this.pending.get(content.request);
    if (content.type !== "answer" || !pending) return;
    this.pending.delete(content.request);
    if (content.error) pending.reject(new Error(content.error));
    else pending.resolve(content.answer);
  }

  setLost(lost) {
    if (!lost) return;
    for (const { reject } of this.pending.values()) reject(new Error("The kernel of this form is gone. Run the cell again."));
    this.pending.clear();
  }
}

export default {
  render({ model, el }) {
    const widget = new ConnectWidget(model, el);
    return () => widget.kernel.dispose();
  },
};
