// The live table. Only visible rows are in the document, and their nodes are reused while their
// cells change.

import { arrange, fill, make, setAttribute, setQuoted, setText } from "../live/dom.js";
import { Actions } from "./actions.js";
import { paintBadge } from "./cells.js";
import { DetailView } from "./detail.js";
import { HeadView } from "./head.js";
import { HeadingView } from "./heading.js";
import { Keys } from "./keys.js";
import { VirtualList } from "./virtual.js";

const HEIGHT = 368; // the height of the table in pixels; table.css has the same
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
    this.width = Infinity; // width of the table in pixels, once it is known
    this.narrow = false;
    this.send = send;
    this.actions = new Actions(send);
    this.head = new HeadView(this.actions, (words) => this.setFilter(words));
    this.sort = null; // {index, descending}
    this.words = [];
    this.ids = null; // ids of the rows to show, in order; null if it must be computed
    this.current = null; // id of the row with the keyboard focus
    this.open = new Map(); // id -> height of its detail
    this.list = new VirtualList(0, ROW_HEIGHTS.wide); // positions of the rows that are shown
    this.nodes = new Map(); // id -> nodes of a row in the document
    this.atEnd = true; // whether a table that follows new rows is scrolled to its end
    this.y = 0;
    this.shape = -1;
    this.updates = []; // times of the last updates
    this.build(tools !== null);
    this.timer = setInterval(() => this.tick(), 1000);
    this.observer = new ResizeObserver((entries) => this.onResize(entries));
    this.observer.observe(this.root);
    this.observer.observe(this.scroller);
    this.changed();
  }

  build(tools) {
    this.root = make("section", "fabric-table");
    this.scroller = make("div", "scroller");
    this.table = make("table", "", { role: "table" }); // explicit, because CSS changes its display
    this.heading = new HeadingView(this.table, (index) => this.sortBy(index), tools);
    this.body = make("tbody", "", { role: "rowgroup" });
    this.table.append(this.body);
    this.scroller.append(this.table);
    const { node, chart, printed, answer, notes } = this.head;
    this.root.append(node, chart.node, this.scroller, printed, answer, notes);
    const filler = (className, attributes) => {
      const row = make("tr", className, attributes);
      row.append(make("td"));
      return row;
    };
    this.gaps = [0, 1, 2].map(() => filler("gap", { "aria-hidden": "true" }));
    this.placeholder = filler("nothing");
    this.scroller.addEventListener("scroll", () => this.onScroll(), { passive: true });
    this.keys = new Keys(this);
    this.root.addEventListener("keydown", (event) => this.keys.onKey(event));
    this.body.addEventListener("click", (event) => this.onClick(event));
    this.body.addEventListener("focusin", (event) => this.onFocus(event));
  }

  dispose() {
    clearInterval(this.timer);
    this.observer.disconnect();
    cancelAnimationFrame(this.frame);
  }

  /** Put the table into an element, with its last scroll position. */
  attach(element) {
    element.append(this.root);
    this.scroller.scrollTop = this.y;
    this.schedule();
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
    this.schedule();
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
    this.schedule();
  }

  schedule() {
    this.frame ??= requestAnimationFrame(() => this.paint());
  }

  onResize(entries) {
    for (const { target, contentRect } of entries) {
      if (target === this.root && contentRect.width) this.width = contentRect.width;
    }
    this.schedule();
  }

  /** Update ages, once a second. */
  tick() {
    if (this.rows.columns.some(({ kind }) => kind === "age")) this.schedule();
    // New rows of a log are announced to screen readers, unless they arrive too fast.
    const fast = this.updates.length === 5 && performance.now() - this.updates[0] < 5000;
    setAttribute(this.scroller, "aria-live", this.rows.follow && !fast ? "polite" : "off");
  }

  paint() {
    this.frame = null;
    if (!this.root.isConnected) return; // the observer will schedule it again
    this.paintShape();
    const moved = this.ids === null;
    this.ids ??= this.rows.list(this.words, this.sort);
    const details = this.ids.flatMap((id, index) => this.isOpen(id) ? [{ index, height: this.open.get(id) }] : []);
    this.list = new VirtualList(this.ids.length, this.rowHeight, details);
    this.head.paint(this.rows.head, this.ids.length, this.rows.ids.length);
    this.heading.paintSort(this.sort);
    const { visible, list } = this;
    const total = list.height;
    let y = this.scroller.scrollTop;
    if (this.rows.follow && this.atEnd && !this.sort) y = this.endPosition(total, visible);
    else if (moved) y = this.anchored(y);
    // The focused row would lose the focus if it left the document.
    const pinned = this.body.contains(this.focused) ? this.ids.indexOf(this.current) : -1;
    this.paintRows(list.indices(y, visible, pinned), y > 0 ? Math.max(total, y + visible) : total);
    if (Math.abs(this.scroller.scrollTop - y) >= 1) this.scroller.scrollTop = y;
    this.y = this.scroller.scrollTop;
    const first = list.indexAt(this.y);
    this.anchor = { id: this.ids[first], offset: this.y - list.topOf(first) };
    this.measure();
  }

  paintShape() {
    const { columns, follow } = this.rows;
    const narrow = this.width < NARROW && columns.some(({ line }) => line === 2);
    if (this.shape === this.rows.shape && narrow === this.narrow) return;
    this.shape = this.rows.shape;
    this.narrow = narrow;
    this.root.classList.toggle("narrow", narrow);
    if (this.heading.paint(this.rows)) {
      this.nodes.clear(); // the columns have changed
      this.sort = null;
    }
    for (const row of [...this.gaps, this.placeholder]) row.firstChild.colSpan = columns.length || 1;
    this.scroller.setAttribute("role", follow ? "log" : "region");
  }

  get rowHeight() {
    return this.narrow ? ROW_HEIGHTS.narrow : ROW_HEIGHTS.wide;
  }

  /** Height of the visible rows in pixels. */
  get visible() {
    return Math.max(this.rowHeight, (this.scroller.clientHeight || HEIGHT) - this.heading.height);
  }

  get focused() {
    return this.root.getRootNode().activeElement;
  }

  paintRows(indices, total) {
    const wanted = [];
    const nodes = new Map();
    const gaps = [...this.gaps];
    let y = 0;
    const addGap = (height) => {
      if (height <= 0) return;
      const gap = gaps.shift();
      gap.style.height = `${height}px`;
      wanted.push(gap);
    };
    for (const index of indices) {
      const parts = this.paintRow(this.rows.byId.get(this.ids[index]), index);
      nodes.set(this.ids[index], parts);
      addGap(this.list.topOf(index) - y);
      wanted.push(parts.row);
      if (parts.open) wanted.push(parts.detail.node);
      y = this.list.topOf(index + 1);
    }
    addGap(total - y);
    if (!this.ids.length) {
      setQuoted(this.placeholder.firstChild, this.words.length ? "No row matches the filter." : this.rows.head.empty);
      wanted.push(this.placeholder);
    }
    // Nodes of open rows are kept while they are not visible, with the texts entered into forms.
    for (const [id, parts] of this.nodes) if (this.isOpen(id) && !nodes.has(id)) nodes.set(id, parts);
    this.nodes = nodes;
    const { focused } = this;
    const hadFocus = this.body.contains(focused);
    arrange(this.body, wanted);
    // Moving a node removes the focus from it.
    if (hadFocus && focused.isConnected && this.focused !== focused) focused.focus({ preventScroll: true });
    setAttribute(this.table, "aria-rowcount", String(this.ids.length + 1));
    setAttribute(this.table, "aria-label", this.rows.head.title);
    setAttribute(this.scroller, "aria-label", this.rows.head.title);
    // The Tab key reaches one row.
    const reachable = nodes.get(this.current) ?? nodes.values().next().value;
    reachable?.row.setAttribute("tabindex", "0");
  }

  paintRow(row, index) {
    const parts = this.nodes.get(row.id) ?? this.makeRow(row.id);
    setAttribute(parts.row, "aria-rowindex", String(index + 2));
    setAttribute(parts.row, "tabindex", "-1");
    if (row.id === this.current) setAttribute(parts.row, "aria-current", "true");
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
    return parts;
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
    if (Array.isArray(cell)) paintBadge(node, cell);
    else if (node.dataset.tone) {
      node.className = "";
      delete node.dataset.tone;
    }
    if (node.textContent === text && node.parentNode.title === text) return;
    setText(node, text);
    node.parentNode.title = text;
  }

  makeRow(id) {
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
    const detail = new DetailView(id, columns.length, this.actions);
    this.observer?.observe(detail.node); // its height depends on its content
    row.dataset.id = id;
    return { row, values, expander, tools, detail, open: false };
  }

  // -- positions

  isOpen(id) {
    const row = this.open.has(id) && this.rows.byId.get(id);
    return Boolean(row && (this.narrow || row.detail));
  }

  /** Scroll position of the end at which the first visible row is not cut off, unless it is open. */
  endPosition(total, visible) {
    const end = Math.max(0, total - visible);
    const first = this.list.indexAt(end);
    if (this.list.topOf(first) === end) return end;
    const next = this.list.topOf(first + 1);
    return next - end < this.rowHeight ? next : end;
  }

  /** Scroll position that keeps visible rows in place when rows above change, unless the user scrolls. */
  anchored(y) {
    if (y <= 0 || this.sort || Math.abs(y - this.y) > 1) return y;
    const index = this.ids.indexOf(this.anchor?.id);
    return index < 0 ? y : this.list.topOf(index) + this.anchor.offset;
  }

  /** Measure the heights of the details in the document. */
  measure() {
    for (const [id, { open, detail }] of this.nodes) {
      if (open) detail.scrollToEnd();
      const { offsetHeight } = detail.node;
      if (!open || !offsetHeight || offsetHeight === this.open.get(id)) continue;
      this.open.set(id, offsetHeight);
      this.schedule();
      if (id === this.revealed) this.reveal(id, offsetHeight);
    }
  }

  /** Scroll to a row and the detail that was opened. */
  reveal(id, height) {
    this.revealed = null;
    const top = this.list.topOf(this.ids.indexOf(id));
    const y = Math.min(top, top + this.rowHeight + height - this.visible);
    if (y > this.scroller.scrollTop) this.scroller.scrollTop = y;
  }

  // -- user actions

  sortBy(index) {
    if (this.sort?.index !== index) this.sort = { index, descending: false };
    else this.sort = this.sort.descending ? null : { index, descending: true };
    this.scroller.scrollTop = 0;
    this.changed();
  }

  setFilter(words) {
    this.words = words;
    this.scroller.scrollTop = 0;
    this.changed();
  }

  onScroll() {
    const { scrollTop, clientHeight, scrollHeight } = this.scroller;
    const byUser = Math.abs(scrollTop - this.y) > 1;
    if (byUser) this.atEnd = scrollTop + clientHeight >= scrollHeight - this.rowHeight;
    this.schedule();
  }

  onClick(event) {
    const row = event.target.closest("tr.row");
    const opens = event.target.closest(".expander") || (this.narrow && !event.target.closest(".row-tools"));
    if (!row || !opens) return;
    const id = Number(row.dataset.id);
    this.toggle(id);
    this.focusRow(id);
  }

  onFocus(event) {
    const id = Number(event.target.closest("tr").dataset.id);
    if (id === this.current) return;
    this.current = id;
    this.schedule();
  }

  toggle(id, open = !this.open.has(id)) {
    if (!open) this.open.delete(id);
    else if (!this.open.has(id)) {
      this.open.set(id, this.rowHeight);
      this.revealed = this.narrow ? id : null;
      this.send({ type: "open", row: id });
    }
    this.schedule();
  }

  /** Scroll to a row and focus it. */
  focusRow(id) {
    const index = this.ids?.indexOf(id) ?? -1;
    if (index < 0) return;
    this.scroller.scrollTop = this.list.positionShowing(index, this.scroller.scrollTop, this.visible);
    this.current = id;
    this.atEnd = index === this.ids.length - 1;
    cancelAnimationFrame(this.frame);
    this.paint();
    this.nodes.get(id)?.row.focus({ preventScroll: true });
  }
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
