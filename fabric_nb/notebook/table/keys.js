// Keyboard navigation in a table: moving between rows, opening and closing, filtering.

export class Keys {
  constructor(table) {
    this.table = table;
  }

  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const inFilter = event.target === this.table.head.filter;
    const used = inFilter ? this.onFilterKey(event.key) : this.onRowKey(event);
    if (used) event.preventDefault();
    // Otherwise the notebook would handle the key too: b adds a cell, arrows leave this one.
    if (used || event.key !== "Escape") event.stopPropagation();
  }

  onFilterKey(key) {
    const table = this.table;
    if (key === "Escape") return table.head.clearFilter();
    const { ids, node } = table.scroller;
    if (key !== "ArrowDown" || !ids.length) return false;
    table.scroller.focusRow(ids.at(table.scroller.indexAt(node.scrollTop)));
    return true;
  }

  onRowKey({ key, target }) {
    const table = this.table;
    if (!target.closest("tr.row")) return false;
    const { current } = table.scroller;
    if (table.scroller.onKey(key)) return true;
    if (key === "Enter" || key === " ") table.toggle(current);
    else if (key === "ArrowRight") table.toggle(current, true);
    else if (key === "ArrowLeft") table.toggle(current, false);
    else if (key === "/") table.head.filter.focus();
    else return false;
    return true;
  }
}
