// Labelled values as a tree, whose lists and objects open.

import { make, setText } from "../live/dom.js";

export class TreeView {
  constructor() {
    this.node = make("ul", "tree");
    this.painted = "";
  }

  /** @param nodes [label, text] of each value; [label, text, nodes] of a list or an object */
  paint(nodes) {
    this.node.hidden = !nodes.length;
    const painted = JSON.stringify(nodes);
    if (painted === this.painted) return; // what was opened stays open
    this.painted = painted;
    this.node.replaceChildren(...nodes.map(makeNode));
  }
}

function makeNode([label, text, nodes]) {
  const item = make("li");
  const name = make("span", "name");
  const value = make("span", nodes ? "size" : "value");
  setText(name, label);
  setText(value, text);
  if (!nodes) {
    item.append(name, value);
    return item;
  }
  const details = make("details");
  const summary = make("summary");
  summary.append(name, value);
  details.append(summary);
  details.addEventListener("toggle", () => {
    if (!details.open || details.querySelector(":scope > ul")) return;
    const list = make("ul");
    list.append(...nodes.map(makeNode));
    details.append(list);
  });
  item.append(details);
  return item;
}
