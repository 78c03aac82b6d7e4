"""Storage of one column: values are appended, dropped from the front and never changed.

Converted values keep a code of their source format (0 or 1 byte each), because the result would
otherwise depend on when snapshots were taken; keeping the originals would take 34 to 40 bytes each
(1e6 ISO 8601 texts, or ints and floats).
"""

from __future__ import annotations

import itertools
import sys
from typing import Any, Protocol

import numpy as np
import pandas as pd

from fabric_nb.frames.time_conversion import Array, SourceFormat
from fabric_nb.frames.typed_chunks import Chunk, Kind, arrow, as_utc

# Capacity of a new array relative to its content: each value is then copied two to three times in
# all, while about a third of the memory is spare. The factor differs between columns, because
# otherwise all long columns would be reallocated at once and block the event loop.
_GROWTH = 1.4
_GROWTH_SPREAD = 0.2
_GOLDEN = 0.618_033_988_749_895
_SMALLEST = 64

_LONGEST_TEXT = 65_536
"""Rows from which an Arrow array is no longer merged, so that the event loop is not blocked."""


class Column:
    """The values of one column, all of one kind.

    Args:
        chunk: The first values. They are copied.
    """

    def __init__(self, chunk: Chunk) -> None:
        self.kind = chunk.kind
        is_text = chunk.kind is Kind.TEXT and arrow() is not None
        self._store: _Store = _TextStore() if is_text else _ArrayStore(chunk.values.dtype)
        self._formats: list[SourceFormat] = []
        self._codes: _ArrayStore | None = None
        self._objects = 0  # bytes of the Python objects
        self._rows = 0
        self.append(chunk)

    @property
    def nbytes(self) -> int:
        """Approximate size of the values in bytes, without spare capacity."""
        codes = 0 if self._codes is None else self._codes.nbytes
        return self._store.nbytes + codes + self._objects

    def append(self, chunk: Chunk) -> None:
        """Add values of the same kind and dtype."""
        self._append_codes(chunk)
        self._store.append(chunk.values)
        self._rows += chunk.rows
        if isinstance(chunk.values, np.ndarray) and chunk.values.dtype == object:
            self._objects += sum(map(estimated_size, chunk.values))

    def drop(self, rows: int) -> None:
        """Drop the oldest `rows` values."""
        if self._objects:
            self._objects -= sum(map(estimated_size, self._store.view()[:rows]))
        self._store.drop(rows)
        self._rows -= rows
        if self._codes is not None:
            self._codes.drop(rows)

    def chunk(self) -> Chunk:
        """Return all values, as a view."""
        codes = None if self._codes is None else self._codes.view()
        return Chunk(self.kind, self._store.view(), tuple(self._formats), codes)

    def view_from(self, start: int) -> Any:
        """Return a read-only view from row `start` on, in a form that a DataFrame does not copy."""
        values = self._store.view()[start:]
        if isinstance(self._store, _TextStore):
            dtype: Any = pd.StringDtype("pyarrow", na_value=np.nan)
            text = dtype.__from_arrow__(values)
            # Arrow memory is immutable, so pandas would write into a copy; but a write should
            # fail in every column.
            text._readonly = True  # noqa: SLF001 - there is no public way to set it
            return text
        # From plain datetime64 pandas would make a copy, in order to shift it by zero.
        return as_utc(values) if self.kind is Kind.INSTANT else values

    def _append_codes(self, chunk: Chunk) -> None:
        """Record the source format of each value, if there is more than one."""
        self._formats += [
            source_format for source_format in chunk.formats if source_format not in self._formats
        ]
        if len(self._formats) < 2:
            return
        if self._codes is None:
            self._codes = _ArrayStore(np.dtype(np.uint8))
            self._codes.append(np.zeros(self._rows, dtype=np.uint8))
        new_codes = np.array(
            [self._formats.index(source_format) for source_format in chunk.formats] or [0],
            dtype=np.uint8,
        )
        codes = np.zeros(chunk.rows, dtype=np.uint8) if chunk.codes is None else chunk.codes
        self._codes.append(new_codes[codes])


class _Store(Protocol):
    @property
    def nbytes(self) -> int: ...

    def append(self, values: Any) -> None: ...

    def drop(self, rows: int) -> None: ...

    def view(self) -> Any: ...


class _ArrayStore:
    """A numpy array with spare capacity.

    Memory that a view may show is never overwritten: dropped values stay until the capacity is
    used up, when the remaining ones move to a new array. So each value is moved a bounded number
    of times.
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
            existing = self.view()
            end = len(existing) + len(values)
            self._data = np.empty(max(_SMALLEST, int(end * self._growth)), dtype=existing.dtype)
            self._data[: len(existing)] = existing
            self._start, self._stop = 0, len(existing)
        self._data[self._stop : end] = values
        self._stop = end

    def drop(self, rows: int) -> None:
        self._start += rows

    def view(self) -> Array:
        view = self._data[self._start : self._stop]
        view.flags.writeable = False
        return view


class _TextStore:
    """Text in immutable Arrow arrays, of which small ones are merged into larger ones.

    An array is merged with the one before it once it is as large, so that a value is copied once
    per doubling, up to a size at which even a million rows make few arrays.
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


def estimated_size(value: Any) -> int:
    """Return the approximate size in bytes of a Python object and its contents.

    Large containers are sampled, and the estimate is extrapolated from the sample.
    """
    if value is None or value is True or value is False:
        return 0
    total = sys.getsizeof(value)
    if not isinstance(value, _CONTAINERS):
        return total
    pending, seen = [(value, 1)], {id(value)}  # a container may contain itself
    while pending and len(seen) < _MAX_SAMPLED_CONTAINERS:
        container, weight = pending.pop()
        items = list(container.values()) if isinstance(container, dict) else list(container)
        step = 1 + len(items) // _MAX_SAMPLED_ITEMS
        weight *= step
        for item in items[::step]:
            total += weight * sys.getsizeof(item)
            if isinstance(item, _CONTAINERS) and id(item) not in seen:
                seen.add(id(item))
                pending.append((item, weight))
    return total


_CONTAINERS = (dict, list, tuple, set, frozenset)
_MAX_SAMPLED_ITEMS, _MAX_SAMPLED_CONTAINERS = 1000, 10_000
"""Maximum items sampled per container, and maximum containers sampled."""
