"""Python's plain values out of what wraps them, and text of objects that may be broken. Pure."""

from __future__ import annotations

import sys
from enum import Enum
from typing import Any

from fabric_nb.errors import InvalidArgument

MAX_ERROR = 300
MAX_SHOWN = 40
"""Characters of an error, and of a value in an error."""

_PLAIN = frozenset({str, int, float, bool, type(None)})


def unboxed(value: Any) -> Any:
    """Return a text, a number, a boolean or None as exactly that; anything else as it is.

    Members of enumerations are their values. Scalars of numpy become Python's, where Python has
    them, and subclasses of text and numbers lose what else they were.

    Example:
        >>> import numpy as np
        >>> unboxed(np.int64(5)), unboxed("text"), unboxed([1])
        (5, 'text', [1])
    """
    if type(value) in _PLAIN:
        return value
    if isinstance(value, Enum):
        return unboxed(value.value)
    # The base class's own method: a subclass may have another, and a member's text is its name.
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, int):
        return int.__int__(value)
    numpy = sys.modules.get("numpy")  # without it, nothing is of it
    if numpy is not None and isinstance(value, numpy.generic) and value.dtype.kind in "biuf":
        item = value.item()
        return item if type(item) in _PLAIN else value
    return value


def whole(value: Any, what: str, *, low: int, high: int) -> int:
    """Return a whole number within bounds, as numpy's too.

    Raises:
        InvalidArgument: it is none, or outside of the bounds; the message names `what`.
    """
    plain = unboxed(value)
    if isinstance(plain, bool) or not isinstance(plain, int) or not low <= plain <= high:
        raise InvalidArgument(
            f"{what} is {shown(value)[1:-1]}, and it is a whole number from {low} to {high:,}."
        )
    return plain


def error_text(error: BaseException) -> str:
    """Return type and text of an error, in a line or so."""
    try:
        said = str(error)
    except BaseException:  # noqa: BLE001 - a user's `__str__` may raise anything
        said = "(its text cannot be had)"
    return f"{type(error).__name__}: {said}"[:MAX_ERROR]


def shown(value: object) -> str:
    """Return the beginning of a value's text, in quotes, for an error about it."""
    try:
        return repr(str(value)[:MAX_SHOWN])
    except BaseException:  # noqa: BLE001 - a user's `__str__` may raise anything
        return f"<{type(value).__name__}>"
