"""Log records of a domain as they arrive."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Self

from fabric_nb.errors import UnknownLevel, WaitTimeout
from fabric_nb.fabric.amqp.channel import Channel
from fabric_nb.fabric.amqp.connection import Connection
from fabric_nb.fabric.amqp.message import Delivery
from fabric_nb.fabric.amqp.rejected import RejectedMessages
from fabric_nb.fabric.core.timeouts import time_limit
from fabric_nb.fabric.wire.logs import LEVELS, SEVERITY_HEADER, LogRecord, read_log
from fabric_nb.fabric.wire.names import ServicePattern, check_part, log_exchange
from fabric_nb.libraries import importing

if TYPE_CHECKING:
    import pandas as pd

MAX_RECORDS = 10_000
"""Records that a feed keeps, unless another number is given."""


class LogFeed:
    """Log records of a domain, received as they are published.

    Example::

        async with await fabric.logs(level="WARNING") as feed:
            ...
            feed.df[["time", "service_id", "message"]]

    Args:
        connection: connection to consume on.
        domain: domain whose records are received.
        rejected: record of messages that cannot be read.
        level: the minimum level, by its standard name. Records of other levels are received by
            the severity that fabric_nb sends with them; those of amqp-fabric only without `level`.
        service: receive only records of services with this id, or ``type.id``.
        max_records: number of records that are kept; older ones are dropped and counted.

    Attributes:
        records: the newest records, oldest first.
        changes: number of records received since it was opened.
        dropped: number of records that newer ones have pushed out.
        rejected: number of messages that could not be read.
        closed: True once it receives nothing more.
        channel: channel that the records are consumed on.
    """

    def __init__(
        self,
        connection: Connection,
        domain: str,
        *,
        rejected: RejectedMessages,
        level: str | None = None,
        service: str | None = None,
        max_records: int = MAX_RECORDS,
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
        self.channel = connection.channel(self._set_up)

    async def open(self) -> Self:
        """Start to receive."""
        await self.channel.open()
        return self

    async def close(self) -> None:
        """Stop receiving. Records received so far are kept."""
        self.closed = True
        self._arrived.set()
        await self.channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def wait(self, records: int = 1, *, timeout: float | None = None) -> None:
        """Wait until `records` have been received since it was opened, or until it is closed.

        Raises:
            WaitTimeout: they were not received within `timeout` seconds.
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
        await channel.consumers.start(queue, self._on_record, no_ack=True)

    def _bindings(self) -> Iterator[dict[str, str]]:
        """Yield the arguments of the bindings: one for each level, so that the broker filters."""
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
    """Return records as a DataFrame with UTC times; the names are those of ``registry.df``."""
    with importing("pandas"):
        import pandas as pd

        from fabric_nb.frames.time_conversion import utc_times
    apart = ("domain", "arrived")
    fields = [name for name in LogRecord.__dataclass_fields__ if name not in apart]
    rows = [[getattr(record, name) for name in (*fields, "domain")] for record in tuple(records)]
    frame = pd.DataFrame(rows, columns=[*fields, "domain"])
    frame["type"], frame["id"] = frame["service_type"], frame["service_id"]
    frame["time"] = utc_times(frame["time"])
    return frame


def check_level(level: str) -> str:
    """Return a level's name in capitals.

    Raises:
        UnknownLevel: it is not one of the standard levels.
    """
    name = {"WARN": "WARNING", "FATAL": "CRITICAL"}.get(level.upper(), level.upper())
    if name not in LEVELS:
        raise UnknownLevel(f"{level!r} is not a log level: use one of {', '.join(LEVELS)}.")
    return name
