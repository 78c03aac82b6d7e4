"""Lines of a terminal that are drawn again and again, as a live table."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TextIO

from fabric_nb.cli.output import encodable
from fabric_nb.cli.styles import Line, rendered, shows_colours


class TerminalLines:
    """The last lines of a terminal.

    Args:
        file: stream of the terminal.

    Attributes:
        is_terminal: False if the stream is a file or a pipe, on which nothing is drawn.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._height = 0
        self.is_terminal = file.isatty()

    def draw(self, lines: Sequence[Line]) -> None:
        """Draw lines in place of the last ones, cut to the size of the terminal.

        Control characters are replaced. Lines that do not fit are counted.
        """
        if not self.is_terminal:
            return
        size = os.get_terminal_size(self._file.fileno())
        # A terminal without a size, as in a script, is as large as the lines.
        height, width = size.lines or len(lines) + 2, size.columns or 1000
        # The last line is left free for the cursor, and so is the last column, because some
        # terminals wrap when it is written.
        shown = list(lines)
        if len(shown) > height - 1:
            shown = shown[: height - 2]
            shown.append(f"… and {len(lines) - len(shown):,} more")
        colours = shows_colours(self._file)
        text = "".join(
            f"\r{rendered(line, colours=colours, width=width - 1)}\x1b[K\n" for line in shown
        )
        up = f"\x1b[{self._height}A" if self._height else ""
        self._file.write(f"{up}{encodable(text, self._file)}\x1b[J")
        self._file.flush()
        self._height = len(shown)
