"""Table of all streams of this notebook."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fabric_nb.fabric.member import FabricMember
from fabric_nb.notebook.pages import counted
from fabric_nb.notebook.table import Column, Head, TableModel, Value
from fabric_nb.notebook.views.base import TableView, unknown_action
from fabric_nb.notebook.views.connection import state_badge
from fabric_nb.notebook.views.stream import chart_of, headers_text, stream_badge

if TYPE_CHECKING:
    from fabric_nb.fabric.data.stream import Stream

VALUES = 30
"""Number of values in the chart of a row."""
COLUMNS = (
    Column("variable", "code"),
    Column("stream", line=2),
    Column("state", "badge"),
    Column("rows", "number", line=2),
    Column("rows/s", "number", digits=1),
    Column("dropped", "number", line=2),
    Column("last values", line=0),
)

NamedStreams = Sequence[tuple[str, "Stream"]]


@dataclass(eq=False)
class StreamsView(TableView):
    """A row for each stream, with the last values of its first measure.

    Attributes:
        streams: returns pairs of a variable's name and its stream.
    """

    narrow = True

    fabric: FabricMember
    streams: Callable[[], NamedStreams]

    def version(self) -> Hashable:
        """Return the streams' counters and, while rows arrive, the second, as rates change."""
        streams = self.streams()
        second = int(time.monotonic()) if any(stream.rate for _, stream in streams) else 0
        states = (
            (name, id(stream), stream.changes, stream.closed, stream.paused)
            for name, stream in streams
        )
        return self.fabric.state, second, *states

    def model(self) -> TableModel:
        """Return an empty table of streams."""
        return TableModel("Streams", COLUMNS)

    def fill(self, model: TableModel) -> None:
        """Show a row for each stream."""
        streams = self.streams()
        model.replace(
            (id(stream), _row(name, stream), _unreadable(stream)) for name, stream in streams
        )
        model.head = Head(
            "Streams",
            state_badge(self.fabric),
            [f"{sum(not stream.closed for _, stream in streams):,} open"] if streams else [],
            empty="No stream was opened yet: s = %fabric_stream kind=A opens one.",
        )

    def act(self, name: str, value: object) -> Any:
        """Pause the stream with the key `value`, or resume it."""
        stream = next((stream for _, stream in self.streams() if id(stream) == value), None)
        if name != "pause" or stream is None:
            raise unknown_action(name)
        return stream.resume() if stream.paused else stream.pause()


def _row(name: str, stream: Stream) -> list[Value]:
    chart = chart_of(stream.tail(VALUES))
    return [
        name,
        headers_text(stream) or "all data",
        stream_badge(stream),
        stream.rows,
        stream.rate,
        stream.dropped,
        "" if chart is None else f"{chart.label} {chart.bars}",
    ]


def _unreadable(stream: Stream) -> str:
    return f"{counted(stream.rejected, 'message')} could not be read." if stream.rejected else ""
