"""Who calls: what a served function can know of its caller, and whose calls are taken."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from contextvars import ContextVar
from dataclasses import dataclass

from fabric_nb.errors import BrokerRefused
from fabric_nb.fabric.amqp import Connection, Delivery
from fabric_nb.fabric.methods import Function
from fabric_nb.fabric.naming import ServiceName, is_part

CALLER_HEADER = "x-fabric-caller"
"""Of a request: the caller's full name and instance, joined by a dot."""


@dataclass(frozen=True, slots=True)
class CallerIdentity:
    """Who has made a call.

    Attributes:
        service: its full name, as it says itself; empty for callers on amqp-fabric.
        instance: which member of it, as it says itself.
        user: who has logged in at the broker, which has checked it; None where the caller does
            not say, or the broker does not check.
    """

    service: str = ""
    instance: str = ""
    user: str | None = None


_current: ContextVar[CallerIdentity | None] = ContextVar("caller", default=None)


def caller() -> CallerIdentity | None:
    """Who has made the call that runs; None outside of a served function.

    Only `user` is verified, by the broker: anybody can say any service's name.

    Example::

        def transfer(amount: float) -> str:
            who = fabric_nb.caller()
            if who is None or who.user not in {"billing", "ann"}:
                raise PermissionError("ask billing")
    """
    return _current.get()


def caller_header(name: ServiceName, instance: str) -> str:
    """What a request says of who makes it."""
    return f"{name.fqn}.{instance}"


def identify(delivery: Delivery, *, verified: bool) -> CallerIdentity:
    """Who has made a request; the user counts only where the broker has `verified` it."""
    told = delivery.headers.get(CALLER_HEADER)
    parts = told.split(".") if isinstance(told, str) and len(told) <= 300 else []
    service, instance = "", ""
    if len(parts) == 4 and all(map(is_part, parts)):
        service, instance = ".".join(parts[:3]), parts[3]
    return CallerIdentity(service, instance, delivery.user_id if verified else None)


class Admission:
    """Whose calls a service takes: everybody's, or those of some users of the broker.

    Args:
        connection: over which the calls come.
        users: None for everybody.

    Raises:
        BrokerRefused: the broker does not verify users, and so they cannot be told apart.
    """

    def __init__(self, connection: Connection, users: Collection[str] | None = None) -> None:
        self._connection = connection
        self.users: frozenset[str] | None = None
        self.restrict(users)

    def restrict(self, users: Collection[str] | None) -> None:
        """Take the calls of these users from now on; raises what the constructor does."""
        if users is not None and not self._connection.verifies_users:
            raise BrokerRefused(
                f"{self._connection.broker or 'This broker'} does not verify which user sends a"
                " message, so callers cannot be told apart: serve everybody, without allow."
            )
        self.users = None if users is None else frozenset(users)

    @contextlib.contextmanager
    def known(self, delivery: Delivery) -> Iterator[None]:
        """Let `caller` tell who has made this request."""
        verified = self._connection.verifies_users
        token = _current.set(identify(delivery, verified=verified))
        try:
            yield
        finally:
            _current.reset(token)

    def admitted(self, function: Function) -> Function:
        """The function to run for the request at hand, or one that refuses its caller."""
        who = _current.get()
        if self.users is None or (who is not None and who.user in self.users):
            return function
        user = "a caller without a verified user" if who is None or not who.user else who.user

        def refuse(**_: object) -> None:
            raise PermissionError(f"This service does not take calls of {user}.")

        return refuse
