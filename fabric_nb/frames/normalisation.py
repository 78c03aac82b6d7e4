"""Rows and columns as they are given, checked and made alike; pure."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from functools import cache
from itertools import chain
from operator import itemgetter
from typing import Any, Final

import pandas as pd

from fabric_nb.errors import InvalidArgument, InvalidArgumentType
from fabric_nb.frames.typed_chunks import Sparse, in_utc, is_arrow_text, plain

Row = dict[str, Any]

OWN_PREFIX: Final = "row."
OVERFLOW: Final = "_overflow"
"""The column of what came in columns beyond `max_columns`, as one dict per row."""

_DENSE = 4
"""Columns are written out in full while at least one value in so many is there."""


def is_name(name: object) -> bool:
    """Whether pandas can show a column of this name; JSON may hold half a surrogate pair."""
    return not (isinstance(name, str) and re.search("[\ud800-\udfff]", name))


def own_row(row: object, place: int | None = None) -> Row:
    """A copy of a row, though not a deep one.

    Raises:
        InvalidArgumentType: It is not a mapping; the message says which row.
    """
    if type(row) is dict:
        return row.copy()
    if isinstance(row, Mapping):
        return dict(row)
    which = "A row" if place is None else f"Row {place}"
    raise InvalidArgumentType(
        f"{which} must be a mapping of column to value, not {type(row).__name__}."
    )


def own_rows(rows: Iterable[Mapping[str, Any]], *, copy: bool) -> list[Row]:
    """Rows as dicts, copied where that is asked for or needed.

    Raises:
        InvalidArgumentType: They are columns, or one of them is not a mapping.
    """
    if isinstance(rows, Mapping) or hasattr(rows, "columns"):
        raise InvalidArgumentType("These are columns, not rows; add them with extend_columns().")
    if copy:
        return [
            row.copy() if type(row) is dict else own_row(row, place)
            for place, row in enumerate(rows)
        ]
    return [row if type(row) is dict else own_row(row, place) for place, row in enumerate(rows)]


def assigned(row: Row, values: Mapping[str, Any]) -> Row:
    """A row with further values; its own under such a name is kept under another.

    Example:
        >>> assigned({"n": 1, "at": "noon"}, {"at": 5})
        {'n': 1, 'row.at': 'noon', 'at': 5}
    """
    if row.keys().isdisjoint(values):
        return {**row, **values}
    renamed = {OWN_PREFIX + name if name in values else name: row[name] for name in row}
    return {**renamed, **values}


def by_column(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The values of each column, None where a row has none, in the order first seen."""
    names = dict.fromkeys(chain.from_iterable(rows))
    if set(map(len, rows)) == {len(names)}:
        return {name: list(map(itemgetter(name), rows)) for name in names}
    return {name: [row.get(name) for row in rows] for name in names}


def into_columns(
    rows: list[Row], *, held: Set[str], most: int
) -> tuple[dict[str, list[Any] | Sparse], list[Row | None]]:
    """The values of each column, in the order first seen, and of each row what is in no column.

    The cost follows the values that are there, and not the number of rows times that of columns.

    Args:
        rows: At least one.
        held: Columns that there are already.
        most: The most columns, with these. The values of others are returned as one dict per row.
    """
    names = dict.fromkeys(rows[0])
    known = names.keys() <= held and OVERFLOW not in names
    if known and set(map(len, rows)) == {len(names)}:
        # Most often all rows have the same columns, which is quicker to find by trying.
        with contextlib.suppress(KeyError):
            return {name: list(map(itemgetter(name), rows)) for name in names}, []
    names = dict.fromkeys(chain.from_iterable(rows))
    columns = within(names, held, most)
    over = [] if len(columns) == len(names) else [_besides(row, columns) for row in rows]
    values = sum(map(len, rows))
    if len(rows) * len(columns) <= _DENSE * values:
        return {name: [row.get(name) for row in rows] for name in columns}, over
    found: dict[str, tuple[list[int], list[Any]]] = {name: ([], []) for name in columns}
    for place, row in enumerate(rows):
        for name, value in row.items():
            if name in found:
                places, its_values = found[name]
                places.append(place)
                its_values.append(value)
    return {name: Sparse(len(rows), *each) for name, each in found.items()}, over


def within(names: Iterable[str], held: Set[str], most: int) -> dict[str, None]:
    """Those of the names that may be columns: the held ones, and new ones up to a bound."""
    room = max(0, most - len(held) + (OVERFLOW in held))
    columns: dict[str, None] = {}
    for name in names:
        if name == OVERFLOW:
            continue
        if name in held:
            columns[name] = None
        elif room and is_name(name):
            columns[name] = None
            room -= 1
    return columns


def _besides(row: Row, columns: Mapping[str, None]) -> Row | None:
    """The values of a row that are in none of the columns; None if there is none."""
    others = {name: plain(row[name]) for name in row if name not in columns}
    return {name: value for name, value in others.items() if value is not None} or None


def own_columns(columns: Any) -> tuple[dict[str, Any], int]:
    """The columns of a mapping, a DataFrame or an Arrow table by name, and how long they are.

    Raises:
        InvalidArgumentType: It is none of these, or a column is neither a list, a tuple nor an
            array.
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
        known = hasattr(values, "dtype") or isinstance(values, list | tuple | range)
        if not known and not is_arrow_text(values):
            raise InvalidArgumentType(
                f"Column {name!r} must be a list, a tuple or an array, not {type(values).__name__}."
            )
    lengths = {name: len(values) for name, values in named.items()}
    if len(set(lengths.values())) > 1:
        raise InvalidArgument(f"Columns differ in length: {lengths}.")
    return named, next(iter(lengths.values()), 0)


def is_plain_table(columns: Any) -> bool:
    """Whether it is an Arrow table whose columns, all named differently, are simple arrays."""
    return (
        hasattr(columns, "combine_chunks")
        and is_simple(columns.schema)
        and len(set(columns.column_names)) == columns.num_columns
    )


def is_simple(schema: Any) -> bool:
    """Return whether all columns are read as they are, without an object for each value."""
    return _simple().issuperset([kind.id for kind in schema.types])


@cache
def _simple() -> frozenset[int]:
    """Arrow's numbers of the types of numbers, truth values, timestamps and text."""
    import pyarrow as pa

    whole = (pa.int8(), pa.int16(), pa.int32(), pa.int64())
    natural = (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())
    others = (pa.float16(), pa.float32(), pa.float64(), pa.bool_(), pa.timestamp("s"))
    return frozenset(
        kind.id for kind in (*whole, *natural, *others, pa.string(), pa.large_string())
    )


def joined(tables: Sequence[Any]) -> Any:
    """Arrow tables of one schema as one, each column in one piece."""
    import pyarrow as pa

    return pa.concat_tables(tables).combine_chunks() if len(tables) > 1 else tables[0]


def _from_arrow(column: Any) -> Any:
    """An Arrow column as an array, or as it is if it is text; past pandas, where that is slow."""
    import pyarrow as pa
    from pyarrow import types as kinds

    kind = column.type
    if isinstance(column, pa.Array):  # of a record batch
        column = pa.chunked_array([column])
    if kinds.is_string(kind) or kinds.is_large_string(kind):
        return column
    if kinds.is_timestamp(kind):
        times = column.to_numpy()
        return times if kind.tz is None else in_utc(times)
    plain = kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_boolean(kind)
    if plain and not column.null_count:
        return column.to_numpy()
    # Lists and structs stay plain Python; ints with gaps stay ints rather than rounded floats.
    return _objects(column) if kind.num_fields else column.to_pandas(integer_object_nulls=True)


_AT_ONCE = 10_000


def _objects(column: Any) -> list[Any]:
    """Nested Arrow values as Python objects, some at a time: other threads get their turn."""
    from pyarrow import types as kinds

    kind = column.type
    chunks = getattr(column, "chunks", [column])
    if any(is_kind(kind) for is_kind in _list_kinds()):
        return [value for chunk in chunks for value in _lists(chunk)]
    if kinds.is_struct(kind) and 0 < kind.num_fields == len({field.name for field in kind}):
        return [value for chunk in chunks for value in _structs(chunk)]
    slices = (column.slice(start, _AT_ONCE) for start in range(0, len(column), _AT_ONCE))
    return [value for part in slices for value in part.to_pylist()]


def _list_kinds() -> tuple[Callable[[Any], bool], ...]:
    from pyarrow import types as kinds

    views = (kinds.is_list_view, kinds.is_large_list_view)
    return (kinds.is_list, kinds.is_large_list, kinds.is_fixed_size_list, *views)


def _lists(array: Any) -> Iterator[list[Any] | None]:
    import pyarrow.compute

    try:
        lengths = pyarrow.compute.list_value_length(array)
    except NotImplementedError:  # of list views, before pyarrow 17
        yield from array.to_pylist()
        return
    values, start = _objects(array.flatten()), 0
    for length in _objects(lengths):
        yield None if length is None else values[start : start + length]
        start += length or 0


def _structs(array: Any) -> Iterator[Row | None]:
    names = [field.name for field in array.type]
    rows = zip(*map(_objects, array.flatten()), strict=True)
    for row, is_there in zip(rows, _objects(array.is_valid()), strict=True):
        yield dict(zip(names, row, strict=True)) if is_there else None
