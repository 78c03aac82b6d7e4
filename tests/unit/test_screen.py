"""Live views: refreshed when they change, closed when replaced, frozen at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from typing import Any

import pytest

from fabric_nb.notebook.live import showing
from fabric_nb.notebook.pages import Page
from fabric_nb.notebook.table import Column, TableModel
from fabric_nb.notebook.views import live
from fabric_nb.notebook.views.base import PageView, TableView
from fabric_nb.notebook.views.live import CellRun, Screen


class Number:
    """A view of a number, which can be made to fail."""

    def __init__(self, number: int = 0) -> None:
        self.number = number
        self.broken = False

    def version(self) -> Hashable:
        return self.number

    def text(self) -> str:
        if self.broken:
            raise RuntimeError("cannot be rendered")
        return f"number {self.number}"


class NumberPage(Number, PageView):
    """A page view."""

    def page(self) -> Page:
        return Page(self.text())


class NumberTable(Number, TableView):
    """A table view."""

    def model(self) -> TableModel:
        return TableModel("Numbers", [Column("number")])

    def fill(self, model: TableModel) -> None:
        model.put(0, [self.text()])


class Displays:
    """Simulated displays: the last text of each that has one, in order."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.updated = asyncio.Event()

    def show(self, data: dict[str, Any], *, display_id: Any, raw: bool) -> Displays | None:
        assert raw
        if display_id is True:  # a page, whose handle is `update`
            display_id = f"page {len(self.texts)}"
            handle = Handle(self, display_id)
            handle.update(data, raw=True)
            return handle  # type: ignore[return-value]
        if "text/plain" in data:
            self.texts[display_id] = data["text/plain"]
            self.updated.set()
        return None

    def __eq__(self, other: object) -> bool:
        return [text.splitlines()[-1] for text in self.texts.values()] == other

    __hash__ = None  # type: ignore[assignment]


class Handle:
    """Handle of a page's display."""

    def __init__(self, displays: Displays, id_: str) -> None:
        self._displays, self._id = displays, id_

    def update(self, data: dict[str, Any], *, raw: bool) -> None:
        self._displays.show(data, display_id=self._id, raw=raw)


@pytest.fixture(params=[NumberPage, NumberTable])
def kind(request: pytest.FixtureRequest) -> Any:
    """Class of a view, of each kind."""
    return request.param


@pytest.fixture
def displays(monkeypatch: pytest.MonkeyPatch) -> Displays:
    """Replace IPython's displays."""
    displays = Displays()
    monkeypatch.setattr(live, "display", displays.show)
    monkeypatch.setattr(showing, "display", displays.show)
    monkeypatch.setattr(showing, "update_display", displays.show)
    return displays


@pytest.fixture
async def screen() -> Any:
    """Screen that is closed after the test."""
    screen = Screen()
    yield screen
    screen.close()


@pytest.fixture
def no_periodic_refresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable the periodic refresh."""
    monkeypatch.setattr(live, "PERIOD", 3600)


@pytest.mark.usefixtures("no_periodic_refresh")
async def test_views_are_rendered_when_they_change(
    screen: Screen, displays: Displays, kind: Any
) -> None:
    """A view is rendered when it is shown, and again only after a change."""
    view = kind()
    screen.show(view)
    assert displays == ["number 0"]
    view.number = 5
    screen.refresh()
    assert displays == ["number 5"]
    displays.updated.clear()
    screen.refresh()
    assert not displays.updated.is_set()


async def test_views_are_refreshed_periodically(
    screen: Screen, displays: Displays, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Views are refreshed without a call of `refresh`."""
    monkeypatch.setattr(live, "PERIOD", 0.001)
    view = kind()
    screen.show(view)
    displays.updated.clear()
    view.number = 1
    await asyncio.wait_for(displays.updated.wait(), 60)
    assert displays == ["number 1"]


@pytest.mark.usefixtures("no_periodic_refresh")
async def test_failing_view_is_frozen(
    screen: Screen, displays: Displays, kind: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A view that fails is frozen in its last state; other views are not affected."""
    broken, good = kind(), kind()
    screen.show(broken)
    screen.show(good)
    broken.broken, broken.number, good.number = True, 1, 1
    screen.refresh()
    assert "A view failed to refresh" in caplog.text
    assert displays == ["number 0", "number 1"]
    broken.broken, broken.number, good.number = False, 2, 2
    screen.refresh()
    assert displays == ["number 0", "number 2"]


@pytest.mark.usefixtures("no_periodic_refresh")
async def test_running_a_cell_again_closes_its_views(
    screen: Screen, displays: Displays, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Views of an earlier execution are closed; all views of one execution are kept."""
    old, first, second, other = kind(), kind(), kind(), kind()
    places = iter(
        [CellRun("cell", "1"), CellRun("cell", "2"), CellRun("cell", "2"), CellRun(None, "3")]
    )
    monkeypatch.setattr(live.CellRun, "current", lambda: next(places))
    for view in (old, first, second, other):
        screen.show(view)
    for view in (old, first, second, other):
        view.number = 1
    screen.refresh()
    assert displays == ["number 0", "number 1", "number 1", "number 1"]


@pytest.mark.usefixtures("no_periodic_refresh")
async def test_number_of_live_views_is_bounded(
    screen: Screen, displays: Displays, kind: Any
) -> None:
    """At most `MAX_LIVE` views are live; the oldest are frozen first."""
    views = [kind() for _ in range(live.MAX_LIVE + 2)]
    for view in views:
        screen.show(view)
    for view in views:
        view.number = 1
    screen.refresh()
    assert displays == ["number 0"] * 2 + ["number 1"] * live.MAX_LIVE


@pytest.mark.usefixtures("no_periodic_refresh")
async def test_closed_outputs_are_dropped(
    screen: Screen, displays: Displays, kind: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """An output that was closed is not refreshed any more."""
    view = kind()
    output = screen.show(view)
    assert output is not None
    output.close()
    view.number, view.broken = 1, True
    screen.refresh()
    assert displays == ["number 0"]
    assert caplog.records == []


@pytest.mark.usefixtures("no_periodic_refresh")
async def test_closing_refreshes_and_freezes(screen: Screen, displays: Displays, kind: Any) -> None:
    """Closing the screen refreshes each view a last time and freezes it."""
    view = kind()
    screen.show(view)
    view.number = 9
    screen.close()
    assert displays == ["number 9"]
    view.number = 10
    screen.refresh()
    assert displays == ["number 9"]


@pytest.mark.usefixtures("no_periodic_refresh")
async def test_tables_are_shown_together(screen: Screen, displays: Displays) -> None:
    """Several tables share one display, and each is refreshed when it has changed."""
    first, second = NumberTable(1), NumberTable(2)
    screen.show(first, second)
    (text,) = displays.texts.values()
    assert "number 1" in text
    assert "number 2" in text
    second.number = 3
    screen.refresh()
    (text,) = displays.texts.values()
    assert "number 1" in text
    assert "number 3" in text
