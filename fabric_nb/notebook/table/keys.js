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
    if (key !== "ArrowDown" || !table.ids?.length) return false;
    table.focusRow(table.ids[table.list.indexAt(table.scroller.scrollTop)]);
    return true;
  }

  onRowKey({ key, target }) {
    const table = this.table;
    if (!target.closest("tr.row") || !table.ids) return false;
    const index = table.list.indexAfterKey(key, table.ids.indexOf(table.current), table.visible);
    if (index !== undefined) table.focusRow(table.ids[index]);
    else if (key === "Enter" || key === " ") table.toggle(table.current);
    else if (key === "ArrowRight") table.toggle(table.current, true);
    else if (key === "ArrowLeft") table.toggle(table.current, false);
    else if (key === "/") table.head.filter.focus();
    else return false;
    return true;
  }
}
