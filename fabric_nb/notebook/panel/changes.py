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
        changes.diff({"services": {"d.calc.c1": {"state": "up"}}}, {"busy_since": None})
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
        self._sent: dict[str, dict[str, Any]] = {}
        self._reset = True

    def diff(
        self, items: Mapping[str, Mapping[str, Any]], facts: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """Return the message with the changes since the last call; None if there are none.

        Args:
            items: items by full name, of each kind.
            facts: values that are sent together if one has changed.
        """
        message: dict[str, Any] = {"reset": True} if self._reset else {}
        self._reset = False
        if facts != self._facts:
            self._facts = message["facts"] = dict(facts)
        budget = self._budget
        for kind, current in items.items():
            sent = self._sent.setdefault(kind, {})
            drop = _drop(sent, current)
            put, budget = _put(sent, current, budget)
            if put or drop:
                message[kind] = {"put": put, "drop": drop}
        return message or None


def _drop(sent: dict[str, Any], items: Mapping[str, Any]) -> list[str]:
    drop = [key for key in sent if key not in items]
    for key in drop:
        del sent[key]
    return drop


def _put(sent: dict[str, Any], items: Mapping[str, Any], budget: int) -> tuple[dict[str, Any], int]:
    """Return the items that have changed, within a budget of bytes, and what is left of that."""
    put: dict[str, Any] = {}
    for key, item in items.items():
        if (known := sent.get(key)) is item or known == item:
            continue
        size = len(orjson.dumps(item))
        if size > budget and (put or budget < 0):
            break
        budget -= size
        sent[key] = put[key] = item
    return put, budget
