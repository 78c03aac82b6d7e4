"""A call that is waited for, on a terminal: its output as it arrives, and a line of progress."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import TextIO

from fabric_nb.errors import one_line
from fabric_nb.fabric.rpc.call_handle import CallHandle
from fabric_nb.notebook.terminal_line import TerminalLine, call_text


class TerminalCall:
    """Prints the output of a call, and draws its progress on the last line of a terminal.

    Args:
        handle: the call.
        terminal: stream of the terminal; None: no progress is drawn.
        print_line: prints a line of output.
    """

    def __init__(
        self, handle: CallHandle, terminal: TextIO | None, print_line: Callable[[str], object]
    ) -> None:
        self._handle = handle
        self._line = None if terminal is None else TerminalLine(terminal)
        self._print_line = print_line
        self._printed = 0

    def draw(self) -> None:
        """Draw the progress."""
        if self._line is not None:
            self._line.draw(call_text(self._handle))

    def print_output(self) -> None:
        """Print the lines of output that were not printed yet."""
        report = self._handle.report
        if self._printed < len(report.lines):
            self.clear()
            for line in islice(report.lines, self._printed, None):
                self._print_line(one_line(line.text))
        self._printed = len(report.lines)

    def end(self) -> None:
        """Remove the progress, and print the number of lines that were omitted."""
        self.clear()
        if self._printed and (omitted := self._handle.report.omitted):
            self._print_line(f"({omitted:,} more lines are omitted)")

    def clear(self) -> None:
        """Remove the progress, for other output."""
        if self._line is not None:
            self._line.clear()
