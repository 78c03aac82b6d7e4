"""Functions of a serving cell."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import BuiltinFunctionType, TracebackType
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from fabric_nb.errors import NotServed
from fabric_nb.fabric.rpc.methods import positional_only
from fabric_nb.notebook.arguments import bindings
from fabric_nb.notebook.bridge import wait


def run_cell(shell: InteractiveShell, source: str) -> tuple[list[str], list[str]]:
    """Run a cell in the user's namespace; return the names of its functions, and other names.

    Names are found inside `if`, `for`, `with` and `try` too, but not inside functions and classes.

    Magics, ``!`` and top-level ``await`` work as in any cell. Errors of the cell are raised.
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
        error.__traceback__ = _traceback_from_cell(error.__traceback__, filename)
        raise
    return list(dict.fromkeys(_functions(tree))), [name for name, by in bindings(tree) if by]


def _functions(node: ast.AST) -> Iterator[str]:
    """Yield the names of functions that are neither methods nor nested."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield child.name
        elif not isinstance(child, (ast.ClassDef, ast.expr)):
            yield from _functions(child)


def _traceback_from_cell(traceback: TracebackType | None, filename: str) -> TracebackType | None:
    """Return the traceback without the frames above the cell."""
    while traceback is not None and traceback.tb_frame.f_code.co_filename != filename:
        traceback = traceback.tb_next
    return traceback


def functions_to_serve(
    namespace: dict[str, Any],
    defined: Sequence[str],
    only: Sequence[str],
    others: Sequence[str] = (),
) -> dict[str, Callable[..., Any]]:
    """Return the functions to serve: those that a cell defined, or those of ``--only``.

    Names that start with an underscore are never served.

    Args:
        namespace: the user's variables.
        defined: functions of the cell.
        only: names given with ``--only``.
        others: other callables of the cell, which are only served if named.

    Raises:
        NotServed: there is no function, or a named one does not exist or is private.
    """
    for name in only:
        if name.startswith("_"):
            raise NotServed(f"{name} starts with an underscore, and such names are private.")
        if not callable(namespace.get(name)):
            raise NotServed(f"--only names {name}, and there is no function of that name.")
    names = only or [name for name in defined if not name.startswith("_")]
    functions = {name: namespace[name] for name in names if callable(namespace.get(name))}
    if not functions:
        named = f", or name others, as in --only {','.join(others)}" if others else ""
        raise NotServed(
            "This cell defines no function to serve: write `def name(...):` at its top level, not"
            f" starting with an underscore{named}."
        )
    return functions


def serving_notes(functions: Mapping[str, Callable[..., Any]], others: Sequence[str]) -> list[str]:
    """Return sentences on callables that are not served, and on functions that cannot be called.

    Args:
        functions: served functions by name.
        others: other callables of the cell.
    """
    notes = []
    if others:
        names = ", ".join(f"`{name}`" for name in others)
        notes.append(f"Not served, because `def` does not define it: {names}. `--only` serves it.")
    uncallable = [
        f"`{name}`"
        for name, function in functions.items()
        if isinstance(function, BuiltinFunctionType)
        and any(each.default is each.empty for each in positional_only(function))
    ]
    if uncallable:
        notes.append(
            "Cannot be called, because it has positional-only parameters and calls pass arguments"
            f" by name: {', '.join(uncallable)}. Serve a `def` that calls it."
        )
    return notes


def other_callables(
    namespace: Mapping[str, Any], assigned: Sequence[str], defined: Sequence[str]
) -> list[str]:
    """Return the names of a cell's callables that `def` did not define, such as lambdas.

    They are only served if named with ``--only``, because they may be helpers.
    """
    return [
        name
        for name in dict.fromkeys(assigned)
        if not name.startswith("_")
        and name not in defined
        and callable(value := namespace.get(name))
        and not isinstance(value, type)
    ]
