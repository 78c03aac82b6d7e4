"""Formats of message bodies: content types, and the forms of rows in a body."""

from __future__ import annotations

from typing import Any, Final, Literal

JSON: Final = "application/json"
JSON_COLUMNS: Final = "application/vnd.fabric.columns+json"
ARROW: Final = "application/vnd.apache.arrow.stream"
"""The registered media type of Arrow's IPC stream format."""
TABLES_HEADER: Final = "x-fabric-tables"
"""Header of a JSON body with the descriptor of the tables in it; see `tables`."""

Form = Literal["object", "list", "columns", "arrow"]
"""Form of a batch in its message: a single row, rows, columns, or an Arrow table."""
Table = Any
"""A `pyarrow.Table`; pyarrow is an optional dependency."""
