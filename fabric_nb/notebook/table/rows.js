// Rows of a table as sent by the kernel, with filtering and sorting.

import { valueOf, lengthOf, textOf } from "./cells.js";

const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });

export class Rows {
  constructor() {
    this.revision = 0;
    this.columns = [];
    this.byId = new Map(); // id -> {id, cells, detail, words}
    this.ids = [];
    this.head = { title: "", badges: [], facts: [], notes: [], tools: [], chart: null, printed: "", empty: "" };
    this.follow = false;
    this.held = null; // of a paged table: number of its oldest row, and number of rows from it on
    this.layout = 0; // number of times that its columns have changed in the kernel
    this.choices = []; // [label, kind, shown] of each of its columns
    this.widths = []; // length of the longest text of each column, in characters
    this.shape = 0; // number of changes of columns and widths
    this.details = false; // whether any row has a detail
    this.lag = Infinity; // seconds by which the browser's clock is ahead of the kernel's
  }

  /** Apply a message of the kernel; false if an earlier message was lost. */
  apply(message) {
    this.lag = Math.min(this.lag, Date.now() / 1000 - message.now);
    if (message.columns) this.reset(message);
    else if (message.from !== this.revision) return message.to <= this.revision;
    this.revision = message.to;
    this.head = message.head ?? this.head;
    this.held = message.held ?? this.held;
    if (message.drop) {
      for (const id of message.drop) this.byId.delete(id);
      this.ids = this.ids.filter((id) => this.byId.has(id));
    }
    for (const [id, cells, detail] of message.add ?? []) {
      this.byId.set(id, { id, cells, detail, words: null });
      this.ids.push(id);
      cells.forEach((cell, index) => this.widen(index, cell));
      this.noteDetail(detail);
    }
    for (const [id, changes, detail] of message.set ?? []) this.change(this.byId.get(id), changes, detail);
    this.ids = message.order ?? this.ids;
    return true;
  }

  reset({ columns, follow, held, layout = 0, choices = [] }) {
    Object.assign(this, { columns, follow, layout, choices });
    this.widths = columns.map(({ label }) => label.length + 2);
    this.shape += 1;
    this.byId.clear();
    this.ids = [];
    this.details = held !== undefined; // rows of a paged table open to all their values
  }

  change(row, changes, detail) {
    for (let i = 0; i < changes.length; i += 2) {
      row.cells[changes[i]] = changes[i + 1];
      this.widen(changes[i], changes[i + 1]);
    }
    row.detail = detail ?? row.detail;
    row.words = null;
    this.noteDetail(row.detail);
  }

  /** Reserve space for the buttons that open rows once any row has a detail. */
  noteDetail(detail) {
    if (this.details || !detail) return;
    this.details = true;
    this.shape += 1;
  }

  /** Widen a column for a cell. Columns never shrink, to avoid flicker. */
  widen(index, cell) {
    const length = lengthOf(cell, this.columns[index]);
    if (length > this.widths[index]) {
      this.widths[index] = length;
      this.shape += 1;
    }
  }

  /** Current Unix time by the kernel's clock, in seconds. */
  get now() {
    return (this.stopped ?? Date.now() / 1000) - (Number.isFinite(this.lag) ? this.lag : 0);
  }

  /** Stop or restart the clock. */
  stopClock(stopped) {
    this.stopped = stopped ? Date.now() / 1000 : undefined;
  }

  text(row, index) {
    return textOf(row.cells[index], this.columns[index], this.now);
  }

  /** Ids of the rows that contain all words, sorted. */
  list(words, sort) {
    const ids = words.length ? this.ids.filter((id) => this.matches(id, words)) : this.ids;
    if (!sort) return ids;
    const keys = new Map(ids.map((id) => [id, valueOf(this.byId.get(id).cells[sort.index])]));
    const sign = sort.descending ? -1 : 1;
    // An age is stored as a time: the later the time, the lower the age.
    const numbers = this.columns[sort.index].kind === "age" ? -sign : sign;
    return [...ids].sort((a, b) => compare(keys.get(a), keys.get(b), sign, numbers));
  }

  matches(id, words) {
    const row = this.byId.get(id);
    row.words ??= this.columns.map((_, index) => this.text(row, index)).join(" ").toLowerCase();
    return words.every((word) => row.words.includes(word));
  }
}

/** Compare cells: numbers before texts, and empty cells last, in both directions. */
function compare(a, b, texts, numbers) {
  if (a === b) return 0;
  if (a === null || b === null) return a === null ? 1 : -1;
  if (typeof a === "number" && typeof b === "number") return numbers * (a - b);
  if (typeof a === typeof b) return texts * collator.compare(a, b);
  return typeof a === "number" ? -1 : 1;
}
