"""Playback of a recording."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from fabric_nb.errors import RecordingError
from fabric_nb.fabric.amqp.fields import checked
from fabric_nb.fabric.amqp.message import Message
from fabric_nb.fabric.data.recording.entry import Entry, Reader
from fabric_nb.fabric.data.recording.files import open_reader
from fabric_nb.fabric.wire.data_encoding import recorded_message

log = logging.getLogger(__name__)

IN_FLIGHT = 200
"""Maximum number of unconfirmed messages."""

Publish = Callable[[Message], asyncio.Future[None]]


class Replay:
    """Playback of a recording, which publishes it again; created by `AmqBrokerConnector.replay`.

    Example::

        replay = await fabric.replay("orders.parquet", speed=10)
        replay.progress
        await replay          # until it has ended; or replay.cancel()

    Attributes:
        path: path of the recording.
        speed: factor relative to the recorded speed; infinite: as fast as possible.
        messages: number of messages that the broker has confirmed.
        rows: number of rows in them.
        failed: number of messages that could not be published.
        cancelled: True if it was cancelled.
        error: error with which it has failed; also raised by awaiting it.
    """

    def __init__(
        self,
        path: str | Path,
        publish: Publish,
        *,
        speed: float,
        headers: Mapping[str, Any] | None = None,
    ) -> None:
        if not speed >= 0:
            raise RecordingError(f"speed is a factor, or 0 for as fast as it goes, not {speed}.")
        self.path = Path(path).expanduser().absolute()
        self.speed = speed or math.inf
        self.messages = self.rows = self.failed = 0
        self.cancelled = False
        self.error: Exception | None = None
        self._publish = publish
        self._headers = checked(headers or {})
        self._reader: Reader | None = None
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> Self:
        """Open the recording and start to publish it.

        Raises:
            RecordingError: it cannot be read, or is not a recording.
        """
        self._reader = await asyncio.to_thread(open_reader, self.path)
        self._task = asyncio.create_task(self._run(self._reader), name=f"replay {self.path}")
        return self

    @property
    def progress(self) -> float:
        """Fraction of the recording that was published, from 0 to 1."""
        return self._reader.progress if self._reader is not None else 0.0

    @property
    def done(self) -> bool:
        """True if it has ended."""
        return self._task is not None and self._task.done()

    def __await__(self) -> Generator[Any, None, Self]:
        return self._ended().__await__()

    async def _ended(self) -> Self:
        """Wait for its end.

        Raises:
            RecordingError: the recording is damaged.
        """
        if self._task is not None:
            await asyncio.wait([self._task])
        if self.error is not None:
            raise self.error
        return self

    def cancel(self) -> None:
        """Stop publishing."""
        if self._task is not None and not self._task.done():
            self.cancelled = True
            self._task.cancel()

    async def close(self) -> None:
        """Stop publishing, and wait until it has ended."""
        self.cancel()
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _run(self, reader: Reader) -> None:
        in_flight: deque[asyncio.Future[None]] = deque()
        loop = asyncio.get_running_loop()
        began = first = 0.0
        try:
            chunks = iter(reader)
            while (chunk := await asyncio.to_thread(_next, chunks)) is not None:
                for entry in chunk:
                    arrival = entry.arrival.timestamp()
                    if not began:
                        began, first = loop.time(), arrival
                    early = began + (arrival - first) / self.speed - loop.time()
                    if early > 0:
                        await asyncio.sleep(early)
                    try:
                        in_flight.append(self._send(entry))
                    except Exception as error:  # noqa: BLE001 - the message is omitted and counted
                        self._skip(error)
                    while in_flight and in_flight[0].done():
                        in_flight.popleft()
                    if len(in_flight) > IN_FLIGHT:
                        await asyncio.wait([in_flight[0]])
            if in_flight:
                await asyncio.wait(in_flight)
        except Exception as error:  # noqa: BLE001 - logged, and raised by awaiting this
            self.error = error
            log.warning("The replay of %s has ended: %s", self.path, error)
        finally:
            reader.close()

    def _skip(self, error: Exception) -> None:
        self.failed += 1
        level = logging.WARNING if self.failed == 1 else logging.DEBUG
        log.log(level, "A message of %s cannot be published: %s", self.path, error)

    def _send(self, entry: Entry) -> asyncio.Future[None]:
        headers = {**entry.headers, **self._headers}
        published = self._publish(recorded_message(entry.batch, entry.form, headers))

        def count(published: asyncio.Future[None]) -> None:
            if published.cancelled() or published.exception() is not None:
                self.failed += 1
            else:
                self.messages += 1
                self.rows += entry.rows

        published.add_done_callback(count)
        return published

    def __repr__(self) -> str:
        failed = f", {self.failed:,} not published" if self.failed else ""
        state = "done" if self.done else f"{self.progress:.0%}"
        state = "cancelled" if self.cancelled else "failed" if self.error else state
        pace = "as fast as it goes" if math.isinf(self.speed) else f"at speed {self.speed:g}"
        return (
            f"<Replay {self.path.name} {pace}: {self.rows:,} rows of {self.messages:,} messages"
            f"{failed}, {state}>"
        )


def _next(chunks: Iterator[Sequence[Entry]]) -> Sequence[Entry] | None:
    return next(chunks, None)
