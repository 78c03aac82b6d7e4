"""Statistics of an instance: calls by method and by caller. Pure.

An instance answers `STATS` with them; see *Instances* in `docs/wire.md`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from fabric_nb.errors import MalformedMessage, printable
from fabric_nb.fabric.rpc.methods import MAX_METHODS, MethodStats
from fabric_nb.fabric.wire.names import is_method
from fabric_nb.fabric.wire.reading import number, text
from fabric_nb.libraries import importing

if TYPE_CHECKING:
    import pandas as pd

MAX_PAIRS = 1000
"""Pairs of caller and method that are counted apart; further callers are counted as unnamed."""
MAX_ERROR = 500
"""Characters of the last error of a method."""
MAX_CALLER = 300
_MAX_COUNT, _MAX_SECONDS, _MAX_TIME = 1e15, 1e9, 1e11


class MethodStatistics(NamedTuple):
    """Statistics of one method since its instance began to serve.

    Attributes:
        calls: calls that have ended, `errors` and `cancelled` ones among them.
        running: calls that are running.
        waiting: calls that wait at the instance for a worker.
        mean_ms: mean duration of the last thousand calls, in milliseconds.
        p95_ms: 95th percentile of these durations.
        last_error: type and text of the last error.
        last_called: end of the last call, in epoch seconds.
    """

    method: str
    calls: int = 0
    errors: int = 0
    cancelled: int = 0
    running: int = 0
    waiting: int = 0
    mean_ms: float | None = None
    p95_ms: float | None = None
    last_error: str = ""
    last_called: float | None = None

    @classmethod
    def of(cls, method: str, stats: MethodStats, waiting: int) -> MethodStatistics:
        """Return the statistics of a method that is served here."""
        return cls(
            method,
            stats.calls,
            stats.errors,
            stats.cancelled,
            stats.running,
            waiting,
            stats.mean_ms,
            stats.p95_ms,
            stats.last_error[:MAX_ERROR],
            stats.last_called,
        )

    @classmethod
    def read(cls, method: str, statistics: Mapping[Any, Any]) -> MethodStatistics:
        """Return received statistics; those that are no numbers are 0 or None."""
        counts = {name: _count(statistics.get(name)) for name in _COUNTS}
        return cls(
            method,
            **counts,
            mean_ms=number(statistics.get("mean_ms"), low=0, high=_MAX_SECONDS * 1000),
            p95_ms=number(statistics.get("p95_ms"), low=0, high=_MAX_SECONDS * 1000),
            last_error=printable(text(statistics.get("last_error"), MAX_ERROR)),
            last_called=number(statistics.get("last_called"), low=0, high=_MAX_TIME),
        )


_COUNTS = ("calls", "errors", "cancelled", "running", "waiting")


class CallerStatistics(NamedTuple):
    """Calls of one method by one caller.

    Attributes:
        caller: full name of the calling service, as it claims; empty for callers on amqp-fabric.
    """

    caller: str
    method: str
    calls: int
    errors: int


class CallerCounts:
    """Counts of the calls of a service, by caller and method."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], list[int]] = {}

    def record(self, caller: str, method: str, *, failed: bool) -> None:
        """Count a call that has ended."""
        counts = self._counts.get((caller, method))
        if counts is None:
            key = (caller if len(self._counts) < MAX_PAIRS else "", method)
            counts = self._counts.setdefault(key, [0, 0])
        counts[0] += 1
        counts[1] += failed

    def __iter__(self) -> Iterator[CallerStatistics]:
        for (caller, method), (calls, errors) in self._counts.items():
            yield CallerStatistics(caller, method, calls, errors)


@dataclass(frozen=True, slots=True)
class InstanceStatistics:
    """Statistics of an instance of a service.

    Attributes:
        up: seconds since it began to serve, and to count.
        methods: statistics of its methods.
        callers: statistics of its callers.
    """

    up: float | None
    methods: tuple[MethodStatistics, ...] = ()
    callers: tuple[CallerStatistics, ...] = ()

    @classmethod
    def of(
        cls, up: float, methods: Iterable[MethodStatistics], callers: Iterable[CallerStatistics]
    ) -> InstanceStatistics:
        """Return the statistics of an instance of this process."""
        return cls(up, tuple(methods), tuple(callers))

    def as_reply(self) -> dict[str, Any]:
        """Return the statistics as the result of `STATS`."""
        methods = {}
        for statistics in self.methods:
            values = statistics._asdict()
            methods[values.pop("method")] = values
        return {"up": self.up, "methods": methods, "callers": [list(one) for one in self.callers]}

    @classmethod
    def read(cls, reply: object) -> InstanceStatistics:
        """Return the statistics in the result of `STATS`, which is not trusted.

        Entries of another form are left out, as are those beyond `MAX_METHODS` and `MAX_PAIRS`.

        Raises:
            MalformedMessage: it is no mapping.
        """
        if not isinstance(reply, dict):
            raise MalformedMessage("Statistics must be a JSON object.")
        methods, callers = reply.get("methods"), reply.get("callers")
        return cls(
            number(reply.get("up"), low=0, high=_MAX_SECONDS),
            tuple(
                MethodStatistics.read(name, statistics)
                for name, statistics in islice(
                    methods.items() if isinstance(methods, dict) else (), MAX_METHODS
                )
                if is_method(name) and isinstance(statistics, dict)
            ),
            tuple(_read_callers(callers if isinstance(callers, list) else [])),
        )


def _read_callers(callers: list[Any]) -> Iterator[CallerStatistics]:
    for entry in callers[:MAX_PAIRS]:
        if isinstance(entry, list) and len(entry) == len(CallerStatistics._fields):
            caller, method, calls, errors = entry
            if is_method(method):
                name = printable(text(caller, MAX_CALLER))
                yield CallerStatistics(name, method, _count(calls), _count(errors))


def _count(value: object) -> int:
    return int(number(value, low=0, high=_MAX_COUNT) or 0)


def statistics_frame(statistics: Mapping[str, InstanceStatistics]) -> pd.DataFrame:
    """Return statistics by instance as a DataFrame with a row for each instance and method.

    Columns: instance, those of `MethodStatistics`, and up (seconds); `last_called` is UTC.
    """
    with importing("pandas"):
        import pandas as pd
    rows = [
        (instance, *method, one.up)
        for instance, one in statistics.items()
        for method in one.methods
    ]
    frame = pd.DataFrame(rows, columns=["instance", *MethodStatistics._fields, "up"])
    frame = frame.astype(
        dict.fromkeys(("instance", "method", "last_error"), "str")
        | dict.fromkeys(("mean_ms", "p95_ms", "up"), "float64")
        | dict.fromkeys(_COUNTS, "int64")
    )
    frame["last_called"] = pd.to_datetime(
        frame["last_called"].astype("float64"), unit="s", utc=True
    )
    return frame


class Edge(NamedTuple):
    """Calls of a method of a service by another service.

    Attributes:
        caller: full name of the calling service; empty if it is not known, as on amqp-fabric.
        service: full name of the called service.
        calls: calls since the instances of the called service began to serve.
        calls_s: these calls per second.
        errors_s: these errors per second.
    """

    caller: str
    service: str
    method: str
    calls: int
    errors: int
    calls_s: float
    errors_s: float


def edges(service: str, statistics: Iterable[InstanceStatistics]) -> list[Edge]:
    """Return who calls a service, from the statistics of its instances."""
    sums: dict[tuple[str, str], list[float]] = {}
    for one in statistics:
        for caller, method, calls, errors in one.callers:
            total = sums.setdefault((caller, method), [0, 0, 0.0, 0.0])
            total[0] += calls
            total[1] += errors
            if one.up:
                total[2] += calls / one.up
                total[3] += errors / one.up
    return [
        Edge(caller, service, method, int(calls), int(errors), calls_s, errors_s)
        for (caller, method), (calls, errors, calls_s, errors_s) in sums.items()
    ]


def graph_frame(found: Iterable[Edge]) -> pd.DataFrame:
    """Return who calls whom as a DataFrame with a row for each caller, service and method."""
    with importing("pandas"):
        import pandas as pd
    frame = pd.DataFrame(list(found), columns=list(Edge._fields))
    texts = dict.fromkeys(("caller", "service", "method"), "str")
    numbers = dict.fromkeys(("calls_s", "errors_s"), "float64")
    frame = frame.astype({**texts, **numbers, "calls": "int64", "errors": "int64"})
    return frame.sort_values(["service", "method", "caller"], ignore_index=True)
