"""Reader and writer of a connection's socket, shared between aiormq and fast channels.

aiormq gets its reader and its writer from its public `TransportFactory`. `FrameDemultiplexer` is
the reader: it splits the bytes into frames (AMQP 0-9-1, section 4.2.3), passes those for the
consumers of a `FastChannel` to it at once, and forwards all others to aiormq. `BatchingWriter` is
the writer: frames that fast channels send in one iteration of the loop are written together, in
order with those of aiormq.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any, SupportsIndex

from fabric_nb.fabric.amqp import frames
from fabric_nb.fabric.amqp.fast_channel import FastChannel
from fabric_nb.fabric.amqp.read_threshold import ReadThreshold
from fabric_nb.fabric.core.tasks import failures

HEARTBEAT_AFTER = 1.0
"""Seconds after which aiormq, which does not see intercepted frames, gets a heartbeat in their
place: it considers a connection dead on which it has read nothing for three heartbeats."""
SMALL_REQUEST = 4096
"""Bytes of a request that the broker receives, and so confirms, at once."""


class FrameDemultiplexer(asyncio.StreamReader):
    """Reader that intercepts the frames of fast channels.

    They are handled synchronously, and nothing more is read meanwhile: the socket and the
    broker's prefetch apply back-pressure. Frames for aiormq pause the socket as usual.

    It also intercepts ``connection.blocked`` and ``connection.unblocked``: requests of aiormq to a
    blocked broker wait in the socket.

    Attributes:
        channels: fast channels by channel number.
        blocked: reason why the broker accepts no messages, as sent by it; None while it does.
        unblocked: set while it accepts messages, and when the connection is lost.
        on_blocked: called when `blocked` has changed.
        received: counter that is incremented whenever bytes are received.
        after_read: callbacks that are called once, after all received bytes.
        threshold: threshold of the socket, which is reset whenever bytes are received.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self.channels: dict[int, FastChannel] = {}
        self.blocked: str | None = None
        self.unblocked = asyncio.Event()
        self.unblocked.set()
        self.on_blocked: Callable[[], object] = lambda: None
        self._incomplete: list[bytes] = []  # parts of a frame that is not received completely
        self._missing = 0  # bytes of that frame, or of its header, that are still to be received
        self._forwarded_at = monotonic()
        self._is_amqp = True
        self.received = 0
        self.after_read: list[Callable[[], object]] = []
        self.threshold: ReadThreshold | None = None

    def feed_data(self, data: Iterable[SupportsIndex]) -> None:
        """Process bytes from the socket, wherever they are split."""
        self.received += 1
        if self.threshold is not None:
            self.threshold.reset()
        if not self._is_amqp:
            super().feed_data(data)
            return
        received = bytes(data)
        if self._incomplete:
            self._incomplete.append(received)
            self._missing -= len(received)
            if self._missing > 0:
                return
            received = b"".join(self._incomplete)
        forwarded, intercepted = self._dispatch(received)
        if self.after_read:
            callbacks, self.after_read = self.after_read, []
            for callback in callbacks:
                callback()
        if forwarded:
            self._forwarded_at = monotonic()
            super().feed_data(b"".join(forwarded))
        elif intercepted and (now := monotonic()) - self._forwarded_at >= HEARTBEAT_AFTER:
            self._forwarded_at = now
            super().feed_data(frames.HEARTBEAT_FRAME)

    @property
    def paused(self) -> bool:
        """True while aiormq has so much to read that the socket is paused."""
        return bool(len(self._buffer) > self._limit)  # type: ignore[attr-defined]

    def _dispatch(self, received: bytes) -> tuple[list[bytes], bool]:
        """Handle the frames of fast channels; return the others, and whether any was handled."""
        channels, intercepted = self.channels, False
        forwarded: list[bytes] = []
        start, end = 0, len(received)
        stop = 0
        while start < end:
            kind, number, size = received[start], 0, 0
            if end - start >= frames.OVERHEAD:
                kind, number, size = frames.HEAD.unpack_from(received, start)
            stop = start + size + frames.OVERHEAD
            if kind not in frames.KINDS or (stop <= end and received[stop - 1] != frames.FRAME_END):
                self._is_amqp = False  # aiormq reports it
                forwarded.append(received[start:])
                return forwarded, intercepted
            if stop > end:
                break
            fast = channels.get(number)
            if fast is not None:
                try:
                    handled = fast.receive(received, start, stop)
                except Exception as error:  # noqa: BLE001 - aiormq closes the connection over it
                    failures.add("a frame that cannot be read", error)
                    handled = 0
                if handled:
                    intercepted = True
                    start = handled
                    continue
            if number == 0 and self._handle_blocked(received[start + 7 : stop - 1]):
                intercepted = True
            else:
                forwarded.append(received[start:stop])
            start = stop
        self._incomplete = [received[start:]] if start < end else []
        self._missing = stop - end
        return forwarded, intercepted

    def _handle_blocked(self, payload: bytes) -> bool:
        """Handle ``connection.blocked`` and ``unblocked``; return False for anything else."""
        if payload[:4] == frames.BLOCKED:
            self.blocked = frames.read_reason(payload)
            self.unblocked.clear()
        elif payload[:4] == frames.UNBLOCKED:
            self._unblock()
        else:
            return False
        self.on_blocked()
        return True

    def _unblock(self) -> None:
        self.blocked = None
        self.unblocked.set()

    def feed_eof(self) -> None:
        """Release waiting publishers, because the connection is lost."""
        self._unblock()
        super().feed_eof()

    def set_exception(self, exc: Exception) -> None:
        """Release waiting publishers, because the connection is lost."""
        self._unblock()
        super().set_exception(exc)


class BatchingWriter(asyncio.StreamWriter):
    """Writer that batches small frames, and detects when aiormq closes a channel.

    A frame on a channel after its ``channel.close`` or ``close-ok`` would cost the connection
    (504 CHANNEL_ERROR). aiormq writes these from tasks of its own; since they pass through this
    writer, the fast channel is closed at the same moment.
    """

    def __init__(
        self,
        transport: asyncio.WriteTransport,
        protocol: asyncio.StreamReaderProtocol,
        demultiplexer: FrameDemultiplexer,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(transport, protocol, demultiplexer, loop)
        self.demultiplexer = demultiplexer
        self._batch: list[bytes] = []
        self._batch_size = 0
        self._call_soon = loop.call_soon
        self._write = transport.write
        self._is_closing = transport.is_closing
        self._threshold = demultiplexer.threshold = ReadThreshold(transport)
        self._buffer_size = transport.get_write_buffer_size

    def add_channel(self, number: int, *, frame_max: int) -> FastChannel:
        """Return a new fast channel of this number, which replaces an earlier one."""
        fast = FastChannel(number, self.send, self.send_now, self.send_request, frame_max=frame_max)
        fast.after_read = lambda callback: self.demultiplexer.after_read.append(callback)
        self.demultiplexer.channels[number] = fast
        return fast

    def remove_channel(self, fast: FastChannel) -> None:
        """Remove a fast channel, unless its number belongs to a later one."""
        if self.demultiplexer.channels.get(fast.number) is fast:
            del self.demultiplexer.channels[fast.number]

    @property
    def buffered(self) -> int:
        """Bytes that were sent and not yet written to the socket; 0 once it is closed."""
        size = self._buffer_size() + self._batch_size
        return 0 if size and self._is_closing() else size

    @property
    def unsent(self) -> int:
        """Bytes in the write buffer, without the current batch."""
        return 0 if self._is_closing() else self._buffer_size()

    def abort(self) -> None:
        """Close the socket at once, without AMQP's closing handshake."""
        self.transport.abort()

    @property
    def receiving(self) -> bool:
        """True while the socket is read."""
        reading: bool = self.transport.is_reading()  # type: ignore[attr-defined]
        return reading

    def pause_receiving(self) -> None:
        """Stop reading from the socket; the broker waits once its buffers are full."""
        if not self.transport.is_closing():
            self.transport.pause_reading()  # type: ignore[attr-defined]

    def resume_receiving(self) -> None:
        """Read from the socket again."""
        if not self.transport.is_closing():
            self.transport.resume_reading()  # type: ignore[attr-defined]

    def send(self, data: bytes) -> None:
        """Write at the end of this iteration of the loop."""
        if not self._batch:
            self._threshold.reset()
            self._call_soon(self._flush)
        self._batch.append(data)
        self._batch_size += len(data)

    def send_now(self, data: bytes) -> None:
        """Write now, together with the current batch."""
        self._threshold.reset()
        if self._batch:
            self._batch.append(data)
            self._flush()
        elif not self._is_closing():
            self._write(data)

    def send_request(self, data: bytes) -> None:
        """Write now a message whose confirm is not read before what comes next, as its reply."""
        if self._batch or len(data) > SMALL_REQUEST:
            self.send_now(data)
        elif not self._is_closing():
            self._threshold.raise_above_confirm()
            self._write(data)

    def write(self, data: Any) -> None:
        """Write now, after the current batch."""
        self._threshold.reset()
        self._flush()
        if data[:1] == b"\x01" and data[7:11] in (frames.CLOSE, frames.CLOSE_OK):
            fast = self.demultiplexer.channels.get(int.from_bytes(data[1:3]))
            if fast is not None:
                fast.shut()
        super().write(data)

    async def drain(self) -> None:
        """Wait until the write buffer has room."""
        self._flush()  # so that the batch counts
        await super().drain()

    async def drained(self) -> None:
        """Wait until the write buffer has room and the broker accepts messages."""
        await self.drain()
        await self.demultiplexer.unblocked.wait()

    def _flush(self) -> None:
        if self._batch:
            data = b"".join(self._batch)
            self._batch.clear()
            self._batch_size = 0
            if not self._is_closing():
                self._write(data)
