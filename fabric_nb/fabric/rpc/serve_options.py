"""Options of a served API."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, get_args

from fabric_nb.errors import InvalidArgument
from fabric_nb.fabric.core.timeouts import finite_limit
from fabric_nb.fabric.core.values import whole
from fabric_nb.fabric.wire.names import check_version

MAX_PREFETCH = 10_000
"""Concurrent calls of one method, each of which has a task that waits for it."""

Redelivered = Literal["run", "refuse"]
Ack = Literal["reply", "begin"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """Version of a served API, concurrency of its calls, and the calls that it accepts.

    Attributes:
        version: version of the service, which its keep-alives carry.
        prefetch: concurrent calls of one method, up to 10,000.
        threads: run plain functions in threads, off the loop.
        single_active: one instance receives all calls and the other instances stand by; `prefetch`
            then applies to all methods together.
        redelivered: ``run`` a call that the broker delivers again because its instance died or
            lost the connection, as amqp-fabric does; or ``refuse`` it with an error, so that no
            call runs twice, and a call that kills its process kills one instance and not all.
        ack: acknowledge a call with its ``reply``, so that it is delivered to another instance if
            this one dies; or when it begins (``begin``), so that no broker's time limit for
            acknowledgements concerns it, and it is lost with the instance (`ServiceLost`).
        allow: users of the broker whose calls are accepted; None: all users.
        exchanges: additional exchanges whose messages are accepted as calls; ``""`` is the default
            exchange, and ``"*"`` means all, including dead letters.
        reply_queues: additional names of reply queues (shell patterns, ``rpc.reply-*``), beside
            those that the broker or aio-pika generates.
        trace_slow: seconds from which a call is kept in `fabric.traces`, with the calls that it
            makes; failed ones are kept too; None: only sampled calls have a trace.
        remote_drain: an instance finishes and leaves when a caller asks it to (`fabric.drain`); any
            caller whose calls are accepted may do so.

    Raises:
        InvalidArgument: `redelivered` or `ack` is none of the above, or `prefetch` is no number
            from 1 to 10,000.
        InvalidArgumentType: `version` is not text.
    """

    version: str = ""
    prefetch: int = 1
    threads: bool = False
    single_active: bool = False
    redelivered: Redelivered = "run"
    ack: Ack = "reply"
    allow: Collection[str] | None = None
    exchanges: Collection[str] = ()
    reply_queues: Collection[str] = ()
    remote_drain: bool = False
    trace_slow: float | None = None

    def __post_init__(self) -> None:
        check_version(self.version)
        prefetch = whole(self.prefetch, "prefetch", low=1, high=MAX_PREFETCH)
        object.__setattr__(self, "prefetch", prefetch)  # an int, where numpy's was given
        object.__setattr__(self, "trace_slow", _slow(self.trace_slow))
        for name, choices in (("redelivered", Redelivered), ("ack", Ack)):
            if (value := getattr(self, name)) not in get_args(choices):
                known = " or ".join(map(repr, get_args(choices)))
                raise InvalidArgument(f"{name}={value!r} is not known: write {known}.")

    def needs_new_server(self, other: ServeOptions) -> bool:
        """Return whether a server with `other` options cannot change to these while it runs."""
        return (self.prefetch, self.redelivered, self.single_active) != (
            other.prefetch,
            other.redelivered,
            other.single_active,
        )


def _slow(seconds: float | None) -> float | None:
    return None if seconds is None else finite_limit(seconds, "trace_slow")
