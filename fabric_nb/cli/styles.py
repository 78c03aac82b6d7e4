"""Styled text of the commands: colours on a terminal, plain text elsewhere."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal, NamedTuple, TextIO

from fabric_nb.errors import one_line

Style = Literal["", "bold", "dim", "red", "green", "yellow", "blue"]

_SGR: dict[Style, str] = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
}
"""Parameters of the control sequence Select Graphic Rendition (ECMA-48)."""


class Styled(NamedTuple):
    """Text in one style; it may contain untrusted characters."""

    text: str
    style: Style = ""


Line = str | Sequence[Styled]
"""A line of output: plain, or of several styles."""


def shows_colours(file: TextIO) -> bool:
    """Return whether colours are shown: on a terminal, unless NO_COLOR is set (no-color.org)."""
    return file.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def rendered(line: Line, *, colours: bool, width: int | None = None) -> str:
    """Return a line without control characters of its text, cut to a width.

    Example::

        rendered([Styled("up", "green"), Styled(" since 5 s")], colours=True)
    """
    parts, left = [], width
    for text, style in (Styled(line),) if isinstance(line, str) else line:
        shown = one_line(text)[:left]
        left = None if left is None else left - len(shown)
        parts.append(f"\x1b[{_SGR[style]}m{shown}\x1b[0m" if colours and style and shown else shown)
    return "".join(parts)
