"""History of the calls that a member made and served, and the requests of failed ones."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

from fabric_nb.errors import (
    CallTimeout,
    MalformedMessage,
    NotRerun,
    RemoteError,
    brief_message,
    render_briefly,
)
from fabric_nb.fabric.core.values import error_text, valid
from fabric_nb.fabric.rpc.call_report import CallReport
from fabric_nb.fabric.tracing.tracer import ActiveSpan
from fabric_nb.fabric.wire.calls import call_id
from fabric_nb.fabric.wire.codec import decode
from fabric_nb.libraries import importing

if TYPE_CHECKING:
    import pandas as pd

MAX_RECORDS, MAX_FAILURES = 1000, 20
"""Calls, and failed served calls with their arguments, that are kept."""
MAX_REQUEST, MAX_REQUESTS = 16 * 1024 * 1024, 64 * 1024 * 1024
"""Bytes of the arguments of one failed call, and of all failed calls, that are kept."""

MAX_OUTPUT = 10_000
"""Characters of the output of one made call that are kept."""

Direction = Literal["made", "served"]
Outcome = Literal["ok", "failed", "timeout", "cancelled"]


class CallRecord(NamedTuple):
    """A call that has ended.

    Attributes:
        time: start of the call, in epoch seconds.
        direction: ``made`` or ``served`` by this member.
        service: ``domain.type.id``; as written by the caller if no service was found.
        method: name of the method.
        ms: duration in milliseconds.
        outcome: ``cancelled`` if the caller gave up.
        error: type and text of the exception; empty if there was none.
        traceback: traceback of the function that raised, if known.
        caller: for a served call, ``domain.type.id`` of the caller, if it sends its name.
        call: id of the call, which is the same at both ends and in the log records of the served
            function; empty if it was not sent.
        output: for a made call, the end of what the function has printed and logged, if that was
            asked for.
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
    call: str = ""
    output: str = ""


@dataclass(frozen=True, slots=True)
class FailedCall:
    """A served call that raised, kept for a rerun.

    Attributes:
        number: number of the call, counted from 1.
        record: record of the call.
        request: its arguments as received, as JSON; None if they are too large to be kept.
        size: bytes of the arguments.
    """

    number: int
    record: CallRecord
    request: bytes | None
    size: int
    _tables: object = None

    def kwargs(self) -> dict[str, Any]:
        """Return its arguments as received, decoded again each time.

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
    """The last thousand calls, and the last twenty failed served calls with their arguments.

    Example::

        fabric.calls.df.groupby("service").ms.median()
        fabric.calls.df.merge(fabric.registry.df, on=["domain", "type", "id"])
        fabric.calls.failures[-1].kwargs()
    """

    def __init__(self) -> None:
        self.changes = 0
        self._records: deque[CallRecord] = deque(maxlen=MAX_RECORDS)
        self._failures: deque[FailedCall] = deque(maxlen=MAX_FAILURES)
        self._failed = 0

    # -- recording

    def record_made(self, service: object, method: str) -> MadeCall:
        """Return a context manager that records a call that is made within it."""
        return MadeCall(self, service, method)

    def record_served(
        self,
        service: str,
        method: str,
        seconds: float,
        error: BaseException | None = None,
        traceback: str = "",
        *,
        outcome: Outcome | None = None,
        caller: str = "",
        call: str = "",
    ) -> CallRecord:
        """Record a served call that has ended after `seconds`."""
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
            call,
        )
        self.add(record)
        return record

    def keep_failed(self, record: CallRecord, request: bytes, tables: object = None) -> None:
        """Keep a failed served call with its arguments as received."""
        self._failed += 1
        size = len(request)
        kept = request if size <= MAX_REQUEST else None
        self._failures.append(FailedCall(self._failed, record, kept, size, tables))
        while sum(len(one.request or b"") for one in self._failures) > MAX_REQUESTS:
            self._failures.popleft()

    def add(self, record: CallRecord) -> None:
        """Add the record of a call."""
        if record.error or record.traceback or record.output:
            record = record._replace(
                error=valid(record.error),
                traceback=valid(record.traceback),
                output=valid(record.output),
            )
        self._records.append(record)
        self.changes += 1

    # -- records

    @property
    def records(self) -> tuple[CallRecord, ...]:
        """The kept calls, in the order in which they ended."""
        return tuple(self._records)

    @property
    def kept_since(self) -> float:
        """End of the oldest kept call, in epoch seconds, if earlier ones were dropped; else 0."""
        if self.changes == len(self._records) or not self._records:
            return 0.0
        return self._records[0].time + self._records[0].ms / 1000

    @property
    def failures(self) -> tuple[FailedCall, ...]:
        """The kept failed served calls, oldest first."""
        return tuple(self._failures)

    @property
    def df(self) -> pd.DataFrame:
        """The kept calls as a DataFrame, in the order in which they ended; `time` is UTC.

        Columns are those of `CallRecord`, with domain, type and id of the service, as in
        ``registry.df``.
        """
        with importing("pandas"):
            import pandas as pd

            from fabric_nb.frames.time_conversion import utc_times
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


class MadeCall:
    """Measures a call that is made, and records its outcome."""

    __slots__ = ("_log", "_method", "_start", "correlation_id", "report", "service", "span")

    def __init__(self, log: CallLog, service: object, method: str) -> None:
        self.service = service
        """The service, or the name that was written until it is resolved."""
        self.correlation_id = ""
        """Correlation id of its last try."""
        self.report: CallReport | None = None
        self.span: ActiveSpan | None = None
        """Its span, if it is sampled."""
        self._log = log
        self._method = method
        self._start = 0.0

    def __enter__(self) -> Self:
        self._start = time.perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _: TracebackType | None,
    ) -> None:
        seconds = time.perf_counter() - self._start
        if error is None:
            self._add(seconds, "ok")
            return
        if isinstance(error, asyncio.CancelledError) and brief_message(error) is None:
            render_briefly(error, f"the call {self.service}.{self._method} was cancelled")
        traceback = error.remote_traceback if isinstance(error, RemoteError) else ""
        self._add(seconds, _outcome(error), error_text(error), traceback)

    def _add(self, seconds: float, outcome: Outcome, error: str = "", traceback: str = "") -> None:
        report = self.report
        if self.span is not None:
            self.span.end(outcome, error)
        self._log.add(
            CallRecord(
                time.time() - seconds,
                "made",
                str(self.service),
                self._method,
                seconds * 1000,
                outcome,
                error,
                traceback,
                "",
                call_id(self.correlation_id),
                "" if report is None or not report.lines else _output(report),
            )
        )


def _output(report: CallReport) -> str:
    """Return the end of the output of a call, with a line on what is left out."""
    lines, left = [line.text for line in report.lines], MAX_OUTPUT
    kept: list[str] = []
    while lines and (left := left - len(lines[-1]) - 1) >= 0:
        kept.append(lines.pop())
    omitted = len(lines) + report.omitted
    return "\n".join([*([f"({omitted:,} lines are omitted)"] if omitted else []), *reversed(kept)])


def _outcome(error: BaseException) -> Outcome:
    match error:
        case CallTimeout():
            return "timeout"
        case asyncio.CancelledError() | GeneratorExit():
            return "cancelled"
    return "failed"


def _parts(service: str) -> tuple[str, str, str]:
    """Return domain, type and id of a service's name; parts that a short name omits are empty."""
    *before, name = service.split(".")
    domain, *kind = before or [""]
    return domain, ".".join(kind), name
