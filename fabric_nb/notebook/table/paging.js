// Rows of a paged table, which the kernel selects: those that match the filters, in their order, a
// page at a time. See fabric_nb/notebook/table/paging.py.

const PAGE = 120; // rows of a request
const BEFORE = 40; // of which are before the first one that is missing
const MAX_LISTED = 600_000; // rows that can be scrolled through; paging.py has the same
const SHARE = 10; // rows are selected again after this multiple of the time that it took
const MIN_PERIOD = 300; // and at least so many milliseconds later
const PATIENCE = 500; // milliseconds before the state of a request is shown
const LOST_AFTER = 60_000; // milliseconds without an answer, from a kernel that sends other messages

/** Ids of consecutive rows, as an array has them. */
class HeldIds {
  constructor(first, length) {
    this.first = first;
    this.length = length;
  }

  at(index) {
    return index < this.length ? this.first + index : undefined;
  }

  indexOf(id) {
    const index = id - this.first;
    return index >= 0 && index < this.length ? index : -1;
  }
}

/** Ids of rows of which only a page is known; the row at an index has the id -1 - index until then. */
class PageIds {
  constructor(first, length, ids) {
    this.first = first;
    this.length = length;
    this.ids = ids;
  }

  at(index) {
    return index < this.length ? (this.ids[index - this.first] ?? -1 - index) : undefined;
  }

  indexOf(id) {
    if (id < 0) return -1 - id < this.length ? -1 - id : -1;
    const index = this.ids.indexOf(id);
    return index < 0 ? -1 : this.first + index;
  }
}

export class Pager {
  /**
   * @param rows rows of the table; `rows.held` is null if it is not paged
   * @param send sends a message to the kernel
   * @param changed called when other rows, or another state, are to be shown
   */
  constructor(rows, send, changed) {
    this.rows = rows;
    this.send = send;
    this.changed = changed;
    this.view = Math.random().toString(36).slice(2);
    this.words = "";
    this.filters = new Map(); // index of a column -> {label, kind, text}
    this.sort = null; // [index of the column, label]
    this.descending = false;
    this.problems = new Map(); // index of a column -> why its filter is off
    this.changes = 0; // of filters and problems
    this.error = ""; // why the last request failed
    this.byId = new Map(); // rows of the last page
    this.page = null; // the last page, if rows are filtered or sorted
    this.pending = null; // the request without an answer: {request, first, begun, since}
    this.requests = 0;
    this.selection = 0;
    this.took = 0; // milliseconds
    this.answeredAt = -Infinity;
    this.layout = rows.layout;
    this.isAtEnd = () => false; // whether the view shows the newest rows, and follows them
  }

  dispose() {
    this.forget();
    clearTimeout(this.wake);
  }

  /** Whether rows are filtered or sorted. */
  get active() {
    return Boolean(this.words.trim() || this.filters.size || this.sort);
  }

  /** Filters and order, for the kernel. */
  get query() {
    const filters = [...this.filters].map(([index, { label, kind, text }]) => [index, label, kind, text]);
    return { words: this.words, filters, sort: this.sort, descending: this.descending };
  }

  /** Rows that match, and all rows. */
  get counts() {
    const [, held] = this.rows.held;
    return this.active && this.page ? [this.page.total, this.page.held] : [held, held];
  }

  /** Number of rows that cannot be scrolled to. */
  get unlisted() {
    return this.counts[0] - this.list().length;
  }

  /** State of a request that takes long; empty if there is none. */
  get state() {
    if (!this.pending || performance.now() - this.pending.since < PATIENCE) return "";
    return this.pending.begun ? "Searching." : "Waiting for the running cell.";
  }

  get(id) {
    return this.byId.get(id);
  }

  /** Ids of all rows, in order: an object with `length`, `at` and `indexOf`. */
  list() {
    if (this.active && this.page) {
      const { first, listed, ids } = this.page;
      return new PageIds(first, listed, ids);
    }
    const [first, count] = this.rows.held;
    const listed = Math.min(count, MAX_LISTED);
    return new HeldIds(first + count - listed, listed);
  }

  // -- filters and order

  setWords(words) {
    this.words = words;
    this.select();
  }

  setSort(sort, descending) {
    Object.assign(this, { sort, descending });
    this.select();
  }

  /** Filter a column; an empty text removes its filter. */
  setFilter(index, label, kind, text) {
    if (text.trim()) this.filters.set(index, { label, kind, text });
    else this.filters.delete(index);
    this.problems.delete(index);
    this.changes += 1;
    this.select();
  }

  clearFilters() {
    this.filters.clear();
    this.changes += 1;
    this.select();
  }

  select() {
    this.error = "";
    if (this.active) {
      this.request(this.sort ? 0 : -1, 0);
    } else {
      this.forget();
      this.changed();
    }
  }

  /** Forget all rows, as when there is no kernel. */
  forget() {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.pending = this.page = null;
    this.byId.clear();
    this.problems.clear();
  }

  // -- requests

  /**
   * @param first index of the first row; negative for the last page
   * @param selection number of the selection to continue; 0 for a new one
   */
  request(first, selection) {
    const request = (this.requests += 1);
    const since = performance.now();
    this.pending = { request, first, begun: false, since };
    this.dirty = false;
    setTimeout(() => this.pending?.request === request && this.changed(), PATIENCE + 10);
    this.send({ type: "page", view: this.view, request, first, count: PAGE, selection, query: this.query });
  }

  /** Request the rows in a range of indices, if any is missing. */
  want(first, last) {
    if (this.pending) return;
    const ids = this.list();
    const end = Math.min(last, ids.length - 1);
    let missing = Math.max(0, first);
    while (missing <= end && this.has(ids.at(missing))) missing += 1;
    if (missing > end) return;
    const wait = this.answeredAt + MIN_PERIOD / 5 - performance.now();
    if (wait <= 0) this.request(Math.max(0, missing - BEFORE), this.selection);
    else this.changedAfter(wait);
  }

  has(id) {
    return this.byId.has(id) || this.rows.byId.has(id);
  }

  changedAfter(milliseconds) {
    clearTimeout(this.wake);
    this.wake = setTimeout(this.changed, milliseconds);
  }

  /** Select again, because rows have arrived; not all the time, because it costs time. */
  refresh() {
    if (this.layout !== this.rows.layout) {
      this.layout = this.rows.layout;
      this.byId.clear(); // they have other columns
      this.answeredAt = -Infinity;
    }
    if (this.pending && performance.now() - this.pending.since > LOST_AFTER) this.pending = null;
    if (!this.active) return;
    this.dirty = true;
    if (this.pending || this.timer !== undefined) return;
    const wait = this.answeredAt + Math.max(MIN_PERIOD, SHARE * this.took) - performance.now();
    this.timer = setTimeout(() => {
      this.timer = undefined;
      if (this.dirty && !this.pending && this.active) this.request(this.nextFirst, 0);
    }, Math.max(0, wait));
  }

  /** Index from which on rows are selected again. */
  get nextFirst() {
    return !this.sort && this.isAtEnd() ? -1 : (this.page?.first ?? 0);
  }

  // -- answers

  onBegun({ view, request }) {
    if (view === this.view && this.pending?.request === request) this.pending.begun = true;
  }

  /** Apply the answer to a request; false if it is not one of this view. */
  onPage(answer) {
    if (answer.view !== this.view || this.pending?.request !== answer.request) return false;
    this.pending = null;
    this.answeredAt = performance.now();
    this.error = answer.error ?? "";
    if (answer.error === undefined) this.apply(answer);
    if (this.dirty) this.refresh();
    return true;
  }

  apply({ layout, took, total, listed, held, first, selection, problems, rows }) {
    this.took = took * 1000;
    this.problems = new Map(problems);
    this.changes += 1;
    if (layout !== this.rows.layout) {
      this.dirty = true; // the columns have changed meanwhile
      return;
    }
    const blank = this.rows.columns.map(() => null);
    this.byId = new Map(rows.map(([id, cells]) => [id, { id, cells: cells ?? blank, detail: "", words: null }]));
    for (const { cells } of this.byId.values()) cells.forEach((cell, index) => this.rows.widen(index, cell));
    this.selection = selection;
    this.page = this.active ? { total, listed, held, first, ids: rows.map(([id]) => id) } : null;
  }
}
