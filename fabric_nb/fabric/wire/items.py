"""The items of a generator, sent one by one to a caller that asks for them."""

from __future__ import annotations

from fabric_nb.errors import MalformedMessage
from fabric_nb.fabric.amqp.message import Delivery, Message
from fabric_nb.fabric.wire.calls import STREAM_HEADER, reply
from fabric_nb.fabric.wire.codec import decode, encode
from fabric_nb.fabric.wire.reading import number

BEGIN, ITEM, END, PROBE = "begin", "item", "end", "probe"
CREDIT, CANCEL = "credit", "cancel"
MAX_CREDIT = 1000
"""Items that one message may ask for."""
_LONGEST_CREDIT = 64


def wanted_credit(request: Delivery) -> int:
    """How many items a request asks for to begin with; 0: it wants one reply."""
    return _credit(request.headers.get(STREAM_HEADER)) if request.reply_to else 0


def begin_message(correlation_id: str | None, control: str) -> Message:
    """The first message of a stream: where the caller can grant credit and cancel."""
    message = reply(BEGIN, correlation_id, b"null")
    message.reply_to = control
    return message


def item_message(value: object, correlation_id: str | None) -> Message:
    """One item.

    Raises:
        NotSerializable: the value cannot be JSON.
    """
    return reply(ITEM, correlation_id, *encode(value, what="the item"))


def end_message(correlation_id: str | None) -> Message:
    """The generator has ended."""
    return reply(END, correlation_id, b"null")


def probe_message(correlation_id: str | None) -> Message:
    """Says nothing; comes back when the caller is gone."""
    return reply(PROBE, correlation_id, b"null")


def credit_message(correlation_id: str, credit: int) -> Message:
    """From the caller: so many items more."""
    return reply(CREDIT, correlation_id, encode(credit)[0])


def cancel_message(correlation_id: str | None) -> Message:
    """From the caller: no more items."""
    return reply(CANCEL, correlation_id, b"null")


def read_credit(delivery: Delivery) -> int:
    """How many items more the caller asks for; 0: it wants no more at all."""
    if delivery.type == CANCEL:
        return 0
    grants = delivery.type == CREDIT and len(delivery.body) <= _LONGEST_CREDIT
    credit = _credit(decode(delivery.body)) if grants else 0
    if not credit:
        raise MalformedMessage(
            f"A message about a stream must be a cancel or a credit from 1, not {delivery.type!r}."
        )
    return credit


def _credit(value: object) -> int:
    return int(number(value, low=1, high=MAX_CREDIT) or 0)
