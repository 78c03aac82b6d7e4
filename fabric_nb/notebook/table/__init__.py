"""Live tables, sorted, filtered and scrolled in the browser.

`TableModel` contains the rows and tracks changes; `TableWidget` displays it and sends the changes.
Both are independent of the fabric.
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
    if name == "TableWidget":  # imported on demand, because the import takes half a second
        from fabric_nb.notebook.table.widget import TableWidget

        return TableWidget
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
