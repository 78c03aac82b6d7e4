"""Loading and unloading: ``%load_ext fabric_nb`` and ``%unload_ext fabric_nb``."""

from __future__ import annotations

import atexit
import warnings
from typing import Any, cast

from IPython.core.interactiveshell import InteractiveShell

from fabric_nb.fabric.data import plotting
from fabric_nb.notebook import bridge
from fabric_nb.notebook.cells import Cells
from fabric_nb.notebook.inspection import Inspection
from fabric_nb.notebook.magics import FabricMagics
from fabric_nb.notebook.panel import Panel
from fabric_nb.notebook.plot import Charts

_loaded: FabricMagics | None = None
_panel: Panel | None = None
_inspection: Inspection | None = None
_cells: Cells | None = None
_charts = Charts()


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Register the magics."""
    global _loaded, _panel, _inspection, _cells
    if _loaded is not None:
        return
    problem = bridge.broken_nesting()
    if problem is not None:
        warnings.warn(problem, stacklevel=2)
    bridge.allow_waiting(bridge.notebook_loop())
    bridge.run_at_prompt(shell)
    _loaded = magics = FabricMagics(shell)
    shell.register_magics(_loaded)
    plotting.set_backend(_charts)
    _matchers(shell).append(_loaded.matcher)
    _panel = Panel(shell, lambda: magics.open_session, bridge.notebook_loop())
    _panel.open()
    _inspection = Inspection(shell, magics.method_help)
    _inspection.open()
    _cells = Cells(shell, magics.cell_ended)
    _cells.open()
    atexit.register(_leave)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Leave the fabric and take the magics away."""
    global _loaded, _inspection, _cells
    if _loaded is None:
        return
    _close_panel()
    if _inspection is not None:
        _inspection.close()
        _inspection = None
    if _cells is not None:
        _cells.close()
        _cells = None
    if _loaded.open_session is not None:
        for ended in _loaded.open_session.ending():
            print(ended)  # noqa: T201 - `%reload_ext` ends it all, too
        bridge.wait(_loaded.open_session.close())
    plotting.set_backend(None)
    _charts.close()
    for kind, names in _loaded.magics.items():
        for name in names:
            shell.magics_manager.magics[kind].pop(name, None)
    cast("list[Any]", shell.configurables).remove(_loaded)  # where `Magics` has put itself
    _matchers(shell).remove(_loaded.matcher)
    atexit.unregister(_leave)
    _loaded = None


def _matchers(shell: InteractiveShell) -> list[Any]:
    """What the shell's completer asks at each Tab."""
    return shell.Completer.custom_matchers


def _close_panel() -> None:
    global _panel
    if _panel is not None:
        _panel.close()
    _panel = None


def _leave() -> None:
    """The kernel ends: leave in order, so that nobody waits for our expiry."""
    _close_panel()
    session = _loaded.open_session if _loaded is not None else None
    if session is not None and session.connected and session.loop is not None:
        bridge.finish(session.close(), session.loop)
