"""Views that are chosen by name or expression, for `%fabric` and `%fabric_report`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fabric_nb.fabric.core.values import similar
from fabric_nb.fabric.data import plotting
from fabric_nb.fabric.data.streams import is_stream
from fabric_nb.fabric.logs.feed import LogFeed
from fabric_nb.fabric.member import FabricMember
from fabric_nb.notebook.arguments import InvalidLine, evaluate
from fabric_nb.notebook.completion import SECTIONS
from fabric_nb.notebook.plot.backend import Charts
from fabric_nb.notebook.views.base import TableView
from fabric_nb.notebook.views.live import LiveTable, Part, Screen, page_of
from fabric_nb.notebook.views.logs import LogView

if TYPE_CHECKING:
    from fabric_nb.fabric.data.stream import Stream
    from fabric_nb.notebook.live.widget import LiveWidget
    from fabric_nb.notebook.plot.source import Source
    from fabric_nb.notebook.plot.widget import PlotWidget

DEFAULT_SECTIONS = ("services", "calls", "serving", "streams", "logs")
"""Views that are shown if none is chosen."""
MIN_WIDTH = "440px"
"""Minimum width of views that are placed side by side."""


@dataclass(frozen=True, slots=True)
class ChosenChart:
    """A chart that is not displayed yet."""

    stream: Stream
    source: Source


ViewChoice = str | TableView | ChosenChart
"""Name of a section, the view of a value, or a chart."""


class ChartPart:
    """A chart among other views."""

    def __init__(self, chosen: ChosenChart) -> None:
        from fabric_nb.notebook.plot.chart import Chart  # as late as other widgets

        self._chart = Chart(chosen.stream, chosen.source)

    @property
    def widget(self) -> PlotWidget:
        """The chart itself."""
        return self._chart

    def refresh(self) -> None:
        """Update the chart if its stream has changed."""
        self._chart.refresh()


def choose(word: str, scope: Mapping[str, Any], member: FabricMember) -> ViewChoice:
    """Return what a word of ``%fabric`` means.

    Args:
        word: name of a section, or an expression: a stream, a log feed, or ``load.plot(...)``.
        scope: variables of the user.
        member: member of the notebook.

    Raises:
        InvalidLine: it means no view.
        BadArgument: the expression has raised an error.
    """
    if word in SECTIONS:
        return word
    if word.isidentifier() and word not in scope:
        raise InvalidLine(_unknown(word))
    with _charts_chosen():
        value = evaluate(word, scope)
        if is_stream(getattr(value, "__self__", None)) and value.__name__ == "plot":
            value = value()
    if isinstance(value, ChosenChart):
        return value
    if is_stream(value):
        from fabric_nb.notebook.views.stream import StreamView  # it imports pandas

        return StreamView(member, value, domain=value.domain)
    if isinstance(value, LogFeed):
        return LogView(member, value, domain=value.domain)
    raise InvalidLine(_unknown(word, type(value).__name__))


def part_of(chosen: TableView | ChosenChart) -> Part:
    """Return a view or chart as a widget, which is not displayed yet."""
    return ChartPart(chosen) if isinstance(chosen, ChosenChart) else LiveTable(chosen)


def text_of(chosen: TableView | ChosenChart) -> str:
    """Return a view or chart as text, for a terminal."""
    if isinstance(chosen, TableView):
        return page_of(chosen).text()
    from fabric_nb.notebook.plot.static import COLUMNS, static_forms

    return static_forms(chosen.source.picture(COLUMNS))["text/plain"]


def shown_views(screen: Screen) -> list[LiveWidget]:
    """Return the views and charts that are live in the notebook, without the cards."""
    from fabric_nb.notebook.live.page import PageWidget

    backend = plotting.backend()
    charts = backend.shown() if isinstance(backend, Charts) else []
    views = [each for each in screen.widgets() if not isinstance(each, PageWidget)]
    return [*views, *charts]


class _ChosenCharts(Charts):
    """Backend of `Stream.plot` that displays nothing."""

    def plot(self, stream: Stream, **options: Any) -> Any:
        """Return the chart, which is displayed later."""
        return ChosenChart(stream, self.source(stream, **options))


@contextmanager
def _charts_chosen() -> Iterator[None]:
    """Have `Stream.plot` return a `ChosenChart`."""
    earlier = plotting.backend()
    plotting.set_backend(_ChosenCharts())
    try:
        yield
    finally:
        plotting.set_backend(earlier)


def _unknown(word: str, kind: str = "") -> str:
    what = f"{word} is of type {kind}, which is no view" if kind else f"There is no view {word!r}"
    suggestion = similar(word, SECTIONS) or "."
    return (
        f"{what}{suggestion} Choose from {_listed(SECTIONS)}, or a variable with a stream or log"
        " feed, or a chart such as orders.plot."
    )


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"
