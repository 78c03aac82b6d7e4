"""Writing a recording while a stream flows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from fabric_nb.errors import RecordingError
from fabric_nb.fabric.amqp.message import Delivery
from fabric_nb.fabric.core.tasks import in_thread
from fabric_nb.fabric.data.recording.entry import Counts, Entry, Writer, reason
from fabric_nb.fabric.data.recording.files import open_writer
from fabric_nb.fabric.wire.data_decoding import Batch

log = logging.getLogger(__name__)

MAX_BEHIND = 64 * 1024 * 1024
"""Bytes that may wait to be written before the stream waits too."""
_PERIOD = 0.25
"""Seconds in which what comes is gathered; a file is written so often."""


class Recording:
    """A file to which a stream's messages are written as they come; made by `Stream.record`.

    Example::

        recording = await orders.record("orders.parquet")
        recording.rows
        await recording.close()

    Writing takes place in a thread. When it cannot keep up, the stream slows down. When it fails
    (the disk is full), the recording ends with what is in the file, which can be read; the rest is
    logged, counted in `lost`, and raised by `close`. A single message that cannot be in such a file
    is left out, logged and counted.

    Attributes:
        path: the file; until it is closed its name has ``.partial`` at its end.
        messages: how many it holds, or will when it is closed.
        rows: likewise.
        lost: messages that came and could not be written.
        error: why it has failed.
    """

    def __init__(self, path: str | Path, *, overwrite: bool, on_room: Callable[[], object]) -> None:
        self.path = Path(path).expanduser().absolute()
        self.messages = self.rows = self.lost = 0
        self.error: RecordingError | None = None
        self.on_closed: Callable[[], object] = lambda: None
        self._overwrite = overwrite
        self._on_room = on_room
        self._pending: list[Entry] = []
        self._bytes = 0  # of what waits and of what is just being written
        self._writer: Writer | None = None
        self._closing = asyncio.Event()
        self._arrived = asyncio.Event()
        self._writing: asyncio.Task[None] | None = None
        self._told = False
        self._skipped = Counts()

    async def open(self) -> Self:
        """Make the file.

        Raises:
            RecordingError: it exists, cannot be written, or is of no kind that can be written.
        """
        self._writer = await in_thread(open_writer, self.path, overwrite=self._overwrite)
        self._writing = asyncio.create_task(self._write(self._writer), name=f"record {self.path}")
        return self

    async def close(self) -> None:
        """Write what has come and make the file whole.

        Raises:
            RecordingError: something could not be written; raised once.
        """
        await self.end()
        if self.error is not None and not self._told:
            self._told = True
            raise self.error

    async def end(self) -> None:
        """As `close`, for those who do not care what became of it."""
        self._closing.set()
        self._arrived.set()
        if self._writing is not None:
            await asyncio.wait([self._writing])
        self.on_closed()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    @property
    def closed(self) -> bool:
        """Whether it has ended."""
        return self._closing.is_set()

    @property
    def behind(self) -> bool:
        """Whether so much waits to be written that no more should come."""
        return self._bytes > MAX_BEHIND

    def add(self, batch: Batch, delivery: Delivery, rows: int) -> None:
        """A message has come; one without rows is left out."""
        if self.error is not None:
            self.lost += 1
        elif rows and not self.closed:
            size = len(delivery.body)
            self._pending.append(Entry(datetime.now(UTC), delivery.headers, batch, rows, size))
            self._bytes += size
            self.messages += 1
            self.rows += rows
            self._arrived.set()

    async def _write(self, writer: Writer) -> None:
        try:
            while not self.closed:
                await self._arrived.wait()
                self._arrived.clear()
                await self._write_pending(writer)
                await self._gathered()
            await self._write_pending(writer)
            await in_thread(writer.close)
            self._count_skipped(writer)
        except Exception as error:  # noqa: BLE001 - whatever it is, the stream goes on
            self._pending.clear()
            self._bytes = 0
            where = await self._given_up(writer)
            self._count_skipped(writer)
            written = writer.written
            self.lost += self.messages - written.messages
            self.messages, self.rows = written.messages, written.rows
            kept = f"{self.rows:,} rows are in {where}" if where else "nothing is kept"
            self.error = RecordingError(
                f"{self.path} could not be written: {reason(error)}; {self.lost:,} messages are"
                f" lost, and {kept}."
            )
            log.warning("%s", self.error)
            self._on_room()

    async def _given_up(self, writer: Writer) -> Path | None:
        try:
            return await in_thread(writer.give_up)
        except Exception as error:  # noqa: BLE001 - then nothing is known to be readable
            log.warning("%s cannot be ended: %s", self.path, reason(error))
            writer.written = Counts()
            return None

    def _count_skipped(self, writer: Writer) -> None:
        """Count messages that cannot be in such a file as lost."""
        skipped, before = writer.skipped, self._skipped
        if skipped.messages > before.messages:
            lost = skipped.messages - before.messages
            self.lost += lost
            self.messages -= lost
            self.rows -= skipped.rows - before.rows
            self._skipped = Counts(skipped.messages, skipped.rows)
            log.warning("%d messages cannot be in %s: %s", lost, self.path, writer.reason[:500])

    async def _gathered(self) -> None:
        """Let messages gather for a moment, if nobody closes meanwhile."""
        try:
            async with asyncio.timeout(_PERIOD):
                await self._closing.wait()
        except TimeoutError:
            pass

    async def _write_pending(self, writer: Writer) -> None:
        entries, self._pending = self._pending, []
        size = sum(entry.size for entry in entries)
        if entries:
            await in_thread(writer.write, entries)
            self._count_skipped(writer)
        self._bytes -= size
        self._on_room()  # what came while it was written may have had to wait

    def __repr__(self) -> str:
        lost = f", {self.lost:,} messages lost" if self.lost else ""
        state = "failed" if self.error else "closed" if self.closed else "open"
        return (
            f"<Recording {self.path.name}: {self.rows:,} rows of {self.messages:,} messages{lost},"
            f" {state}>"
        )
