"""Routing without a broker: what each type of exchange matches."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric_nb.broker.errors import AMQPError, ReplyCode
from fabric_nb.broker.routing import Binding, Exchange


@dataclass(frozen=True)
class Place:
    """Stands where a queue would."""

    name: str


@dataclass(frozen=True)
class Sent:
    """Stands where a message would."""

    headers: dict[str, Any] = field(default_factory=dict)


def bound(kind: str, *rules: tuple[str, str, dict[str, Any]]) -> Exchange:
    exchange = Exchange("exchange", kind)
    for name, key, arguments in rules:
        exchange.bind(Binding(exchange, Place(name), key, arguments))
    return exchange


def reached(exchange: Exchange, key: str = "", **headers: Any) -> set[str]:
    return {place.name for place in exchange.match(key, Sent(headers))}


_word = st.sampled_from(["a", "b", "c", "*", "#", ""])
_topic = st.lists(_word, max_size=5).map(".".join)


def _matches(pattern: str, key: str) -> bool:
    """The rule of the specification, by a regular expression over the words with a dot before."""
    rest = "".join("." + word for word in key.split(".")) if key else ""
    words = pattern.split(".") if pattern else []
    expression = "".join(
        {"*": r"\.[^.]*", "#": r"(\.[^.]*)*"}.get(word, re.escape("." + word)) for word in words
    )
    return re.fullmatch(expression, rest) is not None


@given(patterns=st.lists(_topic, max_size=6), removed=st.integers(0, 5), key=_topic)
def test_topic_patterns_match_as_specified_also_after_an_unbind(
    patterns: list[str], removed: int, key: str
) -> None:
    """`*` is one word, `#` any number; bindings that are gone leave nothing behind."""
    exchange = bound("topic", *((str(i), pattern, {}) for i, pattern in enumerate(patterns)))
    assert reached(exchange, key) == {
        str(i) for i, pattern in enumerate(patterns) if _matches(pattern, key)
    }
    bindings = list(exchange.bindings.values())
    if removed < len(bindings):
        exchange.unbind(bindings[removed])
        gone = bindings[removed].destination.name
        assert reached(exchange, key) == {
            str(i)
            for i, pattern in enumerate(patterns)
            if str(i) != gone and _matches(pattern, key)
        }


def test_many_wildcards_do_not_make_matching_explode() -> None:
    """A pattern of nothing but `#` is matched at once, however long the key."""
    pattern = ".".join(["#"] * 100)
    assert reached(bound("topic", ("q", pattern, {})), ".".join("x" * 120)) == {"q"}


def test_direct_and_fanout_reach_each_place_once_and_until_its_last_binding_is_gone() -> None:
    """Two bindings with other arguments are two; a place stays bound while one is left."""
    for kind, key in (("direct", "k"), ("fanout", "other")):
        exchange = bound(kind, ("q", "k", {}), ("q", "k", {"n": 1}), ("r", "other", {}))
        one, two, _ = exchange.bindings.values()
        expected = {"q"} if kind == "direct" else {"q", "r"}
        assert reached(exchange, "k") == expected
        exchange.unbind(one)
        assert reached(exchange, "k") == expected
        exchange.unbind(two)
        assert reached(exchange, "k") == expected - {"q"}
        assert reached(exchange, key) >= ({"r"} if kind == "fanout" else set())


@pytest.mark.parametrize(
    ("match", "wanted", "headers", "expected"),
    [
        ("all", {"a": 1, "b": "x"}, {"a": 1, "b": "x", "c": 2}, True),
        ("all", {"a": 1, "b": "x"}, {"a": 1}, False),
        ("all", {}, {}, True),
        ("any", {}, {"a": 1}, False),
        ("any", {"a": 1, "b": "x"}, {"b": "x"}, True),
        ("any", {"a": 1, "b": "x"}, {"b": "y"}, False),
        ("all", {"a": 1}, {"a": True}, False),
        ("all", {"a": 1}, {"a": "1"}, False),
        ("all", {"a": 1.0}, {"a": 1}, False),
        ("all", {"a": None}, {"a": "anything"}, True),
        ("all", {"a": None}, {}, False),
        ("all", {"x-a": 1, "b": 2}, {"b": 2}, True),
        ("all-with-x", {"x-a": 1, "b": 2}, {"b": 2}, False),
        ("all-with-x", {"x-a": 1}, {"x-a": 1}, True),
        ("any", {"x-a": 1}, {"x-a": 1}, False),
        ("any-with-x", {"x-a": 1}, {"x-a": 1}, True),
        (None, {"a": 1}, {"a": 1}, True),
    ],
)
def test_headers_are_compared_by_kind_and_value(
    match: str | None, wanted: dict[str, Any], headers: dict[str, Any], expected: bool
) -> None:
    """All four modes, all by default; `x-` headers count only where the mode says so."""
    arguments = {**wanted, **({"x-match": match} if match else {})}
    assert bool(reached(bound("headers", ("q", "", arguments)), "", **headers)) is expected


@pytest.mark.parametrize("match", ["some", 1, None, True])
def test_an_unknown_headers_mode_is_refused(match: Any) -> None:
    """The binding is not made when its mode means nothing."""
    exchange = Exchange("exchange", "headers")
    with pytest.raises(AMQPError) as caught:
        exchange.bind(Binding(exchange, Place("q"), "", {"x-match": match}))
    assert caught.value.code is ReplyCode.PRECONDITION_FAILED
    assert not exchange.bindings
