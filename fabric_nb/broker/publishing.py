"""Publishing on one channel: content frames, confirms and transactions.

AMQP 0-9-1, section 4.2.6 for content and 1.9 of the reference for transactions; confirms are
RabbitMQ's "Publisher Confirms".
"""

from dataclasses import dataclass, field
from typing import Protocol

from pamqp import commands

from fabric_nb.broker.consuming import ConsumingConnection, Delivery, Outcome
from fabric_nb.broker.errors import NO_METHOD, AMQPError, ReplyCode
from fabric_nb.broker.field_table import shortstr
from fabric_nb.broker.framing import content_frames, method_frame
from fabric_nb.broker.memory import MemoryAccount
from fabric_nb.broker.messages import HEADER_EXPECTED, ContentHeader, Message
from fabric_nb.broker.methods import decode_method, encode_method
from fabric_nb.broker.names import REPLY_TO
from fabric_nb.broker.queues import Queue
from fabric_nb.broker.sender_selected import sender_selected
from fabric_nb.broker.vhost import VirtualHost

_PUBLISH_IDS = (60, 40)


class PublishingConnection(ConsumingConnection, Protocol):
    """The part of a connection that publishing uses."""

    vhost: VirtualHost
    user: str
    account: MemoryAccount
    max_message_size: int

    def schedule_confirms(self, publisher: "ChannelPublisher") -> None:
        """Call `ChannelPublisher.flush_confirms` after the frames received so far."""

    def throttle(self) -> None:
        """Pause reading if this publisher exceeds its memory threshold."""


class PublishArguments:
    """Decoded arguments of a Basic.Publish."""

    __slots__ = ("exchange", "mandatory", "route", "routing_key")

    def __init__(self, payload: bytes) -> None:
        method = decode_method(payload)
        assert isinstance(method, commands.Basic.Publish)  # noqa: S101 - checked by the caller
        if method.immediate:
            raise AMQPError(ReplyCode.NOT_IMPLEMENTED, "immediate=true")
        self.exchange = method.exchange
        self.routing_key = method.routing_key or ""
        self.mandatory = method.mandatory
        self.route = shortstr(self.exchange) + shortstr(self.routing_key)


@dataclass(slots=True)
class Publication:
    """A message and the queues to which it was routed."""

    message: Message
    queues: list[Queue]
    mandatory: bool


@dataclass(slots=True)
class Transaction:
    """Uncommitted publishes and settlements of a transactional channel."""

    publications: list[Publication] = field(default_factory=list)
    settlements: list[tuple[list[Delivery], Outcome]] = field(default_factory=list)


class ChannelPublisher:
    """Publishing side of one channel.

    Args:
        channel: Number of the channel.
        connection: Connection of the publisher.

    Attributes:
        transaction: The open transaction of a transactional channel, or None.
        reply_queue: Name of the queue behind the channel's direct reply-to consumer, or None.
    """

    def __init__(self, channel: int, connection: PublishingConnection) -> None:
        self.transaction: Transaction | None = None
        self.reply_queue: str | None = None
        self._channel = channel
        self._connection = connection
        self._arguments: PublishArguments | None = None
        self._last_payload = b""
        self._last_arguments: PublishArguments | None = None
        self._header: ContentHeader | None = None
        self._body_parts: list[bytes] = []
        self._remaining = 0
        # Sequence number of the last message, None unless the channel is in confirm mode; and that
        # of the last message confirmed to the client.
        self._sequence: int | None = None
        self._confirmed = 0

    @property
    def expects_content(self) -> bool:
        """True if a Basic.Publish was received without its complete content."""
        return self._arguments is not None

    def unexpected_frame(self) -> AMQPError:
        """Return the error for a frame of an unexpected type."""
        if self._arguments is None:
            text, method_ids = "expected method frame, got non method frame instead", NO_METHOD
        elif self._header is None:
            text, method_ids = HEADER_EXPECTED, _PUBLISH_IDS
        else:
            text = "expected content body, got non content body frame instead"
            method_ids = _PUBLISH_IDS
        return AMQPError(ReplyCode.UNEXPECTED_FRAME, text, method_ids)

    @property
    def confirms(self) -> bool:
        """True if the channel is in confirm mode."""
        return self._sequence is not None

    def start_confirms(self) -> None:
        """Put the channel in confirm mode; no effect if it is already."""
        if self._sequence is None:
            self._sequence = 0

    def on_publish(self, payload: bytes) -> None:
        """Handle a Basic.Publish."""
        if payload != self._last_payload or self._last_arguments is None:
            self._last_arguments = PublishArguments(payload)
            self._last_payload = payload
        self._arguments = self._last_arguments

    def on_header(self, payload: bytes) -> None:
        """Handle the content header of a message.

        Raises:
            AMQPError: UNEXPECTED_FRAME without a preceding Basic.Publish, FRAME_ERROR if it is
                malformed, PRECONDITION_FAILED for a message that is too large.
        """
        if self._arguments is None or self._header is not None:
            raise self.unexpected_frame()
        header = self._header = ContentHeader(payload)
        limit = self._connection.max_message_size
        if header.body_size > limit:
            raise AMQPError(
                ReplyCode.PRECONDITION_FAILED,
                f"message size {header.body_size} is larger than configured max size {limit}",
            )
        self._remaining = header.body_size
        if not self._remaining:
            self._complete(b"")

    def on_body(self, payload: bytes) -> None:
        """Handle a body frame of a message.

        Raises:
            AMQPError: UNEXPECTED_FRAME if no body, or a shorter one, is expected.
        """
        size = len(payload)
        if self._header is None:
            raise self.unexpected_frame()
        if size > self._remaining:
            raise AMQPError(ReplyCode.UNEXPECTED_FRAME, "more content than its header announces")
        self._remaining -= size
        if not self._remaining and not self._body_parts:
            self._complete(payload)
            return
        self._body_parts.append(payload)
        self._connection.account.charge(size)
        if not self._remaining:
            body = b"".join(self._body_parts)
            self._drop_body_parts()
            self._complete(body)
        self._connection.throttle()

    def _drop_body_parts(self) -> None:
        self._connection.account.refund(sum(map(len, self._body_parts)))
        self._body_parts.clear()

    def close(self) -> None:
        """Drop incomplete content and uncommitted publishes."""
        self._drop_body_parts()
        self._arguments = self._header = None
        self.rollback()

    def _complete(self, body: bytes) -> None:
        arguments, header = self._arguments, self._header
        assert arguments is not None  # noqa: S101 - the callers have checked
        assert header is not None  # noqa: S101
        self._arguments = self._header = None
        vhost = self._connection.vhost
        exchange = vhost.exchange(arguments.exchange)
        if exchange.internal:
            raise AMQPError(
                ReplyCode.ACCESS_REFUSED,
                f"cannot publish to internal exchange '{exchange.name}' in vhost '{vhost.name}'",
            )
        keys, header = sender_selected(arguments.routing_key, self._check_properties(header))
        message = Message(
            arguments.exchange,
            arguments.routing_key,
            arguments.route,
            header,
            body,
            self._connection.account,
        )
        queues = vhost.route(exchange, keys, header)
        if self.transaction is not None:
            message.add_reference()
            self.transaction.publications.append(Publication(message, queues, arguments.mandatory))
        else:
            self._publish(message, queues, arguments.mandatory)
        self._connection.throttle()

    def _check_properties(self, header: ContentHeader) -> ContentHeader:
        """Validate the user id, and replace a direct reply-to address."""
        user = header.shortstr("user_id")
        if user is not None and user != self._connection.user.encode():
            raise AMQPError(
                ReplyCode.PRECONDITION_FAILED,
                f"user_id property set to '{user.decode(errors='replace')}' but authenticated "
                f"user was '{self._connection.user}'",
            )
        if header.shortstr("reply_to") != REPLY_TO.encode():
            return header
        if self.reply_queue is None:
            raise AMQPError(ReplyCode.PRECONDITION_FAILED, "fast reply consumer does not exist")
        return ContentHeader(header.replace({"reply_to": shortstr(self.reply_queue)}))

    def _publish(self, message: Message, queues: list[Queue], mandatory: bool) -> None:
        if mandatory and not queues:
            self._return(message)
        accepted = self._connection.vhost.publish(message, queues)
        if self._sequence is not None:
            self._confirm(accepted)

    def _return(self, message: Message) -> None:
        method = b"".join(
            (
                b"\x00\x3c\x00\x32",
                ReplyCode.NO_ROUTE.to_bytes(2),
                shortstr(ReplyCode.NO_ROUTE.name),
                message.route,
            )
        )
        connection = self._connection
        connection.send(content_frames(self._channel, method, message, connection.max_payload))

    def _confirm(self, accepted: bool) -> None:
        assert self._sequence is not None  # noqa: S101 - the caller has checked
        if not accepted:
            self.flush_confirms()
        self._sequence += 1
        if accepted:
            self._connection.schedule_confirms(self)
        else:
            self._confirmed = self._sequence
            self._connection.send_method(
                # As in RabbitMQ: earlier messages are confirmed, and the last bit has no meaning.
                self._channel,
                commands.Basic.Nack(self._sequence, multiple=True, requeue=True),
            )

    def flush_confirms(self) -> None:
        """Confirm all messages accepted since the last confirm, in one frame."""
        if self._sequence is None or self._sequence == self._confirmed:
            return
        multiple = self._sequence - self._confirmed > 1
        self._confirmed = self._sequence
        ack = encode_method(commands.Basic.Ack(self._sequence, multiple))
        self._connection.send(method_frame(self._channel, ack))

    def commit(self) -> None:
        """Publish the messages of the transaction."""
        if self.transaction is None:
            return
        for publication in self.transaction.publications:
            queues = [queue for queue in publication.queues if not queue.deleted]
            self._publish(publication.message, queues, publication.mandatory)
            publication.message.remove_reference()
        self.transaction.publications.clear()

    def rollback(self) -> None:
        """Drop the messages of the transaction."""
        if self.transaction is None:
            return
        for publication in self.transaction.publications:
            publication.message.remove_reference()
        self.transaction.publications.clear()
