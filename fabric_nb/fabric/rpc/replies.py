"""Replies of a server: made, fitted to the broker, and sent, also after its channel was lost."""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import Any

from fabric_nb.errors import FabricError, MessageTooLarge, NotSerializable, UnusableHeader
from fabric_nb.fabric.amqp.channel import Channel
from fabric_nb.fabric.amqp.connection import Connection
from fabric_nb.fabric.amqp.message import Delivery, Message
from fabric_nb.fabric.rpc.invocation import without_own_frames
from fabric_nb.fabric.rpc.running_calls import CallKey, RunningCall, RunningCalls
from fabric_nb.fabric.rpc.served_methods import ServedMethod
from fabric_nb.fabric.wire.calls import (
    error_message,
    format_traceback,
    name_instance,
    result_message,
)

log = logging.getLogger(__name__)

MAX_ANSWERED = 1000
"""Remembered calls that were answered after the broker had requeued them."""

EncodedReply = tuple[Message, BaseException | None, str]
"""A reply, with its error and traceback."""


def encode_reply(result: Any, error: BaseException | None, request: Delivery) -> EncodedReply:
    """Return the reply to a request; its error may be one of encoding the result."""
    if error is None:
        try:
            return result_message(result, request.correlation_id), None, ""
        except NotSerializable as refused:
            refused.__suppress_context__ = True
            error = refused.with_traceback(None)  # the message says it all
        except BaseException as raised:  # noqa: BLE001 - from methods of the result
            error = raised
    traceback = format_traceback(without_own_frames(error))
    message = error_message(error, request.correlation_id, traceback=traceback)
    return message, error, traceback


class Replies:
    """Replies of one server.

    Args:
        connection: connection that the service is served on.
        channel: channel that the calls are consumed on.
        running: calls that are running.
        instance: id of the instance.
    """

    def __init__(
        self, connection: Connection, channel: Channel, running: RunningCalls, instance: str
    ) -> None:
        self._connection = connection
        self._channel = channel
        self._running = running
        self._instance = instance
        self._reconnects = connection.reconnects
        self._connected_since = 0  # the channel's first opening on the current connection
        self._answered: OrderedDict[CallKey, None] = OrderedDict()

    def on_opened(self) -> None:
        """Record that the channel was opened again."""
        if self._reconnects != self._connection.reconnects:
            self._reconnects = self._connection.reconnects
            self._connected_since = self._channel.generation
            self._answered.clear()  # those replies may have been lost with the connection

    def surely_fits(self, reply: Message) -> bool:
        """Return whether the broker is known to accept a reply."""
        return not reply.headers and self._channel.accepts(reply)

    async def fitting(self, encoded: EncodedReply, request: Delivery) -> EncodedReply:
        """Return a reply of `encode_reply` in a size that the broker accepts.

        A result that is too large becomes an error; an error that is too large is shortened.
        """
        _, error, traceback = encoded
        try:
            await self._channel.check_size(encoded[0], "The result")
        except (MessageTooLarge, UnusableHeader) as refused:
            if error is None:
                return encode_reply(None, refused.with_traceback(None), request)
            brief = error_message(error, request.correlation_id, traceback=traceback, brief=True)
            return brief, error, traceback
        except FabricError as lost:  # raised again when the reply is sent
            log.debug("The size of a reply was not checked: %s", lost)
        return encoded

    def is_current(self, delivery: Delivery) -> bool:
        """Return whether the delivery can be answered now, on the channel that it arrived on."""
        channel = self._channel
        return channel.is_ready and delivery.generation == channel.generation

    async def owns(self, method: ServedMethod, delivery: Delivery) -> bool:
        """Return whether this instance still owns the delivery.

        When the channel was lost, the broker has delivered the call to another instance. If there
        was none, the queue was deleted with the call, which then exists only here.
        """
        if not self.is_current(delivery):
            try:
                await self._channel.ready()
            except FabricError:  # closed
                return False
        return delivery.generation >= method.shared_since

    def acknowledge(self, running: RunningCall, *, at_once: bool = False) -> None:
        """Acknowledge a call, so that the broker does not deliver it again.

        With `at_once` that is written before the loop runs again, which the function may block.
        """
        if not running.acknowledged:
            running.acknowledged = True
            self._channel.ack(running.delivery, at_once=at_once)

    async def send(self, running: RunningCall, reply: Message) -> None:
        """Send the reply to a call, and acknowledge its request, if this instance still may."""
        request = running.delivery
        if not (
            self.is_current(request)
            or await self.owns(running.method, request)
            or self._was_requeued(running)
        ):
            return
        if running.report:
            name_instance(reply, self._instance)
        if running.reporter is not None:
            running.reporter.finish()  # what is left of its output precedes the reply
        # Other calls will be answered in this iteration of the loop, unless this is the only one.
        at_once = len(self._running) <= 1 and not running.method.queue
        try:
            if not request.reply_to:
                self.acknowledge(running)
            elif running.acknowledged:
                self._channel.send("", request.reply_to, reply, at_once=at_once)
            else:
                self._channel.answer(running.delivery, request.reply_to, reply, at_once=at_once)
                running.acknowledged = True
            if running.delivery.generation != self._channel.generation:
                self._remember_answered(running.key)
        except FabricError as lost:  # the broker delivers the call again
            log.debug("A reply of %s was not sent: %s", running.method.name, lost)

    def has_answered(self, key: CallKey) -> bool:
        """Return whether a call that the broker delivers again was answered here."""
        return key in self._answered

    def _was_requeued(self, running: RunningCall) -> bool:
        """Return whether the broker has requeued the call, on a connection that was not lost.

        Another instance may have begun it: the caller accepts the first reply.
        """
        return running.acknowledged or running.delivery.generation >= self._connected_since

    def _remember_answered(self, key: CallKey) -> None:
        self._answered[key] = None
        if len(self._answered) > MAX_ANSWERED:
            self._answered.popitem(last=False)
