"""One client connection: parses frames, dispatches them to channels, and sends frames.

AMQP 0-9-1, sections 2.2 and 4.2. A protocol error closes the channel or the connection of its
client, without an effect on other clients.
"""

import asyncio
import enum
import logging
import struct
from typing import Protocol

from pamqp import base, commands

from fabric_nb.broker.channel import Channel
from fabric_nb.broker.errors import NO_METHOD, AMQPError, ReplyCode
from fabric_nb.broker.framing import (
    FRAME_OVERHEAD,
    HEARTBEAT,
    HEARTBEAT_FRAME,
    METHOD,
    FrameReader,
    method_frame,
)
from fabric_nb.broker.handshake import FRAME_MIN_SIZE, Credentials, Handshake, NegotiatedParameters
from fabric_nb.broker.heartbeats import Heartbeats
from fabric_nb.broker.memory import MemoryAccount, MemoryPool
from fabric_nb.broker.methods import decode_method, encode_method
from fabric_nb.broker.publishing import ChannelPublisher
from fabric_nb.broker.queues import Queue
from fabric_nb.broker.read_throttle import PauseReason, ReadThrottle
from fabric_nb.broker.unauthenticated import UnauthenticatedConnections
from fabric_nb.broker.vhost import VirtualHost
from fabric_nb.broker.write_buffer import WriteBuffer

LOGGER = logging.getLogger(__name__)

HANDSHAKE_TIMEOUT = 10.0
"""Seconds that a client has for the handshake."""

CLOSE_TIMEOUT = 5.0
"""Seconds that a client has to answer Connection.Close."""

_MAX_FRAMES_PER_TURN = 1500
"""Maximum frames of one client that are handled in one iteration of the event loop."""

_OPEN_OK = commands.Channel.OpenOk()
# The reserved field is empty in RabbitMQ. pamqp accepts only "0", which some clients refuse.
_OPEN_OK.channel_id = ""

_METHOD_IDS = struct.Struct(">HH")
_BASIC_PUBLISH = (60, 40)


class Broker(Protocol):
    """The part of the server that a session uses."""

    vhost: VirtualHost
    pool: MemoryPool
    credentials: Credentials
    max_message_size: int
    unauthenticated: UnauthenticatedConnections

    def register_login(self, session: "Session") -> None:
        """Register a session as authenticated; raise if there are too many."""

    def remove_session(self, session: "Session") -> None:
        """Remove a session whose connection was lost."""


class State(enum.Enum):
    """State of a connection."""

    OPENING = enum.auto()
    OPEN = enum.auto()
    CLOSING = enum.auto()
    CLOSED = enum.auto()


class Session(asyncio.Protocol):
    """A client connection, after the protocol header.

    Args:
        broker: The server.
        loop: The running event loop.
        transport: Transport of the client.
    """

    def __init__(
        self, broker: Broker, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport
    ) -> None:
        self.vhost = broker.vhost
        self.user = broker.credentials.user
        self.max_message_size = broker.max_message_size
        self.account = MemoryAccount(broker.pool, self._resume_after_memory)
        self.writable = True
        self.max_payload = FRAME_MIN_SIZE - FRAME_OVERHEAD
        self.notifies_cancel = False
        self._broker = broker
        self._loop = loop
        self._transport = transport
        self._output = WriteBuffer(loop, transport, broker.pool, self._on_output_full)
        self._negotiated = NegotiatedParameters()
        self._handshake = Handshake(broker.credentials, self.vhost.name, self._negotiated)
        self._reader = FrameReader(self.max_payload)
        self._channels: dict[int, Channel] = {}
        self._closing_channels: set[int] = set()
        self._state = State.OPENING
        self._reading = ReadThrottle(
            loop, transport, self._on_reading_changed, self._send_heartbeat
        )
        self._blocked_sent = False
        self._heartbeats: Heartbeats | None = None
        self._pending_confirms: dict[ChannelPublisher, None] = {}
        self._dispatches = 0
        self._timer = loop.call_later(HANDSHAKE_TIMEOUT, transport.abort)

    def start(self) -> None:
        """Send Connection.Start."""
        self.send_method(0, self._handshake.start())

    # Input

    def data_received(self, data: bytes) -> None:
        """Receive bytes from the client."""
        if self._heartbeats is not None:
            self._heartbeats.received()
        if self._state is State.CLOSED:
            return
        self._reader.feed(data)
        self._process()

    def _process(self) -> None:
        """Handle the complete frames, until reading is paused."""
        frames_left = _MAX_FRAMES_PER_TURN
        try:
            for kind, number, payload in self._reader:
                self._handle(kind, number, payload)
                frames_left -= 1
                if not frames_left:
                    self._reading.pause(PauseReason.TURN)
                    self._loop.call_soon(self._reading.resume, PauseReason.TURN)
                if self._reading.reasons is not PauseReason.NONE:
                    break
        except AMQPError as error:
            # The frame boundaries are lost, so that later bytes cannot be parsed. Only the sending
            # side is shut down, because a client that is still sending must receive the reason.
            self._close_connection(error, NO_METHOD)
            self._state = State.CLOSED
            self._output.flush()
            self._transport.write_eof()
        for publisher in self._pending_confirms:
            publisher.flush_confirms()
        self._pending_confirms.clear()

    def _handle(self, kind: int, number: int, payload: bytes) -> None:
        try:
            channel = self._channels.get(number)
            if channel is not None:
                channel.on_frame(kind, payload)
            else:
                self._handle_unrouted(kind, number, payload)
        except AMQPError as error:
            self._close_on_error(number, _method_ids(kind, payload), error)
        except Exception:
            LOGGER.exception("a client's frame has met an error in the broker")
            failure = AMQPError(ReplyCode.INTERNAL_ERROR, "the broker failed to handle this")
            self._close_on_error(number, _method_ids(kind, payload), failure)

    def _handle_unrouted(self, kind: int, number: int, payload: bytes) -> None:
        """Handle a frame that does not belong to an open channel."""
        if self._state is State.CLOSED:
            return
        if kind == HEARTBEAT and number == 0:
            if payload:
                raise AMQPError(ReplyCode.FRAME_ERROR, "heartbeat with a payload", NO_METHOD)
        elif self._state is State.CLOSING:
            if number == 0 and kind == METHOD:
                self._on_closing_method(decode_method(payload))
        elif number == 0:
            if kind != METHOD:
                raise AMQPError(ReplyCode.UNEXPECTED_FRAME, "content on channel 0")
            self._on_connection_method(decode_method(payload))
        elif self._state is State.OPENING:
            raise AMQPError(ReplyCode.COMMAND_INVALID, "the connection is not open")
        elif number in self._closing_channels:
            self._on_closing_channel(kind, number, payload)
        else:
            self._open_channel(kind, number, payload)

    def _on_connection_method(self, method: base.Frame) -> None:
        if isinstance(method, commands.Connection.Close):
            self._release_resources()
            self.send_method(0, commands.Connection.CloseOk())
            self._finish()
        elif self._state is State.OPENING:
            reply = self._handshake.on_method(method)
            if self._handshake.done:
                self._on_opened()
            if reply is not None:
                self.send_method(0, reply)
        elif isinstance(method, commands.Connection.UpdateSecret):
            self.send_method(0, commands.Connection.UpdateSecretOk())
        else:
            raise AMQPError(
                ReplyCode.CHANNEL_ERROR, "unexpected method in connection state running"
            )

    def _on_closing_method(self, method: base.Frame) -> None:
        if isinstance(method, commands.Connection.Close):
            self.send_method(0, commands.Connection.CloseOk())
        if isinstance(method, commands.Connection.Close | commands.Connection.CloseOk):
            self._finish()

    def _on_opened(self) -> None:
        self._broker.register_login(self)
        self._broker.unauthenticated.remove(self._transport)
        self._state = State.OPEN
        self._timer.cancel()
        negotiated = self._negotiated
        self.max_payload = self._reader.max_payload = negotiated.frame_max - FRAME_OVERHEAD
        self.notifies_cancel = "consumer_cancel_notify" in negotiated.capabilities
        if negotiated.heartbeat:
            self._heartbeats = Heartbeats(
                self._loop, negotiated.heartbeat, self._send_heartbeat, self._transport.abort
            )

    def _open_channel(self, kind: int, number: int, payload: bytes) -> None:
        method = decode_method(payload) if kind == METHOD else None
        if not isinstance(method, commands.Channel.Open):
            raise AMQPError(ReplyCode.CHANNEL_ERROR, "expected 'channel.open'")
        if len(self._channels) + len(self._closing_channels) >= self._negotiated.channel_max:
            raise AMQPError(
                ReplyCode.NOT_ALLOWED,
                f"number of channels opened ({len(self._channels)}) has reached the negotiated "
                f"channel_max ({self._negotiated.channel_max})",
                NO_METHOD,
            )
        self._channels[number] = Channel(number, self)
        self.send_method(number, _OPEN_OK)

    def _on_closing_channel(self, kind: int, number: int, payload: bytes) -> None:
        """Ignore frames that a client sent before it received Channel.Close."""
        method = decode_method(payload) if kind == METHOD else None
        if isinstance(method, commands.Channel.CloseOk):
            self._closing_channels.discard(number)
        elif isinstance(method, commands.Channel.Close):
            self.send_method(number, commands.Channel.CloseOk())

    # Output

    def send(self, data: bytes) -> None:
        """Send encoded frames."""
        if self._heartbeats is not None:
            self._heartbeats.sent()
        self._output.send(data)

    def send_method(self, channel: int, method: base.Frame) -> None:
        """Send a method."""
        self.send(method_frame(channel, encode_method(method)))

    def _send_heartbeat(self) -> None:
        self._output.send(HEARTBEAT_FRAME)

    def schedule_confirms(self, publisher: ChannelPublisher) -> None:
        """Call `ChannelPublisher.flush_confirms` after the frames received so far."""
        self._pending_confirms[publisher] = None

    def pause_writing(self) -> None:
        """Stop deliveries, because the client reads slowly."""
        self.writable = False
        self._output.on_pause()

    def _on_output_full(self) -> None:
        self._reading.pause(PauseReason.OUTPUT)

    def resume_writing(self) -> None:
        """Resume deliveries, because the client has caught up."""
        self._output.on_resume()
        self._reading.resume(PauseReason.OUTPUT)
        if self._state is State.OPEN:
            self.writable = True
            self._dispatch()

    def _dispatch(self) -> None:
        """Dispatch the messages that were waiting for this client."""
        queues: dict[Queue, None] = {}
        for channel in self._channels.values():
            queues.update(dict.fromkeys(channel.consumers.queues()))
        # Starts with a different queue each time, because the first could use up all the room.
        self._dispatches += 1
        first = self._dispatches % (len(queues) or 1)
        ordered = list(queues)
        for queue in ordered[first:] + ordered[:first]:
            queue.dispatch()

    # Back-pressure

    def throttle(self) -> None:
        """Pause reading if this publisher exceeds its memory threshold."""
        if not self.account.must_wait():
            return
        self._reading.pause(PauseReason.MEMORY)
        if "connection.blocked" in self._negotiated.capabilities and not self._blocked_sent:
            self._blocked_sent = True
            self.send_method(0, commands.Connection.Blocked("low on memory"))

    def _resume_after_memory(self) -> None:
        # Scheduled, because this is called while a frame of another client is handled.
        self._loop.call_soon(self._unblock)

    def _unblock(self) -> None:
        if self._state is not State.OPEN:
            return
        if self._blocked_sent:
            self._blocked_sent = False
            self.send_method(0, commands.Connection.Unblocked())
        self._reading.resume(PauseReason.MEMORY)

    def _on_reading_changed(self, reading: bool) -> None:
        if self._heartbeats is not None:
            self._heartbeats.set_reading(reading)
        if reading and self._state is not State.CLOSED:
            self._process()

    # Closing

    def close_channel(self, number: int) -> None:
        """Remove a channel that its client has closed."""
        self._channels.pop(number).close()

    def _close_on_error(self, number: int, method_ids: tuple[int, int], error: AMQPError) -> None:
        """Close the channel or the connection because of an error of the client."""
        method_ids = error.method_ids or method_ids
        channel = self._channels.get(number)
        if error.closes_connection or channel is None:
            self._close_connection(error, method_ids)
            return
        self.close_channel(number)
        self._closing_channels.add(number)
        self.send_method(number, commands.Channel.Close(error.code, error.reply_text, *method_ids))

    def _close_connection(self, error: AMQPError, method_ids: tuple[int, int]) -> None:
        if self._state in {State.CLOSING, State.CLOSED}:
            return
        refused = self._state is State.OPENING and error.code is ReplyCode.ACCESS_REFUSED
        if refused and PauseReason.REFUSAL not in self._reading.reasons:
            self._reading.pause(PauseReason.REFUSAL)
            delay = self._broker.unauthenticated.refusal_delay()
            self._loop.call_later(delay, self._close_connection, error, method_ids)
            return
        self._release_resources()
        if refused and "authentication_failure_close" not in self._negotiated.capabilities:
            # By the specification a refused client receives only the end of the stream.
            self._finish()
            return
        self._state = State.CLOSING
        # CloseOk must be read, whatever the reasons for a pause.
        self._reading.resume(PauseReason.MEMORY | PauseReason.OUTPUT | PauseReason.REFUSAL)
        self._timer.cancel()
        self._timer = self._loop.call_later(CLOSE_TIMEOUT, self._transport.abort)
        self.send_method(0, commands.Connection.Close(error.code, error.reply_text, *method_ids))

    def shut_down(self) -> None:
        """Close the connection because the broker is stopping."""
        error = AMQPError(
            ReplyCode.CONNECTION_FORCED,
            "broker forced connection closure with reason 'shutdown'",
        )
        self._close_connection(error, NO_METHOD)

    def _release_resources(self) -> None:
        """Release all resources of this connection."""
        self.writable = False
        channels, self._channels = self._channels, {}
        for channel in channels.values():
            channel.close()
        self._pending_confirms.clear()
        self._closing_channels.clear()
        self.vhost.delete_exclusive_queues(self)
        self.account.close()
        self._output.on_resume()
        self._reading.close()
        if self._heartbeats is not None:
            self._heartbeats.stop()

    def _finish(self) -> None:
        self._state = State.CLOSED
        self._timer.cancel()
        self._output.flush()
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Release all resources of a lost connection."""
        self._release_resources()
        self._state = State.CLOSED
        self._timer.cancel()
        self._broker.unauthenticated.remove(self._transport)
        self._broker.remove_session(self)


def _method_ids(kind: int, payload: bytes) -> tuple[int, int]:
    """Return class and method number for a close: those of the offending method."""
    if kind != METHOD:
        return _BASIC_PUBLISH
    if len(payload) < _METHOD_IDS.size:
        return (0, 0)
    class_id, method_id = _METHOD_IDS.unpack_from(payload)
    return class_id, method_id
