"""The shell around a cell: what is done with its text before, and with its result after it."""

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


def semicolon_outside(lines: list[str]) -> list[str]:
    r"""Move a semicolon behind one of our magics to where Python has it: it silences the value.

    Args:
        lines: a cell as IPython has made Python of it.

    Example:
        >>> semicolon_outside(["x = get_ipython().run_line_magic('fabric_call', 'a.b x=5;')"])
        ["x = get_ipython().run_line_magic('fabric_call', 'a.b x=5');\n"]
    """
    cell = _CELL.fullmatch("".join(lines))
    if cell is None:
        return [_moved(line) for line in lines]
    line, body = ast.literal_eval(f"({cell[2]})")
    bare = line.rstrip().removesuffix(";")
    silent = bare != line.rstrip()
    with contextlib.suppress(Exception):  # of a body that is not Python
        silent = silent or DisplayHook.semicolon_at_end_of_expression(body)
    return [f"{cell[1]}{bare!r}, {body!r});\n"] if silent else lines


def _moved(line: str) -> str:
    found = _LINE.fullmatch(line)
    if found is None or not (found[2] or found[5]):
        return line
    return f"{found[1]}{found[3]}{found[6]};\n"


def receiving_variable() -> str | None:
    """Return the global variable to which the running code assigns the value of our magic."""
    frame = sys._getframe(1)  # noqa: SLF001 - documented, with this name
    while frame.f_globals.get("__name__", "").partition(".")[0] in ("fabric_nb", "IPython"):
        if frame.f_back is None:
            return None
        frame = frame.f_back
    after = (one for one in dis.get_instructions(frame.f_code) if one.offset > frame.f_lasti)
    follows = next(after, None)
    if follows is None or follows.opname not in ("STORE_NAME", "STORE_GLOBAL"):
        return None
    return str(follows.argval)


class Cells:
    """Looks after the cells of a shell while it is open.

    Args:
        shell: the notebook's IPython.
        at_end: called when a cell has run, before the front end learns of it.
    """

    def __init__(self, shell: InteractiveShell, at_end: Callable[[], object]) -> None:
        self._shell = shell
        self._at_end = at_end
        self._thread = threading.get_ident()
        self._failed: BaseException | None = None

    def open(self) -> None:
        """Begin with the next cell."""
        self._transformers.append(semicolon_outside)
        self._shell.events.register("pre_run_cell", self._before)
        self._shell.events.register("post_run_cell", self._after)

    def close(self) -> None:
        """Leave the shell as it was."""
        with contextlib.suppress(ValueError):
            self._transformers.remove(semicolon_outside)
        with contextlib.suppress(ValueError):
            self._shell.events.unregister("pre_run_cell", self._before)
            self._shell.events.unregister("post_run_cell", self._after)

    @property
    def _transformers(self) -> list[Any]:
        return self._shell.input_transformers_post

    def _before(self, _: object) -> None:
        self._failed = None

    def _after(self, result: ExecutionResult | None) -> None:
        try:
            if threading.get_ident() == self._thread:  # not in a subshell's
                self._at_end()
        except Exception:
            log.exception("What a cell has left could not be brought up to date")
        if result is not None:
            self._fail_as_within(result)

    def _fail_as_within(self, result: ExecutionResult) -> None:
        """Let a cell fail in which one of our errors ended a cell within, as in ``%%capture``.

        IPython forgets how the cell within has ended, and the run would go on. Code that runs a
        cell itself can look at the result.
        """
        failed = result.error_before_exec or result.error_in_exec
        text = result.info.raw_cell if result.info is not None else ""
        if failed is None and self._failed is not None and text.lstrip().startswith("%%"):
            result.error_in_exec = self._failed
        self._failed = failed if _is_ours(failed) else None


def _is_ours(error: BaseException | None) -> bool:
    if isinstance(error, UsageError):
        return getattr(error, "of_fabric_nb", False)
    return isinstance(error, FabricError)
