"""Backend of `Stream.plot` in a notebook.

Widgets are imported with the first chart, so that loading the extension is fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from IPython.display import display

from fabric_nb.notebook.capture import in_terminal
from fabric_nb.notebook.views.live import Screen

if TYPE_CHECKING:
    from fabric_nb.fabric.data.stream import Stream
    from fabric_nb.notebook.plot.chart import Chart
    from fabric_nb.notebook.plot.source import Source
    from fabric_nb.notebook.plot.widget import PlotWidget

MAX_LIVE = 20
"""Maximum number of live charts."""


class Charts:
    """Displays charts as live outputs."""

    def __init__(self) -> None:
        self._screen = Screen(MAX_LIVE)

    def plot(self, stream: Stream, **options: Any) -> Chart | None:
        """Display a live chart under the running cell; see `Stream.plot`.

        A terminal prints bars of the current values, and None is returned.
        """
        from fabric_nb.notebook.plot.chart import Chart, execution
        from fabric_nb.notebook.plot.static import COLUMNS, static_forms

        source = self.source(stream, **options)
        if in_terminal():
            display(static_forms(source.picture(COLUMNS)), raw=True)
            return None

        def show() -> Chart:
            chart = Chart(stream, source)
            chart.show(execution())
            return chart

        return self._screen.add(show)

    def source(self, stream: Stream, *, title: str | None = None, **options: Any) -> Source:
        """Return the source of a chart's pictures, without displaying any; see `Stream.plot`."""
        from fabric_nb.notebook.plot.source import Source

        if title is None:
            headers = (f"{name}={value}" for name, value in stream.headers.items())
            title = ", ".join(headers) or "all data"
        return Source(stream, title=title, **options)

    def shown(self) -> list[PlotWidget]:
        """Return the live charts, in the order of their display."""
        from fabric_nb.notebook.plot.widget import PlotWidget

        return [chart for chart in self._screen.outputs() if isinstance(chart, PlotWidget)]

    def close(self) -> None:
        """Freeze all charts."""
        self._screen.close()
