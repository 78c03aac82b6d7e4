"""Normalisation of the row data that a program publishes. Pure.

A mapping of values is one row and a mapping of lists is columns; a sequence of mappings is rows; a
DataFrame, a Series and any object that exports Arrow (tables of pyarrow, polars, DuckDB) is a
table. All other data are refused, because they would arrive as rows that were not intended.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from fabric_nb.errors import NotSerializable
from fabric_nb.fabric.core.values import error_text, shown, unboxed
from fabric_nb.fabric.wire.formats import Table
from fabric_nb.fabric.wire.tables import fields, index_fields
from fabric_nb.frames.rows import is_name, transpose_rows

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
    if isinstance(data, pd.Series):
        return data.to_frame("value" if data.name is None else data.name)
    if isinstance(data, pd.DataFrame):
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
    if isinstance(value, pd.DataFrame):
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
    if not _exports_arrow(column) or isinstance(column, pd.Series):
        return column
    pa = pyarrow()
    stream = hasattr(type(column), "__arrow_c_stream__")
    return _to_list(pa.chunked_array(column) if stream else pa.array(column), name)


def as_rows(data: Rows | Columns | pd.DataFrame | Table) -> Rows | pd.DataFrame:
    """Convert the result of `rows_or_columns` to rows, or a DataFrame, which `codec` encodes so."""
    if isinstance(data, (list, pd.DataFrame)):
        return data
    if isinstance(data, dict):
        columns = [_listed(column) for column in data.values()]
        return [dict(zip(data, row, strict=True)) for row in zip(*columns, strict=True)]
    named = _named(data)
    return [dict(zip(named, row, strict=True)) for row in zip(*named.values(), strict=True)]


def as_columns(data: Rows | Columns | pd.DataFrame | Table) -> Columns:
    """Convert the result of `rows_or_columns` to columns, including those of an index.

    Raises:
        NotSerializable: two columns have the same name, or there are rows without any column.
    """
    if isinstance(data, pd.DataFrame):
        every = [*index_fields(data, LABEL), *fields(data, LABEL)]
        columns: Columns = {field.key: field.values for field in every}
        rows = len(data)
    elif isinstance(data, list):
        columns = dict(transpose_rows([dict(row) for row in data])) if data else {}
        rows = len(data)
    elif isinstance(data, dict):
        return data
    else:
        columns, rows = _named(data), data.num_rows
    if rows and not columns:
        raise NotSerializable(
            f"{LABEL} has {rows} rows and no column, which columns cannot tell: publish it with"
            " format='json'."
        )
    return columns


def as_table(data: Rows | Columns | pd.DataFrame | Table) -> Table:
    """Convert the result of `rows_or_columns` to an Arrow table of equal values.

    Raises:
        NotSerializable: Arrow cannot represent some values, or would change them; or pyarrow is not
            installed.
    """
    pa = pyarrow()
    if isinstance(data, pa.Table):
        _check_names(data)
        return data
    columns = as_columns(data)
    names = {name: _text(name) for name in columns}
    if len(set(names.values())) < len(names):
        raise NotSerializable(f"{LABEL} has two columns of one name: rename one of them.")
    arrays = {names[name]: _array(pa, column, name) for name, column in columns.items()}
    return pa.table(arrays)


def _text(name: Any) -> str:
    plain = unboxed(name)
    if isinstance(plain, (str, int, float)):
        text = str(plain)
        if not is_name(text):
            raise NotSerializable(
                f"{LABEL} has the column {shown(name)}, and Arrow has no half surrogate pairs:"
                " rename it, or use format='json'."
            )
        return text
    raise NotSerializable(
        f"{LABEL} has the column {shown(name)}, and column labels must be text or numbers: flatten"
        " or rename them."
    )


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
    _check_names(table)
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


def _check_names(table: Table) -> None:
    names = table.column_names
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise NotSerializable(f"{LABEL} has the column {shown(twice)} twice: rename one of them.")
    if table.num_rows and not names:
        raise NotSerializable(
            f"{LABEL} has {table.num_rows} rows and no column: there is nothing to publish."
        )


def _listed(column: Any) -> Sequence[Any]:
    return list(column) if isinstance(column, (pd.Series, pd.Index, np.ndarray)) else column


def _array(pa: Any, column: Any, name: Any) -> Any:
    """Convert a column to an Arrow array."""
    dtype = getattr(column, "dtype", np.dtype(object))
    if isinstance(dtype, pd.CategoricalDtype):
        return _categorical(pa, pd.Categorical(column), name)
    place = f"{LABEL}[{name!r}]" if isinstance(name, (str, int)) else f"{LABEL}[{shown(name)}]"
    try:
        array = _converted(pa, column)
    except Exception as error:  # noqa: BLE001 - pyarrow raises many types, and cells any
        raise NotSerializable(
            f"{place} cannot be an Arrow column, whose values are of one type:"
            f" {error_text(error).rstrip('.')}; convert it, or use format='json'."
        ) from None
    if isinstance(array.type, pa.BaseExtensionType):
        raise NotSerializable(
            f"{place} has the type {array.type}, which is none of Arrow's own: convert the column,"
            " for example with astype(str)."
        )
    if isinstance(dtype, np.dtype) and dtype.kind == "O" and not _is_exact(pa, array.type, column):
        for row, (cell, arrives) in enumerate(zip(column, array.to_pylist(), strict=True)):
            if not _same(cell, arrives):
                raise NotSerializable(
                    f"{place}[{row}] is {shown(cell)}, which Arrow would change to"
                    f" {shown(arrives)}: make the column one of values alike, or use"
                    " format='json'."
                )
    return array


def _converted(pa: Any, column: Any) -> Any:
    if hasattr(column, "dtype"):
        if not isinstance(column, (pd.Series, pd.Index, np.ndarray)):
            column = pd.Series(column)
        return pa.Array.from_pandas(column)
    try:
        return pa.array(column)
    except (pa.ArrowException, TypeError, ValueError):  # perhaps missing values of pandas
        return pa.array(column, from_pandas=True)


def _categorical(pa: Any, column: pd.Categorical, name: Any) -> Any:
    """Convert categories of text to an Arrow dictionary, others to an array of their values.

    pyarrow by itself drops the time zone of categories that are times.
    """
    categories = _array(pa, column.categories, name)
    codes = pa.array(column.codes, mask=column.codes < 0)
    if pa.types.is_string(categories.type) or pa.types.is_large_string(categories.type):
        return pa.DictionaryArray.from_arrays(codes, categories, ordered=bool(column.ordered))
    return categories.take(codes)


def _is_exact(pa: Any, kind: Any, column: Iterable[Any]) -> bool:
    """Return whether pyarrow chooses this type only if no value is changed by it."""
    types = pa.types
    if types.is_integer(kind) or types.is_floating(kind):
        return _BOOLEANS.isdisjoint(map(type, column))
    return bool(types.is_boolean(kind) or types.is_string(kind) or types.is_large_string(kind))


_BOOLEANS = frozenset((bool, np.bool_))


def _same(cell: Any, arrives: Any) -> bool:
    """Return whether a value arrives equal, with None for missing values and lists for arrays."""
    if isinstance(cell, np.ndarray):
        cell = cell.tolist()
    if isinstance(cell, Mapping):
        return (
            isinstance(arrives, Mapping)
            and cell.keys() == arrives.keys()
            and all(_same(cell[key], arrives[key]) for key in cell)
        )
    if isinstance(cell, (list, tuple)):
        return (
            isinstance(arrives, list)
            and len(cell) == len(arrives)
            and all(map(_same, cell, arrives))
        )
    if arrives is None or _is_missing(cell):
        return _is_missing(arrives) and _is_missing(cell)
    if isinstance(cell, (bool, np.bool_)) != isinstance(arrives, bool):
        return False
    if isinstance(cell, datetime) or isinstance(arrives, datetime):
        return _same_time(cell, arrives)
    return bool(cell == arrives) or bool(cell != cell and arrives != arrives)


def _same_time(cell: Any, arrives: Any) -> bool:
    if not (isinstance(cell, datetime) and isinstance(arrives, datetime)):
        return False  # a date is not a time
    if (cell.tzinfo is None) != (arrives.tzinfo is None):
        return False
    if cell.tzinfo is None:
        return bool(cell == arrives)
    # In their own zones, two times are never equal within a repeated hour (PEP 495).
    return bool(cell.astimezone(UTC) == arrives.astimezone(UTC))


def _is_missing(cell: Any) -> bool:
    if cell is None or cell is pd.NA or cell is pd.NaT:
        return True
    return isinstance(cell, float) and math.isnan(cell)
