"""A line of a terminal that is drawn again and again, as a progress bar."""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING, TextIO

from fabric_nb.errors import one_line

if TYPE_CHECKING:
    from fabric_nb.fabric.rpc.bench_result import BenchResult
    from fabric_nb.fabric.rpc.call_handle import CallHandle
    from fabric_nb.fabric.rpc.map_progress import MapProgress

BAR = 24
"""Characters of a bar."""
PERIOD = 0.25
"""Seconds between two drawings of a line."""


class TerminalLine:
    """The last line of a terminal.

    Args:
        file: stream of the terminal; on any other stream nothing is drawn.

    Attributes:
        closed: True if nothing is drawn any more.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._drawn = ""
        self.closed = not file.isatty()

    def draw(self, text: str) -> None:
        """Draw the line, without control characters; text beyond the terminal's width is cut."""
        if self.closed:
            return
        # The last column is left free, because some terminals wrap when it is written.
        shown = one_line(text)[: self._columns - 1]
        if shown != self._drawn:
            encoding = self._file.encoding or "utf-8"
            self._write(shown.encode(encoding, "replace").decode(encoding))
            self._drawn = shown

    def clear(self) -> None:
        """Remove the line, for other output; the next `draw` draws it again."""
        if self._drawn:
            self._write("")
            self._drawn = ""

    def close(self) -> None:
        """Keep the line as it is, and continue below it."""
        if not self.closed and self._drawn:
            self._file.write("\n")
            self._file.flush()
        self.closed = True

    @property
    def _columns(self) -> int:
        """Width of this terminal, because the standard output may be another one, or a file."""
        with contextlib.suppress(OSError, ValueError):
            if columns := os.get_terminal_size(self._file.fileno()).columns:
                return columns
        return shutil.get_terminal_size().columns

    def _write(self, text: str) -> None:
        self._file.write(f"\r{text}\x1b[K")
        self._file.flush()


def progress_text(label: str, progress: MapProgress) -> str:
    """Return the progress of a map as a line, with a bar if the number of its rows is known."""
    return _line(label, progress.fraction, str(progress))


def call_text(handle: CallHandle) -> str:
    """Return the queue, progress and time of a call as a line, with a bar if a total is known."""
    fraction = None if handle.progress is None else handle.progress.fraction
    return _line(handle.label, fraction, " · ".join(handle.facts))


def bench_text(result: BenchResult) -> str:
    """Return the figures of a benchmark that is under way as a line, with a bar."""
    return _line(result.label, result.fraction, " · ".join(result.live_facts))


def _line(label: str, fraction: float | None, facts: str) -> str:
    return f"{label}  {'' if fraction is None else bar(fraction) + '  '}{facts}"


def bar(fraction: float, width: int = BAR) -> str:
    """Return a bar of a fraction between 0 and 1.

    Example:
        >>> bar(0.5, 8)
        '████░░░░'
    """
    filled = int(fraction * width)
    return "█" * filled + "░" * (width - filled)
