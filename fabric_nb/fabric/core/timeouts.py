"""Validation of timeouts. Pure."""

from __future__ import annotations

from typing import Final

from fabric_nb.errors import InvalidTimeout
from fabric_nb.fabric.core.values import shown, unboxed

NO_LIMIT: Final = 1e9
"""Seconds (about thirty years) that represent no limit where a number is required."""


def time_limit(seconds: float | None, label: str = "timeout") -> float | None:
    """Return a limit in seconds, or None for no limit; `NO_LIMIT` and more count as no limit.

    Args:
        seconds: from 0; None or infinity for no limit.
        label: name of the argument, for the error.

    Raises:
        InvalidTimeout: it is negative, NaN or not a number.

    Example:
        >>> time_limit(5), time_limit(float("inf")), time_limit(None)
        (5.0, None, None)
    """
    if seconds is None:
        return None
    plain = unboxed(seconds)
    if isinstance(plain, bool) or not isinstance(plain, (int, float)):
        raise InvalidTimeout(
            f"{label} is a {type(seconds).__name__}, and it is a number of seconds: give one, or"
            " None for no limit."
        )
    if plain != plain or plain < 0:  # also works for integers beyond the range of floats
        raise InvalidTimeout(
            f"{label} is {shown(plain)[1:-1]} s, which is no time to wait: give seconds from 0, or"
            " None for no limit."
        )
    return None if plain >= NO_LIMIT else float(plain)


def finite_limit(seconds: float | None, label: str = "timeout") -> float:
    """Return a limit in seconds, `NO_LIMIT` for none; raise the errors of `time_limit`."""
    limit = time_limit(seconds, label)
    return NO_LIMIT if limit is None else limit
