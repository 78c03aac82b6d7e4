"""Type inference and widening: Python values and arrays become typed chunks; no I/O.

A `Chunk` is a run of values of one column with the narrowest `Kind` that represents them all. Two
chunks are brought to a common kind by `unify`. Kinds only widen, and the result depends on the
values alone, never on chunk boundaries::

    EMPTY ── BOOL ─────────────────────────┐
      ├──── INT ── FLOAT ──────────────────┤
      ├──── TEXT ──────────────────────────┼── OBJECT
      └──── TIME, INSTANT ── source kind ──┘

Widening loses nothing. A float column records which of its numbers were ints, and a time column
how each of its values was written (its `formats`), so that `restore` returns the original values.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import numpy as np
import pandas as pd

from fabric_nb.errors import InvalidArgument
from fabric_nb.frames import time_conversion
from fabric_nb.frames.time_conversion import (
    DATETIMES,
    NUMBERS,
    TEXT,
    Array,
    EpochFormat,
    IsoFormat,
    SourceFormat,
    Times,
    Unit,
)

# Largest magnitude up to which float64 represents every whole number.
_MAX_EXACT_INT = 2**53
_INT64 = np.iinfo(np.int64)


class Kind(Enum):
    """Kind of the values of a column; the module docstring shows how kinds widen."""

    EMPTY = auto()  # only missing values so far
    BOOL = auto()
    INT = auto()  # int64
    FLOAT = auto()  # float64; missing is NaN
    TIME = auto()  # datetime64 without a zone; missing is NaT
    INSTANT = auto()  # datetime64 in UTC; missing is NaT
    TEXT = auto()  # an Arrow string array if pandas stores text in Arrow, else Python strings
    OBJECT = auto()  # Python objects; missing is None


TIMES = frozenset({Kind.TIME, Kind.INSTANT})


@dataclass(frozen=True, slots=True)
class NumberFormat:
    """Original type of the numbers of a float column."""

    number: type[int] | type[float]

    def restore(self, values: Array) -> list[int | float]:
        """Return the numbers in their original type."""
        return list(map(self.number, values.tolist()))


@dataclass(frozen=True, slots=True)
class Chunk:
    """A run of values of one kind.

    Attributes:
        kind: Kind of the values.
        values: One per row: an array of the kind's dtype, or an Arrow array for text.
        formats: Source formats, for FLOAT, TIME and INSTANT.
        codes: Index into `formats` for each value; None if there is at most one format.
    """

    kind: Kind
    values: Any
    formats: tuple[SourceFormat, ...] = ()
    codes: Array | None = None

    @property
    def rows(self) -> int:
        """Number of values. Not `len()`, because an empty chunk would then be false."""
        return len(self.values)

    def from_row(self, start: int) -> Chunk:
        """Return the chunk without its first `start` values."""
        codes = None if self.codes is None else self.codes[start:]
        return Chunk(self.kind, self.values[start:], self.formats, codes)


@dataclass(frozen=True, slots=True)
class SparseValues:
    """Values of a column that is absent from most rows.

    Attributes:
        rows: Number of rows.
        positions: Positions of the rows that have a value, ascending.
        values: Their values.
    """

    rows: int
    positions: Sequence[int]
    values: Sequence[Any]

    def __len__(self) -> int:
        return self.rows


@functools.cache
def arrow() -> Any | None:
    """Return the pyarrow module if this pandas stores text in Arrow arrays, else None."""
    dtype = pd.Series(["text"]).dtype
    if isinstance(dtype, pd.StringDtype) and dtype.storage == "pyarrow":
        import pyarrow as pa

        return pa
    return None


def is_arrow_text(values: Any) -> bool:
    """Return whether this is a `pyarrow.ChunkedArray`; callers pass only those of text."""
    return hasattr(values, "chunks") and not hasattr(values, "dtype")


def as_utc(values: Array) -> Any:
    """Return times without a zone as times in UTC, without a copy."""
    unit: Any = np.datetime_data(values.dtype)[0]
    return pd.array(values.view(np.int64), dtype=pd.DatetimeTZDtype(unit, "UTC"), copy=False)


def missing_chunk(rows: int) -> Chunk:
    """Return a chunk of `rows` missing values, of no kind yet."""
    return Chunk(Kind.EMPTY, np.full(rows, np.nan))


def infer_chunk(
    values: Any,
    *,
    column_kind: Kind = Kind.EMPTY,
    unit: Unit | None = None,
    text_times: bool = True,
) -> Chunk:
    """Return the chunk for a list of Python values or a one-dimensional array.

    Args:
        values: A list or tuple, a numpy array, a Series, an extension array, Arrow text, or
            `SparseValues` values.
        column_kind: Kind of the column to which the values will be added. A column that is no
            longer of times does not become one again, so parsing is not tried.
        unit: Unit if numbers are times since 1970.
        text_times: Whether text may be times.

    Raises:
        InvalidArgument: An array has other than one dimension.
    """
    if isinstance(values, SparseValues):
        present = infer_chunk(
            values.values, column_kind=column_kind, unit=unit, text_times=text_times
        )
        return _expand_sparse(present, values)
    if column_kind not in TIMES | {Kind.EMPTY}:
        text_times, unit = False, None
    if is_arrow_text(values):
        chunk = _arrow_text(values, text_times=text_times) if arrow() is not None else None
        if chunk is not None:
            return chunk
        values = values.to_pylist()
    elif hasattr(values, "dtype"):
        chunk = _chunk_of_array(values, unit, text_times=text_times)
        if chunk is not None:
            return chunk
        values = list(values)
    if column_kind is Kind.OBJECT:
        return _objects([normalised_value(value) for value in values])
    return _chunk_of_list(values, unit, text_times=text_times)


def unify(existing: Chunk, new: Chunk) -> tuple[Chunk, Chunk]:
    """Return both chunks in the narrowest common kind; a chunk of that kind is returned itself."""
    kinds = {existing.kind, new.kind}
    if len(kinds) == 1 and (existing.kind not in TIMES or _same_storage(existing, new)):
        return existing, new
    if Kind.EMPTY in kinds and Kind.BOOL not in kinds and Kind.INT not in kinds:
        return _missing_as(existing, like=new), _missing_as(new, like=existing)
    widen = None
    if kinds <= {Kind.EMPTY, Kind.INT, Kind.FLOAT}:
        widen = _as_floats
    elif len(kinds) == 1:
        widen = _as_nanoseconds
    if widen is not None:
        wide_existing, wide_new = widen(existing), widen(new)
        if (
            wide_existing is not None
            and wide_new is not None
            and _same_storage(wide_existing, wide_new)
        ):
            return wide_existing, wide_new
    if kinds & TIMES:
        return unify(_as_written(existing), _as_written(new))
    return _as_objects(existing), _as_objects(new)


def restore(chunk: Chunk) -> list[Any]:
    """Return the original values as Python objects, None for missing ones."""
    match chunk.kind:
        case Kind.EMPTY:
            return [None] * chunk.rows
        case Kind.FLOAT | Kind.TIME | Kind.INSTANT:
            objects = np.full(chunk.rows, None, dtype=object)
            present = ~np.isnan(chunk.values)
            for code, source_format in enumerate(chunk.formats):
                chosen = present if chunk.codes is None else present & (chunk.codes == code)
                objects[chosen] = _objects(source_format.restore(chunk.values[chosen])).values
            return list(objects)
        case Kind.TEXT if arrow() is not None:
            return list(chunk.values.to_pylist())
    return list(chunk.values.tolist())


# -- from Python values ----------------------------------------------------------------------------


_KNOWN = {bool, dict, list} | TEXT | NUMBERS | DATETIMES


def _chunk_of_list(values: Sequence[Any], unit: Unit | None, *, text_times: bool) -> Chunk:
    types = set(map(type, values)) - {type(None)}
    if not types <= _KNOWN or (float in types and types != {float}):
        values = [normalised_value(value) for value in values]
        types = set(map(type, values)) - {type(None)}
    if not types:
        return missing_chunk(len(values))
    chunk = _times(values, types, unit, text_times=text_times)
    if chunk is None and types <= NUMBERS:
        chunk = _numbers(values, types)
    elif chunk is None and types == TEXT:
        chunk = _text(values)
    elif types == {bool} and None not in values:
        chunk = Chunk(Kind.BOOL, np.array(values, dtype=np.bool_))
    return chunk if chunk is not None else _objects(values)


def _times(
    values: Sequence[Any], types: set[type], unit: Unit | None, *, text_times: bool
) -> Chunk | None:
    if types == TEXT:
        return _time_chunk(time_conversion.from_text(values)) if text_times else None
    if types <= NUMBERS:
        return _time_chunk(time_conversion.from_numbers(values, unit)) if unit else None
    if types <= DATETIMES:
        return _time_chunk(time_conversion.from_datetimes(values))
    if text_times and types <= TEXT | NUMBERS | DATETIMES:
        return _time_chunk(time_conversion.from_mixed(values, unit))
    return None


def _time_chunk(converted: Times | None) -> Chunk | None:
    if converted is None:
        return None
    kind = Kind.INSTANT if converted.zoned else Kind.TIME
    return Chunk(kind, converted.values, converted.formats, converted.codes)


def normalised_value(value: Any) -> Any:
    """Return a numpy scalar as its Python value, and None for a missing value."""
    if isinstance(value, np.datetime64):
        with contextlib.suppress(ValueError):  # out of the range of a Timestamp
            value = pd.Timestamp(value)
    elif isinstance(value, np.generic) and not isinstance(value, np.timedelta64):
        value = value.item()
    if value is pd.NaT or value is pd.NA or (type(value) is float and math.isnan(value)):
        return None
    return value


def _objects(values: Sequence[Any]) -> Chunk:
    # Not np.array(), which would turn equally long lists into a second dimension.
    return Chunk(Kind.OBJECT, np.fromiter(values, dtype=object, count=len(values)))


def _numbers(values: Sequence[Any], types: set[type]) -> Chunk | None:
    if types == {float}:
        floats = np.array(values, dtype=np.float64)
        if np.isnan(floats).all():
            return missing_chunk(len(values))
        return Chunk(Kind.FLOAT, floats, (NumberFormat(float),))
    if types == {int} and None not in values:
        try:
            return Chunk(Kind.INT, np.array(values, dtype=np.int64))
        except OverflowError:
            return None
    ints = [value for value in values if type(value) is int]
    if min(ints) < -_MAX_EXACT_INT or max(ints) > _MAX_EXACT_INT:
        return None
    floats = np.array(values, dtype=np.float64)
    if types == {int}:
        return Chunk(Kind.FLOAT, floats, (NumberFormat(int),))
    codes = np.array([type(value) is float for value in values]).view(np.uint8)
    return Chunk(Kind.FLOAT, floats, (NumberFormat(int), NumberFormat(float)), codes)


def _text(values: Sequence[Any]) -> Chunk | None:
    pa = arrow()
    if pa is None:
        return Chunk(Kind.TEXT, _objects(values).values)
    try:
        return Chunk(Kind.TEXT, pa.array(values, type=pa.large_string()))
    except UnicodeEncodeError:
        # JSON may contain a lone surrogate, which UTF-8 cannot encode.
        return None


# -- from arrays -----------------------------------------------------------------------------------


def _chunk_of_array(values: Any, unit: Unit | None, *, text_times: bool) -> Chunk | None:
    """Return the chunk of an array by its dtype; None if its values must be inspected singly."""
    if isinstance(values.dtype, pd.DatetimeTZDtype):
        # Whatever the zone, times are stored in UTC.
        instants = np.asarray(pd.DatetimeIndex(values).asi8)
        return _datetime_array(instants.view(f"M8[{values.dtype.unit}]"), zoned=True)
    if isinstance(values.dtype, pd.StringDtype):
        return _text_array(values, text_times=text_times)
    array = np.asarray(values)
    if array.ndim != 1:
        raise InvalidArgument(f"A column has one dimension, not {array.ndim}.")
    match array.dtype.kind:
        case "b":
            return Chunk(Kind.BOOL, array)
        case "M":
            return _datetime_array(array, zoned=False)
        case "i" | "u" | "f":
            return _number_array(array, unit)
    return None


def _text_array(values: Any, *, text_times: bool) -> Chunk | None:
    pa = arrow()
    if pa is None:
        return None
    return _arrow_text(
        pa.array(values, type=pa.large_string(), from_pandas=True), text_times=text_times
    )


def _arrow_text(text: Any, *, text_times: bool) -> Chunk | None:
    if text.null_count == len(text):
        return missing_chunk(len(text))
    if text_times:
        first = text[0].as_py() if text[0].is_valid else text.drop_null()[0].as_py()
        # Text that may be times is read value by value, as from rows.
        if time_conversion.looks_like_time(first):
            return None
    pa = arrow()
    large = text if pa is None or text.type == pa.large_string() else text.cast(pa.large_string())
    return Chunk(Kind.TEXT, large)


def _number_array(array: Array, unit: Unit | None) -> Chunk | None:
    is_float = array.dtype.kind == "f"
    if is_float and np.isnan(array).all():
        return missing_chunk(len(array))
    if array.dtype == np.uint64 and array.max() > _INT64.max:
        return None
    array = array.astype(np.float64 if is_float else np.int64, copy=False)
    chunk = _time_chunk(time_conversion.from_number_array(array, unit)) if unit else None
    if chunk is not None:
        return chunk
    return Chunk(Kind.FLOAT, array, (NumberFormat(float),)) if is_float else Chunk(Kind.INT, array)


def _datetime_array(array: Array, *, zoned: bool) -> Chunk | None:
    if np.isnat(array).all():
        return missing_chunk(len(array))
    return _time_chunk(time_conversion.from_datetime_array(array, zoned=zoned))


# -- widening --------------------------------------------------------------------------------------


def _same_storage(existing: Chunk, new: Chunk) -> bool:
    formats = {*existing.formats, *new.formats}
    return (
        bool(existing.values.dtype == new.values.dtype)
        and len(formats) <= time_conversion.MAX_FORMATS
    )


def _as_nanoseconds(chunk: Chunk) -> Chunk | None:
    values = time_conversion.in_nanoseconds(chunk.values)
    return None if values is None else Chunk(chunk.kind, values, chunk.formats, chunk.codes)


def _as_floats(chunk: Chunk) -> Chunk | None:
    """Return numbers or missing values as floats; None if a whole number would be rounded."""
    if chunk.kind is Kind.FLOAT:
        return chunk
    if chunk.kind is Kind.EMPTY:
        return Chunk(Kind.FLOAT, chunk.values)
    if chunk.rows and (chunk.values.max() > _MAX_EXACT_INT or chunk.values.min() < -_MAX_EXACT_INT):
        return None
    return Chunk(Kind.FLOAT, chunk.values.astype(np.float64), (NumberFormat(int),))


def _missing_as(chunk: Chunk, *, like: Chunk) -> Chunk:
    """Return missing values in the kind of another chunk; other chunks are returned unchanged."""
    if chunk.kind is not Kind.EMPTY:
        return chunk
    match like.kind:
        case Kind.FLOAT:
            return Chunk(Kind.FLOAT, chunk.values)
        case Kind.TIME | Kind.INSTANT:
            return Chunk(like.kind, np.full(chunk.rows, "NaT", dtype=like.values.dtype))
        case Kind.TEXT if (pa := arrow()) is not None:
            return Chunk(Kind.TEXT, pa.nulls(chunk.rows, pa.large_string()))
        case Kind.TEXT:
            return Chunk(Kind.TEXT, _nones(chunk.rows))
    return Chunk(Kind.OBJECT, _nones(chunk.rows))


def _nones(rows: int) -> Array:
    return np.full(rows, None, dtype=object)


def _expand_sparse(chunk: Chunk, sparse: SparseValues) -> Chunk:
    """Expand sparse values to all rows; per row without a value it costs only a memset."""
    if chunk.rows == sparse.rows:
        return chunk
    _, chunk = unify(missing_chunk(1), chunk)  # the kind that a gap requires
    if chunk.kind is Kind.EMPTY:
        return missing_chunk(sparse.rows)
    if not isinstance(chunk.values, np.ndarray):
        pa = arrow()
        assert pa is not None  # noqa: S101 - only Arrow text is not in a numpy array
        takes = np.zeros(sparse.rows, dtype=np.int64)
        takes[sparse.positions] = np.arange(chunk.rows)
        absent = np.ones(sparse.rows, dtype=np.bool_)
        absent[sparse.positions] = False
        return Chunk(chunk.kind, chunk.values.take(pa.array(takes, mask=absent)))
    values = _missing_as(missing_chunk(sparse.rows), like=chunk).values
    values[sparse.positions] = chunk.values
    codes = None
    if chunk.codes is not None:
        codes = np.zeros(sparse.rows, dtype=np.uint8)
        codes[sparse.positions] = chunk.codes
    return Chunk(chunk.kind, values, chunk.formats, codes)


def _as_written(chunk: Chunk) -> Chunk:
    """Return the values as they were written, in the kind of their source formats."""
    if chunk.kind not in TIMES:
        return chunk
    like = _WRITTEN_KINDS.get(frozenset(map(type, chunk.formats)))
    if like is None:
        return _objects(restore(chunk))
    return _missing_as(_chunk_of_list(restore(chunk), None, text_times=False), like=like)


def _as_objects(chunk: Chunk) -> Chunk:
    return chunk if chunk.kind is Kind.OBJECT else _objects(restore(chunk))


_NONE = np.empty(0)
_WRITTEN_KINDS = {
    frozenset({IsoFormat}): Chunk(Kind.TEXT, _NONE),
    frozenset({EpochFormat}): Chunk(Kind.FLOAT, _NONE),
}
