"""Item streams: the items of a served generator, sent one by one to the caller.

The caller grants credit for a number of items, which bounds what either end keeps. Each end probes
the other one periodically: the broker returns the probe when the peer's queue is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from operator import itemgetter
from time import monotonic

from fabric_nb.errors import FabricError, MalformedMessage
from fabric_nb.fabric.amqp.message import Delivery, Message
from fabric_nb.fabric.core.tasks import failures
from fabric_nb.fabric.rpc.access import is_reply_queue
from fabric_nb.fabric.rpc.control_channel import ControlChannel
from fabric_nb.fabric.rpc.invocation import Items
from fabric_nb.fabric.rpc.running_calls import RunningCall
from fabric_nb.fabric.wire.calls import ITEM
from fabric_nb.fabric.wire.running_calls import (
    BEGIN,
    MAX_CREDIT,
    PROBE,
    begin_message,
    item_message,
    read_credit,
)

log = logging.getLogger(__name__)

WINDOW = 64
"""Items that are in flight or wait for the caller; half of them is granted at a time."""
PROBE_EVERY = 2.0
"""Seconds between two probes."""
GRANT_EVERY = 60.0
"""Seconds after which a slow caller grants credit for the items that it has consumed."""
MAX_STREAMS, MAX_STREAMS_OF_ONE = 100, 25
"""Concurrent streams of one server, and those of them to one caller."""
STARVED_AFTER = 2.0
"""Seconds without credit after which a stream may be cancelled in favour of a new one."""
IDLE_TIMEOUT = 3600.0
"""Seconds without credit after which a stream is cancelled."""


class Cancelled(Exception):
    """The caller has cancelled the stream, or is gone."""


async def keep_probing(probe: Callable[[], object]) -> None:
    """Call `probe` periodically, until cancelled."""
    while True:
        await asyncio.sleep(PROBE_EVERY)
        try:
            probe()
        except FabricError:  # a lost channel is handled elsewhere
            pass
        except Exception as error:  # noqa: BLE001 - the next probe may succeed
            failures.add("probing a stream of items", error)


# -- the caller's end


class Incoming:
    """The caller's end of one stream: items that have arrived, and credit.

    Attributes:
        control: the server's queue for credit; empty before the stream has begun and after its end.
    """

    def __init__(self, on_begin: Callable[[], object]) -> None:
        self.control = ""
        self._on_begin = on_begin
        self._arrived: deque[Delivery] = deque()
        self._error: BaseException | None = None
        self._arrival: asyncio.Future[None] | None = None
        self._credit_left = WINDOW
        self._consumed = 0
        self._granted_at = monotonic()

    def receive(self, delivery: Delivery) -> None:
        """Accept a message of the server."""
        kind = delivery.type
        if kind == BEGIN:
            self._begin(delivery)
            return
        if kind == PROBE:
            return
        if kind == ITEM:
            self._credit_left -= 1
            if self._credit_left < 0:
                self.fail(MalformedMessage("The server sends more items than were requested."))
                return
        else:
            self.control = ""  # this is the last message
        self._arrived.append(delivery)
        self._wake()

    def _begin(self, delivery: Delivery) -> None:
        control = delivery.reply_to or ""
        self._on_begin()
        if is_reply_queue(control):
            self.control = control
        else:  # it would receive messages that are sent with this member's permissions
            self.fail(MalformedMessage("The server names a queue for credit that no server has."))

    def fail(self, error: BaseException | None) -> None:
        """Raise `error` after the messages that have arrived; None is no error."""
        if error is not None and self._error is None:
            self._error = error
            self._wake()

    async def next(self, timeout: float | None) -> Delivery:
        """Return the next message.

        Raises:
            TimeoutError: none arrived within `timeout` seconds.
            BaseException: the error of `fail`.
        """
        while not self._arrived:
            if self._error is not None:
                raise self._error
            self._arrival = asyncio.get_running_loop().create_future()
            async with asyncio.timeout(timeout):
                await self._arrival
        return self._arrived.popleft()

    def credit(self) -> int:
        """Count a consumed item; return the number of further items to request now."""
        self._consumed += 1
        if self._consumed < WINDOW // 2 and monotonic() - self._granted_at < GRANT_EVERY:
            return 0
        granted, self._consumed, self._granted_at = self._consumed, 0, monotonic()
        self._credit_left += granted
        return granted

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)


# -- the server's end


class _Sending:
    """The server's end of one stream.

    Args:
        call: the call that it answers, whose task sends the items.
        credit: initial credit.
    """

    def __init__(self, call: RunningCall, credit: int) -> None:
        request = call.delivery
        self.call = call
        self.id = request.correlation_id
        self.reply_to = request.reply_to or ""
        self.caller = request.user_id, self.reply_to
        self.displaced = False
        self.granted = False
        self.starved_since: float | None = None
        self._credit = credit
        self._granted = asyncio.Event()

    async def use_credit(self) -> None:
        """Wait for credit, and use one item of it.

        Raises:
            RuntimeError: there was none for `IDLE_TIMEOUT` seconds.
            Cancelled: the caller has cancelled the stream.
        """
        while not self._credit:
            self._granted.clear()
            self.starved_since = monotonic()
            try:
                async with asyncio.timeout(IDLE_TIMEOUT):
                    await self._granted.wait()
            except TimeoutError:
                raise RuntimeError(
                    f"The stream was cancelled: no item of it was requested for {IDLE_TIMEOUT:g} s."
                ) from None
        self.starved_since = None
        self.check()
        self._credit -= 1

    def check(self) -> None:
        """Raise `Cancelled` if the stream was cancelled."""
        if self.call.cancelled:  # the generator has swallowed the cancellation
            raise Cancelled

    def grant(self, credit: int) -> None:
        """Add credit."""
        self.granted = True
        self._credit = min(self._credit + credit, 2 * MAX_CREDIT)
        self._granted.set()

    def displace(self) -> None:
        """Cancel the stream in favour of a new one, and send the caller an error."""
        self.displaced = True
        self.call.cancel()

    def on_outcome(self, error: FabricError | None) -> None:
        """Cancel the stream if a message did not reach the caller; publish outcome callback."""
        if error is not None:
            self.call.cancel()


class Outgoing:
    """Item streams of one server.

    Args:
        control: channel that they are sent on.
        instance: id of the instance.
    """

    def __init__(self, control: ControlChannel, instance: str) -> None:
        self._control = control
        self._instance = instance
        self._sending: dict[str, _Sending] = {}
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        return len(self._sending)

    async def send(self, call: RunningCall, items: Items, credit: int) -> None:
        """Send the items of a generator, as the caller grants credit.

        Raises:
            Cancelled: the caller has cancelled the stream, or is gone.
            RuntimeError: there are too many streams, or no credit for `IDLE_TIMEOUT` seconds.
            NotSerializable: an item cannot be JSON.
            MessageTooLarge: the broker does not accept an item of this size.
            BaseException: the exception of the generator.
        """
        sending = _Sending(call, credit)
        key = sending.id or ""
        self._make_room(sending, key)
        self._sending[key] = sending
        self._idle.clear()
        try:
            await self._control.ready()
            self._send(sending, begin_message(key, self._control.queue, self._instance))
            while True:
                await sending.use_credit()
                batch = await items.take()
                sending.check()
                if not batch:
                    break
                message = item_message(batch[0], key)
                await self._control.ready()
                await self._control.check_size(message, "An item")
                self._send(sending, message)
                await asyncio.sleep(0)  # other tasks run between two items
        except asyncio.CancelledError:
            if call.cancelled and (task := asyncio.current_task()) is not None:
                task.uncancel()
                if sending.displaced:
                    raise RuntimeError(
                        "The stream was cancelled for another one: no item of it was requested for"
                        f" {STARVED_AFTER:g} s, and {MAX_STREAMS} streams were being sent."
                    ) from None
                raise Cancelled from None
            raise
        finally:
            del self._sending[key]
            if not self._sending:
                self._idle.set()

    def _make_room(self, sending: _Sending, key: str) -> None:
        """Check that one more stream may begin; cancel a starved one if necessary.

        Raises:
            RuntimeError: there are too many streams.
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
            if not one.call.cancelled
            and one.starved_since is not None
            and now - one.starved_since >= STARVED_AFTER
        ]
        if not starved:
            raise RuntimeError(
                f"The stream cannot begin: {len(self._sending)} are being sent, and {MAX_STREAMS}"
                " may be; call again in some seconds."
            )
        # First those whose caller has never granted more, then those that are starved longest.
        min(starved, key=itemgetter(0, 1))[2].displace()

    async def finish(self, request: Delivery, last: Message) -> None:
        """Send the last message of a stream, after its items."""
        with contextlib.suppress(FabricError):  # the caller's probe finds it out
            await self._control.ready()
            self._control.send(request.reply_to or "", last)

    async def idle(self) -> None:
        """Wait until no stream is being sent."""
        await self._idle.wait()

    def grant(self, delivery: Delivery) -> None:
        """Add the credit in a caller's message; do nothing if its stream has ended.

        Raises:
            MalformedMessage: it cannot be read.
        """
        if (sending := self._sending.get(delivery.correlation_id or "")) is not None:
            sending.grant(read_credit(delivery))

    def cancel_all(self) -> None:
        """Cancel all streams, as their channel is lost."""
        for sending in tuple(self._sending.values()):
            sending.call.cancel()

    def _send(self, sending: _Sending, message: Message) -> None:
        self._control.send(sending.reply_to, message, sending.on_outcome)
