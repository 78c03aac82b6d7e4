"""All rows that a stream keeps, for its table: selected, a page at a time, and exported."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from fabric_nb.fabric.core.tasks import in_thread
from fabric_nb.notebook.pages import plain
from fabric_nb.notebook.table import Value
from fabric_nb.notebook.table.paging import (
    MAX_LISTED,
    Choice,
    ColumnReference,
    PageRequest,
    RequestedQuery,
    RowPage,
)

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from fabric_nb.fabric.data.stream import Stream
    from fabric_nb.frames.query import Query, Selection
    from fabric_nb.frames.time_conversion import Array as Positions

    Numbers: TypeAlias = Sequence[int] | np.ndarray[Any, Any]
    Rows: TypeAlias = slice | list[int]

MAX_SELECTIONS = 4
"""Selections that are kept, so that views can be scrolled: their rows do not change meanwhile."""


class Snapshot(NamedTuple):
    """Rows at one moment.

    Attributes:
        frame: the rows, with all columns; the index is the position.
        first: number of the first row.
    """

    frame: pd.DataFrame
    first: int

    @classmethod
    def of(cls, stream: Stream) -> Snapshot:
        """Return the rows that a stream keeps."""
        return cls._of(stream, stream.df)

    @classmethod
    def of_newest(cls, stream: Stream, count: int) -> Snapshot:
        """Return the newest rows of a stream."""
        return cls._of(stream, stream.tail(count))

    @classmethod
    def _of(cls, stream: Stream, frame: pd.DataFrame) -> Snapshot:
        import pandas as pd

        from fabric_nb.frames.query import with_index_as_column

        numbered = frame.index.name is None and isinstance(frame.index, pd.RangeIndex)
        first = int(frame.index[0]) if numbered and len(frame) else stream.rows - len(frame)
        return cls(with_index_as_column(frame), first)


class _Selected(NamedTuple):
    """A selection of rows by number, and what it was made of."""

    query: Query
    numbers: Numbers
    problems: dict[str, str]


class StreamRows:
    """Source of the rows of a stream's table.

    Args:
        stream: the stream.
        columns: returns all columns, as in the table's `choices`.
        render: returns the cells of rows at these positions, as the table shows them.
    """

    def __init__(
        self,
        stream: Stream,
        columns: Callable[[], Sequence[Choice]],
        render: Callable[[pd.DataFrame, Rows], Sequence[Sequence[Value]]],
    ) -> None:
        self._stream = stream
        self._columns = columns
        self._render = render
        self._selections: OrderedDict[int, _Selected] = OrderedDict()
        self._last_selection = 0

    async def page(self, request: PageRequest) -> RowPage:
        """Return requested rows."""
        snapshot = Snapshot.of(self._stream)
        query = self.query(request.query)
        number, selected = await self._selected(snapshot, query, request.selection)
        total = len(selected.numbers)
        # Of too many rows, the newest are listed, or the first in the order of the sort.
        bounds = slice(-MAX_LISTED, None) if query.sort is None else slice(MAX_LISTED)
        numbers: Numbers = selected.numbers[bounds]
        last = max(0, len(numbers) - request.count)
        first = min(request.first, last) if request.first >= 0 else last
        chosen = [int(each) for each in numbers[first : first + request.count]]
        return RowPage(
            total=total,
            listed=len(numbers),
            held=len(snapshot.frame),
            first=first,
            numbers=chosen,
            cells=self._cells(snapshot, chosen),
            selection=number,
            problems=self._by_position(selected.problems, request.query),
        )

    async def values(self, number: int) -> Sequence[tuple[str, Any]] | None:
        """Return the labelled values of a row; None if it was dropped."""
        frame, first = Snapshot.of(self._stream)
        if not 0 <= number - first < len(frame):
            return None
        row = frame.iloc[[number - first]]
        columns = ((name, row[name].tolist()[0]) for name in frame.columns)
        return [(str(name), _plain_value(value)) for name, value in columns]

    async def matching(self, requested: RequestedQuery) -> tuple[pd.DataFrame, Positions]:
        """Return all rows, and the positions of those that match."""
        frame = Snapshot.of(self._stream).frame
        return frame, (await selected(frame, self.query(requested))).positions

    def applied(self, requested: RequestedQuery) -> Query:
        """Return the query of a view, without filters that are off."""
        from fabric_nb.frames.query import select

        query = self.query(requested)
        problems = select(Snapshot.of_newest(self._stream, 0).frame, query).problems
        filters = [each for each in query.filters if each.column not in problems]
        return replace(query, filters=filters)

    def query(self, requested: RequestedQuery) -> Query:
        """Return the query of a view; columns that do not exist any more keep their labels."""
        from fabric_nb.frames.query import ColumnFilter, Query

        filters = [
            ColumnFilter(self._name(each.column) or each.column.label, each.text, each.kind)
            for each in requested.filters
        ]
        columns = self._columns()
        shown = [choice.name for choice in columns if choice.shown]
        return Query(
            requested.words,
            tuple(filters),
            None if requested.sort is None else self._name(requested.sort),
            requested.descending,
            tuple(shown) if len(shown) < len(columns) else None,
        )

    def _name(self, column: ColumnReference) -> str | None:
        """Return the name of a column; None if it does not exist any more."""
        columns = self._columns()
        if column.index < len(columns):
            name = columns[column.index].name
            if plain(name) == column.label:
                return name
        return None

    def _by_position(self, problems: dict[str, str], requested: RequestedQuery) -> dict[int, str]:
        names = {
            each.column.index: self._name(each.column) or each.column.label
            for each in requested.filters
        }
        return {index: problems[name] for index, name in names.items() if name in problems}

    async def _selected(
        self, snapshot: Snapshot, query: Query, earlier: int
    ) -> tuple[int, _Selected]:
        """Return a selection with its number; the earlier one, if it is kept."""
        if not query:
            every = range(snapshot.first, snapshot.first + len(snapshot.frame))
            return 0, _Selected(query, every, {})
        kept = self._selections.get(earlier)
        if kept is not None and kept.query == query:
            self._selections.move_to_end(earlier)
            return earlier, kept
        selection = await selected(snapshot.frame, query)
        numbers = selection.positions + snapshot.first
        self._last_selection += 1
        made = _Selected(query, numbers, selection.problems)
        self._selections[self._last_selection] = made
        while len(self._selections) > MAX_SELECTIONS:
            self._selections.popitem(last=False)
        return self._last_selection, made

    def _cells(
        self, snapshot: Snapshot, numbers: Sequence[int]
    ) -> Sequence[Sequence[Value] | None]:
        positions = [number - snapshot.first for number in numbers]
        held = [position for position in positions if 0 <= position < len(snapshot.frame)]
        rows = iter(self._render(snapshot.frame, held) if held else ())
        return [
            next(rows) if 0 <= position < len(snapshot.frame) else None for position in positions
        ]


async def selected(frame: pd.DataFrame, query: Query) -> Selection:
    """Select rows in a thread, which ends soon after this is cancelled."""
    from fabric_nb.frames.query import select

    cancelled = threading.Event()
    try:
        return await in_thread(select, frame, query, cancelled.is_set)
    finally:
        cancelled.set()


def _plain_value(value: object) -> object:
    """Return a value for a tree: times as text, and missing ones empty."""
    if isinstance(value, datetime):
        return value.isoformat(" ") if value == value else ""
    return "" if value is None or value != value else value
