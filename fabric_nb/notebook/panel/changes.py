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
        # {"facts": {...}, "services": {"put": {"d.calc.c1": {...}}, "drop": []}, "reset": True}
        changes.diff(the same)       # None: nothing to send

    Items beyond the budget of a message are sent with the next one.
    """

    def __init__(self, budget: int = BUDGET) -> None:
        self._budget = budget
        self._facts: bytes = b""
        self._sent: dict[str, dict[str, bytes]] = {}
        self._reset = True

    def reset(self) -> None:
        """Make the next message a complete state, for a new client."""
        self._facts = b""
        self._sent.clear()
        self._reset = True

    def diff(
        self, sections: Mapping[str, Mapping[str, Any]], facts: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """Return the message with the changes since the last call; None if there are none.

        Args:
            sections: items by key, by section.
            facts: values that are sent together if one has changed.
        """
        message: dict[str, Any] = {"reset": True} if self._reset else {}
        self._reset = False
        encoded = orjson.dumps(facts)
        if encoded != self._facts:
            self._facts = encoded
            message["facts"] = dict(facts)
        budget = self._budget
        for section, items in sections.items():
            change, budget = self._section(section, items, budget)
            if change["put"] or change["drop"]:
                message[section] = change
        return message or None

    def _section(
        self, section: str, items: Mapping[str, Any], budget: int
    ) -> tuple[dict[str, Any], int]:
        sent = self._sent.setdefault(section, {})
        drop = [key for key in sent if key not in items]
        for key in drop:
            del sent[key]
        put: dict[str, Any] = {}
        for key, item in items.items():
            encoded = orjson.dumps(item)
            if sent.get(key) == encoded:
                continue
            if budget < len(encoded) and put:
                break
            budget -= len(encoded)
            sent[key] = encoded
            put[key] = item
        return {"put": put, "drop": drop}, budget
