"""Plain functions that can wait for the loop they run on, as coroutines do.

    async def serve() -> None:
        assert await suspendable(plain, 5) == 10

    def plain(x):
        return suspend(double(x))       # the loop goes on with other things meanwhile

A function that is not async has no `await`, and running the loop from within it makes what it
waits for end before what began earlier can: two such functions that wait for each other never end.
Here the function is a greenlet instead, which is left where it waits and entered again with the
result, in any order.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar, cast

from greenlet import getcurrent, greenlet

P = ParamSpec("P")
T = TypeVar("T")


class _Suspendable(greenlet):
    """A function that runs until it hands an awaitable to whoever switched to it, or returns."""


async def suspendable(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a plain function that may `suspend`, in the task and context that await this."""
    call = _Suspendable(function)
    call.gr_context = getcurrent().gr_context
    outcome = call.switch(*args, **kwargs)
    while not call.dead:
        try:
            awaited = await cast("Awaitable[Any]", outcome)
        except BaseException as error:  # noqa: BLE001 - it is the function's to see
            resume, result = call.throw, error
        else:
            resume, result = call.switch, awaited
        call.parent = getcurrent()  # not who began it, where somebody runs the loop from within
        outcome = resume(result)
    return cast("T", outcome)


def can_suspend() -> bool:
    """Whether the running code is within a function that `suspendable` called."""
    return isinstance(getcurrent(), _Suspendable)


def suspend(awaitable: Awaitable[T]) -> T:
    """Leave the running function until `awaitable` is done, and return its result.

    Raises:
        RuntimeError: the running code was not called by `suspendable`.
    """
    call = getcurrent()
    if not can_suspend() or call.parent is None:
        raise RuntimeError("Only a function that `suspendable` has called can be left waiting.")
    return cast("T", call.parent.switch(awaitable))
