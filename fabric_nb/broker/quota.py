"""How much clients may open and declare, so that this cannot fill the memory."""

from collections import Counter
from dataclasses import dataclass

from fabric_nb.broker.errors import AMQPError, ReplyCode
from fabric_nb.broker.field_table import Table


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that there may be.

    Attributes:
        channels: Open channels of all connections.
        consumers: Consumers of all queues.
        exchanges: Exchanges beside the predeclared ones.
        queues: Queues.
        bindings: Bindings.
        arguments_size: Characters of all arguments of declarations, as Python shows them.
    """

    channels: int = 20_000
    consumers: int = 20_000
    exchanges: int = 10_000
    queues: int = 10_000
    bindings: int = 100_000
    arguments_size: int = 64 * 1024 * 1024


class Quota:
    """Counts what is declared.

    Args:
        limits: The most that there may be.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._counts: Counter[str] = Counter()
        self._arguments_size = 0

    def charge(self, kind: str, arguments: Table | None = None) -> None:
        """Count one more of a kind, by its name in `Limits`.

        Raises:
            AMQPError: RESOURCE_ERROR when that would be too many, or too much in the arguments.
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
        """Count one less."""
        self._counts[kind] -= 1
        self._arguments_size -= _size(arguments)


def _size(arguments: Table | None) -> int:
    return len(repr(arguments)) if arguments else 0
