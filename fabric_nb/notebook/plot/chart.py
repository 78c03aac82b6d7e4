"""Chart of a stream."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from fabric_nb.notebook.capture import current_parent
from fabric_nb.notebook.plot.picture import Picture
from fabric_nb.notebook.plot.selection import Range
from fabric_nb.notebook.plot.source import Source
from fabric_nb.notebook.plot.widget import PlotWidget

if TYPE_CHECKING:
    from fabric_nb.fabric.data.stream import Stream


class Chart(PlotWidget):
    """A live chart of a stream; see `Stream.plot`.

    It is displayed under the cell that created it, and under each later cell whose value it is.
    """

    def __init__(self, stream: Stream, source: Source) -> None:
        self.stream = stream
        self._version: object = self.version
        super().__init__(source)

    @property
    def version(self) -> object:
        """Value that differs whenever the picture does."""
        return self.stream.changes, self.stream.closed, self.stream.reconnecting

    def refresh(self) -> None:
        """Schedule an update if the stream has changed."""
        if (version := self.version) != self._version:
            self._version = version
            self.update()

    def picture(
        self, columns: int, view: Range | None = None, hidden: Collection[str] = ()
    ) -> Picture:
        """Return the current picture, with the state of the connection."""
        state = "reconnecting" if self.stream.reconnecting else ""
        return replace(super().picture(columns, view, hidden), state=state)

    def _ipython_display_(self) -> None:
        if self.shown_in != execution():
            self.show(execution())


def execution() -> object:
    """Return the id of the running execution of a cell."""
    return current_parent().get("header", {}).get("msg_id")
