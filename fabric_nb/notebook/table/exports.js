// The selected rows of a paged table: copied, saved as a file, or as a DataFrame in a new cell.

import { make, setText } from "../live/dom.js";
import { grouped } from "./cells.js";
import { copyText } from "./clipboard.js";

const INSERT_CELL = "fabric-nb:insert-cell"; // handled by labextension/src/tableCells.ts

export class ExportPanel {
  /**
   * @param pager has the filters
   * @param actions performs the actions
   * @param showAnswer shows a text; its second argument is true for an error
   */
  constructor(pager, actions, showAnswer) {
    Object.assign(this, { pager, actions, showAnswer });
    this.button = make("button", "tool", { type: "button", "aria-expanded": "false" });
    setText(this.button, "Export");
    this.node = make("form", "export-panel", { "aria-label": "Export" });
    this.node.hidden = true;
    this.copy = this.makeButton("Copy as TSV", "button");
    this.frame = this.makeButton("DataFrame in a new cell", "button");
    this.name = make("input", "", { type: "text", name: "name", spellcheck: "false", autocomplete: "off" });
    this.name.value = "rows.csv";
    this.replace = make("input", "", { type: "checkbox" });
    this.save = this.makeButton("Save", "submit");
    const file = make("label", "file");
    file.append("File", this.name);
    this.name.title = "A name that ends in .csv or .parquet";
    const replace = make("label", "file");
    replace.append(this.replace, "Replace");
    this.node.append(this.copy, this.frame, file, replace, this.save);
    this.button.addEventListener("click", () => this.toggle(this.node.hidden));
    this.copy.addEventListener("click", () => this.request("copy", {}, this.copy, (text) => this.onCopy(text)));
    this.frame.addEventListener("click", () => this.request("frame", {}, this.frame, (text) => this.onCode(text)));
    this.node.addEventListener("submit", (event) => {
      event.preventDefault();
      this.request("save", { name: this.name.value, replace: this.replace.checked }, this.save, this.showAnswer);
    });
    this.node.addEventListener("keydown", (event) => this.onKey(event));
  }

  makeButton(label, type) {
    const button = make("button", "tool", { type });
    setText(button, label);
    return button;
  }

  onKey(event) {
    if (event.key !== "Escape") return;
    this.toggle(false);
    event.stopPropagation();
  }

  toggle(open) {
    this.node.hidden = !open;
    this.button.setAttribute("aria-expanded", String(open));
    (open ? this.copy : this.button).focus();
  }

  /** @param done called with the answer, if it is no error */
  request(name, value, control, done) {
    const show = (text, error, final) => (final && !error ? done(text, false) : this.showAnswer(text, error));
    this.actions.request(name, { ...value, query: this.pager.query }, control, show);
  }

  async onCopy(text) {
    const rows = text.split("\n").length - 1;
    const [matching] = this.pager.counts;
    const copied = await copyText(text);
    if (!copied) this.showAnswer("The browser does not allow copying: save the rows as a file.", true);
    else if (rows < matching) {
      this.showAnswer(`Copied the first ${grouped(rows)} of ${grouped(matching)} rows: save a file for all of them.`, false);
    } else this.showAnswer(`Copied ${grouped(rows)} ${rows === 1 ? "row" : "rows"}.`, false);
  }

  async onCode(text) {
    const asked = new CustomEvent(INSERT_CELL, { bubbles: true, cancelable: true, detail: { text } });
    this.node.dispatchEvent(asked);
    if (asked.defaultPrevented) this.showAnswer("Inserted into a cell below.", false);
    else this.showAnswer((await copyText(text)) ? "Copied: paste it into a cell." : text, false);
  }
}
