"""Blocking waits in plain code, which cannot await; a notebook enables them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from fabric_nb.errors import WrongLoop
from fabric_nb.fabric.rpc.greenlets import can_suspend, suspend

T = TypeVar("T")
Waiter = Callable[[Coroutine[Any, Any, Any]], Any]

_waiter: Waiter | None = None


def enable_waiting(waiter: Waiter) -> None:
    """Let `wait` run coroutines with a function, which runs the loop meanwhile."""
    global _waiter
    _waiter = waiter


def wait(work: Coroutine[Any, Any, T], what: str) -> T:
    """Run a coroutine and return its result, from code that cannot await.

    Args:
        work: the coroutine.
        what: name of the operation, for the error.

    Raises:
        WrongLoop: this is neither a notebook nor a served function.
    """
    if can_suspend():
        return suspend(work)
    if _waiter is None:
        work.close()
        raise WrongLoop(
            f"{what} waits, which plain code can do only in a notebook: write `await` in a"
            " coroutine."
        )
    result: T = _waiter(work)
    return result
