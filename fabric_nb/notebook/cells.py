"""Hooks of the shell: transformation of a cell's source, and actions after its execution."""

from __future__ import annotations

import ast
import contextlib
import dis
import logging
import re
import sys
import threading
from collections.abc import Callable
from typing import Any

from IPython.core.displayhook import DisplayHook
from IPython.core.error import UsageError
from IPython.core.interactiveshell import ExecutionResult, InteractiveShell

from fabric_nb.errors import FabricError

log = logging.getLogger(__name__)

_LINE = re.compile(
    r"(.*\bget_ipython\(\)\.run_line_magic\('fabric(?:_\w+)?)(;?)(', (['\"]).*?)\s*(;?)\s*(\4\))\s*"
)
_CELL = re.compile(
    r"(get_ipython\(\)\.run_cell_magic\('fabric_\w+', )(.*)\)\s*",
    re.DOTALL,
)


def move_semicolon(lines: list[str]) -> list[str]:
    r"""Move the semicolon after a magic to the end of the statement, where it hides the value.

    Args:
        lines: a cell, transformed to Python by IPython.

    Example:
        >>> move_semicolon(["x = get_ipython().run_line_magic('fabric_call', 'a.b x=5;')"])
        ["x = get_ipython().run_line_magic('fabric_call', 'a.b x=5');\n"]
    """
    cell = _CELL.fullmatch("".join(lines))
    if cell is None:
        return [_moved(line) for line in lines]
    line, body = ast.literal_eval(f"({cell[2]})")
    bare = line.rstrip().removesuffix(";")
    silent = bare != line.rstrip()
    with contextlib.suppress(Exception):  # the body is not Python
        silent = silent or DisplayHook.semicolon_at_end_of_expression(body)
    return [f"{cell[1]}{bare!r}, {body!r});\n"] if silent else lines


def _moved(line: str) -> str:
    found = _LINE.fullmatch(line)
    if found is None or not (found[2] or found[5]):
        return line
    return f"{found[1]}{found[3]}{found[6]};\n"


def assigned_variable() -> str | None:
    """Return the global variable to which the running code assigns the value of the magic."""
    frame = sys._getframe(1)  # noqa: SLF001 - documented, with this name
    while frame.f_globals.get("__name__", "").partition(".")[0] in ("fabric_nb", "IPython"):
        if frame.f_back is None:
            return None
        frame = frame.f_back
    code, last = dis.get_instructions(frame.f_code), frame.f_lasti
    following = next((each for each in code if each.offset > last), None)
    if following is None or following.opname not in ("STORE_NAME", "STORE_GLOBAL"):
        return None
    return str(following.argval)


class CellHooks:
    """Hooks for the cells of a shell.

    Args:
        shell: IPython shell.
        at_end: called after a cell has run, before the front end is notified.
    """

    def __init__(self, shell: InteractiveShell, at_end: Callable[[], object]) -> None:
        self._shell = shell
        self._at_end = at_end
        self._thread = threading.get_ident()
        self._nested_error: BaseException | None = None

    def open(self) -> None:
        """Register the hooks."""
        self._transformers.append(move_semicolon)
        self._shell.events.register("pre_run_cell", self._before)
        self._shell.events.register("post_run_cell", self._after)

    def close(self) -> None:
        """Unregister the hooks."""
        with contextlib.suppress(ValueError):
            self._transformers.remove(move_semicolon)
        with contextlib.suppress(ValueError):
            self._shell.events.unregister("pre_run_cell", self._before)
            self._shell.events.unregister("post_run_cell", self._after)

    @property
    def _transformers(self) -> list[Any]:
        return self._shell.input_transformers_post

    def _before(self, _: object) -> None:
        self._nested_error = None

    def _after(self, result: ExecutionResult | None) -> None:
        try:
            if threading.get_ident() == self._thread:  # not in a subshell
                self._at_end()
        except Exception:
            log.exception("Views could not be refreshed at the end of a cell")
        if result is not None:
            self._propagate_error(result)

    def _propagate_error(self, result: ExecutionResult) -> None:
        """Make a cell fail if a nested cell, as in ``%%capture``, failed with a fabric error.

        IPython discards the result of the nested cell, and a run would continue. Code that runs a
        cell itself has its result.
        """
        error = result.error_before_exec or result.error_in_exec
        text = result.info.raw_cell if result.info is not None else ""
        if error is None and self._nested_error is not None and text.lstrip().startswith("%%"):
            result.error_in_exec = self._nested_error
        self._nested_error = error if _is_fabric_error(error) else None


def _is_fabric_error(error: BaseException | None) -> bool:
    if isinstance(error, UsageError):
        return getattr(error, "of_fabric_nb", False)
    return isinstance(error, FabricError)
