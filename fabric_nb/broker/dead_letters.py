"""Dead lettering of messages in queues with a dead letter exchange.

RabbitMQ's "Dead Letter Exchanges": the `x-death` header counts the deaths by queue and reason, the
last one first; `x-first-death-*` describe the first; the expiration is removed, so that it does
not apply again.
"""

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from fabric_nb.broker.field_table import (
    Table,
    array_value,
    decode_table,
    join_table,
    long_value,
    longstr_value,
    shortstr,
    split_array,
    split_table,
    table_value,
    timestamp_value,
)
from fabric_nb.broker.messages import ContentHeader, Message
from fabric_nb.broker.queues import Queue
from fabric_nb.broker.sender_selected import COPY, sender_selected

_MAX_COUNT = 2**62
_NO_FIELDS = b"\x00\x00\x00\x00"


class DeadLettering:
    """Publishes dead letters, one after the other even if one displaces the next.

    Args:
        route: Returns the queues for a message published to its dead letter exchange.
    """

    def __init__(self, route: Callable[[Message, ContentHeader], list[Queue]]) -> None:
        self._route = route
        self._pending: deque[tuple[Queue, Message, str]] = deque()
        self._sending = False

    def send(self, queue: Queue, message: Message, reason: str) -> None:
        """Publish a message as a dead letter; without a dead letter exchange it is dropped.

        Args:
            queue: Queue that drops the message.
            message: The message, unchanged.
            reason: "rejected", "expired" or "maxlen".
        """
        if queue.policy.dead_letter_exchange is None:
            return
        self._pending.append((queue, message, reason))
        with self.deferred():
            pass

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Defer dead letters to the end of the block."""
        if self._sending:
            yield
            return
        self._sending = True
        try:
            yield
            while self._pending:
                self._publish(*self._pending.popleft())
        finally:
            self._sending = False

    def _publish(self, queue: Queue, message: Message, reason: str) -> None:
        exchange = queue.policy.dead_letter_exchange or ""
        letter = dead_letter(message, queue, reason, exchange, int(time.time()))
        header = ContentHeader(letter.header)
        for target in self._route(letter, header):
            if not is_cycle(header, target):
                target.publish(letter)


def dead_letter(message: Message, queue: Queue, reason: str, exchange: str, now: int) -> Message:
    """Return the dead letter for a message.

    Args:
        message: The message, as it was in the queue.
        queue: Queue that drops the message.
        reason: "rejected", "expired" or "maxlen".
        exchange: Name of the dead letter exchange.
        now: Seconds since 1970.
    """
    header = ContentHeader(message.header)
    fields = split_table(header.raw("headers") or _NO_FIELDS)
    fields["x-death"] = array_value(_deaths(fields, message, header, queue.name, reason, now))
    if "x-first-death-reason" not in fields:
        fields["x-first-death-exchange"] = longstr_value(message.exchange)
        fields["x-first-death-queue"] = longstr_value(queue.name)
        fields["x-first-death-reason"] = longstr_value(reason)
    routing_key = queue.policy.dead_letter_routing_key
    if routing_key is None:
        routing_key = message.routing_key
    else:
        fields.pop(COPY, None)
    return Message(
        exchange,
        routing_key,
        shortstr(exchange) + shortstr(routing_key),
        ContentHeader(header.replace({"headers": join_table(fields), "expiration": None})),
        message.body,
        message.account,
    )


def _deaths(
    fields: dict[str, bytes],
    message: Message,
    header: ContentHeader,
    queue: str,
    reason: str,
    now: int,
) -> list[bytes]:
    """Return the entries of `x-death`, latest first; a repeated death increments its count."""
    origin = {"reason": longstr_value(reason), "queue": longstr_value(queue)}
    latest, remaining = None, []
    for entry in _entries(fields):
        death = split_table(entry[1:])
        if latest is None and all(death.get(name) == value for name, value in origin.items()):
            latest = {**death, "count": long_value(_death_count(decode_table(entry, 1)) + 1)}
        else:
            remaining.append(entry)
    if latest is None:
        keys, _ = sender_selected(message.routing_key, header)
        latest = {
            "count": long_value(1),
            **origin,
            "time": timestamp_value(now),
            "exchange": longstr_value(message.exchange),
            "routing-keys": array_value([longstr_value(key) for key in keys]),
        }
        expiration = header.raw("expiration")
        if expiration is not None:
            latest["original-expiration"] = longstr_value(expiration[1:].decode())
    return [table_value(latest), *remaining]


def _entries(fields: dict[str, bytes]) -> Iterable[bytes]:
    """Return the tables in `x-death`; values of other types, written by a client, are ignored."""
    value = fields.get("x-death", b"")
    return (entry for entry in split_array(value) if entry[:1] == b"F") if value[:1] == b"A" else ()


def _death_count(death: Table) -> int:
    """Return the count of a death; 1 if a client has written an invalid one."""
    count = death.get("count")
    return count if isinstance(count, int) and 0 < count < _MAX_COUNT else 1


def is_cycle(header: ContentHeader, queue: Queue) -> bool:
    """Return whether a dead letter returns to a queue without a rejection by a client.

    Such a message is dropped. A rejection on the way means that the cycle is not automatic.
    """
    fields = split_table(header.raw("headers") or _NO_FIELDS)
    for entry in _entries(fields):
        death = decode_table(entry, 1)
        if death.get("reason") == "rejected":
            return False
        if death.get("queue") == queue.name:
            return True
    return False
