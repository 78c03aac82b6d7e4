"""Layout and picture of a call graph."""

from __future__ import annotations

import json
import random
from xml.etree import ElementTree as ET

import pytest

from fabric_nb.fabric.rpc.instance_statistics import Edge
from fabric_nb.notebook.graph.layout import Layout, Place
from fabric_nb.notebook.graph.picture import MAX_LINES, MAX_NODES, GraphPictures, graph_svg
from tests.support.pages import CONTROLS, HOSTILE


def edge(caller: str, service: str, calls_s: float = 1.0, errors_s: float = 0.0) -> Edge:
    names = [f"d.{name}" if name else "" for name in (caller, service)]
    return Edge(*names, "m", int(calls_s), int(errors_s), calls_s, errors_s)


def pictures(*edges: Edge) -> GraphPictures:
    drawn = GraphPictures("d", "d.app.nb")
    drawn.update(edges)
    return drawn


def overlaps(layout: Layout) -> bool:
    """Return whether two nodes or bends have the same place."""
    places = [*layout.places.values(), *(one for bends in layout.bends.values() for one in bends)]
    return len(set(places)) < len(places)


def test_callers_are_left_of_the_services_that_they_call() -> None:
    """Each service is in a later layer than its callers, and long lines bend around others."""
    layout = Layout()
    pairs = [("web", "orders"), ("orders", "stock"), ("stock", "house"), ("web", "house")]
    layout.update(pairs)
    layers = {node: place.layer for node, place in layout.places.items()}
    assert layers == {"web": 0, "orders": 1, "stock": 2, "house": 3}
    assert [bend.layer for bend in layout.bends["web", "house"]] == [1, 2]
    assert not overlaps(layout)


def test_cycles_and_calls_of_oneself() -> None:
    """Cycles are drawn with a line that goes back, and a service may call itself."""
    layout = Layout()
    layout.update([("a", "b"), ("b", "c"), ("c", "a"), ("d", "d"), ("a", "a")])
    places = layout.places
    assert sorted(places) == ["a", "b", "c", "d"]
    assert [places[node].layer for node in "abc"] == [0, 1, 2]
    assert not overlaps(layout)


def test_known_services_keep_their_places() -> None:
    """Services that come and go do not move others, unless most of them are new."""
    layout = Layout()
    layout.update([("a", "b"), ("a", "c"), ("b", "d")])
    before = dict(layout.places)
    layout.update([("a", "b"), ("a", "e"), ("b", "d"), ("e", "f")])
    assert {node: layout.places[node] for node in "abd"} == {node: before[node] for node in "abd"}
    assert layout.places["e"].layer == layout.places["b"].layer
    assert layout.places["f"].layer == layout.places["e"].layer + 1
    assert not overlaps(layout)
    layout.update([("x", "y")])
    assert layout.places == {"x": Place(0, 0.0), "y": Place(1, 0.0)}
    layout.update([])
    assert layout.places == {}


@pytest.mark.parametrize("seed", range(20))
def test_any_graph_has_a_layout(seed: int) -> None:
    """Graphs with cycles are laid out without overlaps, the same for the same graph."""
    chance = random.Random(seed)
    nodes = [f"n{number}" for number in range(chance.randrange(2, MAX_NODES))]
    first, again = Layout(), Layout()
    for _ in range(4):
        pairs = [(chance.choice(nodes), chance.choice(nodes)) for _ in range(MAX_LINES)]
        for layout in (first, again):
            layout.update(pairs)
        assert first.places.keys() == {node for pair in pairs for node in pair}
        assert first.places == again.places
        assert not overlaps(first)


def test_the_busiest_calls_are_drawn() -> None:
    """Of 10,000 pairs those with the most calls are drawn, and the others counted."""
    chance = random.Random(1)
    edges = [
        edge(f"t.c{number % 300}", f"t.s{number // 300}", chance.random()) for number in range(9999)
    ]
    drawn = pictures(edge("t.main", "t.first", 50.0), *edges)
    assert drawn.picture is not None
    assert len(drawn.picture.nodes) == MAX_NODES
    assert len(drawn.picture.lines) <= MAX_LINES
    assert drawn.picture.nodes[0].name == "d.t.main"
    assert drawn.picture.lines[0].width == max(line.width for line in drawn.picture.lines)
    left = 10_000 - len(drawn.picture.lines)
    assert drawn.notes == [
        f"Not in the picture: 296 services and {left:,} pairs with fewer calls.",
    ]
    assert len(json.dumps(drawn.picture.encoded())) < 60_000


def test_lines_tell_calls_and_failures() -> None:
    """A line is as wide as there are calls, marked if some fail, and names its methods."""
    busy = edge("t.a", "t.b", 100.0, 2.0)
    drawn = pictures(busy, busy._replace(method="other", calls_s=0.25, errors_s=0), edge("", "t.b"))
    assert drawn.picture is not None
    wide, thin = drawn.picture.lines
    assert (wide.failing, thin.failing) == (True, False)
    assert wide.width > thin.width
    assert wide.text == "t.a calls t.b: m 100/s, 2/s failing; other 0.25/s"
    assert thin.text == "(on amqp-fabric) calls t.b: m 1/s"
    assert pictures().picture is None


def test_hostile_names_are_only_text() -> None:
    """Names are escaped in the saved picture, truncated, and without control characters."""
    name = f"</svg><script>alert(1)</script>{HOSTILE}" + "x" * 300
    hostile = edge("t.a", "t.b")._replace(caller=name, method=name, calls_s=1e308)
    drawn = pictures(hostile, edge("t.a", "t.b", 1e300), edge("t.c", "t.b", 0.0))
    assert drawn.picture is not None
    svg = graph_svg(drawn.picture)
    assert "<script" not in svg
    tags = {one.tag for one in ET.fromstring(svg[svg.index("<svg") :]).iter()}
    assert tags == {"svg", "g", "title", "path", "rect", "text"}
    text = json.dumps(drawn.picture.encoded(), ensure_ascii=False)
    assert not set(text) & set(CONTROLS)
    assert "nan" not in svg.lower()


def test_the_saved_picture_has_all_services_and_lines() -> None:
    """The SVG draws every service and line, with their descriptions."""
    drawn = pictures(edge("app.nb", "t.b"), edge("t.b", "t.c", 3.0, 1.0), edge("t.c", "t.b"))
    assert drawn.picture is not None
    svg = graph_svg(drawn.picture)
    assert svg.count("<rect") == 3
    assert svg.count('class="line"') == 3
    assert svg.count('class="failing"') == 1
    assert svg.count('class="own"') == 1
    assert "<title>t.b calls t.c: m 3/s, 1/s failing</title>" in svg
