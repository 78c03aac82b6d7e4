"""Incremental conversion of rows to a DataFrame, in time proportional to the new rows; no I/O.

`FrameBuffer` queues rows as they arrive and writes them, column by column, into growing arrays
when a snapshot is taken. A snapshot is a DataFrame of read-only views on these arrays, so that it
costs the same for a thousand rows as for a million.
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
from fabric_nb.frames.column_storage import Column, estimated_size
from fabric_nb.frames.normalisation import (
    checked_columns,
    concat_tables,
    is_simple_table,
    rows_to_columns,
    select_columns,
)
from fabric_nb.frames.rows import OVERFLOW, checked_rows, copied_row, with_assigned
from fabric_nb.frames.time_conversion import Unit
from fabric_nb.frames.typed_chunks import (
    Chunk,
    Kind,
    infer_chunk,
    missing_chunk,
    normalised_value,
    restore,
    unify,
)

# A pending row takes ten times the memory of a written one, and writing many rows at once would
# block the event loop. So pending rows are written at this many rows or values.
_PENDING_ROWS, _PENDING_VALUES = 4096, 100_000

# Pending Arrow tables take little memory, and joining many of them is much cheaper than writing
# each. The limits keep a snapshot from blocking the event loop.
_PENDING_TABLES, _PENDING_TABLE_ROWS = 64, 32_768


class FrameBuffer:
    """A table that grows at its end, with DataFrame snapshots at any time.

    Example:
        >>> buffer = FrameBuffer(max_rows=10_000)
        >>> buffer.append({"sensor": "a", "value": 20})
        >>> buffer.extend([{"sensor": "b", "value": 20.5}, {"sensor": "a"}])
        >>> buffer.df
          sensor  value
        0      a   20.0
        1      b   20.5
        2      a    NaN

    **Columns** appear in the order in which they are first seen; a value absent from a row is
    missing. Their types follow `pandas.DataFrame(rows)`, and only ever widen: bool; int64, which
    becomes float64 with a fraction or a gap; text, as this pandas infers it (``str`` with pandas 3
    and pyarrow, ``object`` otherwise); datetime64; and object for all else and for mixtures. The
    result does not depend on when snapshots were taken. It differs from pandas in that

    - a column of ISO 8601 text becomes datetime64[us], or [ns] if it has more than six
      digits of a second; in UTC if it has zones, of which there may be several;
    - datetimes with a zone are shown in UTC;
    - None, NaN, NaT and an absent key all mean *missing*: NaN in numbers and text, NaT in
      times, None in object columns, and a column that is missing throughout is float64;
    - an int column stays exact: if a gap or a fraction would round one (beyond 2**53), it becomes
      object, as it does with ints outside int64, also where pandas takes uint64;
    - arrays of narrow numbers widen to int64 and float64; timedeltas are kept as objects.

    If a later value is no time or no number, the whole column shows the original values again. A
    change of type costs one pass over the column, and a column has at most a few of them.

    **Snapshots** are views: they never change later, and writing into one raises
    ValueError (in a datetime column pandas may turn it into another error). `copy()` returns a
    writable frame; new columns can be added to a snapshot itself.

    **Bounds.** `max_rows` and `max_bytes` drop the oldest rows, counted by `dropped`. Arrays
    have room to grow and contain dropped rows until they are next reallocated, so that memory
    use may be one and a half times that of the current rows; snapshots that are kept add theirs.

    **Threads.** One thread appends and extends, usually the event loop's; any thread may take
    snapshots.

    Args:
        max_rows: Maximum number of rows; None for no bound.
        max_bytes: Approximate maximum size of the rows in bytes, as in `nbytes`; the newest row is
            always kept. None for no bound.
        max_columns: Maximum number of columns. Values of further columns, and of names that are not
            valid Unicode, are kept as one dict per row in the column `OVERFLOW`, and counted in
            `overflowed`.
        index: Column used as the snapshot's index, for example one of times. None for the
            arrival number, from 0.
        unit: Unit of each column whose numbers are times since 1970 in UTC: ``s``, ``ms``, ``us``
            or ``ns``. They become datetime64[ns, UTC].
        times: Whether to recognise ISO 8601 text.

    Raises:
        InvalidArgument: A bound is not a positive whole number, or a unit is unknown.
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
        for name, column_unit in (unit or {}).items():
            if column_unit not in get_args(Unit):
                raise InvalidArgument(
                    f"The unit of {name!r} must be s, ms, us or ns, not {column_unit!r}."
                )
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._max_columns = max_columns
        self._index = index
        self._unit = dict(unit or {})
        self._times = times
        self._lock = threading.RLock()
        # Appending takes no lock: list.append is atomic, and only `_write_pending` removes rows.
        self._pending: list[dict[str, Any]] = []
        self._pending_values = 0
        self._pending_bytes = 0
        self._pending_tables: list[Any] = []  # of one schema, and older than all rows in `_pending`
        self._pending_table_rows = 0
        self._columns: dict[str, Column] = {}
        self._reserved: Set[str] = frozenset()  # columns of the buffer that will absorb this one
        self._rows = 0
        self._written = 0  # rows ever written into columns
        self._dropped = 0
        self._overflowed = 0
        self._clears = 0

    # -- input -------------------------------------------------------------------------------------

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a shallow copy of one row, a mapping of column name to value.

        Raises:
            InvalidArgumentType: The row is not a mapping.
        """
        self._add_rows([copied_row(row)])

    def extend(
        self,
        rows: Iterable[Mapping[str, Any]],
        *,
        assign: Mapping[str, Any] | None = None,
        copy: bool = True,
    ) -> None:
        """Add rows: all of them or, if one is not a mapping, none.

        Args:
            rows: Rows, of which shallow copies are kept.
            assign: Values added to each row. A row's own column of that name becomes
                ``row.<name>``.
            copy: False if the caller hands over the rows, so that they need not be copied.

        Raises:
            InvalidArgumentType: A row is not a mapping; the message gives its position.
        """
        checked = checked_rows(rows, copy=copy and not assign)
        self._add_rows([with_assigned(row, assign) for row in checked] if assign else checked)

    def extend_columns(self, columns: Any, *, assign: Mapping[str, Any] | None = None) -> int:
        """Add rows given as columns, all of them or, on an error, none; return their number.

        Args:
            columns: A mapping of column name to a list, a tuple, a one-dimensional array or a
                Series, all equally long; or a DataFrame, whose index is ignored; or an Arrow table
                or record batch, whose memory must not be changed afterwards.
            assign: Values added to each row, as in `extend`.

        Raises:
            InvalidArgumentType: `columns` is none of these, or a column is neither a list, a tuple
                nor an array.
            InvalidArgument: The columns differ in length, have more than one dimension, or two of
                them have the same name.
        """
        if not assign and (self._matches_pending_schema(columns) or is_simple_table(columns)):
            return self._add_table(columns)
        named, rows = checked_columns(columns)
        if assign:
            named = with_assigned(named, {name: [value] * rows for name, value in assign.items()})
        with self._lock:
            self._write_pending()
            if rows:
                self._write_columns(named, rows)
        return rows

    def staging(self) -> FrameBuffer:
        """Return an empty buffer that another thread may fill for `absorb`."""
        staged = FrameBuffer(max_columns=self._max_columns, unit=self._unit, times=self._times)
        with self._lock:
            self._write_pending()
            staged._reserved = self._columns.keys() - {OVERFLOW}
        return staged

    def absorb(self, staged: FrameBuffer) -> int:
        """Add the rows of a buffer made by `staging`, and return their number.

        They are columns already, so that this costs little more than copying them.
        """
        with staged._lock:
            staged._write_pending()
            columns = dict(staged._columns)
            rows, overflow_column = staged._rows, columns.pop(OVERFLOW, None)
            overflow = [] if overflow_column is None else restore(overflow_column.chunk())
        with self._lock:
            self._write_pending()
            if rows:
                self._write_columns(
                    {name: column.chunk() for name, column in columns.items()}, rows, overflow
                )
        return rows

    def clear(self) -> None:
        """Drop all rows, columns and column types. Counters and arrival numbers continue."""
        with self._lock:
            self._write_pending()
            self._columns = {}
            self._rows = 0
            self._clears += 1

    # -- output ------------------------------------------------------------------------------------

    @property
    def df(self) -> pd.DataFrame:
        """All rows, oldest first, as read-only views; see the class."""
        return self._snapshot(None)

    def tail(self, n: int = 10) -> pd.DataFrame:
        """Return the newest `n` rows, or all if there are fewer, as read-only views.

        Raises:
            InvalidArgument: `n` is negative.
        """
        if n < 0:
            raise InvalidArgument(f"n must not be negative, not {n}.")
        return self._snapshot(n)

    def __len__(self) -> int:
        with self._lock:
            self._write_pending()
            return self._rows

    def __repr__(self) -> str:
        return f"<FrameBuffer: {len(self)} rows, {len(self._columns)} columns>"

    @property
    def columns(self) -> int:
        """Number of columns written so far; pending rows do not count."""
        return len(self._columns)

    @property
    def rows_seen(self) -> int:
        """Number of rows ever added."""
        with self._lock:
            return self._written + self._pending_table_rows + len(self._pending)

    @property
    def version(self) -> int:
        """Version number that grows whenever rows are added or cleared; cheap to poll."""
        with self._lock:
            return self.rows_seen + self._clears

    @property
    def dropped(self) -> int:
        """Number of rows dropped because of `max_rows` and `max_bytes`."""
        with self._lock:
            self._write_pending()
            return self._dropped

    @property
    def overflowed(self) -> int:
        """Number of values received in columns beyond `max_columns`."""
        with self._lock:
            self._write_pending()
            return self._overflowed

    @property
    def nbytes(self) -> int:
        """Approximate size of the rows in bytes, including their Python objects."""
        with self._lock:
            self._write_pending()
            return sum(column.nbytes for column in self._columns.values())

    @property
    def _known_columns(self) -> Set[str]:
        return self._columns.keys() | self._reserved if self._reserved else self._columns.keys()

    # -- writing -----------------------------------------------------------------------------------

    def _add_rows(self, rows: list[dict[str, Any]]) -> None:
        self._pending.extend(rows)
        self._pending_values += len(rows[0]) if len(rows) == 1 else sum(map(len, rows))
        if self._max_bytes is not None:
            self._pending_bytes += sum(map(estimated_size, rows))
        full = self._max_bytes is not None and self._pending_bytes > self._max_bytes // 4
        if full or len(self._pending) >= _PENDING_ROWS or self._pending_values >= _PENDING_VALUES:
            with self._lock:
                self._write_pending()

    def _matches_pending_schema(self, columns: Any) -> bool:
        """Return whether this is an Arrow table with the schema of the pending tables."""
        schema = getattr(columns, "schema", None)
        return bool(
            schema is not None
            and self._pending_tables
            and schema.equals(self._pending_tables[0].schema)
        )

    def _add_table(self, table: Any) -> int:
        with self._lock:
            if self._pending or not self._matches_pending_schema(table):
                self._write_pending()
            self._pending_tables.append(table)
            self._pending_table_rows += table.num_rows
            full = (
                len(self._pending_tables) >= _PENDING_TABLES
                or self._pending_table_rows >= _PENDING_TABLE_ROWS
            )
            if full or self._max_bytes is not None:
                self._write_pending()
        return int(table.num_rows)

    def _write_pending(self) -> None:
        if self._pending_tables:
            if self._pending_table_rows:
                self._write_columns(*checked_columns(concat_tables(self._pending_tables)))
            self._pending_tables, self._pending_table_rows = [], 0
        rows = self._pending[:]
        if not rows:
            return
        columns, overflow = rows_to_columns(
            rows, existing=self._known_columns, max_columns=self._max_columns
        )
        self._write(columns, len(rows), overflow)
        # Rows appended by another thread in the meantime stay pending.
        del self._pending[: len(rows)]
        self._pending_values = self._pending_bytes = 0

    def _write(
        self, columns: Mapping[str, Any], rows: int, overflow: Sequence[dict[str, Any] | None] = ()
    ) -> None:
        """Add rows given by column, and the overflow values of each row."""
        overflowed = sum(len(row) for row in overflow if row)
        if overflow:
            columns = {**columns, OVERFLOW: overflow}
        # All chunks first, then all columns: if memory runs out, the columns stay equally long.
        prepared = {
            name: self._prepare_column(name, columns.get(name), rows)
            for name in dict.fromkeys(chain(self._columns, columns))
        }
        excess = max(0, self._rows + rows - (self._max_rows or sys.maxsize))
        oldest = min(excess, self._rows)
        for name, (column, chunk) in prepared.items():
            self._columns[name] = column
            column.drop(oldest)
            column.append(chunk.from_row(excess - oldest))
        self._written += rows
        self._rows += rows - excess
        self._dropped += excess
        self._overflowed += overflowed
        if self._max_bytes is not None:
            self._enforce_max_bytes(self._max_bytes)

    def _prepare_column(self, name: str, values: Any, rows: int) -> tuple[Column, Chunk]:
        """Return the column that will store the values, and the values in its kind."""
        column = self._columns.get(name)
        column_kind = Kind.EMPTY if column is None else column.kind
        if values is None:
            chunk = missing_chunk(rows)
        elif isinstance(values, Chunk):
            chunk = values
        else:
            unit = self._unit.get(name)
            chunk = infer_chunk(values, column_kind=column_kind, unit=unit, text_times=self._times)
        if column is None and not self._rows:
            return Column(chunk.from_row(rows)), chunk
        before = missing_chunk(self._rows) if column is None else column.chunk()
        wide, chunk = unify(before, chunk)
        return (Column(wide) if column is None or wide is not before else column), chunk

    def _write_columns(
        self,
        columns: Mapping[str, Any],
        rows: int,
        overflow: Sequence[dict[str, Any] | None] = (),
    ) -> None:
        """Add columns; those beyond `max_columns` are merged into the overflow column."""
        selected = select_columns(columns, self._known_columns, self._max_columns)
        if len(selected) == len(columns):
            self._write(columns, rows, overflow)
            return
        overflow_rows: list[dict[str, Any]] = [dict(row or ()) for row in overflow or [None] * rows]
        for name in columns:
            if name not in selected:
                for row, value in zip(overflow_rows, _to_objects(columns[name]), strict=True):
                    if value is not None:
                        row[name] = value
        columns = {name: columns[name] for name in selected}
        self._write(columns, rows, [row or None for row in overflow_rows])

    def _enforce_max_bytes(self, bound: int) -> None:
        while self._rows > 1 and (size := sum(c.nbytes for c in self._columns.values())) > bound:
            # Estimated as if all rows had the same size; further rounds correct the estimate.
            oldest = min(self._rows - 1, max(1, int(self._rows * (1 - bound / size))))
            for column in self._columns.values():
                column.drop(oldest)
            self._rows -= oldest
            self._dropped += oldest

    def _snapshot(self, newest: int | None) -> pd.DataFrame:
        with self._lock:
            self._write_pending()
            start = 0 if newest is None else max(0, self._rows - newest)
            first = self._written - self._rows + start
            index: pd.Index[Any] = pd.RangeIndex(first, self._written)
            columns = {name: column.view_from(start) for name, column in self._columns.items()}
        if self._index is not None:
            gaps = np.full(len(index), np.nan)
            values = columns.pop(self._index, gaps)
            dtype = object if _is_object(values) else None
            index = pd.Index(values, dtype=dtype, name=self._index, copy=False)
        for name, values in columns.items():
            if _is_object(values):
                # With an explicit dtype, because pandas would otherwise search all values for text.
                columns[name] = pd.Series(values, index=index, dtype=object, copy=False)
        return pd.DataFrame(columns, index=index, copy=False)


def _to_objects(values: Any) -> list[Any]:
    """Return the values of a column as Python objects, None for missing ones."""
    if isinstance(values, list | tuple):
        return list(map(normalised_value, values))
    return restore(values if isinstance(values, Chunk) else infer_chunk(values, text_times=False))


def _is_object(values: Any) -> bool:
    return bool(values.dtype == np.dtype(object))
