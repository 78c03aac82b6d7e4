"""Views: their tables and pages are complete, bounded and escaped."""

from __future__ import annotations

import asyncio
import gc
import json
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pandas as pd
import pytest

from fabric_nb.errors import CallTimeout, FabricError, InvalidArgument, InvalidName
from fabric_nb.fabric.amqp.connection import State
from fabric_nb.fabric.amqp.message import Message
from fabric_nb.fabric.amqp.rejected import RejectedMessages
from fabric_nb.fabric.core.values import valid
from fabric_nb.fabric.data.stream import Stream
from fabric_nb.fabric.discovery.registry import Registry
from fabric_nb.fabric.rpc.call_contents import CallContents
from fabric_nb.fabric.rpc.call_handle import CallHandle
from fabric_nb.fabric.rpc.call_report import CallReport
from fabric_nb.fabric.rpc.history import CallLog, CallRecord
from fabric_nb.fabric.rpc.map_calls import MapOptions
from fabric_nb.fabric.rpc.map_rows import row_source
from fabric_nb.fabric.rpc.mapping import MapHandle, Maps
from fabric_nb.fabric.rpc.methods import MethodStats
from fabric_nb.fabric.rpc.serve_options import ServeOptions
from fabric_nb.fabric.wire.calls import RESULT, Request
from fabric_nb.fabric.wire.codec import decode, encode
from fabric_nb.fabric.wire.keep_alives import Announcement, KeepAlive
from fabric_nb.fabric.wire.logs import LogRecord
from fabric_nb.fabric.wire.names import ServiceName, ServicePattern
from fabric_nb.fabric.wire.statistics import CallCounts, Statistics
from fabric_nb.notebook.pages import Page, Spark
from fabric_nb.notebook.table import Detail, Field, Form, TableModel
from fabric_nb.notebook.table.static import static_page
from fabric_nb.notebook.views.base import TableView, UnavailableTable
from fabric_nb.notebook.views.calls import CallsView
from fabric_nb.notebook.views.card import MAX_ROWS as CARD_ROWS
from fabric_nb.notebook.views.card import ConnectionCard, NoConnection
from fabric_nb.notebook.views.form_values import InvalidField, kind_of, value_text
from fabric_nb.notebook.views.logs import MAX_ROWS as MAX_RECORDS
from fabric_nb.notebook.views.logs import LogView
from fabric_nb.notebook.views.maps import MapView
from fabric_nb.notebook.views.methods import MAX_FORMS, argument_fields, parse_arguments
from fabric_nb.notebook.views.registry import MAX_ROWS, RegistryView
from fabric_nb.notebook.views.running_call import call_page
from fabric_nb.notebook.views.services import Filter
from fabric_nb.notebook.views.serving import AllServingView, ServingView
from fabric_nb.notebook.views.statistics import statistics_text
from fabric_nb.notebook.views.stream import CHART_ROWS, COLUMNS, ROWS, StreamView
from fabric_nb.notebook.views.streams import StreamsView
from tests.support.pages import CONTROLS, HOSTILE, MARKUP, PageReader, read
from tests.support.streams import UnconnectedStream

MINE = ServiceName("d", "notebook", "mynb")
NOW = 1_700_000_000.0


class Clock:
    """Clock that only the test advances."""

    now = 100.0


def fabric(**changes: Any) -> Any:
    """Return a stand-in for a connector, with the attributes that views read."""
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
        "rpc": Described(),
        "servers": (),
        "rejected": RejectedMessages(),
        "logs": SimpleNamespace(records=[]),
    }
    return SimpleNamespace(**{**state, **changes})


def announce(
    member: Any,
    id_: str,
    *,
    domain: str = "d",
    statistics: Statistics | None = None,
    **fields: Any,
) -> ServiceName:
    announcement = Announcement(**{"instance": "i", "interval": 5.0, **fields})
    name = ServiceName(domain, "calc", id_)
    member.registry.receive(KeepAlive(name, announcement, statistics=statistics))
    return name


class Rendered:
    """A view and its table, rendered without a browser."""

    def __init__(self, view: TableView) -> None:
        self.view = view
        self.model: TableModel = view.model()
        view.fill(self.model)

    def again(self) -> Rendered:
        """Fill the table again."""
        self.view.fill(self.model)
        return self

    @property
    def page(self) -> Page:
        return static_page(self.model, NOW)

    @property
    def reader(self) -> PageReader:
        """The rendered page, after checking that nothing in it is executable."""
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
    """The card has a badge for the state of the connection."""
    assert badge in read(ConnectionCard(fabric(state=state)).page()).texts


def test_card() -> None:
    """The card shows the broker, the domain, this notebook and the other services."""
    member = fabric()
    announce(member, "c1", version="1.0", methods={"f": "()"})
    member.registry.receive(KeepAlive(MINE, Announcement(instance="me")))
    reader = read(ConnectionCard(member, ("a note",)).page())
    assert reader.cells[1:5] == [
        ["broker", "amqp://ann:***@host/  RabbitMQ 4.1"],
        ["domain", "d"],
        ["this notebook", "notebook.mynb"],
        ["other services", "1"],
    ]
    assert reader.cells[6:] == [["calc", "c1", "up", "1.0", "1", "now", "f"]]
    assert "a note" in reader.texts


def test_card_of_a_large_domain() -> None:
    """In a large domain the card shows the first services and the command to see all."""
    member = fabric()
    for number in range(CARD_ROWS + 5):
        announce(member, f"c{number:02}")
    reader = read(ConnectionCard(member).page())
    assert len(reader.cells) == 6 + CARD_ROWS
    assert "… and 5 more: %fabric_services" in reader.texts


def test_version_of_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new or late service, a lost connection, and time in an outage change the card."""
    member = fabric()
    timer = SimpleNamespace(monotonic=lambda: member.clock.now)
    monkeypatch.setattr("fabric_nb.notebook.views.card.time", timer)
    card = ConnectionCard(member)
    before = card.version()
    assert card.version() == before
    announce(member, "c1")
    announced = card.version()
    assert announced != before
    member.clock.now += 10
    late = card.version()
    assert late != announced
    member.state = State.RECONNECTING
    member.registry.connection_lost()
    lost = card.version()
    assert lost != late
    stopped = member.registry.now
    member.clock.now += 10
    assert member.registry.now == stopped
    assert card.version() != lost, "a stored card would have the time at which the outage began"


def test_without_a_connection() -> None:
    """Without a connection a page gives the command; an unavailable table gives the reason."""
    assert any("%fabric_connect" in text for text in read(NoConnection().page()).texts)
    assert (
        Rendered(UnavailableTable("Logs", f"Refused: {HOSTILE}"))
        .texts[1]
        .startswith("Refused: <script>")
    )


# -- the registry


def test_registry_view() -> None:
    """The registry has a row per service: state, versions, instances, last keep-alive."""
    member = fabric()
    announce(member, "a", instance="1", version="1.0", methods={f"m{n}": "()" for n in range(10)})
    announce(member, "a", instance="2", version="2.0")
    announce(member, "b", busy_since=1.0, methods={"health_check": "()", "run": "(x)"})
    member.registry.receive(KeepAlive(ServiceName("e", "seed", "s"), None))
    member.clock.now += 4
    shown = Rendered(RegistryView(member))
    assert shown.cells[0] == [
        *("domain", "type", "id", "state", "version", "instances", "last seen", "methods")
    ]
    assert [[*row[:6], row[7]] for row in shown.cells[1:]] == [
        [
            "d",
            "calc",
            "a",
            "up",
            "1.0 + 2.0",
            "2",
            "m0, m1, m2, m3, m4, m5, m6, m7, … 2 more",
        ],
        ["d", "calc", "b", "busy", "", "1", "run"],
        ["e", "seed", "s", "up", "", "1+", ""],
    ]
    assert shown.texts[:4] == ["Services", "all domains", "2 up", "1 busy"]
    assert Rendered(RegistryView(member, Filter(domain="e"))).cells[1][2] == "s"


def test_ages_count_up_in_the_browser() -> None:
    """The table contains the time of the last keep-alive, so that ages need no updates."""
    member = fabric()
    announce(member, "a")
    member.clock.now += 4
    shown = Rendered(RegistryView(member))
    (row,) = shown.model.rows
    shown.model.diff()
    member.clock.now += 1
    assert shown.again().model.diff() is None
    announce(member, "a")
    shown.again()
    assert cast("float", shown.model.rows[0].cells[6]) - cast("float", row.cells[6]) == 0
    assert shown.model.diff() is not None


def test_version_of_the_registry_view() -> None:
    """Arrival, departure, delay and a changed announcement change it; a keep-alive does not."""
    member = fabric()
    view = RegistryView(member)
    versions = [view.version()]
    announce(member, "a")
    versions.append(view.version())
    announce(member, "a")
    assert view.version() == versions[-1]
    announce(member, "a", version="2")
    versions.append(view.version())
    member.registry.receive(
        KeepAlive(ServiceName("d", "calc", "a"), Announcement(instance="i"), True)
    )
    versions.append(view.version())
    member.clock.now += 1
    versions.append(view.version())
    assert len(set(versions)) == len(versions)


def counted(since: float, calls: int, errors: int = 0, **methods: int) -> Statistics:
    """Return statistics with a call of 12.5 ms running."""
    by_name = {name: CallCounts(calls, 0, 0, 8.0) for name, calls in methods.items()}
    return Statistics(since, CallCounts(calls, errors, 1, 12.5), by_name, more=len(by_name))


def test_statistics_of_services() -> None:
    """With statistics a row has totals, rates, duration, running calls and a line of five minutes.

    Those of services that announce none are empty.
    """
    member = fabric()
    member.registry.receive(KeepAlive(ServiceName("e", "seed", "s"), None))
    for since in (0, 5):
        for instance in ("1", "2"):
            announce(
                member, "a", instance=instance, statistics=counted(since, 1000 + 20 * since, since)
            )
        announce(member, "b", statistics=counted(since, 7))
        member.clock.now += 5
    shown = Rendered(RegistryView(member, statistics=True))
    assert shown.cells[0] == [
        *("service", "state", "instances", "calls/s", "last 5 min", "errors/s", "p95 ms"),
        *("running", "calls", "errors", "waiting"),
    ]
    assert shown.cells[1:] == [
        ["calc.a", "up", "2", "40.00", "", "2.00", "12.5", "2", "2,200", "10", ""],
        ["calc.b", "up", "1", "0.00", "", "0.00", "12.5", "1", "7", "0", ""],
        ["e.seed.s", "late", "1+", "", "", "", "", "", "", "", ""],
    ]
    sparks = [cast("Spark", row.cells[4]) for row in shown.model.rows]
    assert [spark.peak for spark in sparks] == [40.0, 0.0, None]
    before = shown.model.rows[0].cells
    assert shown.again().model.rows[0].cells == before
    member.clock.now += 5
    assert shown.again().model.rows[0].cells != before


async def test_a_row_opens_to_its_instances() -> None:
    """An opened row has the statistics of each instance, and of the methods with calls."""
    described = Described({"f": {"signature": "(x)", "doc": "Doc."}})
    member = fabric(rpc=described)
    name = announce(member, "c1", instance="7f3a", version="1.0", statistics=counted(0, 10, 1, f=9))
    announce(member, "c1", instance="8888", statistics=counted(0, 20, g=5, f=3))
    announce(member, "c1", instance="quiet")
    shown = Rendered(RegistryView(member, statistics=True))
    assert "7f3a" not in shown.detail(name).text
    await opened(shown, name)
    lines = [line.split() for line in shown.detail(name).text.splitlines()]
    assert lines[0][:3] == ["instance", "state", "version"]
    assert lines[1] == ["7f3a", "up", "1.0", "10", "1", "1", "12.50"]
    assert lines[2] == ["8888", "up", "20", "0", "1", "12.50"]
    assert lines[3] == ["quiet", "up"]
    assert lines[5] == ["method", "calls", "errors", "running", "p95", "ms"]
    assert lines[6:8] == [["f", "12", "0", "0", "8.00"], ["g", "5", "0", "0", "8.00"]]
    assert lines[8] == ["…", "and", "2", "more", "methods", "with", "calls."]
    announce(member, "c1", instance="7f3a", version="1.0", statistics=counted(5, 510, 1))
    assert "100.00" in shown.again().detail(name).text


def test_statistics_of_many_instances_are_bounded() -> None:
    """Of many instances and methods, the first are listed and the others are counted."""
    member = fabric()
    methods = {f"m{n}": n for n in range(100)}
    for number in range(500):
        name = announce(
            member,
            "c1",
            instance=f"i{number}",
            version=HOSTILE,
            statistics=counted(0, 1, **methods),
        )
    service = member.registry.get(name)
    text = statistics_text(service, member.registry.now)
    assert len(text.splitlines()) < 60
    assert "… and 480 more instances." in text
    assert "… and 170 more methods with calls." in text
    assert not set(text) & (set(CONTROLS) - {"\n"})


def test_registry_view_without_services() -> None:
    """Gone services are shown only on request, and an empty registry has a placeholder."""
    member = fabric()
    announce(member, "a", methods={"f": HOSTILE})
    member.clock.now += 200
    assert any("No service has announced" in text for text in Rendered(RegistryView(member)).texts)
    gone = Rendered(RegistryView(member, Filter(gone=True)))
    assert gone.cells[1][3:6] == ["gone", "", "0"]


def test_registry_view_of_the_dashboard() -> None:
    """In the dashboard, which has no card, the registry shows the connection too."""
    texts = Rendered(RegistryView(fabric(), show_connection=True)).texts
    assert texts[1:4] == ["amqp://ann:***@host/", "domain d", "this notebook: notebook.mynb"]


def test_registry_view_of_many_services() -> None:
    """A large registry is truncated with a note, and its encoding stays small."""
    member = fabric()
    for number in range(MAX_ROWS + 950):
        announce(
            member, f"c{number}", methods={f"method_{n}": "()" for n in range(50)}, version=HOSTILE
        )
    member.registry.dropped = 7
    member.rejected.counts["keep-alive"] = 3
    shown = Rendered(RegistryView(member))
    assert len(shown.model) == MAX_ROWS
    assert len(orjson.dumps(shown.model.diff())) < 1_500_000
    assert any("and 1,930 more" in text for text in shown.texts)
    assert any("The registry is full (" in text for text in shown.texts)
    assert any("7 services dropped." in text for text in shown.texts)
    assert "3 keep-alives could not be read." in shown.texts
    assert len(shown.page.html()) < 100_000


class Described:
    """A connector that describes services and records calls."""

    def __init__(self, description: Any = None, methods: Mapping[str, str] | None = None) -> None:
        self.description = description
        self.methods = methods or {}
        self.requests: list[ServicePattern] = []
        self.called: list[tuple[ServicePattern, str, Mapping[str, Any]]] = []

    def known(self, pattern: ServicePattern) -> Any:
        return SimpleNamespace(instances={}, methods=self.methods)

    async def describe(self, pattern: ServicePattern) -> Any:
        self.requests.append(pattern)
        if isinstance(self.description, Exception):
            raise self.description
        return self.description

    def start(self, pattern: ServicePattern, method: str, kwargs: Mapping[str, Any]) -> CallHandle:
        self.called.append((pattern, method, kwargs))

        async def result() -> int:
            return sum(kwargs.values())

        return CallHandle(f"{pattern}.{method}", result())


def registry_view(description: Any, **fields: Any) -> tuple[Rendered, ServiceName, Described]:
    described = Described(description, fields.get("methods"))
    member = fabric(rpc=described)
    name = announce(member, "c1", **fields)
    return Rendered(RegistryView(member)), name, described


async def opened(shown: Rendered, name: ServiceName) -> Sequence[Form]:
    """Open the row of a service and return its forms."""
    before = shown.view.version()
    shown.view.opened(name)
    shown.view.opened(name)
    async with asyncio.timeout(60):
        while shown.view.version() == before:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0)
    return shown.again().detail(name).forms


async def test_instances_that_may_be_drained() -> None:
    """A row opens to a form for each instance that may be drained, which calls that instance."""
    shown, name, described = registry_view({}, instance="7f3a", drains=True)
    announce(shown.view.fabric, "c1", instance="other")
    drain, *others = await opened(shown, name)
    assert (drain.title, drain.submit, drain.fields) == ("instance 7f3a", "Drain", ())
    assert not any("other" in form.title for form in others)
    shown.view.act(drain.name, {})
    ((pattern, method, kwargs),) = described.called
    assert (pattern.instance, method, kwargs) == ("7f3a", "_drain", {})


async def test_a_row_opens_to_signatures_and_docs() -> None:
    """Signatures are shown at once; opening a row requests the docs, once, and adds forms."""
    description = {"add": {"signature": "(x: int, y: int = 2) -> int", "doc": "Adds."}}
    shown, name, described = registry_view(description, methods={"add": "(x, y=2)"})
    assert shown.detail(name) == Detail("add(x, y=2)")
    (form,) = await opened(shown, name)
    assert (form.title, form.text) == ("add(x: int, y: int = 2) -> int", "Adds.")
    assert form.fields == [Field("x", "int", required=True), Field("y", "int = 2")]
    assert form.command == "%fabric_call calc.c1.add"
    shown.view.opened(name)
    assert described.requests == [ServicePattern("d", "calc", "c1")]
    answer = await cast("Any", shown.view.act(form.name, {"x": "5", "y": "7"}))
    assert answer.startswith("12\n")
    assert described.called == [(ServicePattern("d", "calc", "c1"), "add", {"x": 5, "y": 7})]
    with pytest.raises(InvalidArgument, match="y is not a value"):
        shown.view.act(form.name, {"y": "__import__('os')"})


async def test_a_service_that_describes_nothing() -> None:
    """Methods of amqp-fabric that have replied can be called with any arguments."""
    shown, name, described = registry_view({}, methods={"work": ""})
    form, other = await opened(shown, name)
    assert [field.name for field in form.fields] == ["**"]
    answer = await cast("Any", shown.view.act(form.name, {"**": '{"a": 1, "b": 2}'}))
    assert answer.startswith("3\n")
    # Any other method can be called by its name.
    texts = {other.fields[0].name: "play", "**": '{"n": 5}'}
    await cast("Any", shown.view.act(other.name, texts))
    ((_, *worked), (_, *played)) = described.called
    assert (worked, played) == (["work", {"a": 1, "b": 2}], ["play", {"n": 5}])
    with pytest.raises(InvalidName):
        shown.view.act(other.name, {other.fields[0].name: "no name"})


@pytest.mark.parametrize(
    ("annotation", "texts"),
    [
        ("str", {"tea": "tea", "5": "5", '"5"': "5", "[1": "[1", "None": "None"}),
        ("str | None", {"tea": "tea", "None": None, "null": None}),
        ("int", {"5": 5, "-1": -1}),
        ("float | None", {"2.5": 2.5, "None": None}),
        ("bool", {"true": True, "False": False}),
        ("Literal['EUR', 'USD']", {"EUR": "EUR", '"USD"': "USD"}),
        ("typing.Optional[typing.Literal[1, 'a']]", {"1": 1, "a": "a", "None": None}),
        ("datetime.date", {"2026-11-30": "2026-11-30"}),
        ("int | str", {"5": 5, "tea": "tea"}),
        ("list[int]", {"[1, 2]": [1, 2]}),
        ("list[str]", {"tea, milk": ["tea", "milk"], '["a, b"]': ["a, b"], "5": ["5"]}),
        ("'str'", {"tea": "tea"}),
        ("str[", {"tea": "tea", "5": 5}),
    ],
)
def test_texts_mean_what_the_annotation_says(annotation: str, texts: dict[str, Any]) -> None:
    """Text needs no quotes, numbers are numbers, and choices are taken by their texts."""
    signature = f"(x: {annotation})"
    for text, value in texts.items():
        parsed = parse_arguments({"x": text}, signature)["x"]
        assert (parsed, type(parsed)) == (value, type(value))


@pytest.mark.parametrize(
    ("annotation", "text", "error"),
    [
        ("int", "tea", "x is a number"),
        ("float", "true", "x is a number"),
        ("int", '"5"', "x is a number"),
        ("bool", "1", "x is one of True, False"),
        ("Literal['EUR', 'USD']", "GBP", "x is one of EUR, USD"),
        ("list[int]", "tea", "x is not a value"),
        ("list[str]", "[tea", "x is a list"),
    ],
)
def test_texts_that_the_annotation_excludes(annotation: str, text: str, error: str) -> None:
    """A text that means no value of the type is rejected, with what to write instead."""
    with pytest.raises(InvalidField, match=error) as caught:
        parse_arguments({"x": text}, f"(x: {annotation})")
    assert caught.value.field == "x"


TEXTS = ["tea", "5", "", " x", '"a"', "None", "null", "true", "[", "a\nb", "ß"]


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        *((text, annotation) for text in TEXTS for annotation in ("", "str", "str | None")),
        *((value, "") for value in (5, 2.5, True, None, [1, "a"], {"a": None})),
        *((None, annotation) for annotation in ("str | None", "bool | None", "int | None")),
    ],
)
def test_a_value_in_a_form_means_itself(value: object, annotation: str) -> None:
    """The text with which a form is filled means the value that it was made from."""
    signature = f"(x: {annotation})" if annotation else ""
    assert parse_arguments({"x": value_text(value, kind_of(annotation))}, signature) == {"x": value}


def test_fields_of_a_form() -> None:
    """Required arguments come first; a choice lists its values, with the default as hint."""
    days = argument_fields("(day: date | None, at: time, tags: list[str], since: datetime)")
    assert [field.kind for field in days] == ["date", "time", "texts", "text"]
    fields = argument_fields("(*, a: bool = False, b: Literal['x', 'y'] = 'x', c: str, d=3)")
    assert fields == [
        Field("c", "str", required=True, kind="text"),
        Field("a", "= False", choices=("True", "False")),
        Field("b", "= 'x'", kind="text", choices=("x", "y")),
        Field("d", "= 3"),
    ]


async def test_a_description_that_fails() -> None:
    """The error is shown above the methods, which are known from keep-alives."""
    shown, name, _ = registry_view(CallTimeout("No answer."), methods={"add": "(x)"})
    (form,) = await opened(shown, name)
    assert form.title == "add(x)"
    assert shown.detail(name).text == "No documentation available: No answer."


async def test_a_hostile_description() -> None:
    """Thousands of methods with megabytes of docs are truncated, and markup is escaped."""
    method = {"signature": f"(x={HOSTILE})", "doc": HOSTILE * 100}
    shown, name, _ = registry_view({f"m{n}": method for n in range(5000)})
    forms = await opened(shown, name)
    assert len(forms) == MAX_FORMS
    assert [field.name for field in forms[0].fields] == ["**"]
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
        ({"x": "tea", "y": "green tea"}, {"x": "tea", "y": "green tea"}),
        ({"x": "1", "**": '{"y": 2}'}, {"x": 1, "y": 2}),
        ({}, {}),
    ],
)
def test_arguments_are_json_or_python_literals(
    written: dict[str, str], values: dict[str, Any]
) -> None:
    """If no types are known, texts are JSON, Python literals, or words as they are."""
    assert parse_arguments(written) == values


@pytest.mark.parametrize(
    ("written", "error"),
    [
        ({"x": "[hello"}, "x is not a value"),
        ({"x": "f(1)"}, "x is not a value"),
        ({"x": "__import__('os').system('x')"}, "x is not a value"),
        ({"x": "[" * 100_000}, "x is not a value"),
        ({"x": "9" * 100_001}, "x is longer than 100,000 characters"),
        ({"x": 5}, "x is longer"),
        ({"**": "[1]"}, "by their names"),
        ({"**": "{1: 2}"}, "by their names"),
        ({"x": "1", "**": '{"x": 2}'}, "x is given twice"),
    ],
)
def test_texts_that_are_no_literals(written: dict[str, Any], error: str) -> None:
    """Other texts are rejected with an error that names the field, and never evaluated."""
    with pytest.raises(InvalidArgument, match=error):
        parse_arguments(written)


# -- maps


async def ended_map(rows: int, text: str = "no") -> MapHandle:
    """Return a map that has ended, of which every row with an odd number has failed."""

    class Client:
        async def call(self, _: object, __: object, kwargs: Mapping[str, Any], **___: Any) -> Any:
            if kwargs["n"] % 2:
                raise ValueError(text)
            return kwargs["n"]

    client: Any = Client()
    source = row_source([{"n": n, "text": text} for n in range(rows)], {})
    handle = Maps(client).start(ServicePattern("d", "calc", "c1"), "half", source, MapOptions())
    await handle.ended()
    return handle


async def test_map_view() -> None:
    """The head of a map has its state and progress; failed rows open to their errors."""
    view = MapView(handle := await ended_map(5), fabric())
    shown = Rendered(view)
    assert shown.page.text().startswith("Map of d.calc.c1.half · done · 2 failed · 5 of 5 rows · ")
    assert shown.model.head.progress == 1
    assert shown.cells[1:] == [
        ["1", "n=1, text='no'", "ValueError: no"],
        ["3", "n=3, text='no'", "ValueError: no"],
    ]
    assert shown.detail(3).text == "ValueError: no"
    version = view.version()
    handle.retry_failed()
    assert view.version() != version
    assert Rendered(MapView(await ended_map(1))).cells == []


async def test_map_view_is_bounded_and_escaped() -> None:
    """The first hundred failed rows are shown, and text of rows and errors is inert."""
    shown = Rendered(MapView(await ended_map(300, HOSTILE)))
    assert shown.cells[1][0] == "1"
    assert len(shown.model) == 100
    assert shown.model.cut == 50


async def test_map_view_keeps_no_results() -> None:
    """The view of an ended map does not keep its results in memory, and keeps its last state."""
    view = MapView(handle := await ended_map(5))
    shown = Rendered(view)
    version = view.version()
    view.fill(shown.model)
    ended = weakref.ref(handle)
    del handle
    gc.collect()
    assert ended() is None
    assert view.version() == version
    assert shown.again().model.head.progress == 1


# -- calls


def made(calls: CallLog, method: str, outcome: str = "ok", **more: Any) -> None:
    record = CallRecord(NOW, "made", "d.calc.c1", method, 12.34, cast("Any", outcome), **more)
    calls.add(record)


def test_calls_view() -> None:
    """Calls are shown newest last, with time, direction, method, duration and outcome."""
    member = fabric()
    shown = Rendered(CallsView(member))
    assert shown.texts[-1] == "No call was made or served yet: %fabric_call makes one."
    before = shown.view.version()
    made(member.calls, "add")
    made(member.calls, "add", "failed", error=f"ValueError: {HOSTILE}\nmore", traceback=HOSTILE)
    made(member.calls, "slow", "timeout", error="CallTimeout: no answer\nwithin 1 s")
    made(member.calls, "talk", output="one\ntwo", call="5f1c09aa")
    record = member.calls.record_served("e.app.mine", "f", 0.5, KeyError("x"), "Traceback ...")
    member.calls.keep_failed(record, b"{}")
    assert shown.view.version() != before
    shown.again()
    assert [row[1:6] for row in shown.cells[1:]] == [
        ["made", "calc.c1", "add", "12.3", "ok"],
        ["made", "calc.c1", "add", "12.3", "failed"],
        ["made", "calc.c1", "slow", "12.3", "timeout"],
        ["made", "calc.c1", "talk", "12.3", "ok"],
        ["served", "e.app.mine", "f", "500.0", "failed"],
    ]
    assert shown.cells[4][8] == "5f1c09aa"
    assert {"4 made", "1 served", "3 failed"} <= set(shown.texts)
    assert "%fabric_rerun runs the last failed call again." in shown.texts
    details = [row.detail.text for row in shown.model.rows]
    timeout, output = "CallTimeout: no answer\nwithin 1 s", "Output:\none\ntwo"
    assert details == ["", valid(HOSTILE), timeout, output, "Traceback ..."]
    _ = shown.reader


def test_calls_are_chosen() -> None:
    """The table can be limited to made, served or failed calls; other choices are rejected."""
    member = fabric()
    made(member.calls, "add")
    made(member.calls, "add", "cancelled")
    member.calls.record_served("d.app.mine", "f", 0.5)
    shown = Rendered(CallsView(member, "failed"))
    assert [row[5] for row in shown.cells[1:]] == ["cancelled"]
    for which, count in (("made", 2), ("served", 1), ("all", 3)):
        shown.view.act("which", which)
        assert len(shown.again().model) == count
    for wrong in (("which", "none"), ("which", None), ("other", "made")):
        with pytest.raises(LookupError):
            shown.view.act(*wrong)


def test_calls_view_is_incremental() -> None:
    """Only new calls are sent; those not kept any more are removed and counted."""
    member = fabric()
    shown = Rendered(CallsView(member))
    shown.model.diff()
    made(member.calls, "one")
    delta = shown.again().model.diff()
    assert delta is not None
    assert len(delta["add"]) == 1
    for _ in range(2500):
        made(member.calls, "many")
    shown.again()
    # The newest, some older ones of the same method, and that of another method.
    assert len(shown.model) == 1000 + 20 + 1
    assert next(iter(shown.model.keys)) == 1
    assert "1,480 older dropped" in shown.texts


def sent_call(calls: CallLog, arguments: dict[str, Any], result: Any) -> CallRecord:
    """Add a call with its contents, as if it was made."""
    contents = CallContents()
    contents.request = Request.of(arguments)
    contents.reply = Message(encode(result)[0], type=RESULT)
    made(calls, "quote", contents=contents)
    return calls[-1]


def test_a_call_opens_to_its_contents() -> None:
    """A row opens to arguments and result, secrets masked, and to a form that calls again."""
    member = fabric()
    shown = Rendered(CallsView(member))
    record = sent_call(member.calls, {"sku": "tea", "apiKey": "s3cret", "n": 2}, {"token": "t0p"})
    assert shown.again().model.rows[0].detail.text == "arguments: 37 bytes · result: 15 bytes"
    assert not any("37 bytes" in text for text in shown.texts)  # it is not saved
    shown.view.opened(record.number)
    detail = shown.again().model.rows[0].detail
    assert any("sku = 'tea'" in text for text in shown.texts)
    assert "  sku = 'tea'\n  apiKey = '***'\n  n = 2\nResult:\n  {'token': '***'}" in detail.text
    form, save = detail.forms
    assert (form.name, form.submit) == ("calc.c1.quote", "Call")
    assert (save.name, save.fields[0].value) == ("save 1", "quote-1.json")
    assert form.fields == [
        Field("sku", value='"tea"'),
        Field("apiKey", "secret: enter it again", required=True),
        Field("n", value="2"),
    ]
    assert "s3cret" not in repr(shown.model.whole())
    assert "t0p" not in repr(shown.model.whole())
    for number in range(30):
        shown.view.opened(sent_call(member.calls, {"n": number}, None).number)
    assert "All of it: fabric.calls[31].arguments and .result" in (
        shown.again().model.rows[-1].detail.text
    )


@pytest.mark.parametrize(
    "arguments",
    [{"frame": pd.DataFrame({"x": [1]})}, {"text": "x" * 2000}, {"login": {"password": "x"}}],
    ids=["table", "long", "nested secret"],
)
def test_calls_that_no_form_can_repeat(arguments: dict[str, Any]) -> None:
    """If an argument cannot be written in a form, there is no form, and the text stays short."""
    member = fabric()
    shown = Rendered(CallsView(member))
    shown.view.opened(sent_call(member.calls, arguments, HOSTILE).number)
    detail = shown.again().model.rows[0].detail
    assert [form.title for form in detail.forms] == ["Save the result"]
    assert "fabric.calls[1].arguments" in detail.text
    assert len(detail.text) < 500


def test_a_failed_call_opens_to_what_its_owner_needs() -> None:
    """The error is first, then service, instance, call, time, output and log; traceback last."""
    member = fabric()
    member.logs.records = [
        LogRecord(NOW, "WARNING", "calc", "c1", text, call=call)
        for call, text in [("5f1c09aa", "stock is low"), ("other", "hello"), ("", "nothing")]
    ]
    shown = Rendered(CallsView(member))
    made(
        member.calls,
        "quote",
        "failed",
        error="KeyError: 'beer'",
        traceback="Traceback (most recent call last):\n  here",
        output="looking",
        call="5f1c09aa",
        instance="7f3a",
    )
    shown.view.opened(1)
    text = shown.again().model.rows[0].detail.text
    parts = [
        "KeyError: 'beer'\n",
        "For the owner of the service:\n",
        "service   d.calc.c1\n",
        "method    quote\n",
        "instance  7f3a\n",
        "call      5f1c09aa\n",
        "after 12.3 ms\n",
        "Output:\nlooking\n",
        "Log:\n  WARNING  c1  stock is low\n",
        "Traceback (most recent call last):",
    ]
    places = [text.find(part) for part in parts]
    assert -1 not in places, text
    assert places == sorted(places)
    assert "hello" not in text


async def test_a_result_is_saved(tmp_path: Path) -> None:
    """A result is saved as JSON, a DataFrame also as CSV; a file that exists is not replaced."""
    member = fabric()
    view = CallsView(member)
    sent_call(member.calls, {}, {"price": 9.5, "name": "Ä"})

    async def save(number: int, name: str) -> str:
        answer = view.act(f"save {number}", {"file": str(tmp_path / name)})
        assert answer is not None
        return str(await answer)

    assert await save(1, "price.json") == f"Saved {tmp_path}/price.json, 32 bytes."
    assert json.loads((tmp_path / "price.json").read_text("utf-8"))["name"] == "Ä"
    for number, name, error in (
        (1, "price.json", "exists: enter another name"),
        (1, "price.csv", "saved as .json: 'price.csv' ends with .csv"),
        (1, "price", "ends with none of them"),
        (1, "nowhere/price.json", "nowhere/price.json cannot be written"),
        (1, "", "ends with none of them"),
        (7, "seven.json", "no call 7"),
    ):
        with pytest.raises(FabricError, match=error):
            await save(number, name)
    assert names_in(tmp_path) == ["price.json"]


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


# -- serving


def server(**changes: Any) -> Any:
    state: dict[str, Any] = {
        "name": ServiceName("d", "analytics", "a1"),
        "options": ServeOptions(version="1.2"),
        "closed": False,
        "changes": 0,
        "stats": {"f": MethodStats(), "health_check": MethodStats()},
        "signatures": {"f": "(x: int)"},
        "access": SimpleNamespace(users=None),
    }
    return SimpleNamespace(**{**state, **changes})


def test_serving_view() -> None:
    """A service is shown with a row per method, with counters and durations."""
    mine = server()
    view = ServingView(fabric(), mine)
    before = view.version()
    mine.stats["f"].record(0.002, None)
    mine.stats["f"].record(0.004, ValueError(HOSTILE))
    mine.stats["f"].record(0.003, None, cancelled=True)
    mine.stats["f"].running = 1
    assert view.version() != before
    shown = Rendered(view)
    assert shown.texts[:4] == ["analytics.a1", "serving", "in d", "version 1.2"]
    [_, row] = shown.cells
    assert row[:7] == ["f(x: int)", "3", "1", "1", "1", "3.0", "4.0"]
    assert row[7].startswith("ValueError: <script>")
    mine.closed = True
    assert "stopped" in shown.again().texts


def test_a_method_opens_to_its_last_failures() -> None:
    """The row of a method opens to its last failures, with arguments and tracebacks."""
    member = fabric()
    shown = Rendered(ServingView(member, server()))
    deep = "[" * 1000 + "]" * 1000

    def fail(service: str, **kwargs: Any) -> None:
        record = member.calls.record_served(service, "f", 0.1, ValueError(HOSTILE), HOSTILE)
        request = json.dumps(kwargs).replace('"deep"', deep)
        member.calls.keep_failed(record, request.encode())

    for number in range(25):
        fail("d.analytics.a1", x=number, big="y" * 10_000, z="deep", html=MARKUP)
    fail("d.analytics.other", x=26)
    detail = shown.again().detail("f").text
    assert detail.startswith("Last failure: f(x=24, big='yyy")
    assert "\nFailure before: f(x=23, " in detail
    assert "x=21" not in detail
    assert any(text.startswith("Last failure: f(x=24, big='yyy") for text in shown.texts)
    assert len(shown.page.html()) < 20_000
    fail("d.analytics.a1", x="y" * 1_000_000)
    assert shown.again().detail("f").text.startswith("Last failure: f(… 1.0 MB)")


def test_everything_that_is_served() -> None:
    """The dashboard has the methods of all services in one table, with their failures."""
    member = fabric()
    shown = Rendered(AllServingView(member))
    assert any("%%fabric_serve" in text for text in shown.texts)
    member.servers = (server(), server(name=ServiceName("d", "app", "b")))
    before = shown.view.version()
    member.servers[1].stats["f"].record(0.1, ValueError("no"))
    member.servers[1].changes += 1
    assert shown.view.version() != before
    record = member.calls.record_served("d.app.b", "f", 0.1, ValueError("no"), "Traceback")
    member.calls.keep_failed(record, b'{"x": 1}')
    shown.again()
    assert [row[:4] for row in shown.cells[1:]] == [
        ["analytics.a1", "f(x: int)", "0", "0"],
        ["app.b", "f(x: int)", "1", "1"],
    ]
    assert shown.detail((member.servers[1].name, "f")).text == "Last failure: f(x=1)\nTraceback"
    assert not shown.detail((member.servers[0].name, "f"))


def test_serving_view_shows_what_was_printed() -> None:
    """The last lines that served functions printed are shown."""
    view = ServingView(fabric(), server())
    shown = Rendered(view)
    before = view.version()
    for number in range(10_000):
        view.append_output(f"{number} {MARKUP}\n")
    assert view.version() != before
    shown.again()
    assert f"9999 {MARKUP}" in shown.page.text()
    assert "\n100 " not in shown.page.text()
    assert len(shown.page.html()) < 20_000
    assert len(orjson.dumps(shown.model.diff())) < 10_000
    read(shown.page)


# -- streams


def received(rows: Sequence[dict[str, Any]] = (), **headers: Any) -> UnconnectedStream:
    """Return a stream that received these rows just now, on a clock that stands still."""
    stream = UnconnectedStream(headers, lambda: NOW, max_rows=1000)
    stream.add_rows(rows)
    return stream


def stream_view(stream: Stream, **changes: Any) -> Rendered:
    return Rendered(StreamView(fabric(**changes), stream))


def test_stream_view() -> None:
    """A stream is shown with its counters, its last rows and a chart of its first measure."""
    rows = [{"s": "a", "n": n, "x": n / 3 if n % 2 else None, "l": [n]} for n in range(150)]
    shown = stream_view(received(rows, kind="T"))
    assert shown.texts[:4] == ["Stream kind=T", "open", "150 rows", "30.0 rows/s"]
    assert shown.cells[0] == ["s", "n", "x", "l"]
    assert shown.cells[-1] == ["a", "149", "49.6667", "[149]"]
    assert len(shown.model) == ROWS
    assert "… and 130 older rows." in shown.texts
    assert "x, last 150 rows  " in shown.page.text()


def test_stream_view_is_incremental() -> None:
    """Only new rows are sent, and old rows are dropped."""
    stream = received([{"n": n} for n in range(ROWS)])
    shown = stream_view(stream)
    shown.model.diff()
    stream.add_rows([{"n": n} for n in range(3)])
    delta = shown.again().model.diff()
    assert delta is not None
    assert [row[1] for row in delta["add"]] == [[0], [1], [2]]
    assert len(delta["drop"]) == 3
    stream.add_rows([{"n": 0, "other": 1}])
    assert shown.again().cells[0] == ["n", "other"]
    assert len(shown.model) == ROWS


async def test_column_of_the_chart() -> None:
    """Any numeric column can be chosen; the first measure replaces one that no longer exists."""
    stream = received([{"s": "a", "n": n, "y": 5, "x": -n} for n in range(1000)])
    shown = stream_view(stream)
    assert shown.model.head.tools[0].options == ["n", "y", "x"]  # type: ignore[union-attr]
    shown.view.act("chart", "x")
    chart = shown.again().model.head.chart
    assert chart is not None
    assert (chart.label, len(chart.values)) == (f"x, last {CHART_ROWS} rows", CHART_ROWS)
    assert chart.values[-1] == -999
    shown.view.act("chart", "gone")
    chart = shown.again().model.head.chart
    assert chart is not None
    assert chart.label.startswith("y,")
    await cast("Any", shown.view.act("pause", None))
    assert "paused" in shown.again().texts
    await cast("Any", shown.view.act("pause", None))
    assert not stream.paused
    with pytest.raises(LookupError):
        shown.view.act("no such", None)


def test_stream_view_counts_what_is_missing() -> None:
    """Dropped rows and unreadable messages are counted."""
    stream = received([{"n": number} for number in range(1500)])
    stream.rejected = 3
    texts = stream_view(stream).texts
    assert "Stream of all data" in texts
    assert "500 dropped (last 1,000 retained)" in texts
    assert "3 unreadable" in texts


def test_all_streams() -> None:
    """The dashboard has a row per stream: its variable, counters, and last values."""
    streams: list[tuple[str, Any]] = []
    shown = Rendered(StreamsView(fabric(), lambda: streams))
    assert any("%fabric_stream" in text for text in shown.texts)
    numbers = received([{"s": HOSTILE, "n": n} for n in range(100)], kind=MARKUP)
    streams += [("s", numbers), ("", received([{"text": "a"}]))]
    shown.again()
    first, second = shown.cells[1:]
    assert first[0] == "s"
    assert first[2:6] == ["open", "100", "20.0", "0"]
    assert first[6].startswith("n ▁")
    assert second == ["", "all data", "open", "1", "0.2", "0", ""]
    before = shown.view.version()
    numbers.add_rows([{"n": 1}])
    assert shown.view.version() != before
    streams.clear()
    assert len(shown.again().model) == 0


@pytest.mark.parametrize(("action", "badge"), [("close", "closed"), ("pause", "paused")])
async def test_stream_view_shows_its_state(action: str, badge: str) -> None:
    """A stream has a badge for its state, and a placeholder if it is empty."""
    stream = received()
    shown = stream_view(stream, state=State.RECONNECTING)
    before = shown.view.version()
    await getattr(stream, action)()
    assert shown.view.version() != before
    assert {badge, "reconnecting", "No row received yet."} <= set(shown.again().texts)


def test_counts_in_the_singular() -> None:
    """One of a thing is counted in the singular."""
    stream = received([{"n": 1}])
    stream.rejected = 1
    shown = stream_view(stream)
    assert "1 row" in shown.texts
    assert shown.model.head.chart is not None
    assert shown.model.head.chart.label == "n, last 1 row"
    streams = Rendered(StreamsView(fabric(), lambda: [("s", stream)]))
    assert streams.detail(id(stream)).text == "1 message could not be read."
    where = fabric(servers=(server(),))
    where.rejected.counts["keep-alive"] = 1
    assert "1 service" in Rendered(AllServingView(where)).texts
    assert "1 keep-alive could not be read." in Rendered(RegistryView(where)).texts


@pytest.mark.parametrize(
    ("times", "shown"),
    [
        (["2026-11-30 06:39:26"], ["2026-11-30 06:39:26"]),
        (
            ["2026-11-30 06:39:26.500", "2026-11-30 06:39:27"],
            ["2026-11-30 06:39:26.500", "2026-11-30 06:39:27.000"],
        ),
        (["2026-11-30 06:39:26.500001"], ["2026-11-30 06:39:26.500001"]),
        (["2026-11-30 06:39:26.5+00:00", None], ["2026-11-30 06:39:26.500+00:00", ""]),
    ],
)
def test_times_have_the_precision_that_they_need(times: list[str | None], shown: list[str]) -> None:
    """A time column has the lowest precision that shows all its times exactly."""
    rows = [{"at": pd.Timestamp(time) if time else pd.NaT} for time in times]
    assert [row[0] for row in stream_view(received(rows)).cells[1:]] == shown


def test_precision_is_raised_for_all_rows() -> None:
    """A more precise time changes the earlier rows too, and later rows keep the precision."""
    stream = received([{"at": pd.Timestamp("2026-11-30 06:39:26")}])
    shown = stream_view(stream)
    for fraction in (".25", ""):
        stream.add_rows([{"at": pd.Timestamp(f"2026-11-30 06:39:27{fraction}")}])
        shown.again()
    assert [row[0][-6:] for row in shown.cells[1:]] == ["26.000", "27.250", "27.000"]


def test_stream_view_of_hostile_rows() -> None:
    """Rows of any content are shown: many columns, markup, huge and deeply nested values."""
    deep = decode(b"[" * 1000 + b"]" * 1000)
    row = {HOSTILE.replace("\ud800", ""): HOSTILE, "deep": deep, "big": ["x" * 1_000_000] * 100}
    numbers = {f"c{n}": 10.0**300 * (-1) ** n for n in range(500)}
    stream = received([{**row, **numbers}, {}, {"big": None, "c1": float("inf")}])
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
    """Records are shown newest last, with level, service and logger, and are counted."""
    records = [record(f"line {number}") for number in range(60)]
    records.append(
        record("last", "WARNING", logger="app", traceback=f"Traceback {HOSTILE}", call="5f1c09aa")
    )
    logs = feed(records, dropped=1234, rejected=2, level="INFO", service="calc.c1")
    shown = Rendered(LogView(fabric(), logs))
    facts = {"from calc.c1", "INFO and above", "60 INFO", "1 WARNING", "1,234 older dropped"}
    facts.add("2 unreadable")
    assert facts <= set(shown.texts)
    assert shown.cells[1][4] == "line 41"
    assert shown.cells[-1][1:] == ["WARNING", "calc.c1", "app", "last", "5f1c09aa"]
    assert any(text.startswith("Traceback <script>") for text in shown.texts)


def test_log_view_is_incremental() -> None:
    """New records are added and the oldest are dropped, with none missed in a burst."""
    logs = feed([record("first")])
    shown = Rendered(LogView(fabric(), logs))
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
    """The minimum level applies to retained records; a paused table counts new ones."""
    logs = feed([record(f"line {n}", level) for n in range(3) for level in ("INFO", "ERROR", "X")])
    shown = Rendered(LogView(fabric(), logs))
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
    """Records of any content are shown, with any number of levels."""
    records = [
        LogRecord(10.0**n, f"{HOSTILE}{n}", HOSTILE, HOSTILE, HOSTILE * 100, logger=HOSTILE)
        for n in range(-5, 12)
    ]
    shown = Rendered(LogView(fabric(), feed(records)))
    assert len(shown.cells) == 18
    assert len(shown.page.html()) < 200_000
    assert any("No log record" in text for text in Rendered(LogView(fabric(), feed())).texts)


# -- progress of a call


def test_progress_line_shows_the_state_of_the_service() -> None:
    """The progress line has the method, the elapsed time, and busy, late or gone."""
    member = fabric()
    awaited = ServicePattern.parse("slow", domain="d")
    handle = cast(
        "Any",
        SimpleNamespace(
            label="d.slow.work", facts=["12 s"], progress=None, report=CallReport("progress")
        ),
    )

    def shown() -> str:
        return call_page(member, awaited, handle).mimebundle()["text/plain"]

    assert "Waiting for d.slow.work" in shown()
    assert "12 s" in shown()
    assert "not announced yet" in shown()
    announce(member, "slow")
    assert "slow is up" in shown()
    announce(member, "slow", busy_since=90.0)
    assert "slow is busy" in shown()
    member.clock.now += 12
    assert "slow is late" in shown()
    member.clock.now += 60
    assert "slow is gone" in shown()
