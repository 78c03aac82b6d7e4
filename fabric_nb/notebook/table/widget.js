// A table under a cell.

import { KernelConnection, textIn } from "../live/kernel.js";
import { Rows } from "./rows.js";
import { TableView } from "./table.js";

class TableWidget {
  constructor(model, el) {
    this.rows = new Rows();
    this.rows.apply(JSON.parse(model.get("_whole")));
    this.kernel = new KernelConnection(model, this);
    this.table = new TableView(this.rows, (content) => this.kernel.send(content));
    this.table.attach(el);
    this.hello();
  }

  dispose() {
    this.kernel.dispose();
    this.table.dispose();
  }

  restore(text) {
    this.rows.apply(JSON.parse(text));
    this.table.updated();
  }

  hello() {
    this.requestedAt = performance.now();
    this.kernel.send({ type: "hello", revision: this.rows.revision, hides: this.kernel.hides });
  }

  receive(content, buffers) {
    if (content.type === "begun") this.table.actions.onBegun(content);
    if (content.type === "progress") this.table.actions.onProgress(content);
    if (content.type === "answer") this.table.actions.onAnswer(content);
    if (content.type === "paging") this.table.pager.onBegun(content);
    if (content.type === "page") this.table.onPage(JSON.parse(textIn(buffers)));
    if (content.type === "detail") this.table.onDetail(...JSON.parse(textIn(buffers)));
    if (content.type !== "table") return;
    const complete = this.rows.apply(JSON.parse(textIn(buffers)));
    // Request the complete table if messages were lost, at most once a second.
    if (!complete && performance.now() - this.requestedAt > 1000) this.hello();
    this.table.updated();
  }

  setLost(lost) {
    this.table.setLost(lost ? [this.kernel.lostText, this.kernel.stored ? "quiet" : "bad"] : null);
  }
}

export default {
  render({ model, el }) {
    const widget = new TableWidget(model, el);
    return () => widget.dispose();
  },
};
