"""Normalisation of the row data that a program publishes. Pure.

A mapping of values is one row and a mapping of lists is columns; a sequence of mappings is rows; a
DataFrame, a Series and any object that exports Arrow (tables of pyarrow, polars, DuckDB) is a
table. All other data are refused, because they would arrive as rows that were not intended.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from fabric_nb.errors import NotSerializable
from fabric_nb.fabric.core.values import error_text, shown
from fabric_nb.fabric.wire.formats import Table
from fabric_nb.frames.rows import transpose_rows
from fabric_nb.libraries import is_frame, is_series

if TYPE_CHECKING:
    import pandas as pd

LABEL = "the data"
_FORMS = (
    "publish a mapping (one row), a list of mappings, a mapping of columns of one length, a"
    " DataFrame, or an Arrow table"
)
Rows = list[Mapping[str, Any]]
Columns = dict[str, Any]
"""Lists, arrays and Series of one length, by name."""


def rows_or_columns(data: Any) -> Rows | Columns | pd.DataFrame | Table:
    """Return data to be published as rows, columns or a table, whichever it is.

    Raises:
        NotSerializable: it is none of these.
    """
    if is_series(data):
        return data.to_frame("value" if data.name is None else data.name)
    if is_frame(data):
        return data
    if isinstance(data, Mapping):
        return _columns(data) if _has_columns(data) else [data]
    if _exports_arrow(data):
        return _arrow_table(data)
    if isinstance(data, (str, bytes, bytearray, memoryview)) or not isinstance(data, Iterable):
        raise NotSerializable(f"{LABEL} is a {type(data).__name__}, which is no rows: {_FORMS}.")
    return _checked_rows(list(data))


def _checked_rows(rows: list[Any]) -> Rows:
    for number, row in enumerate(rows):
        if type(row) is not dict and not isinstance(row, Mapping):
            raise NotSerializable(
                f"{LABEL}[{number}] is a {type(row).__name__}, and a row is a mapping of column to"
                f" value: {_FORMS}."
            )
    return rows


def _has_columns(data: Mapping[Any, Any]) -> bool:
    return bool(data) and all(_is_column(value) for value in data.values())


def _is_column(value: Any) -> bool:
    if isinstance(value, (list, tuple, range)):
        return True
    if is_frame(value):
        return False
    return _exports_arrow(value) or (getattr(value, "ndim", 0) == 1 and hasattr(value, "dtype"))


def _columns(data: Mapping[Any, Any]) -> Columns:
    columns = {name: _of_arrow(column, name) for name, column in data.items()}
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        (first_name, rows), (second_name, others) = next(
            (first, second)
            for first in lengths.items()
            for second in lengths.items()
            if first[1] != second[1]
        )
        raise NotSerializable(
            f"{LABEL} has columns of different lengths, {rows} in {shown(first_name)} and {others}"
            f" in {shown(second_name)}: make them equal, or publish [{{...}}] if it is one row of"
            " lists."
        )
    return columns


def _of_arrow(column: Any, name: Any) -> Any:
    """Return a column that another library exports as a list; any other column unchanged."""
    if not _exports_arrow(column) or is_series(column):
        return column
    pa = pyarrow()
    stream = hasattr(type(column), "__arrow_c_stream__")
    return _to_list(pa.chunked_array(column) if stream else pa.array(column), name)


def as_rows(data: Rows | Columns | pd.DataFrame | Table) -> Rows | pd.DataFrame:
    """Convert the result of `rows_or_columns` to rows, or a DataFrame, which `codec` encodes so."""
    if isinstance(data, list) or is_frame(data):
        return data
    if isinstance(data, dict):
        return [dict(zip(data, row, strict=True)) for row in zip(*data.values(), strict=True)]
    named = _named(data)
    return [dict(zip(named, row, strict=True)) for row in zip(*named.values(), strict=True)]


def as_columns(data: Rows | Columns | pd.DataFrame | Table) -> Columns:
    """Convert the result of `rows_or_columns` to columns, including those of an index.

    Raises:
        NotSerializable: two columns have the same name, or there are rows without any column.
    """
    if isinstance(data, dict):
        return data
    if is_frame(data):
        from fabric_nb.fabric.wire.tables import fields, index_fields

        every = [*index_fields(data, LABEL), *fields(data, LABEL)]
        columns: Columns = {field.key: field.values for field in every}
    elif isinstance(data, list):
        columns = dict(transpose_rows([dict(row) for row in data])) if data else {}
    else:
        columns = _named(data)
    if len(data) and not columns:
        raise NotSerializable(
            f"{LABEL} has {len(data)} rows and no column, which columns cannot tell: publish it"
            " with format='json'."
        )
    return columns


# -- Arrow -----------------------------------------------------------------------------------------


def pyarrow() -> Any:
    """Return the pyarrow module.

    Raises:
        NotSerializable: it is not installed.
    """
    try:
        return importlib.import_module("pyarrow")
    except ImportError:
        raise NotSerializable(
            "Arrow needs pyarrow: pip install 'fabric-nb[arrow]', or use another format."
        ) from None


def _exports_arrow(data: Any) -> bool:
    kind = type(data)
    return hasattr(kind, "__arrow_c_stream__") or hasattr(kind, "__arrow_c_array__")


def _arrow_table(data: Any) -> Table:
    pa = pyarrow()
    if isinstance(data, pa.Table):
        return data
    try:
        return pa.table(data)
    except Exception:  # noqa: BLE001 - of another library, which may raise anything
        raise NotSerializable(
            f"{LABEL} is a {type(data).__name__} that is no table of columns: {_FORMS}."
        ) from None


def _named(table: Table) -> Columns:
    """Return the columns of an Arrow table as lists."""
    check_names(table)
    pairs = zip(table.column_names, table.columns, strict=True)
    return {name: _to_list(column, name) for name, column in pairs}


def _to_list(column: Any, name: Any) -> list[Any]:
    """Return the values of an Arrow column; raise `NotSerializable` if Python lacks one of them."""
    pa = pyarrow()
    try:
        if column.type == pa.time64("ns"):
            column = column.cast(pa.time64("us"))  # raises instead of dropping nanoseconds
        values: list[Any] = column.to_pylist()
    except Exception as error:  # noqa: BLE001 - pyarrow raises many types
        raise NotSerializable(
            f"{LABEL}[{name!r}] has a value of type {column.type} that Python does not have:"
            f" {error_text(error).rstrip('.')}; convert it, or use format='arrow'."
        ) from None
    return values


def check_names(table: Table) -> None:
    """Check the column names of an Arrow table.

    Raises:
        NotSerializable: a name is there twice, or there are rows and no column.
    """
    names = table.column_names
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise NotSerializable(f"{LABEL} has the column {shown(twice)} twice: rename one of them.")
    if table.num_rows and not names:
        raise NotSerializable(
            f"{LABEL} has {table.num_rows} rows and no column: there is nothing to publish."
        )
