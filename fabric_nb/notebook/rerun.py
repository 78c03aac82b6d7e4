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

from fabric_nb.errors import NotRerun
from fabric_nb.fabric.member import FabricMember
from fabric_nb.fabric.rpc.history import FailedCall
from fabric_nb.fabric.rpc.methods import invoke
from fabric_nb.fabric.rpc.server import Server
from fabric_nb.notebook.bridge import wait
from fabric_nb.notebook.pages import Cell, Code, Page, Table
from fabric_nb.notebook.views.serving import arguments_text


@dataclass(frozen=True, slots=True)
class Rerun:
    """A failed call, ready to be run again.

    Attributes:
        failed: the call as it was.
        function: what is run, as it is now.
        kwargs: its arguments as they came.
    """

    failed: FailedCall
    function: Callable[..., Any]
    kwargs: dict[str, Any]

    @classmethod
    def prepare(cls, fabric: FabricMember, namespace: Mapping[str, Any], what: str | None) -> Self:
        """Find the call: `what` is its number or method; None: the last one.

        Raises:
            NotRerun: there is no such call, or its function or arguments are gone.
        """
        failed = choose(fabric.calls.failures, what)
        return cls(failed, current_function(failed, fabric.servers, namespace), failed.kwargs())

    def __str__(self) -> str:
        record = self.failed.record
        when = time.strftime("%H:%M:%S", time.localtime(record.time))
        return f"Failed call {self.failed.number}, {record.service}.{record.method} of {when}"

    def run(self) -> Any:
        """As `run_again`."""
        __tracebackhide__ = True
        return run_again(self.function, self.kwargs)

    def debug(self, shell: InteractiveShell) -> Any:
        """As `debug`."""
        return debug(shell, self.function, self.kwargs)


def choose(failures: Sequence[FailedCall], what: str | None) -> FailedCall:
    """The failed call that is meant: the last one, the last one of a method, or a number.

    Raises:
        NotRerun: there is none.
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
        f"There is no failed call {what!r}: kept are {failures[0].number} to"
        f" {failures[-1].number}, of {methods}; %fabric_rerun --list shows them."
    )


def current_function(
    failed: FailedCall, servers: Sequence[Server], namespace: Mapping[str, Any]
) -> Callable[..., Any]:
    """The function as it is now: a cell's as the namespace has it, any other as it is served.

    Raises:
        NotRerun: there is none any more.
    """
    method = failed.record.method
    served = next(
        (one.functions.get(method) for one in servers if one.name.fqn == failed.record.service),
        None,
    )
    mine = namespace.get(method)
    of_a_cell = served is None or getattr(served, "__globals__", None) is namespace
    function = mine if of_a_cell and callable(mine) else served
    if function is None:
        raise NotRerun(
            f"{failed.record.service}.{method} is not served here any more, and there is no"
            f" function {method}: run the cell that defines it."
        )
    return function


def run_again(function: Callable[..., Any], kwargs: Mapping[str, Any]) -> Any:
    """Call the function; the items of a generator become a list.

    What it raises shows the function's own lines only.
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
        error.__traceback__ = _from(error.__traceback__, function)
        raise


def debug(shell: InteractiveShell, function: Callable[..., Any], kwargs: Mapping[str, Any]) -> Any:
    """Call the function and, when it fails, stop in the debugger where it does; as ``%debug`` does.

    Raises:
        NotRerun: the front end takes no input.
    """
    try:
        result = run_again(function, kwargs)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is what is looked into
        print(f"{type(error).__name__}: {error}")  # noqa: T201 - a magic's answer
        _inspect(shell, error.__traceback__)
        return None
    print("It does not fail any more.")  # noqa: T201 - a magic's answer
    return result


def _inspect(shell: InteractiveShell, traceback: TracebackType | None) -> None:
    debugger = shell.debugger_cls()
    try:
        with DisplayTrap(hook=sys.__displayhook__):
            debugger.reset()
            debugger.interaction(None, traceback)
    except StdinNotImplementedError:
        raise NotRerun(
            "The debugger asks for commands, and this front end takes no input: run it in"
            " JupyterLab, or without --debug."
        ) from None


def failures_page(failures: Sequence[FailedCall]) -> Page:
    """The failed calls that are kept, the last one first."""
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


def _from(traceback: TracebackType | None, function: Callable[..., Any]) -> TracebackType | None:
    """The traceback from the function on; the whole where the function is not in it."""
    code = getattr(inspect.unwrap(_bare(function)), "__code__", None)
    found = traceback
    while found is not None and found.tb_frame.f_code is not code:
        found = found.tb_next
    return found or traceback


def _bare(function: Callable[..., Any]) -> Callable[..., Any]:
    while isinstance(function, functools.partial):
        function = function.func
    return function
