"""Figures that served functions draw with matplotlib, shown under their own cell.

In a notebook matplotlib shows the figures that are open when a cell ends under that cell, whoever
has drawn them.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from IPython.core.interactiveshell import InteractiveShell
from IPython.display import DisplayHandle, display

from fabric_nb.notebook.live.pace import Pacer

log = logging.getLogger(__name__)

PERIOD = 1.0
"""Seconds between two figures that are shown: to draw one takes a tenth of that."""
_HOOK = f"{__name__}:on_figure"

_drawn: ContextVar[list[Any]] = ContextVar("fabric_nb figures")


def on_figure(figure: Any) -> None:
    """Note a new figure of a served function; matplotlib calls this (its ``figure.hooks``)."""
    if (drawn := _drawn.get(None)) is not None:
        drawn.append(figure)


class ServedFigures:
    """The last figure that the functions of a cell have drawn, shown under that cell.

    Made in the cell that serves them. Only where figures are shown in the notebook by themselves:
    with ``%matplotlib widget`` and the like, all is left to matplotlib.

    Args:
        shell: turns figures into pictures.
    """

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._last: Any = None
        self._pacer = Pacer(self.show, PERIOD)
        self._handle: DisplayHandle | None = None
        if "matplotlib" in sys.modules:  # a headless run stores only what begins in its own cell
            self._handle = _place()

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Close the figures that are drawn and left open by the code in this, and show the last."""
        drawn: list[Any] = []
        hooked = _hook()
        token = _drawn.set(drawn)
        try:
            yield
        finally:
            _drawn.reset(token)
            try:
                self._take(drawn, hooked)
            except Exception:
                log.exception("Figures of a served function could not be shown")

    def _take(self, drawn: list[Any], hooked: bool) -> None:
        pyplot = sys.modules.get("matplotlib.pyplot")
        if pyplot is None or "inline" not in pyplot.get_backend():
            return
        if not hooked:  # matplotlib was imported meanwhile: all figures are younger than that
            drawn = [pyplot.figure(number) for number in pyplot.get_fignums()]
        left = [one for one in drawn if pyplot.fignum_exists(one.number)]
        if not left:
            return
        for figure in left:
            pyplot.close(figure)
        self._last = left[-1]
        self._handle = self._handle or _place()
        self._pacer.request()

    def show(self) -> None:
        """Show what was drawn last, if it is not there yet."""
        figure, self._last = self._last, None
        formatter = self._shell.display_formatter
        if figure is not None and formatter is not None and self._handle is not None:
            data, metadata = formatter.format(figure)
            self._handle.update(data, metadata=metadata, raw=True)


def _place() -> DisplayHandle | None:
    nothing = {"text/plain": "", "text/html": ""}
    handle: DisplayHandle | None = display(nothing, raw=True, display_id=True)
    return handle


def _hook() -> bool:
    """Have `on_figure` called, from now on; return whether matplotlib is there."""
    matplotlib = sys.modules.get("matplotlib")
    if matplotlib is None or not hasattr(matplotlib, "rcParams"):
        return False
    hooks = matplotlib.rcParams.get("figure.hooks")  # from matplotlib 3.7 on
    if hooks is not None and _HOOK not in hooks:
        matplotlib.rcParams["figure.hooks"] = [*hooks, _HOOK]
    return True
