// Scrolls the rows of a table or of the panel's tree. Only the visible rows, and a few above and
// below them, are in the document. The Tab key reaches one row, and keys move between rows.

import { arrange, setAttribute } from "../live/dom.js";

const OVERSCAN = 10; // rows in the document above and below the visible ones
const STEPS = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity };

export class RowScroller {
  /**
   * @param node element that scrolls
   * @param body element in it that contains the rows
   * @param view renders the rows:
   *   paint() calls `update`
   *   makeRow(id) returns the elements of a row, {row, below}; `below` is its detail, if it has any
   *   paintRow(nodes, index) updates them, and returns whether `below` is shown
   *   makeGap() returns an element in place of rows that are not in the document
   *   onCurrent(id), optional, is called when a row gets the focus
   */
  constructor(node, body, view) {
    this.node = node;
    this.body = body;
    this.view = view;
    this.ids = []; // ids of all rows, in order
    this.rowHeight = 0; // in pixels, without the element below
    this.header = 0; // height of a sticky header in pixels
    this.details = []; // {index, height} of each row with an element below it, in order
    this.nodes = new Map(); // id -> nodes of a row in the document
    this.gaps = [0, 1, 2].map(() => view.makeGap());
    this.current = null; // id of the row with the keyboard focus
    this.index = -1; // its index
    this.atEnd = true; // whether it is scrolled to its end, which new rows follow
    this.y = 0; // scroll position
    node.addEventListener("scroll", () => this.onScroll(), { passive: true });
    body.addEventListener("focusin", (event) => this.onFocus(event));
    this.shown = false; // whether it had a width in the last layout
    this.observer = new ResizeObserver((entries) => this.onResize(entries));
    this.observer.observe(node);
  }

  dispose() {
    this.observer.disconnect();
    cancelAnimationFrame(this.frame);
  }

  /** Append `root`, which contains the rows, to a parent; restore the scroll position. */
  attach(root, parent) {
    parent.append(root);
    this.node.scrollTop = this.y;
    this.schedule();
  }

  // -- rendering

  onResize(entries) {
    for (const { target, contentRect } of entries) if (target === this.node) this.shown = contentRect.width > 0;
    this.schedule();
  }

  /** Paint in the next frame. */
  schedule() {
    this.frame ??= requestAnimationFrame(() => this.paint());
  }

  /** Paint now. */
  paint() {
    cancelAnimationFrame(this.frame);
    this.frame = null;
    if (!this.node.isConnected) return; // `attach` will schedule it again
    // JupyterLab may hide an output and show it again within a frame, which triggers no observer.
    if (this.shown && !this.node.clientWidth) this.schedule();
    else this.view.paint();
  }

  /**
   * Render the visible rows.
   *
   * @param ids ids of all rows, in order: an array, or an object with `length`, `at` and `indexOf`
   * @param open id -> height of the element below a row, in pixels
   * @param anchored whether visible rows stay in place when rows above change
   * @param follow whether the end stays visible when rows are added, once it was scrolled to
   */
  update(ids, { rowHeight, header = 0, open = new Map(), anchored = true, follow = false }) {
    Object.assign(this, { ids, rowHeight, header });
    const details = [...open].map(([id, height]) => ({ index: ids.indexOf(id), height }));
    this.details = details.filter(({ index }) => index >= 0).sort((a, b) => a.index - b.index);
    const { focused, height, visible } = this;
    const hadFocus = this.body.contains(focused);
    const index = ids.indexOf(this.current);
    // A row that takes the place of the focused one gets the focus.
    if (index < 0 && hadFocus && ids.length) this.select(ids.at(Math.min(this.index, ids.length - 1)));
    this.index = index < 0 ? ids.indexOf(this.current) : index;
    let y = this.node.scrollTop;
    if (follow && this.atEnd) y = this.endPosition;
    else if (anchored) y = this.anchored(y);
    y = Math.min(y, this.endPosition); // beyond the end there is nothing, if rows were removed
    this.render(y > 0 ? Math.max(height, y + visible) : height, this.indices(y), open);
    // Moving a node removes the focus from it.
    const target = focused?.isConnected ? focused : this.nodes.get(this.current)?.row;
    if (hadFocus && this.focused !== target) target?.focus({ preventScroll: true });
    if (Math.abs(this.node.scrollTop - y) >= 1) this.node.scrollTop = y;
    this.y = this.node.scrollTop;
    const first = this.indexAt(this.y);
    this.anchor = { id: ids.at(first), offset: this.y - this.topOf(first) };
  }

  render(total, indices, open) {
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
      const id = this.ids.at(index);
      const parts = this.nodes.get(id) ?? this.view.makeRow(id);
      nodes.set(id, parts);
      addGap(this.topOf(index) - y);
      wanted.push(parts.row);
      if (this.view.paintRow(parts, index)) wanted.push(parts.below);
      y = this.topOf(index + 1);
    }
    addGap(total - y);
    // Nodes of open rows are kept while they are not visible, with the texts entered into forms.
    for (const [id, parts] of this.nodes) if (open.has(id) && !nodes.has(id)) nodes.set(id, parts);
    this.nodes = nodes;
    arrange(this.body, wanted);
    const reachable = nodes.has(this.current) ? this.current : this.ids.at(indices[0]);
    for (const [id, { row }] of nodes) setAttribute(row, "tabindex", id === reachable ? "0" : "-1");
  }

  /** Indices of the rows to render at a scroll position: those around it, and the current one. */
  indices(y) {
    const first = Math.max(0, this.indexAt(y) - OVERSCAN);
    const last = Math.min(this.ids.length - 1, this.indexAt(y + this.visible) + OVERSCAN);
    const indices = [];
    for (let index = first; index <= last; index += 1) indices.push(index);
    // The current row would lose the focus if it left the document.
    if (this.index > last) indices.push(this.index);
    else if (this.index >= 0 && this.index < first) indices.unshift(this.index);
    return indices;
  }

  /** First and last index of the rows in the document, without the current one. */
  get range() {
    const last = this.indexAt(this.y + this.visible) + OVERSCAN;
    return [Math.max(0, this.indexAt(this.y) - OVERSCAN), Math.min(this.ids.length - 1, last)];
  }

  /** Give the nodes of rows to other ids. */
  rename(idOf) {
    const nodes = new Map();
    for (const [id, parts] of this.nodes) {
      const other = idOf(id);
      nodes.set(other !== id && (this.nodes.has(other) || nodes.has(other)) ? id : other, parts);
    }
    this.nodes = nodes;
    if (this.current !== null) this.current = idOf(this.current);
  }

  get focused() {
    return this.node.getRootNode().activeElement;
  }

  // -- positions

  /** Height of the visible rows in pixels. */
  get visible() {
    return Math.max(this.rowHeight, this.node.clientHeight - this.header);
  }

  /** Height of all rows in pixels. */
  get height() {
    return this.topOf(this.ids.length);
  }

  /** Distance of a row from the first one, in pixels. */
  topOf(index) {
    let y = index * this.rowHeight;
    for (const detail of this.details) if (detail.index < index) y += detail.height;
    return y;
  }

  /** Index of the row at a distance from the first one, in pixels. */
  indexAt(y) {
    let extra = 0;
    for (const { index, height } of this.details) {
      const end = (index + 1) * this.rowHeight + extra;
      if (y < end) break;
      if (y < end + height) return index;
      extra += height;
    }
    return Math.max(0, Math.floor((y - extra) / this.rowHeight));
  }

  /** Scroll position of the end at which the first visible row is not cut off, unless it is open. */
  get endPosition() {
    const end = Math.max(0, this.height - this.visible);
    const first = this.indexAt(end);
    if (this.topOf(first) === end) return end;
    const next = this.topOf(first + 1);
    return next - end < this.rowHeight ? next : end;
  }

  /** Scroll position that keeps visible rows in place when rows above change, unless the user scrolls. */
  anchored(y) {
    if (y <= 0 || Math.abs(y - this.y) > 1) return y;
    const index = this.ids.indexOf(this.anchor?.id);
    return index < 0 ? y : this.topOf(index) + this.anchor.offset;
  }

  /** Scroll to a row and the element below it, of some height. */
  reveal(id, height) {
    const top = this.topOf(this.ids.indexOf(id));
    const y = Math.min(top, top + this.rowHeight + height - this.visible);
    if (y > this.node.scrollTop) this.node.scrollTop = y;
  }

  // -- user actions

  onScroll() {
    const { scrollTop, clientHeight, scrollHeight } = this.node;
    const byUser = Math.abs(scrollTop - this.y) > 1;
    if (byUser) this.atEnd = scrollTop + clientHeight >= scrollHeight - this.rowHeight;
    this.schedule();
  }

  onFocus({ target }) {
    const id = this.idOf(target);
    if (id === undefined) return;
    this.select(id);
    this.schedule();
  }

  select(id) {
    if (id === this.current) return;
    this.current = id;
    this.view.onCurrent?.(id);
  }

  /** Id of the row that contains a node; undefined for a node outside of rows. */
  idOf(node) {
    for (const [id, { row, below }] of this.nodes) if (row.contains(node) || below?.contains(node)) return id;
    return undefined;
  }

  /** Move the focus by a navigation key; false for other keys. */
  onKey(key) {
    const page = Math.max(1, Math.floor(this.visible / this.rowHeight) - 1);
    const step = { ...STEPS, PageDown: page, PageUp: -page }[key];
    if (step === undefined) return false;
    const index = this.ids.indexOf(this.current) + step;
    this.focusRow(this.ids.at(Math.max(0, Math.min(this.ids.length - 1, index))));
    return true;
  }

  /** Focus the row that the Tab key reaches. */
  focus() {
    this.body.querySelector('[tabindex="0"]')?.focus({ preventScroll: true });
  }

  /** Scroll to a row and focus it. */
  focusRow(id) {
    const index = this.ids.indexOf(id);
    if (index < 0) return;
    const top = this.topOf(index);
    this.node.scrollTop = Math.min(top, Math.max(this.node.scrollTop, top + this.rowHeight - this.visible));
    this.atEnd = index === this.ids.length - 1;
    this.select(id);
    this.paint();
    this.nodes.get(id)?.row.focus({ preventScroll: true });
  }
}
