"""Recording of an open stream."""

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
"""Bytes that may wait to be written before the stream is paused."""
_PERIOD = 0.25
"""Seconds in which messages are batched before they are written."""


class Recording:
    """File to which the messages of a stream are written; created by `Stream.record`.

    Example::

        recording = await orders.record("orders.parquet")
        recording.rows
        await recording.close()

    Messages are written in a thread. If writing cannot keep up, the stream slows down. If it fails
    (the disk is full), the recording ends with the messages in the file, which stays readable; the
    others are logged and counted in `lost`, and `close` raises the error. A single message that the
    format cannot represent is omitted, logged and counted.

    Attributes:
        path: path of the file; it has the suffix ``.partial`` until it is closed.
        messages: number of messages in it, once it is closed.
        rows: number of rows in these.
        lost: number of messages that could not be written.
        error: error with which it has failed.
    """

    def __init__(self, path: str | Path, *, overwrite: bool, on_room: Callable[[], object]) -> None:
        self.path = Path(path).expanduser().absolute()
        self.messages = self.rows = self.lost = 0
        self.error: RecordingError | None = None
        self.on_closed: Callable[[], object] = lambda: None
        self._overwrite = overwrite
        self._on_room = on_room
        self._pending: list[Entry] = []
        self._bytes = 0  # of messages that wait or are being written
        self._writer: Writer | None = None
        self._closing = asyncio.Event()
        self._arrived = asyncio.Event()
        self._writing: asyncio.Task[None] | None = None
        self._raised = False
        self._skipped = Counts()

    async def open(self) -> Self:
        """Create the file.

        Raises:
            RecordingError: it exists, cannot be written, or has an unknown suffix.
        """
        self._writer = await in_thread(open_writer, self.path, overwrite=self._overwrite)
        self._writing = asyncio.create_task(self._write(self._writer), name=f"record {self.path}")
        return self

    async def close(self) -> None:
        """Write the pending messages and complete the file.

        Raises:
            RecordingError: some messages could not be written; raised once.
        """
        await self.end()
        if self.error is not None and not self._raised:
            self._raised = True
            raise self.error

    async def end(self) -> None:
        """Complete the file as `close` does, without raising its error."""
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
        """True if it has ended."""
        return self._closing.is_set()

    @property
    def behind(self) -> bool:
        """True if too much waits to be written, so that the stream should pause."""
        return self._bytes > MAX_BEHIND

    def add(self, batch: Batch, delivery: Delivery, rows: int) -> None:
        """Add a message; one without rows is ignored."""
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
                await self._pause()
            await self._write_pending(writer)
            await in_thread(writer.close)
            self._count_skipped(writer)
        except Exception as error:  # noqa: BLE001 - the stream continues, whatever it is
            self._pending.clear()
            self._bytes = 0
            where = await self._salvage(writer)
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

    async def _salvage(self, writer: Writer) -> Path | None:
        try:
            return await in_thread(writer.salvage)
        except Exception as error:  # noqa: BLE001 - then no message is known to be readable
            log.warning("%s cannot be ended: %s", self.path, reason(error))
            writer.written = Counts()
            return None

    def _count_skipped(self, writer: Writer) -> None:
        """Count messages that the format cannot represent as lost."""
        skipped, before = writer.skipped, self._skipped
        if skipped.messages > before.messages:
            lost = skipped.messages - before.messages
            self.lost += lost
            self.messages -= lost
            self.rows -= skipped.rows - before.rows
            self._skipped = Counts(skipped.messages, skipped.rows)
            log.warning("%d messages cannot be in %s: %s", lost, self.path, writer.reason[:500])

    async def _pause(self) -> None:
        """Wait for further messages to write together, or until the recording is closed."""
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
        self._on_room()  # the stream may have been paused meanwhile

    def __repr__(self) -> str:
        lost = f", {self.lost:,} messages lost" if self.lost else ""
        state = "failed" if self.error else "closed" if self.closed else "open"
        return (
            f"<Recording {self.path.name}: {self.rows:,} rows of {self.messages:,} messages{lost},"
            f" {state}>"
        )
