"""Waiting, in code that cannot await, for something that happens on the notebook's own loop.

A cell runs inside the loop it waits for, so the loop is run again from within. nest-asyncio2
makes that possible; nest-asyncio 1.6, from which it was forked, loses the next queued cell
on ipykernel 7.1 and later. A served function is left where it waits instead, since loops that
are run from within each other can only end in the reverse order; and a thread just waits.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, TypeVar

import nest_asyncio2

from fabric_nb.errors import LoopBlocked, show_short
from fabric_nb.fabric.rpc.greenlets import can_suspend, suspend

T = TypeVar("T")

LOOK_EVERY, STANDS_STILL_AFTER = 0.5, 3.0
"""Seconds between two looks of a thread that waits for the loop, and until it gives up when the
running cell waits for threads all the while."""

LEAVE_TIMEOUT = 2.0
"""Seconds that closing may take when the kernel leaves."""


def broken_nesting() -> str | None:
    """What is wrong when another library has patched asyncio in a way that loses cells."""
    if getattr(asyncio, "_nest_patched", False) and not hasattr(asyncio, "_nest_asyncio2"):
        return (
            "nest_asyncio was applied in this kernel before fabric_nb. With ipykernel 7.1 and"
            " later it loses cells that are queued while a call waits: restart the kernel and load"
            " fabric_nb first, or replace nest_asyncio by nest_asyncio2."
        )
    return None


@dataclass(frozen=True, slots=True)
class _Home:
    """Where cells run."""

    loop: asyncio.AbstractEventLoop
    thread: int


_home: _Home | None = None


def notebook_loop() -> asyncio.AbstractEventLoop:
    """The loop that cells run on."""
    if _home is not None and not _home.loop.is_closed():
        return _home.loop
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        from IPython.core.async_helpers import get_asyncio_loop

        loop: asyncio.AbstractEventLoop = get_asyncio_loop()
        return loop


def allow_waiting(loop: asyncio.AbstractEventLoop) -> None:
    """Make `wait` possible on a loop; done once, in its thread, when the extension is loaded."""
    global _home
    _home = _Home(loop, threading.get_ident())
    nest_asyncio2.apply(loop)


def run_at_prompt(shell: Any) -> None:
    """Let the loop run while the prompt of a terminal's IPython waits, as ``%gui asyncio`` does.

    A kernel's loop runs anyway. A prompt that has another event loop, or is a simple one, is left
    as it is; see `prompt_note`.
    """
    if _is_terminal(shell) and not shell.simple_prompt and shell.active_eventloop is None:
        shell.enable_gui("asyncio")


def prompt_note(shell: Any) -> tuple[str, ...]:
    """Say where the loop does not run while the prompt waits."""
    if not _is_terminal(shell) or shell.active_eventloop == "asyncio":
        return ()
    return ("While this prompt waits no loop runs: messages are taken while a cell runs.",)


def _is_terminal(shell: Any) -> bool:
    return getattr(shell, "kernel", None) is None and hasattr(shell, "simple_prompt")


def wait(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` on the notebook's loop and return its result, from code that cannot await.

    In a cell, the interrupt button cancels `work` and nothing else.

    Raises:
        KeyboardInterrupt: interrupted by the user.
    """
    __tracebackhide__ = True  # an interrupt is of the cell, not of what it waited in
    loop = notebook_loop()
    if can_suspend():
        return suspend(work)
    if _home is not None and threading.get_ident() != _home.thread:
        return _wait_in_thread(work, _home)
    task = loop.create_task(work)
    with _interrupt_cancels(task, loop) as interrupted:
        try:
            return loop.run_until_complete(task)
        except asyncio.CancelledError:
            if interrupted.is_set():
                raise _interruption() from None
            raise


def _interruption() -> KeyboardInterrupt:
    """Return an interrupt that IPython shows with the user's own lines only."""
    error = KeyboardInterrupt("what this cell waited for was given up")
    show_short(error, str(error))
    return error


def _wait_in_thread(work: Coroutine[Any, Any, T], home: _Home) -> T:
    """Run `work` on the loop of another thread, unless that thread waits for this one.

    Raises:
        LoopBlocked: the loop stands still, because the cell that runs waits for threads.
    """
    future = asyncio.run_coroutine_threadsafe(work, home.loop)
    stood = 0.0  # seconds that the loop has not run
    while True:
        alive = threading.Event()
        home.loop.call_soon_threadsafe(alive.set)
        try:
            return future.result(LOOK_EVERY)
        except TimeoutError:
            if future.done():  # meanwhile, or it is the work's own
                return future.result()
        stood = 0.0 if alive.is_set() or not _waits_for_threads(home) else stood + LOOK_EVERY
        if stood >= STANDS_STILL_AFTER:
            future.cancel()
            raise LoopBlocked(
                "This thread waits for the notebook, and the running cell waits for threads: call"
                " from the cell with %fabric_call -a and %fabric_result, or write"
                " `await asyncio.to_thread(...)` around what waits."
            )


def _waits_for_threads(home: _Home) -> bool:
    """Return whether the thread in which cells run waits for others, without a limit.

    Executors, queues and events all wait in `threading`.
    """
    frame = sys._current_frames().get(home.thread)  # noqa: SLF001 - documented, with this name
    if frame is None or frame.f_globals.get("__name__") != "threading":
        return False
    return frame.f_locals.get("timeout") in (None, -1)


@contextmanager
def _interrupt_cancels(
    task: asyncio.Task[Any], loop: asyncio.AbstractEventLoop
) -> Iterator[threading.Event]:
    """While this lasts, SIGINT cancels `task` instead of hitting whatever runs at the moment."""
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted  # signals are the main thread's
        return

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        if interrupted.is_set():  # it does not end by being cancelled: the hard way
            raise KeyboardInterrupt
        interrupted.set()
        loop.call_soon_threadsafe(task.cancel)

    previous = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, previous)


def finish(work: Coroutine[Any, Any, object], loop: asyncio.AbstractEventLoop) -> None:
    """Run `work` when the process leaves and the loop has stopped, within two seconds.

    ``run_until_complete`` may find that somebody stops the loop under it, so the loop is run
    until the work is done.
    """
    if loop.is_closed():
        work.close()
        return
    task = loop.create_task(work)
    task.add_done_callback(lambda _: loop.stop())
    deadline = loop.time() + LEAVE_TIMEOUT
    loop.call_later(LEAVE_TIMEOUT, loop.stop)
    while not task.done() and loop.time() < deadline:
        loop.run_forever()
    if not task.done():
        task.cancel()
    elif not task.cancelled():
        task.exception()
