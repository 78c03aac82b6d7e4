"""A table that lives under a cell: sorted, filtered and scrolled in the browser.

`TableModel` holds what is shown and knows what has changed; `TableWidget` shows it and sends the
changes. Neither knows of a fabric.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fabric_nb.notebook.table.cells import Column, Value
from fabric_nb.notebook.table.model import TableModel
from fabric_nb.notebook.table.parts import Button, Detail, Field, Form, Head, Select

if TYPE_CHECKING:
    from fabric_nb.notebook.table.widget import TableWidget

__all__ = [
    "Button",
    "Column",
    "Detail",
    "Field",
    "Form",
    "Head",
    "Select",
    "TableModel",
    "TableWidget",
    "Value",
]


def __getattr__(name: str) -> object:
    if name == "TableWidget":  # half a second to import, and not every notebook shows a table
        from fabric_nb.notebook.table.widget import TableWidget

        return TableWidget
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
