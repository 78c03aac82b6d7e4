"""Accounting of `make soak`: messages sent and received, and growth of resources; no I/O."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields

PENDING, CONFIRMED, FAILED = 0, 1, 2
"""Status of a message at its sender."""
UNACKNOWLEDGED = 1000
"""Upper bound of messages that a reader has not acknowledged, or a sender has not confirmed."""
MAX_MEMORY_GROWTH, MAX_MEMORY_FACTOR = 30.0, 1.1
"""Allowed growth of memory: MB, and factor; two bytes per message are kept until the end."""


@dataclass
class Flow:
    """Numbered messages from one sender to one reader, with the status of each.

    Attributes:
        name: Name in reports.
        guaranteed: Whether all confirmed messages must arrive, also over an outage.
        may_repeat: Whether messages around an outage may arrive twice.
        statuses: Status of each message at the sender, shared by flows of one sender.
        received: Number of arrivals of each message.
        dropped: Number of messages that the sender has counted as lost.
        outages: Ranges of messages that were in flight while a connection was lost or
            the broker accepted nothing.
    """

    name: str
    guaranteed: bool = False
    may_repeat: bool = False
    statuses: bytearray = field(default_factory=bytearray)
    received: bytearray = field(default_factory=bytearray)
    dropped: int = 0
    outages: list[range] = field(default_factory=list)
    _began: int | None = None

    @property
    def total(self) -> int:
        """Number of messages."""
        return len(self.statuses)

    def receive(self, number: int) -> None:
        """Count the arrival of a message."""
        self.received.extend(bytes(max(0, number + 1 - len(self.received))))
        self.received[number] = min(self.received[number] + 1, 255)

    def begin_outage(self) -> None:
        """Allow losses and failures from the first message that is not received or not settled."""
        if self._began is None:
            pending = self.statuses.find(PENDING)
            self._began = min(len(self.received), self.total if pending < 0 else pending)

    def end_outage(self) -> None:
        """Require the arrival of all messages from now on."""
        if self._began is not None:
            self.outages.append(range(self._began, self.total))
            self._began = None

    @property
    def missing(self) -> list[int]:
        """Confirmed messages that were not received."""
        received = self.received.ljust(self.total, b"\0")
        return [
            n
            for n, (status, count) in enumerate(zip(self.statuses, received, strict=True))
            if status == CONFIRMED and not count
        ]

    @property
    def balance(self) -> str:
        """Summary of sent, received and lost messages."""
        confirmed, failed = self.statuses.count(CONFIRMED), self.statuses.count(FAILED)
        lost, repeated = len(self.missing), sum(count > 1 for count in self.received)
        return (
            f"{self.total:,} messages: {failed:,} failed, {self.dropped:,} dropped; "
            f"{confirmed:,} sent = {confirmed - lost:,} received + {lost:,} lost "
            f"in {len(self.outages)} outages; {repeated:,} duplicates"
        )

    def violations(self) -> list[str]:
        """Return violations of `docs/guarantees.md`."""
        in_outage = self._in_outages(0)
        around = self._in_outages(UNACKNOWLEDGED)
        pending = self._numbers(lambda n: self.statuses[n] == PENDING)
        failed = self._numbers(lambda n: self.statuses[n] == FAILED and not in_outage[n])
        lost = [n for n in self.missing if self.guaranteed or not in_outage[n]]
        repeatable = around if self.may_repeat else bytes(len(around))
        repeated = [n for n, count in enumerate(self.received) if count > 1 and not repeatable[n]]
        if len(lost) <= self.dropped:
            lost = []
        violations = {
            "are neither confirmed nor failed": pending,
            "failed without an outage": failed,
            "were confirmed and lost" + ("" if self.guaranteed else " without an outage"): lost,
            "were received twice" + (" without an outage" if self.may_repeat else ""): repeated,
        }
        return [
            f"{self.name}: {len(numbers)} {text}, the first of them {numbers[:5]}"
            for text, numbers in violations.items()
            if numbers
        ]

    def _numbers(self, condition: Callable[[int], bool]) -> list[int]:
        return [n for n in range(self.total) if condition(n)]

    def _in_outages(self, before: int) -> bytearray:
        """Mark the messages of each outage, and `before` messages before it."""
        marks = bytearray(max(self.total, len(self.received)))
        for outage in self.outages:
            first = max(0, outage.start - before)
            marks[first : outage.stop] = b"\1" * (outage.stop - first)
        return marks


@dataclass(frozen=True)
class ResourceUsage:
    """Resources of the process and its broker: memory in MB, and counts."""

    memory: float
    tasks: int
    threads: int
    files: int
    channels: int
    queues: int

    def __str__(self) -> str:
        numbers = [f"{getattr(self, item.name)} {item.name}" for item in fields(self)[1:]]
        return ", ".join([f"{self.memory:.0f} MB", *numbers])

    def growth_since(self, before: ResourceUsage) -> list[str]:
        """Describe the counts that have grown; memory is not included."""
        return [
            f"{item.name} grew from {was} to {now}"
            for item in fields(self)[1:]
            if (now := getattr(self, item.name)) > (was := getattr(before, item.name))
        ]

    def memory_growth_since(self, warm: ResourceUsage) -> list[str]:
        """Describe the growth of memory since all features had been used once, if not allowed."""
        if self.memory <= warm.memory * MAX_MEMORY_FACTOR + MAX_MEMORY_GROWTH:
            return []
        return [f"memory grew from {warm.memory:.0f} to {self.memory:.0f} MB"]
