// A page under a cell. Its markup is created and escaped by fabric_nb.notebook.pages.

import { make } from "./dom.js";
import { KernelConnection, textIn } from "./kernel.js";

class PageView {
  constructor(model, el) {
    this.root = make("div", "fabric-page");
    el.append(this.root);
    this.kernel = new KernelConnection(model, this);
    this.paint(model.get("_whole"));
    this.hello();
  }

  paint(text) {
    this.root.innerHTML = JSON.parse(text).html;
  }

  restore(text) {
    this.paint(text);
  }

  hello() {
    this.kernel.send({ type: "hello", hides: this.kernel.hides });
  }

  receive(content, buffers) {
    if (content.type === "page") this.paint(textIn(buffers));
  }

  setLost(lost) {
    this.root.classList.toggle("lost", lost);
  }
}

export default {
  render({ model, el }) {
    const view = new PageView(model, el);
    return () => view.kernel.dispose();
  },
};
