"""Waiting for coroutines in plain code, which a notebook's extension makes possible."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, cast

from fabric_nb.errors import NotInNotebook

T = TypeVar("T")

Wait = Callable[[Coroutine[Any, Any, Any]], Any]
"""Runs a coroutine on the loop that is running already, and returns its result."""

_wait: Wait | None = None


def set_wait(wait: Wait | None) -> None:
    """Set the function that waits; None: plain code cannot wait."""
    global _wait
    _wait = wait


def can_wait() -> bool:
    """Return whether plain code can wait."""
    return _wait is not None


def wait_for(start: Callable[[], Coroutine[Any, Any, T]], name: str, awaited: str) -> T:
    """Run a coroutine in plain code, and return its result.

    Args:
        start: returns the coroutine.
        name: name of the function that waits, for the error.
        awaited: expression that a program awaits instead.

    Raises:
        NotInNotebook: plain code cannot wait here.
    """
    if _wait is None:
        raise NotInNotebook(
            f"{name} waits in a notebook, after `%load_ext fabric_nb`: in a program write"
            f" `await {awaited}` in a coroutine, which asyncio.run() runs."
        )
    return cast("T", _wait(start()))


def named(coroutine: Coroutine[Any, Any, T], call: str) -> Coroutine[Any, Any, T]:
    """Name the coroutine of a call, and return it.

    Its `repr`, that of its task, and Python's warning that it was never awaited, contain the name.
    Where plain code can wait, the name says how.

    Args:
        coroutine: a native coroutine.
        call: service and method, as in ``pricing.quote``.
    """
    if _wait is not None:
        service, _, method = call.rpartition(".")
        call += f" (`await` it, or in plain code call fabric.service({service!r}).{method}.sync)"
    cast("Any", coroutine).__qualname__ = call
    return coroutine
