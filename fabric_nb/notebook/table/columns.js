// Columns of a paged table: which of them are shown, and their filters.

import { fill, make, setText } from "../live/dom.js";

const HINTS = { number: "> 5 or 5..10", time: "12:00..13:00", text: "words" };
const MANY = 12; // columns from which on they can be searched
const PAUSE = 250; // milliseconds without a key before a filter is applied

export class ColumnsPanel {
  /**
   * @param pager has the filters
   * @param choose called with the indices of the columns to show, a control and a function to undo it;
   * null for the default
   */
  constructor(pager, choose) {
    this.pager = pager;
    this.choose = choose;
    this.choices = []; // [label, kind, shown] of each column
    this.painted = null; // number of changes of the filters that are painted
    this.button = make("button", "tool", { type: "button", "aria-expanded": "false" });
    this.node = make("div", "columns-panel", { role: "group", "aria-label": "Columns" });
    this.node.hidden = true;
    this.search = make("input", "", {
      type: "search", placeholder: "Find a column", "aria-label": "Find a column", spellcheck: "false",
    });
    this.list = make("div", "columns-list");
    this.reset = this.makeButton("Default columns", () => this.choose(null, this.reset, () => {}));
    this.clear = this.makeButton("Clear filters", () => this.clearFilters());
    const tools = make("div", "panel-tools");
    tools.append(this.search, this.reset, this.clear);
    this.node.append(tools, this.list);
    this.button.addEventListener("click", () => this.toggle(this.node.hidden));
    this.search.addEventListener("input", () => this.paintSearch());
    this.node.addEventListener("keydown", (event) => this.onKey(event));
  }

  makeButton(label, run) {
    const button = make("button", "tool", { type: "button" });
    setText(button, label);
    button.addEventListener("click", run);
    return button;
  }

  onKey(event) {
    if (event.key !== "Escape" || event.target.value) return;
    this.toggle(false);
    event.stopPropagation();
  }

  toggle(open) {
    this.node.hidden = !open;
    this.button.setAttribute("aria-expanded", String(open));
    this.painted = null;
    if (open) this.paint(this.choices);
    (open ? (this.search.hidden ? this.list.querySelector("input") : this.search) : this.button)?.focus();
  }

  paint(choices) {
    const { filters: { size }, changes } = this.pager;
    setText(this.button, size ? `Columns (${size} ${size === 1 ? "filter" : "filters"})` : "Columns");
    const isPainted = choices === this.choices && changes === this.painted;
    this.choices = choices;
    if (this.node.hidden || isPainted) return; // there may be a thousand columns
    this.painted = changes;
    this.search.hidden = choices.length < MANY;
    this.clear.disabled = !size;
    fill(this.list, choices, () => this.makeColumn(), (node, choice, index) => this.paintColumn(node, choice, index));
    this.paintSearch();
  }

  paintSearch() {
    const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    [...this.list.children].forEach((node, index) => {
      const label = this.choices[index]?.[0].toLowerCase() ?? "";
      node.hidden = !words.every((word) => label.includes(word));
    });
  }

  makeColumn() {
    const node = make("div", "column");
    const label = make("label");
    const box = make("input", "", { type: "checkbox" });
    label.append(box, make("span"));
    const input = make("input", "column-filter", { type: "text", spellcheck: "false", autocomplete: "off" });
    const problem = make("div", "problem", { role: "status" });
    node.append(label, input, problem);
    const index = () => [...this.list.children].indexOf(node);
    box.addEventListener("change", () => this.onChoice(box));
    input.addEventListener("input", () => {
      clearTimeout(node.timer);
      node.timer = setTimeout(() => this.onFilter(index(), input.value), PAUSE);
    });
    input.addEventListener("change", () => {
      clearTimeout(node.timer);
      this.onFilter(index(), input.value);
    });
    return node;
  }

  paintColumn(node, [label, kind, shown], index) {
    const [{ firstChild: box, lastChild: name }, input, problem] = node.children;
    const filter = this.pager.filters.get(index);
    setText(name, label);
    box.checked = shown;
    input.placeholder = HINTS[kind];
    input.setAttribute("aria-label", `Filter of ${label}`);
    // Not while it is being written: it is applied a moment later.
    if (this.node.getRootNode().activeElement !== input) input.value = filter?.text ?? "";
    const text = this.pager.problems.get(index) ?? "";
    setText(problem, text);
    if (text) input.setAttribute("aria-invalid", "true");
    else input.removeAttribute("aria-invalid");
  }

  onFilter(index, text) {
    const [label, kind] = this.choices[index];
    const before = this.pager.filters.get(index);
    if ((before?.text ?? "") === text.trim()) return;
    this.pager.setFilter(index, label, kind, text.trim());
  }

  clearFilters() {
    for (const input of this.list.querySelectorAll(".column-filter")) input.value = "";
    this.pager.clearFilters();
  }

  onChoice(box) {
    const boxes = [...this.list.querySelectorAll("input[type=checkbox]")];
    const chosen = boxes.flatMap((each, index) => (each.checked ? [index] : []));
    this.choose(chosen, box, () => { box.checked = !box.checked; });
  }
}
