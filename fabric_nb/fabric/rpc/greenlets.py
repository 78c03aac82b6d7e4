"""Greenlet bridge: plain functions that await on the loop that they run on.

    async def serve() -> None:
        assert await suspendable(plain, 5) == 10

    def plain(x):
        return suspend(double(x))       # the loop runs other tasks meanwhile

A plain function has no `await`, and running the loop from within it nests: an inner wait has to end
before an outer one can, so that two such functions that wait for each other never end. Here the
function runs in a greenlet instead, which is switched out while it waits and switched in again with
the result, in any order.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NamedTuple, ParamSpec, TypeVar, cast

from greenlet import GreenletExit, getcurrent, greenlet

P = ParamSpec("P")
T = TypeVar("T")

MAX_IDLE = 32
"""Idle greenlets that each thread keeps."""


class _Ended(NamedTuple):
    """Outcome of a function that has returned or raised."""

    result: Any
    error: BaseException | None


class _Runner(greenlet):
    """Greenlet that runs one function after another, because a new greenlet needs a new stack.

    A switch to it passes a function, or the result of the awaitable that the function waits for. It
    switches back with an awaitable, or with None and `ended` set.
    """

    ended: _Ended | None = None

    def run(self, function: Callable[[], Any]) -> None:
        while True:
            self.ended = _ended(function)
            del function  # keeps nothing of it alive while idle
            function = self.leave(None)

    def leave(self, awaitable: Awaitable[Any] | None) -> Any:
        """Switch to the parent, until the next switch to this greenlet."""
        assert self.parent is not None  # noqa: S101 - only the main greenlet has none
        return self.parent.switch(awaitable)


def _ended(function: Callable[[], Any]) -> _Ended:
    try:
        return _Ended(function(), None)
    except GreenletExit:  # the greenlet is garbage-collected
        raise
    except BaseException as error:  # noqa: BLE001 - raised where the function is awaited
        return _Ended(None, error)


class _Idle(threading.local):
    """Idle runners of this thread."""

    def __init__(self) -> None:
        self.runners: list[_Runner] = []


_idle = _Idle()


async def suspendable(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a plain function that may `suspend`, in the current task and context."""
    here, idle = getcurrent(), _idle.runners
    runner = idle.pop() if idle else _Runner()
    runner.gr_context = here.gr_context
    runner.parent = here
    awaitable = runner.switch(partial(function, *args, **kwargs))
    while runner.ended is None:
        try:
            awaited = await cast("Awaitable[Any]", awaitable)
        except BaseException as error:  # noqa: BLE001 - raised in the function
            resume, result = runner.throw, error
        else:
            resume, result = runner.switch, awaited
        runner.parent = getcurrent()  # differs from before if the loop is nested
        awaitable = resume(result)
    ended, runner.ended, runner.gr_context = runner.ended, None, None
    if len(idle) < MAX_IDLE:
        idle.append(runner)
    if ended.error is not None:
        raise ended.error
    return cast("T", ended.result)


def can_suspend() -> bool:
    """Return whether the running code was called by `suspendable`."""
    return isinstance(getcurrent(), _Runner)


def suspend(awaitable: Awaitable[T]) -> T:
    """Suspend the running function until `awaitable` is done, and return its result.

    Raises:
        RuntimeError: the running code was not called by `suspendable`.
    """
    runner = getcurrent()
    if not isinstance(runner, _Runner):
        raise RuntimeError(  # noqa: TRY004 - a wrong place, not a wrong type
            "Only a function that `suspendable` has called can be suspended."
        )
    return cast("T", runner.leave(awaitable))
