"""Filter for the log of comms, which has every message that a front end sends."""

from __future__ import annotations

import logging

COMM_LOGGER = "Comm"
"""Logger of the package `comm`, which logs messages at DEBUG."""


def hide_passwords() -> None:
    """Log no message of a form with a password; repeated calls have no effect."""
    logging.getLogger(COMM_LOGGER).addFilter(_has_no_password)


def remove_filter() -> None:
    """Remove the filter."""
    logging.getLogger(COMM_LOGGER).removeFilter(_has_no_password)


def _has_no_password(record: logging.LogRecord) -> bool:
    return "'password'" not in repr(record.args)
