"""A chart of a stream."""

from __future__ import annotations

from dataclasses import replace

from fabric_nb.fabric.data.stream import Stream
from fabric_nb.notebook.capture import current_parent
from fabric_nb.notebook.plot.picture import Picture
from fabric_nb.notebook.plot.source import Source
from fabric_nb.notebook.plot.widget import PlotWidget


class Chart(PlotWidget):
    """A live chart of a stream; see `Stream.plot`.

    It is drawn where it was made, and once more in each later cell that ends with it.
    """

    def __init__(self, stream: Stream, source: Source) -> None:
        self.stream = stream
        super().__init__(source)

    @property
    def version(self) -> object:
        """Something that differs whenever there is something new to draw."""
        return self.stream.changes, self.stream.closed, self.stream.reconnecting

    def picture(self, columns: int) -> Picture:
        """The chart of now, and whether rows can come."""
        state = "reconnecting" if self.stream.reconnecting else ""
        return replace(super().picture(columns), state=state)

    def _ipython_display_(self) -> None:
        if self.shown_in != request():
            self.show(request())


def request() -> object:
    """Which execution of a cell runs."""
    return current_parent().get("header", {}).get("msg_id")
