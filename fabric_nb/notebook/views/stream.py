"""A data stream, seen: how much has come, how fast, a line over a column, and the last rows."""

from __future__ import annotations

import math
import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from fabric_nb.fabric.data.recording import Recording
from fabric_nb.fabric.data.stream import Stream
from fabric_nb.fabric.member import FabricMember
from fabric_nb.notebook.pages import Badge, Chart, glimpse, plain
from fabric_nb.notebook.table import Button, Column, Head, Select, TableModel, Value
from fabric_nb.notebook.views.base import TableView
from fabric_nb.notebook.views.state import look_at_others, nothing_yet, state_badge

ROWS, COLUMNS = 100, 20
CHART_ROWS = 200


@dataclass(eq=False)
class StreamView(TableView):
    """A stream of this notebook."""

    fabric: FabricMember
    stream: Stream
    charted: str | None = None
    """The column that the line is over; None for the first that holds numbers."""
    domain: str = ""
    """Whose data it takes, to name other domains while there is none."""

    def version(self) -> Hashable:
        """How much has come, and every second the rate."""
        stream = self.stream
        flowing = int(time.monotonic()) if stream.rate else 0
        state = self.fabric.state, stream.closed, stream.paused
        others = 0 if stream.rows else look_at_others(self.fabric, self.domain)
        return *state, stream.changes, flowing, self.charted, others

    def model(self) -> TableModel:
        """A table of the last rows."""
        return TableModel("Stream", max_rows=ROWS, follow=True)

    def fill(self, model: TableModel) -> None:
        """Add the rows that have come since."""
        stream = self.stream
        last = stream.tail(CHART_ROWS)
        if last.index.name is not None:
            last = last.reset_index(allow_duplicates=True)
        frame = last.iloc[-ROWS:, :COLUMNS]
        model.columns = [
            Column(plain(str(name)), "number" if _is_number(dtype) else "text")
            for name, dtype in zip(frame.columns, frame.dtypes, strict=True)
        ]
        if frame.columns.size:
            numbers = range(stream.rows - len(frame), stream.rows)
            fresh = [number for number in numbers if number not in model]
            rows = frame.iloc[len(frame) - len(fresh) :]
            values = [_values(rows.iloc[:, place]) for place in range(rows.shape[1])]
            for number, row in zip(fresh, zip(*values, strict=True), strict=True):
                model.put(number, row)
        model.cut = max(0, stream.rows - len(model))
        model.head = self._head(last)

    def act(self, name: str, value: object) -> Any:
        """Pause, go on, or choose the column of the line."""
        match name, value:
            case "pause", None:
                return self.stream.resume() if self.stream.paused else self.stream.pause()
            case "chart", str(column):
                self.charted = column
                return None
        raise LookupError(f"There is no {name!r} here.")

    def _head(self, last: pd.DataFrame) -> Head:
        stream = self.stream
        facts = [f"{stream.rows:,} rows", f"{stream.rate:,.1f} rows/s"]
        if stream.dropped:
            facts.append(f"{stream.dropped:,} dropped (kept: the last {len(stream):,})")
        if stream.rejected:
            facts.append(f"{stream.rejected:,} unreadable")
        if stream.remade:
            times = f"{stream.remade:,} times" if stream.remade > 1 else "once"
            facts.append(f"its queue was gone {times}, with what waited in it")
        facts += [_recorded(recording) for recording in stream.recordings]
        more = last.shape[1] - COLUMNS
        numeric = [at for at, dtype in enumerate(last.dtypes) if _is_number(dtype)][:COLUMNS]
        names = [plain(str(last.columns[at])) for at in numeric]
        tools: list[Button | Select] = []
        chart = None
        if names:
            charted = names.index(self.charted) if self.charted in names else 0
            tools.append(Select("chart", "Line", names, names[charted]))
            chart = Chart(
                f"{names[charted]}, last {len(last):,} rows",
                _numbers(last.iloc[:, numeric[charted]]),
            )
        if not stream.closed:
            tools.append(Button("pause", "Pause", stream.paused))
        return Head(
            f"Stream {shown_headers(stream) or 'of all data'}",
            [stream_badge(stream), *state_badge(self.fabric)],
            facts,
            [f"… and {more:,} more columns, in its DataFrame."] if more > 0 else [],
            tools,
            chart,
            empty=nothing_yet("No row has come yet.", self.fabric, self.domain),
        )


def _recorded(recording: Recording) -> str:
    lost = f", {recording.lost:,} lost" if recording.lost else ""
    return f"{recording.rows:,} rows recorded to {recording.path.name}{lost}"


def stream_badge(stream: Stream) -> Badge:
    """Whether it is open, paused or closed."""
    if stream.closed:
        return Badge("closed", "quiet")
    return Badge("paused", "warn") if stream.paused else Badge("open", "good")


def shown_headers(stream: Stream) -> str:
    """Which messages it takes; empty for all."""
    return ", ".join(f"{name}={value}" for name, value in stream.headers.items())


def chart_of(rows: pd.DataFrame) -> Chart | None:
    """A line over the first column that holds numbers; None when there is none."""
    columns = range(min(rows.shape[1], COLUMNS))
    first = next((at for at in columns if _is_number(rows.dtypes.iloc[at])), None)
    if first is None:
        return None
    return Chart(plain(str(rows.columns[first])), _numbers(rows.iloc[:, first]))


def _is_number(dtype: Any) -> bool:
    return getattr(dtype, "kind", "O") in "iuf"


def _numbers(column: pd.Series[Any]) -> list[float | None]:
    return list(column.astype(float))


def _values(column: pd.Series[Any]) -> Sequence[Value]:
    values = column.tolist()  # numpy's numbers as Python's
    if _is_number(column.dtype):
        return [None if _is_missing(value) else value for value in values]
    return [_text(value) for value in values]


def _is_missing(value: object) -> bool:
    return value is None or value is pd.NaT or (isinstance(value, float) and math.isnan(value))


def _text(value: object) -> str | None:
    if isinstance(value, str):
        return value
    if _is_missing(value):
        return None
    return glimpse(value) if isinstance(value, (list, dict)) else str(value)
