"""Plain functions that can wait for the loop they run on, as coroutines do.

    async def serve() -> None:
        assert await suspendable(plain, 5) == 10

    def plain(x):
        return suspend(double(x))       # the loop goes on with other things meanwhile

A function that is not async has no `await`, and running the loop from within it makes what it
waits for end before what began earlier can: two such functions that wait for each other never end.
Here the function runs in a greenlet instead, which is left where it waits and entered again with
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


class _Ended(NamedTuple):
    """A function has returned, or raised."""

    result: Any
    error: BaseException | None


class _Runner(greenlet):
    """Runs one function after another: a new greenlet needs a new stack, which costs the most.

    A switch to it takes a function, or the result of what the function waits for; it comes back
    with an awaitable, or with None and `ended` set.
    """

    ended: _Ended | None = None

    def run(self, function: Callable[[], Any]) -> None:
        while True:
            self.ended = _ended(function)
            del function  # nothing of it is held while there is nothing to run
            function = self.leave(None)

    def leave(self, awaitable: Awaitable[Any] | None) -> Any:
        """Go back to whoever switched to this, until the next switch."""
        assert self.parent is not None  # noqa: S101 - only the main greenlet has none
        return self.parent.switch(awaitable)


def _ended(function: Callable[[], Any]) -> _Ended:
    try:
        return _Ended(function(), None)
    except GreenletExit:  # nobody will ever enter it again
        raise
    except BaseException as error:  # noqa: BLE001 - it is for whoever awaits the function
        return _Ended(None, error)


class _Idle(threading.local):
    """Runners of this thread that have nothing to run."""

    def __init__(self) -> None:
        self.runners: list[_Runner] = []


_idle = _Idle()


async def suspendable(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a plain function that may `suspend`, in the task and context that await this."""
    here, idle = getcurrent(), _idle.runners
    runner = idle.pop() if idle else _Runner()
    runner.gr_context = here.gr_context
    runner.parent = here
    awaitable = runner.switch(partial(function, *args, **kwargs))
    while runner.ended is None:
        try:
            awaited = await cast("Awaitable[Any]", awaitable)
        except BaseException as error:  # noqa: BLE001 - it is the function's to see
            resume, result = runner.throw, error
        else:
            resume, result = runner.switch, awaited
        runner.parent = getcurrent()  # another than before, where the loop is run from within
        awaitable = resume(result)
    ended, runner.ended, runner.gr_context = runner.ended, None, None
    if len(idle) < MAX_IDLE:
        idle.append(runner)
    if ended.error is not None:
        raise ended.error
    return cast("T", ended.result)


def can_suspend() -> bool:
    """Whether the running code is within a function that `suspendable` called."""
    return isinstance(getcurrent(), _Runner)


def suspend(awaitable: Awaitable[T]) -> T:
    """Leave the running function until `awaitable` is done, and return its result.

    Raises:
        RuntimeError: the running code was not called by `suspendable`.
    """
    runner = getcurrent()
    if not isinstance(runner, _Runner):
        raise RuntimeError(  # noqa: TRY004 - it is the place that is wrong
            "Only a function that `suspendable` has called can be left waiting."
        )
    return cast("T", runner.leave(awaitable))
