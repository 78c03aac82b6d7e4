"""Both ends of a connection's socket, shared between aiormq and fast channels.

aiormq takes a reader and a writer from its public `TransportFactory`. `FrameDemultiplexer` is the
reader: it cuts the bytes into frames (AMQP 0-9-1, section 4.2.3), hands those of fast channels'
consumers to their `FastChannel` at once, and leaves all others to aiormq. `BatchingWriter` is the
writer: what fast channels send in one pass of the loop goes out in one write, in order with what
aiormq writes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any, SupportsIndex

from fabric_nb.fabric.amqp import frames
from fabric_nb.fabric.amqp.fast_channel import FastChannel
from fabric_nb.fabric.core.tasks import failures

SIGN_OF_LIFE = 1.0
"""Seconds after which aiormq, which sees nothing of our frames, gets a heartbeat in their place:
it takes a connection on which it has read nothing for three heartbeats for dead."""


class FrameDemultiplexer(asyncio.StreamReader):
    """A reader that keeps the frames of our own channels to itself.

    They are handled as they come, and nothing more is read meanwhile: the socket and the
    broker's prefetch hold up what is too much. aiormq's share pauses the socket as ever.

    It also hears when the broker takes no more messages (``connection.blocked``), and keeps that
    from aiormq: what the broker is asked for meanwhile waits in the socket.

    Attributes:
        blocked: why the broker takes nothing, in its words; None while it does.
        flowing: set while it does, and when the connection is lost.
        on_flow: called when `blocked` has changed.
        received: goes up whenever something has come.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self.lanes: dict[int, FastChannel] = {}
        self.blocked: str | None = None
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.on_flow: Callable[[], object] = lambda: None
        self._begun: list[bytes] = []  # a frame of which not all has come
        self._missing = 0  # bytes of it that must come before it is worth a look
        self._passed_on_at = monotonic()
        self._astray = False
        self.received = 0

    def feed_data(self, data: Iterable[SupportsIndex]) -> None:
        """Take in what has come from the socket, however it is cut."""
        self.received += 1
        if self._astray:
            super().feed_data(data)
            return
        came = bytes(data)
        self._begun.append(came)
        self._missing -= len(came)
        if self._missing > 0:
            return
        others, tapped = self._sort(b"".join(self._begun))
        now = monotonic()
        if tapped and not others and now - self._passed_on_at >= SIGN_OF_LIFE:
            others.append(frames.HEARTBEAT_FRAME)
        if others:
            self._passed_on_at = now
            super().feed_data(b"".join(others))

    @property
    def paused(self) -> bool:
        """True while aiormq has so much to read that nothing more is taken from the socket."""
        return bool(len(self._buffer) > self._limit)  # type: ignore[attr-defined]

    def _sort(self, received: bytes) -> tuple[list[bytes], bool]:
        """Hand out our frames; return those of aiormq, and whether any was ours."""
        lanes, tapped = self.lanes, False
        others: list[bytes] = []
        start, end = 0, len(received)
        stop = 0
        while start < end:
            kind, number, size = received[start], 0, 0
            if end - start >= frames.OVERHEAD:
                kind, number, size = frames.HEAD.unpack_from(received, start)
            stop = start + size + frames.OVERHEAD
            if kind not in frames.KINDS or (stop <= end and received[stop - 1] != frames.FRAME_END):
                self._astray = True  # it is not AMQP, and aiormq knows what to say to that
                others.append(received[start:])
                return others, tapped
            if stop > end:
                break
            lane = lanes.get(number)
            payload = received[start + 7 : stop - 1]
            if (lane is not None and _taken(lane, kind, payload)) or (
                number == 0 and self._heard_of_flow(payload)
            ):
                tapped = True
            else:
                others.append(received[start:stop])
            start = stop
        self._begun = [received[start:]] if start < end else []
        self._missing = stop - end
        return others, tapped

    def _heard_of_flow(self, payload: bytes) -> bool:
        """Take note of ``connection.blocked`` and ``unblocked``; False for anything else."""
        if payload[:4] == frames.BLOCKED:
            self.blocked = frames.read_reason(payload)
            self.flowing.clear()
        elif payload[:4] == frames.UNBLOCKED:
            self._flow_again()
        else:
            return False
        self.on_flow()
        return True

    def _flow_again(self) -> None:
        self.blocked = None
        self.flowing.set()

    def feed_eof(self) -> None:
        """The connection is lost: nobody waits for it any more."""
        self._flow_again()
        super().feed_eof()

    def set_exception(self, exc: Exception) -> None:
        """The connection is lost: nobody waits for it any more."""
        self._flow_again()
        super().set_exception(exc)


def _taken(lane: FastChannel, kind: int, payload: bytes) -> bool:
    """Offer a frame to a lane; one that it cannot read is aiormq's to complain about."""
    try:
        return lane.take(kind, payload)
    except Exception as error:  # noqa: BLE001 - aiormq closes the connection over it
        failures.add("a frame that cannot be read", error)
        return False


class BatchingWriter(asyncio.StreamWriter):
    """A writer that gathers small frames, and notices when a channel is closed.

    A frame on a channel after its ``channel.close`` or ``close-ok`` would cost the connection
    (504 CHANNEL_ERROR). aiormq writes these from tasks of its own; as they come by here, the
    channel's lane is shut in the same moment.
    """

    def __init__(
        self,
        transport: asyncio.WriteTransport,
        protocol: asyncio.StreamReaderProtocol,
        tap: FrameDemultiplexer,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(transport, protocol, tap, loop)
        self.tap = tap
        self._gathered: list[bytes] = []
        self._gathered_size = 0
        self._call_soon = loop.call_soon

    def lane(self, number: int, *, frame_max: int) -> FastChannel:
        """A lane for the channel of that number, in place of the one of an earlier channel."""
        lane = self.tap.lanes[number] = FastChannel(number, self.send, frame_max=frame_max)
        return lane

    def leave(self, lane: FastChannel) -> None:
        """The lane's channel is no more."""
        if self.tap.lanes.get(lane.number) is lane:
            del self.tap.lanes[lane.number]

    @property
    def buffered(self) -> int:
        """Bytes that were written and not yet taken by the socket; none once it is closed."""
        if self.transport.is_closing():
            return 0
        return self.transport.get_write_buffer_size() + self._gathered_size

    @property
    def unsent(self) -> int:
        """Bytes that the socket does not take yet."""
        return 0 if self.transport.is_closing() else self.transport.get_write_buffer_size()

    def abort(self) -> None:
        """Give the connection up, without a word to the other end."""
        self.transport.abort()

    def hold(self) -> None:
        """Read no more from the socket; the broker waits once its buffers are full."""
        self._receiving("pause_reading")

    def let_go(self) -> None:
        """Read from the socket again."""
        self._receiving("resume_reading")

    def _receiving(self, what: str) -> None:
        if not self.transport.is_closing():
            getattr(self.transport, what)()

    def send(self, data: bytes) -> None:
        """Write, at the end of this pass of the loop."""
        if not self._gathered:
            self._call_soon(self._flush)
        self._gathered.append(data)
        self._gathered_size += len(data)

    def write(self, data: Any) -> None:
        """Write now, after what was sent before."""
        self._flush()
        if data[:1] == b"\x01" and data[7:11] in (frames.CLOSE, frames.CLOSE_OK):
            lane = self.tap.lanes.get(int.from_bytes(data[1:3]))
            if lane is not None:
                lane.shut()
        super().write(data)

    async def drain(self) -> None:
        """Wait until the socket takes more."""
        self._flush()  # so that what was gathered counts
        await super().drain()

    async def drained(self) -> None:
        """Wait until the socket and the broker take more."""
        await self.drain()
        await self.tap.flowing.wait()

    def _flush(self) -> None:
        if self._gathered:
            data = b"".join(self._gathered)
            self._gathered.clear()
            self._gathered_size = 0
            if not self.transport.is_closing():
                super().write(data)
