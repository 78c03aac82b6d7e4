"""Log records of one member: the feeds that it has open, and the handlers that it publishes for."""

from __future__ import annotations

import asyncio
import weakref
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import fields
from itertools import islice, takewhile
from operator import attrgetter
from typing import TYPE_CHECKING

from fabric_nb.fabric.amqp.connection import Connection
from fabric_nb.fabric.amqp.rejected import RejectedMessages
from fabric_nb.fabric.core.tasks import Background
from fabric_nb.fabric.logs.feed import MAX_RECORDS, LogFeed, records_frame
from fabric_nb.fabric.logs.handler import AmqpHandler, ship_logs
from fabric_nb.fabric.wire.logs import LogRecord
from fabric_nb.fabric.wire.names import ServiceName

if TYPE_CHECKING:
    import pandas as pd

SAME = 1.0
"""Seconds between the arrivals of one record at two feeds, at most."""
_timeless = attrgetter(
    *(field.name for field in fields(LogRecord) if field.name not in ("time", "arrived"))
)
"""Returns a record without its time, as a tuple."""


class Logs:
    """Logs of the fabric: call it to open a feed; its records are those of all feeds.

    Example::

        feed = await fabric.logs(level="WARNING", service="my_app")
        fabric.logs.df                          # of all feeds that are referenced

    Args:
        connection: connection to consume and publish on.
        name: address of the member, which the records that it publishes carry.
        instance: instance id of the member, likewise.
        rejected: record of messages that cannot be read.
        background: tasks of the member, which publish records.
    """

    def __init__(
        self,
        connection: Connection,
        name: ServiceName,
        instance: str,
        *,
        rejected: RejectedMessages,
        background: Background,
    ) -> None:
        self._connection = connection
        self._name = name
        self._instance = instance
        self._rejected = rejected
        self._background = background
        self._feeds: weakref.WeakSet[LogFeed] = weakref.WeakSet()
        self._handlers: list[AmqpHandler] = []

    async def __call__(
        self,
        *,
        level: str | None = None,
        service: str | None = None,
        domain: str | None = None,
        max_records: int = MAX_RECORDS,
    ) -> LogFeed:
        """Open a feed of a domain's log records; see `LogFeed`."""
        feed = LogFeed(
            self._connection,
            domain or self._name.domain,
            rejected=self._rejected,
            level=level,
            service=service,
            max_records=max_records,
        )
        self._feeds.add(feed)
        return await feed.open()

    async def publish_from(self, handler: AmqpHandler) -> None:
        """Publish the records of a handler until the member is closed."""
        await ship_logs(self._background, self._connection, handler, self._name, self._instance)
        self._handlers.append(handler)

    async def flush(self) -> None:
        """Wait until the handlers' records are published, for half a second each at most."""
        for handler in self._handlers:
            await handler.flushed()

    @property
    def records(self) -> list[LogRecord]:
        """Records of all feeds in order of time, without duplicates."""
        return list(_merged([tuple(feed.records) for feed in self._feeds]))

    def arrived_since(self, moment: float, limit: int) -> tuple[list[LogRecord], int]:
        """Return the records of all feeds that have arrived since a time, and the number of others.

        They are in order of time, without duplicates.

        Args:
            moment: epoch seconds.
            limit: maximum number of records of each feed; older ones are only counted.
        """
        found, omitted = [], 0
        for feed in tuple(self._feeds):
            newest = takewhile(lambda one: one.arrived >= moment, reversed(feed.records))
            found.append([*islice(newest, limit)][::-1])
            omitted += sum(1 for _ in newest)
        return list(_merged(found)) if len(found) > 1 else found[0] if found else [], omitted

    @property
    def kept_since(self) -> float:
        """Time of arrival from which on no feed has dropped a record, in epoch seconds; or 0."""
        feeds = [feed for feed in tuple(self._feeds) if feed.dropped and feed.records]
        return max((feed.records[0].arrived for feed in feeds), default=0.0)

    @property
    def changes(self) -> int:
        """Number of records that all feeds have received."""
        return sum(feed.changes for feed in tuple(self._feeds))

    @property
    def df(self) -> pd.DataFrame:
        """The `records` as a DataFrame, as `LogFeed.df`."""
        return records_frame(self.records)

    async def close(self) -> None:
        """Close all feeds; records received so far are kept."""
        self._handlers.clear()
        await asyncio.gather(*(feed.close() for feed in tuple(self._feeds)))

    def __repr__(self) -> str:
        feeds = tuple(self._feeds)
        listening = sum(not feed.closed for feed in feeds)
        return (
            f"<Logs: {sum(len(feed.records) for feed in feeds):,} records, {listening} listening>"
        )


def _merged(feeds: Sequence[Sequence[LogRecord]]) -> Iterator[LogRecord]:
    """Yield the records of several feeds in order of time, each of them once.

    Records of amqp-fabric carry no time, so that each feed has set the time of arrival: equal ones
    within `SAME` seconds of each other are one record, unless one feed has received both.
    """
    # The fullest first: it has the order of records of one millisecond.
    feeds = sorted(feeds, key=len, reverse=True)
    received = sorted(
        ((record, feed) for feed, records in enumerate(feeds) for record in records),
        key=lambda one: one[0].time,
    )
    times: dict[object, list[float]] = {}
    passed: Counter[tuple[object, int]] = Counter()
    for record, feed in received:
        timeless = _timeless(record)
        known = times.setdefault(timeless, [])
        at = passed[timeless, feed]
        while at < len(known) and known[at] < record.time - SAME:
            at += 1
        if at == len(known):
            known.append(record.time)
            yield record
        passed[timeless, feed] = at + 1
