"""Computation of a picture from a stream's rows; numpy and pandas, no I/O."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from fabric_nb.notebook.plot.bucketed import BucketChart, histogram
from fabric_nb.notebook.plot.options import chart_options
from fabric_nb.notebook.plot.picture import Picture
from fabric_nb.notebook.plot.scene import NO_NUMBERS, TOO_FAR, Scene, is_too_wide
from fabric_nb.notebook.plot.selection import Range, Rows, Selection
from fabric_nb.notebook.plot.single_rows import picture_of_rows
from fabric_nb.notebook.plot.wall_clock import WallClock

NO_ROWS = "No row received yet."


class Source:
    """Computes pictures of a stream's rows.

    Args:
        rows: the stream.
        y: columns to draw; None for the measures.
        x: column of the x axis; None for the times.
        options: further options; see `Stream.plot`.

    Attributes:
        options: all options.
        clock: clock of local times.

    Raises:
        InvalidArgument: an option is unknown or has a wrong value.
    """

    def __init__(
        self,
        rows: Rows,
        y: str | Sequence[str] | None = None,
        x: str | None = None,
        **options: Any,
    ) -> None:
        self.options = chart_options(y, x, **options)
        self.clock = WallClock()
        self._selection = Selection(rows, self.options)
        self._buckets = BucketChart()

    @property
    def title(self) -> str:
        """Title of the chart."""
        return self.options.title

    def picture(
        self, columns: int, view: Range | None = None, hidden: Collection[str] = ()
    ) -> Picture:
        """Return the current picture.

        Args:
            columns: width in columns of pixels.
            view: range of x to show, in seconds for times; None for the window, or all rows.
            hidden: names of lines that are not drawn.
        """
        try:
            data = self._selection.data()
            series = self._selection.series(data)
        except ValueError as error:
            return Picture(self.title, columns, notes=[str(error)], zoomed=view is not None)
        scene = Scene(self.options, columns, data, series, view, self.clock, hidden)
        if not len(data.frame):
            return scene.empty(NO_ROWS)
        if not series.columns and not (self._counts_rows and not series.notes):
            return scene.empty(*(series.notes or [NO_NUMBERS]))
        extent = data.extent
        if self.options.kind == "hist":
            return histogram(scene, extent)
        if extent is None:
            return scene.empty(NO_ROWS)
        if is_too_wide(extent):
            return scene.empty(TOO_FAR.format(data.name))
        if self.options.bucketed:
            return self._buckets.picture(scene, extent)
        return picture_of_rows(scene, extent)

    @property
    def _counts_rows(self) -> bool:
        """True if a chart without columns is one of the number of rows."""
        options = self.options
        return options.bucketed and options.kind != "hist" and options.how in (None, "count")
