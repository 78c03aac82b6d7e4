// Column headers: widths, labels and sorting.

import { fill, make, setAttribute, setText } from "../live/dom.js";

const MAX_FIXED = 48; // maximum width of a fixed column, in characters
const FLEXIBLE = [24, 160]; // minimum and maximum width of the flexible column, in characters
const EXPANDER = 2; // width of the button that opens a row, in characters
const PADDING = 22; // horizontal padding of a cell, in pixels, both sides together

export class HeadingView {
  /**
   * @param onSort called with the index of the column whose header was clicked
   * @param tools true if rows end with a cell of buttons
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

  /** Apply columns and widths; return whether the columns have changed. */
  paint({ columns, widths: longest, details }) {
    const widths = longest.map((width, i) => (i === 0 && details ? width + EXPANDER : width));
    // The column with the longest texts gets the remaining width; others have fixed widths.
    const texts = columns.map(({ kind }, i) => (kind === "text" || kind === "code" ? widths[i] : 0));
    const flexible = texts.indexOf(Math.max(1, ...texts));
    const sized = (limit) => widths.map((width, i) => Math.min(width, i === flexible ? limit : MAX_FIXED));
    const [minWidth, maxWidth] = FLEXIBLE.map((limit) => total(sized(limit)));
    // Without columns, as before the first row of a stream, only the placeholder has a width.
    this.table.style.minWidth = columns.length ? minWidth : "";
    this.table.parentNode.style.width = columns.length ? `min(100%, ${maxWidth} + 2px)` : ""; // border
    for (const node of Object.values(this.tools ?? {})) node.remove(); // appended again below
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
    const before = this.painted;
    this.painted = JSON.stringify(columns);
    return before !== undefined && before !== this.painted;
  }

  make() {
    const cell = make("th", "", { scope: "col" });
    const button = make("button", "", { type: "button" });
    button.append(make("span", "label"), make("span", "arrow", { "aria-hidden": "true" }));
    button.addEventListener("click", () => this.onSort([...this.row.children].indexOf(cell)));
    cell.append(button);
    return cell;
  }

  /** @param filters text of the filter of each column that has one, by label */
  paintSort(sort, filters) {
    const direction = sort?.descending ? "descending" : "ascending";
    [...this.row.children].forEach((cell, index) => {
      if (cell === this.tools?.cell) return;
      setAttribute(cell, "aria-sort", sort?.index === index ? direction : "none");
      const filter = filters.get(cell.querySelector(".label").textContent) ?? "";
      cell.toggleAttribute("data-filtered", filter !== "");
      if (cell.title !== filter) cell.title = filter;
    });
  }
}

function total(sizes) {
  return `calc(${sizes.reduce((a, b) => a + b, 0)}ch + ${PADDING * sizes.length}px)`;
}
