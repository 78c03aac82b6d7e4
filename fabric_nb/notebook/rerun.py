"""Reruns of failed calls to functions of this notebook."""

from __future__ import annotations

import functools
import inspect
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from IPython.core.display_trap import DisplayTrap
from IPython.core.error import StdinNotImplementedError
from IPython.core.interactiveshell import InteractiveShell
from IPython.display import display

from fabric_nb.errors import NotRerun
from fabric_nb.fabric.member import FabricMember
from fabric_nb.fabric.rpc.history import FailedCall
from fabric_nb.fabric.rpc.methods import invoke
from fabric_nb.fabric.rpc.server import Server
from fabric_nb.notebook.bridge import wait
from fabric_nb.notebook.pages import Cell, Code, Page, Table
from fabric_nb.notebook.terminal import forms
from fabric_nb.notebook.views.serving import arguments_text


@dataclass(frozen=True, slots=True)
class Rerun:
    """A failed call and the current function to run it with.

    Attributes:
        failed: the failed call.
        function: current definition of the function.
        kwargs: arguments of the call, as received.
    """

    failed: FailedCall
    function: Callable[..., Any]
    kwargs: dict[str, Any]

    @classmethod
    def prepare(cls, fabric: FabricMember, namespace: Mapping[str, Any], what: str | None) -> Self:
        """Select a failed call and its function.

        Args:
            fabric: connection with the call history.
            namespace: variables of the notebook.
            what: number or method of the call; None for the last one.

        Raises:
            NotRerun: there is no such call, or its function or arguments are not available.
        """
        failed = choose(fabric.calls.failures, what)
        return cls(failed, current_function(failed, fabric.servers, namespace), failed.kwargs())

    def __str__(self) -> str:
        record = self.failed.record
        when = time.strftime("%H:%M:%S", time.localtime(record.time))
        return f"Failed call {self.failed.number}, {record.service}.{record.method} of {when}"

    def run(self) -> Any:
        """Run the call; see `run_again`."""
        __tracebackhide__ = True
        return run_again(self.function, self.kwargs)

    def debug(self, shell: InteractiveShell) -> Any:
        """Run the call in the debugger; see `debug`."""
        return debug(shell, self.function, self.kwargs)


def choose(failures: Sequence[FailedCall], what: str | None) -> FailedCall:
    """Return the last failed call, the last one of a method, or the one with a number.

    Raises:
        NotRerun: there is no such call.
    """
    if not failures:
        raise NotRerun("No call to a function of this notebook has failed yet.")
    if what is None:
        return failures[-1]
    for failed in reversed(failures):
        called = f"{failed.record.service}.{failed.record.method}"
        if str(failed.number) == what or f".{called}".endswith(f".{what}"):
            return failed
    methods = ", ".join(dict.fromkeys(failed.record.method for failed in reversed(failures)))
    raise NotRerun(
        f"There is no failed call {what!r}: calls {failures[0].number} to"
        f" {failures[-1].number} are kept, of {methods}; %fabric_rerun --list shows them."
    )


def current_function(
    failed: FailedCall, servers: Sequence[Server], namespace: Mapping[str, Any]
) -> Callable[..., Any]:
    """Return the current function: of a cell, from the namespace; any other, as served.

    Raises:
        NotRerun: the function no longer exists.
    """
    method = failed.record.method
    service = failed.record.service
    served = next(
        (each.functions.get(method) for each in servers if each.name.fqn == service), None
    )
    defined = namespace.get(method)
    from_cell = served is None or getattr(served, "__globals__", None) is namespace
    function = defined if from_cell and callable(defined) else served
    if function is None:
        raise NotRerun(
            f"{service}.{method} is no longer served here, and there is no function {method}:"
            f" run the cell that defines it."
        )
    return function


def run_again(function: Callable[..., Any], kwargs: Mapping[str, Any]) -> Any:
    """Call a function; the items of a generator are returned as a list.

    Tracebacks of its errors begin at the function's own lines.
    """
    __tracebackhide__ = True
    try:
        result = invoke(function, kwargs)
        if inspect.isawaitable(result):
            result = wait(_awaited(result))
        if inspect.isasyncgen(result):
            return wait(_listed(result))
        return list(result) if inspect.isgenerator(result) else result
    except BaseException as error:
        error.__traceback__ = _traceback_from(error.__traceback__, function)
        raise


def debug(shell: InteractiveShell, function: Callable[..., Any], kwargs: Mapping[str, Any]) -> Any:
    """Call a function and, if it fails, open the debugger where it failed, as ``%debug`` does.

    Raises:
        NotRerun: the front end does not support input.
    """
    try:
        result = run_again(function, kwargs)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - any error is debugged
        print(f"{type(error).__name__}: {error}")  # noqa: T201 - output of a magic
        _inspect(shell, error.__traceback__)
        return None
    print("The call no longer fails.")  # noqa: T201 - output of a magic
    return result


def _inspect(shell: InteractiveShell, traceback: TracebackType | None) -> None:
    debugger = shell.debugger_cls()
    try:
        with DisplayTrap(hook=sys.__displayhook__):
            debugger.reset()
            debugger.interaction(None, traceback)
    except StdinNotImplementedError:
        raise NotRerun(
            "The debugger needs input, which this front end does not support: run it in"
            " JupyterLab, or without --debug."
        ) from None


def show_failures(failures: Sequence[FailedCall]) -> None:
    """Show the retained failed calls."""
    display(forms(failures_page(failures)), raw=True)


def failures_page(failures: Sequence[FailedCall]) -> Page:
    """Return a page with the retained failed calls, newest first."""
    rows: list[list[Cell]] = [
        [
            failed.number,
            time.strftime("%H:%M:%S", time.localtime(failed.record.time)),
            Code(f"{failed.record.service}.{failed.record.method}({arguments_text(failed)})"),
            failed.record.error,
        ]
        for failed in reversed(failures)
    ]
    return Page(
        title="Failed calls",
        facts=["none yet"] if not rows else [],
        tables=[Table(["", "when", "call", "error"], rows, frozenset({""}))],
        notes=["%fabric_rerun NUMBER runs one again"] if rows else [],
    )


async def _awaited(result: Awaitable[Any]) -> Any:
    return await result


async def _listed(items: Any) -> list[Any]:
    return [item async for item in items]


def _traceback_from(
    traceback: TracebackType | None, function: Callable[..., Any]
) -> TracebackType | None:
    """Return the traceback from the function's frame on, or all of it if that is missing."""
    code = getattr(inspect.unwrap(_unwrap_partial(function)), "__code__", None)
    current = traceback
    while current is not None and current.tb_frame.f_code is not code:
        current = current.tb_next
    return current or traceback


def _unwrap_partial(function: Callable[..., Any]) -> Callable[..., Any]:
    while isinstance(function, functools.partial):
        function = function.func
    return function
