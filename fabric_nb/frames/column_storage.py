"""What a column stores: values that grow at the end, shrink at the front and never change."""

from __future__ import annotations

import itertools
import sys
from typing import Any, Protocol

import numpy as np
import pandas as pd

from fabric_nb.frames.time_conversion import Array, Form
from fabric_nb.frames.typed_chunks import Kind, Piece, arrow, in_utc

# Room in a new array: each value is then copied two to three times in all, while about a third of
# the memory waits for values to come. No two columns have the same, or the long ones among them
# would all be renewed in one moment, in which the loop would stand still.
_GROWTH = 1.4
_GROWTH_SPREAD = 0.2
_GOLDEN = 0.618_033_988_749_895
_SMALLEST = 64

_LONGEST_TEXT = 65_536
"""Rows of an Arrow array that others are not joined to, for the same reason."""


class Column:
    """The held values of one column, all of one kind.

    Args:
        piece: The first values. They are copied.
    """

    def __init__(self, piece: Piece) -> None:
        self.kind = piece.kind
        is_text = piece.kind is Kind.TEXT and arrow() is not None
        self._store: _Store = _TextStore() if is_text else _ArrayStore(piece.values.dtype)
        self._forms: list[Form] = []
        self._codes: _ArrayStore | None = None
        self._objects = 0  # bytes of the Python objects
        self._rows = 0
        self.append(piece)

    @property
    def nbytes(self) -> int:
        """About how many bytes the held values take, without room to grow."""
        codes = 0 if self._codes is None else self._codes.nbytes
        return self._store.nbytes + codes + self._objects

    def append(self, piece: Piece) -> None:
        """Add values of the same kind and dtype."""
        self._append_codes(piece)
        self._store.append(piece.values)
        self._rows += piece.rows
        if isinstance(piece.values, np.ndarray) and piece.values.dtype == object:
            self._objects += sum(map(footprint, piece.values))

    def drop(self, rows: int) -> None:
        """Forget the oldest values."""
        if self._objects:
            self._objects -= sum(map(footprint, self._store.view()[:rows]))
        self._store.drop(rows)
        self._rows -= rows
        if self._codes is not None:
            self._codes.drop(rows)

    def piece(self) -> Piece:
        """All values, as a view."""
        codes = None if self._codes is None else self._codes.view()
        return Piece(self.kind, self._store.view(), tuple(self._forms), codes)

    def shown(self, start: int) -> Any:
        """The values from a row on as what a DataFrame takes without a copy: read-only views."""
        values = self._store.view()[start:]
        if isinstance(self._store, _TextStore):
            dtype: Any = pd.StringDtype("pyarrow", na_value=np.nan)
            text = dtype.__from_arrow__(values)
            # Arrow's memory never changes, so pandas would write into a copy; but a write is to
            # fail in all columns alike.
            text._readonly = True  # noqa: SLF001 - there is no public way to say it
            return text
        # From datetime64 pandas would make a copy, to shift it by nothing.
        return in_utc(values) if self.kind is Kind.INSTANT else values

    def _append_codes(self, piece: Piece) -> None:
        """Note in which form each value came, if there is more than one form."""
        self._forms += [form for form in piece.forms if form not in self._forms]
        if len(self._forms) < 2:
            return
        if self._codes is None:
            self._codes = _ArrayStore(np.dtype(np.uint8))
            self._codes.append(np.zeros(self._rows, dtype=np.uint8))
        places = np.array([self._forms.index(form) for form in piece.forms] or [0], dtype=np.uint8)
        codes = np.zeros(piece.rows, dtype=np.uint8) if piece.codes is None else piece.codes
        self._codes.append(places[codes])


class _Store(Protocol):
    @property
    def nbytes(self) -> int: ...

    def append(self, values: Any) -> None: ...

    def drop(self, rows: int) -> None: ...

    def view(self) -> Any: ...


class _ArrayStore:
    """A numpy array with room at its end.

    Memory that a view may show is never written again: what is dropped stays until there is no more
    room, when a new array takes what is left. Each value is so moved a bounded number of times.
    """

    _counted = itertools.count()

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._growth = _GROWTH + _GROWTH_SPREAD * (next(self._counted) * _GOLDEN % 1)
        self._data: Array = np.empty(0, dtype=dtype)
        self._start = self._stop = 0

    @property
    def nbytes(self) -> int:
        return (self._stop - self._start) * self._data.itemsize

    def append(self, values: Array) -> None:
        end = self._stop + len(values)
        if end > len(self._data):
            held = self.view()
            end = len(held) + len(values)
            self._data = np.empty(max(_SMALLEST, int(end * self._growth)), dtype=held.dtype)
            self._data[: len(held)] = held
            self._start, self._stop = 0, len(held)
        self._data[self._stop : end] = values
        self._stop = end

    def drop(self, rows: int) -> None:
        self._start += rows

    def view(self) -> Array:
        view = self._data[self._start : self._stop]
        view.flags.writeable = False
        return view


class _TextStore:
    """Text as Arrow arrays, which are never written; small ones are made into larger ones.

    An array is joined with the one before it once it is as large, so that a value is copied once
    for each doubling, up to arrays of a size of which even a million rows have few.
    """

    def __init__(self) -> None:
        self._chunks: list[Any] = []

    @property
    def nbytes(self) -> int:
        return sum(chunk.nbytes for chunk in self._chunks)

    def append(self, values: Any) -> None:
        chunks = self._chunks
        chunks += getattr(values, "chunks", [values])
        while len(chunks) > 1 and len(chunks[-2]) <= min(len(chunks[-1]), _LONGEST_TEXT // 2):
            chunks[-2:] = [_pyarrow().concat_arrays(chunks[-2:])]

    def drop(self, rows: int) -> None:
        while self._chunks and rows >= len(self._chunks[0]):
            rows -= len(self._chunks.pop(0))
        if rows:
            self._chunks[0] = self._chunks[0][rows:]

    def view(self) -> Any:
        pa = _pyarrow()
        return pa.chunked_array(self._chunks, type=pa.large_string())


def _pyarrow() -> Any:
    import pyarrow as pa

    return pa


def footprint(value: Any) -> int:
    """About how many bytes a Python object takes, with what it contains.

    Of what contains much, some is looked at, and the rest is taken to be alike.
    """
    if value is None or value is True or value is False:
        return 0
    total = sys.getsizeof(value)
    if not isinstance(value, _CONTAINERS):
        return total
    waiting, seen = [(value, 1)], {id(value)}  # it may contain itself
    while waiting and len(seen) < _LOOKED_INTO:
        each, weight = waiting.pop()
        parts = list(each.values()) if isinstance(each, dict) else list(each)
        step = 1 + len(parts) // _LOOKED_AT
        weight *= step
        for part in parts[::step]:
            total += weight * sys.getsizeof(part)
            if isinstance(part, _CONTAINERS) and id(part) not in seen:
                seen.add(id(part))
                waiting.append((part, weight))
    return total


_CONTAINERS = (dict, list, tuple, set, frozenset)
_LOOKED_AT, _LOOKED_INTO = 1000, 10_000
"""Parts of one container, and containers, that are looked at."""
