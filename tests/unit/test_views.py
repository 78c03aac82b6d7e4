"""What is seen under a cell: escaped, bounded, and made of plain state alone."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pandas as pd
import pytest

from fabric_nb.errors import CallTimeout, InvalidArgument
from fabric_nb.fabric.amqp.connection import State
from fabric_nb.fabric.amqp.rejected import RejectedMessages
from fabric_nb.fabric.discovery.registry import Registry
from fabric_nb.fabric.rpc.history import CallLog, CallRecord
from fabric_nb.fabric.rpc.methods import MethodStats
from fabric_nb.fabric.wire.codec import decode
from fabric_nb.fabric.wire.keep_alives import Announcement, KeepAlive
from fabric_nb.fabric.wire.logs import LogRecord
from fabric_nb.fabric.wire.names import ServiceName, ServicePattern
from fabric_nb.frames import FrameBuffer
from fabric_nb.notebook.calling import waiting_page
from fabric_nb.notebook.pages import Page
from fabric_nb.notebook.table import Detail, Form, TableModel
from fabric_nb.notebook.table.static import last_page
from fabric_nb.notebook.views.base import Missing, TableView
from fabric_nb.notebook.views.calls import CallsView
from fabric_nb.notebook.views.card import MAX_ROWS as CARD_ROWS
from fabric_nb.notebook.views.card import ConnectionCard, NoConnection
from fabric_nb.notebook.views.logs import MAX_ROWS as MAX_RECORDS
from fabric_nb.notebook.views.logs import LogView
from fabric_nb.notebook.views.methods import MAX_FORMS, read_arguments
from fabric_nb.notebook.views.registry import MAX_ROWS, Filter, RegistryView
from fabric_nb.notebook.views.serving import AllServingView, ServingView
from fabric_nb.notebook.views.stream import CHART_ROWS, COLUMNS, ROWS, StreamView
from fabric_nb.notebook.views.streams import StreamsView
from tests.support.pages import CONTROLS, HOSTILE, MARKUP, Reader, read

MINE = ServiceName("d", "notebook", "mynb")
NOW = 1_700_000_000.0


class Clock:
    """Time that only a test moves."""

    now = 100.0


def fabric(**changes: Any) -> Any:
    """What views look at of a connector."""
    clock = Clock()
    state: dict[str, Any] = {
        "state": State.CONNECTED,
        "registry": Registry(lambda: clock.now),
        "clock": clock,
        "domain": "d",
        "name": MINE,
        "uri": "amqp://ann:***@host/",
        "broker": "RabbitMQ 4.1",
        "transient_queues_refused": False,
        "calls": CallLog(),
        "servers": (),
        "rejected": RejectedMessages(),
    }
    return SimpleNamespace(**{**state, **changes})


def hear(where: Any, id_: str, *, domain: str = "d", **said: Any) -> ServiceName:
    told = Announcement(**{"instance": "i", "interval": 5.0, **said})
    name = ServiceName(domain, "calc", id_)
    where.registry.heard(KeepAlive(name, told))
    return name


class Shown:
    """A view on a table of its own, as it is seen without a browser."""

    def __init__(self, view: TableView) -> None:
        self.view = view
        self.model: TableModel = view.model()
        view.fill(self.model)

    def again(self) -> Shown:
        """Look again."""
        self.view.fill(self.model)
        return self

    @property
    def page(self) -> Page:
        return last_page(self.model, NOW)

    @property
    def reader(self) -> Reader:
        """What is seen, in which nothing remote is obeyed, here or in the browser."""
        sent = orjson.dumps(self.model.diff() or self.model.whole()).decode()
        assert not set(sent) & (set(CONTROLS) - {"\\"})
        return read(self.page)

    @property
    def texts(self) -> list[str]:
        return self.reader.texts

    @property
    def cells(self) -> list[list[str]]:
        return self.reader.cells

    def detail(self, key: object) -> Detail:
        return next(row.detail for row in self.model.rows if self.model.key_of(row.id) == key)


# -- the card


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
    assert reader.cells[6:] == [["calc", "c1", "up", "1.0", "1", "now", "f"]]
    assert "a note" in reader.texts


def test_card_of_a_large_domain() -> None:
    """In a large domain the card shows the first services and how to see the others."""
    where = fabric()
    for number in range(CARD_ROWS + 5):
        hear(where, f"c{number:02}")
    reader = read(ConnectionCard(where).page())
    assert len(reader.cells) == 6 + CARD_ROWS
    assert "… and 5 more: %fabric_services" in reader.texts


def test_card_is_drawn_again_when_something_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new service, one that is late, a lost connection, and time in an outage change the card."""
    where = fabric()
    timer = SimpleNamespace(monotonic=lambda: where.clock.now)
    monkeypatch.setattr("fabric_nb.notebook.views.card.time", timer)
    card = ConnectionCard(where)
    before = card.version()
    assert card.version() == before
    hear(where, "c1")
    heard = card.version()
    assert heard != before
    where.clock.now += 10
    late = card.version()
    assert late != heard
    where.state = State.RECONNECTING
    where.registry.stop_hearing()
    lost = card.version()
    assert lost != late
    stands = where.registry.now
    where.clock.now += 10
    assert where.registry.now == stands
    assert card.version() != lost, "a stored card would seem to be of the outage's beginning"


def test_without_a_connection() -> None:
    """Without a connection it is said how to get one, and of a part that cannot be had why."""
    assert any("%fabric_connect joins" in text for text in read(NoConnection().page()).texts)
    assert Shown(Missing("Logs", f"Refused: {HOSTILE}")).texts[1].startswith("Refused: <script>")


# -- the registry


def test_registry_view() -> None:
    """The registry shows each service: its state, versions, members, when it was heard."""
    where = fabric()
    hear(where, "a", instance="1", version="1.0", methods={f"m{n}": "()" for n in range(10)})
    hear(where, "a", instance="2", version="2.0")
    hear(where, "b", busy_since=1.0, methods={"health_check": "()", "run": "(x)"})
    where.registry.heard(KeepAlive(ServiceName("e", "seed", "s"), None))
    where.clock.now += 4
    shown = Shown(RegistryView(where))
    assert shown.cells[0] == [
        *("domain", "type", "id", "state", "version", "instances", "last seen", "methods")
    ]
    assert [[*row[:6], row[7]] for row in shown.cells[1:]] == [
        [
            "d",
            "calc",
            "a",
            "up",
            "1.0 + 2.0 (mixed)",
            "2",
            "m0, m1, m2, m3, m4, m5, m6, m7, … 2 more",
        ],
        ["d", "calc", "b", "busy", "", "1", "run"],
        ["e", "seed", "s", "up", "", "1+", ""],
    ]
    assert shown.texts[:4] == ["Services", "all domains", "2 up", "1 busy"]
    assert Shown(RegistryView(where, Filter(domain="e"))).cells[1][2] == "s"


def test_ages_count_up_in_the_browser() -> None:
    """The table holds when a service was heard, and sends nothing while that stays the same."""
    where = fabric()
    hear(where, "a")
    where.clock.now += 4
    shown = Shown(RegistryView(where))
    (row,) = shown.model.rows
    shown.model.diff()
    where.clock.now += 1
    assert shown.again().model.diff() is None
    hear(where, "a")
    shown.again()
    assert cast("float", shown.model.rows[0].cells[6]) - cast("float", row.cells[6]) == 0
    assert shown.model.diff() is not None


def test_registry_view_follows_who_is_there() -> None:
    """Who comes, leaves, is late or tells something else is seen; a mere keep-alive need not be."""
    where = fabric()
    view = RegistryView(where)
    versions = [view.version()]
    hear(where, "a")
    versions.append(view.version())
    hear(where, "a")
    assert view.version() == versions[-1]
    hear(where, "a", version="2")
    versions.append(view.version())
    where.registry.heard(KeepAlive(ServiceName("d", "calc", "a"), Announcement(instance="i"), True))
    versions.append(view.version())
    where.clock.now += 1
    versions.append(view.version())
    assert len(set(versions)) == len(versions)


def test_registry_view_when_nobody_is_there() -> None:
    """Gone services are shown only when asked for, and an empty registry says so."""
    where = fabric()
    hear(where, "a", methods={"f": HOSTILE})
    where.clock.now += 200
    assert any("Nobody was heard" in text for text in Shown(RegistryView(where)).texts)
    gone = Shown(RegistryView(where, Filter(gone=True)))
    assert gone.cells[1][3:6] == ["gone", "", "0"]


def test_registry_view_tells_where_we_are() -> None:
    """In the dashboard, where no card stands beside it, it says which broker and who we are."""
    texts = Shown(RegistryView(fabric(), tells_where=True)).texts
    assert texts[1:4] == ["amqp://ann:***@host/", "domain d", "I am notebook.mynb"]


def test_registry_view_of_many_services() -> None:
    """A large registry is cut and says so, and what is sent of it stays small."""
    where = fabric()
    for number in range(MAX_ROWS + 950):
        hear(where, f"c{number}", methods={f"method_{n}": "()" for n in range(50)}, version=HOSTILE)
    where.registry.dropped = 7
    where.rejected.counts["keep-alive"] = 3
    shown = Shown(RegistryView(where))
    assert len(shown.model) == MAX_ROWS
    assert len(orjson.dumps(shown.model.diff())) < 1_500_000
    assert any("and 1,900 more" in text for text in shown.texts)
    assert any("7 times another one made room or was not taken" in text for text in shown.texts)
    assert "3 keep-alives could not be read." in shown.texts
    assert len(shown.page.html()) < 100_000


class Described:
    """A connector that describes services, and records what is called."""

    def __init__(self, told: Any) -> None:
        self.told = told
        self.asked: list[ServicePattern] = []
        self.called: list[tuple[ServicePattern, str, Mapping[str, Any]]] = []

    async def describe(self, pattern: ServicePattern) -> Any:
        self.asked.append(pattern)
        if isinstance(self.told, Exception):
            raise self.told
        return self.told

    async def call_service(
        self, pattern: ServicePattern, method: str, kwargs: Mapping[str, Any]
    ) -> Any:
        self.called.append((pattern, method, kwargs))
        return sum(kwargs.values())


def registry_view(told: Any, **said: Any) -> tuple[Shown, ServiceName, Described]:
    described = Described(told)
    where = fabric(describe=described.describe, call_service=described.call_service)
    name = hear(where, "c1", **said)
    return Shown(RegistryView(where)), name, described


async def opened(shown: Shown, name: ServiceName) -> Sequence[Form]:
    """The forms of a service whose row is opened."""
    before = shown.view.version()
    shown.view.opened(name)
    shown.view.opened(name)
    async with asyncio.timeout(5):
        while shown.view.version() == before:  # noqa: ASYNC110 - a description sets no event
            await asyncio.sleep(0)
    return shown.again().detail(name).forms


async def test_a_row_opens_to_signatures_and_docs() -> None:
    """Signatures are there at once; opened, a row asks for the docs, once, and makes forms."""
    told = {"add": {"signature": "(x: int, y: int = 2) -> int", "doc": "Adds."}}
    shown, name, described = registry_view(told, methods={"add": "(x, y=2)"})
    assert shown.detail(name) == Detail("add(x, y=2)")
    (form,) = await opened(shown, name)
    assert (form.title, form.text) == ("add(x: int, y: int = 2) -> int", "Adds.")
    assert [(one.name, one.hint) for one in form.fields] == [("x", "int"), ("y", "int = 2")]
    assert form.command == "%fabric_call calc.c1.add"
    assert "JSON or Python literals" in form.hint
    shown.view.opened(name)
    assert described.asked == [ServicePattern("d", "calc", "c1")]
    answer = await cast("Any", shown.view.act(form.name, {"x": "5", "y": "7"}))
    assert answer.startswith("12\n")
    assert described.called == [(ServicePattern("d", "calc", "c1"), "add", {"x": 5, "y": 7})]
    with pytest.raises(InvalidArgument, match="y is not a value"):
        await cast("Any", shown.view.act(form.name, {"y": "__import__('os')"}))


async def test_a_service_that_describes_nothing() -> None:
    """Methods of amqp-fabric that have answered can be called with any arguments."""
    shown, name, _ = registry_view({}, methods={"work": ""})
    (form,) = await opened(shown, name)
    assert [one.name for one in form.fields] == ["**"]
    answer = await cast("Any", shown.view.act(form.name, {"**": '{"a": 1, "b": 2}'}))
    assert answer.startswith("3\n")


async def test_a_description_that_cannot_be_had() -> None:
    """What went wrong stands above the methods, which are known from the keep-alives."""
    shown, name, _ = registry_view(CallTimeout("No answer."), methods={"add": "(x)"})
    (form,) = await opened(shown, name)
    assert form.title == "add(x)"
    assert shown.detail(name).text == "Its docs cannot be had: No answer."


async def test_a_hostile_description() -> None:
    """Thousands of methods with megabytes of docs are cut, and no markup is obeyed."""
    told = {f"m{n}": {"signature": f"(x={HOSTILE})", "doc": HOSTILE * 100} for n in range(5000)}
    shown, name, _ = registry_view(told)
    forms = await opened(shown, name)
    assert len(forms) == MAX_FORMS
    assert [one.name for one in forms[0].fields] == ["**"]
    shown.model.diff()
    sent = orjson.dumps(shown.model.whole())
    assert len(sent) < 100_000
    assert b"and 4,970 more, not shown" in sent
    assert any("not shown" in text for text in shown.texts)


@pytest.mark.parametrize(
    ("written", "values"),
    [
        ({"x": "5"}, {"x": 5}),
        ({"x": '"a"', "y": "'b'"}, {"x": "a", "y": "b"}),
        ({"x": "[1, null]", "y": "[1, None]"}, {"x": [1, None], "y": [1, None]}),
        ({"x": "(1, 2)"}, {"x": (1, 2)}),
        ({"x": "true", "y": "True"}, {"x": True, "y": True}),
        ({"x": "1", "**": '{"y": 2}'}, {"x": 1, "y": 2}),
        ({}, {}),
    ],
)
def test_arguments_are_json_or_python_literals(
    written: dict[str, str], values: dict[str, Any]
) -> None:
    """What is written into a form is JSON or a Python literal."""
    assert read_arguments(written) == values


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ({"x": "hello"}, "x is not a value"),
        ({"x": "__import__('os').system('x')"}, "x is not a value"),
        ({"x": "[" * 100_000}, "x is not a value"),
        ({"x": "9" * 100_001}, "x is longer than 100,000 characters"),
        ({"x": 5}, "x is longer"),
        ({"**": "[1]"}, "by their names"),
        ({"**": "{1: 2}"}, "by their names"),
        ({"x": "1", "**": '{"x": 2}'}, "x is given twice"),
    ],
)
def test_what_is_no_value_is_told(written: dict[str, Any], says: str) -> None:
    """Nothing else is taken, and above all nothing is run."""
    with pytest.raises(InvalidArgument, match=says):
        read_arguments(written)


# -- calls


def made(calls: CallLog, method: str, outcome: str = "ok", **more: Any) -> None:
    record = CallRecord(NOW, "made", "d.calc.c1", method, 12.34, cast("Any", outcome), **more)
    calls.add(record)


def test_calls_view() -> None:
    """Calls are shown newest last: when, which way, whose method, how long, and how it ended."""
    where = fabric()
    shown = Shown(CallsView(where))
    assert shown.texts[-1] == "No call was made or served yet: %fabric_call makes one."
    before = shown.view.version()
    made(where.calls, "add")
    made(where.calls, "add", "failed", error=f"ValueError: {HOSTILE}\nmore", traceback=HOSTILE)
    made(where.calls, "slow", "timeout", error="CallTimeout: no answer\nwithin 1 s")
    record = where.calls.served("e.app.mine", "f", 0.5, KeyError("x"), "Traceback ...")
    where.calls.failed(record, b"{}")
    assert shown.view.version() != before
    shown.again()
    assert [row[1:6] for row in shown.cells[1:]] == [
        ["made", "calc.c1", "add", "12.3", "ok"],
        ["made", "calc.c1", "add", "12.3", "failed"],
        ["made", "calc.c1", "slow", "12.3", "timeout"],
        ["served", "e.app.mine", "f", "500.0", "failed"],
    ]
    assert {"3 made", "1 served", "3 failed"} <= set(shown.texts)
    assert "%fabric_rerun runs the last call that failed here again." in shown.texts
    details = [row.detail.text for row in shown.model.rows]
    assert details == ["", HOSTILE, "CallTimeout: no answer\nwithin 1 s", "Traceback ..."]
    _ = shown.reader


def test_calls_are_chosen() -> None:
    """Made, served or failed ones can be seen alone; nothing else can be chosen."""
    where = fabric()
    made(where.calls, "add")
    made(where.calls, "add", "cancelled")
    where.calls.served("d.app.mine", "f", 0.5)
    shown = Shown(CallsView(where, "failed"))
    assert [row[5] for row in shown.cells[1:]] == ["cancelled"]
    for which, count in (("made", 2), ("served", 1), ("all", 3)):
        shown.view.act("which", which)
        assert len(shown.again().model) == count
    for wrong in (("which", "none"), ("which", None), ("other", "made")):
        with pytest.raises(LookupError):
            shown.view.act(*wrong)


def test_calls_view_takes_what_has_come_since() -> None:
    """Many calls cost what is new; those that are not kept are counted."""
    where = fabric()
    shown = Shown(CallsView(where))
    shown.model.diff()
    made(where.calls, "one")
    delta = shown.again().model.diff()
    assert delta is not None
    assert len(delta["add"]) == 1
    for _ in range(2500):
        made(where.calls, "many")
    shown.again()
    assert len(shown.model) == 1000
    assert "1,501 older dropped" in shown.texts


# -- serving


def server(**changes: Any) -> Any:
    state: dict[str, Any] = {
        "name": ServiceName("d", "analytics", "a1"),
        "version": "1.2",
        "closed": False,
        "changes": 0,
        "stats": {"f": MethodStats(), "health_check": MethodStats()},
        "signatures": {"f": "(x: int)"},
        "admission": SimpleNamespace(users=None),
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
    shown = Shown(view)
    assert shown.texts[:4] == ["analytics.a1", "serving", "in d", "version 1.2"]
    [_, row] = shown.cells
    assert row[:6] == ["f(x: int)", "2", "1", "1", "3.0", "4.0"]
    assert row[6].startswith("ValueError: <script>")
    mine.closed = True
    assert "stopped" in shown.again().texts


def test_a_method_opens_to_its_last_failures() -> None:
    """A method opens to the last calls that failed, with arguments and tracebacks."""
    where = fabric()
    shown = Shown(ServingView(where, server()))
    deep = "[" * 1000 + "]" * 1000

    def fail(service: str, **kwargs: Any) -> None:
        record = where.calls.served(service, "f", 0.1, ValueError(HOSTILE), HOSTILE)
        request = json.dumps(kwargs).replace('"deep"', deep)
        where.calls.failed(record, request.encode())

    for number in range(25):
        fail("d.analytics.a1", x=number, big="y" * 10_000, z="deep", html=MARKUP)
    fail("d.analytics.other", x=26)
    detail = shown.again().detail("f").text
    assert detail.startswith("Last failure: f(x=24, big='yyy")
    assert "\nBefore it: f(x=23, " in detail
    assert "x=21" not in detail
    assert any(text.startswith("Last failure: f(x=24, big='yyy") for text in shown.texts)
    assert len(shown.page.html()) < 20_000
    fail("d.analytics.a1", x="y" * 1_000_000)
    assert shown.again().detail("f").text.startswith("Last failure: f(… 1.0 MB)")


def test_everything_that_is_served() -> None:
    """In the dashboard the methods of all services stand in one table, with their failures."""
    where = fabric()
    shown = Shown(AllServingView(where))
    assert any("%%fabric_serve" in text for text in shown.texts)
    where.servers = (server(), server(name=ServiceName("d", "app", "b")))
    before = shown.view.version()
    where.servers[1].stats["f"].record(0.1, ValueError("no"))
    where.servers[1].changes += 1
    assert shown.view.version() != before
    record = where.calls.served("d.app.b", "f", 0.1, ValueError("no"), "Traceback")
    where.calls.failed(record, b'{"x": 1}')
    shown.again()
    assert [row[:4] for row in shown.cells[1:]] == [
        ["analytics.a1", "f(x: int)", "0", "0"],
        ["app.b", "f(x: int)", "1", "1"],
    ]
    assert shown.detail((where.servers[1].name, "f")).text == "Last failure: f(x=1)\nTraceback"
    assert not shown.detail((where.servers[0].name, "f"))


def test_serving_view_shows_what_was_printed() -> None:
    """What served functions print is shown, the last lines of it."""
    view = ServingView(fabric(), server())
    shown = Shown(view)
    before = view.version()
    for number in range(10_000):
        view.take_output(f"{number} {MARKUP}\n")
    assert view.version() != before
    shown.again()
    assert f"9999 {MARKUP}" in shown.page.text()
    assert "\n100 " not in shown.page.text()
    assert len(shown.page.html()) < 20_000
    assert len(orjson.dumps(shown.model.diff())) < 10_000
    read(shown.page)


# -- streams


class FakeStream:
    """A stream without a broker."""

    def __init__(self, rows: Sequence[dict[str, Any]] = (), **headers: Any) -> None:
        self.headers = headers
        self.rate, self.rejected, self.closed, self.paused = 2.5, 0, False, False
        self.recordings = ()
        self.remade = 0
        self._buffer = FrameBuffer(max_rows=1000)
        self.take(rows)

    def take(self, rows: Sequence[dict[str, Any]]) -> None:
        self._buffer.extend(rows)

    def tail(self, n: int) -> pd.DataFrame:
        return self._buffer.tail(n)

    async def pause(self) -> None:
        self.paused = True

    async def resume(self) -> None:
        self.paused = False

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
        return self._buffer.version + self.rejected


def stream_view(stream: FakeStream, **changes: Any) -> Shown:
    return Shown(StreamView(fabric(**changes), cast("Any", stream)))


def test_stream_view() -> None:
    """A stream shows how much has come, how fast, its last rows, and a line over a column."""
    rows = [{"s": "a", "n": n, "x": n / 3 if n % 2 else None, "l": [n]} for n in range(150)]
    shown = stream_view(FakeStream(rows, kind="T"))
    assert shown.texts[:4] == ["Stream kind=T", "open", "150 rows", "2.5 rows/s"]
    assert shown.cells[0] == ["s", "n", "x", "l"]
    assert shown.cells[-1] == ["a", "149", "49.6667", "[149]"]
    assert len(shown.model) == ROWS
    assert "… and 100 older rows." in shown.texts
    assert "n, last 150 rows  " in shown.page.text()


def test_a_stream_sends_only_the_rows_that_have_come() -> None:
    """What flows costs what is new, and old rows leave the table."""
    stream = FakeStream([{"n": n} for n in range(ROWS)])
    shown = stream_view(stream)
    shown.model.diff()
    stream.take([{"n": n} for n in range(3)])
    delta = shown.again().model.diff()
    assert delta is not None
    assert [row[1] for row in delta["add"]] == [[0], [1], [2]]
    assert len(delta["drop"]) == 3
    stream.take([{"n": 0, "other": 1}])
    assert shown.again().cells[0] == ["n", "other"]
    assert len(shown.model) == ROWS


async def test_the_line_is_over_the_column_that_is_chosen() -> None:
    """Any column of numbers can be chosen; a column that is gone is the first again."""
    stream = FakeStream([{"s": "a", "n": n, "x": -n} for n in range(1000)])
    shown = stream_view(stream)
    assert shown.model.head.tools[0].options == ["n", "x"]  # type: ignore[union-attr]
    shown.view.act("chart", "x")
    chart = shown.again().model.head.chart
    assert chart is not None
    assert (chart.label, len(chart.values)) == (f"x, last {CHART_ROWS} rows", CHART_ROWS)
    assert chart.values[-1] == -999
    shown.view.act("chart", "gone")
    chart = shown.again().model.head.chart
    assert chart is not None
    assert chart.label.startswith("n,")
    await cast("Any", shown.view.act("pause", None))
    assert "paused" in shown.again().texts
    await cast("Any", shown.view.act("pause", None))
    assert not stream.paused
    with pytest.raises(LookupError):
        shown.view.act("no such", None)


def test_stream_view_counts_what_is_missing() -> None:
    """Dropped rows and unreadable messages are counted for the reader."""
    stream = FakeStream([{"n": number} for number in range(1500)])
    stream.rejected = 3
    texts = stream_view(stream).texts
    assert "Stream of all data" in texts
    assert "500 dropped (kept: the last 1,000)" in texts
    assert "3 unreadable" in texts


def test_all_streams() -> None:
    """In the dashboard each stream is a line: its variable, how much has come, and bars."""
    streams: list[tuple[str, Any]] = []
    shown = Shown(StreamsView(fabric(), lambda: streams))
    assert any("%fabric_stream" in text for text in shown.texts)
    numbers = FakeStream([{"s": HOSTILE, "n": n} for n in range(100)], kind=HOSTILE)
    streams += [("s", numbers), ("", FakeStream([{"text": "a"}]))]
    shown.again()
    first, second = shown.cells[1:]
    assert first[0] == "s"
    assert first[2:6] == ["open", "100", "2.5", "0"]
    assert first[6].startswith("n ▁")
    assert second == ["", "all data", "open", "1", "2.5", "0", ""]
    before = shown.view.version()
    numbers.take([{"n": 1}])
    assert shown.view.version() != before
    streams.clear()
    assert len(shown.again().model) == 0


@pytest.mark.parametrize(("change", "badge"), [("closed", "closed"), ("paused", "paused")])
def test_stream_view_shows_its_state(change: str, badge: str) -> None:
    """A stream that is paused or closed says so, and an empty one that nothing has come."""
    stream = FakeStream()
    shown = stream_view(stream, state=State.RECONNECTING)
    before = shown.view.version()
    setattr(stream, change, True)
    assert shown.view.version() != before
    assert {badge, "reconnecting", "No row has come yet."} <= set(shown.again().texts)


def test_stream_view_of_hostile_rows() -> None:
    """Rows of any content are shown: many columns, markup, huge and deep values."""
    deep = decode(b"[" * 1000 + b"]" * 1000)
    row = {HOSTILE.replace("\ud800", ""): HOSTILE, "deep": deep, "big": ["x" * 1_000_000] * 100}
    numbers = {f"c{n}": 10.0**300 * (-1) ** n for n in range(500)}
    stream = FakeStream([{**row, **numbers}, {}, {"big": None, "c1": float("inf")}])
    shown = stream_view(stream)
    assert len(shown.cells[0]) == COLUMNS
    assert any("more columns, in its DataFrame." in text for text in shown.texts)
    assert len(shown.page.html()) < 100_000
    assert len(orjson.dumps(shown.model.whole())) < 100_000


# -- logs


def feed(records: Sequence[LogRecord] = (), **changes: Any) -> Any:
    state: dict[str, Any] = {
        "records": deque(records, maxlen=10_000),
        "dropped": 0,
        "rejected": 0,
        "changes": len(records),
        "level": None,
        "service": None,
        "closed": False,
    }
    return SimpleNamespace(**{**state, **changes})


def record(message: str, level: str = "INFO", **more: Any) -> LogRecord:
    return LogRecord(NOW, level, "calc", "c1", message, **more)


def log(feed: Any, *records: LogRecord) -> None:
    feed.records.extend(records)
    feed.changes += len(records)


def test_log_view() -> None:
    """Logs are shown newest last, with their level, service and logger, and are counted."""
    records = [record(f"line {number}") for number in range(60)]
    records.append(record("last", "WARNING", logger="app", traceback=f"Traceback {HOSTILE}"))
    heard = feed(records, dropped=1234, rejected=2, level="INFO", service="calc.c1")
    shown = Shown(LogView(fabric(), heard))
    facts = {"from calc.c1", "INFO and above", "60 INFO", "1 WARNING", "1,234 older dropped"}
    facts.add("2 unreadable")
    assert facts <= set(shown.texts)
    assert shown.cells[1][4] == "line 11"
    assert shown.cells[-1][1:] == ["WARNING", "calc.c1", "app", "last"]
    assert any(text.startswith("Traceback <script>") for text in shown.texts)


def test_a_log_takes_what_has_come_since() -> None:
    """Records are added as they come, the oldest leave, and none is missed when many come."""
    logs = feed([record("first")])
    shown = Shown(LogView(fabric(), logs))
    shown.model.diff()
    log(logs, record("second"), record("a\nb" * 200))
    delta = shown.again().model.diff()
    assert delta is not None
    assert [row[1][4][:6] for row in delta["add"]] == ["second", "a\nba\nb"]
    assert len(delta["add"][1][2]) == 600
    log(logs, *(record(f"line {n}") for n in range(20_000)))
    shown.again()
    assert len(shown.model) == MAX_RECORDS
    assert shown.model.rows[0].cells[4] == "line 19000"
    assert shown.model.cut == 9_003


def test_a_log_is_filtered_and_paused() -> None:
    """The least level is chosen from what is held; paused, it stands still and counts."""
    logs = feed([record(f"line {n}", level) for n in range(3) for level in ("INFO", "ERROR", "X")])
    shown = Shown(LogView(fabric(), logs))
    assert len(shown.model) == 9
    shown.view.act("level", "WARNING")
    assert [row.cells[4] for row in shown.again().model.rows] == ["line 0", "line 1", "line 2"]
    shown.view.act("pause", None)
    log(logs, record("later", "CRITICAL"), record("not this", "DEBUG"))
    assert len(shown.again().model) == 3
    assert {"paused", "2 new"} <= set(shown.texts)
    shown.view.act("level", "all")
    assert len(shown.again().model) == 11
    shown.view.act("pause", None)
    shown.view.act("level", "CRITICAL")
    assert [row.cells[4] for row in shown.again().model.rows] == ["later"]
    for wrong in (("level", "LOUD"), ("level", None), ("pause", "x"), ("other", None)):
        with pytest.raises(LookupError):
            shown.view.act(*wrong)


def test_log_view_of_hostile_records() -> None:
    """Records of any content are shown, however many levels they invent."""
    records = [
        LogRecord(10.0**n, f"{HOSTILE}{n}", HOSTILE, HOSTILE, HOSTILE * 100, logger=HOSTILE)
        for n in range(-5, 12)
    ]
    shown = Shown(LogView(fabric(), feed(records)))
    assert len(shown.cells) == 18
    assert len(shown.page.html()) < 200_000
    assert any("No record" in text for text in Shown(LogView(fabric(), feed())).texts)


# -- what a long call shows


def test_who_waits_is_told_how_the_service_is_doing() -> None:
    """The line of a long call says what is awaited, how long, and busy, late or gone."""
    here = fabric()
    awaited = ServicePattern.parse("slow", domain="d")
    handle = cast("Any", SimpleNamespace(label="d.slow.work", elapsed=12.4))

    def shown() -> str:
        return waiting_page(here, awaited, handle).mimebundle()["text/plain"]

    assert "Waiting for d.slow.work" in shown()
    assert "12 s" in shown()
    assert "not heard yet" in shown()
    hear(here, "slow")
    assert "slow is up" in shown()
    hear(here, "slow", busy_since=90.0)
    assert "slow is busy" in shown()
    here.clock.now += 12
    assert "slow is late" in shown()
    here.clock.now += 60
    assert "slow is gone" in shown()
