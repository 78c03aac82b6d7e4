"""Record of rejected messages, which were unreadable or refused."""

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
"""Messages that are kept for inspection."""
KEPT_BYTES = 10_000
"""Bytes of the body of each that are kept."""
LOG_INTERVAL = 60.0
"""Seconds between two log records."""


@dataclass(frozen=True, slots=True)
class RejectedMessage:
    """One rejected message.

    Attributes:
        time: epoch seconds.
        kind: call, reply, keep-alive, data, log or stream.
        reason: why it was rejected.
        headers: its headers.
        body: its body, truncated to 10 kB.
        size: bytes of the whole body.
    """

    time: float
    kind: str
    reason: str
    headers: Mapping[str, Any]
    body: bytes
    size: int


class RejectedMessages:
    """Counts of rejected messages by kind, and the last hundred of them.

    Example::

        fabric.rejected.total          # 3
        fabric.rejected.counts["log"]  # 2
        fabric.rejected.last[-1].reason
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.last: deque[RejectedMessage] = deque(maxlen=KEPT)
        self._logged_at = float("-inf")
        self._unlogged = 0

    @property
    def total(self) -> int:
        """Number of rejected messages of all kinds."""
        return self.counts.total()

    def add(self, kind: str, reason: object, delivery: Delivery) -> None:
        """Record a rejected message; log the number of them at most once a minute."""
        self.counts[kind] += 1
        self._unlogged += 1
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
        if now - self._logged_at >= LOG_INTERVAL:
            self._logged_at = now
            log.warning(
                "%d message(s) from the broker were rejected, the last one a %s: %s",
                self._unlogged,
                kind,
                printable(str(reason)[:500]),
            )
            self._unlogged = 0
