"""Streams of items: what a generator gives travels item by item to a caller that asks for that.

The caller grants credit, so many items at a time, so that neither end holds more than that.
Each end asks now and then whether the other is there, by a message that says nothing: the broker
gives it back when the queue is gone, as it does with the items.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from operator import itemgetter
from time import monotonic

from fabric_nb.errors import FabricError, MalformedMessage
from fabric_nb.fabric.amqp.channel import Channel
from fabric_nb.fabric.amqp.connection import Connection
from fabric_nb.fabric.amqp.frames import read_exchange
from fabric_nb.fabric.amqp.message import Delivery, Message
from fabric_nb.fabric.amqp.rejected import RejectedMessages
from fabric_nb.fabric.core.tasks import failures
from fabric_nb.fabric.rpc.access import is_reply_queue
from fabric_nb.fabric.rpc.invocation import Items
from fabric_nb.fabric.wire.items import (
    BEGIN,
    ITEM,
    MAX_CREDIT,
    PROBE,
    begin_message,
    item_message,
    probe_message,
    read_credit,
)

log = logging.getLogger(__name__)

WINDOW = 64
"""Items that may be on the way or wait to be taken; half of them is granted at a time."""
PROBE_EVERY = 2.0
"""Seconds after which either end asks whether the other is still there."""
GRANT_EVERY = 60.0
"""Seconds after which a caller that takes its items slowly grants credit for those that it took."""
MAX_STREAMS, MAX_STREAMS_OF_ONE = 100, 25
"""Streams that one server sends at a time, and those of them to one caller."""
STARVED_AFTER = 2.0
"""Seconds without credit after which a stream gives way to another one, when there is no room."""
GIVEN_UP_AFTER = 3600.0
"""Seconds without credit after which a stream is given up."""


class GivenUp(Exception):
    """The caller wants no more items, or is gone."""


async def probe(ask: Callable[[], object]) -> None:
    """Ask again and again, until cancelled."""
    while True:
        await asyncio.sleep(PROBE_EVERY)
        try:
            ask()
        except FabricError:  # a lost channel is handled elsewhere
            pass
        except Exception as error:  # noqa: BLE001 - the next probe may succeed
            failures.add("probing a stream of items", error)


# -- the caller's end


class Incoming:
    """What has arrived of one stream and was not taken yet.

    Attributes:
        control: where the server takes credit; empty before it has begun and after it has ended.
    """

    def __init__(self, on_begin: Callable[[], object]) -> None:
        self.control = ""
        self._on_begin = on_begin
        self._arrived: deque[Delivery] = deque()
        self._error: BaseException | None = None
        self._news: asyncio.Future[None] | None = None
        self._may_come = WINDOW
        self._taken = 0
        self._granted_at = monotonic()

    def take_in(self, delivery: Delivery) -> None:
        """A message of the server has arrived."""
        kind = delivery.type
        if kind == BEGIN:
            self._begin(delivery)
            return
        if kind == PROBE:
            return
        if kind == ITEM:
            self._may_come -= 1
            if self._may_come < 0:
                self.fail(MalformedMessage("The server sends more items than were asked for."))
                return
        else:
            self.control = ""  # it was the last message
        self._arrived.append(delivery)
        self._wake()

    def _begin(self, delivery: Delivery) -> None:
        control = delivery.reply_to or ""
        self._on_begin()
        if is_reply_queue(control):
            self.control = control
        else:  # it would get messages that are sent with our rights
            self.fail(MalformedMessage("The server names a queue for credit that no server has."))

    def fail(self, error: BaseException | None) -> None:
        """Nothing more will come: `error` is raised after what has arrived; None is no error."""
        if error is not None and self._error is None:
            self._error = error
            self._wake()

    async def next(self, timeout: float | None) -> Delivery:
        """The next message.

        Raises:
            TimeoutError: none came in time.
            Whatever `fail` was given.
        """
        while not self._arrived:
            if self._error is not None:
                raise self._error
            self._news = asyncio.get_running_loop().create_future()
            async with asyncio.timeout(timeout):
                await self._news
        return self._arrived.popleft()

    def credit(self) -> int:
        """An item was taken: how many more to ask for now."""
        self._taken += 1
        if self._taken < WINDOW // 2 and monotonic() - self._granted_at < GRANT_EVERY:
            return 0
        granted, self._taken, self._granted_at = self._taken, 0, monotonic()
        self._may_come += granted
        return granted

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)


# -- the server's end


class _Sending:
    """One stream that is being sent by the task that makes this."""

    def __init__(self, request: Delivery, credit: int) -> None:
        self.id = request.correlation_id
        self.reply_to = request.reply_to or ""
        self.caller = request.user_id, self.reply_to
        self.given_up = False
        self.displaced = False
        self.granted = False
        self.starved_since: float | None = None
        self._credit = credit
        self._granted = asyncio.Event()
        self._task = asyncio.current_task()

    async def allowed(self) -> None:
        """Wait until the caller wants one item more, and count it.

        Raises:
            RuntimeError: it has wanted none for `GIVEN_UP_AFTER` seconds.
        """
        while not self._credit:
            self._granted.clear()
            self.starved_since = monotonic()
            try:
                async with asyncio.timeout(GIVEN_UP_AFTER):
                    await self._granted.wait()
            except TimeoutError:
                raise RuntimeError(
                    f"The stream was given up: no item of it was wanted for {GIVEN_UP_AFTER:g} s."
                ) from None
        self.starved_since = None
        self.check()
        self._credit -= 1

    def check(self) -> None:
        """Raise `GivenUp` when the stream was given up."""
        if self.given_up:  # and what runs has swallowed its cancellation
            raise GivenUp

    def grant(self, credit: int) -> None:
        """The caller wants so many items more."""
        self.granted = True
        self._credit = min(self._credit + credit, 2 * MAX_CREDIT)
        self._granted.set()

    def give_up(self) -> None:
        """The caller wants no more items, or is gone."""
        if not self.given_up and self._task is not None:
            self.given_up = True
            self._task.cancel()

    def displace(self) -> None:
        """Cancel it because other streams want to begin, and send the caller an error."""
        self.displaced = True
        self.give_up()

    def on_outcome(self, error: FabricError | None) -> None:
        """What became of a message to the caller."""
        if error is not None:
            self.give_up()


class Outgoing:
    """The streams that one server sends, over a channel of their own.

    Args:
        connection: where they are sent.
        rejected: where messages about streams go that cannot be read.
    """

    def __init__(self, connection: Connection, rejected: RejectedMessages) -> None:
        self._rejected = rejected
        self._sending: dict[str, _Sending] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self._control = ""
        self._begun = False
        # Confirms, because only what is confirmed is also told of when it comes back.
        self._channel = connection.channel(self._set_up, confirms=True, on_lost=self._give_up_all)

    def __len__(self) -> int:
        return len(self._sending)

    async def send(self, request: Delivery, items: Items, credit: int) -> None:
        """Send what a generator gives, as long as the caller wants it.

        Raises:
            GivenUp: the caller wants no more, or is gone.
            RuntimeError: there are too many streams, or it has wanted nothing for long.
            NotSerializable: an item cannot be JSON.
            MessageTooLarge: an item is larger than the broker takes.
            Whatever the generator raises.
        """
        sending = _Sending(request, credit)
        key = request.correlation_id or ""
        self._make_room(sending, key)
        self._sending[key] = sending
        self._idle.clear()
        probing = None
        try:
            await self._ready()
            self._out(sending, begin_message(key, self._control))
            probing = asyncio.ensure_future(probe(partial(self._probe, sending)))
            while True:
                await sending.allowed()
                taken = await items.take()
                sending.check()
                if not taken:
                    break
                message = item_message(taken[0], key)
                await self._ready()
                await self._channel.check_size(message, "An item")
                self._out(sending, message)
                await asyncio.sleep(0)  # others have their turn between any two items
        except asyncio.CancelledError:
            if sending.given_up and (task := asyncio.current_task()) is not None:
                task.uncancel()
                if sending.displaced:
                    raise RuntimeError(
                        "The stream was given up for another one: no item of it was wanted for"
                        f" {STARVED_AFTER:g} s, and {MAX_STREAMS} streams were being sent."
                    ) from None
                raise GivenUp from None
            raise
        finally:
            if probing is not None:
                probing.cancel()
            del self._sending[key]
            if not self._sending:
                self._idle.set()

    def _make_room(self, sending: _Sending, key: str) -> None:
        """See that one stream more may be sent.

        Raises:
            RuntimeError: it may not.
        """
        own = sum(one.caller == sending.caller for one in self._sending.values())
        if not key or key in self._sending or own >= MAX_STREAMS_OF_ONE:
            raise RuntimeError(
                f"The stream cannot begin: {own} are being sent to this caller, and"
                f" {MAX_STREAMS_OF_ONE} may be, each for a request with its own correlation id."
            )
        if len(self._sending) < MAX_STREAMS:
            return
        now = monotonic()
        starved = [
            (one.granted, one.starved_since, one)
            for one in self._sending.values()
            if not one.given_up
            and one.starved_since is not None
            and now - one.starved_since >= STARVED_AFTER
        ]
        if not starved:
            raise RuntimeError(
                f"The stream cannot begin: {len(self._sending)} are being sent, and {MAX_STREAMS}"
                " may be; call again in some seconds."
            )
        # First those whose caller has never wanted more, then those who have waited longest.
        min(starved, key=itemgetter(0, 1))[2].displace()

    async def finish(self, request: Delivery, last: Message) -> None:
        """Send the last message of a stream, after its items."""
        with contextlib.suppress(FabricError):  # then the caller finds out by itself
            await self._ready()
            self._channel.send("", request.reply_to or "", last)

    async def idle(self) -> None:
        """Wait until no stream is being sent."""
        await self._idle.wait()

    async def close(self) -> None:
        """Close the channel, when it was ever needed."""
        if self._begun:
            await self._channel.close()

    async def _ready(self) -> None:
        if not self._begun:
            self._begun = True
            self._channel.start()
        if not self._channel.is_ready:
            await self._channel.ready()

    def _out(self, sending: _Sending, message: Message) -> None:
        self._channel.send(
            "", sending.reply_to, message, mandatory=True, on_outcome=sending.on_outcome
        )

    def _probe(self, sending: _Sending) -> None:
        self._out(sending, probe_message(sending.id))

    async def _set_up(self, channel: Channel) -> None:
        queue = await channel.topology.declare_exclusive_queue()
        await channel.consume(queue, self._on_message, no_ack=True)
        self._control = queue

    def _on_message(self, delivery: Delivery) -> None:
        sending = self._sending.get(delivery.correlation_id or "")
        if read_exchange(delivery.origin):
            self._rejected.add("stream", "It came over an exchange.", delivery)
            return
        if sending is None or delivery.type == PROBE:
            return  # it has ended meanwhile, or is only asked after
        try:
            credit = read_credit(delivery)
        except MalformedMessage as error:
            self._rejected.add("stream", error, delivery)
            return
        if credit:
            sending.grant(credit)
        else:
            sending.give_up()

    def _give_up_all(self) -> None:
        for sending in tuple(self._sending.values()):
            sending.give_up()
