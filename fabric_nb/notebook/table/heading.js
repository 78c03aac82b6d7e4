// The columns: how wide they are, what stands above them, and by which the rows are sorted.

import { fill, make, setAttribute, setText } from "../live/dom.js";

const WIDEST = 48; // characters of a column that others must leave room for
const FLEXIBLE = [24, 160]; // characters that the column with the longest texts has, at least and at most
const MARK = 2; // characters that the mark of a row that opens takes
const PADDING = 22; // pixels beside a cell's text, both sides together

export class HeadingView {
  /**
   * @param onSort takes the index of the column whose heading was used
   * @param tools whether rows end with a cell of buttons
   */
  constructor(table, onSort, tools) {
    this.tools = tools ? { column: make("col", "row-tools"), cell: make("th") } : null;
    this.table = table;
    this.onSort = onSort;
    this.columns = make("colgroup");
    this.row = make("tr", "", { "aria-rowindex": "1" });
    const head = make("thead");
    head.append(this.row);
    table.append(this.columns, head);
  }

  get height() {
    return this.row.offsetHeight;
  }

  /** Take over columns and widths; true when the columns are others than before. */
  paint({ columns, widths: longest, details }) {
    const widths = longest.map((width, i) => (i === 0 && details ? width + MARK : width));
    // The longest texts take what room there is; other columns keep theirs.
    const texts = columns.map(({ kind }, i) => (kind === "text" || kind === "code" ? widths[i] : 0));
    const flexible = texts.indexOf(Math.max(1, ...texts));
    const sized = (limit) => widths.map((width, i) => Math.min(width, i === flexible ? limit : WIDEST));
    const [least, most] = FLEXIBLE.map((limit) => total(sized(limit)));
    // Without columns, as before the first row of a stream, only what is said of that has a width.
    this.table.style.minWidth = columns.length ? least : "";
    this.table.parentNode.style.width = columns.length ? `min(100%, ${most} + 2px)` : ""; // its border
    fill(this.columns, sized(0), () => make("col"), (col, size, i) => {
      col.style.width = i === flexible ? "" : `calc(${size}ch + ${PADDING}px)`;
    });
    fill(this.row, columns, () => this.make(), (cell, { kind, label }, i) => {
      cell.className = kind;
      setAttribute(cell, "aria-colindex", String(i + 1));
      setText(cell.querySelector(".label"), label);
    });
    if (this.tools) {
      this.columns.append(this.tools.column);
      this.row.append(this.tools.cell);
    }
    setAttribute(this.table, "aria-colcount", String(columns.length));
    const before = this.known;
    this.known = JSON.stringify(columns);
    return before !== undefined && before !== this.known;
  }

  make() {
    const cell = make("th", "", { scope: "col" });
    const button = make("button", "", { type: "button" });
    button.append(make("span", "label"), make("span", "arrow", { "aria-hidden": "true" }));
    button.addEventListener("click", () => this.onSort([...this.row.children].indexOf(cell)));
    cell.append(button);
    return cell;
  }

  paintSort(sort) {
    const direction = sort?.descending ? "descending" : "ascending";
    [...this.row.children].forEach((cell, index) => {
      if (cell === this.tools?.cell) return;
      setAttribute(cell, "aria-sort", sort?.index === index ? direction : "none");
    });
  }
}

function total(sizes) {
  return `calc(${sizes.reduce((a, b) => a + b, 0)}ch + ${PADDING * sizes.length}px)`;
}
