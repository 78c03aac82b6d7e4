"""Validation and normalisation of columns, and of rows as columns; no I/O."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from itertools import chain
from operator import itemgetter
from typing import Any

import pandas as pd

from fabric_nb.errors import InvalidArgument, InvalidArgumentType
from fabric_nb.frames.arrow_types import is_simple
from fabric_nb.frames.rows import OVERFLOW, Row, is_name
from fabric_nb.frames.typed_chunks import SparseValues, as_utc, is_arrow_text, normalised_value

_MAX_SPARSITY = 4
"""Columns are written out in full if at least one value in this many is present."""


def rows_to_columns(
    rows: list[Row], *, existing: Set[str], max_columns: int
) -> tuple[dict[str, list[Any] | SparseValues], list[Row | None]]:
    """Return the values of each column, in the order first seen, and each row's overflow values.

    The cost is proportional to the values present, not to rows times columns.

    Args:
        rows: The rows; at least one.
        existing: Names of the columns that exist already.
        max_columns: Maximum number of columns, including existing ones. Values of further columns
            are returned as one dict per row.
    """
    names = dict.fromkeys(rows[0])
    all_exist = names.keys() <= existing and OVERFLOW not in names
    if all_exist and set(map(len, rows)) == {len(names)}:
        # Usually all rows have the same columns; trying is the quickest test of that.
        with contextlib.suppress(KeyError):
            return {name: list(map(itemgetter(name), rows)) for name in names}, []
    names = dict.fromkeys(chain.from_iterable(rows))
    columns = select_columns(names, existing, max_columns)
    overflow = (
        [] if len(columns) == len(names) else [_overflow_values(row, columns) for row in rows]
    )
    values = sum(map(len, rows))
    if len(rows) * len(columns) <= _MAX_SPARSITY * values:
        return {name: [row.get(name) for row in rows] for name in columns}, overflow
    present: dict[str, tuple[list[int], list[Any]]] = {name: ([], []) for name in columns}
    for place, row in enumerate(rows):
        for name, value in row.items():
            if name in present:
                positions, column_values = present[name]
                positions.append(place)
                column_values.append(value)
    return {name: SparseValues(len(rows), *column) for name, column in present.items()}, overflow


def select_columns(names: Iterable[str], existing: Set[str], max_columns: int) -> dict[str, None]:
    """Return the names that may be columns: existing ones, and new ones up to `max_columns`."""
    room = max(0, max_columns - len(existing) + (OVERFLOW in existing))
    columns: dict[str, None] = {}
    for name in names:
        if name == OVERFLOW:
            continue
        if name in existing:
            columns[name] = None
        elif room and is_name(name):
            columns[name] = None
            room -= 1
    return columns


def _overflow_values(row: Row, columns: Mapping[str, None]) -> Row | None:
    """Return the values of a row that belong to none of the columns; None if there is none."""
    extra = {name: normalised_value(row[name]) for name in row if name not in columns}
    return {name: value for name, value in extra.items() if value is not None} or None


def checked_columns(columns: Any) -> tuple[dict[str, Any], int]:
    """Return the columns of a mapping, a DataFrame or an Arrow table by name, and their length.

    Raises:
        InvalidArgumentType: `columns` is none of these, or a column is neither a list, a tuple nor
            an array.
        InvalidArgument: The columns differ in length, or two of them have the same name.
    """
    if isinstance(columns, Mapping):
        named = dict(columns)
    elif isinstance(columns, pd.DataFrame):
        named = dict(columns.items())
    elif hasattr(columns, "column_names") and hasattr(columns, "column"):
        named = {
            name: _from_arrow(columns.column(i)) for i, name in enumerate(columns.column_names)
        }
    else:
        raise InvalidArgumentType(
            "Columns must come as a mapping, a DataFrame or an Arrow table, "
            f"not {type(columns).__name__}."
        )
    if not isinstance(columns, Mapping) and len(named) < columns.shape[1]:
        raise InvalidArgument("Two columns have the same name.")
    for name, values in named.items():
        is_array = hasattr(values, "dtype") or isinstance(values, list | tuple | range)
        if not is_array and not is_arrow_text(values):
            raise InvalidArgumentType(
                f"Column {name!r} must be a list, a tuple or an array, not {type(values).__name__}."
            )
    lengths = {name: len(values) for name, values in named.items()}
    if len(set(lengths.values())) > 1:
        raise InvalidArgument(f"Columns differ in length: {lengths}.")
    return named, next(iter(lengths.values()), 0)


def is_simple_table(columns: Any) -> bool:
    """Return whether this is an Arrow table of simple columns with distinct names."""
    return (
        hasattr(columns, "combine_chunks")
        and is_simple(columns.schema)
        and len(set(columns.column_names)) == columns.num_columns
    )


def concat_tables(tables: Sequence[Any]) -> Any:
    """Return Arrow tables of one schema as one table, each column in one chunk."""
    import pyarrow as pa

    return pa.concat_tables(tables).combine_chunks() if len(tables) > 1 else tables[0]


def _from_arrow(column: Any) -> Any:
    """Return an Arrow column as an array, and text unchanged; avoids pandas where it is slow."""
    import pyarrow as pa
    from pyarrow import types as kinds

    kind = column.type
    if isinstance(column, pa.Array):  # of a record batch
        column = pa.chunked_array([column])
    if kinds.is_string(kind) or kinds.is_large_string(kind):
        return column
    if kinds.is_timestamp(kind):
        times = column.to_numpy()
        return times if kind.tz is None else as_utc(times)
    is_scalar = kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_boolean(kind)
    if is_scalar and not column.null_count:
        return column.to_numpy()
    # Lists and structs become Python objects; ints with gaps stay ints, not rounded floats.
    return _to_python(column) if kind.num_fields else column.to_pandas(integer_object_nulls=True)


_SLICE_ROWS = 10_000


def _to_python(column: Any) -> list[Any]:
    """Return nested Arrow values as Python objects, in slices so that other threads can run."""
    from pyarrow import types as kinds

    kind = column.type
    chunks = getattr(column, "chunks", [column])
    if any(is_kind(kind) for is_kind in _list_kinds()):
        return [value for chunk in chunks for value in _lists_to_python(chunk)]
    if kinds.is_struct(kind) and 0 < kind.num_fields == len({field.name for field in kind}):
        return [value for chunk in chunks for value in _structs_to_python(chunk)]
    slices = (column.slice(start, _SLICE_ROWS) for start in range(0, len(column), _SLICE_ROWS))
    return [value for part in slices for value in part.to_pylist()]


def _list_kinds() -> tuple[Callable[[Any], bool], ...]:
    from pyarrow import types as kinds

    views = (kinds.is_list_view, kinds.is_large_list_view)
    return (kinds.is_list, kinds.is_large_list, kinds.is_fixed_size_list, *views)


def _lists_to_python(array: Any) -> Iterator[list[Any] | None]:
    import pyarrow.compute

    try:
        lengths = pyarrow.compute.list_value_length(array)
    except NotImplementedError:  # for list views, before pyarrow 17
        yield from array.to_pylist()
        return
    values, start = _to_python(array.flatten()), 0
    for length in _to_python(lengths):
        yield None if length is None else values[start : start + length]
        start += length or 0


def _structs_to_python(array: Any) -> Iterator[Row | None]:
    names = [field.name for field in array.type]
    rows = zip(*map(_to_python, array.flatten()), strict=True)
    for row, is_valid in zip(rows, _to_python(array.is_valid()), strict=True):
        yield dict(zip(names, row, strict=True)) if is_valid else None
