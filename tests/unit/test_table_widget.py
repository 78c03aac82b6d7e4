"""Live widgets, with a simulated front end and in a headless run."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Generator, Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import comm
import nbformat
import orjson
import pytest
from comm.base_comm import BaseComm
from nbclient import NotebookClient
from nbconvert import HTMLExporter

from fabric_nb.notebook import pages
from fabric_nb.notebook.live import showing
from fabric_nb.notebook.live.page import PageWidget
from fabric_nb.notebook.live.widget import LiveWidget
from fabric_nb.notebook.plot.widget import PlotWidget
from fabric_nb.notebook.table import Column, TableModel, TableWidget, widget
from fabric_nb.notebook.table.paging import Choice, PageRequest, RowPage
from fabric_nb.notebook.table.parts import CANCELLED
from tests.support.kernels import unix_sockets

HOSTILE = "<img src=x onerror=alert(1)>\u202e\x1b[31m\ud800"
TEXT, NUMBER = Column("text"), Column("n", "number")


class Page:
    """A simulated front end, which records messages and sends replies."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, dict[str, Any], list[bytes]]] = []
        self.displays: dict[str, dict[str, Any]] = {}
        self.comms: dict[str, BaseComm] = {}
        """Open comms, one for each widget."""

    def show(self, data: dict[str, Any], *, raw: bool, display_id: str) -> None:
        assert raw
        self.displays[display_id] = data

    def send(self, table: LiveWidget, **content: Any) -> None:
        data = {"method": "custom", "content": content}
        self.comms[table.model_id].handle_msg({"content": {"data": data}, "buffers": []})

    def hello(self, table: TableWidget, *, hides: bool = True, revision: int = 1) -> None:
        self.send(table, type="hello", revision=revision, hides=hides)

    def tables(self) -> list[dict[str, Any]]:
        """Return the table updates that were sent."""
        custom = [m for kind, data, m in self.messages if data.get("method") == "custom"]
        return [orjson.loads(buffers[0]) for buffers in custom if buffers]

    def answers(self) -> list[dict[str, Any]]:
        return self.contents("answer")

    def contents(self, kind: str) -> list[dict[str, Any]]:
        """Return the messages of one kind that were sent."""
        contents = [data.get("content", {}) for _, data, _ in self.messages]
        return [content for content in contents if content.get("type") == kind]


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Page:
    page = Page()

    class RecordingComm(BaseComm):
        def publish_msg(
            self,
            msg_type: str,
            data: dict[str, Any] | None = None,
            metadata: object = None,
            buffers: list[bytes] | None = None,
            **_: object,
        ) -> None:
            page.messages.append((msg_type, data or {}, buffers or []))
            page.comms[self.comm_id] = self
            if msg_type == "comm_close":
                del page.comms[self.comm_id]

    monkeypatch.setattr(comm, "create_comm", RecordingComm)
    monkeypatch.setattr(showing, "display", page.show)
    monkeypatch.setattr(showing, "update_display", page.show)
    return page


@pytest.fixture
async def table(page: Page) -> Any:
    model = TableModel("Services", [TEXT, NUMBER])
    model.put("a", ["x", 1])
    table = TableWidget(model)
    yield table
    table.close()


async def soon(condition: Any) -> None:
    """Run the event loop until a condition holds."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.005)


async def test_opening_a_widget_sends_its_state(page: Page, table: TableWidget) -> None:
    """A page can show the rows as soon as the widget is opened, even if the kernel is busy."""
    opened = next(
        data["state"]
        for kind, data, _ in page.messages
        if kind == "comm_open" and "_whole" in data["state"]
    )
    assert json.loads(opened["_whole"])["add"] == [[0, ["x", 1], ""]]
    page.hello(table)
    table.model.put("a", ["y", 1])
    table.update()
    await soon(page.tables)
    assert page.tables()[0]["set"] == [[0, [0, "y"]]]


async def test_an_old_revision_requests_the_complete_table(page: Page, table: TableWidget) -> None:
    """A view with an old revision is sent the complete table."""
    page.hello(table, revision=0)
    assert page.tables()[0]["add"] == [[0, ["x", 1], ""]]


async def test_updates_keep_to_ten_a_second(
    page: Page, table: TableWidget, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table sends at most every tenth of a second, however often `update` is called."""
    page.hello(table)
    loop, sent, n = asyncio.get_running_loop(), list[float](), 0
    began = loop.time()
    # The loop's clock advances by a millisecond with each update, however fast the machine is.
    monkeypatch.setattr(loop, "time", lambda: began + n / 1000)
    monkeypatch.setattr(table, "_send_table", lambda _: sent.append(loop.time()))
    while len(sent) < 4:
        n += 1
        table.model.put("a", ["x", n])
        table.update()
        await asyncio.sleep(0)
        assert n < 1000
    assert n > 100
    assert min(b - a for a, b in pairwise(sent)) >= 0.099


async def test_without_a_browser_only_the_static_copy_is_updated(
    page: Page, table: TableWidget
) -> None:
    """Without a browser no change is sent, but the static copy is updated."""
    table.show()
    table.model.put("a", ["latest", 2])
    table.update()
    await soon(lambda: "latest" in str(page.displays))
    assert page.tables() == []
    states = [d["state"] for _, d, _ in page.messages if d.get("method") == "update"]
    assert json.loads(states[-1]["_whole"])["add"] == [[0, ["latest", 2], ""]]


async def test_static_copy_is_removed_if_it_cannot_be_hidden(
    page: Page, table: TableWidget
) -> None:
    """Outside JupyterLab the static copy is removed while the live table is displayed."""
    table.show()
    live, last = page.displays
    page.hello(table, hides=False)
    assert page.displays[last] == {}
    table.model.put("a", ["final", 2])
    table.freeze()
    assert "final" in page.displays[last]["text/html"]
    assert page.displays[live] == {}


async def test_mime_types_of_a_widget(page: Page, table: TableWidget) -> None:
    """As a cell's value a widget has live, HTML and plain forms; closed, only the last two."""
    data, _ = table._repr_mimebundle_()
    assert list(data) == ["application/vnd.jupyter.widget-view+json", "text/html", "text/plain"]
    assert repr(table) == "<TableWidget 'Services': 1 row>"
    table.close()
    data, _ = table._repr_mimebundle_()
    assert list(data) == ["text/html", "text/plain"]


async def test_actions_are_answered(page: Page) -> None:
    """The result or error of an action is sent under the number of its request."""

    async def act(name: str, value: str | None) -> str | None:
        if name == "pause":
            return None
        raise LookupError(f"no {value}{HOSTILE}")

    table = TableWidget(TableModel("t"), act)
    page.send(table, type="action", request=1, name="pause")
    page.send(table, type="action", request=2, name="level", value="x")
    await soon(lambda: len(page.answers()) == 2)
    assert page.answers()[0] == {"type": "answer", "request": 1, "error": False, "text": ""}
    assert page.answers()[1]["error"]
    assert page.answers()[1]["text"].startswith("no x<img src=x onerror=alert(1)>�")
    page.send(table, type="unknown", request="?")
    table.close()


class Work:
    """An answer that has a progress until it is cancelled, as that of a form's call."""

    progress = "training · 30 of 120"

    def __await__(self) -> Generator[Any, None, str]:
        return self._answer().__await__()

    async def _answer(self) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise asyncio.CancelledError("It was stopped.") from None
        return "never"


@pytest.mark.parametrize("closed", [False, True])
async def test_actions_have_progress_and_an_outcome(
    page: Page, monkeypatch: pytest.MonkeyPatch, closed: bool
) -> None:
    """The progress of an action is sent when it changes, and the outcome of its cancellation."""
    monkeypatch.setattr(widget, "PROGRESS_PERIOD", 0.01)
    table = TableWidget(TableModel("t"), lambda name, value: Work())
    page.send(table, type="action", request=1, name="call")
    await soon(lambda: page.contents("progress"))
    await asyncio.sleep(0.05)
    assert page.contents("progress") == [
        {"type": "progress", "request": 1, "text": "training · 30 of 120"}
    ]
    if closed:
        table.close()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert page.answers() == []
        return
    page.send(table, type="cancel", request=1)
    page.send(table, type="action", request=2, name="call")
    page.send(table, type="cancel", request=2)  # before it has begun
    await soon(lambda: len(page.answers()) == 2)
    assert sorted(answer["text"] for answer in page.answers()) == [CANCELLED, "It was stopped."]
    assert all(answer["error"] for answer in page.answers())
    table.close()


async def test_closed_tables_leave_no_widgets(page: Page) -> None:
    """A cell that is run a hundred times leaves no widget except the model of the code."""
    TableWidget(TableModel("t", [TEXT])).close()  # opens the model of the code
    before = set(page.comms)
    for _ in range(100):
        table = TableWidget(TableModel("t", [TEXT]))
        table.show()
        assert set(page.comms) > before
        table.update()
        table.close()
        table.close()
        table.update()
        table.freeze()
        table.record()
    assert set(page.comms) == before
    assert not table.live


async def test_time_of_a_page(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page has the time of its last update, which a blocked loop delays, not of its storing."""
    clock = SimpleNamespace(**vars(time))
    monkeypatch.setattr("fabric_nb.notebook.live.page.time", clock)

    def as_of(moment: float) -> str:
        return time.strftime("as of %Y-%m-%d %H:%M:%S", time.localtime(moment))

    clock.time = lambda: 1000.0
    shown = PageWidget(pages.Page("Fabric"))
    clock.time = lambda: 1060.0
    for text in (shown.forms()["text/html"], shown.encoded()):
        assert as_of(1000.0) in text
        assert as_of(1060.0) not in text
    shown.change(pages.Page("Fabric"))
    for text in (shown.forms()["text/html"], shown.encoded()):
        assert as_of(1060.0) in text
    shown.close()


# -- headless runs


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> nbformat.NotebookNode:
    """Run a notebook whose first cell shows a table that the second cell changes."""
    first = (
        "from fabric_nb.notebook.table import Column, TableModel, TableWidget\n"
        "model = TableModel('Headless', [Column('what')])\n"
        "model.put('a', ['at first'])\n"
        "table = TableWidget(model)\n"
        "table.show()\n"
    )
    second = (
        "import asyncio\n"
        "model.put('a', ['at last'])\n"
        "table.update()\n"
        "while table.showing._recorded != (model.changes,): await asyncio.sleep(0.01)\n"
    )
    cells = [nbformat.v4.new_code_cell(source) for source in (first, second)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    folder = tmp_path_factory.mktemp("headless")
    return NotebookClient(
        notebook, config=unix_sockets(), resources={"metadata": {"path": str(folder)}}
    ).execute()


def test_a_headless_run_records_the_last_state(ran: nbformat.NotebookNode) -> None:
    """After a run by nbclient the cell that displayed a table has its last rows."""
    _, last = ran.cells[0].outputs
    assert "at last" in last.data["text/html"]
    assert "at first" not in last.data["text/html"]
    assert "at last" in last.data["text/plain"]
    assert ran.cells[1].outputs == []
    states = ran.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"].values()
    assert any("at last" in state["state"].get("_whole", "") for state in states)


@pytest.mark.filterwarnings("ignore:Your element with mimetype")  # of nbconvert before 7.17
def test_an_exported_notebook_shows_the_last_rows(ran: nbformat.NotebookNode) -> None:
    """A page exported by nbconvert contains the rows as text."""
    html, _ = HTMLExporter().from_notebook_node(ran)
    assert "<td>at last</td>" in html


# A widget of each kind, and a part of its code.
TABLE = """\
from fabric_nb.notebook.table import Column, TableModel, TableWidget
model = TableModel("Few", [Column("what")])
for n in range(5): model.put(n, ["a row"])
TableWidget(model).show()
"""
CHART = """\
import pandas as pd
from fabric_nb.notebook.plot.source import Source
from fabric_nb.notebook.plot.widget import PlotWidget
class Rows:
    rows = 2
    df = pd.DataFrame({"x": [1.0, 2.0]}, index=pd.to_datetime([1, 2], unit="s"))
    def timed(self, on=None): return self.df
PlotWidget(Source(Rows(), "x")).show()
"""
PAGE = """\
from fabric_nb.notebook.live.page import PageWidget
from fabric_nb.notebook.pages import Page
PageWidget(Page("Fabric")).show()
"""


@pytest.mark.parametrize(
    ("view", "code"),
    [(TABLE, "class TableView"), (CHART, "class PlotView"), (PAGE, '"fabric-page"')],
    ids=["tables", "charts", "pages"],
)
def test_a_stored_notebook_holds_the_code_of_a_view_once(
    tmp_path: Path, view: str, code: str
) -> None:
    """A further widget with few rows adds less than 20 kB to a notebook."""

    def stored(views: int) -> str:
        cells = [nbformat.v4.new_code_cell(view) for _ in range(views)]
        notebook = nbformat.v4.new_notebook(cells=cells)
        NotebookClient(
            notebook, config=unix_sockets(), resources={"metadata": {"path": str(tmp_path)}}
        ).execute()
        states = notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"]
        shown = [state for state in states.values() if "_whole" in state["state"]]
        assert len(shown) == views
        return nbformat.writes(notebook)

    ten, eleven = stored(10), stored(11)
    assert ten.count(json.dumps(code)[1:-1]) == 1
    assert len(eleven) - len(ten) < 20_000


@pytest.mark.parametrize("kind", [TableWidget, PlotWidget, PageWidget])
def test_the_script_of_a_view_stands_alone(kind: type[LiveWidget]) -> None:
    """A script has no imports, because the kernel serves no files, and one export."""
    assert not re.search(r"^import\b", kind.script, re.MULTILINE)
    assert re.findall(r"^export .*", kind.script, re.MULTILINE) == ["export default {"]


class Pages:
    """Rows of a paged table; the first request waits until it is cancelled."""

    def __init__(self) -> None:
        self.requests: list[PageRequest] = []
        self.cancelled = 0

    async def page(self, request: PageRequest) -> RowPage:
        self.requests.append(request)
        if len(self.requests) == 1:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        if request.query.words == "fail":
            raise LookupError(f"no rows {HOSTILE}")
        return RowPage(9, 9, 10, request.first, [4, 5], [["x", 1 / 3], None], 7, {1: HOSTILE})

    async def values(self, number: int) -> Sequence[tuple[str, Any]] | None:
        return [("n", number)] if number < 10 else None


async def test_pages_of_rows(page: Page) -> None:
    """A request is answered with rows or an error, and replaces the one before of its view."""
    model = TableModel("t", [TEXT, NUMBER], paged=True)
    model.put(9, ["newest", 1])
    model.held = (0, 10)
    model.choices = [Choice("text", "text", shown=True), Choice("n", "number", shown=True)]
    source = Pages()
    table = TableWidget(model, pages=source)
    whole = table.model.whole()
    assert whole["add"] == [[9, ["newest", 1], ""]]
    assert (whole["held"], whole["choices"][1]) == ((0, 10), ["n", "number", True])
    asked = {"type": "page", "view": "v", "first": 3, "count": 2, "selection": 0}
    query = {"words": "", "filters": [], "sort": None, "descending": False}
    for request, words in ((1, "slow"), (2, "x"), (3, "fail")):
        page.send(table, **asked, request=request, query={**query, "words": words})
        await soon(lambda number=request: len(source.requests) == number)
    page.send(table, **asked, request=4, query={})  # no request
    page.send(table, type="open", row=5)
    page.send(table, type="open", row=50)
    await soon(lambda: len(page.tables()) == 4)
    assert source.cancelled == 1
    rows, error, *details = page.tables()
    assert rows.pop("took") >= 0
    assert rows == {
        "view": "v",
        "request": 2,
        "layout": 0,
        "total": 9,
        "listed": 9,
        "held": 10,
        "first": 3,
        "selection": 7,
        "problems": [[1, pages.plain(HOSTILE)]],
        "rows": [[4, ["x", 0.333333]], [5, None]],
    }
    assert error == {"view": "v", "request": 3, "error": pages.plain(f"no rows {HOSTILE}")}
    assert details == [
        [5, {"text": "", "forms": [], "tree": [["n", "5"]]}],
        [50, "This row was dropped."],
    ]
    assert [each["request"] for each in page.contents("paging")] == [1, 2, 3]
    table.close()
