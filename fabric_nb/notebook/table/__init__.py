"""A table that lives under a cell: sorted, filtered and scrolled in the browser.

`TableModel` holds what is shown and knows what has changed; `TableWidget` shows it and sends the
changes. Neither knows of a fabric.
"""

from fabric_nb.notebook.table.model import Button, Column, Head, Select, TableModel, Value
from fabric_nb.notebook.table.widget import TableWidget

__all__ = ["Button", "Column", "Head", "Select", "TableModel", "TableWidget", "Value"]
