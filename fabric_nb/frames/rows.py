"""Rows as mappings: checks, copies and transposition; no I/O, and no pandas."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any, Final

from fabric_nb.errors import InvalidArgumentType

Row = dict[str, Any]

ROW_PREFIX: Final = "row."
OVERFLOW: Final = "_overflow"
"""Name of the column for values beyond `max_columns`, as one dict per row."""


def is_name(name: object) -> bool:
    """Return whether pandas can show this column name; JSON may contain a lone surrogate."""
    return not (isinstance(name, str) and re.search("[\ud800-\udfff]", name))


def copied_row(row: object, place: int | None = None) -> Row:
    """Return a shallow copy of a row.

    Raises:
        InvalidArgumentType: The row is not a mapping; the message gives its position.
    """
    if type(row) is dict:
        return row.copy()
    if isinstance(row, Mapping):
        return dict(row)
    which = "A row" if place is None else f"Row {place}"
    raise InvalidArgumentType(
        f"{which} must be a mapping of column to value, not {type(row).__name__}."
    )


def checked_rows(rows: Iterable[Mapping[str, Any]], *, copy: bool) -> list[Row]:
    """Return rows as dicts, copied if requested or necessary.

    Raises:
        InvalidArgumentType: The argument is columns, or one of the rows is not a mapping.
    """
    if isinstance(rows, Mapping) or hasattr(rows, "columns"):
        raise InvalidArgumentType("These are columns, not rows; add them with extend_columns().")
    if copy:
        return [
            row.copy() if type(row) is dict else copied_row(row, place)
            for place, row in enumerate(rows)
        ]
    return [row if type(row) is dict else copied_row(row, place) for place, row in enumerate(rows)]


def with_assigned(row: Row, values: Mapping[str, Any]) -> Row:
    """Return a row with assigned values; its own value of that name becomes ``row.<name>``.

    Example:
        >>> with_assigned({"n": 1, "at": "noon"}, {"at": 5})
        {'n': 1, 'row.at': 'noon', 'at': 5}
    """
    if row.keys().isdisjoint(values):
        return {**row, **values}
    renamed = {ROW_PREFIX + name if name in values else name: row[name] for name in row}
    return {**renamed, **values}


def transpose_rows(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return the values of each column, None if absent, in the order first seen."""
    names = dict.fromkeys(chain.from_iterable(rows))
    if set(map(len, rows)) == {len(names)}:
        return {name: list(map(itemgetter(name), rows)) for name in names}
    return {name: [row.get(name) for row in rows] for name in names}
