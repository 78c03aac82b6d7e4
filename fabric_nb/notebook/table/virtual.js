// Geometry of a virtualised list, shared by tables and the panel's tree: only the visible rows, and a
// few above and below them, are in the document.

export const OVERSCAN = 10; // rows in the document above and below the visible ones
const STEPS = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity };

export class VirtualList {
  /**
   * @param count number of rows
   * @param rowHeight height of a row in pixels
   * @param details {index, height} of each row with a detail below it, in order
   */
  constructor(count, rowHeight, details = []) {
    this.count = count;
    this.rowHeight = rowHeight;
    this.details = details;
  }

  /** Height of all rows in pixels. */
  get height() {
    return this.topOf(this.count);
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

  /**
   * Indices of the rows to render.
   *
   * @param y scroll position
   * @param visible height of the visible area
   * @param pinned index of a row to render although it may not be visible; -1 for none
   */
  indices(y, visible, pinned) {
    const first = Math.max(0, this.indexAt(y) - OVERSCAN);
    const last = Math.min(this.count - 1, this.indexAt(y + visible) + OVERSCAN);
    const indices = [];
    for (let index = first; index <= last; index += 1) indices.push(index);
    if (pinned > last) indices.push(pinned);
    else if (pinned >= 0 && pinned < first) indices.unshift(pinned);
    return indices;
  }

  /** Scroll position nearest to `y` at which a row is visible. */
  positionShowing(index, y, visible) {
    const top = this.topOf(index);
    return Math.min(top, Math.max(y, top + this.rowHeight - visible));
  }

  /** Index of the row that a key selects; undefined if it is not a navigation key. */
  indexAfterKey(key, index, visible) {
    const page = Math.max(1, Math.floor(visible / this.rowHeight) - 1);
    const step = { ...STEPS, PageDown: page, PageUp: -page }[key];
    return step === undefined ? undefined : Math.max(0, Math.min(this.count - 1, index + step));
  }
}
