"""Statistics of instances, and names of instances."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fabric_nb.errors import InvalidName, MalformedMessage
from fabric_nb.fabric.rpc.instance_statistics import (
    MAX_PAIRS,
    CallerCounts,
    InstanceStatistics,
    MethodStatistics,
    edges,
    graph_frame,
    statistics_frame,
)
from fabric_nb.fabric.rpc.instances import PingedInstance, ping_frame
from fabric_nb.fabric.wire.codec import decode, encode
from fabric_nb.fabric.wire.names import ServicePattern, parse_call

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([1e300, -1, "nan", "add", 2**70]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from([*MethodStatistics._fields, "up"]), inner)
    ),
    max_leaves=20,
)


def test_figures_arrive_equal() -> None:
    """The statistics that an instance sends are those that its caller reads."""
    sent = InstanceStatistics(
        12.5,
        (
            MethodStatistics("add", 7, 2, 1, 3, 4, 1.5, 9.25, "ValueError: x", 1.7e9),
            MethodStatistics("idle"),
        ),
        tuple(_counts(("d.t.a", "add", False), ("d.t.a", "add", True), ("", "add", False))),
    )
    body, tables = encode(sent.as_reply())
    assert InstanceStatistics.read(decode(body, tables)) == sent


@given(
    up=JSON,
    methods=JSON | st.dictionaries(st.sampled_from(["add", "no such", "_x"]), JSON),
    callers=JSON | st.lists(st.tuples(JSON, st.just("add"), JSON, JSON).map(list), max_size=3),
)
@example(up=math.nan, methods={"add": {"calls": -1, "p95_ms": 1e300}}, callers=[["a" * 999] * 4])
@example(up=0, methods={"add": {"last_called": 1e10}}, callers=[["", "add", 1, 1]])
def test_hostile_figures(up: object, methods: object, callers: object) -> None:
    """Whatever a service sends as its statistics becomes numbers within bounds, and tables."""
    statistics = InstanceStatistics.read({"up": up, "methods": methods, "callers": callers})
    assert all(0 <= count <= 1e15 for one in statistics.methods for count in one[1:6])
    assert all(one.p95_ms is None or 0 <= one.p95_ms <= 1e12 for one in statistics.methods)
    assert all(0 <= one.calls <= 1e15 for one in statistics.callers)
    assert len(statistics_frame({"i": statistics})) == len(statistics.methods)
    assert (graph_frame(edges("d.t.s", [statistics])).calls_s >= 0).all()


def test_figures_that_are_none() -> None:
    """A reply that is no object is refused, and too many entries are left out."""
    with pytest.raises(MalformedMessage):
        InstanceStatistics.read([1])
    many = {f"m{n}": {} for n in range(10_000)}
    read = InstanceStatistics.read({"methods": many, "callers": [["", "m", 1, 0]] * 10_000})
    assert len(read.methods) == len(read.callers) == 1000


def test_callers_are_bounded() -> None:
    """Calls of callers beyond a thousand are counted together, so that none is left out."""
    counts = CallerCounts()
    for n in range(MAX_PAIRS + 50):
        counts.record(f"d.t.c{n}", "add", failed=n % 2 == 0)
    counts.record("d.t.c0", "add", failed=False)
    found = list(counts)
    assert len(found) == MAX_PAIRS + 1
    assert sum(one.calls for one in found) == MAX_PAIRS + 51
    assert found[-1].caller == ""
    assert found[0].calls == 2


def test_edges_are_sums_over_instances() -> None:
    """A caller of several instances has one edge, with the sums of their calls and rates."""
    one = InstanceStatistics(10.0, (), tuple(_counts(*[("d.t.a", "add", False)] * 20)))
    two = InstanceStatistics(5.0, (), tuple(_counts(*[("d.t.a", "add", True)] * 5)))
    (edge,) = edges("d.t.s", [one, two])
    assert edge == ("d.t.a", "d.t.s", "add", 25, 5, 3.0, 1.0)


def test_frames_without_rows() -> None:
    """Tables without a row have their columns and types."""
    assert list(graph_frame([]).columns[:3]) == ["caller", "service", "method"]
    assert statistics_frame({}).last_called.dt.tz is not None
    assert str(ping_frame([PingedInstance("a")]).up_since.dt.tz) == "UTC"


@pytest.mark.parametrize(
    ("text", "instance"),
    [("s@7f3a.m", "7f3a"), ("t.s@*.m", "*"), ("d.t.s@a-b_C.m", "a-b_C"), ("s.m", "")],
)
def test_names_of_instances(text: str, instance: str) -> None:
    """An instance may follow every form of a service's name."""
    pattern, method = parse_call(text, domain="d")
    assert (pattern.id, pattern.instance, method) == ("s", instance, "m")
    assert f"{pattern}.{method}".endswith(text)


@pytest.mark.parametrize("text", ["s@", "@a", "s@a@b", "s@ä", "s@**", "s@" + "a" * 64, "a.b.c.d@e"])
def test_invalid_names_of_instances(text: str) -> None:
    """Anything else is refused, as is an instance where a service is needed."""
    with pytest.raises(InvalidName):
        ServicePattern.parse(text, domain="d", instances=True)
    with pytest.raises(InvalidName):
        ServicePattern.parse("s@7f3a", domain="d")


def _counts(*calls: tuple[str, str, bool]) -> CallerCounts:
    counts = CallerCounts()
    for caller, method, failed in calls:
        counts.record(caller, method, failed=failed)
    return counts
