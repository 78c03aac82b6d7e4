"""Rows in, DataFrame out, at a cost that follows the new rows; numpy and pandas, no I/O.

`FrameBuffer` collects rows as they come and writes them, column by column, into growing arrays at
the moment somebody looks. A look returns a DataFrame of read-only views on these arrays, so that it
costs the same with a thousand rows held as with a million.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Mapping, Sequence, Set
from itertools import chain
from typing import Any, get_args

import numpy as np
import pandas as pd

from fabric_nb.errors import InvalidArgument
from fabric_nb.frames.column_storage import Column, footprint
from fabric_nb.frames.normalisation import (
    OVERFLOW,
    assigned,
    into_columns,
    is_plain_table,
    joined,
    own_columns,
    own_row,
    own_rows,
    within,
)
from fabric_nb.frames.time_conversion import Unit
from fabric_nb.frames.typed_chunks import Kind, Piece, missing, piece_of, plain, restored, unify

# Rows that wait for a look cost ten times what they cost as columns, and a look at many at once
# would hold up the loop: so this many, or this many values, are written without waiting for one.
_PENDING_ROWS, _PENDING_VALUES = 4096, 100_000

# Arrow tables that wait cost little, and to join many before they are written costs a fraction of
# writing each; so few that a look does not hold up the loop.
_PENDING_TABLES, _PENDING_TABLE_ROWS = 64, 32_768


class FrameBuffer:
    """A table that grows at its end and can be looked at as a DataFrame at any time.

    Example:
        >>> buffer = FrameBuffer(max_rows=10_000)
        >>> buffer.append({"sensor": "a", "value": 20})
        >>> buffer.extend([{"sensor": "b", "value": 20.5}, {"sensor": "a"}])
        >>> buffer.df
          sensor  value
        0      a   20.0
        1      b   20.5
        2      a    NaN

    **Columns** appear in the order in which they are first seen; where a row has no value, it is
    missing. Their types follow `pandas.DataFrame(rows)`, and only ever widen: bool; int64, which
    becomes float64 with a fraction or a gap; text, as this pandas infers it (``str`` with pandas 3
    and pyarrow, ``object`` otherwise); datetime64; and object for all else and for mixtures. The
    result does not depend on when somebody looked. It differs from pandas in that

    - text that is ISO 8601 throughout becomes datetime64[us], or [ns] if it has more than six
      digits of a second; in UTC if it has zones, of which there may be several;
    - datetimes with a zone are shown in UTC;
    - None, NaN, NaT and an absent key are one thing, *missing*: NaN in numbers and text, NaT in
      times, None in object columns, and a column that is missing throughout is float64;
    - an int column stays exact: if a gap or a fraction would round one (beyond 2**53), it becomes
      object, as it does with ints outside int64, also where pandas takes uint64;
    - arrays of narrow numbers widen to int64 and float64; timedeltas are kept as objects.

    A column that turns out not to be of times, or of numbers, shows what was put in. Such a change
    of type costs a pass over the column, and a column has at most a few of them.

    **Snapshots** are views on what is there: they never change later, and writing into one raises
    ValueError (in a datetime column pandas may turn it into another error). `copy()` gives a frame
    of one's own; new columns can be added to a snapshot itself.

    **Bounds.** `max_rows` and `max_bytes` push out the oldest rows, which `dropped` counts. Arrays
    have room to grow and keep what was pushed out until they are next renewed, so that the memory
    in use may be one and a half times that of the rows held; snapshots that are kept add theirs.

    **Threads.** One thread appends and extends, usually the event loop's; any thread may look.

    Args:
        max_rows: The most rows to hold; None for no bound.
        max_bytes: About the most bytes that the rows held may take, by `nbytes`; the newest row is
            held in any case. None for no bound.
        max_columns: The most columns. Values that come in others, or under a name that is not valid
            Unicode, are kept as one dict per row in the column `OVERFLOW`, and counted in
            `overflowed`.
        index: The column that is the snapshot's index, for example one of times. None for the
            arrival number, from 0.
        unit: For columns whose numbers are times since 1970 in UTC, the unit: ``s``, ``ms``, ``us``
            or ``ns``. They become datetime64[ns, UTC].
        times: Whether to recognise ISO 8601 text.

    Raises:
        InvalidArgument: A bound is no whole number from 1 up, or a unit is unknown.
    """

    def __init__(
        self,
        *,
        max_rows: int | None = None,
        max_bytes: int | None = None,
        max_columns: int = 1000,
        index: str | None = None,
        unit: Mapping[str, Unit] | None = None,
        times: bool = True,
    ) -> None:
        bounds = {"max_rows": max_rows, "max_bytes": max_bytes, "max_columns": max_columns}
        for name, bound in bounds.items():
            whole = isinstance(bound, (int, np.integer)) and not isinstance(bound, bool)
            if bound is not None and not (whole and bound >= 1):
                raise InvalidArgument(
                    f"{name} must be a whole number of at least 1, not {bound!r}."
                )
        for name, each in (unit or {}).items():
            if each not in get_args(Unit):
                raise InvalidArgument(
                    f"The unit of {name!r} must be s, ms, us or ns, not {each!r}."
                )
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._max_columns = max_columns
        self._index = index
        self._unit = dict(unit or {})
        self._times = times
        self._lock = threading.RLock()
        # Appending takes no lock: a list's append is atomic, and only `_flush` removes from it.
        self._pending: list[dict[str, Any]] = []
        self._pending_values = 0
        self._pending_bytes = 0
        self._tables: list[Any] = []  # of one schema, and older than all rows in `_pending`
        self._table_rows = 0
        self._columns: dict[str, Column] = {}
        self._elsewhere: Set[str] = frozenset()  # columns of the buffer that will absorb this one
        self._rows = 0
        self._written = 0  # rows that have ever left `_pending`
        self._dropped = 0
        self._overflowed = 0
        self._clears = 0

    # -- in ----------------------------------------------------------------------------------------

    def append(self, row: Mapping[str, Any]) -> None:
        """Add one row, a mapping of column name to value. It is copied, though not deeply.

        Raises:
            InvalidArgumentType: The row is not a mapping.
        """
        self._take([own_row(row)])

    def extend(
        self,
        rows: Iterable[Mapping[str, Any]],
        *,
        assign: Mapping[str, Any] | None = None,
        copy: bool = True,
    ) -> None:
        """Add rows, all of them or, if one is not a mapping, none.

        Args:
            rows: They are copied, though not deeply.
            assign: What each of these rows has besides. If it has a column of such a name itself,
                that becomes ``row.<name>``.
            copy: False if the rows are for the buffer alone and need not be copied.

        Raises:
            InvalidArgumentType: A row is not a mapping; the message says which.
        """
        own = own_rows(rows, copy=copy and not assign)
        self._take([assigned(row, assign) for row in own] if assign else own)

    def extend_columns(self, columns: Any, *, assign: Mapping[str, Any] | None = None) -> int:
        """Add rows that come as columns: all of them or, if something is wrong, none.

        Returns how many there were.

        Args:
            columns: A mapping of column name to a list, a tuple, a one-dimensional array or a
                Series, all equally long; or a DataFrame, whose index is not used; or an Arrow table
                or record batch, whose memory is not to be changed.
            assign: What each of these rows has besides, as in `extend`.

        Raises:
            InvalidArgumentType: It is none of these, or a column is neither a list, a tuple nor
                an array.
            InvalidArgument: The columns differ in length, have more than one dimension, or two of
                them have the same name.
        """
        if not assign and (self._continues(columns) or is_plain_table(columns)):
            return self._take_table(columns)
        named, rows = own_columns(columns)
        if assign:
            named = assigned(named, {name: [value] * rows for name, value in assign.items()})
        with self._lock:
            self._flush()
            if rows:
                self._write_columns(named, rows)
        return rows

    def staging(self) -> FrameBuffer:
        """An empty buffer in which another thread may collect rows that `absorb` then adds."""
        staged = FrameBuffer(max_columns=self._max_columns, unit=self._unit, times=self._times)
        with self._lock:
            self._flush()
            staged._elsewhere = self._columns.keys() - {OVERFLOW}
        return staged

    def absorb(self, staged: FrameBuffer) -> int:
        """Add the rows of a buffer that `staging` has made, and return how many there were.

        They were made into columns already, so that this costs little more than copying them.
        """
        with staged._lock:
            staged._flush()
            held = dict(staged._columns)
            rows, overflow = staged._rows, held.pop(OVERFLOW, None)
            over = [] if overflow is None else restored(overflow.piece())
        with self._lock:
            self._flush()
            if rows:
                self._write_columns({name: each.piece() for name, each in held.items()}, rows, over)
        return rows

    def clear(self) -> None:
        """Forget all rows, columns and their types. Counters and arrival numbers go on."""
        with self._lock:
            self._flush()
            self._columns = {}
            self._rows = 0
            self._clears += 1

    # -- out ---------------------------------------------------------------------------------------

    @property
    def df(self) -> pd.DataFrame:
        """All rows held, oldest first, as read-only views; see the class."""
        return self._frame(None)

    def tail(self, n: int = 10) -> pd.DataFrame:
        """The newest `n` rows, or fewer if fewer are held, as read-only views.

        Raises:
            InvalidArgument: `n` is negative.
        """
        if n < 0:
            raise InvalidArgument(f"n must not be negative, not {n}.")
        return self._frame(n)

    def __len__(self) -> int:
        with self._lock:
            self._flush()
            return self._rows

    def __repr__(self) -> str:
        return f"<FrameBuffer: {len(self)} rows, {len(self._columns)} columns>"

    @property
    def columns(self) -> int:
        """Number of columns of the rows that were written into columns so far."""
        return len(self._columns)

    @property
    def rows_seen(self) -> int:
        """How many rows were ever added."""
        with self._lock:
            return self._written + self._table_rows + len(self._pending)

    @property
    def version(self) -> int:
        """A number that grows whenever rows are added or cleared; cheap to poll."""
        with self._lock:
            return self.rows_seen + self._clears

    @property
    def dropped(self) -> int:
        """How many rows `max_rows` and `max_bytes` have pushed out."""
        with self._lock:
            self._flush()
            return self._dropped

    @property
    def overflowed(self) -> int:
        """How many values came in columns beyond `max_columns`."""
        with self._lock:
            self._flush()
            return self._overflowed

    @property
    def nbytes(self) -> int:
        """About how many bytes the rows held take, with the Python objects among them."""
        with self._lock:
            self._flush()
            return sum(column.nbytes for column in self._columns.values())

    @property
    def _held(self) -> Set[str]:
        return self._columns.keys() | self._elsewhere if self._elsewhere else self._columns.keys()

    # -- between -----------------------------------------------------------------------------------

    def _take(self, rows: list[dict[str, Any]]) -> None:
        self._pending.extend(rows)
        self._pending_values += len(rows[0]) if len(rows) == 1 else sum(map(len, rows))
        if self._max_bytes is not None:
            self._pending_bytes += sum(map(footprint, rows))
        full = self._max_bytes is not None and self._pending_bytes > self._max_bytes // 4
        if full or len(self._pending) >= _PENDING_ROWS or self._pending_values >= _PENDING_VALUES:
            with self._lock:
                self._flush()

    def _continues(self, columns: Any) -> bool:
        """Whether it is an Arrow table of the schema of those that wait."""
        schema = getattr(columns, "schema", None)
        return bool(schema is not None and self._tables and schema.equals(self._tables[0].schema))

    def _take_table(self, table: Any) -> int:
        with self._lock:
            if self._pending or not self._continues(table):
                self._flush()
            self._tables.append(table)
            self._table_rows += table.num_rows
            full = len(self._tables) >= _PENDING_TABLES or self._table_rows >= _PENDING_TABLE_ROWS
            if full or self._max_bytes is not None:
                self._flush()
        return int(table.num_rows)

    def _flush(self) -> None:
        if self._tables:
            if self._table_rows:
                self._write_columns(*own_columns(joined(self._tables)))
            self._tables, self._table_rows = [], 0
        rows = self._pending[:]
        if not rows:
            return
        columns, over = into_columns(rows, held=self._held, most=self._max_columns)
        self._write(columns, len(rows), over)
        # What another thread has appended meanwhile stays.
        del self._pending[: len(rows)]
        self._pending_values = self._pending_bytes = 0

    def _write(
        self, columns: Mapping[str, Any], rows: int, over: Sequence[dict[str, Any] | None] = ()
    ) -> None:
        """Add rows by column, and what of each row is in no column."""
        overflowed = sum(len(row) for row in over if row)
        if over:
            columns = {**columns, OVERFLOW: over}
        # All pieces first, then all columns: if memory runs out, no column is longer than others.
        staged = {
            name: self._staged(name, columns.get(name), rows)
            for name in dict.fromkeys(chain(self._columns, columns))
        }
        excess = max(0, self._rows + rows - (self._max_rows or sys.maxsize))
        old = min(excess, self._rows)
        for name, (column, piece) in staged.items():
            self._columns[name] = column
            column.drop(old)
            column.append(piece.from_row(excess - old))
        self._written += rows
        self._rows += rows - excess
        self._dropped += excess
        self._overflowed += overflowed
        if self._max_bytes is not None:
            self._fit_bytes(self._max_bytes)

    def _staged(self, name: str, values: Any, rows: int) -> tuple[Column, Piece]:
        """The column that will hold the values, and the values as it holds them."""
        column = self._columns.get(name)
        held = Kind.EMPTY if column is None else column.kind
        if values is None:
            piece = missing(rows)
        elif isinstance(values, Piece):
            piece = values
        else:
            unit = self._unit.get(name)
            piece = piece_of(values, held=held, unit=unit, text_times=self._times)
        if column is None and not self._rows:
            return Column(piece.from_row(rows)), piece
        before = missing(self._rows) if column is None else column.piece()
        wide, piece = unify(before, piece)
        return (Column(wide) if column is None or wide is not before else column), piece

    def _write_columns(
        self,
        columns: Mapping[str, Any],
        rows: int,
        over: Sequence[dict[str, Any] | None] = (),
    ) -> None:
        """Add columns, of which those that there is no room for become one."""
        kept = within(columns, self._held, self._max_columns)
        if len(kept) == len(columns):
            self._write(columns, rows, over)
            return
        rest: list[dict[str, Any]] = [dict(row or ()) for row in over or [None] * rows]
        for name in columns:
            if name not in kept:
                for row, value in zip(rest, _objects_of(columns[name]), strict=True):
                    if value is not None:
                        row[name] = value
        columns = {name: columns[name] for name in kept}
        self._write(columns, rows, [row or None for row in rest])

    def _fit_bytes(self, bound: int) -> None:
        while self._rows > 1 and (held := sum(c.nbytes for c in self._columns.values())) > bound:
            # As if all rows were alike; where they are not, the next round does the rest.
            old = min(self._rows - 1, max(1, int(self._rows * (1 - bound / held))))
            for column in self._columns.values():
                column.drop(old)
            self._rows -= old
            self._dropped += old

    def _frame(self, newest: int | None) -> pd.DataFrame:
        with self._lock:
            self._flush()
            start = 0 if newest is None else max(0, self._rows - newest)
            first = self._written - self._rows + start
            index: pd.Index[Any] = pd.RangeIndex(first, self._written)
            columns = {name: column.shown(start) for name, column in self._columns.items()}
        if self._index is not None:
            gaps = np.full(len(index), np.nan)
            values = columns.pop(self._index, gaps)
            dtype = object if _is_object(values) else None
            index = pd.Index(values, dtype=dtype, name=self._index, copy=False)
        for name, values in columns.items():
            if _is_object(values):
                # Said outright, or pandas would look at all values to see whether they are text.
                columns[name] = pd.Series(values, index=index, dtype=object, copy=False)
        return pd.DataFrame(columns, index=index, copy=False)


def _objects_of(values: Any) -> list[Any]:
    """The values of a column as Python objects, None where one is missing."""
    if isinstance(values, list | tuple):
        return list(map(plain, values))
    return restored(values if isinstance(values, Piece) else piece_of(values, text_times=False))


def _is_object(values: Any) -> bool:
    return bool(values.dtype == np.dtype(object))
