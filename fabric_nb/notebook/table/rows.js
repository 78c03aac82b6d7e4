// The rows as the kernel has them, and the order in which they are seen.

import { bare, lengthOf, textOf } from "./cells.js";

const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });

export class Rows {
  constructor() {
    this.revision = 0;
    this.columns = [];
    this.byId = new Map(); // id -> {id, cells, detail, words}
    this.ids = [];
    this.head = { title: "", badges: [], facts: [], notes: [], tools: [], chart: null, printed: "", empty: "" };
    this.follow = false;
    this.widths = []; // the longest text of each column, in characters
    this.shape = 0; // goes up when columns or widths change
    this.details = false; // whether any row has one
    this.lag = Infinity; // how far the clock here is ahead of the kernel's, in seconds
  }

  /** Take over a message of the kernel; false when one before it was lost. */
  apply(message) {
    this.lag = Math.min(this.lag, Date.now() / 1000 - message.now);
    if (message.columns) this.begin(message);
    else if (message.from !== this.revision) return message.to <= this.revision;
    this.revision = message.to;
    this.head = message.head ?? this.head;
    if (message.drop) {
      for (const id of message.drop) this.byId.delete(id);
      this.ids = this.ids.filter((id) => this.byId.has(id));
    }
    for (const [id, cells, detail] of message.add ?? []) {
      this.byId.set(id, { id, cells, detail, words: null });
      this.ids.push(id);
      cells.forEach((cell, index) => this.widen(index, cell));
      this.note(detail);
    }
    for (const [id, changes, detail] of message.set ?? []) this.change(this.byId.get(id), changes, detail);
    this.ids = message.order ?? this.ids;
    return true;
  }

  begin({ columns, follow }) {
    this.columns = columns;
    this.follow = follow;
    this.widths = columns.map(({ label }) => label.length + 2);
    this.shape += 1;
    this.byId.clear();
    this.ids = [];
    this.details = false;
  }

  change(row, changes, detail) {
    for (let i = 0; i < changes.length; i += 2) {
      row.cells[changes[i]] = changes[i + 1];
      this.widen(changes[i], changes[i + 1]);
    }
    row.detail = detail ?? row.detail;
    row.words = null;
    this.note(row.detail);
  }

  /** Room for the marks before rows that open is only left where there are any. */
  note(detail) {
    if (this.details || !detail) return;
    this.details = true;
    this.shape += 1;
  }

  /** Columns grow with what they hold and never shrink, so that nothing jumps. */
  widen(index, cell) {
    const length = lengthOf(cell, this.columns[index]);
    if (length > this.widths[index]) {
      this.widths[index] = length;
      this.shape += 1;
    }
  }

  /** The present by the kernel's clock, in seconds. */
  get now() {
    return (this.stopped ?? Date.now() / 1000) - (Number.isFinite(this.lag) ? this.lag : 0);
  }

  /** Whether the present stands still. */
  stop(stopped) {
    this.stopped = stopped ? Date.now() / 1000 : undefined;
  }

  text(row, index) {
    return textOf(row.cells[index], this.columns[index], this.now);
  }

  /** The ids of the rows that hold all words, in the order that is asked for. */
  list(words, sort) {
    const ids = words.length ? this.ids.filter((id) => this.holds(id, words)) : this.ids;
    if (!sort) return ids;
    const keys = new Map(ids.map((id) => [id, bare(this.byId.get(id).cells[sort.index])]));
    const sign = sort.descending ? -1 : 1;
    // An age is kept as the moment it counts from: the later, the younger.
    const numbers = this.columns[sort.index].kind === "age" ? -sign : sign;
    return [...ids].sort((a, b) => compare(keys.get(a), keys.get(b), sign, numbers));
  }

  holds(id, words) {
    const row = this.byId.get(id);
    row.words ??= this.columns.map((_, index) => this.text(row, index)).join(" ").toLowerCase();
    return words.every((word) => row.words.includes(word));
  }
}

/** Numbers before texts, and nothing last, whatever the direction. */
function compare(a, b, texts, numbers) {
  if (a === b) return 0;
  if (a === null || b === null) return a === null ? 1 : -1;
  if (typeof a === "number" && typeof b === "number") return numbers * (a - b);
  if (typeof a === typeof b) return texts * collator.compare(a, b);
  return typeof a === "number" ? -1 : 1;
}
