"""Statistics of served calls, in the keep-alives of an instance."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

import orjson

from fabric_nb.fabric.wire.names import is_method
from fabric_nb.fabric.wire.reading import number

SHARE = 1024
"""Bytes of a keep-alive that statistics by method may take from signatures of methods."""
MAX_METHODS = 100
"""Maximum number of methods whose statistics are read."""
MAX_COUNT = 2**53
MAX_MS = 1e10
"""Maximum duration that is read, in milliseconds: four months."""
_FIELDS = 4


class CallCounts(NamedTuple):
    """Calls of a method, or of all methods of an instance.

    Attributes:
        calls: number of calls that have ended since the counting began.
        errors: number of those that have failed.
        running: number of calls that are running.
        p95_ms: 95th percentile of the durations of the calls that have ended in the last minute, or
            since the previous keep-alive, in milliseconds; None if none has.
    """

    calls: int
    errors: int
    running: int
    p95_ms: float | None = None

    @classmethod
    def sum(cls, parts: Iterable[CallCounts]) -> CallCounts:
        """Return the calls of several instances together; the percentile is the highest of them."""
        calls, errors, running, p95s = zip(*parts, strict=True)
        p95_ms = max((p95 for p95 in p95s if p95 is not None), default=None)
        return cls(sum(calls), sum(errors), sum(running), p95_ms)


@dataclass(frozen=True, slots=True)
class Statistics:
    """Statistics of the calls that an instance serves.

    The counts are totals, so that a keep-alive that is lost loses none of them.

    Attributes:
        since: seconds since the counting began, on the clock of the instance.
        total: all methods together.
        methods: methods with calls, those with the most calls first.
        more: number of further methods with calls.
        size: bytes of `methods` in memory, if they were received.
    """

    since: float
    total: CallCounts
    methods: Mapping[str, CallCounts] = field(default_factory=dict)
    more: int = 0
    size: int = 0


class ReceivedMethods(Mapping[str, CallCounts]):
    """Statistics by method that were received.

    They are kept as JSON and read at each access, because a registry has those of thousands of
    methods, and a view shows those of one service.

    Args:
        encoded: the JSON object.
    """

    __slots__ = ("_encoded",)

    def __init__(self, encoded: bytes) -> None:
        self._encoded = encoded

    def _read(self) -> dict[str, CallCounts]:
        return {
            name: counts
            for name, one in orjson.loads(self._encoded).items()
            if is_method(name) and (counts := _read_counts(one)) is not None
        }

    def __getitem__(self, name: str) -> CallCounts:
        return self._read()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def items(self) -> ItemsView[str, CallCounts]:
        """Return names and counts."""
        return self._read().items()


class EncodedStatistics:
    """JSON of statistics, which is fitted into the room that a keep-alive has for it.

    Attributes:
        content: the JSON object; without methods until `add_methods`.
        wanted: bytes that all methods would take.
    """

    def __init__(self, statistics: Statistics) -> None:
        self.content: dict[str, Any] = {
            "since": round(statistics.since, 3),
            "all": _encoded(statistics.total),
        }
        self._methods = {name: _encoded(counts) for name, counts in statistics.methods.items()}
        self._sizes = [len(orjson.dumps({name: one})) for name, one in self._methods.items()]
        self._more = statistics.more
        self.wanted = sum(self._sizes) + len('"methods":{},"more":,') + len(str(MAX_COUNT))

    def add_methods(self, room: int) -> None:
        """Add the first methods that take at most `room` bytes, and the number of others."""
        room -= self.wanted - sum(self._sizes)
        fitting = 0
        while fitting < len(self._sizes) and room >= self._sizes[fitting]:
            room -= self._sizes[fitting]
            fitting += 1
        if fitting:
            self.content["methods"] = dict(islice(self._methods.items(), fitting))
        if more := self._more + len(self._methods) - fitting:
            self.content["more"] = more


def _encoded(counts: CallCounts) -> list[float | None]:
    p95 = counts.p95_ms
    return [counts.calls, counts.errors, counts.running, None if p95 is None else round(p95, 3)]


def read_statistics(content: object) -> Statistics | None:
    """Return the statistics of a keep-alive; None if they cannot be read.

    Methods of another form are left out, and those after the first `MAX_METHODS` are counted.
    """
    if not isinstance(content, dict):
        return None
    since = number(content.get("since"), low=0.0, high=1e11)
    total = _read_counts(content.get("all"))
    if since is None or total is None:
        return None
    methods = content.get("methods")
    more = int(number(content.get("more"), low=0, high=1e6) or 0)
    if not isinstance(methods, dict) or not methods:
        return Statistics(since, total, more=more)
    if len(methods) > MAX_METHODS:
        more += len(methods) - MAX_METHODS
        methods = dict(islice(methods.items(), MAX_METHODS))
    try:
        encoded = orjson.dumps(methods)
    except TypeError:  # names with lone surrogates, integers over 64 bits
        return Statistics(since, total, more=more + len(methods))
    return Statistics(since, total, ReceivedMethods(encoded), more, len(encoded))


def _read_counts(value: object) -> CallCounts | None:
    if not isinstance(value, list) or len(value) < _FIELDS:
        return None
    calls, errors, running = (number(each, low=0, high=MAX_COUNT) for each in value[:3])
    if calls is None or errors is None or running is None:
        return None
    return CallCounts(int(calls), int(errors), int(running), number(value[3], low=0, high=MAX_MS))
