"""The account at the end of `make soak`: what was sent, what came and what has grown. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields

UNSETTLED, CONFIRMED, FAILED = 0, 1, 2
"""What the sender knows of a message."""
UNACKNOWLEDGED = 1000
"""More messages than a reader takes before it acknowledges, or a sender before a confirm."""
MAY_GROW, GROWTH = 30.0, 1.1
"""MB, and by this factor; two bytes for each message are kept until the end."""


@dataclass
class Flow:
    """Numbered messages from one sender to one reader, and what became of each.

    Attributes:
        name: what it is called in the account.
        kept: whether all that is confirmed comes, also over an outage.
        repeats: whether messages around an outage may come twice.
        fates: what the sender knows of each message; flows of one sender share them.
        heard: how often each came.
        dropped: how many the sender has counted as lost, wherever they are.
        outages: the messages that were under way, by their numbers, while a connection was lost or
            the broker took nothing.
    """

    name: str
    kept: bool = False
    repeats: bool = False
    fates: bytearray = field(default_factory=bytearray)
    heard: bytearray = field(default_factory=bytearray)
    dropped: int = 0
    outages: list[range] = field(default_factory=list)
    _began: int | None = None

    @property
    def made(self) -> int:
        """How many messages there are."""
        return len(self.fates)

    def hear(self, number: int) -> None:
        """Count a message that came."""
        self.heard.extend(bytes(max(0, number + 1 - len(self.heard))))
        self.heard[number] = min(self.heard[number] + 1, 255)

    def begin_outage(self) -> None:
        """From the first that is not heard or not settled on, messages may be lost or fail."""
        if self._began is None:
            unsettled = self.fates.find(UNSETTLED)
            self._began = min(len(self.heard), self.made if unsettled < 0 else unsettled)

    def end_outage(self) -> None:
        """What is made from now on is to come."""
        if self._began is not None:
            self.outages.append(range(self._began, self.made))
            self._began = None

    @property
    def unheard(self) -> list[int]:
        """The confirmed messages that did not come."""
        heard = self.heard.ljust(self.made, b"\0")
        return [
            n
            for n, (on_outcome, times) in enumerate(zip(self.fates, heard, strict=True))
            if on_outcome == CONFIRMED and not times
        ]

    @property
    def balance(self) -> str:
        """Sent, received and lost, in words."""
        confirmed, failed = self.fates.count(CONFIRMED), self.fates.count(FAILED)
        lost, twice = len(self.unheard), sum(times > 1 for times in self.heard)
        return (
            f"{self.made:,} made: {failed:,} failed, {self.dropped:,} dropped; "
            f"{confirmed:,} sent = {confirmed - lost:,} received + {lost:,} lost "
            f"in {len(self.outages)} outages; {twice:,} came twice"
        )

    def complaints(self) -> list[str]:
        """What `docs/guarantees.md` does not allow for."""
        under_way = self._in_outages(0)
        around = self._in_outages(UNACKNOWLEDGED)
        unsettled = self._numbers(lambda n: self.fates[n] == UNSETTLED)
        failed = self._numbers(lambda n: self.fates[n] == FAILED and not under_way[n])
        lost = [n for n in self.unheard if self.kept or not under_way[n]]
        may_repeat = around if self.repeats else bytes(len(around))
        twice = [n for n, times in enumerate(self.heard) if times > 1 and not may_repeat[n]]
        if len(lost) <= self.dropped:
            lost = []
        found = {
            "are neither confirmed nor failed": unsettled,
            "failed without an outage": failed,
            "were confirmed and lost" + ("" if self.kept else " without an outage"): lost,
            "came twice" + (" without an outage" if self.repeats else ""): twice,
        }
        return [
            f"{self.name}: {len(numbers)} {what}, the first of them {numbers[:5]}"
            for what, numbers in found.items()
            if numbers
        ]

    def _numbers(self, wanted: Callable[[int], bool]) -> list[int]:
        return [n for n in range(self.made) if wanted(n)]

    def _in_outages(self, before: int) -> bytearray:
        """A mark on each message of an outage, and on so many before it."""
        marks = bytearray(max(self.made, len(self.heard)))
        for outage in self.outages:
            first = max(0, outage.start - before)
            marks[first : outage.stop] = b"\1" * (outage.stop - first)
        return marks


@dataclass(frozen=True)
class Used:
    """What the process and its broker have: memory in MB, and numbers."""

    memory: float
    tasks: int
    threads: int
    files: int
    channels: int
    queues: int

    def __str__(self) -> str:
        numbers = [f"{getattr(self, one.name)} {one.name}" for one in fields(self)[1:]]
        return ", ".join([f"{self.memory:.0f} MB", *numbers])

    def more_than(self, before: Used) -> list[str]:
        """The numbers that are not flat: which, from what to what. Memory is not among them."""
        return [
            f"{one.name} grew from {was} to {now}"
            for one in fields(self)[1:]
            if (now := getattr(self, one.name)) > (was := getattr(before, one.name))
        ]

    def grown_from(self, warm: Used) -> list[str]:
        """Whether memory is not flat, against what was used when all had been used once."""
        if self.memory <= warm.memory * GROWTH + MAY_GROW:
            return []
        return [f"memory grew from {warm.memory:.0f} to {self.memory:.0f} MB"]
