"""What is seen under a cell: escaped, bounded, and made of plain state alone."""

from __future__ import annotations

import asyncio
import html
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any, cast

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric_nb.fabric.amqp import State
from fabric_nb.fabric.codec import decode
from fabric_nb.fabric.methods import MethodStats
from fabric_nb.fabric.naming import ServiceName
from fabric_nb.fabric.registry import Registry
from fabric_nb.fabric.serving import FailedCall
from fabric_nb.fabric.wire import Announcement, KeepAlive, LogRecord
from fabric_nb.frames import FrameBuffer
from fabric_nb.notebook.pages import (
    MAX_CELL,
    STYLE,
    Badge,
    Cell,
    Code,
    Page,
    Table,
    escape,
    glimpse,
    plain,
)
from fabric_nb.notebook.views import live
from fabric_nb.notebook.views.card import MAX_ROWS as CARD_ROWS
from fabric_nb.notebook.views.card import ConnectionCard
from fabric_nb.notebook.views.live import Screen
from fabric_nb.notebook.views.logs import LINES, LogView
from fabric_nb.notebook.views.registry import MAX_ROWS, Filter, RegistryView
from fabric_nb.notebook.views.serving import FAILURES_KEPT, ServingView
from fabric_nb.notebook.views.stream import COLUMNS, ROWS, StreamView

MARKUP = "<script>alert(\"1\")</script><img src=x onerror='a'>&amp;"
CONTROLS = "\x1b\x00\x07\r\x9b\u202e\u2066\u200b\ufeff\ud800"
HOSTILE = f"{MARKUP}\x1b[2J{CONTROLS}"


class Reader(HTMLParser):
    """The elements and texts of a page; every element must be closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.texts: list[str] = []
        self.cells: list[list[str]] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert all(name == "class" for name, _ in attrs)
        self.elements.append(tag)
        self._open.append(tag)
        if tag == "tr":
            self.cells.append([])
        elif tag in ("td", "th"):
            self.cells[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "style":
            return
        self.texts.append(data)
        if self.cells and {"td", "th"} & set(self._open):
            self.cells[-1][-1] += data


OURS = {"style", "div", "span", "table", "thead", "tbody", "tr", "th", "td", "pre"} | {
    "details",
    "summary",
}


def read(page: Page) -> Reader:
    """The page as it is seen; nothing in it may be other than our own elements."""
    bundle = page.mimebundle()
    reader = Reader(bundle["text/html"])
    assert set(reader.elements) <= OURS
    for text in (*reader.texts, bundle["text/plain"]):
        assert not set(text) & set(CONTROLS)
    return reader


# -- pages


@given(st.text(st.characters()))
def test_nothing_shown_is_obeyed(text: str) -> None:
    """No shown text holds control characters, changes direction or is markup."""
    shown = plain(text, None)
    assert len(shown) == len(text)
    assert all(char in "\n\t" or ord(char) > 31 for char in shown)
    assert plain(shown, None) == shown
    assert html.unescape(escape(text, None)) == shown
    assert not set("<>\"'") & set(escape(text))


@pytest.mark.parametrize("char", CONTROLS)
def test_control_and_direction_characters_are_replaced(char: str) -> None:
    """Control characters, direction overrides and lone surrogates are shown as such."""
    assert plain(f"a{char}b") == "a\ufffdb"


@pytest.mark.parametrize("text", ["plain", "é ü ß", "日本語", "עברית", "🎉", "a\nb\tc", ""])
def test_readable_text_is_left_alone(text: str) -> None:
    """Text of any language is shown as it is."""
    assert plain(text) == text


def test_long_text_is_cut() -> None:
    """A long text is cut, with a sign that it was."""
    assert len(plain("x" * 10_000)) == MAX_CELL
    assert plain("x" * 10_000).endswith("…")
    assert plain("x" * MAX_CELL) == "x" * MAX_CELL
    assert len(plain("x" * 10_000, None)) == 10_000


def hostile_page() -> Page:
    cells: list[Cell] = [HOSTILE, Badge(HOSTILE, "bad"), Code(HOSTILE), 1, 2.5, None, True]
    return Page(
        title=HOSTILE,
        badges=[Badge(HOSTILE, "good")],
        facts=[HOSTILE],
        tables=[Table([HOSTILE, *"bcdefg"], [cells], frozenset({HOSTILE}))],
        printed=HOSTILE,
        notes=[HOSTILE],
        folded=[(HOSTILE, HOSTILE)],
    )


def test_hostile_page() -> None:
    """Text from elsewhere is text in every place of a page, in HTML and in plain text."""
    reader = read(hostile_page())
    assert "".join(reader.texts).count(MARKUP) == 11
    assert "script" not in reader.elements


def test_table_as_text() -> None:
    """A table has a plain form too: aligned, one line for each row."""
    table = Table(["name", "n"], [["a\nb", 1], ["long name", 12345]], frozenset({"n"}))
    assert Page("Title", facts=["fact"], tables=[table], notes=["note"]).text().splitlines() == [
        "Title · fact",
        "name            n",
        "a b             1",
        "long name  12,345",
        "note",
    ]


def test_column_named_by_others_stays_on_its_line() -> None:
    """A column's name from elsewhere neither breaks lines nor moves the cursor."""
    text = Page("t", tables=[Table(["a\nb\x1b[2J", "x" * 1000], [[1, 2]])]).text()
    assert len(text.splitlines()) == 3
    assert "\x1b" not in text
    assert len(text) < 2000


def test_empty_page() -> None:
    """A page without anything is its title, and an empty table is left out."""
    page = Page("Title", tables=[Table(["a"], [])])
    assert page.text() == "Title"
    assert page.html() == (
        f'{STYLE}<div class="fabric-nb"><div class="head">'
        '<span class="title">Title</span></div></div>'
    )


@pytest.mark.parametrize(
    ("cell", "text"),
    [(None, ""), (1234567, "1,234,567"), (1234.56, "1,234.6"), (True, "True"), ("1", "1")],
)
def test_cells(cell: Cell, text: str) -> None:
    """Numbers are written for people."""
    [_, [shown]] = read(Page("t", tables=[Table(["a"], [[cell]])])).cells
    assert shown == text


def test_glimpse_is_short_and_cheap() -> None:
    """The beginning of a value is shown at once, however large or deep it is."""
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    began = time.perf_counter()
    for value in ("x" * 10_000_000, ["x" * 1_000_000] * 100_000, deep, {"a": deep}):
        assert len(glimpse(value)) < 20_000
    assert time.perf_counter() - began < 1
    assert glimpse({"a": [1, "b", None]}) == "{'a': [1, 'b', None]}"


# -- views over plain state

MINE = ServiceName("d", "notebook", "mynb")


def fabric(**changes: Any) -> Any:
    """What views look at of a connector."""
    clock = SimpleNamespace(now=100.0)
    state: dict[str, Any] = {
        "state": State.CONNECTED,
        "registry": Registry(lambda: clock.now),
        "clock": clock,
        "domain": "d",
        "name": MINE,
        "uri": "amqp://ann:***@host/",
        "broker": "RabbitMQ 4.1",
        "transient_queues_refused": False,
    }
    return SimpleNamespace(**{**state, **changes})


def hear(where: Any, id_: str, *, domain: str = "d", **said: Any) -> None:
    told = Announcement(**{"instance": "i", "interval": 5.0, **said})
    where.registry.heard(KeepAlive(ServiceName(domain, "calc", id_), told))


@pytest.mark.parametrize(
    ("state", "badge"),
    [
        (State.CONNECTED, "connected"),
        (State.RECONNECTING, "reconnecting"),
        (State.CLOSED, "disconnected"),
    ],
)
def test_card_shows_the_state_of_the_connection(state: State, badge: str) -> None:
    """The card says whether there is a connection."""
    assert badge in read(ConnectionCard(fabric(state=state)).page()).texts


def test_card() -> None:
    """The card shows the broker, the domain, who I am and who is there, and not myself twice."""
    where = fabric()
    hear(where, "c1", version="1.0", methods={"f": "()"})
    where.registry.heard(KeepAlive(MINE, Announcement(instance="me")))
    reader = read(ConnectionCard(where, ("a note",)).page())
    assert reader.cells[1:5] == [
        ["broker", "amqp://ann:***@host/  RabbitMQ 4.1"],
        ["domain", "d"],
        ["I am", "notebook.mynb"],
        ["others", "1"],
    ]
    assert [row[:5] for row in reader.cells[6:]] == [["calc", "c1", "up", "1.0", "1"]]
    assert "a note" in reader.texts


def test_card_of_a_large_domain() -> None:
    """In a large domain the card shows the first services and how to see the others."""
    where = fabric()
    for number in range(CARD_ROWS + 5):
        hear(where, f"c{number:02}")
    reader = read(ConnectionCard(where).page())
    assert len(reader.cells) == 6 + CARD_ROWS
    assert "… and 5 more: %fabric_services" in reader.texts


def test_card_is_drawn_again_when_something_changed() -> None:
    """A new service and a lost connection change the card."""
    where = fabric()
    card = ConnectionCard(where)
    before = card.version()
    assert card.version() == before
    hear(where, "c1")
    after = card.version()
    assert after != before
    where.state = State.RECONNECTING
    assert card.version() != after


def test_registry_view() -> None:
    """The registry shows each service: its state, versions, members, when it was heard."""
    where = fabric()
    hear(where, "a", instance="1", version="1.0", methods={f"m{n}": "()" for n in range(10)})
    hear(where, "a", instance="2", version="2.0")
    hear(where, "b", busy_since=1.0, methods={"health_check": "()", "run": "(x)"})
    where.clock.now += 4
    reader = read(RegistryView(where, Filter()).page())
    assert reader.cells == [
        ["type", "id", "state", "version", "members", "last seen", "methods"],
        [
            "calc",
            "a",
            "up",
            "1.0 + 2.0 (mixed)",
            "2",
            "4 s ago",
            "m0, m1, m2, m3, m4, m5, m6, m7, … 2 more",
        ],
        ["calc", "b", "busy", "", "1", "4 s ago", "run"],
    ]
    assert reader.texts[:4] == ["Services", "all domains", "1 up", "1 busy"]


def test_registry_view_of_several_domains() -> None:
    """Services of other domains are shown with their domain, and filtered by it."""
    where = fabric()
    hear(where, "a")
    hear(where, "b", domain="e")
    assert [row[:3] for row in read(RegistryView(where, Filter()).page()).cells] == [
        ["domain", "type", "id"],
        ["d", "calc", "a"],
        ["e", "calc", "b"],
    ]
    only = read(RegistryView(where, Filter(domain="e")).page())
    assert [row[:3] for row in only.cells[1:]] == [["e", "calc", "b"]]


def test_registry_view_when_nobody_is_there() -> None:
    """Gone services are shown only when asked for, and an empty registry says so."""
    where = fabric()
    hear(where, "a", methods={"f": HOSTILE})
    where.clock.now += 200
    assert any(
        "Nobody was heard" in text for text in read(RegistryView(where, Filter()).page()).texts
    )
    gone = read(RegistryView(where, Filter(gone=True)).page())
    assert gone.cells[1][2:6] == ["gone", "", "0", "3 min ago"]


def test_registry_view_of_many_services() -> None:
    """A large registry is cut, and its page stays small."""
    where = fabric()
    for number in range(1000):
        hear(where, f"c{number}", methods={f"method_{n}": "()" for n in range(50)}, version=HOSTILE)
    page = RegistryView(where, Filter()).page()
    reader = read(page)
    assert len(reader.cells) == 1 + MAX_ROWS
    assert any("and 950 more" in text for text in reader.texts)
    assert len(page.html()) < 200_000


def server(**changes: Any) -> Any:
    state: dict[str, Any] = {
        "name": ServiceName("d", "analytics", "a1"),
        "version": "1.2",
        "closed": False,
        "changes": 0,
        "stats": {"f": MethodStats(), "health_check": MethodStats()},
        "signatures": {"f": "(x: int)"},
    }
    return SimpleNamespace(**{**state, **changes})


def test_serving_view() -> None:
    """What a cell serves is shown: a line for each method, with its counts and times."""
    mine = server()
    view = ServingView(fabric(), mine)
    before = view.version()
    mine.stats["f"].record(0.002, None)
    mine.stats["f"].record(0.004, ValueError(HOSTILE))
    mine.stats["f"].running = 1
    assert view.version() != before
    reader = read(view.page())
    assert reader.texts[:4] == ["analytics.a1", "serving", "in d", "version 1.2"]
    [_, row] = reader.cells
    assert row[:6] == ["f(x: int)", "2", "1", "1", "3.0", "4.0"]
    assert row[6].startswith("ValueError: <script>")
    mine.closed = True
    assert "stopped" in read(view.page()).texts


def test_serving_view_shows_the_last_failure() -> None:
    """The last call that failed is shown with its arguments and traceback; few are kept."""
    view = ServingView(fabric(), server())
    deep = decode(b"[" * 1000 + b"]" * 1000)
    for number in range(FAILURES_KEPT + 5):
        kwargs = {"x": number, "big": "y" * 1_000_000, "deep": deep, "html": MARKUP}
        view.failures.append(FailedCall(float(number), "f", kwargs, ValueError(), HOSTILE))
    assert len(view.failures) == FAILURES_KEPT
    page = view.page()
    reader = read(page)
    assert any(text.startswith("Last failure: f(x=24, big='yyy") for text in reader.texts)
    assert len(page.html()) < 20_000


def test_serving_view_shows_what_was_printed() -> None:
    """What served functions print is shown, the last lines of it."""
    view = ServingView(fabric(), server())
    before = view.version()
    for number in range(10_000):
        view.take_output(f"{number} {MARKUP}\n")
    assert view.version() != before
    page = view.page()
    assert f"9999 {MARKUP}" in page.text()
    assert "\n100 " not in page.text()
    assert len(page.html()) < 20_000
    read(page)


class FakeStream:
    """A stream without a broker."""

    def __init__(self, rows: Sequence[dict[str, Any]] = (), **headers: Any) -> None:
        self.headers = headers
        self.rate, self.malformed, self.closed, self.paused = 2.5, 0, False, False
        self._buffer = FrameBuffer(max_rows=100)
        self.take(rows)

    def take(self, rows: Sequence[dict[str, Any]]) -> None:
        self._buffer.extend(rows)

    def tail(self, n: int) -> pd.DataFrame:
        return self._buffer.tail(n)

    def __len__(self) -> int:
        return len(self._buffer)

    @property
    def rows(self) -> int:
        return self._buffer.rows_seen

    @property
    def dropped(self) -> int:
        return self._buffer.dropped

    @property
    def changes(self) -> int:
        return self._buffer.version + self.malformed


def stream_view(stream: FakeStream, **changes: Any) -> StreamView:
    return StreamView(fabric(**changes), cast("Any", stream))


def test_stream_view() -> None:
    """A stream shows how much has come, how fast, and its last rows."""
    stream = FakeStream(
        [{"n": number, "x": number / 3, "s": "a"} for number in range(20)], kind="T"
    )
    reader = read(stream_view(stream).page())
    assert reader.texts[:4] == ["Stream kind=T", "open", "20 rows", "2.5 rows/s"]
    assert reader.cells[0] == ["n", "x", "s"]
    assert len(reader.cells) == 1 + ROWS
    assert reader.cells[-1] == ["19", "6.33333", "a"]


def test_stream_view_counts_what_is_missing() -> None:
    """Dropped rows and unreadable messages are counted for the reader."""
    stream = FakeStream([{"n": number} for number in range(1500)])
    stream.malformed = 3
    texts = read(stream_view(stream).page()).texts
    assert "Stream of all data" in texts
    assert "1,400 dropped (kept: the last 100)" in texts
    assert "3 unreadable" in texts


@pytest.mark.parametrize(("change", "badge"), [("closed", "closed"), ("paused", "paused")])
def test_stream_view_shows_its_state(change: str, badge: str) -> None:
    """A stream that is paused or closed says so, and an empty one that nothing has come."""
    stream = FakeStream()
    view = stream_view(stream, state=State.RECONNECTING)
    before = view.version()
    setattr(stream, change, True)
    assert view.version() != before
    texts = read(view.page()).texts
    assert {badge, "reconnecting", "No row has come yet."} <= set(texts)


def test_stream_view_of_hostile_rows() -> None:
    """Rows of any content are shown: many columns, markup, huge and deep values."""
    deep = decode(b"[" * 1000 + b"]" * 1000)
    row = {HOSTILE.replace("\ud800", ""): HOSTILE, "deep": deep, "big": ["x" * 1_000_000] * 100}
    stream = FakeStream([{**row, **{f"c{n}": n for n in range(500)}}, {}, {"big": None}])
    page = stream_view(stream).page()
    reader = read(page)
    assert len(reader.cells[0]) == COLUMNS
    assert len(page.html()) < 100_000
    assert len(page.text().splitlines()) == 2 + 3


def feed(records: Sequence[LogRecord] = (), **changes: Any) -> Any:
    state: dict[str, Any] = {
        "records": deque(records),
        "dropped": 0,
        "changes": 0,
        "level": None,
        "service": None,
    }
    return SimpleNamespace(**{**state, **changes})


def record(message: str, level: str = "INFO", **more: Any) -> LogRecord:
    return LogRecord(1_700_000_000.0, level, "calc", "c1", message, **more)


def test_log_view() -> None:
    """Logs are shown newest last, with their level, service and logger, and are counted."""
    records = [record(f"line {number}") for number in range(50)]
    records.append(record("last", "WARNING", logger="app", traceback=f"Traceback {HOSTILE}"))
    logs = feed(records, dropped=1234, level="INFO", service="calc.c1")
    reader = read(LogView(fabric(), logs).page())
    assert {"from calc.c1", "INFO and above", "50 INFO", "1 WARNING", "1,234 older dropped"} <= set(
        reader.texts
    )
    assert len(reader.cells) == 1 + LINES
    assert reader.cells[1][4] == f"line {51 - LINES}"
    assert reader.cells[-1][1:] == ["WARNING", "calc.c1", "app", "last"]
    assert "Traceback of: last" in reader.texts


def test_log_view_of_hostile_records() -> None:
    """Records of any content are shown, however many levels they invent."""
    records = [record(HOSTILE * 100, f"{HOSTILE}{number}", logger=HOSTILE) for number in range(30)]
    page = LogView(fabric(), feed(records)).page()
    read(page)
    assert len(page.html()) < 200_000
    assert any("No record" in text for text in read(LogView(fabric(), feed()).page()).texts)


# -- on the screen


class Counter:
    """A view that shows a number, and may refuse to be drawn."""

    def __init__(self) -> None:
        self.number = 0
        self.broken = False
        self.drawn = asyncio.Event()

    def version(self) -> Hashable:
        return self.number

    def page(self) -> Page:
        if self.broken:
            raise RuntimeError("cannot be drawn")
        self.drawn.set()
        return Page(f"number {self.number}")


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    """What was displayed or updated, by the number of its display."""
    seen: list[tuple[int, str]] = []

    def display(bundle: dict[str, str], **_: object) -> Any:
        number = len({at for at, _ in seen})
        seen.append((number, bundle["text/plain"]))

        def update(bundle: dict[str, str], **_: object) -> None:
            seen.append((number, bundle["text/plain"]))

        return SimpleNamespace(update=update)

    monkeypatch.setattr(live, "display", display)
    return seen


@pytest.fixture
async def screen() -> Any:
    screen = Screen()
    yield screen
    screen.close()


async def test_views_are_drawn_when_they_changed(screen: Screen, shown: list[Any]) -> None:
    """A view is drawn when it is shown, and again only when there is something new."""
    view = Counter()
    screen.show(view)
    screen.refresh()
    assert shown == [(0, "number 0")]
    view.number = 5
    screen.refresh()
    screen.refresh()
    assert shown == [(0, "number 0"), (0, "number 5")]


async def test_views_are_drawn_by_themselves(
    screen: Screen, shown: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Views follow their state without being asked to."""
    monkeypatch.setattr(live, "PERIOD", 0.001)
    view = Counter()
    screen.show(view)
    view.drawn.clear()
    view.number = 1
    await asyncio.wait_for(view.drawn.wait(), 2)
    assert shown[-1] == (0, "number 1")


async def test_broken_view_ends_alone(
    screen: Screen, shown: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A view that cannot be drawn ends, and the others go on."""
    broken, good = Counter(), Counter()
    screen.show(broken)
    screen.show(good)
    broken.broken, broken.number, good.number = True, 1, 1
    screen.refresh()
    assert "A view could not be drawn" in caplog.text
    assert shown[-1] == (1, "number 1")
    broken.broken, broken.number, good.number = False, 2, 2
    screen.refresh()
    assert shown[2:] == [(1, "number 1"), (1, "number 2")]


async def test_running_a_cell_again_ends_its_old_view(
    screen: Screen, shown: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cell that is run again has one live view of a kind, the new one."""
    in_cell: Callable[[], str] = lambda: "cell-1"  # noqa: E731
    monkeypatch.setattr(live, "current_cell", in_cell)
    old, new = Counter(), Counter()
    screen.show(old)
    screen.show(new)
    old.number = new.number = 1
    screen.refresh()
    assert shown == [(0, "number 0"), (1, "number 0"), (1, "number 1")]


async def test_number_of_live_views_is_bounded(screen: Screen, shown: list[Any]) -> None:
    """Only so many views stay alive: the oldest end first."""
    views = [Counter() for _ in range(live.MAX_LIVE + 2)]
    for view in views:
        screen.show(view)
    shown.clear()
    for view in views:
        view.number = 1
    screen.refresh()
    assert [at for at, _ in shown] == list(range(2, live.MAX_LIVE + 2))


async def test_closing_draws_a_last_time(screen: Screen, shown: list[Any]) -> None:
    """When the screen closes, each view shows its last state and then rests."""
    view = Counter()
    screen.show(view)
    view.number = 9
    screen.close()
    assert shown[-1] == (0, "number 9")
    view.number = 10
    screen.refresh()
    assert shown[-1] == (0, "number 9")
