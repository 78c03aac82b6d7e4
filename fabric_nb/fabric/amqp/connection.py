"""Connection to the broker.

A `Connection` owns one AMQP connection and reconnects when it is lost. A `Channel` is opened with
a setup, the coroutine that declares what the channel needs and starts its consumers; it is run
again whenever the channel has to be opened again. Recovery therefore has one mechanism: repeat
the setup.

aiormq owns the connection and performs the rare operations: handshake, heartbeats, channels,
queues. Messages bypass it (see `demultiplexer`), because its tasks and objects cost more than all
the rest of a call.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
from collections.abc import Callable, Coroutine, Sequence
from enum import StrEnum
from functools import partial
from typing import Any, Self, TypeVar, cast

import aiormq
from aiormq.channel import Channel as AmqpChannel
from yarl import URL

from fabric_nb.errors import (
    BrokerRefused,
    BrokerUnavailable,
    ConnectionLost,
    FabricError,
    MessageTooLarge,
    NotConnected,
    WrongLoop,
)
from fabric_nb.fabric.amqp.capabilities import BrokerCapabilities
from fabric_nb.fabric.amqp.channel import Channel, Setup
from fabric_nb.fabric.amqp.cluster import Nodes, abort
from fabric_nb.fabric.amqp.fast_channel import FastChannel
from fabric_nb.fabric.amqp.message import Message
from fabric_nb.fabric.amqp.reply_codes import PRECONDITION_FAILED
from fabric_nb.fabric.amqp.silence import CHECK_EVERY, DEAD_AFTER, SUSPECT_AFTER, Silence
from fabric_nb.fabric.amqp.transport import SocketTransport
from fabric_nb.fabric.core.backoff import backoff
from fabric_nb.fabric.core.tasks import Background, failures
from fabric_nb.fabric.core.timeouts import finite_limit

log = logging.getLogger(__name__)
T = TypeVar("T")

DEFAULT_HEARTBEAT = 600
"""Seconds. Long, because the loop of a notebook is blocked while a cell computes; a dead peer is
detected earlier by TCP (see `transport`), and by its silence (see `silence`)."""

RETRY_TIMEOUT = 10.0
"""Seconds for one attempt to reconnect, to all nodes together."""
REDECLARE_EVERY = 20.0
"""Maximum seconds after which every channel declares its exchanges and bindings again."""
_FIRST_SIZE = 64 * 1024
"""Bytes of the smallest message that is sent to learn the broker's maximum."""
_NO_QUEUE = "fabric_nb.no_queue"
"""Routing key that belongs to no queue."""
_EMBEDDED = "fabric_nb embedded broker"
_VERIFYING = {"RabbitMQ", _EMBEDDED}
"""Products that refuse a message whose user-id is not that of the login."""
_WRITE_BUFFER_HIGH = 256 * 1024
"""Bytes in the write buffer above which publishers wait."""


class State(StrEnum):
    """State of a connection."""

    CLOSED = "closed"
    CONNECTED = "connected"
    BLOCKED = "blocked"
    """Connected, but the broker accepts no messages (RabbitMQ: low on memory or disk)."""
    RECONNECTING = "reconnecting"


class Connection:
    """One AMQP connection that reconnects by itself.

    Example::

        async with Connection("amqp://guest:guest@localhost/", name="me") as connection:
            async with connection.channel(setup) as channel:
                await channel.publish("", "some.queue", Message(b"hello"))

    Args:
        uri: URI of the broker; options in its query are aiormq's (``heartbeat``, ``cafile``,
            ``certfile``, ``keyfile``, ``no_verify_ssl``). For a cluster, a list of nodes or one
            URI with several hosts (``amqp://a,b,c/``), which are tried in turn.
        name: name of this connection in the broker's own tools.
        heartbeat: seconds between AMQP heartbeats; ``heartbeat=`` in the URI wins.
        capabilities: what is known of the broker, shared with another connection to it.

    Attributes:
        on_state: listeners, called with each new `State`.
        on_silence: listeners, called with the seconds without any received byte although the
            broker was probed, and with None when it has answered or the connection is given up.
        reconnects: number of times that the connection was restored.
        reconnected_at: time of the loop at which it was last restored.
        capabilities: what is known of the broker.
    """

    def __init__(
        self,
        uri: str | Sequence[str],
        *,
        name: str,
        heartbeat: int = DEFAULT_HEARTBEAT,
        capabilities: BrokerCapabilities | None = None,
    ) -> None:
        self._nodes = Nodes(uri, name=name, heartbeat=heartbeat)
        self._amqp: aiormq.Connection | None = None
        self._transport = SocketTransport()
        self._background = Background(f"connection {name}")
        self._channels: set[Channel] = set()
        self._connected = asyncio.Event()
        self._state = State.CLOSED
        self._opened = False
        self.on_state: list[Callable[[State], object]] = []
        self.on_silence: list[Callable[[float | None], object]] = []
        self.reconnects = 0
        self.reconnected_at = float("-inf")
        self.capabilities = capabilities or BrokerCapabilities()
        self._user_id: str | None = None
        self._product = ""  # of the broker; empty without a connection
        self._size_lock = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = os.getpid()
        self._paused_by: set[int] = set()

    @property
    def state(self) -> State:
        """Current state of the connection."""
        return self._state

    @property
    def blocked(self) -> str | None:
        """Reason why the broker accepts no messages, as sent by it; None while it accepts them."""
        writer = self._transport.writer
        return writer.demultiplexer.blocked if writer is not None else None

    @property
    def masked_uri(self) -> str:
        """URI of the broker or node in use, without the password."""
        return self._nodes.masked

    @property
    def channels(self) -> tuple[Channel, ...]:
        """Channels that are set up again after a loss."""
        return tuple(self._channels)

    @property
    def open_channels(self) -> int:
        """Number of channels that are open at the broker, with the connection's own channel 0."""
        return 0 if self._amqp is None else len(self._amqp.channels)

    @property
    def receiving(self) -> bool:
        """True while the socket is read; False while consumers are too far behind."""
        writer = self._transport.writer
        return writer is not None and writer.receiving

    @property
    def received(self) -> int:
        """Number of reads from the current socket that returned bytes."""
        writer = self._transport.writer
        return writer.demultiplexer.received if writer is not None else 0

    @property
    def buffered(self) -> int:
        """Bytes that were sent and not yet written to the socket."""
        writer = self._transport.writer
        return writer.buffered if writer is not None else 0

    @property
    def broker(self) -> str:
        """Product and version of the broker, as in ``RabbitMQ 3.13.7``."""
        properties = self._amqp.server_properties if self._amqp is not None else None
        return (
            " ".join(
                str(properties[key])[:40] for key in ("product", "version") if key in properties
            )
            if properties
            else ""
        )

    @property
    def verifies_users(self) -> bool:
        """True if the broker refuses messages with another user's name (RabbitMQ's user-id)."""
        return self._product in _VERIFYING

    @property
    def embedded(self) -> bool:
        """True if it is the embedded broker."""
        return self._product == _EMBEDDED

    @property
    def keeps_queues(self) -> bool:
        """True if the broker can keep queues on disk."""
        return not self.embedded

    @property
    def user_id(self) -> str | None:
        """User name for the broker to verify in each message; None if it would not."""
        return self._user_id if self.verifies_users else None

    def drop_refused_user_id(self, error: BrokerRefused) -> bool:
        """Send no user-id any more if the broker refused a message because of it; return whether.

        The broker may know this user by another name than that in the URI, as with OAuth 2.
        """
        refused = error.code == PRECONDITION_FAILED and "user_id" in str(error)
        if refused:
            self._user_id = None
        return refused

    async def open(self, timeout: float | None = 10.0, *, retry: bool = False) -> Self:
        """Connect within `timeout` seconds; do nothing if already open.

        Args:
            timeout: seconds; None: no limit.
            retry: True to retry within that time while the broker cannot be reached.

        Raises:
            BrokerUnavailable: the broker cannot be reached, or does not accept this user; its
                subclasses tell which.
        """
        if not self._opened:
            connect = self._connect_within if retry else self._connect
            await connect(finite_limit(timeout))
            await self._activate(self._open_state)
        return self

    async def _connect_within(self, timeout: float) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        for delay in backoff():
            try:
                await self._connect(deadline - loop.time())
            except BrokerUnavailable as error:
                refused = type(error) is not BrokerUnavailable  # a retry would not change it
                if refused or loop.time() + delay >= deadline:
                    raise
                await asyncio.sleep(delay)
            else:
                return

    async def start(self) -> Self:
        """Connect in the background, without a time limit; channels wait for it."""
        await self._activate(State.RECONNECTING)
        return self

    async def _activate(self, state: State) -> None:
        self._loop = asyncio.get_running_loop()
        self._process = os.getpid()
        await self._background.open()
        self._opened = True
        self._background.keep(self._supervise, name="supervise")
        self._background.keep(self._redeclare_periodically, name="redeclare")
        self._background.keep(self._monitor_silence, name="monitor silence")
        self._set_state(state)

    async def close(self) -> None:
        """Close in order, within two seconds; do nothing if already closed."""
        if not self._opened:
            return
        self._opened = False
        self._connected.clear()
        self._set_state(State.CLOSED)
        channels, self._channels = self._channels, set()  # later ones belong to the next opening
        await self._background.aclose()
        for channel in channels:
            channel.abandon()
        await self._disconnect()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    def channel(
        self,
        setup: Setup | None = None,
        *,
        prefetch: int = 0,
        confirms: bool = False,
        on_lost: Callable[[], object] | None = None,
    ) -> Channel:
        """Return a new channel, which is to be opened.

        Args:
            setup: declares what the channel needs and starts its consumers; run again after
                every loss of the channel.
            prefetch: maximum number of unacknowledged deliveries of each consumer; 0: no limit.
            confirms: True if `Channel.publish` waits until the broker has confirmed the message.
            on_lost: called as soon as the channel is lost, before it is opened again.
        """
        return Channel(self, setup, prefetch=prefetch, confirms=confirms, on_lost=on_lost)

    async def connected(self) -> None:
        """Wait until there is a connection.

        Raises:
            NotConnected: it was closed, or never opened.
        """
        if not self._opened:
            raise NotConnected(f"The connection to {self.masked_uri} is closed: open it first.")
        await self._connected.wait()

    # -- the event loop

    @property
    def in_other_loop(self) -> bool:
        """True if it was opened in another event loop than the one that runs now."""
        try:
            return self._opened and self._loop is not asyncio.get_running_loop()
        except RuntimeError:  # none is running
            return True

    def check_loop(self) -> None:
        """Refuse use in another event loop, where nothing would ever be received.

        Raises:
            WrongLoop: it was opened in another one.
        """
        if self.in_other_loop:
            raise WrongLoop(
                f"The connection to {self.masked_uri} was opened in another event loop or thread:"
                " use it there (asyncio.run_coroutine_threadsafe), or open a connector here."
            )

    async def run_in_own_loop(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` in the event loop of this connection, and wait for it from another loop.

        Raises:
            WrongLoop: that loop is not running, or runs in the process that forked this one.
        """
        loop = self._loop
        if self._process != os.getpid():  # the forked copy of the loop seems to run
            work.close()
            raise WrongLoop(
                f"The connection to {self.masked_uri} was opened in process {self._process}, of"
                " which this one is a fork: open a connector here."
            )
        if loop is None or not loop.is_running():
            work.close()
            raise WrongLoop(
                f"The connection to {self.masked_uri} was opened in an event loop that does not"
                " run any more: open a connector in this one."
            )
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))

    # -- recovery

    async def _connect(self, timeout: float) -> None:
        self._amqp = await self._nodes.connect(self._transport, timeout)
        if self._transport.writer is not None:
            self._transport.writer.demultiplexer.on_blocked = self._on_blocked
        self._user_id = _user_id_of(self._nodes.url)
        self._product = str((self._amqp.server_properties or {}).get("product"))
        self._paused_by.clear()  # a new socket is not paused
        self._connected.set()

    async def _disconnect(self) -> None:
        amqp, self._amqp, self._product = self._amqp, None, ""
        if amqp is not None:
            await abort(amqp)

    async def _supervise(self) -> None:
        if self._amqp is None:
            await self._reconnect()
        while True:
            assert self._amqp is not None  # noqa: S101 - set by `_connect`
            lost = asyncio.Event()
            self._amqp.closing.add_done_callback(partial(_signal, lost))
            await self._until_recovered(lost)
            if not lost.is_set():
                self._set_state(self._open_state)
            await lost.wait()
            self._connected.clear()
            self._set_state(State.RECONNECTING)
            log.info("Connection to %s lost, reconnecting", self.masked_uri)
            await self._reconnect()
            self.reconnects += 1
            self.reconnected_at = asyncio.get_running_loop().time()

    async def _until_recovered(self, lost: asyncio.Event) -> None:
        """Wait until each channel is open again or was refused, or the connection is lost again."""
        either = [asyncio.ensure_future(wait) for wait in (self._all_attempted(), lost.wait())]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in either:
                task.cancel()

    async def _all_attempted(self) -> None:
        for channel in self.channels:
            await channel.attempted()

    async def _redeclare_periodically(self) -> None:
        while True:
            await asyncio.sleep(REDECLARE_EVERY * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load
            for channel in self.channels:
                if channel.is_ready:
                    try:
                        await channel.topology.redeclare()
                    except FabricError:  # the channel is lost, and recovers
                        pass
                    except Exception as error:  # noqa: BLE001 - the other channels are next
                        failures.add("declaring a channel's queues again", error)

    async def _monitor_silence(self) -> None:
        silence, writer, suspected = Silence(), None, False
        while True:
            await asyncio.sleep(CHECK_EVERY)
            # Receiving is paused on purpose, or because aiormq is far behind.
            paused = (
                self.blocked
                or self._paused_by
                or (writer is not None and writer.demultiplexer.paused)
            )
            if self._transport.writer is not writer or not self._connected.is_set() or paused:
                writer = self._transport.writer
                silence.reset()
            elif writer is not None:
                silence.update(writer.demultiplexer.received, writer.unsent)
            if (silence.seconds >= SUSPECT_AFTER) is not suspected:
                suspected = not suspected
                _notify(self.on_silence, silence.seconds if suspected else None, "silence")
            if silence.seconds >= DEAD_AFTER and writer is not None:
                log.info("%s does not respond any more", self.masked_uri)
                writer.abort()
                silence.reset()
            elif silence.probe_due():
                any(channel.probe() for channel in self.channels)

    async def _reconnect(self) -> None:
        for delay in backoff():
            await asyncio.sleep(delay)
            try:
                await self._connect(RETRY_TIMEOUT)
            except FabricError as error:
                log.info("%s", error)
            except Exception as error:  # noqa: BLE001 - retried, whatever it was
                failures.add("reconnecting", error)
            else:
                return

    @property
    def _open_state(self) -> State:
        return State.CONNECTED if self.blocked is None else State.BLOCKED

    def _on_blocked(self) -> None:
        self._transport.expect_reading(self.blocked is None)
        if self._state in (State.CONNECTED, State.BLOCKED):
            self._set_state(self._open_state)

    def _set_state(self, state: State) -> None:
        if state is self._state:
            return
        self._state = state
        _notify(self.on_state, state, "state")

    async def check_size(self, size: int) -> None:
        """Check that the broker accepts a body of `size` bytes, by one that is routed to no queue.

        Raises:
            MessageTooLarge: the broker refuses it.
            ConnectionLost: the connection was lost meanwhile.
        """
        capabilities = self.capabilities
        async with self._size_lock:
            if size > capabilities.accepted_size and capabilities.max_message_size is None:
                probed = max(size, _FIRST_SIZE)
                await self._probe_size(probed)
                capabilities.accepted_size = capabilities.max_message_size or probed
        if size > capabilities.accepted_size:
            raise MessageTooLarge.of(size, capabilities.accepted_size)

    async def _probe_size(self, size: int) -> None:
        try:
            async with self.channel(confirms=True) as channel:
                await channel.publish("", _NO_QUEUE, Message(bytes(size)))
        except MessageTooLarge as refused:
            self.capabilities.max_message_size = refused.limit
        except BrokerRefused as refused:  # the size is checked before the permission to publish
            log.debug("Probing a message size: %s", refused)

    # -- services for channels (`channel.ChannelOwner`)

    async def open_channel(self, *, confirms: bool) -> tuple[AmqpChannel, FastChannel]:
        """Wait for the connection; open an AMQP channel on it, with its fast channel."""
        await self.connected()
        connection, writer = self._amqp, self._transport.writer
        if connection is None or connection.is_closed or writer is None:
            raise ConnectionLost(f"The connection to {self.masked_uri} was lost.")
        # aiormq must not count confirms, because the fast channel intercepts them.
        amqp = cast(AmqpChannel, await connection.channel(publisher_confirms=False))
        frame_max = connection.connection_tune.frame_max or 0
        fast = writer.add_channel(amqp.number, frame_max=frame_max)
        amqp.closing.add_done_callback(lambda _: writer.remove_channel(fast))
        if confirms:
            await amqp.confirm_delivery()
            fast.confirming = True
        return amqp, fast

    def recover(self, channel: Channel) -> None:
        """Open the channel again, in the background."""
        with contextlib.suppress(RuntimeError):  # the connection is being closed
            self._background.spawn(channel.reopen(), name="reopen a channel")

    def register(self, channel: Channel) -> None:
        """Add a channel that is in use; it is abandoned when the connection is closed."""
        self._channels.add(channel)

    def unregister(self, channel: Channel) -> None:
        """Remove a channel that was closed."""
        self._channels.discard(channel)

    @property
    def congested(self) -> bool:
        """True if a publisher should wait: too much is unsent, or the broker accepts nothing."""
        writer = self._transport.writer
        return writer is not None and (
            writer.demultiplexer.blocked is not None or writer.buffered > _WRITE_BUFFER_HIGH
        )

    def pause_receiving(self, requester: object) -> None:
        """Receive nothing until each requester has resumed; incoming bytes wait in the socket."""
        self._paused_by.add(id(requester))
        if self._transport.writer is not None:
            self._transport.writer.pause_receiving()

    def resume_receiving(self, requester: object) -> None:
        """Receive again, unless another requester has paused it."""
        if id(requester) not in self._paused_by:
            return
        self._paused_by.discard(id(requester))
        if self._transport.writer is not None and not self._paused_by:
            self._transport.writer.resume_receiving()

    async def drained(self) -> None:
        """Wait until sending is possible again, or until the connection is lost."""
        writer = self._transport.writer
        if writer is not None:
            with contextlib.suppress(ConnectionError):
                await writer.drained()


def _user_id_of(url: URL) -> str | None:
    """Return the user of a login by password, if it fits into a property of a message."""
    user = url.user or "guest"
    by_password = url.query.get("auth", "plain") == "plain"
    return user if by_password and len(user.encode()) < 256 else None


def _notify(listeners: list[Callable[[T], object]], value: T, subject: str) -> None:
    """Call all listeners; an exception in one of them is counted."""
    for listener in tuple(listeners):
        try:
            listener(value)
        except Exception as error:  # noqa: BLE001 - must not affect the other listeners
            failures.add(f"a listener for the connection's {subject}", error)


def _signal(event: asyncio.Event, _: asyncio.Future[None]) -> None:
    event.set()
