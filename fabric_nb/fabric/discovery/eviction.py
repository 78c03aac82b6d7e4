"""Eviction policy of a full registry. Pure.

Any client can announce any number of names. As in a segmented LRU cache, names that were announced
once or twice are on probation and only evict each other. Names that are announced repeatedly are
established, with places of their own. Names that have replied to a call are pinned: never evicted.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable
from itertools import islice

from fabric_nb.fabric.wire.names import ServiceName

ESTABLISHED_AFTER, COUNT_PERIOD = 3, 1.0
"""Keep-alives after which a name is established, counted at most once in so many seconds."""
PROBATION_SHARE = 10
"""One in so many places is for names on probation."""


class EvictionPolicy:
    """Names of a registry, in the order of their eviction.

    Attributes:
        pinned: names that are never evicted: own services, and services that have replied.
    """

    def __init__(self) -> None:
        self.pinned: set[ServiceName] = set()
        self._probation: OrderedDict[ServiceName, tuple[int, float]] = OrderedDict()
        """Names on probation, oldest first, with the count and the time of the last count."""
        self._established: OrderedDict[ServiceName, None] = OrderedDict()
        """Established names, the one with the oldest keep-alive first."""

    @property
    def names(self) -> set[ServiceName]:
        """All names that have a place."""
        return {*self.pinned, *self._probation, *self._established}

    def record_keep_alive(self, name: ServiceName, now: float) -> None:
        """Give a name a place, or count its keep-alive."""
        if name in self.pinned:
            return
        if name in self._established:
            self._established.move_to_end(name)
            return
        count, counted_at = self._probation.get(name, (0, float("-inf")))
        if now - counted_at < COUNT_PERIOD:
            return
        self._probation[name] = count + 1, now
        if count + 1 >= ESTABLISHED_AFTER:
            del self._probation[name]
            self._established[name] = None

    def pin(self, name: ServiceName) -> None:
        """Never evict a name."""
        self._unlist(name)
        self.pinned.add(name)

    def remove(self, name: ServiceName) -> None:
        """Remove a name that the registry has dropped."""
        self._unlist(name)
        self.pinned.discard(name)

    def _unlist(self, name: ServiceName) -> None:
        self._probation.pop(name, None)
        self._established.pop(name, None)

    def evict(self, limit: int, is_up: Callable[[ServiceName], bool]) -> ServiceName | None:
        """Remove and return the name that makes room for a new one; None if all are pinned.

        Among established names it is one whose service is not up. If all are up it is a random
        one, because in turn, names that are announced over and over would evict each other and
        then the new one.

        Args:
            limit: maximum number of names.
            is_up: returns whether the service of a name is up.
        """
        if self._probation and (
            len(self._probation) > limit // PROBATION_SHARE or not self._established
        ):
            return self._probation.popitem(last=False)[0]
        if not self._established:
            return None
        name = next(iter(self._established))
        if is_up(name):
            index = random.randrange(len(self._established))  # noqa: S311 - not a secret
            name = next(islice(self._established, index, None))
        del self._established[name]
        return name
