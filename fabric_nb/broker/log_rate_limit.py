"""A log that a flood does not fill."""

import logging
import time
from collections.abc import Callable

GAP = 10.0
"""Seconds between two lines of one kind."""

_MAX_KINDS = 100


class Repeats(logging.Filter):
    """Lets one record of a kind through at a time, and counts the others with the next one.

    Records are of one kind when they come from one logger with one message before its arguments
    are put in.

    Args:
        clock: Monotonic seconds; replaced in tests.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._kinds: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is to be written."""
        kind = (record.name, str(record.msg).partition("\n")[0])
        now = self._clock()
        since, left_out = self._kinds.get(kind, (now - GAP, 0))
        if now - since < GAP:
            self._kinds[kind] = (since, left_out + 1)
            return False
        if left_out:
            record.msg = f"{record.msg} ({left_out} more since the last line like this)"
        self._kinds.pop(kind, None)
        if len(self._kinds) >= _MAX_KINDS:
            del self._kinds[next(iter(self._kinds))]
        self._kinds[kind] = (now, 0)
        return True
