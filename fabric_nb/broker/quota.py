"""Limits on channels, consumers and declarations, which bound their memory."""

from collections import Counter
from dataclasses import dataclass

from fabric_nb.broker.errors import AMQPError, ReplyCode
from fabric_nb.broker.field_table import Table


@dataclass(frozen=True, slots=True)
class Limits:
    """Maximum numbers.

    Attributes:
        channels: Open channels of all connections.
        consumers: Consumers of all queues.
        exchanges: Exchanges in addition to the predeclared ones.
        queues: Queues.
        bindings: Bindings.
        arguments_size: Characters in the `repr` of all arguments of declarations.
    """

    channels: int = 20_000
    consumers: int = 20_000
    exchanges: int = 10_000
    queues: int = 10_000
    bindings: int = 100_000
    arguments_size: int = 64 * 1024 * 1024


class Quota:
    """Counters of resources.

    Args:
        limits: The limits.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._counts: Counter[str] = Counter()
        self._arguments_size = 0

    def charge(self, kind: str, arguments: Table | None = None) -> None:
        """Count one more resource of a kind, named as in `Limits`.

        Raises:
            AMQPError: RESOURCE_ERROR if this would exceed a limit.
        """
        limit: int = getattr(self._limits, kind)
        if self._counts[kind] >= limit:
            raise AMQPError(ReplyCode.RESOURCE_ERROR, f"there are {limit} {kind}, the most allowed")
        size = self._arguments_size + _size(arguments)
        if size > self._limits.arguments_size:
            raise AMQPError(ReplyCode.RESOURCE_ERROR, f"too much in the arguments of {kind}")
        self._counts[kind] += 1
        self._arguments_size = size

    def refund(self, kind: str, arguments: Table | None = None) -> None:
        """Count one resource less."""
        self._counts[kind] -= 1
        self._arguments_size -= _size(arguments)


def _size(arguments: Table | None) -> int:
    return len(repr(arguments)) if arguments else 0
