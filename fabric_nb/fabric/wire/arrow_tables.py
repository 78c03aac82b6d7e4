"""Arrow tables of row data that a program publishes, with equal values. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from fabric_nb.errors import NotSerializable
from fabric_nb.fabric.core.values import error_text, shown, unboxed
from fabric_nb.fabric.wire.formats import Table
from fabric_nb.fabric.wire.rows import LABEL, Columns, Rows, as_columns, check_names, pyarrow
from fabric_nb.frames.rows import is_name


def as_table(data: Rows | Columns | pd.DataFrame | Table) -> Table:
    """Convert the result of `rows_or_columns` to an Arrow table of equal values.

    Raises:
        NotSerializable: Arrow cannot represent some values, or would change them; or pyarrow is not
            installed.
    """
    pa = pyarrow()
    if isinstance(data, pa.Table):
        check_names(data)
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
