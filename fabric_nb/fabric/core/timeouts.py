"""Limits of time that a program gives. Pure."""

from __future__ import annotations

from typing import Final

from fabric_nb.errors import InvalidTimeout
from fabric_nb.fabric.core.values import shown, unboxed

NO_LIMIT: Final = 1e9
"""Seconds, some thirty years; stands for no limit where there must be one."""


def time_limit(seconds: float | None, what: str = "timeout") -> float | None:
    """Return a limit in seconds, or None for no limit, as which `NO_LIMIT` and more count.

    Args:
        seconds: from 0; None or infinity for no limit.
        what: the argument's name, for the error.

    Raises:
        InvalidTimeout: it is negative, NaN or no number.

    Example:
        >>> time_limit(5), time_limit(float("inf")), time_limit(None)
        (5.0, None, None)
    """
    if seconds is None:
        return None
    plain = unboxed(seconds)
    if isinstance(plain, bool) or not isinstance(plain, (int, float)):
        raise InvalidTimeout(
            f"{what} is a {type(seconds).__name__}, and it is a number of seconds: give one, or"
            " None for no limit."
        )
    if plain != plain or plain < 0:  # NaN, also beside ints that no float can be
        raise InvalidTimeout(
            f"{what} is {shown(plain)[1:-1]} s, which is no time to wait: give seconds from 0, or"
            " None for no limit."
        )
    return None if plain >= NO_LIMIT else float(plain)


def finite_limit(seconds: float | None, what: str = "timeout") -> float:
    """Return a limit in seconds, `NO_LIMIT` for none; raises what `time_limit` does."""
    limit = time_limit(seconds, what)
    return NO_LIMIT if limit is None else limit
