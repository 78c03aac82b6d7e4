"""IPython extension: ``%load_ext fabric_nb`` and ``%unload_ext fabric_nb``."""

from __future__ import annotations

import atexit
import warnings
from typing import Any, cast

from IPython.core.interactiveshell import InteractiveShell

from fabric_nb.fabric.core import waiting
from fabric_nb.fabric.data import plotting
from fabric_nb.fabric.rpc.invocation import allow_suspending
from fabric_nb.notebook import bridge
from fabric_nb.notebook.cells import CellHooks
from fabric_nb.notebook.inspection import Inspection
from fabric_nb.notebook.magics import FabricMagics
from fabric_nb.notebook.panel import Panel
from fabric_nb.notebook.plot import Charts

_loaded: FabricMagics | None = None
_panel: Panel | None = None
_inspection: Inspection | None = None
_cell_hooks: CellHooks | None = None
_charts = Charts()
_MAP_HANDLE = ("fabric_nb.fabric.rpc.mapping", "MapHandle")
"""Module and name of the handle of a map, which is shown as a bar."""
_BENCH_RESULT = ("fabric_nb.fabric.rpc.bench_result", "BenchResult")
"""Module and name of the result of a benchmark, which is shown with a histogram."""


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Register the magics."""
    global _loaded, _panel, _inspection, _cell_hooks
    if _loaded is not None:
        return
    problem = bridge.broken_nesting()
    if problem is not None:
        warnings.warn(problem, stacklevel=2)
    bridge.allow_waiting(bridge.notebook_loop())
    waiting.set_wait(bridge.wait)
    allow_suspending()
    bridge.run_at_prompt(shell)
    _loaded = magics = FabricMagics(shell)
    shell.register_magics(_loaded)
    plotting.set_backend(_charts)
    _matchers(shell).append(_loaded.matcher)
    _display_formatter(shell).for_type_by_name(
        *_MAP_HANDLE, lambda handle: magics.session.maps.show(handle)
    )
    _html_formatter(shell).for_type_by_name(*_BENCH_RESULT, _bench_html)
    _panel = Panel(
        shell,
        lambda: magics.connector,
        lambda: magics.session.streams(),
        lambda: magics.listed_connections,
        lambda: magics.finder,
        bridge.notebook_loop(),
    )
    _panel.open()
    _inspection = Inspection(shell, magics.method_help)
    _inspection.open()
    _cell_hooks = CellHooks(shell, magics.cell_ended)
    _cell_hooks.open()
    atexit.register(_close_at_exit)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Close the connection and unregister the magics."""
    global _loaded, _inspection, _cell_hooks
    if _loaded is None:
        return
    _close_panel()
    if _inspection is not None:
        _inspection.close()
        _inspection = None
    if _cell_hooks is not None:
        _cell_hooks.close()
        _cell_hooks = None
    if _loaded.open_session is not None:
        for note in _loaded.open_session.closing_notes():
            print(note)  # noqa: T201 - `%reload_ext` unloads too
        bridge.wait(_loaded.open_session.close())
    waiting.set_wait(None)
    plotting.set_backend(None)
    _charts.close()
    for kind, names in _loaded.magics.items():
        for name in names:
            shell.magics_manager.magics[kind].pop(name, None)
    cast("list[Any]", shell.configurables).remove(_loaded)  # appended by `Magics`
    _matchers(shell).remove(_loaded.matcher)
    _display_formatter(shell).pop(".".join(_MAP_HANDLE), None)
    _html_formatter(shell).pop(".".join(_BENCH_RESULT), None)
    atexit.unregister(_close_at_exit)
    _loaded = None


def _matchers(shell: InteractiveShell) -> list[Any]:
    """Return the matchers of the shell's completer."""
    return shell.Completer.custom_matchers


def _display_formatter(shell: InteractiveShell) -> Any:
    """Return the formatter of objects that display themselves."""
    return shell.display_formatter.ipython_display_formatter  # type: ignore[union-attr]


def _html_formatter(shell: InteractiveShell) -> Any:
    """Return the formatter of values as HTML."""
    return shell.display_formatter.formatters["text/html"]  # type: ignore[union-attr]


def _bench_html(result: Any) -> str:
    from fabric_nb.notebook.views.bench import result_html  # it is seldom needed

    return result_html(result)


def _close_panel() -> None:
    global _panel
    if _panel is not None:
        _panel.close()
    _panel = None


def _close_at_exit() -> None:
    """Close the connection when the kernel exits, so that other members see it at once."""
    _close_panel()
    session = _loaded.open_session if _loaded is not None else None
    if session is not None and len(session.connections) and session.loop is not None:
        bridge.finish(session.close(), session.loop)
