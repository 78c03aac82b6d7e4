// The live table. The nodes of its rows are reused while their cells change.

import { fill, make, setAttribute, setQuoted, setText } from "../live/dom.js";
import { Actions } from "./actions.js";
import { grouped, paintBadge, paintBar, paintSpark } from "./cells.js";
import { ColumnsPanel } from "./columns.js";
import { DetailView } from "./detail.js";
import { ExportPanel } from "./exports.js";
import { HeadView } from "./head.js";
import { HeadingView } from "./heading.js";
import { Keys } from "./keys.js";
import { Pager } from "./paging.js";
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
    this.pager = new Pager(rows, send, () => this.changed());
    this.pager.isAtEnd = () => this.scroller.atEnd;
    this.columns = new ColumnsPanel(this.pager, (chosen, control, undo) => this.chooseColumns(chosen, control, undo));
    this.exports = new ExportPanel(this.pager, this.actions, (text, error) => this.head.showAnswer(text, error));
    this.head = new HeadView(this.actions, (text) => this.setFilter(text), [this.columns, this.exports]);
    this.lost = false;
    this.sort = null; // {index, descending}
    this.filter = "";
    this.ids = null; // ids of the rows to show, in order; null if it must be computed
    this.details = new Map(); // id -> values of an open row of a paged table
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
    const { node, panels, progress, chart, graph, printed, answer, notes } = this.head;
    this.root.append(node, panels, progress, chart.node, graph.node, this.viewport, printed, answer, notes);
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
    this.pager.dispose();
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
    this.lost = badge !== null;
    this.pager.forget();
    this.root.classList.toggle("lost", badge !== null);
    this.actions.setLost(badge !== null);
    this.rows.stopClock(badge !== null);
    this.changed();
  }

  /** Whether the kernel has further rows, and selects them. */
  get paged() {
    return this.rows.held !== null && !this.lost;
  }

  /** Apply a page of rows. */
  onPage(answer) {
    if (!this.pager.onPage(answer)) return;
    // A row that was not known so far keeps its node, and with it the focus.
    const ids = this.pager.list();
    this.scroller.rename((id) => (id < 0 ? (ids.at(-1 - id) ?? id) : id));
    this.changed();
  }

  /** Apply the values of an open row. */
  onDetail(id, detail) {
    if (!this.open.has(id)) return;
    this.details.set(id, detail);
    this.scroller.schedule();
  }

  // -- painting

  /** Repaint after a message of the kernel. */
  updated() {
    this.updates = [...this.updates.slice(-4), performance.now()];
    this.pager.refresh();
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
    this.ids ??= this.paged ? this.pager.list() : this.rows.list(this.words, this.sort);
    const { ids, sort, rowHeight } = this;
    this.head.paint(this.shownHead, this.countText);
    this.paintOwnTools();
    this.root.classList.toggle("head-only", !this.rows.columns.length && !this.rows.head.empty);
    const filters = this.paged ? [...this.pager.filters.values()] : [];
    this.heading.paintSort(sort, new Map(filters.map(({ label, text }) => [label, text])));
    this.scroller.update(ids, {
      rowHeight,
      header: this.heading.height,
      open: new Map([...this.open].filter(([id]) => this.isOpen(id))),
      anchored: !sort,
      follow: this.rows.follow && !sort,
    });
    if (!ids.length) {
      const filtered = this.words.length || filters.length;
      setQuoted(this.placeholder.firstChild, filtered ? "No row matches the filter." : this.rows.head.empty);
      this.body.append(this.placeholder);
    }
    setAttribute(this.table, "aria-rowcount", String(ids.length + 1));
    for (const node of [this.table, this.viewport]) setAttribute(node, "aria-label", this.rows.head.title);
    this.measure();
    if (this.paged) this.pager.want(...this.scroller.range);
  }

  /** Words of the filter, in lower case. */
  get words() {
    return this.filter.toLowerCase().split(/\s+/).filter(Boolean);
  }

  /** Content around the rows, with a note on those that are not listed, as without a kernel. */
  get shownHead() {
    const { head, held, ids } = this.rows;
    const more = held ? (this.lost ? held[1] - ids.length : this.pager.unlisted) : 0;
    if (more <= 0) return head;
    const which = this.sort && !this.lost ? "more" : "older";
    return { ...head, notes: [`… and ${grouped(more)} ${which} ${more === 1 ? "row" : "rows"}, not shown.`, ...head.notes] };
  }

  get countText() {
    if (this.paged && this.pager.state) return this.pager.state;
    const [matching, all] = this.paged ? this.pager.counts : [this.ids.length, this.rows.ids.length];
    const filtered = this.words.length || (this.paged && this.pager.filters.size);
    return `${filtered ? `${grouped(matching)} of ` : ""}${grouped(all)} ${all === 1 ? "row" : "rows"}`;
  }

  /** Paint the tools of a paged table. */
  paintOwnTools() {
    const { own, panels } = this.head;
    own.hidden = panels.hidden = !this.paged || !this.rows.choices.length;
    if (own.hidden) return;
    this.columns.paint(this.rows.choices);
    const { error } = this.pager;
    if (error || this.shownError) this.head.showAnswer(error, true);
    this.shownError = error;
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
      this.keepSort();
    }
    for (const row of [...this.scroller.gaps, this.placeholder]) row.firstChild.colSpan = columns.length || 1;
    this.viewport.setAttribute("role", follow ? "log" : "region");
  }

  get rowHeight() {
    return this.narrow ? ROW_HEIGHTS.narrow : ROW_HEIGHTS.wide;
  }

  paintRow(parts, index) {
    const row = this.rowOf(this.ids.at(index));
    setAttribute(parts.row, "aria-rowindex", String(index + 2));
    if (row.id === this.scroller.current) setAttribute(parts.row, "aria-current", "true");
    else parts.row.removeAttribute("aria-current");
    parts.open = this.isOpen(row.id);
    parts.expander.hidden = !this.rows.details;
    parts.expander.style.visibility = this.opens(row) ? "" : "hidden";
    parts.row.classList.toggle("opens", this.opens(row));
    setAttribute(parts.expander, "aria-expanded", String(parts.open));
    if (this.narrow) setAttribute(parts.row, "aria-expanded", String(parts.open));
    else parts.row.removeAttribute("aria-expanded");
    if (parts.open) parts.detail.paint(this.detailOf(row), this.narrow ? this.truncatedCells(row) : []);
    if (this.tools) fill(parts.tools, this.tools(row), makeRowTool, paintRowTool);
    parts.values.forEach((node, i) => this.paintCell(node, row.cells[i], this.rows.text(row, i)));
    return parts.open;
  }

  /** A row; without cells while it is not known. */
  rowOf(id) {
    return this.pager.get(id) ?? this.rows.byId.get(id) ?? { id, cells: this.rows.columns.map(() => null), detail: "" };
  }

  /** Whether a row opens. */
  opens({ id, detail }) {
    if (this.rows.held === null) return Boolean(detail);
    return this.lost ? this.details.has(id) : this.pager.has(id);
  }

  detailOf(row) {
    return this.rows.held === null ? row.detail : (this.details.get(row.id) ?? "…");
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
    if (!this.open.has(id)) return false;
    const known = this.rows.byId.has(id) || this.pager.has(id) || this.details.has(id);
    return known && (this.narrow || this.opens(this.rowOf(id)) || this.details.has(id));
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
    const label = this.rows.columns[index].label;
    if (this.sort?.index !== index) this.sort = { index, label, descending: false };
    else this.sort = this.sort.descending ? null : { index, label, descending: true };
    this.scrollToStart();
    if (this.paged) this.selectSorted();
    else this.changed();
  }

  /** Scroll to the first row, or to the newest one if that is at the end. */
  scrollToStart() {
    if (this.rows.follow && !this.sort) this.scroller.atEnd = true;
    else this.viewport.scrollTop = 0;
  }

  /** Let the kernel sort. */
  selectSorted() {
    const shown = this.rows.choices.flatMap(([label, , isShown], index) => (isShown ? [[index, label]] : []));
    this.pager.setSort(this.sort ? shown[this.sort.index] : null, this.sort?.descending ?? false);
  }

  /** Keep the order after the columns have changed, if its column is still there. */
  keepSort() {
    const index = this.rows.columns.findIndex(({ label }) => label === this.sort?.label);
    this.sort = index < 0 ? null : { ...this.sort, index };
    if (this.paged && this.pager.sort) this.selectSorted();
  }

  setFilter(text) {
    this.filter = text;
    this.scrollToStart();
    if (this.paged) this.pager.setWords(text);
    else this.changed();
  }

  chooseColumns(chosen, control, undo) {
    this.actions.request("columns", chosen, control, this.head.showAnswer, undo);
  }

  onClick(event) {
    const { target, detail } = event;
    const row = target.closest("tr.row");
    if (!row || target.closest("a, button:not(.expander), .row-tools")) return;
    const id = this.scroller.idOf(row);
    if (!(this.narrow || this.opens(this.rowOf(id)))) return;
    // A second click selects a word, and dragging selects a text.
    if (!target.closest(".expander") && (detail > 1 || selects(row))) return;
    this.toggle(id);
    this.scroller.focusRow(id);
  }

  toggle(id, open = !this.open.has(id)) {
    if (!open) {
      this.open.delete(id);
      this.details.delete(id);
    } else if (!this.open.has(id) && (this.narrow || this.opens(this.rowOf(id)))) {
      this.open.set(id, this.rowHeight);
      this.revealed = this.narrow ? id : null;
      this.send({ type: "open", row: id });
    }
    this.scroller.schedule();
  }
}

/** Whether text of a row is selected. */
function selects(row) {
  const selection = row.ownerDocument.getSelection();
  return selection !== null && !selection.isCollapsed && selection.containsNode(row, true);
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
