"""Messages about running calls: their beginning, items, credit for items, and cancellation."""

from __future__ import annotations

from fabric_nb.errors import MalformedMessage
from fabric_nb.fabric.amqp.message import Delivery, Message
from fabric_nb.fabric.wire.calls import ITEM, STREAM_HEADER, name_instance, reply_message
from fabric_nb.fabric.wire.codec import decode, encode
from fabric_nb.fabric.wire.reading import number

BEGIN, END, PROBE, CANCELLED = "begin", "end", "probe", "cancelled"
CREDIT, CANCEL, EXPIRE = "credit", "cancel", "expire"
BEGIN_AFTER = 0.1
"""Seconds after which the caller of a running call learns that it has begun, at the latest."""
MAX_CREDIT = 1000
"""Maximum number of items that one message may request."""
_MAX_CREDIT_BODY = 64
"""Bytes of the longest credit message that is read."""


def wanted_credit(request: Delivery) -> int:
    """Return the initial credit of a request; 0: it requests a single reply."""
    wanted = request.headers.get(STREAM_HEADER)
    return _credit(wanted) if wanted is not None and request.reply_to else 0


def begin_message(correlation_id: str | None, control: str, instance: str) -> Message:
    """Return the first message about a call, with the instance's queue for messages about it."""
    message = reply_message(BEGIN, correlation_id, b"null", reply_to=control)
    return name_instance(message, instance)


def item_message(value: object, correlation_id: str | None) -> Message:
    """Return the message of one item.

    Raises:
        NotSerializable: the value cannot be JSON.
    """
    return reply_message(ITEM, correlation_id, *encode(value, label="the item"))


def end_message(correlation_id: str | None) -> Message:
    """Return the message for the end of the generator."""
    return reply_message(END, correlation_id, b"null")


def probe_message(correlation_id: str | None) -> Message:
    """Return a message without content, which the broker returns if the peer's queue is gone."""
    return reply_message(PROBE, correlation_id, b"null")


def credit_message(correlation_id: str, credit: int) -> Message:
    """Return the caller's request for `credit` more items."""
    return reply_message(CREDIT, correlation_id, encode(credit)[0])


def cancel_message(correlation_id: str | None, reply_to: str | None = None) -> Message:
    """Return the caller's request to end a call; with `reply_to`, `CANCELLED` is the answer."""
    return reply_message(CANCEL, correlation_id, b"null", reply_to=reply_to)


def expire_message(correlation_id: str | None) -> Message:
    """Return the caller's request not to begin a call any more; one that has begun continues."""
    return reply_message(EXPIRE, correlation_id, b"null")


def cancelled_message(correlation_id: str | None, *, stopped: bool) -> Message:
    """Return the answer to a cancel: whether the call is stopped, or runs on."""
    return reply_message(CANCELLED, correlation_id, encode(stopped)[0])


def read_cancelled(delivery: Delivery) -> bool:
    """Return whether the cancelled call is stopped."""
    return delivery.body == b"true"


def read_credit(delivery: Delivery) -> int:
    """Return the number of further items that the caller requests.

    Raises:
        MalformedMessage: it is not a number from 1 to `MAX_CREDIT`.
    """
    grants = delivery.type == CREDIT and len(delivery.body) <= _MAX_CREDIT_BODY
    credit = _credit(decode(delivery.body)) if grants else 0
    if not credit:
        raise MalformedMessage(
            f"A message about a call must be a cancel or a credit from 1, not {delivery.type!r}."
        )
    return credit


def _credit(value: object) -> int:
    return int(number(value, low=1, high=MAX_CREDIT) or 0)
