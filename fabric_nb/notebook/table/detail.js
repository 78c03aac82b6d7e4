// Detail of a row: a text and forms.

import { fill, make, setText } from "../live/dom.js";
import { copyText } from "./clipboard.js";
import { FormView } from "./form.js";
import { TreeView } from "./tree.js";

export class DetailView {
  constructor(columns, actions) {
    this.actions = actions;
    this.node = make("tr", "detail", { role: "row" });
    const cell = make("td", "", { role: "cell", colspan: String(columns) });
    this.cells = make("dl", "cells");
    this.text = make("pre", "", { tabindex: "0", "aria-label": "Details" });
    this.tree = new TreeView();
    this.forms = make("div", "forms");
    cell.append(this.cells, this.text, this.tree.node, this.forms);
    this.node.append(cell);
  }

  /**
   * @param detail a text, or {text, forms, tree}
   * @param cells [label, text] pairs to show above the detail
   */
  paint(detail, cells) {
    fill(this.cells, cells, makeLabelled, paintLabelled);

    const { text, forms, tree = [] } = typeof detail === "string" ? { text: detail, forms: [] } : detail;
    this.tree.paint(tree);
    this.text.hidden = !text;
    if (this.text.textContent !== text) {
      setText(this.text, text);
      // A traceback alone is scrolled to its last line, which has the cause.
      this.toEnd = /^(.*\n)?Traceback \(most recent call last\)/.test(text);
    }
    // Unchanged forms are kept, with the texts that were entered.
    const kinds = JSON.stringify(forms.map(({ title, text, ...kind }) => kind));
    if (kinds !== this.kinds) {
      this.kinds = kinds;
      this.forms.replaceChildren(...forms.map((form) => this.make(form, forms.length === 1)));
    }
    forms.forEach(({ title, text: more }, index) => {
      const node = this.forms.children[index];
      setText(node.firstChild, title);
      setText(node.children[1], more);
    });
  }

  /** Scroll a traceback to its end; must be called once the node is in the document. */
  scrollToEnd() {
    if (!this.toEnd || !this.text.clientHeight) return;
    this.toEnd = false;
    this.text.scrollTop = this.text.scrollHeight;
  }

  make({ name, fields, submit, command, open }, single) {
    const node = make("details", "form");
    node.open = open || single;
    node.append(make("summary"), make("div", "text"));
    const copy = async () => {
      const line = [command, ...form.expressions.map((pair) => pair.join("="))].join(" ");
      form.showAnswer((await copyText(line)) ? `Copied: ${line}` : line, false);
    };
    const tools = command ? [{ label: `Copy as ${command.split(" ", 1)[0]}`, run: copy }] : [];
    const form = new FormView({ name, fields, submit }, this.actions, tools);
    if (fields.length || submit || command) node.append(form.node);
    return node;
  }
}

function makeLabelled() {
  const node = make("div");
  node.append(make("dt"), make("dd"));
  return node;
}

function paintLabelled(node, [label, text]) {
  setText(node.firstChild, label);
  setText(node.lastChild, text);
}
