"""Conversion to plain Python values, and safe text of arbitrary objects. Pure."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from enum import Enum
from typing import Any

from fabric_nb.errors import InvalidArgument

MAX_ERROR = 300
"""Characters of the text of an error."""
MAX_SHOWN = 40
"""Characters of a value in the text of an error."""

_PLAIN = frozenset({str, int, float, bool, type(None)})


def unboxed(value: Any) -> Any:
    """Return a text, number, boolean or None as an instance of exactly that built-in type.

    Members of enumerations become their values, scalars of numpy the corresponding Python values,
    and instances of subclasses of text and numbers instances of the base type. Any other object is
    returned unchanged.

    Example:
        >>> import numpy as np
        >>> unboxed(np.int64(5)), unboxed("text"), unboxed([1])
        (5, 'text', [1])
    """
    if type(value) in _PLAIN:
        return value
    if isinstance(value, Enum):
        return unboxed(value.value)
    # The method of the base class: a subclass may override it, and an enumeration member's `str` is
    # its name.
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, int):
        return int.__int__(value)
    numpy = sys.modules.get("numpy")  # if it is not loaded, there are no values of it
    if numpy is not None and isinstance(value, numpy.generic) and value.dtype.kind in "biuf":
        item = value.item()
        return item if type(item) in _PLAIN else value
    return value


def whole(value: Any, label: str, *, low: int, high: int) -> int:
    """Return a whole number, also of numpy, that is within bounds.

    Raises:
        InvalidArgument: it is not a whole number, or out of bounds; the message names `label`.
    """
    plain = unboxed(value)
    if isinstance(plain, bool) or not isinstance(plain, int) or not low <= plain <= high:
        raise InvalidArgument(
            f"{label} is {shown(value)[1:-1]}, and it is a whole number from {low} to {high:,}."
        )
    return plain


def similar(name: object, names: Iterable[str]) -> str:
    """Return a question after a similar name, to end an error with; empty if there is none.

    Example:
        >>> similar("totl", ["price", "total"]), similar("x", ["price", "total"])
        (": did you mean 'total'?", '')
    """
    import difflib  # only errors need it

    close = difflib.get_close_matches(str(name)[:MAX_ERROR], list(names), n=1, cutoff=0.6)
    return f": did you mean {close[0]!r}?" if close else ""


def clock(seconds: float) -> str:
    """Return a duration as text.

    Example:
        >>> clock(8), clock(75), clock(3720)
        ('8 s', '1:15 min', '1:02 h')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02} min"
    return f"{whole // 3600:,}:{whole % 3600 // 60:02} h"


def error_text(error: BaseException) -> str:
    """Return type and text of an error, at most `MAX_ERROR` characters.

    Lone surrogates are escaped, because neither UTF-8 nor a DataFrame can represent them.
    """
    try:
        text = str(error)
    except BaseException:  # noqa: BLE001 - a user's `__str__` may raise anything
        text = "(its text cannot be read)"
    return valid(f"{type(error).__name__}: {text}"[:MAX_ERROR])


def valid(text: str) -> str:
    """Return a text that UTF-8 can represent, with lone surrogates as escape sequences."""
    if text.isascii():
        return text
    return text.encode(errors="backslashreplace").decode()


def shown(value: object) -> str:
    """Return the beginning of a value's text, in quotes, for an error message."""
    try:
        return repr(str(value)[:MAX_SHOWN])
    except BaseException:  # noqa: BLE001 - a user's `__str__` may raise anything
        return f"<{type(value).__name__}>"
