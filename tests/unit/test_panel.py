"""Kernel side of the panel: its state is plain data, bounded, and sent incrementally."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import threading
from collections.abc import Callable, Hashable, Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fabric_nb.errors import NotThere
from fabric_nb.fabric.amqp.connection import State
from fabric_nb.fabric.amqp.rejected import RejectedMessages
from fabric_nb.fabric.discovery.registry import Registry
from fabric_nb.fabric.discovery.services import QueueCounts
from fabric_nb.fabric.wire.keep_alives import Announcement, KeepAlive
from fabric_nb.fabric.wire.names import ServiceName
from fabric_nb.fabric.wire.statistics import CallCounts, Statistics
from fabric_nb.notebook.panel import link
from fabric_nb.notebook.panel.changes import Changes
from fabric_nb.notebook.panel.poller import connection
from fabric_nb.notebook.panel.tables import PanelTable
from fabric_nb.notebook.panel.tree import (
    MAX_INSTANCES,
    MAX_METHODS,
    MAX_SERVICES,
    ServicesTree,
)
from fabric_nb.notebook.panel.watcher import Watcher
from fabric_nb.notebook.table import Column, TableModel
from fabric_nb.notebook.views.base import TableView
from fabric_nb.notebook.views.services import EVERY, NotebookFacts, Services
from fabric_nb.notebook.views.statistics import rate_text
from tests.support.pages import CONTROLS, HOSTILE

CALC = ServiceName("d", "calc", "c1")


class Clock:
    """Clock that only the test advances."""

    now = 100.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def registry(clock: Clock) -> Registry:
    return Registry(lambda: clock.now)


def announce(
    registry: Registry,
    name: ServiceName = CALC,
    instance: str = "i1",
    *,
    statistics: Statistics | None = None,
    **fields: Any,
) -> None:
    """Receive a keep-alive; without an instance, one of amqp-fabric."""
    announcement = Announcement(**{"instance": instance, "interval": 5.0, **fields})
    registry.receive(KeepAlive(name, announcement if instance else None, statistics=statistics))


# -- the tree


def tree_of(registry: Registry, notebook: NotebookFacts | None = None) -> ServicesTree:
    """Return the tree of the services in a registry, for the notebook `d.notebook.nb`."""
    name = ServiceName("d", "notebook", "nb")
    member = SimpleNamespace(
        registry=registry, domain="d", name=name, servers=(), rejected=RejectedMessages()
    )
    facts = notebook or NotebookFacts(frozenset([name]))
    return ServicesTree(
        Services(cast("Any", member), EVERY, limit=MAX_SERVICES, notebook=lambda: facts)
    )


def test_a_service_with_its_methods_and_instances(registry: Registry, clock: Clock) -> None:
    """A service has state, versions, instances, and methods with their arguments."""
    methods = {"health_check": "()", "add": "(x: int, y: int = 2) -> int", "any": "(**options)"}
    announce(registry, instance="i1", version="1.0", methods=methods)
    announce(registry, instance="i2", version="1.1", busy_since=1.0)
    tree = tree_of(registry)
    service = tree.state().items["d.calc.c1"]
    assert service["state"] == ["up", "good"]
    assert service["version"] == "1.0 + 1.1"
    instances = [(instance["id"], instance["state"][0]) for instance in service["instances"]]
    assert instances == [("i1", "up"), ("i2", "busy")]
    assert service["count"] == 2
    add, anything = service["methods"]
    assert add == {
        "name": "add",
        "signature": "(x: int, y: int = 2) -> int",
        "fields": [["x", "int", True], ["y", "int = 2", False]],
    }
    assert anything["fields"] == [["**", '{"name": value}', False]]
    assert service["methods_note"] == ""
    clock.now += 60
    gone = tree.state().items["d.calc.c1"]
    assert (gone["state"][0], gone["count"]) == ("gone", 0)


def test_an_item_is_the_same_until_it_changes(registry: Registry, clock: Clock) -> None:
    """Keep-alives that announce nothing new keep the item, so that sending it is not considered."""
    announce(registry, methods={"add": "(x)"})
    announce(registry, ServiceName("d", "calc", "c2"))
    tree = tree_of(registry)
    before = tree.state().items
    clock.now += 4
    announce(registry, methods={"add": "(x)"})
    announce(registry, ServiceName("d", "calc", "c2"), version="2")
    after = tree.state().items
    assert after["d.calc.c1"] is before["d.calc.c1"]
    assert after["d.calc.c2"]["version"] == "2"


def test_other_domains_are_suggested_in_an_empty_domain(registry: Registry) -> None:
    """Other domains are named while no other service is in the notebook's domain."""
    own = [ServiceName("d", "notebook", "nb"), ServiceName("d", "notebook", "orders")]
    tree = tree_of(registry, NotebookFacts(frozenset(own)))
    for name in own:
        announce(registry, name)
    assert tree.state().remarks == {"up": 2, "alone": True, "elsewhere": "", "notes": []}
    announce(registry, ServiceName("shop", "orders", "main"))
    sentence = "Also on this broker: shop (1 service): `--domain shop`."
    assert (tree.state().remarks["alone"], tree.state().remarks["elsewhere"]) == (True, sentence)
    announce(registry, ServiceName("d", "calc", "c1"))
    assert tree.state().remarks == {"up": 3, "alone": False, "elsewhere": "", "notes": []}


def test_a_service_of_amqp_fabric(registry: Registry) -> None:
    """Services of amqp-fabric have the methods that have replied, on either connection."""
    announce(registry, instance="")
    service = registry.get(CALC)
    assert service is not None
    shown = tree_of(registry).state().items["d.calc.c1"]
    assert shown["count"] == "1+"
    assert (shown["methods"], shown["methods_note"]) == ([], "No methods announced")
    registry.record_reply(CALC, "add")
    member = SimpleNamespace(registry=registry, name=CALC, servers=())
    facts = NotebookFacts.of(cast("Any", member))
    assert facts.replied == {CALC: ("add",)}
    other = Registry(lambda: 100.0)
    announce(other, instance="")
    for tree in (tree_of(registry), tree_of(other, facts)):
        (method,) = tree.state().items["d.calc.c1"]["methods"]
        assert method["name"] == "add"
        assert [name for name, *_ in method["fields"]] == ["**"], "its arguments are not known"
    announce(registry, instance="new", methods={"sub": "(x)"})
    assert NotebookFacts.of(cast("Any", member)).replied == {}


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
def test_only_ascii_arguments_are_sent(registry: Registry, signature: str) -> None:
    """Only arguments that are ASCII identifiers are sent, and signatures are not evaluated."""
    announce(registry, methods={"m": signature})
    (method,) = tree_of(registry).state().items["d.calc.c1"]["methods"]
    for name, *_ in method["fields"]:
        assert name in ("ok", "x", "**")


def test_remote_text_is_sanitized(registry: Registry) -> None:
    """Remote text is sent without control characters and with bounded length."""
    long = HOSTILE * 1000
    announce(registry, version=long, instance=long, methods={"m": f"({long}"})
    announce(registry, version="2", instance="other")
    text = json.dumps(tree_of(registry).state().items, ensure_ascii=False)
    assert not set(text) & set(CONTROLS)
    assert len(text) < 12_000


def test_number_of_services_is_bounded(registry: Registry, clock: Clock) -> None:
    """Services, methods and instances are bounded and counted; gone services are omitted first."""
    for number in range(MAX_SERVICES):
        announce(registry, ServiceName("a", "old", f"a{number}"))
    clock.now += 60
    for number in range(10):
        announce(registry, ServiceName("b", "new", f"z{number}"))
    tree = tree_of(registry)
    assert len(tree.state().items) == MAX_SERVICES
    assert {f"b.new.z{number}" for number in range(10)} <= set(tree.state().items)
    assert tree.state().remarks["notes"] == ["… and 10 more services."]
    methods = {f"m{number}": "()" for number in range(1000)}
    announce(registry, methods=methods, more_methods=5)
    for number in range(200):
        announce(registry, instance=f"n{number}")
    calc = tree.state().items["d.calc.c1"]
    assert len(calc["methods"]) == MAX_METHODS
    assert calc["methods_note"] == "905 more methods"
    assert len(calc["instances"]) == MAX_INSTANCES
    assert calc["instances_note"] == "151 more instances"
    assert calc["count"] == 201


def test_statistics_of_a_service(registry: Registry, clock: Clock) -> None:
    """Statistics are short texts, apart from the items, which do not change with them."""
    tree = tree_of(registry)
    announce(registry, ServiceName("d", "calc", "quiet"))
    for since in (0, 5):
        total = CallCounts(1200 + 60 * since, since // 5, 3, 12.34)
        announce(registry, statistics=Statistics(since, total))
        idle = CallCounts(1, 0, 0)
        announce(registry, instance="idle", statistics=Statistics(since, idle))
        if not since:
            before = tree.state().items
            assert tree.state().statistics["d.calc.c1"] == {
                "rate": "",
                "lines": ["p95 12.3 ms · 3 running", "1,201 calls · 0 errors"],
                "instances": {"i1": "", "idle": ""},
            }
        clock.now += 5
    assert tree.state().statistics == {
        "d.calc.c1": {
            "rate": "60/s",
            "lines": [
                "p95 12.3 ms · 3 running",
                "1,501 calls · 1 error",
                "0.2/s failing",
            ],
            "instances": {"i1": "60/s", "idle": ""},
        }
    }
    assert tree.state().items["d.calc.c1"] is before["d.calc.c1"]


def test_waiting_calls_of_amqp_fabric(registry: Registry) -> None:
    """Of a service on amqp-fabric, the counted instances and waiting calls are shown."""
    announce(registry, instance="")
    service = registry.get(CALC)
    assert service is not None
    registry.record_counts(service, QueueCounts(consumers=2, waiting=3))
    tree = tree_of(registry)
    assert tree.state().items["d.calc.c1"]["count"] == 2
    assert tree.state().statistics["d.calc.c1"] == {
        "rate": "",
        "lines": ["3 calls waiting"],
        "instances": {},
    }


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (None, ""),
        (0.0, ""),
        (0.01, "<0.1/s"),
        (0.24, "0.2/s"),
        (9.96, "10.0/s"),
        (1250.4, "1,250/s"),
        (2.0**53, "9.0e+15/s"),
    ],
)
def test_rates_are_short(rate: float | None, text: str) -> None:
    """A rate has few characters, however large it is."""
    assert rate_text(rate) == text


# -- the changes


def test_only_changes_are_sent() -> None:
    """The first message has the complete state, the next only changes; then there is none."""
    changes = Changes()
    first = changes.diff({"services": {"a": {"n": 1}, "b": {"n": 1}}}, {"busy_since": None})
    assert first == {
        "reset": True,
        "facts": {"busy_since": None},
        "services": {"put": {"a": {"n": 1}, "b": {"n": 1}}, "drop": []},
    }
    same = {"services": {"b": {"n": 2}, "c": {"n": 1}}, "statistics": {}}
    assert changes.diff(same, {"busy_since": None}) == {
        "services": {"put": {"b": {"n": 2}, "c": {"n": 1}}, "drop": ["a"]}
    }
    assert changes.diff(same, {"busy_since": None}) is None
    assert changes.diff(same, {"busy_since": 5.0}) == {"facts": {"busy_since": 5.0}}
    changes.reset()
    again = changes.diff(same, {"busy_since": 5.0})
    assert again is not None
    assert again["reset"]
    assert set(again["services"]["put"]) == {"b", "c"}


def test_large_changes_are_split() -> None:
    """Items beyond the budget of a message are sent with the next ones."""
    changes = Changes(budget=1000)
    items = {f"k{number}": {"text": "x" * 90} for number in range(50)}
    items["huge"] = {"text": "x" * 5000}
    received: dict[str, dict[str, Any]] = {"services": {}, "statistics": {}}
    count = 0
    while (message := changes.diff({"services": items, "statistics": items}, {})) is not None:
        assert len(json.dumps(message)) < 7000
        for kind, changed in message.items():
            if kind in received:
                assert changed["put"]
                received[kind] |= changed["put"]
        count += 1
    assert received == {"services": items, "statistics": items}
    assert count > 5


# -- the tables


class Letters(TableView):
    """A table of letters, with an action for each."""

    def __init__(self) -> None:
        self.letters = ["a", "b"]
        self.pressed: list[object] = []

    def version(self) -> Hashable:
        return tuple(self.letters)

    def model(self) -> TableModel:
        return TableModel("Letters", [Column("letter")])

    def fill(self, model: TableModel) -> None:
        model.replace((letter, [letter], "") for letter in self.letters)

    def act(self, name: str, value: object) -> str:
        self.pressed.append(value)
        return f"{name} {value}"


async def test_a_table_sends_changes_and_performs_actions() -> None:
    """A table sends the complete state, then changes; an action identifies a row by its id."""
    view = Letters()
    table = PanelTable(view, asyncio.get_running_loop())
    first = table.changes(whole=False)
    assert first is not None
    assert first["add"] == [[0, ["a"], ""], [1, ["b"], ""]]
    assert table.changes(whole=False) is None
    view.letters = ["b", "c"]
    table.refresh()
    second = table.changes(whole=False)
    assert second is not None
    assert (second["drop"], second["add"]) == ([0], [[2, ["c"], ""]])
    again = table.changes(whole=True)
    assert again is not None
    assert [row[1] for row in again["add"]] == [["b"], ["c"]]
    assert await table.act("press", 1, None) == "press b"
    assert await table.act("choose", None, "x") == "choose x"
    with pytest.raises(NotThere, match="no longer exists"):
        await table.act("press", 0, None)
    assert view.pressed == ["b", "x"]


# -- the thread


def not_connected() -> None:
    """Return the connector of a notebook that is not connected."""


def no_streams() -> list[Any]:
    """Return the streams of a notebook without streams."""
    return []


def no_connections() -> list[Any]:
    """Return the connections of a notebook that is not connected."""
    return []


def no_finder() -> Any:
    """Fail, because no form that connects is shown."""
    raise AssertionError


class Pushed:
    """Messages that a watcher pushes, awaited on the loop of the test."""

    def __init__(self) -> None:
        self.messages: list[Mapping[str, Any]] = []
        self.threads: set[str] = set()
        self._loop = asyncio.get_running_loop()
        self._received = asyncio.Event()

    def __call__(self, message: Mapping[str, Any]) -> None:
        self.messages.append(message)
        self.threads.add(threading.current_thread().name)
        self._loop.call_soon_threadsafe(self._received.set)

    async def until(self, found: Callable[[Mapping[str, Any]], object]) -> Mapping[str, Any]:
        async with asyncio.timeout(60):
            while True:
                for message in self.messages:
                    if found(message):
                        return message
                self._received.clear()
                await self._received.wait()


async def test_the_thread_pushes_state_and_results() -> None:
    """Pushes come from the companion thread, which the first request starts."""
    pushed = Pushed()
    watcher = Watcher(
        not_connected, no_streams, no_connections, no_finder, asyncio.get_running_loop(), pushed
    )
    assert "fabric companion" not in thread_names()
    watcher.push_all()
    first = await pushed.until(lambda message: message.get("reset"))
    assert first["facts"] == {
        "connection": None,
        "connections": [],
        "busy_since": None,
        "services": None,
    }
    watcher.call("r1", "d.calc.c1.add", {})
    result = await pushed.until(lambda message: message.get("results"))
    assert result["results"][0]["id"] == "r1"
    assert "no connection" in result["results"][0]["error"]
    watcher.start_demo("r2")
    result = await pushed.until(lambda message: "r2" in str(message.get("results")))
    assert "embedded broker only" in result["results"][0]["error"]
    assert pushed.threads == {"fabric companion"}
    await asyncio.to_thread(watcher.close)
    assert "fabric companion" not in thread_names()
    watcher.push_all()  # does nothing after `close`


async def test_a_result_is_not_lost_with_its_push() -> None:
    """A push that fails, or that the panel has missed, is repeated with its results."""
    pushed = Pushed()
    failing = threading.Event()

    def push(message: Mapping[str, Any]) -> None:
        if message.get("results") and not failing.is_set():
            failing.set()
            raise OSError("the socket is closed")
        pushed(message)

    watcher = Watcher(
        not_connected, no_streams, no_connections, no_finder, asyncio.get_running_loop(), push
    )
    watcher.push_all()
    watcher.call("r1", "d.calc.c1.add", {})
    failed = await pushed.until(lambda message: message.get("results"))
    assert failing.is_set()
    assert failed["reset"]
    watcher.push_all()
    missed = await pushed.until(lambda message: message["number"] > failed["number"])
    assert missed["reset"]
    assert missed["results"] == failed["results"]
    await asyncio.to_thread(watcher.close)


def thread_names() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


async def test_pushes_while_the_loop_is_blocked() -> None:
    """While the notebook's loop is blocked, pushes continue with the time since then."""
    blocked, done = threading.Event(), threading.Event()

    polls = itertools.count(1)

    def block_once() -> None:
        if next(polls) == 2:
            blocked.set()
            done.wait(20)

    pushed = Pushed()
    loop = asyncio.new_event_loop()
    running = threading.Thread(target=loop.run_forever)
    running.start()
    watcher = Watcher(block_once, no_streams, no_connections, no_finder, loop, pushed)
    watcher.push_all()
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
    """A comm that records what is sent."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.handler: Callable[[Any], None] = lambda _: None

    def on_msg(self, handler: Callable[[Any], None]) -> None:
        self.handler = handler

    def send(self, data: dict[str, Any]) -> None:
        self.sent.append(data)

    def request(self, **data: Any) -> dict[str, Any]:
        self.handler({"content": {"data": data}})
        return self.sent[-1]


@pytest.fixture
def operations(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Operations that requests start."""
    calls: list[tuple[Any, ...]] = []
    for name in ("push_all", "call", "describe", "receive_logs", "act", "start_demo"):
        monkeypatch.setattr(Watcher, name, lambda _, *args, name=name: calls.append((name, *args)))
    return calls


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> FakeComm:
    """Open comm for requests."""
    targets: dict[str, Callable[..., None]] = {}
    manager = SimpleNamespace(register_target=targets.__setitem__, register_comm=lambda _: None)
    monkeypatch.setattr(link.comm, "get_comm_manager", lambda: manager)
    monkeypatch.setattr(link.comm, "create_comm", lambda **_: FakeComm())
    shell = cast("Any", SimpleNamespace(kernel=True))
    link.Panel(
        shell, not_connected, no_streams, no_connections, no_finder, cast("Any", None)
    ).open()
    comm = FakeComm()
    targets[link.REQUESTS](comm, {})  # as JupyterLab opens it
    assert comm.sent[0]["protocol"] == link.PROTOCOL
    return comm


def test_requests_reach_the_watcher(requests: FakeComm, operations: list[tuple[Any, ...]]) -> None:
    """Each request is acknowledged at once."""
    assert requests.request(id="1", do="state") == {"id": "1"}
    arguments = {"x": "5", "y": "(1, 'a')", "z": "true"}
    assert requests.request(id="2", do="call", call="c1.add", arguments=arguments) == {"id": "2"}
    requests.request(id="3", do="describe", call="c1.add")
    requests.request(id="4", do="logs")
    requests.request(id="5", do="act", table="streams", name="pause", row=3)
    requests.request(id="5", do="act", table="logs", name="level", value="ERROR")
    requests.request(id="6", do="demo")
    assert operations == [
        ("push_all",),
        ("call", "2", "c1.add", arguments),
        ("describe", "3", "c1.add"),
        ("receive_logs", "4"),
        ("act", "5", "streams", "pause", 3, None),
        ("act", "5", "logs", "level", None, "ERROR"),
        ("start_demo", "6"),
    ]


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ({"do": "fly"}, "too old or too new"),
        ({"do": "call", "call": "c.m", "arguments": [1]}, "up to 50"),
        ({"do": "call", "call": "c" * 1000, "arguments": {}}, "call is not a text"),
        ({"do": "call", "call": None, "arguments": {}}, "call is not a text"),
        ({"do": "act", "table": 5}, "table is not a text"),
        ({"do": "act", "row": "3"}, "row is not the number of a row"),
        ({"do": "act", "value": ["ERROR"]}, "value is not a text"),
    ],
)
def test_malformed_requests(
    requests: FakeComm, operations: list[tuple[Any, ...]], request_: dict[str, Any], error: str
) -> None:
    """A malformed request is answered with an error and starts nothing."""
    answer = requests.request(id="1", **request_)
    assert answer["id"] == "1"
    assert error in answer["error"]
    assert operations == []


def member_at(uri: str, *, embedded: bool = False) -> Any:
    """Return a stand-in for a connected member."""
    return SimpleNamespace(
        state=State.CONNECTED,
        domain="d",
        name=CALC,
        broker="RabbitMQ 4",
        uri=uri,
        embedded=embedded,
    )


def test_the_password_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The password of the connection's URI is masked."""
    monkeypatch.delenv("AMQP_URL", raising=False)
    assert connection(member_at("amqp://a:***@h/")) == {
        "badges": [],
        "domain": "d",
        "name": "calc.c1",
        "broker": "RabbitMQ 4",
        "uri": "amqp://a:***@h/",
        "embedded": False,
        "join": "amqp://a@h/",
    }


@pytest.mark.parametrize(
    ("embedded", "uri", "environment", "join"),
    [
        (False, "amqp://a:***@h/", "", "amqp://a@h/"),
        (False, "amqp://a:***@h/", "amqp://a:secret@h", ""),
        (False, "amqp://a:***@h/v", "amqp://a:secret@h/", "amqp://a@h/v"),
        (False, "amqps://h1,h2/v", "", "amqps://h1,h2/v"),
        (True, "amqp://g:***@127.0.0.1:1/", "", ""),
    ],
)
def test_uri_for_other_notebooks(
    monkeypatch: pytest.MonkeyPatch, embedded: bool, uri: str, environment: str, join: str
) -> None:
    """It has no password, and is empty if %fabric_connect finds the broker without it."""
    monkeypatch.setenv("AMQP_URL", environment)
    assert connection(member_at(uri, embedded=embedded))["join"] == join


def test_closing_an_unused_watcher(caplog: pytest.LogCaptureFixture) -> None:
    """A watcher without requests closes without a thread and without log records."""
    with caplog.at_level(logging.DEBUG):
        Watcher(
            not_connected, no_streams, no_connections, no_finder, cast("Any", None), lambda _: None
        ).close()
    assert caplog.records == []
