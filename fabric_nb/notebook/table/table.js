// The live table: only the rows in sight are in the document, and they stay the same nodes while
// their cells change.

import { arrange, fill, make, setAttribute, setText } from "../live/dom.js";
import { Actions } from "./actions.js";
import { paintBadge } from "./cells.js";
import { DetailView } from "./detail.js";
import { HeadView } from "./head.js";
import { HeadingView } from "./heading.js";
import { Keys } from "./keys.js";

const HEIGHT = 368; // the height of the table in pixels; table.css has the same
const ROW_HEIGHTS = { wide: 26, narrow: 44 }; // in pixels; table.css has the same
const NARROW = 480; // pixels below which a row takes two lines, if its columns say which
const SHORT = 20; // characters that a narrow row does not cut
const OVERSCAN = 6; // rows in the document beyond those in sight, on each side

export class TableView {
  /**
   * @param rows what is shown; call `changed` after each change of them
   * @param send takes a message to the kernel
   * @param tools the buttons at the end of a row, each {label, icon, run}; icon is an SVG element
   */
  constructor(rows, send, tools = null) {
    this.rows = rows;
    this.tools = tools;
    this.width = Infinity; // of the table in pixels, once it has one
    this.narrow = false;
    this.send = send;
    this.actions = new Actions(send);
    this.head = new HeadView(this.actions, (words) => this.setFilter(words));
    this.sort = null; // {index, descending}
    this.words = [];
    this.ids = null; // of the rows to show, in order; null when that is to be found anew
    this.current = null; // the id of the row that the keyboard is on
    this.open = new Map(); // id -> height of its detail
    this.opened = []; // {index, height} of those that are to be shown, in order
    this.nodes = new Map(); // id -> the nodes of a row in the document
    this.stuck = true; // a table that follows is at its end
    this.y = 0;
    this.shape = -1;
    this.updates = []; // when the last ones came
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
    this.table = make("table", "", { role: "table" }); // as its parts may be laid out otherwise
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
    this.nothing = filler("nothing");
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

  /** Put the table into an element, where it is seen as it was seen last. */
  attach(element) {
    element.append(this.root);
    this.scroller.scrollTop = this.y;
    this.schedule();
  }

  /** The kernel is gone: what is shown stays as it was, and says so. */
  lose(badge) {
    this.head.lost = badge;
    this.root.classList.toggle("lost", badge !== null);
    this.actions.lose(badge !== null);
    this.rows.stop(badge !== null);
    this.schedule();
  }

  // -- painting

  /** The rows are others, as the kernel says. */
  updated() {
    this.updates = [...this.updates.slice(-4), performance.now()];
    this.changed();
  }

  /** The rows or what stands around them are others. */
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

  /** Once a second: ages count up. */
  tick() {
    if (this.rows.columns.some(({ kind }) => kind === "age")) this.schedule();
    // A log is read out as it grows, unless that is faster than anyone could listen.
    const fast = this.updates.length === 5 && performance.now() - this.updates[0] < 5000;
    setAttribute(this.scroller, "aria-live", this.rows.follow && !fast ? "polite" : "off");
  }

  paint() {
    this.frame = null;
    if (!this.root.isConnected) return; // the observer tells when it is again
    this.paintShape();
    const moved = this.ids === null;
    this.ids ??= this.rows.list(this.words, this.sort);
    this.opened = this.ids.flatMap((id, index) => this.isOpen(id) ? [{ index, height: this.open.get(id) }] : []);
    this.head.paint(this.rows.head, this.ids.length, this.rows.ids.length);
    this.heading.paintSort(this.sort);
    const room = Math.max(this.rowHeight, (this.scroller.clientHeight || HEIGHT) - this.heading.height);
    const total = this.top(this.ids.length);
    let y = this.scroller.scrollTop;
    if (this.rows.follow && this.stuck && !this.sort) y = Math.max(0, total - room);
    else if (moved) y = this.anchored(y);
    this.paintRows(this.indices(y, room), total);
    if (Math.abs(this.scroller.scrollTop - y) >= 1) this.scroller.scrollTop = y;
    this.y = this.scroller.scrollTop;
    const first = this.at(this.y);
    this.anchor = { id: this.ids[first], offset: this.y - this.top(first) };
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
      this.nodes.clear(); // other columns than before
      this.sort = null;
    }
    for (const row of [...this.gaps, this.nothing]) row.firstChild.colSpan = columns.length || 1;
    this.scroller.setAttribute("role", follow ? "log" : "region");
  }

  /** Which rows to have in the document; among them the one that has the focus, or it would lose it. */
  indices(y, room) {
    const first = Math.max(0, this.at(y) - OVERSCAN);
    const last = Math.min(this.ids.length - 1, this.at(y + room) + OVERSCAN);
    const indices = [];
    for (let index = first; index <= last; index += 1) indices.push(index);
    if (this.body.contains(this.focused)) {
      const pinned = this.ids.indexOf(this.current);
      if (pinned > last) indices.push(pinned);
      else if (pinned >= 0 && pinned < first) indices.unshift(pinned);
    }
    return indices;
  }

  get rowHeight() {
    return this.narrow ? ROW_HEIGHTS.narrow : ROW_HEIGHTS.wide;
  }

  get focused() {
    return this.root.getRootNode().activeElement;
  }

  paintRows(indices, total) {
    const wanted = [];
    const nodes = new Map();
    const gaps = [...this.gaps];
    let y = 0;
    const leave = (height) => {
      if (height <= 0) return;
      const gap = gaps.shift();
      gap.style.height = `${height}px`;
      wanted.push(gap);
    };
    for (const index of indices) {
      const parts = this.paintRow(this.rows.byId.get(this.ids[index]), index);
      nodes.set(this.ids[index], parts);
      leave(this.top(index) - y);
      wanted.push(parts.row);
      if (parts.open) wanted.push(parts.detail.node);
      y = this.top(index + 1);
    }
    leave(total - y);
    if (!this.ids.length) {
      setText(this.nothing.firstChild, this.words.length ? "No row matches the filter." : this.rows.head.empty);
      wanted.push(this.nothing);
    }
    // What was written into a form stays while its row is out of sight.
    for (const [id, parts] of this.nodes) if (this.isOpen(id) && !nodes.has(id)) nodes.set(id, parts);
    this.nodes = nodes;
    const { focused } = this;
    const within = this.body.contains(focused);
    arrange(this.body, wanted);
    // A node that is moved loses the focus.
    if (within && focused.isConnected && this.focused !== focused) focused.focus({ preventScroll: true });
    setAttribute(this.table, "aria-rowcount", String(this.ids.length + 1));
    setAttribute(this.table, "aria-label", this.rows.head.title);
    setAttribute(this.scroller, "aria-label", this.rows.head.title);
    // One row can be reached with the Tab key.
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
    if (parts.open) parts.detail.paint(row.detail, this.narrow ? this.hidden(row) : []);
    if (this.tools) fill(parts.tools, this.tools(row), makeRowTool, paintRowTool);
    parts.values.forEach((node, i) => this.paintCell(node, row.cells[i], this.rows.text(row, i)));
    return parts;
  }

  /** The cells that a narrow row leaves out or may cut, by their labels. */
  hidden(row) {
    return this.rows.columns.flatMap(({ label, line }, i) => {
      const text = this.rows.text(row, i);
      return text && (line === 0 || text.length > SHORT) ? [[label, text]] : [];
    });
  }

  paintCell(node, cell, text) {
    node.parentNode.toggleAttribute("data-zero", cell === 0 || cell === null || cell === "");
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
      // A narrow row has no headings: a number is followed by the last word of its own.
      Object.assign(cell.dataset, { label, line: line ?? 1, unit: label.split(" ").at(-1) });
      const value = make("span");
      cell.append(...(index === 0 ? [expander] : []), value);
      row.append(cell);
      return value;
    });
    const tools = make("td", "row-tools", { role: "cell" });
    if (this.tools) row.append(tools);
    const detail = new DetailView(id, columns.length, this.actions);
    this.observer?.observe(detail.node); // it grows with what is in it
    row.dataset.id = id;
    return { row, values, expander, tools, detail, open: false };
  }

  // -- where rows are

  isOpen(id) {
    const row = this.open.has(id) && this.rows.byId.get(id);
    return Boolean(row && (this.narrow || row.detail));
  }

  /** Pixels from the first row to this one. */
  top(index) {
    let y = index * this.rowHeight;
    for (const one of this.opened) if (one.index < index) y += one.height;
    return y;
  }

  /** The index of the row that is so many pixels below the first. */
  at(y) {
    let extra = 0;
    for (const { index, height } of this.opened) {
      const end = (index + 1) * this.rowHeight + extra;
      if (y < end) break;
      if (y < end + height) return index;
      extra += height;
    }
    return Math.max(0, Math.floor((y - extra) / this.rowHeight));
  }

  /** What is in sight stays there when rows come or go above it, unless the user has just scrolled. */
  anchored(y) {
    if (y <= 0 || this.sort || Math.abs(y - this.y) > 1) return y;
    const index = this.ids.indexOf(this.anchor?.id);
    return index < 0 ? y : this.top(index) + this.anchor.offset;
  }

  /** Learn how high details are, now that they are in the document. */
  measure() {
    for (const [id, { open, detail }] of this.nodes) {
      if (open) detail.settle();
      const { offsetHeight } = detail.node;
      if (!open || !offsetHeight || offsetHeight === this.open.get(id)) continue;
      this.open.set(id, offsetHeight);
      this.schedule();
      if (id === this.revealed) this.reveal(id, offsetHeight);
    }
  }

  /** Bring what has opened under a row in sight, and the row before that. */
  reveal(id, height) {
    this.revealed = null;
    const top = this.top(this.ids.indexOf(id));
    const room = this.scroller.clientHeight - this.heading.height;
    const y = Math.min(top, top + this.rowHeight + height - room);
    if (y > this.scroller.scrollTop) this.scroller.scrollTop = y;
  }

  // -- what the user does

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
    if (byUser) this.stuck = scrollTop + clientHeight >= scrollHeight - this.rowHeight;
    this.schedule();
  }

  onClick(event) {
    const row = event.target.closest("tr.row");
    const opens = event.target.closest(".expander") || (this.narrow && !event.target.closest(".row-tools"));
    if (!row || !opens) return;
    const id = Number(row.dataset.id);
    this.toggle(id);
    this.goTo(id);
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

  /** Bring a row in sight and give it the focus. */
  goTo(id) {
    const index = this.ids?.indexOf(id) ?? -1;
    if (index < 0) return;
    const room = this.scroller.clientHeight - this.heading.height;
    const y = this.top(index);
    if (y < this.scroller.scrollTop) this.scroller.scrollTop = y;
    else if (y + this.rowHeight > this.scroller.scrollTop + room) this.scroller.scrollTop = y + this.rowHeight - room;
    this.current = id;
    this.stuck = index === this.ids.length - 1;
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
