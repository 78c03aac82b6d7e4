"""All log feeds of a member."""

from __future__ import annotations

import asyncio
import weakref
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pandas as pd

from fabric_nb.fabric.amqp.connection import Connection
from fabric_nb.fabric.amqp.rejected import RejectedMessages
from fabric_nb.fabric.logs.feed import LogFeed, records_frame
from fabric_nb.fabric.wire.logs import LogRecord

SAME = 1.0
"""Seconds between the receptions of one record by two feeds, at most."""


class Logs:
    """The logs of the fabric: call it to listen, and see what was heard.

    Example::

        feed = await fabric.logs(level="WARNING", service="my_app")
        fabric.logs.df                          # of all feeds that are still held

    Args:
        connection: the member's.
        domain: the member's.
        rejected: record of messages that cannot be read.
    """

    def __init__(self, connection: Connection, domain: str, rejected: RejectedMessages) -> None:
        self._connection = connection
        self._own_domain = domain
        self._rejected = rejected
        self._feeds: weakref.WeakSet[LogFeed] = weakref.WeakSet()

    async def __call__(
        self,
        *,
        level: str | None = None,
        service: str | None = None,
        domain: str | None = None,
        max_records: int = 10_000,
    ) -> LogFeed:
        """Log records of the domain's services as they come; see `LogFeed`."""
        feed = LogFeed(
            self._connection,
            domain or self._own_domain,
            rejected=self._rejected,
            level=level,
            service=service,
            max_records=max_records,
        )
        self._feeds.add(feed)
        return await feed.open()

    @property
    def records(self) -> list[LogRecord]:
        """Records of all feeds in order of time, without duplicates."""
        return list(_merged([tuple(feed.records) for feed in self._feeds]))

    @property
    def df(self) -> pd.DataFrame:
        """The `records` as a DataFrame, as `LogFeed.df`."""
        return records_frame(self.records)

    async def close(self) -> None:
        """Close all feeds; their records stay."""
        await asyncio.gather(*(feed.close() for feed in tuple(self._feeds)))

    def __repr__(self) -> str:
        feeds = tuple(self._feeds)
        listening = sum(not feed.closed for feed in feeds)
        return (
            f"<Logs: {sum(len(feed.records) for feed in feeds):,} records, {listening} listening>"
        )


def _merged(feeds: Sequence[Sequence[LogRecord]]) -> Iterator[LogRecord]:
    """The records of several feeds in order of time, and each of them once.

    amqp-fabric's carry no time, so each feed has noted when it heard them: equal ones within
    `SAME` seconds of each other are taken for one, unless a feed has heard it twice.
    """
    # The fullest first: it knows the order of those of one millisecond.
    feeds = sorted(feeds, key=len, reverse=True)
    heard = sorted(
        ((record, feed) for feed, records in enumerate(feeds) for record in records),
        key=lambda one: one[0].time,
    )
    times: dict[LogRecord, list[float]] = {}
    passed: Counter[tuple[LogRecord, int]] = Counter()
    for record, feed in heard:
        timeless = replace(record, time=0.0)
        known = times.setdefault(timeless, [])
        at = passed[timeless, feed]
        while at < len(known) and known[at] < record.time - SAME:
            at += 1
        if at == len(known):
            known.append(record.time)
            yield record
        passed[timeless, feed] = at + 1
