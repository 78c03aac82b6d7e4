"""Delays between retries. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterator

FIRST_RETRY, LAST_RETRY = 0.2, 4.0
"""Seconds before the first retry, and at most before each further one."""


def backoff(first: float = FIRST_RETRY) -> Iterator[float]:
    """Yield seconds to wait before each retry: doubling, jittered, at most `LAST_RETRY`."""
    ceiling = first
    while True:
        yield ceiling * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, keeps no secret
        ceiling = min(2 * ceiling, LAST_RETRY)
