"""What the values of a column are: Python values and arrays in, typed pieces out; pure.

A `Piece` is a run of values of one column with the narrowest `Kind` that holds them all. Two pieces
are brought to a common kind by `unify`. Kinds only widen, and the result depends on the values
alone, never on where a chunk ended::

    EMPTY ── BOOL ─────────────────────────┐
      ├──── INT ── FLOAT ──────────────────┤
      ├──── TEXT ──────────────────────────┼── OBJECT
      └──── TIME, INSTANT ── what they were┘

Widening loses nothing. A float column remembers which of its numbers came as ints, and a time
column how each of its values was written (its `forms`), so that `restored` gives back what came in.
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
    Epoch,
    Form,
    Iso,
    Times,
    Unit,
)

# Beyond this a float64 no longer holds every whole number.
_EXACT = 2**53
_INT64 = np.iinfo(np.int64)


class Kind(Enum):
    """What a column holds; see the module's drawing for how kinds widen."""

    EMPTY = auto()  # only missing values so far
    BOOL = auto()
    INT = auto()  # int64
    FLOAT = auto()  # float64; missing is NaN
    TIME = auto()  # datetime64 without a zone; missing is NaT
    INSTANT = auto()  # datetime64 in UTC; missing is NaT
    TEXT = auto()  # an Arrow string array where pandas keeps text so, else Python strings
    OBJECT = auto()  # Python objects; missing is None


TIMES = frozenset({Kind.TIME, Kind.INSTANT})


@dataclass(frozen=True, slots=True)
class Number:
    """A whole number or a float, held in a float column."""

    number: type[int] | type[float]

    def restored(self, values: Array) -> list[int | float]:
        """The numbers, as what they came."""
        return list(map(self.number, values.tolist()))


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of values of one kind.

    Attributes:
        kind: What the values are.
        values: One per row: an array of the kind's dtype, or an Arrow array for text.
        forms: For FLOAT, TIME and INSTANT: the ways in which values were written.
        codes: The place in `forms` of each value; None if there is at most one form.
    """

    kind: Kind
    values: Any
    forms: tuple[Form, ...] = ()
    codes: Array | None = None

    @property
    def rows(self) -> int:
        """How many values there are. Not `len()`, by which a piece of no rows would be false."""
        return len(self.values)

    def from_row(self, start: int) -> Piece:
        """The same without the first `start` values."""
        codes = None if self.codes is None else self.codes[start:]
        return Piece(self.kind, self.values[start:], self.forms, codes)


@dataclass(frozen=True, slots=True)
class Sparse:
    """The values of a column that most rows have not.

    Attributes:
        rows: How many rows there are.
        places: The numbers of the rows that have a value, rising.
        values: Their values.
    """

    rows: int
    places: Sequence[int]
    values: Sequence[Any]

    def __len__(self) -> int:
        return self.rows


@functools.cache
def arrow() -> Any | None:
    """The pyarrow module if this pandas keeps text in Arrow arrays, else None."""
    dtype = pd.Series(["text"]).dtype
    if isinstance(dtype, pd.StringDtype) and dtype.storage == "pyarrow":
        import pyarrow as pa

        return pa
    return None


def is_arrow_text(values: Any) -> bool:
    """Whether this is a `pyarrow.ChunkedArray`, of which only those of text get here."""
    return hasattr(values, "chunks") and not hasattr(values, "dtype")


def in_utc(values: Array) -> Any:
    """Times without a zone as times in UTC, without a copy."""
    unit: Any = np.datetime_data(values.dtype)[0]
    return pd.array(values.view(np.int64), dtype=pd.DatetimeTZDtype(unit, "UTC"), copy=False)


def missing(rows: int) -> Piece:
    """That many missing values, of no kind yet."""
    return Piece(Kind.EMPTY, np.full(rows, np.nan))


def piece_of(
    values: Any, *, held: Kind = Kind.EMPTY, unit: Unit | None = None, text_times: bool = True
) -> Piece:
    """The piece of a list of Python values or of a one-dimensional array.

    Args:
        values: A list or tuple, a numpy array, a Series, an extension array, Arrow text, or
            `Sparse` values.
        held: The kind of the column that it will join. A column that has stopped being one of
            times does not become one again, so the values need not be tried.
        unit: The unit if numbers are times since 1970.
        text_times: Whether text may be times.

    Raises:
        InvalidArgument: An array has other than one dimension.
    """
    if isinstance(values, Sparse):
        there = piece_of(values.values, held=held, unit=unit, text_times=text_times)
        return _spread(there, values)
    if held not in TIMES | {Kind.EMPTY}:
        text_times, unit = False, None
    if is_arrow_text(values):
        piece = _arrow_text(values, text_times=text_times) if arrow() is not None else None
        if piece is not None:
            return piece
        values = values.to_pylist()
    elif hasattr(values, "dtype"):
        piece = _piece_of_array(values, unit, text_times=text_times)
        if piece is not None:
            return piece
        values = list(values)
    if held is Kind.OBJECT:
        return _objects([plain(value) for value in values])
    return _piece_of_list(values, unit, text_times=text_times)


def unify(held: Piece, new: Piece) -> tuple[Piece, Piece]:
    """Both pieces in the narrowest kind that holds both; one that is of it already stays itself."""
    kinds = {held.kind, new.kind}
    if len(kinds) == 1 and (held.kind not in TIMES or _alike(held, new)):
        return held, new
    if Kind.EMPTY in kinds and Kind.BOOL not in kinds and Kind.INT not in kinds:
        return _filled(held, like=new), _filled(new, like=held)
    widen = None
    if kinds <= {Kind.EMPTY, Kind.INT, Kind.FLOAT}:
        widen = _as_floats
    elif len(kinds) == 1:
        widen = _as_nanoseconds
    if widen is not None:
        wide_held, wide_new = widen(held), widen(new)
        if wide_held is not None and wide_new is not None and _alike(wide_held, wide_new):
            return wide_held, wide_new
    if kinds & TIMES:
        return unify(_without_times(held), _without_times(new))
    return _as_objects(held), _as_objects(new)


def restored(piece: Piece) -> list[Any]:
    """The values as Python objects, as they were put in; what is missing is None."""
    match piece.kind:
        case Kind.EMPTY:
            return [None] * piece.rows
        case Kind.FLOAT | Kind.TIME | Kind.INSTANT:
            objects = np.full(piece.rows, None, dtype=object)
            present = ~np.isnan(piece.values)
            for code, form in enumerate(piece.forms):
                chosen = present if piece.codes is None else present & (piece.codes == code)
                objects[chosen] = _objects(form.restored(piece.values[chosen])).values
            return list(objects)
        case Kind.TEXT if arrow() is not None:
            return list(piece.values.to_pylist())
    return list(piece.values.tolist())


# -- from Python values ----------------------------------------------------------------------------


_KNOWN = {bool, dict, list} | TEXT | NUMBERS | DATETIMES


def _piece_of_list(values: Sequence[Any], unit: Unit | None, *, text_times: bool) -> Piece:
    types = set(map(type, values)) - {type(None)}
    if not types <= _KNOWN or (float in types and types != {float}):
        values = [plain(value) for value in values]
        types = set(map(type, values)) - {type(None)}
    if not types:
        return missing(len(values))
    piece = _times(values, types, unit, text_times=text_times)
    if piece is None and types <= NUMBERS:
        piece = _numbers(values, types)
    elif piece is None and types == TEXT:
        piece = _text(values)
    elif types == {bool} and None not in values:
        piece = Piece(Kind.BOOL, np.array(values, dtype=np.bool_))
    return piece if piece is not None else _objects(values)


def _times(
    values: Sequence[Any], types: set[type], unit: Unit | None, *, text_times: bool
) -> Piece | None:
    if types == TEXT:
        return _time_piece(time_conversion.from_text(values)) if text_times else None
    if types <= NUMBERS:
        return _time_piece(time_conversion.from_numbers(values, unit)) if unit else None
    if types <= DATETIMES:
        return _time_piece(time_conversion.from_datetimes(values))
    if text_times and types <= TEXT | NUMBERS | DATETIMES:
        return _time_piece(time_conversion.from_mixed(values, unit))
    return None


def _time_piece(found: Times | None) -> Piece | None:
    if found is None:
        return None
    kind = Kind.INSTANT if found.zoned else Kind.TIME
    return Piece(kind, found.values, found.forms, found.codes)


def plain(value: Any) -> Any:
    """The value without its numpy wrapping, and None if it stands for a missing one."""
    if isinstance(value, np.datetime64):
        with contextlib.suppress(ValueError):  # out of the range of a Timestamp
            value = pd.Timestamp(value)
    elif isinstance(value, np.generic) and not isinstance(value, np.timedelta64):
        value = value.item()
    if value is pd.NaT or value is pd.NA or (type(value) is float and math.isnan(value)):
        return None
    return value


def _objects(values: Sequence[Any]) -> Piece:
    # Not np.array(), which would make a second dimension of lists that are equally long.
    return Piece(Kind.OBJECT, np.fromiter(values, dtype=object, count=len(values)))


def _numbers(values: Sequence[Any], types: set[type]) -> Piece | None:
    if types == {float}:
        floats = np.array(values, dtype=np.float64)
        if np.isnan(floats).all():
            return missing(len(values))
        return Piece(Kind.FLOAT, floats, (Number(float),))
    if types == {int} and None not in values:
        try:
            return Piece(Kind.INT, np.array(values, dtype=np.int64))
        except OverflowError:
            return None
    ints = [value for value in values if type(value) is int]
    if min(ints) < -_EXACT or max(ints) > _EXACT:
        return None
    floats = np.array(values, dtype=np.float64)
    if types == {int}:
        return Piece(Kind.FLOAT, floats, (Number(int),))
    codes = np.array([type(value) is float for value in values]).view(np.uint8)
    return Piece(Kind.FLOAT, floats, (Number(int), Number(float)), codes)


def _text(values: Sequence[Any]) -> Piece | None:
    pa = arrow()
    if pa is None:
        return Piece(Kind.TEXT, _objects(values).values)
    try:
        return Piece(Kind.TEXT, pa.array(values, type=pa.large_string()))
    except UnicodeEncodeError:
        # JSON may hold half a surrogate pair, which UTF-8 does not.
        return None


# -- from arrays -----------------------------------------------------------------------------------


def _piece_of_array(values: Any, unit: Unit | None, *, text_times: bool) -> Piece | None:
    """The piece of an array by its dtype; None if its values must be looked at one by one."""
    if isinstance(values.dtype, pd.DatetimeTZDtype):
        # Of any zone, they are kept as times in UTC.
        instants = np.asarray(pd.DatetimeIndex(values).asi8)
        return _datetime_array(instants.view(f"M8[{values.dtype.unit}]"), zoned=True)
    if isinstance(values.dtype, pd.StringDtype):
        return _text_array(values, text_times=text_times)
    array = np.asarray(values)
    if array.ndim != 1:
        raise InvalidArgument(f"A column has one dimension, not {array.ndim}.")
    match array.dtype.kind:
        case "b":
            return Piece(Kind.BOOL, array)
        case "M":
            return _datetime_array(array, zoned=False)
        case "i" | "u" | "f":
            return _number_array(array, unit)
    return None


def _text_array(values: Any, *, text_times: bool) -> Piece | None:
    pa = arrow()
    if pa is None:
        return None
    return _arrow_text(
        pa.array(values, type=pa.large_string(), from_pandas=True), text_times=text_times
    )


def _arrow_text(text: Any, *, text_times: bool) -> Piece | None:
    if text.null_count == len(text):
        return missing(len(text))
    if text_times:
        first = text[0].as_py() if text[0].is_valid else text.drop_null()[0].as_py()
        # Text that may be times is read value by value, as it is from rows.
        if time_conversion.looks_like_time(first):
            return None
    pa = arrow()
    large = text if pa is None or text.type == pa.large_string() else text.cast(pa.large_string())
    return Piece(Kind.TEXT, large)


def _number_array(array: Array, unit: Unit | None) -> Piece | None:
    is_float = array.dtype.kind == "f"
    if is_float and np.isnan(array).all():
        return missing(len(array))
    if array.dtype == np.uint64 and array.max() > _INT64.max:
        return None
    array = array.astype(np.float64 if is_float else np.int64, copy=False)
    piece = _time_piece(time_conversion.from_number_array(array, unit)) if unit else None
    if piece is not None:
        return piece
    return Piece(Kind.FLOAT, array, (Number(float),)) if is_float else Piece(Kind.INT, array)


def _datetime_array(array: Array, *, zoned: bool) -> Piece | None:
    if np.isnat(array).all():
        return missing(len(array))
    return _time_piece(time_conversion.from_datetime_array(array, zoned=zoned))


# -- widening --------------------------------------------------------------------------------------


def _alike(held: Piece, new: Piece) -> bool:
    forms = {*held.forms, *new.forms}
    return bool(held.values.dtype == new.values.dtype) and len(forms) <= time_conversion.MAX_FORMS


def _as_nanoseconds(piece: Piece) -> Piece | None:
    values = time_conversion.in_nanoseconds(piece.values)
    return None if values is None else Piece(piece.kind, values, piece.forms, piece.codes)


def _as_floats(piece: Piece) -> Piece | None:
    """Numbers or missing values as floats; None if a whole number would be rounded."""
    if piece.kind is Kind.FLOAT:
        return piece
    if piece.kind is Kind.EMPTY:
        return Piece(Kind.FLOAT, piece.values)
    if piece.rows and (piece.values.max() > _EXACT or piece.values.min() < -_EXACT):
        return None
    return Piece(Kind.FLOAT, piece.values.astype(np.float64), (Number(int),))


def _filled(piece: Piece, *, like: Piece) -> Piece:
    """Missing values in the kind of another piece; a piece that is of more is returned itself."""
    if piece.kind is not Kind.EMPTY:
        return piece
    match like.kind:
        case Kind.FLOAT:
            return Piece(Kind.FLOAT, piece.values)
        case Kind.TIME | Kind.INSTANT:
            return Piece(like.kind, np.full(piece.rows, "NaT", dtype=like.values.dtype))
        case Kind.TEXT if (pa := arrow()) is not None:
            return Piece(Kind.TEXT, pa.nulls(piece.rows, pa.large_string()))
        case Kind.TEXT:
            return Piece(Kind.TEXT, _nones(piece.rows))
    return Piece(Kind.OBJECT, _nones(piece.rows))


def _nones(rows: int) -> Array:
    return np.full(rows, None, dtype=object)


def _spread(piece: Piece, sparse: Sparse) -> Piece:
    """The values of some rows as those of all; the cost follows the rows by a memset alone."""
    if piece.rows == sparse.rows:
        return piece
    _, piece = unify(missing(1), piece)  # as it is with a gap
    if piece.kind is Kind.EMPTY:
        return missing(sparse.rows)
    if not isinstance(piece.values, np.ndarray):
        pa = arrow()
        assert pa is not None  # noqa: S101 - text is kept by Arrow here
        takes = np.zeros(sparse.rows, dtype=np.int64)
        takes[sparse.places] = np.arange(piece.rows)
        absent = np.ones(sparse.rows, dtype=np.bool_)
        absent[sparse.places] = False
        return Piece(piece.kind, piece.values.take(pa.array(takes, mask=absent)))
    values = _filled(missing(sparse.rows), like=piece).values
    values[sparse.places] = piece.values
    codes = None
    if piece.codes is not None:
        codes = np.zeros(sparse.rows, dtype=np.uint8)
        codes[sparse.places] = piece.codes
    return Piece(piece.kind, values, piece.forms, codes)


def _without_times(piece: Piece) -> Piece:
    """The values as they came; of what kind follows from their forms, also when none is left."""
    if piece.kind not in TIMES:
        return piece
    like = _WRITTEN.get(frozenset(map(type, piece.forms)))
    if like is None:
        return _objects(restored(piece))
    return _filled(_piece_of_list(restored(piece), None, text_times=False), like=like)


def _as_objects(piece: Piece) -> Piece:
    return piece if piece.kind is Kind.OBJECT else _objects(restored(piece))


_NONE = np.empty(0)
_WRITTEN = {frozenset({Iso}): Piece(Kind.TEXT, _NONE), frozenset({Epoch}): Piece(Kind.FLOAT, _NONE)}
