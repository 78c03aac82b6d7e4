"""A `logging` handler that publishes records to the fabric."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from dataclasses import dataclass, replace
from functools import partial
from pathlib import PurePath

from fabric_nb.errors import BrokerRefused, ConnectionLost, FabricError
from fabric_nb.fabric.amqp.channel import Channel
from fabric_nb.fabric.amqp.connection import Connection
from fabric_nb.fabric.amqp.reply_codes import ACCESS_REFUSED, NOT_FOUND
from fabric_nb.fabric.core.context import served_call
from fabric_nb.fabric.core.tasks import Background
from fabric_nb.fabric.core.timeouts import time_limit
from fabric_nb.fabric.core.values import unboxed
from fabric_nb.fabric.wire.calls import format_traceback
from fabric_nb.fabric.wire.logs import LogRecord, log_message, severity_of
from fabric_nb.fabric.wire.names import ServiceName, log_exchange
from fabric_nb.fabric.wire.reading import MAX_TRACEBACK, ending, shortened

log = logging.getLogger(__name__)

CAPACITY = 10_000
"""Records that wait for the connection, unless another number is given."""
WINDOW = 500
"""Unconfirmed records."""
TRIES = 4
"""Channel losses that an unconfirmed record may see; then it is dropped, as it may be the cause."""

_OWN_LOGGERS = ("aio_pika", "aiormq", "pamqp", "fabric_nb.fabric", "amqp_fabric")
"""Loggers whose records are not published, because publishing one would log the next."""


class AmqpHandler(logging.Handler):
    """Publishes log records to the fabric; thread-safe, never blocks.

    Up to `capacity` records are kept until the handler is registered with a connector, and while
    the connection is lost. A field that is too long is shortened and marked.

    Example::

        handler = AmqpHandler()
        await connector.init_logging_handler(handler)
        logging.getLogger().addHandler(handler)

    Attributes:
        sent: number of records that the broker has confirmed.
        dropped: number of records that were lost: too many waited, a record could not be
            formatted, or the broker refused it.
    """

    def __init__(self, level: int | str = logging.NOTSET, *, capacity: int = CAPACITY) -> None:
        super().__init__(level)
        self.dropped = 0
        self.sent = 0
        self._capacity = capacity
        self._waiting: deque[_Waiting] = deque()
        self._unconfirmed = 0
        self._unsettled: list[_Waiting] = []  # of which the outcome is unknown, in order
        self._forbidden = False
        self._warned = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake: asyncio.Event | None = None
        self._idle = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record; called by `logging`, which holds the handler's lock."""
        if _is_own(str(record.name)):
            return
        try:
            # Format now, because other handlers change the record.
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
            except RuntimeError:  # closed loop: the record waits for the next connector
                self._loop = None

    async def publish_to(self, channel: Channel, name: ServiceName, instance: str) -> None:
        """Publish records on a channel with confirms, until cancelled; the connector runs it."""
        self._loop, self._wake = asyncio.get_running_loop(), asyncio.Event()
        self._forbidden = self._warned = False
        try:
            while True:
                await channel.ready()
                self._wake.clear()
                self._send_waiting(channel, name, instance)
                if self._unpublished:
                    self._idle.clear()
                else:
                    self._idle.set()
                if channel.is_ready and (not self._waiting or not self._may_send(self._waiting[0])):
                    await self._wake.wait()  # is set already if an outcome arrived meanwhile
        finally:
            self._loop = None
            self._idle.set()

    def _send_waiting(self, channel: Channel, name: ServiceName, instance: str) -> None:
        self._waiting.extendleft(reversed(self._unsettled))  # those that had arrived arrive twice
        self._unsettled.clear()
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
                self._keep(waiting)
                return
            except Exception as error:  # noqa: BLE001 - this record is dropped, the next one is sent
                self._drop(error)
                continue
            self._unconfirmed += 1

    def _may_send(self, waiting: _Waiting) -> bool:
        """Return whether the next record may be sent now.

        A record that was unconfirmed at a loss is sent alone, to find out whether it is the cause.
        """
        return self._unconfirmed < (1 if waiting.losses else WINDOW)

    def _settle(self, waiting: _Waiting, error: FabricError | None) -> None:
        self._unconfirmed -= 1
        code = error.code if isinstance(error, BrokerRefused) else 0
        waiting.losses += error is not None and code != NOT_FOUND  # the exchange is declared again
        if error is None:
            self.sent += 1
        elif code == ACCESS_REFUSED:
            # Without the permission, more tries would only fill the broker's log.
            self._forbidden = True
            self._drop(error)
        elif waiting.losses < TRIES:
            self._keep(waiting)
        else:
            self._drop(error)
        if self._wake is not None:
            self._wake.set()

    def _keep(self, waiting: _Waiting) -> None:
        """Keep an unconfirmed record, to send it again."""
        self._unsettled.append(waiting)
        if self._wake is not None:
            self._wake.set()

    def _drop(self, error: Exception) -> None:
        self.dropped += 1
        if not self._warned:
            self._warned = True
            log.warning(
                "Log records cannot be published: %s"
                if self._forbidden
                else "A log record is dropped: %s",
                error,
            )

    @property
    def _unpublished(self) -> int:
        return len(self._waiting) + len(self._unsettled) + self._unconfirmed

    async def flushed(self, timeout: float = 0.5) -> None:
        """Wait until all records are confirmed or dropped, up to `timeout` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(time_limit(timeout)):
                while self._unpublished and self._loop is not None:
                    self._idle.clear()
                    await self._idle.wait()


def _is_own(logger: str) -> bool:
    return any(logger == own or logger.startswith(f"{own}.") for own in _OWN_LOGGERS)


@dataclass(eq=False, slots=True)
class _Waiting:
    """A record that waits to be published, without the fields that the connector adds.

    Attributes:
        losses: number of times it was unconfirmed when the channel or connection was lost.
    """

    record: LogRecord
    losses: int = 0


def _fields(record: logging.LogRecord, text: str) -> LogRecord:
    """Return a record's content, which keeps no frame and no argument of the caller alive."""
    level = unboxed(record.levelno)
    severity = severity_of(level) if isinstance(level, int) else ""
    # Programs rename the standard levels, to colour or shorten them; feeds and views filter by
    # the standard names.
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
        call="" if (call := served_call.get()) is None else call.id,
    )


def _traceback(record: logging.LogRecord) -> str:
    """Return the traceback of a record's error, and the stack of `stack_info`."""
    error = record.exc_info[1] if record.exc_info else None
    parts = [
        format_traceback(error) if error is not None else record.exc_text,
        record.stack_info,
    ]
    whole = "\n".join(str(part).rstrip("\n") for part in parts if part)
    return ending(whole, MAX_TRACEBACK)


async def ship_logs(
    background: Background,
    connection: Connection,
    handler: AmqpHandler,
    name: ServiceName,
    instance: str,
) -> None:
    """Publish a handler's records to a domain's log exchange, until `background` is closed."""

    async def set_up(channel: Channel) -> None:
        await channel.topology.declare_exchange(log_exchange(name.domain), "headers", durable=True)

    channel = await connection.channel(set_up, confirms=True).open()
    background.keep(partial(handler.publish_to, channel, name, instance), name="logs")
