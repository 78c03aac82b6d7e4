"""Record of instances that come and go. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Literal, NamedTuple

InstanceEventKind = Literal["came", "left", "gone", "back", "busy"]
"""``left`` is a goodbye, ``gone`` a silence; ``back`` ends either, and ends ``busy``."""

MAX_EVENTS = 1000
"""Events that are kept; the oldest are dropped first."""


class InstanceEvent(NamedTuple):
    """An instance that has come, gone, or become busy.

    Attributes:
        time: epoch seconds.
        kind: its change.
        service: full name of its service.
        instance: its id; empty for amqp-fabric, whose instances have none.
    """

    time: float
    kind: InstanceEventKind
    service: str
    instance: str


class InstanceEvents:
    """The newest events of all instances.

    Attributes:
        changes: number of events ever added.
    """

    def __init__(self) -> None:
        self.changes = 0
        self._events: deque[InstanceEvent] = deque(maxlen=MAX_EVENTS)

    def add(self, event: InstanceEvent) -> None:
        """Add an event."""
        self._events.append(event)
        self.changes += 1

    @property
    def dropped(self) -> int:
        """Number of events that were dropped, because there were too many."""
        return self.changes - len(self._events)

    def __len__(self) -> int:
        return len(self._events)

    def __iter__(self) -> Iterator[InstanceEvent]:
        return iter(tuple(self._events))
