"""Eviction policy of a full registry: the names that keep their place. Pure.

Anybody may announce any number of names. Names that are heard once push out such names only; those
that are heard again and again have their places apart from them, and those that have answered a
call are never given up.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable
from itertools import islice

from fabric_nb.fabric.wire.names import ServiceName

PROVEN_AFTER, PROOF_EVERY = 3, 1.0
"""Keep-alives, so many seconds apart, after which a name is known and no longer on trial."""
ON_TRIAL = 10
"""Of so many places one is for names on trial."""


class Places:
    """The names of a registry, by what they have proven."""

    def __init__(self) -> None:
        self.kept: set[ServiceName] = set()
        """Names that are never given up: our own, and those that have answered."""
        self._trial: OrderedDict[ServiceName, tuple[int, float]] = OrderedDict()
        """Names that were heard seldom, in the order in which they came: how often, and when it
        was counted last."""
        self._known: OrderedDict[ServiceName, None] = OrderedDict()
        """The others; those that were silent for longest come first."""

    @property
    def names(self) -> set[ServiceName]:
        """All names that have a place."""
        return {*self.kept, *self._trial, *self._known}

    def heard(self, name: ServiceName, now: float) -> None:
        """A keep-alive of that name has come."""
        if name in self.kept:
            return
        if name in self._known:
            self._known.move_to_end(name)
            return
        proofs, counted_at = self._trial.get(name, (0, float("-inf")))
        if now - counted_at < PROOF_EVERY:
            return
        self._trial[name] = proofs + 1, now
        if proofs + 1 >= PROVEN_AFTER:
            del self._trial[name]
            self._known[name] = None

    def keep(self, name: ServiceName) -> None:
        """Never give that name up."""
        self._take_out(name)
        self.kept.add(name)

    def drop(self, name: ServiceName) -> None:
        """The name is no longer there."""
        self._take_out(name)
        self.kept.discard(name)

    def _take_out(self, name: ServiceName) -> None:
        self._trial.pop(name, None)
        self._known.pop(name, None)

    def give_up(self, most: int, is_here: Callable[[ServiceName], bool]) -> ServiceName | None:
        """Return the name that makes room for a newcomer, and drop it; None: there is none.

        A known one goes that is not there any more, and by lot when all are: by turns, names that
        come again and again would push out each other and then the newcomer.

        Args:
            most: how many names there may be.
            is_here: whether a name's service is up.
        """
        if self._trial and (len(self._trial) > most // ON_TRIAL or not self._known):
            return self._trial.popitem(last=False)[0]
        if not self._known:
            return None
        name = next(iter(self._known))
        if is_here(name):
            at = random.randrange(len(self._known))  # noqa: S311 - it hides nothing
            name = next(islice(self._known, at, None))
        del self._known[name]
        return name
