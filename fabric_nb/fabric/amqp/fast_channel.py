"""Messages of one AMQP channel, received and sent synchronously.

In AMQP 0-9-1, a message is a method, a content header and body frames in this order on their
channel (section 4.2.6). Confirms are RabbitMQ's extension: a channel in confirm mode numbers the
messages published on it, and ``basic.ack`` and ``basic.nack`` of the broker carry these numbers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import takewhile

from fabric_nb.errors import BrokerRefused, ConnectionLost, FabricError
from fabric_nb.fabric.amqp import frames
from fabric_nb.fabric.amqp.message import Delivery, Message
from fabric_nb.fabric.amqp.translation import Unroutable, refusal
from fabric_nb.fabric.core.tasks import failures

log = logging.getLogger(__name__)

OnDelivery = Callable[[Delivery], object]
OnBatch = Callable[[list[Delivery]], object]
OnOutcome = Callable[[FabricError | None], object]
"""Callback for the outcome of a published message: None if confirmed, otherwise the error."""
Reason = Callable[[], FabricError]
"""Factory of the error with which a channel was lost."""


class FastChannel:
    """Consumers and publisher of one channel, on the level of frames.

    Args:
        number: number of the channel.
        send: writes the bytes of frames, in one batch with others of this iteration of the loop.
        send_now: writes them at once; by default as `send`.
        send_request: writes them at once, and does not wake the loop for their confirm alone; by
            default as `send_now`.
        frame_max: bytes of the longest frame, as negotiated; 0: no limit.

    Attributes:
        generation: generation of the `Channel`, set in each delivery.
        consumers: callbacks by consumer tag.
        after_read: called with a callback, to call it after all bytes that were read.
        confirming: True if the channel is in confirm mode.
        closed: True once nothing more may be sent.
        on_shut: called with the reason when the channel is closed.
    """

    def __init__(
        self,
        number: int,
        send: Callable[[bytes], object],
        send_now: Callable[[bytes], object] | None = None,
        send_request: Callable[[bytes], object] | None = None,
        *,
        frame_max: int,
    ) -> None:
        self.number = number
        self.generation = 0
        self.consumers: dict[bytes, OnDelivery] = {}
        self.after_read: Callable[[Callable[[], object]], object] = _call
        self.confirming = False
        self.closed = False
        self.on_shut: Callable[[Reason], object] | None = None
        self._send = send
        self._send_now = send_now or send
        self._send_request = send_request or self._send_now
        self._frame_max = frame_max
        self._published = 0
        self._probes = 0
        self._outcomes: dict[int, OnOutcome] = {}
        # The message that is being received.
        self._target: OnDelivery | None = None
        self._deliver = frames.NO_DELIVER
        self._encoded: bytes | None = None
        """Its properties."""
        self._parts: list[bytes] = []
        self._missing = 0
        self._layout: frames.Layout | None = None
        """Layout of the last message that was received at once."""
        # Properties of the last message, and their bytes with the flags.
        self._properties = frames.NO_PROPERTIES
        self._properties_read = b""

    @property
    def outstanding(self) -> int:
        """Number of sent messages whose outcome is awaited."""
        return len(self._outcomes)

    # -- receiving

    def receive(self, received: bytes, start: int, stop: int) -> int:
        """Handle a frame of this channel, with messages like it that were received after it.

        Args:
            received: bytes from the socket.
            start: offset of the frame.
            stop: offset of its end.

        Returns:
            Offset of the end of what was handled; 0 if the frame is to be left to aiormq.
        """
        handled = 0
        if self._layout is not None:
            handled = self._receive_alike(self._layout, received, start)
        if (
            not handled
            and received[start] == frames.METHOD
            and received[start + 7 : start + 11] == frames.DELIVER
            and (layout := frames.Layout.of(received, self.number, start, stop)) is not None
        ):
            self._layout = layout
            handled = self._receive_alike(layout, received, start)
        if handled:
            return handled
        return stop if self._receive(received[start], received[start + 7 : stop - 1]) else 0

    def _receive_alike(self, layout: frames.Layout, received: bytes, start: int) -> int:
        """Pass on messages of one layout that follow each other; return the offset of their end."""
        end = 0
        while (message := layout.read(received, end or start)) is not None:
            target = self.consumers.get(layout.consumer_tag)
            if target is None:
                break
            tag, properties, body, end = message
            self._target = self._encoded = None
            self._pass_on(target, properties, body, tag, layout.redelivered, layout.origin)
        return end

    def _receive(self, kind: int, payload: bytes) -> bool:
        """Handle a frame; return False if it is to be left to aiormq."""
        if kind == frames.METHOD:
            self._target = self._encoded = None
            return self._receive_method(payload)
        target = self._target
        if target is None:
            return False
        if kind == frames.HEADER and self._encoded is None:
            self._missing, self._encoded = frames.read_header(payload)
            self._parts = []
        elif kind == frames.BODY and 0 < len(payload) <= self._missing:
            self._parts.append(payload)
            self._missing -= len(payload)
        else:
            self._target = None  # out of order, which aiormq reports
            return False
        if not self._missing:
            self._target = None
            body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
            _, tag, redelivered, origin = self._deliver
            self._pass_on(target, self._encoded or b"", body, tag, redelivered, origin)
        return True

    def _receive_method(self, payload: bytes) -> bool:
        method = payload[:4]
        if method == frames.DELIVER:
            self._deliver = frames.read_deliver(payload)
            self._target = self.consumers.get(self._deliver.consumer_tag)
            return self._target is not None
        if method in (frames.ACK, frames.NACK) and self.confirming:
            tag, multiple = frames.read_confirm(payload)
            self._confirm(tag, multiple=multiple, accepted=method == frames.ACK)
            return True
        if method == frames.QOS_OK and self._probes:
            self._probes -= 1
            return True
        if method == frames.RETURN:
            self._target = self._on_returned
            return True
        if method == frames.CLOSE:
            code, text = frames.read_close(payload)
            self.shut(lambda: refusal(code, text))
        return False

    def _pass_on(
        self,
        target: OnDelivery,
        encoded: bytes,
        body: bytes,
        tag: int,
        redelivered: bool,
        origin: bytes,
    ) -> None:
        if self.closed:
            return
        if encoded != self._properties_read:  # most messages of a stream have the same
            self._properties = _read_properties(encoded)
            self._properties_read = encoded
        properties = self._properties
        try:
            target(Delivery(body, *properties, tag, redelivered, self.generation, origin))
        except Exception as error:  # noqa: BLE001 - must not affect further deliveries
            failures.add("a consumer", error)

    # -- outcomes of published messages

    def _confirm(self, tag: int, *, multiple: bool, accepted: bool) -> None:
        if not multiple:
            self._settle(tag, accepted=accepted)
            return
        for each in tuple(takewhile(tag.__ge__, self._outcomes)):  # they are in order
            self._settle(each, accepted=accepted)

    def _settle(self, tag: int, *, accepted: bool) -> None:
        on_outcome = self._outcomes.pop(tag, None)
        if on_outcome is not None:
            error = None if accepted else BrokerRefused("The broker did not accept the message.")
            _report(on_outcome, error)

    def _on_returned(self, delivery: Delivery) -> None:
        tag = delivery.message_id or ""
        on_outcome = self._outcomes.pop(int(tag), None) if tag.isdecimal() else None
        if on_outcome is not None:
            _report(on_outcome, Unroutable("The message was routed to no queue."))

    def shut(self, reason: Reason | None = None) -> None:
        """Send nothing more; all messages that are not confirmed have failed."""
        if self.closed:
            return
        self.closed = True
        reason = reason or (lambda: ConnectionLost("The channel was closed meanwhile."))
        outcomes, self._outcomes = self._outcomes, {}
        if self.on_shut is not None:
            self.on_shut(reason)
        for on_outcome in outcomes.values():
            _report(on_outcome, reason())

    # -- sending

    def publish(
        self,
        exchange: str,
        routing_key: str,
        message: Message,
        *,
        mandatory: bool = False,
        on_outcome: OnOutcome | None = None,
        at_once: bool = False,
    ) -> None:
        """Send a message; `on_outcome` is called only in confirm mode.

        In confirm mode a message that is sent `at_once` is a request: its confirm is reported with
        its reply, or before anything else is received or sent.
        """
        message_id = ""
        if self.confirming:
            tag = self._published + 1
            message_id = str(tag) if mandatory else ""
        data = frames.publish(
            self.number,
            exchange,
            routing_key,
            message,
            mandatory=mandatory,
            message_id=message_id,
            frame_max=self._frame_max,
        )
        if self.confirming:
            self._published = tag
            if on_outcome is not None:
                self._outcomes[tag] = on_outcome
        if not at_once:
            self._send(data)
        elif self.confirming:
            self._send_request(data)
        else:
            self._send_now(data)

    def answer(self, queue: str, message: Message, tag: int, *, at_once: bool) -> None:
        """Send a reply to a queue and acknowledge its request, in one write."""
        reply = frames.publish(self.number, "", queue, message, frame_max=self._frame_max)
        data = reply + frames.ack(self.number, tag)
        (self._send_now if at_once else self._send)(data)

    def probe(self, prefetch: int) -> None:
        """Send the `prefetch` again, which needs no permission and is answered at once."""
        self._probes += 1
        self._send(frames.qos(self.number, prefetch))

    def check_headers(self, message: Message) -> None:
        """Raise `UnusableHeader` if the headers of a message do not fit into a frame."""
        frames.content_header(message, frame_max=self._frame_max)

    def ack(self, tag: int, *, multiple: bool, at_once: bool = False) -> None:
        """Acknowledge a delivery, or with `multiple` all up to it."""
        send = self._send_now if at_once else self._send
        send(frames.ack(self.number, tag, multiple=multiple))

    def reject(self, tag: int, *, requeue: bool) -> None:
        """Reject a delivery."""
        self._send(frames.reject(self.number, tag, requeue=requeue))


class Batches:
    """Consumer that passes on together what was read from the socket together.

    Args:
        fast: channel of the consumer.
        on_batch: called with the deliveries, in order.
    """

    def __init__(self, fast: FastChannel, on_batch: OnBatch) -> None:
        self._fast = fast
        self._on_batch = on_batch
        self._deliveries: list[Delivery] = []

    def __call__(self, delivery: Delivery) -> None:
        """Accept a delivery."""
        self._deliveries.append(delivery)
        if len(self._deliveries) == 1:
            self._fast.after_read(self._end)

    def _end(self) -> None:
        deliveries, self._deliveries = self._deliveries, []
        try:
            self._on_batch(deliveries)
        except Exception as error:  # noqa: BLE001 - must not affect further deliveries
            failures.add("a consumer", error)


def _call(callback: Callable[[], object]) -> None:
    callback()


def _read_properties(encoded: bytes) -> frames.Properties:
    try:
        return frames.read_properties(encoded)
    except (ValueError, IndexError) as error:
        log.debug("A message has properties that cannot be read: %r", error)
        return frames.NO_PROPERTIES


def _report(on_outcome: OnOutcome, error: FabricError | None) -> None:
    """Call `on_outcome`; an exception in it is counted, and further callbacks still run."""
    try:
        on_outcome(error)
    except Exception as failed:  # noqa: BLE001 - one of many callbacks
        failures.add("a callback of a published message", failed)
