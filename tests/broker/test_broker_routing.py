"""Routing by the types of exchanges, without a broker."""

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
class NamedDestination:
    """A stand-in for a queue."""

    name: str


@dataclass(frozen=True)
class HeadersOnly:
    """A stand-in for a message."""

    headers: dict[str, Any] = field(default_factory=dict)


def exchange_with(kind: str, *rules: tuple[str, str, dict[str, Any]]) -> Exchange:
    exchange = Exchange("exchange", kind)
    for name, key, arguments in rules:
        exchange.bind(Binding(exchange, NamedDestination(name), key, arguments))
    return exchange


def destinations(exchange: Exchange, key: str = "", **headers: Any) -> set[str]:
    return {destination.name for destination in exchange.match(key, HeadersOnly(headers))}


_word = st.sampled_from(["a", "b", "c", "*", "#", ""])
_topic = st.lists(_word, max_size=5).map(".".join)


def _matches(pattern: str, key: str) -> bool:
    """Match by a regular expression over the words, each with a leading dot."""
    dotted = "".join("." + word for word in key.split(".")) if key else ""
    words = pattern.split(".") if pattern else []
    expression = "".join(
        {"*": r"\.[^.]*", "#": r"(\.[^.]*)*"}.get(word, re.escape("." + word)) for word in words
    )
    return re.fullmatch(expression, dotted) is not None


@given(patterns=st.lists(_topic, max_size=6), removed=st.integers(0, 5), key=_topic)
def test_topic_patterns_match_as_specified(patterns: list[str], removed: int, key: str) -> None:
    """`*` is one word, `#` any number; a removed binding has no effect."""
    exchange = exchange_with(
        "topic", *((str(i), pattern, {}) for i, pattern in enumerate(patterns))
    )
    assert destinations(exchange, key) == {
        str(i) for i, pattern in enumerate(patterns) if _matches(pattern, key)
    }
    bindings = list(exchange.bindings.values())
    if removed < len(bindings):
        exchange.unbind(bindings[removed])
        removed_name = bindings[removed].destination.name
        assert destinations(exchange, key) == {
            str(i)
            for i, pattern in enumerate(patterns)
            if str(i) != removed_name and _matches(pattern, key)
        }


def test_matching_many_wildcards_is_fast() -> None:
    """A pattern of many `#` is matched quickly with a long key."""
    pattern = ".".join(["#"] * 100)
    assert destinations(exchange_with("topic", ("q", pattern, {})), ".".join("x" * 120)) == {"q"}


def test_direct_and_fanout_count_bindings_per_destination() -> None:
    """Bindings with different arguments are distinct; a destination is bound until the last one."""
    for kind, key in (("direct", "k"), ("fanout", "other")):
        exchange = exchange_with(kind, ("q", "k", {}), ("q", "k", {"n": 1}), ("r", "other", {}))
        first, second, _ = exchange.bindings.values()
        expected = {"q"} if kind == "direct" else {"q", "r"}
        assert destinations(exchange, "k") == expected
        exchange.unbind(first)
        assert destinations(exchange, "k") == expected
        exchange.unbind(second)
        assert destinations(exchange, "k") == expected - {"q"}
        assert destinations(exchange, key) >= ({"r"} if kind == "fanout" else set())


@pytest.mark.parametrize(
    ("match", "required", "headers", "expected"),
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
def test_headers_are_compared_by_type_and_value(
    match: str | None, required: dict[str, Any], headers: dict[str, Any], expected: bool
) -> None:
    """The mode is `all` by default; `x-` headers count only in the `-with-x` modes."""
    arguments = {**required, **({"x-match": match} if match else {})}
    assert (
        bool(destinations(exchange_with("headers", ("q", "", arguments)), "", **headers))
        is expected
    )


@pytest.mark.parametrize("match", ["some", 1, None, True])
def test_an_unknown_headers_mode_is_refused(match: Any) -> None:
    """A binding with an invalid mode is not created."""
    exchange = Exchange("exchange", "headers")
    with pytest.raises(AMQPError) as caught:
        exchange.bind(Binding(exchange, NamedDestination("q"), "", {"x-match": match}))
    assert caught.value.code is ReplyCode.PRECONDITION_FAILED
    assert not exchange.bindings
