"""What the panel is told: plain data of a notebook and its fabric, bounded, and only changes."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Callable, Hashable, Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fabric_nb.errors import NotThere
from fabric_nb.fabric.amqp.connection import State
from fabric_nb.fabric.discovery.registry import Registry
from fabric_nb.fabric.wire.keep_alives import Announcement, KeepAlive
from fabric_nb.fabric.wire.names import ServiceName
from fabric_nb.notebook.panel import link, state
from fabric_nb.notebook.panel.changes import Changes
from fabric_nb.notebook.panel.tables import PanelTable
from fabric_nb.notebook.panel.watcher import Watcher
from fabric_nb.notebook.table import Column, TableModel
from fabric_nb.notebook.views.base import TableView
from tests.support.pages import CONTROLS, HOSTILE

CALC = ServiceName("d", "calc", "c1")


class Clock:
    """Time that only a test moves."""

    now = 100.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def registry(clock: Clock) -> Registry:
    return Registry(lambda: clock.now)


def hear(registry: Registry, name: ServiceName = CALC, instance: str = "i1", **said: Any) -> None:
    told = Announcement(**{"instance": instance, "interval": 5.0, **said}) if instance else None
    registry.heard(KeepAlive(name, told))


# -- the state


def test_a_service_with_its_methods_and_members(registry: Registry, clock: Clock) -> None:
    """A service is told with state, versions, members, and methods with what they ask for."""
    methods = {"health_check": "()", "add": "(x: int, y: int = 2) -> int", "any": "(**options)"}
    hear(registry, instance="i1", version="1.0", methods=methods)
    hear(registry, instance="i2", version="1.1", busy_since=1.0)
    told = state.services(registry, {})["d.calc.c1"]
    assert told["state"] == "up"
    assert told["version"] == "1.0 + 1.1"
    assert [(one["id"], one["state"]) for one in told["members"]] == [("i1", "up"), ("i2", "busy")]
    assert not told["uncounted"]
    add, anything = told["methods"]
    assert add == {
        "name": "add",
        "signature": "(x: int, y: int = 2) -> int",
        "required": ["x"],
        "optional": ["y"],
        "open": False,
    }
    assert (anything["required"], anything["open"]) == ([], True)
    clock.now += 60
    assert state.services(registry, {})["d.calc.c1"]["state"] == "gone"


def test_other_domains_are_told_where_the_notebook_is_alone(registry: Registry) -> None:
    """The sentence stands while no service but the notebook's own is in its domain."""
    look = state.Look(
        connection={"domain": "mistaken", "name": "notebook.nb"},
        serving=["mistaken.notebook.orders"],
    )
    hear(registry, ServiceName("mistaken", "notebook", "nb"))
    hear(registry, ServiceName("mistaken", "notebook", "orders"))
    hear(registry, ServiceName("shop", "orders", "main"))
    told = "Also on this broker: shop (1 service): `--domain shop`."
    assert state.elsewhere(registry, look) == told
    assert state.elsewhere(registry, state.Look()) == "", "it is in no domain"
    hear(registry, ServiceName("mistaken", "calc", "c1"))
    assert state.elsewhere(registry, look) == ""


def test_a_peer_that_tells_nothing(registry: Registry) -> None:
    """Of amqp-fabric services the methods are told that have answered, from either connection."""
    hear(registry, instance="")
    service = registry.get(CALC)
    assert service is not None
    told = state.services(registry, {})["d.calc.c1"]
    assert told["uncounted"]
    assert told["methods"] == []
    service.answered("add")
    answered = state.answered(registry)
    assert answered == {"d.calc.c1": ["add"]}
    methods = state.services(registry, answered)["d.calc.c1"]["methods"]
    assert [one["name"] for one in methods] == ["add"]
    assert methods[0]["open"], "its arguments are not known"


@pytest.mark.parametrize(
    "signature",
    [
        "(x; import os)",
        "(\uff58, \u043a\u043b, ok)",
        "(lambda=1, ok=2)",
        "(",
        "(" * 9000,
        "(x=__import__('os'))",
    ],
)
def test_only_arguments_that_can_be_written_are_told(signature: str) -> None:
    """Arguments are told as ASCII identifiers only, and nothing in a signature is evaluated."""
    told = state.parameters(signature)
    for name in [*told["required"], *told["optional"]]:
        assert name in ("ok", "x")


def test_hostile_text_is_cut_and_cleaned(registry: Registry) -> None:
    """Remote text comes without control characters and of bounded length."""
    long = HOSTILE * 1000
    hear(registry, version=long, instance=long, methods={"m": f"({long}"})
    told = state.services(registry, {})
    text = json.dumps(told, ensure_ascii=False)
    assert not set(text) & set(CONTROLS)
    assert len(text) < 12_000


def test_there_is_an_end_to_what_is_told(registry: Registry, clock: Clock) -> None:
    """Of very many services those that are there come first, and their number is bounded."""
    for number in range(state.MAX_SERVICES):
        hear(registry, ServiceName("d", "old", f"a{number}"))
    clock.now += 60
    for number in range(10):
        hear(registry, ServiceName("d", "new", f"z{number}"))
    told = state.services(registry, {})
    assert len(told) <= state.MAX_SERVICES
    assert {f"d.new.z{number}" for number in range(10)} <= set(told)
    hear(registry, methods={f"m{number}": "()" for number in range(1000)})
    for number in range(200):
        hear(registry, instance=f"n{number}")
    calc = state.services(registry, {})["d.calc.c1"]
    assert len(calc["methods"]) == state.MAX_METHODS
    assert len(calc["members"]) + calc["more_members"] == 201


# -- the changes


def test_only_changes_are_sent() -> None:
    """The first message tells everything, the next what is new, different or gone, then none."""
    changes = Changes()
    first = changes.since({"services": {"a": {"n": 1}, "b": {"n": 1}}}, {"busy_since": None})
    assert first == {
        "reset": True,
        "facts": {"busy_since": None},
        "services": {"put": {"a": {"n": 1}, "b": {"n": 1}}, "drop": []},
    }
    same = {"services": {"b": {"n": 2}, "c": {"n": 1}}}
    assert changes.since(same, {"busy_since": None}) == {
        "services": {"put": {"b": {"n": 2}, "c": {"n": 1}}, "drop": ["a"]}
    }
    assert changes.since(same, {"busy_since": None}) is None
    assert changes.since(same, {"busy_since": 5.0}) == {"facts": {"busy_since": 5.0}}
    changes.reset()
    again = changes.since(same, {"busy_since": 5.0})
    assert again is not None
    assert again["reset"]
    assert set(again["services"]["put"]) == {"b", "c"}


def test_large_changes_come_in_parts() -> None:
    """What does not fit into a message comes with the next, until all is told."""
    changes = Changes(budget=1000)
    items = {f"k{number}": {"text": "x" * 90} for number in range(50)}
    items["huge"] = {"text": "x" * 5000}
    told: dict[str, Any] = {}
    count = 0
    while (message := changes.since({"services": items}, {})) is not None:
        assert message["services"]["put"]
        assert len(json.dumps(message)) < 7000
        told |= message["services"]["put"]
        count += 1
    assert told == items
    assert count > 5


# -- the tables


class Letters(TableView):
    """A table of letters, with a button for each."""

    def __init__(self) -> None:
        self.letters = ["a", "b"]
        self.pressed: list[object] = []

    def version(self) -> Hashable:
        return tuple(self.letters)

    def model(self) -> TableModel:
        return TableModel("Letters", [Column("letter")])

    def fill(self, model: TableModel) -> None:
        model.replace((one, [one], "") for one in self.letters)

    def act(self, name: str, value: object) -> str:
        self.pressed.append(value)
        return f"{name} {value}"


async def test_a_table_sends_what_is_new_and_takes_actions() -> None:
    """A table sends everything first, then differences; an action names a row by its number."""
    view = Letters()
    table = PanelTable(view, asyncio.get_running_loop())
    first = table.news(whole=False)
    assert first is not None
    assert first["add"] == [[0, ["a"], ""], [1, ["b"], ""]]
    assert table.news(whole=False) is None
    view.letters = ["b", "c"]
    table.refresh()
    news = table.news(whole=False)
    assert news is not None
    assert (news["drop"], news["add"]) == ([0], [[2, ["c"], ""]])
    again = table.news(whole=True)
    assert again is not None
    assert [row[1] for row in again["add"]] == [["b"], ["c"]]
    assert await table.act("press", 1, None) == "press b"
    assert await table.act("choose", None, "x") == "choose x"
    with pytest.raises(NotThere, match="not there any more"):
        await table.act("press", 0, None)
    assert view.pressed == ["b", "x"]


# -- the thread


class FakeNotebook:
    """A notebook that is not connected."""

    fabric: Any = None

    @property
    def connected(self) -> bool:
        return False

    def streams(self) -> list[Any]:
        return []


class Pushed:
    """What a watcher pushes, awaited from the loop of the test."""

    def __init__(self) -> None:
        self.messages: list[Mapping[str, Any]] = []
        self.threads: set[str] = set()
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()

    def __call__(self, message: Mapping[str, Any]) -> None:
        self.messages.append(message)
        self.threads.add(threading.current_thread().name)
        self._loop.call_soon_threadsafe(self._news.set)

    async def until(self, found: Callable[[Mapping[str, Any]], object]) -> Mapping[str, Any]:
        async with asyncio.timeout(20):
            while True:
                for message in self.messages:
                    if found(message):
                        return message
                self._news.clear()
                await self._news.wait()


async def test_the_thread_tells_what_there_is_and_ends() -> None:
    """Pushes come from a thread of their own, which is not there before somebody listens."""
    pushed = Pushed()
    watcher = Watcher(FakeNotebook, asyncio.get_running_loop(), pushed)
    assert "fabric companion" not in [one.name for one in threading.enumerate()]
    watcher.tell_all()
    first = await pushed.until(lambda message: message.get("reset"))
    assert first["facts"] == {"connection": {}, "busy_since": None, "elsewhere": ""}
    watcher.call("r1", "d.calc.c1.add", {})
    result = await pushed.until(lambda message: message.get("results"))
    assert result["results"][0]["id"] == "r1"
    assert "no connection" in result["results"][0]["error"]
    watcher.start_demo("r2")
    result = await pushed.until(lambda message: "r2" in str(message.get("results")))
    assert "embedded broker only" in result["results"][0]["error"]
    assert pushed.threads == {"fabric companion"}
    await asyncio.to_thread(watcher.close)
    assert "fabric companion" not in [one.name for one in threading.enumerate()]
    watcher.tell_all()  # after its end it does nothing


async def test_a_blocked_loop_is_told() -> None:
    """While the notebook's loop stands still, pushes go on and say since when."""
    blocked, done = threading.Event(), threading.Event()

    class Blocked(FakeNotebook):
        looks = 0

        @property
        def connected(self) -> bool:
            self.looks += 1
            if self.looks == 2:
                blocked.set()
                done.wait(20)
            return False

    pushed = Pushed()
    loop = asyncio.new_event_loop()
    running = threading.Thread(target=loop.run_forever)
    running.start()
    notebook = Blocked()
    watcher = Watcher(lambda: notebook, loop, pushed)
    watcher.tell_all()
    busy = await pushed.until(lambda message: message.get("facts", {}).get("busy_since"))
    assert blocked.is_set()
    assert busy["facts"]["busy_since"] > 1e9
    done.set()
    after = len(pushed.messages)
    await pushed.until(
        lambda message: (
            message in pushed.messages[after:]
            and message.get("facts", {"busy_since": 1})["busy_since"] is None
        )
    )
    await asyncio.to_thread(watcher.close)
    loop.call_soon_threadsafe(loop.stop)
    await asyncio.to_thread(running.join)
    loop.close()


# -- requests


class FakeComm:
    """A comm that keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.handler: Callable[[Any], None] = lambda _: None

    def on_msg(self, handler: Callable[[Any], None]) -> None:
        self.handler = handler

    def send(self, data: dict[str, Any]) -> None:
        self.sent.append(data)

    def ask(self, **data: Any) -> dict[str, Any]:
        self.handler({"content": {"data": data}})
        return self.sent[-1]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the panel asks of its watcher."""
    calls: list[tuple[Any, ...]] = []
    for name in ("tell_all", "call", "describe", "hear_logs", "act", "start_demo"):
        monkeypatch.setattr(Watcher, name, lambda _, *args, name=name: calls.append((name, *args)))
    return calls


@pytest.fixture
def requests() -> FakeComm:
    """The comm of requests, opened."""
    panel = link.Panel(cast("Any", SimpleNamespace()), FakeNotebook, cast("Any", None))
    panel.open()  # outside a kernel this does nothing
    comm = FakeComm()
    panel._on_open(comm, {})
    assert comm.sent[0]["protocol"] == link.PROTOCOL
    return comm


def test_requests_reach_the_watcher(requests: FakeComm, asked: list[tuple[Any, ...]]) -> None:
    """Each request is answered at once and done later; arguments are JSON or Python literals."""
    assert requests.ask(id="1", do="tell") == {"id": "1"}
    arguments = {"x": "5", "y": "(1, 'a')", "z": "true"}
    assert requests.ask(id="2", do="call", call="c1.add", arguments=arguments) == {"id": "2"}
    requests.ask(id="3", do="describe", call="c1.add")
    requests.ask(id="4", do="logs")
    requests.ask(id="5", do="act", table="streams", name="pause", row=3)
    requests.ask(id="5", do="act", table="logs", name="level", value="ERROR")
    requests.ask(id="6", do="demo")
    assert asked == [
        ("tell_all",),
        ("call", "2", "c1.add", {"x": 5, "y": (1, "a"), "z": True}),
        ("describe", "3", "c1.add"),
        ("hear_logs", "4"),
        ("act", "5", "streams", "pause", 3, None),
        ("act", "5", "logs", "level", None, "ERROR"),
        ("start_demo", "6"),
    ]


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({"do": "fly"}, "too old or too new"),
        ({"do": "call", "call": "c.m", "arguments": {"x": "hello"}}, "x is not a value"),
        ({"do": "call", "call": "c.m", "arguments": {"x": "__import__('os')"}}, "not a value"),
        ({"do": "call", "call": "c.m", "arguments": [1]}, "up to 50"),
        ({"do": "call", "call": "c" * 1000, "arguments": {}}, "call is not a text"),
        ({"do": "call", "call": None, "arguments": {}}, "call is not a text"),
        ({"do": "act", "table": 5}, "table is not a text"),
        ({"do": "act", "row": "3"}, "row is not the number of a row"),
        ({"do": "act", "value": ["ERROR"]}, "value is not a text"),
    ],
)
def test_a_bad_request_is_told(
    requests: FakeComm, asked: list[tuple[Any, ...]], request_: dict[str, Any], says: str
) -> None:
    """A request that cannot be read is answered with a sentence, and nothing is done."""
    answer = requests.ask(id="1", **request_)
    assert answer["id"] == "1"
    assert says in answer["error"]
    assert asked == []


def test_the_password_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told of the connection has the URI with its password masked."""
    fabric = SimpleNamespace(
        state=State.CONNECTED, domain="d", name=CALC, broker="RabbitMQ 4", uri="amqp://a:***@h/"
    )
    monkeypatch.delenv("AMQP_URL", raising=False)
    told = state.connection(cast("Any", fabric))
    assert told == {
        "state": "connected",
        "domain": "d",
        "name": "calc.c1",
        "broker": "RabbitMQ 4",
        "uri": "amqp://a:***@h/",
        "embedded": False,
        "join": "amqp://a@h/",
    }


@pytest.mark.parametrize(
    ("broker", "uri", "environment", "join"),
    [
        ("RabbitMQ 4", "amqp://a:***@h/", "", "amqp://a@h/"),
        ("RabbitMQ 4", "amqp://a:***@h/", "amqp://a:secret@h", ""),
        ("RabbitMQ 4", "amqp://a:***@h/v", "amqp://a:secret@h/", "amqp://a@h/v"),
        ("RabbitMQ 4", "amqps://h1,h2/v", "", "amqps://h1,h2/v"),
        ("fabric_nb embedded broker 1", "amqp://g:***@127.0.0.1:1/", "", ""),
    ],
)
def test_another_notebook_is_told_how_to_come_here(
    monkeypatch: pytest.MonkeyPatch, broker: str, uri: str, environment: str, join: str
) -> None:
    """By the URI without its password, or by nothing where %fabric_connect finds the way itself."""
    monkeypatch.setenv("AMQP_URL", environment)
    fabric = SimpleNamespace(state=State.CONNECTED, domain="d", name=CALC, broker=broker, uri=uri)
    assert state.connection(cast("Any", fabric))["join"] == join


def test_an_end_of_the_thread_is_no_surprise(caplog: pytest.LogCaptureFixture) -> None:
    """A watcher that nobody has listened to ends without a thread and without a word."""
    with caplog.at_level(logging.DEBUG):
        Watcher(FakeNotebook, cast("Any", None), lambda _: None).close()
    assert caplog.records == []
