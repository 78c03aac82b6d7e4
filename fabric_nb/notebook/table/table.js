// The live table. The nodes of its rows are reused while their cells change.

import { fill, make, setAttribute, setQuoted, setText } from "../live/dom.js";
import { Actions } from "./actions.js";
import { paintBadge, paintBar, paintSpark } from "./cells.js";
import { DetailView } from "./detail.js";
import { HeadView } from "./head.js";
import { HeadingView } from "./heading.js";
import { Keys } from "./keys.js";
import { RowScroller } from "./scroller.js";

const ROW_HEIGHTS = { wide: 26, narrow: 44 }; // in pixels; table.css has the same
const NARROW = 480; // width in pixels below which rows have two lines, if columns are assigned to them
const SHORT = 20; // characters that always fit into a cell of a narrow row

/** Unit of a number in a narrow table, which has no headings: the last word of the label. */
function unitOf(label, cell) {
  const unit = label.split(" ").at(-1);
  return cell === 1 && /^\w{3,}s$/.test(unit) ? unit.slice(0, -1) : unit; // "1 row", but "1 ms"
}

export class TableView {
  /**
   * @param rows rows to show; call `updated` after each message, `changed` after other changes
   * @param send sends a message to the kernel
   * @param tools returns the buttons at the end of a row, each {label, icon, run}; icon returns an
   * SVG element
   */
  constructor(rows, send, tools = null) {
    this.rows = rows;
    this.tools = tools;
    this.narrow = false;
    this.send = send;
    this.actions = new Actions(send);
    this.head = new HeadView(this.actions, (words) => this.setFilter(words));
    this.sort = null; // {index, descending}
    this.words = [];
    this.ids = null; // ids of the rows to show, in order; null if it must be computed
    this.open = new Map(); // id -> height of its detail
    this.shape = -1;
    this.updates = []; // times of the last updates
    this.build(tools !== null);
    this.timer = setInterval(() => this.tick(), 1000);
    this.scroller.observer.observe(this.root);
    this.changed();
  }

  build(tools) {
    this.root = make("section", "fabric-table");
    this.viewport = make("div", "scroller");
    this.table = make("table", "", { role: "table" }); // explicit, because CSS changes its display
    this.heading = new HeadingView(this.table, (index) => this.sortBy(index), tools);
    this.body = make("tbody", "", { role: "rowgroup" });
    this.table.append(this.body);
    this.viewport.append(this.table);
    const { node, progress, chart, graph, printed, answer, notes } = this.head;
    this.root.append(node, progress, chart.node, graph.node, this.viewport, printed, answer, notes);
    this.placeholder = makeFiller("nothing");
    this.scroller = new RowScroller(this.viewport, this.body, this);
    this.keys = new Keys(this);
    this.root.addEventListener("keydown", (event) => this.keys.onKey(event));
    this.body.addEventListener("click", (event) => this.onClick(event));
  }

  /** @param callback called with the full name of a service that is chosen in the call graph */
  set onPick(callback) {
    this.head.graph.onPick = callback;
  }

  dispose() {
    clearInterval(this.timer);
    this.scroller.dispose();
  }

  /** Put the table into an element, with its last scroll position. */
  attach(element) {
    this.scroller.attach(this.root, element);
  }

  /**
   * Show the last state of a kernel that is gone.
   *
   * @param badge [text, tone]; null once there is a kernel again
   */
  setLost(badge) {
    this.head.lost = badge;
    this.root.classList.toggle("lost", badge !== null);
    this.actions.setLost(badge !== null);
    this.rows.stopClock(badge !== null);
    this.scroller.schedule();
  }

  // -- painting

  /** Repaint after a message of the kernel. */
  updated() {
    this.updates = [...this.updates.slice(-4), performance.now()];
    this.changed();
  }

  /** Repaint after any other change. */
  changed() {
    this.ids = null;
    this.scroller.schedule();
  }

  /** Update ages, once a second. */
  tick() {
    if (this.rows.columns.some(({ kind }) => kind === "age")) this.scroller.schedule();
    // New rows of a log are announced to screen readers, unless they arrive too fast.
    const fast = this.updates.length === 5 && performance.now() - this.updates[0] < 5000;
    setAttribute(this.viewport, "aria-live", this.rows.follow && !fast ? "polite" : "off");
  }

  paint() {
    this.paintShape();
    this.ids ??= this.rows.list(this.words, this.sort);
    const { ids, sort, rowHeight } = this;
    this.head.paint(this.rows.head, ids.length, this.rows.ids.length);
    this.root.classList.toggle("head-only", !this.rows.columns.length && !this.rows.head.empty);
    this.heading.paintSort(sort);
    this.scroller.update(ids, {
      rowHeight,
      header: this.heading.height,
      open: new Map([...this.open].filter(([id]) => this.isOpen(id))),
      anchored: !sort,
      follow: this.rows.follow && !sort,
    });
    if (!ids.length) {
      setQuoted(this.placeholder.firstChild, this.words.length ? "No row matches the filter." : this.rows.head.empty);
      this.body.append(this.placeholder);
    }
    setAttribute(this.table, "aria-rowcount", String(ids.length + 1));
    for (const node of [this.table, this.viewport]) setAttribute(node, "aria-label", this.rows.head.title);
    this.measure();
  }

  paintShape() {
    const { columns, follow } = this.rows;
    const width = this.root.clientWidth; // 0 while it is hidden
    const narrow = width ? width < NARROW && columns.some(({ line }) => line === 2) : this.narrow;
    if (this.shape === this.rows.shape && narrow === this.narrow) return;
    this.shape = this.rows.shape;
    this.narrow = narrow;
    this.root.classList.toggle("narrow", narrow);
    if (this.heading.paint(this.rows)) {
      this.scroller.nodes.clear(); // the columns have changed
      this.sort = null;
    }
    for (const row of [...this.scroller.gaps, this.placeholder]) row.firstChild.colSpan = columns.length || 1;
    this.viewport.setAttribute("role", follow ? "log" : "region");
  }

  get rowHeight() {
    return this.narrow ? ROW_HEIGHTS.narrow : ROW_HEIGHTS.wide;
  }

  paintRow(parts, index) {
    const row = this.rows.byId.get(this.ids[index]);
    setAttribute(parts.row, "aria-rowindex", String(index + 2));
    if (row.id === this.scroller.current) setAttribute(parts.row, "aria-current", "true");
    else parts.row.removeAttribute("aria-current");
    parts.open = this.isOpen(row.id);
    parts.expander.hidden = !this.rows.details;
    parts.expander.style.visibility = row.detail ? "" : "hidden";
    setAttribute(parts.expander, "aria-expanded", String(parts.open));
    if (this.narrow) setAttribute(parts.row, "aria-expanded", String(parts.open));
    else parts.row.removeAttribute("aria-expanded");
    if (parts.open) parts.detail.paint(row.detail, this.narrow ? this.truncatedCells(row) : []);
    if (this.tools) fill(parts.tools, this.tools(row), makeRowTool, paintRowTool);
    parts.values.forEach((node, i) => this.paintCell(node, row.cells[i], this.rows.text(row, i)));
    return parts.open;
  }

  /** Labels and texts of the cells that a narrow row hides or may truncate. */
  truncatedCells(row) {
    return this.rows.columns.flatMap(({ label, line }, i) => {
      const text = this.rows.text(row, i);
      return text && (line === 0 || text.length > SHORT) ? [[label, text]] : [];
    });
  }

  paintCell(node, cell, text) {
    const { parentNode } = node;
    parentNode.toggleAttribute("data-zero", cell === 0 || cell === null || cell === "");
    setAttribute(parentNode, "data-unit", unitOf(parentNode.dataset.label, cell));
    const paint = { spark: paintSpark, bar: paintBar }[parentNode.className];
    if (paint) {
      paint(node, cell, text);
      if (parentNode.title !== text) parentNode.title = text;
      return;
    }
    if (Array.isArray(cell)) paintBadge(node, cell);
    else if (node.dataset.tone) {
      node.className = "";
      delete node.dataset.tone;
    }
    if (node.textContent === text && node.parentNode.title === text) return;
    setText(node, text);
    node.parentNode.title = text;
  }

  makeRow() {
    const { columns } = this.rows;
    const row = make("tr", "row", { role: "row" });
    const expander = make("button", "expander", { type: "button", tabindex: "-1", "aria-label": "Details" });
    const values = columns.map(({ kind, label, line }, index) => {
      const cell = make("td", kind, { role: "cell", "aria-colindex": String(index + 1) });
      Object.assign(cell.dataset, { label, line: line ?? 1 });
      const value = make("span");
      cell.append(...(index === 0 ? [expander] : []), value);
      row.append(cell);
      return value;
    });
    const tools = make("td", "row-tools", { role: "cell" });
    if (this.tools) row.append(tools);
    const detail = new DetailView(columns.length, this.actions);
    this.scroller.observer.observe(detail.node); // its height depends on its content
    return { row, below: detail.node, values, expander, tools, detail, open: false };
  }

  makeGap() {
    const gap = makeFiller("gap");
    gap.setAttribute("aria-hidden", "true");
    return gap;
  }

  isOpen(id) {
    const row = this.open.has(id) && this.rows.byId.get(id);
    return Boolean(row && (this.narrow || row.detail));
  }

  /** Measure the heights of the details in the document. */
  measure() {
    for (const [id, { open, detail }] of this.scroller.nodes) {
      if (open) detail.scrollToEnd();
      const { offsetHeight } = detail.node;
      if (!open || !offsetHeight || offsetHeight === this.open.get(id)) continue;
      this.open.set(id, offsetHeight);
      this.scroller.schedule();
      if (id !== this.revealed) continue;
      this.revealed = null;
      this.scroller.reveal(id, offsetHeight);
    }
  }

  // -- user actions

  sortBy(index) {
    if (this.sort?.index !== index) this.sort = { index, descending: false };
    else this.sort = this.sort.descending ? null : { index, descending: true };
    this.viewport.scrollTop = 0;
    this.changed();
  }

  setFilter(words) {
    this.words = words;
    this.viewport.scrollTop = 0;
    this.changed();
  }

  onClick(event) {
    const row = event.target.closest("tr.row");
    const opens = event.target.closest(".expander") || (this.narrow && !event.target.closest(".row-tools"));
    if (!row || !opens) return;
    const id = this.scroller.idOf(row);
    this.toggle(id);
    this.scroller.focusRow(id);
  }

  toggle(id, open = !this.open.has(id)) {
    if (!open) this.open.delete(id);
    else if (!this.open.has(id)) {
      this.open.set(id, this.rowHeight);
      this.revealed = this.narrow ? id : null;
      this.send({ type: "open", row: id });
    }
    this.scroller.schedule();
  }
}

function makeFiller(className) {
  const row = make("tr", className);
  row.append(make("td"));
  return row;
}

function makeRowTool() {
  const button = make("button", "row-tool", { type: "button", tabindex: "-1" });
  button.addEventListener("click", () => button.run());
  return button;
}

function paintRowTool(button, { label, icon, run }) {
  button.run = run;
  if (button.title === label) return;
  button.title = label;
  setAttribute(button, "aria-label", label);
  button.replaceChildren(icon());
}
