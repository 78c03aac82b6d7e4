"""The calls that this member made and served: the last of them, and those that failed, whole."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

import pandas as pd

from fabric_nb.errors import CallTimeout, MalformedMessage, NotRerun, RemoteError, render_briefly
from fabric_nb.fabric.core.values import error_text
from fabric_nb.fabric.wire.codec import decode
from fabric_nb.frames.time_conversion import utc_times

RECORDS_KEPT = 1000
FAILURES_KEPT = 20
REQUEST_KEPT = 16 * 1024 * 1024
REQUESTS_KEPT = 64 * 1024 * 1024
"""Bytes of the arguments of one failed call, and of all that are kept."""

Direction = Literal["made", "served"]
Outcome = Literal["ok", "failed", "timeout", "cancelled"]


class CallRecord(NamedTuple):
    """A call that has ended.

    Attributes:
        time: when it began, epoch seconds.
        direction: whether we made it or served it.
        service: ``domain.type.id``; as it was written where no service was found.
        method: the method's name.
        ms: milliseconds that it took.
        outcome: ``cancelled`` is a call that the caller gave up.
        error: type and text of what was raised, empty when nothing was.
        traceback: of the function that raised, where it is known.
        caller: of a served call, ``domain.type.id`` of who made it; empty where it did not say.
    """

    time: float
    direction: Direction
    service: str
    method: str
    ms: float
    outcome: Outcome
    error: str = ""
    traceback: str = ""
    caller: str = ""


@dataclass(frozen=True, slots=True)
class FailedCall:
    """A call to one of our methods that raised, kept so that it can be run again.

    Attributes:
        number: counts them from 1.
        record: when, which and why.
        request: its arguments as they came, as JSON; None when they were too large to be kept.
        size: bytes of them.
    """

    number: int
    record: CallRecord
    request: bytes | None
    size: int
    _tables: object = None

    def kwargs(self) -> dict[str, Any]:
        """Its arguments as they came, made anew each time.

        Raises:
            NotRerun: they were too large to be kept.
        """
        if self.request is None:
            raise NotRerun(
                f"The arguments of failed call {self.number} ({self.record.method}) are not kept:"
                f" they are {self.size / 1e6:,.1f} MB."
            )
        arguments = decode(self.request, self._tables)
        if not isinstance(arguments, dict):
            raise MalformedMessage("A call's body must be a JSON object of keywords.")
        return arguments


class CallLog:
    """The last thousand calls, and the last twenty that failed here with their arguments.

    Example::

        fabric.calls.df.groupby("service").ms.median()
        fabric.calls.df.merge(fabric.registry.df, on=["domain", "type", "id"])
        fabric.calls.failures[-1].kwargs()
    """

    def __init__(self) -> None:
        self.changes = 0
        self._records: deque[CallRecord] = deque(maxlen=RECORDS_KEPT)
        self._failures: deque[FailedCall] = deque(maxlen=FAILURES_KEPT)
        self._failed = 0

    # -- in

    def making(self, service: object, method: str) -> Making:
        """Record the call that is made while this lasts."""
        return Making(self, service, method)

    def served(
        self,
        service: str,
        method: str,
        seconds: float,
        error: BaseException | None = None,
        traceback: str = "",
        *,
        outcome: Outcome | None = None,
        caller: str = "",
    ) -> CallRecord:
        """A call to one of our methods has ended after so many seconds."""
        record = CallRecord(
            time.time() - seconds,
            "served",
            service,
            method,
            seconds * 1000,
            outcome or ("ok" if error is None else "failed"),
            "" if error is None else error_text(error),
            traceback,
            caller,
        )
        self.add(record)
        return record

    def failed(self, record: CallRecord, request: bytes, tables: object = None) -> None:
        """Keep a served call that failed, with its arguments as they came."""
        self._failed += 1
        size = len(request)
        kept = request if size <= REQUEST_KEPT else None
        self._failures.append(FailedCall(self._failed, record, kept, size, tables))
        while sum(len(one.request or b"") for one in self._failures) > REQUESTS_KEPT:
            self._failures.popleft()

    def add(self, record: CallRecord) -> None:
        """Take in a call that has ended."""
        self._records.append(record)
        self.changes += 1

    # -- out

    @property
    def records(self) -> tuple[CallRecord, ...]:
        """The calls that are kept, in the order in which they ended."""
        return tuple(self._records)

    @property
    def failures(self) -> tuple[FailedCall, ...]:
        """The calls to our methods that failed, the last one at the end."""
        return tuple(self._failures)

    @property
    def df(self) -> pd.DataFrame:
        """The calls as a DataFrame, in the order in which they ended; `time` is UTC.

        Columns are those of `CallRecord`, with domain, type and id of the service, as in
        ``registry.df``.
        """
        frame = pd.DataFrame(self.records, columns=list(CallRecord._fields))
        texts = {name: "str" for name in frame.columns if name not in ("time", "ms")}
        frame = frame.astype({"ms": "float64", **texts})
        frame["time"] = utc_times(frame["time"]).dt.as_unit("ns")
        parts = [_parts(record.service) for record in self._records]
        for place, name in enumerate(("domain", "type", "id")):
            column = pd.Series([part[place] for part in parts], dtype="str")
            frame.insert(3 + place, name, column)
        return frame

    def __len__(self) -> int:
        return len(self._records)

    def __repr__(self) -> str:
        counts = dict.fromkeys(("made", "served", "failed"), 0)
        for record in self._records:
            counts[record.direction] += 1
            counts["failed"] += record.outcome != "ok"
        shown = ", ".join(f"{count} {way}" for way, count in counts.items() if count)
        return f"<Calls: {shown or 'none yet'}>"


class Making:
    """Times a call that is being made and records how it ended."""

    __slots__ = ("_began", "_log", "_method", "service")

    def __init__(self, log: CallLog, service: object, method: str) -> None:
        self.service = service
        """The service, as far as it is known."""
        self._log = log
        self._method = method
        self._began = 0.0

    def __enter__(self) -> Self:
        self._began = time.perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _: TracebackType | None,
    ) -> None:
        seconds = time.perf_counter() - self._began
        if isinstance(error, asyncio.CancelledError):  # interrupted, in a cell that awaits it
            render_briefly(error, f"the call {self.service}.{self._method} was given up")
        self._log.add(
            CallRecord(
                time.time() - seconds,
                "made",
                str(self.service),
                self._method,
                seconds * 1000,
                _outcome(error),
                "" if error is None else error_text(error),
                error.remote_traceback if isinstance(error, RemoteError) else "",
            )
        )


def _outcome(error: BaseException | None) -> Outcome:
    match error:
        case None:
            return "ok"
        case CallTimeout():
            return "timeout"
        case asyncio.CancelledError() | GeneratorExit():
            return "cancelled"
    return "failed"


def _parts(service: str) -> tuple[str, str, str]:
    """Domain, type and id in a service's name; what a short name leaves out is empty."""
    *before, name = service.split(".")
    domain, *kind = before or [""]
    return domain, ".".join(kind), name
