"""Caller identity and per-service access control.

A server publishes replies with its own permissions, to an address that the caller gives, and
consumes any message in its queues. Both are checked, so that no peer reaches a service through
another one (a confused deputy): see *Protection against confused deputies* in `docs/security.md`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Protocol

from fabric_nb.errors import BrokerRefused
from fabric_nb.fabric.amqp.connection import Connection
from fabric_nb.fabric.amqp.frames import read_exchange
from fabric_nb.fabric.amqp.message import Delivery
from fabric_nb.fabric.rpc.methods import Function
from fabric_nb.fabric.rpc.serve_options import ServeOptions
from fabric_nb.fabric.wire.calls import CALLER_HEADER
from fabric_nb.fabric.wire.names import DEATH_HEADER, is_part

ANYWHERE = "*"
MAX_CALLER = 300
"""Characters of the longest caller's name that is read."""
STRAY = (
    "A call that was published to another exchange, or for another method, has reached this service"
    " by a binding that is not its own."
)
_REPLY_QUEUE = re.compile(r"amq\.[!-~]{1,251}\Z|amq_[0-9a-f]{32}\Z")


def is_reply_queue(name: str) -> bool:
    """Return whether a queue has the name of a reply queue.

    Either the broker has named it (``amq.gen-…``, and ``amq.rabbitmq.reply-to.…`` for its direct
    reply-to; no client may declare a queue ``amq.…``), or aio-pika's `connect_robust`, which
    amqp-fabric uses: ``amq_`` and 32 hexadecimal digits.
    """
    return _REPLY_QUEUE.match(name) is not None


class CallState(Protocol):
    """State of a running call."""

    cancelled: bool

    @property
    def remaining(self) -> float:
        """Seconds that it may still take; infinity if it has no limit."""


@dataclass(frozen=True, slots=True)
class CallerIdentity:
    """Identity of a caller.

    Attributes:
        service: full name of its service, as it claims; empty for callers on amqp-fabric.
        instance: instance of that service, as it claims.
        user: its user at the broker, which the broker has verified; None if the caller does not
            send it, or the broker does not verify it.
    """

    service: str = ""
    instance: str = ""
    user: str | None = None
    call: CallState | None = field(default=None, repr=False, compare=False)

    @property
    def cancelled(self) -> bool:
        """True once the caller does not wait for the call any more, and says so."""
        return self.call is not None and self.call.cancelled

    @property
    def remaining(self) -> float:
        """Seconds that the call may still take; infinity if it has no limit.

        It has none if the caller lets it continue after its timeout (`cancel_on_timeout`).
        """
        return math.inf if self.call is None else self.call.remaining


def identify(delivery: Delivery, *, verified: bool) -> CallerIdentity:
    """Return the caller of a request; without its user, unless the broker has `verified` it."""
    header = delivery.headers.get(CALLER_HEADER)
    claimed = header if isinstance(header, str) and len(header) <= MAX_CALLER else ""
    return _identity(claimed, delivery.user_id if verified else None)


@lru_cache(maxsize=256)
def _identity(claimed: str, user: str | None) -> CallerIdentity:
    parts = claimed.split(".")
    if len(parts) == 4 and all(map(is_part, parts)):
        return CallerIdentity(".".join(parts[:3]), parts[3], user)
    return CallerIdentity(user=user)


class AccessControl:
    """Access control of one service: the users and messages that it accepts calls from.

    Args:
        connection: connection that the calls arrive on.
        options: options whose `allow`, `exchanges` and `reply_queues` are enforced.

    Raises:
        BrokerRefused: the broker does not verify users, so that `allow` cannot be enforced.
    """

    def __init__(self, connection: Connection, options: ServeOptions) -> None:
        self._connection = connection
        self.users: frozenset[str] | None = None
        self.exchanges: frozenset[str] = frozenset()
        self.reply_queues: tuple[str, ...] = ()
        self.restrict(options)

    def restrict(self, options: ServeOptions) -> None:
        """Enforce these options from now on; errors are the constructor's."""
        if options.allow is not None and not self._connection.verifies_users:
            raise BrokerRefused(
                f"{self._connection.broker or 'This broker'} does not verify which user sends a"
                " message, so callers cannot be told apart: serve all callers, without allow."
            )
        self.users = None if options.allow is None else frozenset(options.allow)
        self.exchanges = frozenset(options.exchanges)
        self.reply_queues = tuple(options.reply_queues)

    def identify(self, delivery: Delivery) -> CallerIdentity:
        """Return the caller of a request."""
        return identify(delivery, verified=self._connection.verifies_users)

    def refusal(self, delivery: Delivery, origin: bytes) -> str | None:
        """Return the reason to reject a message as a call; None to accept it.

        Args:
            delivery: the message.
            origin: `Delivery.origin` of the calls of the method whose queue it was in.
        """
        if delivery.origin != origin and not self._accepts_from(delivery.origin):
            return STRAY
        if DEATH_HEADER in delivery.headers and ANYWHERE not in self.exchanges:
            return "A call that was dead-lettered has reached this service in place of its caller."
        reply_to = delivery.reply_to
        if reply_to and not self.is_reply_queue(reply_to):
            return (
                f"A call wants its reply in {reply_to[:255]!r}, which is not named as reply queues"
                " are: serve it with reply_queues= that fits, if callers of yours have such ones."
            )
        return None

    def _accepts_from(self, origin: bytes) -> bool:
        return ANYWHERE in self.exchanges or read_exchange(origin) in self.exchanges

    def is_reply_queue(self, queue: str) -> bool:
        """Return whether replies may be sent to a queue."""
        return is_reply_queue(queue) or any(
            fnmatchcase(queue, pattern) for pattern in self.reply_queues
        )

    def admits(self, who: CallerIdentity) -> bool:
        """Return whether calls of a caller are accepted."""
        return self.users is None or who.user in self.users

    def authorized(self, function: Function, who: CallerIdentity) -> Function:
        """Return the function to run for a caller, or one that refuses it."""
        if self.admits(who):
            return function
        user = who.user or "a caller without a verified user"

        def refuse(**_: object) -> None:
            raise PermissionError(f"This service does not take calls of {user}.")

        return refuse
