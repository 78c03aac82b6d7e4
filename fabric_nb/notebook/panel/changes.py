"""From one state to the next: only what differs is sent. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

BUDGET = 250_000
"""Bytes of items in one message; Jupyter drops what a kernel sends above 1 MB a second."""


class Changes:
    """Compares states, and remembers what was sent.

    Example::

        changes = Changes()
        changes.since({"services": {"d.calc.c1": {"state": "up"}}}, {"busy_since": None})
        # {"facts": {...}, "services": {"put": {"d.calc.c1": {...}}, "drop": []}, "reset": True}
        changes.since(the same)      # None: nothing to send

    What does not fit into a message comes with the next.
    """

    def __init__(self, budget: int = BUDGET) -> None:
        self._budget = budget
        self._facts: bytes = b""
        self._sent: dict[str, dict[str, bytes]] = {}
        self._reset = True

    def reset(self) -> None:
        """Somebody knows nothing yet: begin anew."""
        self._facts = b""
        self._sent.clear()
        self._reset = True

    def since(
        self, sections: Mapping[str, Mapping[str, Any]], facts: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """The message that brings those who were told everything so far up to date.

        Args:
            sections: items by key, by section.
            facts: small things, sent whole when one differs.
        """
        message: dict[str, Any] = {"reset": True} if self._reset else {}
        self._reset = False
        encoded = orjson.dumps(facts)
        if encoded != self._facts:
            self._facts = encoded
            message["facts"] = dict(facts)
        left = self._budget
        for section, items in sections.items():
            change, left = self._section(section, items, left)
            if change["put"] or change["drop"]:
                message[section] = change
        return message or None

    def _section(
        self, section: str, items: Mapping[str, Any], left: int
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
            if left < len(encoded) and put:
                break
            left -= len(encoded)
            sent[key] = encoded
            put[key] = item
        return {"put": put, "drop": drop}, left
