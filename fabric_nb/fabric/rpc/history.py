"""History of the calls that a member made and served, and the requests of failed ones."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

from fabric_nb.errors import (
    CallTimeout,
    MalformedMessage,
    NotKept,
    NotRerun,
    RemoteError,
    brief_message,
    render_briefly,
)
from fabric_nb.fabric.core.values import error_text, valid
from fabric_nb.fabric.rpc.call_contents import CallContents, masked
from fabric_nb.fabric.rpc.call_report import CallReport
from fabric_nb.fabric.tracing.tracer import ActiveSpan
from fabric_nb.fabric.wire.calls import call_id
from fabric_nb.fabric.wire.codec import decode
from fabric_nb.libraries import importing

if TYPE_CHECKING:
    import pandas as pd

MAX_RECORDS, MAX_FAILURES = 1000, 20
"""Newest calls, and failed served calls with their arguments, that are kept."""
MAX_OLDER, MAX_METHODS = 20, 50
"""Older calls of one method, and methods of which older calls are kept."""
MAX_BODIES = 64 * 1024 * 1024
"""Bytes of the arguments and results of all calls that are kept."""
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
        instance: for a made call, the instance that has run it, if that is known.
        number: number of the call, counted from 1 in the order in which calls end.
        contents: its arguments and result, as far as they are kept.
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
    instance: str = ""
    number: int = 0
    contents: CallContents | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        """Its arguments, with secrets masked by their names, such as ``password``.

        Raises:
            NotKept: they were too large, or are too old, to be kept, or the call was not sent.
        """
        masked_arguments: dict[str, Any] = masked(self.kwargs())
        return masked_arguments

    @property
    def result(self) -> Any:
        """Its result, decoded again each time.

        Raises:
            NotKept: it was too large, or is too old, to be kept, or there is none.
        """
        return self._contents.result(self._label)

    def kwargs(self) -> dict[str, Any]:
        """Return its arguments as they were sent, with secrets.

        Raises:
            NotKept: they were too large, or are too old, to be kept, or the call was not sent.
        """
        return self._contents.arguments(self._label)

    @property
    def _contents(self) -> CallContents:
        return self.contents or CallContents()

    @property
    def _label(self) -> str:
        return f"call {self.number} ({self.service}.{self.method})"


_COLUMNS = [name for name in CallRecord._fields if name != "contents"]


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
    """The last thousand calls with arguments and results, and some older ones of each method.

    So many calls of one method, as by a map, do not push out all others. Arguments and results are
    kept up to 1 MB each and 64 MB together. The last twenty failed served calls are kept for
    reruns.

    Example::

        fabric.calls[-1].result                  # of the call that has ended last
        fabric.calls[17].arguments               # of call number 17
        fabric.calls.df.groupby("service").ms.median()
        fabric.calls.df.merge(fabric.registry.df, on=["domain", "type", "id"])
        fabric.calls.failures[-1].kwargs()
    """

    def __init__(self) -> None:
        self.changes = 0
        self._newest: deque[CallRecord] = deque()
        self._older: dict[tuple[str, ...], deque[CallRecord]] = {}
        self._size = 0
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
        contents: CallContents | None = None,
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
            number=self.changes + 1,
            contents=contents,
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
        """Add the record of a call; those of built-in methods, which views call, are left out."""
        if record.method.startswith("_"):
            return
        if record.error or record.traceback or record.output:
            record = record._replace(
                error=valid(record.error),
                traceback=valid(record.traceback),
                output=valid(record.output),
            )
        self.changes += 1
        if record.number != self.changes:
            record = record._replace(number=self.changes)
        self._newest.append(record)
        if len(self._newest) > MAX_RECORDS:
            self._retire(self._newest.popleft())
        if record.contents is not None:
            self._size += record.contents.settle()
            if self._size > MAX_BODIES:
                self._drop_contents()

    def _retire(self, record: CallRecord) -> None:
        """Keep a record as one of the older ones of its method, in place of the oldest of them."""
        key = (record.direction, record.service, record.method)
        older = self._older.pop(key, None) or deque()
        self._older[key] = older  # the last one, as the method that was called last
        older.append(record)
        forgotten = [older.popleft()] if len(older) > MAX_OLDER else []
        if len(self._older) > MAX_METHODS:
            forgotten += self._older.pop(next(iter(self._older)))
        for one in forgotten:
            self._drop(one)

    def _drop_contents(self) -> None:
        """Drop the contents of the oldest calls, a quarter of all, so that it is done rarely."""
        for record in self.records:
            if self._size <= MAX_BODIES * 3 // 4:
                return
            self._drop(record)

    def _drop(self, record: CallRecord) -> None:
        if record.contents is not None:
            self._size -= record.contents.drop()

    # -- records

    @property
    def records(self) -> tuple[CallRecord, ...]:
        """The kept calls, in the order in which they ended."""
        older = [record for records in self._older.values() for record in records]
        older.sort(key=attrgetter("number"))
        return (*older, *self._newest)

    def newer_than(self, number: int) -> tuple[CallRecord, ...]:
        """Return the kept calls after the one with a number."""
        if self._newest and self._newest[0].number <= number + 1:
            return tuple(islice(self._newest, number + 1 - self._newest[0].number, None))
        return tuple(record for record in self.records if record.number > number)

    def __getitem__(self, number: int) -> CallRecord:
        """Return the call with a number, or counted from the last one if it is negative.

        Raises:
            NotKept: there is no such call any more, or not yet.
        """
        wanted = number if number > 0 else self.changes + 1 + number
        for record in reversed(self.newer_than(wanted - 1)):
            if record.number == wanted and number:
                return record
        raise NotKept(f"There is no call {number} in the history: {self!r}.")

    @property
    def kept_since(self) -> float:
        """End of the oldest call after which all are kept, in epoch seconds; 0 if all ever were."""
        if self.changes == len(self._newest) or not self._newest:
            return 0.0
        return self._newest[0].time + self._newest[0].ms / 1000

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
        records = self.records
        frame = pd.DataFrame(records, columns=list(CallRecord._fields))[_COLUMNS]
        texts = {name: "str" for name in _COLUMNS if name not in ("time", "ms", "number")}
        frame = frame.astype({"ms": "float64", "number": "int64", **texts})
        frame["time"] = utc_times(frame["time"]).dt.as_unit("ns")
        parts = [_parts(record.service) for record in records]
        for place, name in enumerate(("domain", "type", "id")):
            column = pd.Series([part[place] for part in parts], dtype="str")
            frame.insert(3 + place, name, column)
        return frame

    def __len__(self) -> int:
        return len(self._newest) + sum(map(len, self._older.values()))

    def __repr__(self) -> str:
        counts = dict.fromkeys(("made", "served", "failed"), 0)
        for record in self.records:
            counts[record.direction] += 1
            counts["failed"] += record.outcome != "ok"
        shown = ", ".join(f"{count} {way}" for way, count in counts.items() if count)
        return f"<Calls: {shown or 'none yet'}>"


class MadeCall:
    """Measures a call that is made, and records its outcome."""

    __slots__ = (
        *("_log", "_method", "_start"),
        *("contents", "correlation_id", "report", "service", "span"),
    )

    def __init__(self, log: CallLog, service: object, method: str) -> None:
        self.service = service
        """The service, or the name that was written until it is resolved."""
        self.correlation_id = ""
        """Correlation id of its last try."""
        self.report: CallReport | None = None
        self.contents = CallContents()
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
        traceback = _traceback(error) if isinstance(error, RemoteError) else ""
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
                "" if report is None else report.instance,
                self._log.changes + 1,
                self.contents,
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


def _traceback(error: RemoteError) -> str:
    """Return the remote traceback; if calls made by the method failed, the lines of all of them."""
    return error.remote_traceback if len(error.chain) == 1 else "\n".join(error.details)


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
