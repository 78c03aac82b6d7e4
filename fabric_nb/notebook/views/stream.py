"""Table of a data stream: counters, a chart of one column, the newest rows, and all others."""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from fabric_nb.errors import InvalidArgument
from fabric_nb.fabric.core.tasks import in_thread
from fabric_nb.fabric.member import FabricMember
from fabric_nb.notebook.pages import Badge, Chart, counted, glimpse, plain
from fabric_nb.notebook.table import Button, Column, Head, Select, TableModel, Value
from fabric_nb.notebook.table.model import MAX_COLUMNS
from fabric_nb.notebook.table.paging import Choice, PagedRows, RequestedQuery
from fabric_nb.notebook.table.parts import Payload
from fabric_nb.notebook.views.base import TableView, unknown_action
from fabric_nb.notebook.views.connection import check_interval, state_badge, with_other_domains
from fabric_nb.notebook.views.stream_export import code, target, tsv, write
from fabric_nb.notebook.views.stream_rows import Snapshot, StreamRows

if TYPE_CHECKING:
    import pandas as pd

    from fabric_nb.fabric.data.recording import Recording
    from fabric_nb.fabric.data.stream import Stream
    from fabric_nb.notebook.views.stream_rows import Rows

ROWS, COLUMNS = 100, 20
CHART_ROWS = 200
TIMESPECS = ("seconds", "milliseconds", "microseconds", "nanoseconds")
"""Precisions of a time column: the lowest that shows all its times exactly is used."""


@dataclass(eq=False)
class StreamView(TableView):
    """A stream of this notebook."""

    fabric: FabricMember
    stream: Stream
    charted: str | None = None
    """Column of the chart; None for the first measure."""
    domain: str = ""
    """Domain of the stream; while no row arrives, other domains with services are suggested."""
    chosen: Sequence[str] | None = None
    """Columns that are shown; None for the first `COLUMNS`."""
    _precisions: dict[Hashable, int] = field(default_factory=dict)
    """Index in `TIMESPECS` by time column."""
    _choices: Sequence[Choice] = ()
    """All columns of the rows that were shown last."""

    def __post_init__(self) -> None:
        self._rows = StreamRows(self.stream, lambda: self._choices, self._cells)

    @property
    def pages(self) -> PagedRows:
        """Source of all rows that the stream keeps."""
        return self._rows

    def version(self) -> Hashable:
        """Return the stream's counters and, while rows arrive, the second, as the rate changes."""
        stream = self.stream
        second = int(time.monotonic()) if stream.rate else 0
        state = self.fabric.state, stream.closed, stream.paused
        interval = 0 if stream.rows else check_interval(self.fabric, self.domain)
        return *state, stream.changes, second, self.charted, self.chosen, interval

    def model(self) -> TableModel:
        """Return an empty table, which gets its columns with the first rows."""
        return TableModel("Stream", max_rows=ROWS, follow=True, paged=True)

    def fill(self, model: TableModel) -> None:
        """Add the rows received since the last time."""
        stream = self.stream
        frame, first = Snapshot.of_newest(stream, CHART_ROWS)
        self._choices = self._all_columns(frame)
        model.choices = self._choices
        model.columns = [
            Column(plain(choice.name), "number" if choice.kind == "number" else "text")
            for choice in self._shown
        ]
        if self._shown:
            self._fill_rows(model, frame, first)
        rows, kept = stream.rows, len(stream)
        model.held = (rows - kept, kept)
        model.cut = max(0, rows - len(model))
        model.head = self._head(frame)

    def _all_columns(self, frame: pd.DataFrame) -> Sequence[Choice]:
        from fabric_nb.frames.query import kind_of

        names = [str(name) for name in frame.columns]
        shown = names[:COLUMNS] if self.chosen is None else self.chosen
        return tuple(
            Choice(name, kind_of(dtype), name in shown)
            for name, dtype in zip(names, frame.dtypes, strict=True)
        )

    @property
    def _shown(self) -> Sequence[Choice]:
        return [choice for choice in self._choices if choice.shown]

    def _fill_rows(self, model: TableModel, frame: pd.DataFrame, first: int) -> None:
        numbers = range(max(first, first + len(frame) - ROWS), first + len(frame))
        new = [number for number in numbers if number not in model]
        if self._raise_precisions(self._columns_of(frame, slice(len(frame) - len(new), None))):
            new = list(numbers)  # earlier rows are rendered again, as precise as the new ones
        cells = self._cells(frame, slice(len(frame) - len(new), None))
        for number, row in zip(new, cells, strict=True):
            model.put(number, row)

    def _columns_of(self, frame: pd.DataFrame, rows: Rows) -> Sequence[pd.Series[Any]]:
        """Return the columns that are shown; empty ones for those that do not exist any more."""
        import pandas as pd

        missing = pd.Series([None] * len(frame), dtype=object)
        return [frame.get(choice.name, missing).iloc[rows] for choice in self._shown]

    def _cells(self, frame: pd.DataFrame, rows: Rows) -> Sequence[Sequence[Value]]:
        """Return the cells of rows, given by their positions, as they are shown."""
        columns = self._columns_of(frame, rows)
        return list(
            zip(*(_values(column, self._timespec(column)) for column in columns), strict=True)
        )

    def _raise_precisions(self, columns: Sequence[pd.Series[Any]]) -> bool:
        """Adapt the precision of time columns to new rows; return whether any was raised."""
        before = dict(self._precisions)
        for column in columns:
            if column.dtype.kind == "M":
                known = self._precisions.get(column.name, 0)
                self._precisions[column.name] = max(known, _precision(column))
        return self._precisions != before

    def _timespec(self, column: pd.Series[Any]) -> str:
        """Return the precision of a column of times; older rows may need a higher one."""
        known = self._precisions.get(column.name, 0)
        return TIMESPECS[max(known, _precision(column)) if column.dtype.kind == "M" else known]

    def act(self, name: str, value: object) -> Any:
        """Pause, resume, or choose the column of the chart or the columns of the table."""
        match name, value:
            case "pause", None:
                return self.stream.resume() if self.stream.paused else self.stream.pause()
            case "chart", str(column):
                self.charted = column
                return None
            case "columns", None:
                self.chosen = None
                return None
            case "columns", [*indices]:
                return self._choose(indices)
            case ("copy" | "frame" | "save") as export, {"query": content, **options}:
                if (query := RequestedQuery.decoded(content)) is not None:
                    return self._export(export, query, options)
        raise unknown_action(name)

    async def _export(self, export: str, query: RequestedQuery, options: Mapping[Any, Any]) -> str:
        """Copy or save the rows that match, or return code that selects them."""
        if export == "frame":
            return Payload(code(self.stream, self._rows.applied(query), self._chosen_values))
        path = target(options) if export == "save" else None
        frame, positions = await self._rows.matching(query)
        columns = [name for name in frame.columns if self.chosen is None or name in self.chosen]
        if path is None:
            return Payload(await in_thread(tsv, frame, positions, columns))
        await in_thread(write, frame, positions, columns, path)
        return f"Saved {counted(len(positions), 'row')} to {path.name}."

    @property
    def _chosen_values(self) -> Sequence[str] | None:
        """Columns that were chosen, without the index of the DataFrame; None for all."""
        index = self.stream.tail(0).index.name
        return self.chosen and [name for name in self.chosen if name != index]

    def _choose(self, indices: Sequence[object]) -> None:
        """Show the columns at these positions.

        Raises:
            InvalidArgument: there are none or too many of them.
        """
        wanted = {index for index in indices if isinstance(index, int)}
        chosen = [choice.name for index, choice in enumerate(self._choices) if index in wanted]
        if not chosen:
            raise InvalidArgument("A table without columns shows nothing: choose one.")
        if len(chosen) > MAX_COLUMNS:
            raise InvalidArgument(
                f"A table shows {MAX_COLUMNS} columns at most, not {len(chosen)}: choose fewer."
            )
        self.chosen = tuple(chosen)

    def _head(self, last: pd.DataFrame) -> Head:
        stream = self.stream
        facts = [counted(stream.rows, "row"), f"{stream.rate:,.1f} rows/s"]
        if stream.dropped:
            facts.append(f"{stream.dropped:,} dropped (last {len(stream):,} retained)")
        if stream.rejected:
            facts.append(f"{stream.rejected:,} unreadable")
        if stream.remade:
            times = f"{stream.remade:,} times" if stream.remade > 1 else "once"
            facts.append(f"queue lost {times}, with the messages in it")
        facts += [_recording_fact(recording) for recording in stream.recordings]
        more = sum(not choice.shown for choice in self._choices)
        numeric = [index for index, dtype in enumerate(last.dtypes) if _is_number(dtype)][:COLUMNS]
        names = [plain(str(last.columns[index])) for index in numeric]
        tools: list[Button | Select] = []
        chart = None
        if names:
            is_chosen = self.charted in names
            charted = names.index(str(self.charted)) if is_chosen else _first_measure(last, numeric)
            tools.append(Select("chart", "Line", names, names[charted]))
            chart = Chart(
                f"{names[charted]}, last {counted(len(last), 'row')}",
                _numbers(last.iloc[:, numeric[charted]]),
            )
        if not stream.closed:
            tools.append(Button("pause", "Pause", stream.paused))
        return Head(
            f"Stream {headers_text(stream) or 'of all data'}",
            [stream_badge(stream), *state_badge(self.fabric)],
            facts,
            [f"… and {counted(more, 'more column')}, in its DataFrame."] if more else [],
            tools,
            chart,
            empty=with_other_domains("No row received yet.", self.fabric, self.domain),
        )


def _recording_fact(recording: Recording) -> str:
    lost = f", {recording.lost:,} lost" if recording.lost else ""
    return f"{counted(recording.rows, 'row')} recorded to {recording.path.name}{lost}"


def stream_badge(stream: Stream) -> Badge:
    """Return a badge: open, paused or closed."""
    if stream.closed:
        return Badge("closed", "quiet")
    return Badge("paused", "warn") if stream.paused else Badge("open", "good")


def headers_text(stream: Stream) -> str:
    """Return the header values that messages must match; empty if all messages do."""
    return ", ".join(f"{name}={value}" for name, value in stream.headers.items())


def chart_of(rows: pd.DataFrame) -> Chart | None:
    """Return a chart of the first measure, or else numeric column; None if there is none."""
    columns = range(min(rows.shape[1], COLUMNS))
    numeric = [index for index in columns if _is_number(rows.dtypes.iloc[index])]
    if not numeric:
        return None
    first = numeric[_first_measure(rows, numeric)]
    return Chart(plain(str(rows.columns[first])), _numbers(rows.iloc[:, first]))


def _first_measure(rows: pd.DataFrame, numeric: Sequence[int]) -> int:
    """Return the place of the first column that is a measure, and no id or counter; or else 0."""
    from fabric_nb.frames.measures import is_label  # it imports pandas

    found = (
        place
        for place, index in enumerate(numeric)
        if not is_label(str(rows.columns[index]), rows.iloc[:, index])
    )
    return next(found, 0)


def _is_number(dtype: Any) -> bool:
    return getattr(dtype, "kind", "O") in "iuf"


def _numbers(column: pd.Series[Any]) -> list[float | None]:
    return list(column.astype(float))


def _precision(times: pd.Series[Any]) -> int:
    """Return the index in `TIMESPECS` of the lowest precision that shows all times exactly."""
    import pandas as pd

    index = pd.DatetimeIndex(times.dropna())
    per_second = pd.Timedelta(1, "s") // pd.Timedelta(1, index.unit)
    steps = (per_second // 1000**precision for precision in range(len(TIMESPECS)))
    return next(i for i, step in enumerate(steps) if step <= 1 or not (index.asi8 % step).any())


def _values(column: pd.Series[Any], timespec: str) -> Sequence[Value]:
    values = column.tolist()  # converts numpy scalars to Python numbers
    if _is_number(column.dtype):
        return [None if _is_missing(value) else value for value in values]
    if column.dtype.kind == "M":
        return [None if _is_missing(time) else time.isoformat(" ", timespec) for time in values]
    return [_text(value) for value in values]


def _is_missing(value: object) -> bool:
    # NaN and NaT, a datetime of pandas, do not equal themselves.
    return value is None or (isinstance(value, (float, datetime)) and value != value)


def _text(value: object) -> str | None:
    if isinstance(value, str):
        return value
    if _is_missing(value):
        return None
    return glimpse(value) if isinstance(value, (list, dict)) else str(value)
