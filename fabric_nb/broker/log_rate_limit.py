"""Rate limit of repeated log lines."""

import logging
import time
from collections.abc import Callable

INTERVAL = 10.0
"""Seconds between two lines of one template."""

_MAX_TEMPLATES = 100


class RepeatFilter(logging.Filter):
    """Passes one record per template and interval, and reports the number of suppressed ones.

    A template is a logger's name and the first line of the unformatted message.

    Args:
        clock: Monotonic seconds; replaced in tests.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._templates: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is to be written."""
        template = (record.name, str(record.msg).partition("\n")[0])
        now = self._clock()
        since, suppressed = self._templates.get(template, (now - INTERVAL, 0))
        if now - since < INTERVAL:
            self._templates[template] = (since, suppressed + 1)
            return False
        if suppressed:
            record.msg = f"{record.msg} ({suppressed} more since the last line like this)"
        self._templates.pop(template, None)
        if len(self._templates) >= _MAX_TEMPLATES:
            del self._templates[next(iter(self._templates))]
        self._templates[template] = (now, 0)
        return True
