"""Differences between two states of the panel. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

BUDGET = 250_000
"""Maximum bytes of items in a message; Jupyter drops messages above 1 MB a second."""


class Changes:
    """Computes the difference between a state and the last one that was sent.

    Example::

        changes = Changes()
        changes.diff({"d.calc.c1": {"state": "up"}}, {"busy_since": None})
        # {"reset": True, "facts": {...}, "services": {"put": {"d.calc.c1": {...}}, "drop": []}}
        changes.diff(the same)       # None: nothing to send

    Items beyond the budget of a message are sent with the next one. They must not be modified.
    """

    def __init__(self, budget: int = BUDGET) -> None:
        self._budget = budget
        self.reset()

    def reset(self) -> None:
        """Make the next message a complete state, for a new client."""
        self._facts: Mapping[str, Any] | None = None
        self._sent: dict[str, Any] = {}
        self._reset = True

    def diff(self, services: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the message with the changes since the last call; None if there are none.

        Args:
            services: items by full name.
            facts: values that are sent together if one has changed.
        """
        message: dict[str, Any] = {"reset": True} if self._reset else {}
        self._reset = False
        if facts != self._facts:
            self._facts = message["facts"] = dict(facts)
        put, drop = self._put(services), self._drop(services)
        if put or drop:
            message["services"] = {"put": put, "drop": drop}
        return message or None

    def _drop(self, services: Mapping[str, Any]) -> list[str]:
        drop = [key for key in self._sent if key not in services]
        for key in drop:
            del self._sent[key]
        return drop

    def _put(self, services: Mapping[str, Any]) -> dict[str, Any]:
        put: dict[str, Any] = {}
        budget = self._budget
        for key, item in services.items():
            if (sent := self._sent.get(key)) is item or sent == item:
                continue
            budget -= len(orjson.dumps(item))
            if budget < 0 and put:
                break
            self._sent[key] = put[key] = item
        return put
