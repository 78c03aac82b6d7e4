"""From a cell to the functions that it offers."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from fabric_nb.errors import NotServed
from fabric_nb.notebook.bridge import wait


def run_cell(shell: InteractiveShell, source: str) -> list[str]:
    """Run a cell's text in the user's namespace and return its top-level functions' names.

    Magics, ``!`` and top-level ``await`` work as in any cell; what it raises is raised here.
    """
    __tracebackhide__ = True
    transformed = shell.transform_cell(source)
    filename = shell.compile.cache(transformed, shell.execution_count, raw_code=source)
    tree = ast.parse(transformed, filename)
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | shell.compile.flags  # the user's own future imports
    code = compile(tree, filename, "exec", flags=flags, dont_inherit=True)
    try:
        if code.co_flags & inspect.CO_COROUTINE:
            wait(eval(code, shell.user_ns))  # noqa: S307 - the user's own cell
        else:
            exec(code, shell.user_ns)  # noqa: S102 - the user's own cell
    except BaseException as error:
        error.__traceback__ = _from_cell(error.__traceback__, filename)
        raise
    return [
        node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]


def _from_cell(traceback: TracebackType | None, filename: str) -> TracebackType | None:
    """The traceback without the frames, of the loop and ours, that lead into the cell."""
    while traceback is not None and traceback.tb_frame.f_code.co_filename != filename:
        traceback = traceback.tb_next
    return traceback


def functions_to_serve(
    namespace: dict[str, Any], defined: Sequence[str], only: Sequence[str]
) -> dict[str, Callable[..., Any]]:
    """The functions to serve: those a cell defined, or only those that were named.

    Names that start with an underscore are never served.

    Raises:
        NotServed: there is none, or one that was named is not there or is private.
    """
    for name in only:
        if name.startswith("_"):
            raise NotServed(f"{name} starts with an underscore, and such names are private.")
        if not callable(namespace.get(name)):
            raise NotServed(f"--only names {name}, and there is no function of that name.")
    names = only or [name for name in defined if not name.startswith("_")]
    functions = {name: namespace[name] for name in names if callable(namespace.get(name))}
    if not functions:
        raise NotServed(
            "This cell defines no function to serve: write `def name(...):` at its top level, not"
            " starting with an underscore."
        )
    return functions
