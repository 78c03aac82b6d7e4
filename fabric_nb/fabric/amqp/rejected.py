"""Messages that were not taken, unreadable or refused: counted, kept, and logged once a minute."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fabric_nb.errors import printable
from fabric_nb.fabric.amqp.message import Delivery

log = logging.getLogger(__name__)

KEPT = 100
KEPT_BYTES = 10_000
LOG_INTERVAL = 60.0


@dataclass(frozen=True, slots=True)
class RejectedMessage:
    """One message that was not taken; `body` is cut at 10 kB, `size` is its whole length."""

    time: float
    kind: str
    reason: str
    headers: Mapping[str, Any]
    body: bytes
    size: int


class RejectedMessages:
    """Counts messages that were not taken, and keeps the last hundred for inspection.

    Example::

        fabric.rejected.total          # 3
        fabric.rejected.counts["log"]  # 2
        fabric.rejected.last[-1].reason
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.last: deque[RejectedMessage] = deque(maxlen=KEPT)
        self._said_at = float("-inf")
        self._unsaid = 0

    @property
    def total(self) -> int:
        """How many there were."""
        return self.counts.total()

    def add(self, kind: str, reason: object, delivery: Delivery) -> None:
        """Remember a message of `kind` (call, reply, keep-alive, data, log) and why it failed."""
        self.counts[kind] += 1
        self._unsaid += 1
        self.last.append(
            RejectedMessage(
                time.time(),
                kind,
                str(reason)[:500],
                delivery.headers,
                delivery.body[:KEPT_BYTES],
                len(delivery.body),
            )
        )
        now = time.monotonic()
        if now - self._said_at >= LOG_INTERVAL:
            self._said_at = now
            log.warning(
                "%d message(s) from the broker were not taken, the last one a %s: %s",
                self._unsaid,
                kind,
                printable(str(reason)[:500]),
            )
            self._unsaid = 0
