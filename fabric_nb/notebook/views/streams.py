"""The streams of this notebook, seen together: a line for each."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from fabric_nb.fabric.data.stream import Stream
from fabric_nb.fabric.member import FabricMember
from fabric_nb.notebook.table import Column, Head, TableModel, Value
from fabric_nb.notebook.views.base import TableView
from fabric_nb.notebook.views.state import state_badge
from fabric_nb.notebook.views.stream import chart_of, shown_headers, stream_badge

VALUES = 30
"""How many of the last values are drawn."""
COLUMNS = (
    Column("variable", "code"),
    Column("stream", line=2),
    Column("state", "badge"),
    Column("rows", "number", line=2),
    Column("rows/s", "number", digits=1),
    Column("dropped", "number", line=2),
    Column("last values", line=0),
)

NamedStreams = Sequence[tuple[str, Stream]]


@dataclass(eq=False)
class StreamsView(TableView):
    """Streams, with the last values of the first column that holds numbers.

    Attributes:
        streams: gives the streams, each with the variable that holds it.
    """

    narrow = True

    fabric: FabricMember
    streams: Callable[[], NamedStreams]

    def version(self) -> Hashable:
        """How much has come, and every second the rates."""
        streams = self.streams()
        flowing = int(time.monotonic()) if any(one.rate for _, one in streams) else 0
        states = ((name, id(one), one.changes, one.closed, one.paused) for name, one in streams)
        return self.fabric.state, flowing, *states

    def model(self) -> TableModel:
        """A table of streams."""
        return TableModel("Streams", COLUMNS)

    def fill(self, model: TableModel) -> None:
        """Show each stream."""
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
        stream = next((one for _, one in self.streams() if id(one) == value), None)
        if name != "pause" or stream is None:
            raise LookupError(f"There is no {name!r} here.")
        return stream.resume() if stream.paused else stream.pause()


def _row(name: str, stream: Stream) -> list[Value]:
    chart = chart_of(stream.tail(VALUES))
    return [
        name,
        shown_headers(stream) or "all data",
        stream_badge(stream),
        stream.rows,
        stream.rate,
        stream.dropped,
        "" if chart is None else f"{chart.label} {chart.bars}",
    ]


def _unreadable(stream: Stream) -> str:
    return f"{stream.rejected:,} messages could not be read." if stream.rejected else ""
