"""Matplotlib figures of served functions, shown under the cell that serves them.

By default matplotlib shows all open figures under the cell that ends next, whichever code created
them.
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
"""Minimum seconds between two figures; rendering one takes a tenth of that."""
_HOOK = f"{__name__}:on_figure"

_drawn: ContextVar[list[Any]] = ContextVar("fabric_nb figures")


def on_figure(figure: Any) -> None:
    """Record a new figure of a served function; called by matplotlib's ``figure.hooks``."""
    if (drawn := _drawn.get(None)) is not None:
        drawn.append(figure)


class ServedFigures:
    """The last figure of a cell's served functions, shown under that cell.

    Must be created in the cell that serves them. Active with the inline backend only; interactive
    backends such as ``%matplotlib widget`` show figures themselves.

    Args:
        shell: IPython shell, which renders figures.
    """

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._last: Any = None
        self._pacer = Pacer(self.show, PERIOD)
        self._handle: DisplayHandle | None = None
        if "matplotlib" in sys.modules:  # a headless run stores only displays opened by the cell
            self._handle = _open_display()

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Close the figures that the body of the context leaves open, and show the last one."""
        drawn: list[Any] = []
        hooked = _hook()
        token = _drawn.set(drawn)
        try:
            yield
        finally:
            _drawn.reset(token)
            try:
                self._accept(drawn, hooked)
            except Exception:
                log.exception("Figures of a served function could not be shown")

    def _accept(self, drawn: list[Any], hooked: bool) -> None:
        pyplot = sys.modules.get("matplotlib.pyplot")
        if pyplot is None or "inline" not in pyplot.get_backend():
            return
        if not hooked:  # matplotlib was imported in the body, so all figures are new
            drawn = [pyplot.figure(number) for number in pyplot.get_fignums()]
        still_open = [figure for figure in drawn if pyplot.fignum_exists(figure.number)]
        if not still_open:
            return
        for figure in still_open:
            pyplot.close(figure)
        self._last = still_open[-1]
        self._handle = self._handle or _open_display()
        self._pacer.request()

    def show(self) -> None:
        """Show the last figure, unless it is shown already."""
        figure, self._last = self._last, None
        formatter = self._shell.display_formatter
        if figure is not None and formatter is not None and self._handle is not None:
            data, metadata = formatter.format(figure)
            self._handle.update(data, metadata=metadata, raw=True)


def _open_display() -> DisplayHandle | None:
    empty = {"text/plain": "", "text/html": ""}
    handle: DisplayHandle | None = display(empty, raw=True, display_id=True)
    return handle


def _hook() -> bool:
    """Register `on_figure` with matplotlib; return whether matplotlib is imported."""
    matplotlib = sys.modules.get("matplotlib")
    if matplotlib is None or not hasattr(matplotlib, "rcParams"):
        return False
    hooks = matplotlib.rcParams.get("figure.hooks")  # from matplotlib 3.7 on
    if hooks is not None and _HOOK not in hooks:
        matplotlib.rcParams["figure.hooks"] = [*hooks, _HOOK]
    return True
