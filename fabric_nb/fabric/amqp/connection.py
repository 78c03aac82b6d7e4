"""The connection to the broker.

A `Connection` holds one AMQP connection and brings it back when it is lost. A `Channel` is
opened with a setup, the coroutine that declares what the channel needs and starts its
consumers; it is run again whenever the channel has to be opened again. Recovery therefore
has one mechanism: whatever a setup makes, it makes anew.

aiormq holds the connection and does all that is asked for once: handshake, heartbeats, channels,
queues. Messages go past it, see `tap`: its tasks and objects cost more than all the rest of a call.
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
from fabric_nb.fabric.amqp.channel import Channel, Setup, backoff
from fabric_nb.fabric.amqp.cluster import Nodes, abort
from fabric_nb.fabric.amqp.fast_channel import FastChannel
from fabric_nb.fabric.amqp.message import Message
from fabric_nb.fabric.amqp.reply_codes import PRECONDITION_FAILED
from fabric_nb.fabric.amqp.silence import DEAD_AFTER, DOUBT_AFTER, LOOK_EVERY, Silence
from fabric_nb.fabric.amqp.transport import SocketTransport
from fabric_nb.fabric.core.tasks import Background, failures
from fabric_nb.fabric.core.timeouts import finite_limit

log = logging.getLogger(__name__)
T = TypeVar("T")

DEFAULT_HEARTBEAT = 600
"""Seconds. Long, because the loop of a notebook stands still while a cell computes; a dead
peer is found earlier by TCP (see `transport`), and by its silence (see `silence`)."""

RETRY_TIMEOUT = 10.0
"""Seconds for one try to connect again, to all nodes together."""
UPKEEP = 20.0
"""Seconds, at most, after which every channel declares again what it needs."""
_FIRST_SIZE = 64 * 1024
"""Bytes that are tried at once where less is asked for."""
_NO_QUEUE = "fabric_nb.no_queue"
_EMBEDDED = "fabric_nb embedded broker"
_VERIFYING = {"RabbitMQ", _EMBEDDED}
"""Products that refuse a message whose user-id is not that of the login."""
_WRITE_BUFFER_HIGH = 256 * 1024


class State(StrEnum):
    """What a connection is doing."""

    CLOSED = "closed"
    CONNECTED = "connected"
    BLOCKED = "blocked"
    """Connected, but the broker takes no messages (RabbitMQ: low on memory or disk)."""
    RECONNECTING = "reconnecting"


class Connection:
    """One AMQP connection that comes back by itself.

    Example::

        async with Connection("amqp://guest:guest@localhost/", name="me") as connection:
            async with connection.channel(setup) as channel:
                await channel.publish("", "some.queue", Message(b"hello"))

    Args:
        uri: where the broker is; options in its query are aiormq's (``heartbeat``,
            ``cafile``, ``certfile``, ``keyfile``, ``no_verify_ssl``). Of a cluster, a list of the
            nodes or one URI with several hosts (``amqp://a,b,c/``): they are tried in turn.
        name: what the broker's own tools show for this connection.
        heartbeat: seconds between AMQP heartbeats; ``heartbeat=`` in the URI wins.
        capabilities: what is known of the broker, shared with another connection to it.
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
        """Called with the seconds for which nothing has come, though the broker was asked for a
        sign of life, and with None when it has given one, or is given up."""
        self.reconnects = 0
        self.back_since = float("-inf")
        self.capabilities = capabilities or BrokerCapabilities()
        self._user_id: str | None = None
        self._sizing = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = os.getpid()
        self._holders: set[int] = set()

    @property
    def state(self) -> State:
        """What the connection is doing now."""
        return self._state

    @property
    def blocked(self) -> str | None:
        """Why the broker takes no messages, in its words; None while it takes them."""
        line = self._transport.line
        return line.tap.blocked if line is not None else None

    @property
    def masked_uri(self) -> str:
        """The broker or node in use, without the password."""
        return self._nodes.shown

    @property
    def broker(self) -> str:
        """The broker's product and version, as in ``RabbitMQ 3.13.7``."""
        properties = self._amqp.server_properties if self._amqp is not None else None
        return (
            " ".join(
                str(properties[key])[:40] for key in ("product", "version") if key in properties
            )
            if properties
            else ""
        )

    @property
    def _product(self) -> str:
        properties = self._amqp.server_properties if self._amqp is not None else None
        return str((properties or {}).get("product"))

    @property
    def verifies_users(self) -> bool:
        """Whether the broker lets nobody send under another user's name (RabbitMQ's user-id)."""
        return self._product in _VERIFYING

    @property
    def keeps_queues(self) -> bool:
        """Whether the broker can keep queues on a disk."""
        return self._product != _EMBEDDED

    @property
    def user_id(self) -> str | None:
        """The user to send as, for the broker to verify; None where it would not."""
        return self._user_id if self.verifies_users else None

    def disowned(self, error: BrokerRefused) -> bool:
        """Whether the broker refused a message for its user-id; then none is given any more.

        It may know us by another name than the URI, as with OAuth 2.
        """
        disowned = error.code == PRECONDITION_FAILED and "user_id" in str(error)
        if disowned:
            self._user_id = None
        return disowned

    async def open(self, timeout: float | None = 10.0, *, retry: bool = False) -> Self:
        """Connect within `timeout` seconds; does nothing when already open.

        Args:
            timeout: seconds; None: no limit.
            retry: try again, until then, while the broker cannot be reached.

        Raises:
            BrokerUnavailable: the broker cannot be reached, or does not let this user in;
                its subclasses say which.
        """
        if not self._opened:
            connect = self._connect_within if retry else self._connect
            await connect(finite_limit(timeout))
            await self._begin(self._standing)
        return self

    async def _connect_within(self, timeout: float) -> None:
        loop = asyncio.get_running_loop()
        ends = loop.time() + timeout
        for delay in backoff():
            try:
                await self._connect(ends - loop.time())
            except BrokerUnavailable as error:
                refused = type(error) is not BrokerUnavailable  # which no time changes
                if refused or loop.time() + delay >= ends:
                    raise
                await asyncio.sleep(delay)
            else:
                return

    async def start(self) -> Self:
        """Connect in the background, however long it takes; channels wait for it."""
        await self._begin(State.RECONNECTING)
        return self

    async def _begin(self, state: State) -> None:
        self._loop = asyncio.get_running_loop()
        self._process = os.getpid()
        await self._background.open()
        self._opened = True
        self._background.keep(self._supervise, name="supervise")
        self._background.keep(self._keep_up, name="keep up")
        self._background.keep(self._watch_silence, name="watch silence")
        self._set_state(state)

    async def close(self) -> None:
        """Close in order, within two seconds; does nothing when already closed."""
        if not self._opened:
            return
        self._opened = False
        self._connected.clear()
        self._set_state(State.CLOSED)
        channels, self._channels = self._channels, set()  # later ones are for the next opening
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
        """Make a channel; it is of use once it is opened.

        Args:
            setup: declares what the channel needs and starts its consumers; run again after
                every loss of the channel.
            prefetch: how many deliveries each consumer may hold unacknowledged; 0: no limit.
            confirms: whether `Channel.publish` waits until the broker has taken the message.
            on_lost: called at once when the channel is lost, before it is opened again.
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
    def is_elsewhere(self) -> bool:
        """True if it was opened in another event loop than the one that runs here."""
        return self._opened and self._loop is not _running_loop()

    def check_loop(self) -> None:
        """Refuse to be used in another event loop, where nothing would ever be heard.

        Raises:
            WrongLoop: it was opened in another one.
        """
        if self.is_elsewhere:
            raise WrongLoop(
                f"The connection to {self.masked_uri} was opened in another event loop or thread:"
                " use it there (asyncio.run_coroutine_threadsafe), or open a connector here."
            )

    async def in_its_loop(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` in the event loop that this was opened in, and wait for it from another one.

        Raises:
            WrongLoop: that loop does not run any more, or runs in the process that forked this one.
        """
        loop = self._loop
        if self._process != os.getpid():  # its copy of the loop seems to run
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
        if self._transport.line is not None:
            self._transport.line.tap.on_flow = self._on_flow
        self._user_id = _login_of(self._nodes.url)
        self._holders.clear()  # the new socket is read; whoever must hold it does so again
        self._connected.set()

    async def _disconnect(self) -> None:
        amqp, self._amqp = self._amqp, None
        if amqp is not None:
            await abort(amqp)

    async def _supervise(self) -> None:
        if self._amqp is None:
            await self._reconnect()
        while True:
            assert self._amqp is not None  # noqa: S101 - set by `_connect`
            lost = asyncio.Event()
            self._amqp.closing.add_done_callback(partial(_signal, lost))
            await self._until_standing(lost)
            if not lost.is_set():
                self._set_state(self._standing)
            await lost.wait()
            self._connected.clear()
            self._set_state(State.RECONNECTING)
            log.info("Connection to %s lost, reconnecting", self.masked_uri)
            await self._reconnect()
            self.reconnects += 1
            self.back_since = asyncio.get_running_loop().time()

    async def _until_standing(self, lost: asyncio.Event) -> None:
        """Wait until each channel stands again, or was refused it, or all is lost again."""
        either = [asyncio.ensure_future(one) for one in (self._all_attempted(), lost.wait())]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in either:
                one.cancel()

    async def _all_attempted(self) -> None:
        for channel in tuple(self._channels):
            await channel.attempted()

    async def _keep_up(self) -> None:
        while True:
            await asyncio.sleep(UPKEEP * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load
            for channel in tuple(self._channels):
                if channel.is_ready:
                    try:
                        await channel.topology.redeclare()
                    except FabricError:  # lost, and it recovers
                        pass
                    except Exception as error:  # noqa: BLE001 - the other channels are next
                        failures.add("declaring a channel's queues again", error)

    async def _watch_silence(self) -> None:
        silence, line, doubted = Silence(), None, False
        while True:
            await asyncio.sleep(LOOK_EVERY)
            # Nothing is received, as we want it, or because aiormq is far behind.
            ours = self.blocked or self._holders or (line is not None and line.tap.paused)
            if self._transport.line is not line or not self._connected.is_set() or ours:
                line = self._transport.line
                silence.end()
            elif line is not None:
                silence.look(line.tap.received, line.unsent)
            if (silence.seconds >= DOUBT_AFTER) is not doubted:
                doubted = not doubted
                self._tell_silence(silence.seconds if doubted else None)
            if silence.seconds >= DEAD_AFTER and line is not None:
                log.info("%s gives no sign of life any more", self.masked_uri)
                line.abort()
                silence.end()
            elif silence.asks:
                any(channel.probe() for channel in tuple(self._channels))

    def _tell_silence(self, seconds: float | None) -> None:
        for listener in tuple(self.on_silence):
            try:
                listener(seconds)
            except Exception as error:  # noqa: BLE001 - the other listeners are next
                failures.add("a listener for the connection's silence", error)

    async def _reconnect(self) -> None:
        for delay in backoff():
            await asyncio.sleep(delay)
            try:
                await self._connect(RETRY_TIMEOUT)
            except FabricError as error:
                log.info("%s", error)
            except Exception as error:  # noqa: BLE001 - whatever it was, it is tried again
                failures.add("reconnecting", error)
            else:
                return

    @property
    def _standing(self) -> State:
        return State.CONNECTED if self.blocked is None else State.BLOCKED

    def _on_flow(self) -> None:
        if self._state in (State.CONNECTED, State.BLOCKED):
            self._set_state(self._standing)

    def _set_state(self, state: State) -> None:
        if state is self._state:
            return
        self._state = state
        for listener in tuple(self.on_state):
            try:
                listener(state)
            except Exception as error:  # noqa: BLE001 - the other listeners are next
                failures.add("a listener for the connection's state", error)

    async def check_size(self, size: int) -> None:
        """Find out whether the broker takes a body of `size` bytes, by one that goes to no queue.

        Raises:
            MessageTooLarge: the broker refuses it.
            ConnectionLost: the connection was lost meanwhile.
        """
        capabilities = self.capabilities
        async with self._sizing:
            if size > capabilities.accepted_size and capabilities.max_message_size is None:
                tried = max(size, _FIRST_SIZE)
                await self._try_size(tried)
                capabilities.accepted_size = capabilities.max_message_size or tried
        if size > capabilities.accepted_size:
            raise MessageTooLarge.of(size, capabilities.accepted_size)

    async def _try_size(self, size: int) -> None:
        try:
            async with self.channel(confirms=True) as channel:
                await channel.publish("", _NO_QUEUE, Message(bytes(size)))
        except MessageTooLarge as refused:
            self.capabilities.max_message_size = refused.limit
        except BrokerRefused as refused:  # the size comes first, then the permission to publish
            log.debug("Trying a size: %s", refused)

    # -- what a channel needs (`channel.ChannelOwner`)

    async def open_channel(self, *, confirms: bool) -> tuple[AmqpChannel, FastChannel]:
        """Wait for the connection and open an AMQP channel on it, with its lane."""
        await self.connected()
        connection, line = self._amqp, self._transport.line
        if connection is None or connection.is_closed or line is None:
            raise ConnectionLost(f"The connection to {self.masked_uri} was lost.")
        # aiormq is not told of confirms: it would miss those that the lane takes.
        amqp = cast(AmqpChannel, await connection.channel(publisher_confirms=False))
        lane = line.lane(amqp.number, frame_max=connection.connection_tune.frame_max or 0)
        amqp.closing.add_done_callback(lambda _: line.leave(lane))
        if confirms:
            await amqp.confirm_delivery()
            lane.confirming = True
        return amqp, lane

    def recover(self, channel: Channel) -> None:
        """See to it that the channel is opened again."""
        with contextlib.suppress(RuntimeError):  # the connection is being closed
            self._background.spawn(channel.reopen(), name="reopen a channel")

    def register(self, channel: Channel) -> None:
        """The channel is in use, and is told when the connection goes for good."""
        self._channels.add(channel)

    def unregister(self, channel: Channel) -> None:
        """The channel was closed."""
        self._channels.discard(channel)

    @property
    def congested(self) -> bool:
        """Whether a publisher should wait: much is to be sent, or the broker takes nothing."""
        line = self._transport.line
        return line is not None and (
            line.tap.blocked is not None or line.buffered > _WRITE_BUFFER_HIGH
        )

    def hold(self, holder: object) -> None:
        """Receive nothing until each holder has let go: what comes waits in the socket."""
        self._holders.add(id(holder))
        if self._transport.line is not None:
            self._transport.line.hold()

    def let_go(self, holder: object) -> None:
        """Receive again, if no other holder is left."""
        if id(holder) not in self._holders:
            return
        self._holders.discard(id(holder))
        if self._transport.line is not None and not self._holders:
            self._transport.line.let_go()

    async def drained(self) -> None:
        """Wait until what is sent flows again, or until the connection is lost."""
        line = self._transport.line
        if line is not None:
            with contextlib.suppress(ConnectionError):
                await line.drained()


def _login_of(url: URL) -> str | None:
    """The user of a login by password, where it can be a property of a message (255 bytes)."""
    user = url.user or "guest"
    by_password = url.query.get("auth", "plain") == "plain"
    return user if by_password and len(user.encode()) < 256 else None


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _signal(event: asyncio.Event, _: asyncio.Future[None]) -> None:
    event.set()
