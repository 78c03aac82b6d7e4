"""What a member hears and sends as data: streams, logs, replays of recordings."""

from __future__ import annotations

import asyncio
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from fabric_nb.fabric.amqp.connection import Connection
from fabric_nb.fabric.amqp.consumer_connection import ReadingConnection
from fabric_nb.fabric.amqp.rejected import MalformedLog
from fabric_nb.fabric.core.tasks import Background
from fabric_nb.fabric.data.publisher import Publisher
from fabric_nb.fabric.data.queues import Start
from fabric_nb.fabric.data.recording import Replay
from fabric_nb.fabric.data.stream import DEFAULT_MAX_ROWS, DEFAULT_PREFETCH, Stream
from fabric_nb.fabric.logs.feed import LogFeed, records_frame
from fabric_nb.fabric.wire.logs import LogRecord
from fabric_nb.frames import Unit

SAME = 1.0
"""Seconds between two feeds' hearing of one record, at most."""


class Feeds:
    """The data of a `FabricMember`, and what it has open of it.

    Args:
        connection: the member's.
        reading: the member's, for what acknowledges.
        domain: the member's.
        malformed: where messages that cannot be read are told.
        background: where what waits for a channel runs.

    Attributes:
        logs: call it to listen to log records; `Logs.df` has what was heard.
    """

    def __init__(
        self,
        connection: Connection,
        reading: ReadingConnection,
        domain: str,
        malformed: MalformedLog,
        background: Background,
    ) -> None:
        self.malformed = malformed
        self._connection = connection
        self._reading = reading
        self._own_domain = domain
        self._publisher = Publisher(connection, domain, background)
        self._feeds: weakref.WeakSet[Stream | Replay] = weakref.WeakSet()
        self.logs = Logs(connection, domain, malformed)

    async def _close_feeds(self) -> None:
        await asyncio.gather(*(feed.close() for feed in tuple(self._feeds)))
        await self.logs.close()
        await self._publisher.close()

    @property
    def publisher(self) -> Publisher:
        """What has become of the data that was published: how much was confirmed, waits, failed."""
        return self._publisher

    async def stream(
        self,
        headers: Mapping[str, Any] | None = None,
        *,
        name: str = "",
        durable: bool = False,
        replay_from: Start | None = None,
        domain: str | None = None,
        prefetch: int = DEFAULT_PREFETCH,
        max_rows: int | None = DEFAULT_MAX_ROWS,
        max_bytes: int | None = None,
        index: str | None = None,
        unit: Mapping[str, Unit] | None = None,
        with_headers: bool | Sequence[str] = False,
        arrival: bool | str = False,
        paused: bool = False,
        **more_headers: Any,
    ) -> Stream:
        """Rows of a data stream, which accumulate into a DataFrame.

        Example::

            orders = await fabric.stream(msg_type="CUSTOMER_TRANSACTIONS", currency="USD")
            orders.df

        See `Stream` for the arguments; further keywords are headers too.
        """
        stream = Stream(
            self._reading,
            domain or self._own_domain,
            {**(headers or {}), **more_headers},
            malformed=self.malformed,
            name=name,
            durable=durable,
            replay_from=replay_from,
            prefetch=prefetch,
            max_rows=max_rows,
            max_bytes=max_bytes,
            index=index,
            unit=unit,
            with_headers=with_headers,
            arrival=arrival,
            paused=paused,
        )
        self._feeds.add(stream)
        return await stream.open()

    async def replay(
        self,
        path: str | Path,
        *,
        speed: float = 1.0,
        headers: Mapping[str, Any] | None = None,
    ) -> Replay:
        """Publish a recording again, to this domain, with its headers and at its pace.

        Example::

            replay = await fabric.replay("orders.parquet", speed=10)
            await replay

        Args:
            path: what `Stream.record` wrote.
            speed: how many times as fast as it was recorded; 0: as fast as it goes.
            headers: headers that each message gets besides, or instead of its own.

        Raises:
            RecordingError: the file is no recording, or `speed` is no factor.
        """
        replay = Replay(path, self._publisher.publish, speed=speed, headers=headers)
        self._feeds.add(replay)
        return await replay.open()


class Logs:
    """The logs of the fabric: call it to listen, and see what was heard.

    Example::

        feed = await fabric.logs(level="WARNING", service="my_app")
        fabric.logs.df                          # of all feeds that are still held

    Args:
        connection: the member's.
        domain: the member's.
        malformed: where messages that cannot be read are told.
    """

    def __init__(self, connection: Connection, domain: str, malformed: MalformedLog) -> None:
        self._connection = connection
        self._own_domain = domain
        self._malformed = malformed
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
            malformed=self._malformed,
            level=level,
            service=service,
            max_records=max_records,
        )
        self._feeds.add(feed)
        return await feed.open()

    @property
    def records(self) -> list[LogRecord]:
        """What all feeds hold, in order of time; a record that several have heard is there once."""
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
