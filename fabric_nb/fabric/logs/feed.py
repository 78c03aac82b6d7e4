"""Logs: our records out to the fabric, everybody's records in."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import PurePath
from typing import Self

import pandas as pd

from fabric_nb.errors import BrokerRefused, ConnectionLost, FabricError, UnknownLevel, WaitTimeout
from fabric_nb.fabric.amqp.channel import Channel
from fabric_nb.fabric.amqp.connection import Connection
from fabric_nb.fabric.amqp.message import Delivery
from fabric_nb.fabric.amqp.rejected import RejectedMessages
from fabric_nb.fabric.amqp.reply_codes import ACCESS_REFUSED, NOT_FOUND
from fabric_nb.fabric.core.tasks import Background
from fabric_nb.fabric.core.timeouts import time_limit
from fabric_nb.fabric.core.values import unboxed
from fabric_nb.fabric.wire.calls import format_traceback
from fabric_nb.fabric.wire.logs import (
    LEVELS,
    SEVERITY_HEADER,
    LogRecord,
    log_message,
    read_log,
    severity_of,
)
from fabric_nb.fabric.wire.names import ServiceName, ServicePattern, check_part, log_exchange
from fabric_nb.fabric.wire.reading import MAX_TRACEBACK, ending, shortened
from fabric_nb.frames.time_conversion import utc_times

log = logging.getLogger(__name__)

CAPACITY = 10_000
WINDOW = 500
"""Records that are sent before the broker has confirmed the first of them."""
TRIES = 4
"""Times a record may be on its way when the channel or the connection is lost. Then it is dropped:
it may be the reason."""

_OWN_LOGGERS = ("aio_pika", "aiormq", "pamqp", "fabric_nb.fabric", "amqp_fabric")
"""Records of the messaging itself would be sent by messages that log records."""


class AmqpHandler(logging.Handler):
    """Publishes log records to the fabric; usable from any thread, never waits.

    Records are kept until a connector takes the handler over, and while the connection is
    away, `capacity` of them. A field that is too long is shortened and says so.

    Example::

        handler = AmqpHandler()
        await connector.init_logging_handler(handler)
        logging.getLogger().addHandler(handler)

    Attributes:
        sent: how many records the broker has confirmed.
        dropped: how many are lost, because too many waited, because one could not be formatted,
            or because the broker refused them.
    """

    def __init__(self, level: int | str = logging.NOTSET, *, capacity: int = CAPACITY) -> None:
        super().__init__(level)
        self.dropped = 0
        self.sent = 0
        self._capacity = capacity
        self._waiting: deque[_Waiting] = deque()
        self._unconfirmed = 0
        self._returned: list[_Waiting] = []  # not known to be taken, in order
        self._forbidden = False
        self._told = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake: asyncio.Event | None = None
        self._idle = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record; called by `logging`, which holds the handler's lock."""
        if _is_own(str(record.name)):
            return
        try:
            # The text is made now: other handlers write to the record as well.
            text = self.format(record) if self.formatter else record.getMessage()
            waiting = _Waiting(_fields(record, text))
        except Exception:  # noqa: BLE001 - a record that cannot be formatted, as `logging` does it
            self.dropped += 1
            self.handleError(record)
            return
        if len(self._waiting) >= self._capacity:
            self.dropped += 1
            return
        self._waiting.append(waiting)
        if self._loop is not None and self._wake is not None and len(self._waiting) == 1:
            try:
                self._loop.call_soon_threadsafe(self._wake.set)
            except RuntimeError:  # the loop is closed; the record waits for the next connector
                self._loop = None

    async def publish_to(self, channel: Channel, name: ServiceName, instance: str) -> None:
        """Send what comes over a channel with confirms, until cancelled; run by the connector."""
        self._loop, self._wake = asyncio.get_running_loop(), asyncio.Event()
        self._forbidden = self._told = False
        try:
            while True:
                await channel.ready()
                self._wake.clear()
                self._send_waiting(channel, name, instance)
                if self._left:
                    self._idle.clear()
                else:
                    self._idle.set()
                if channel.is_ready and (not self._waiting or not self._may_send(self._waiting[0])):
                    await self._wake.wait()  # also set by what has come back already
        finally:
            self._loop = None
            self._idle.set()

    def _send_waiting(self, channel: Channel, name: ServiceName, instance: str) -> None:
        self._waiting.extendleft(reversed(self._returned))  # what had arrived does so twice
        self._returned.clear()
        exchange = log_exchange(name.domain)
        while self._waiting and channel.is_ready and self._may_send(self._waiting[0]):
            waiting = self._waiting.popleft()
            if self._forbidden:
                self.dropped += 1
                continue
            try:
                message = log_message(
                    replace(
                        waiting.record,
                        service_type=name.type,
                        service_id=name.id,
                        instance=instance,
                    )
                )
                channel.send(exchange, "", message, on_outcome=partial(self._settle, waiting))
            except ConnectionLost:
                self._return(waiting)
                return
            except Exception as error:  # noqa: BLE001 - this record is dropped, the next one is sent
                self._drop(error)
                continue
            self._unconfirmed += 1

    def _may_send(self, waiting: _Waiting) -> bool:
        """Return whether the next record may be sent now.

        One that was on its way at a loss goes alone, so that it is known whether it is the reason.
        """
        return self._unconfirmed < (1 if waiting.losses else WINDOW)

    def _settle(self, waiting: _Waiting, error: FabricError | None) -> None:
        self._unconfirmed -= 1
        code = error.code if isinstance(error, BrokerRefused) else 0
        waiting.losses += error is not None and code != NOT_FOUND  # which comes back with us
        if error is None:
            self.sent += 1
        elif code == ACCESS_REFUSED:
            # Without the right, again and again would only fill the broker's log.
            self._forbidden = True
            self._drop(error)
        elif waiting.losses < TRIES:
            self._return(waiting)
        else:
            self._drop(error)
        if self._wake is not None:
            self._wake.set()

    def _return(self, waiting: _Waiting) -> None:
        """Keep a record that was not taken, to send it again."""
        self._returned.append(waiting)
        if self._wake is not None:
            self._wake.set()

    def _drop(self, error: Exception) -> None:
        self.dropped += 1
        if not self._told:
            self._told = True
            log.warning(
                "Nobody will read these log records: %s"
                if self._forbidden
                else "A log record is dropped: %s",
                error,
            )

    @property
    def _left(self) -> int:
        return len(self._waiting) + len(self._returned) + self._unconfirmed

    async def flushed(self, timeout: float = 0.5) -> None:
        """Wait until what was logged is sent, or until the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(time_limit(timeout)):
                while self._left and self._loop is not None:
                    self._idle.clear()
                    await self._idle.wait()


def _is_own(logger: str) -> bool:
    return any(logger == own or logger.startswith(f"{own}.") for own in _OWN_LOGGERS)


@dataclass(eq=False, slots=True)
class _Waiting:
    """A record that waits, without what only the connector knows.

    Attributes:
        losses: how often it was on its way when the channel or the connection was lost.
    """

    record: LogRecord
    losses: int = 0


def _fields(record: logging.LogRecord, text: str) -> LogRecord:
    """Content of a record to send; keeps no frame and no argument of the caller alive."""
    level = unboxed(record.levelno)
    severity = severity_of(level) if isinstance(level, int) else ""
    # Programs rename the standard levels, to colour them or to shorten them: feeds and views
    # choose by their standard names.
    standard = getattr(logging, severity, None) == level
    return LogRecord(
        time=float(record.created),
        level=severity if standard else str(record.levelname),
        service_type="",
        service_id="",
        message=shortened(text, MAX_TRACEBACK),
        logger=str(record.name),
        file=PurePath(str(record.pathname)).name,
        line=unboxed(record.lineno),
        traceback=_traceback(record),
        severity="" if standard else severity,
    )


def _traceback(record: logging.LogRecord) -> str:
    """The traceback of a record's error, and the stack that `stack_info` asked for."""
    error = record.exc_info[1] if record.exc_info else None
    parts = [
        format_traceback(error) if error is not None else record.exc_text,
        record.stack_info,
    ]
    whole = "\n".join(str(part).rstrip("\n") for part in parts if part)
    return ending(whole, MAX_TRACEBACK)


class LogFeed:
    """Log records of a domain as they come.

    Example::

        async with await fabric.logs(level="WARNING") as feed:
            ...
            feed.df[["time", "service_id", "message"]]

    Args:
        connection: where to listen.
        domain: whose records.
        level: the minimum level, by its standard name. Records of other levels are heard by the
            severity that fabric_nb sends with them; those of amqp-fabric only without `level`.
        service: only records of services with this id, or ``type.id``.
        max_records: how many are kept; `dropped` counts those pushed out.

    Attributes:
        rejected: how many messages could not be read.
    """

    def __init__(
        self,
        connection: Connection,
        domain: str,
        *,
        rejected: RejectedMessages,
        level: str | None = None,
        service: str | None = None,
        max_records: int = CAPACITY,
    ) -> None:
        self.domain = check_part(domain, "domain")
        self.level = None if level is None else check_level(level)
        self.service = service
        self.records: deque[LogRecord] = deque(maxlen=max_records)
        self.changes = 0
        self.dropped = 0
        self.rejected = 0
        self.closed = False
        self._pattern = ServicePattern.parse(service, domain=domain) if service else None
        self._rejected = rejected
        self._arrived = asyncio.Event()
        self._channel = connection.channel(self._set_up)

    async def open(self) -> Self:
        """Start to listen."""
        await self._channel.open()
        return self

    async def close(self) -> None:
        """Stop to listen; the records stay."""
        self.closed = True
        self._arrived.set()
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def wait(self, records: int = 1, *, timeout: float | None = None) -> None:
        """Wait until so many records have come since it was opened, or until it is closed.

        Raises:
            WaitTimeout: they did not come within `timeout` seconds.
            InvalidTimeout: `timeout` is negative, NaN or no number.
        """
        limit = time_limit(timeout)
        try:
            async with asyncio.timeout(limit):
                while self.changes < records and not self.closed:
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            seconds = limit or 0.0
            raise WaitTimeout(
                f"{self.changes} of {records} records came within {seconds:g} s.", seconds=seconds
            ) from None

    @property
    def df(self) -> pd.DataFrame:
        """The records as a DataFrame, oldest first; `time` is UTC."""
        return records_frame(self.records)

    def __repr__(self) -> str:
        what = f"{self.level} and above, " if self.level else ""
        whose = f"{self.service} in {self.domain}" if self.service else self.domain
        state = "closed" if self.closed else "open"
        return f"<LogFeed of {whose}: {len(self.records):,} records, {what}{state}>"

    async def _set_up(self, channel: Channel) -> None:
        exchange = log_exchange(self.domain)
        await channel.topology.declare_exchange(exchange, "headers", durable=True)
        queue = await channel.topology.declare_exclusive_queue()
        for arguments in self._bindings():
            await channel.topology.bind(queue, exchange, arguments=arguments)
        await channel.consume(queue, self._on_record, no_ack=True)

    def _bindings(self) -> Iterator[dict[str, str]]:
        """What the broker is asked for: a binding for each level, so that it does the filtering."""
        wanted = {"x-match": "all"}
        if self._pattern is not None:
            wanted["service_id"] = self._pattern.id
            if self._pattern.type is not None:
                wanted["service_type"] = self._pattern.type
        if self.level is None:
            yield wanted
        else:
            for name in LEVELS[LEVELS.index(self.level) :]:
                yield {**wanted, "level_name": name}
                yield {**wanted, SEVERITY_HEADER: name}

    def _on_record(self, delivery: Delivery) -> None:
        try:
            record = read_log(delivery, now=time.time(), domain=self.domain)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is one message
            self.rejected += 1
            self._rejected.add("log", error, delivery)
            return
        self.dropped += len(self.records) == self.records.maxlen
        self.records.append(record)
        self.changes += 1
        self._arrived.set()


def records_frame(records: Iterable[LogRecord]) -> pd.DataFrame:
    """Records as a DataFrame; `time` is UTC, and domain, type and id are as in ``registry.df``."""
    fields = [name for name in LogRecord.__dataclass_fields__ if name != "domain"]
    rows = [[getattr(record, name) for name in (*fields, "domain")] for record in tuple(records)]
    frame = pd.DataFrame(rows, columns=[*fields, "domain"])
    frame["type"], frame["id"] = frame["service_type"], frame["service_id"]
    frame["time"] = utc_times(frame["time"])
    return frame


def check_level(level: str) -> str:
    """A level's name in capitals.

    Raises:
        UnknownLevel: it is none of the standard levels.
    """
    name = {"WARN": "WARNING", "FATAL": "CRITICAL"}.get(level.upper(), level.upper())
    if name not in LEVELS:
        raise UnknownLevel(f"{level!r} is not a log level: use one of {', '.join(LEVELS)}.")
    return name


async def ship_logs(
    background: Background,
    connection: Connection,
    handler: AmqpHandler,
    name: ServiceName,
    instance: str,
) -> None:
    """Connect a handler to a domain's log exchange and keep it sending."""

    async def set_up(channel: Channel) -> None:
        await channel.topology.declare_exchange(log_exchange(name.domain), "headers", durable=True)

    channel = await connection.channel(set_up, confirms=True).open()
    background.keep(partial(handler.publish_to, channel, name, instance), name="logs")
