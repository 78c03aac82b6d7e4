"""Blocking waits for coroutines on the notebook's event loop, in code that cannot await.

A cell runs inside the event loop that it waits for, so the loop is re-entered. nest-asyncio2 makes
that possible; nest-asyncio 1.6, from which it was forked, loses the next queued cell on ipykernel
7.1 and later. A served function is suspended by its greenlet instead, because nested loops can only
return in reverse order. Other threads simply block.
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

from fabric_nb.errors import LoopBlocked, brief_message, render_briefly
from fabric_nb.fabric.rpc.greenlets import can_suspend, suspend

T = TypeVar("T")

PROBE_PERIOD, DEADLOCK_TIMEOUT = 0.5, 3.0
"""Seconds between two probes of the loop by a waiting thread, and until it raises `LoopBlocked` if
the running cell waits for threads throughout."""

CLOSE_TIMEOUT = 2.0
"""Seconds that closing may take when the kernel exits."""


def broken_nesting() -> str | None:
    """Return a warning if another library has patched asyncio in a way that loses cells."""
    if getattr(asyncio, "_nest_patched", False) and not hasattr(asyncio, "_nest_asyncio2"):
        return (
            "nest_asyncio was applied in this kernel before fabric_nb. With ipykernel 7.1 and"
            " later it loses cells that are queued while a call waits: restart the kernel and load"
            " fabric_nb first, or replace nest_asyncio by nest_asyncio2."
        )
    return None


@dataclass(frozen=True, slots=True)
class _CellContext:
    """Event loop and thread in which cells run."""

    loop: asyncio.AbstractEventLoop
    thread: int


_cell_context: _CellContext | None = None


def notebook_loop() -> asyncio.AbstractEventLoop:
    """Return the event loop on which cells run."""
    if _cell_context is not None and not _cell_context.loop.is_closed():
        return _cell_context.loop
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        from IPython.core.async_helpers import get_asyncio_loop

        loop: asyncio.AbstractEventLoop = get_asyncio_loop()
        return loop


def runs_in_cell() -> bool:
    """Return whether this code runs on the notebook's loop, and not for a served function."""
    from fabric_nb.fabric.rpc.current_call import caller  # it would delay loading the extension

    try:
        return asyncio.get_running_loop() is notebook_loop() and caller() is None
    except RuntimeError:
        return False


def allow_waiting(loop: asyncio.AbstractEventLoop) -> None:
    """Enable `wait` on a loop; called once, in its thread, when the extension is loaded."""
    global _cell_context
    _cell_context = _CellContext(loop, threading.get_ident())
    nest_asyncio2.apply(loop)


def run_at_prompt(shell: Any) -> None:
    """Run the loop while a terminal's prompt waits for input, as ``%gui asyncio`` does.

    A kernel's loop always runs. A prompt with another event loop, and a simple prompt, are not
    changed; see `prompt_note`.
    """
    if _is_terminal(shell) and not shell.simple_prompt and shell.active_eventloop is None:
        shell.enable_gui("asyncio")


def prompt_note(shell: Any) -> tuple[str, ...]:
    """Return a note if the loop does not run while the prompt waits for input."""
    if not _is_terminal(shell) or shell.active_eventloop == "asyncio":
        return ()
    return ("No event loop runs at this prompt: messages are received while a cell runs.",)


def _is_terminal(shell: Any) -> bool:
    return getattr(shell, "kernel", None) is None and hasattr(shell, "simple_prompt")


def wait(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the notebook's loop and return its result, from code that cannot await.

    In a cell, the interrupt button cancels only this coroutine.

    Raises:
        KeyboardInterrupt: the user interrupted the cell.
    """
    __tracebackhide__ = True  # an interrupt is shown at the cell's line
    loop = notebook_loop()
    if can_suspend():
        return suspend(work)
    if _cell_context is not None and threading.get_ident() != _cell_context.thread:
        return _wait_in_thread(work, _cell_context)
    task = loop.create_task(work)
    with _interrupt_cancels(task, loop) as interrupted:
        try:
            return loop.run_until_complete(task)
        except asyncio.CancelledError as error:
            if interrupted.is_set():
                raise _interruption(error) from None
            raise


def _interruption(cancelled: asyncio.CancelledError) -> KeyboardInterrupt:
    """Return an interrupt that IPython shows with the user's own lines only.

    Its message is that of the cancellation, if it has one.
    """
    message = str(cancelled) or "the operation that this cell waited for was cancelled"
    error = KeyboardInterrupt(message)
    render_briefly(error, brief_message(cancelled) or message)
    return error


def _wait_in_thread(work: Coroutine[Any, Any, T], context: _CellContext) -> T:
    """Run a coroutine on the loop of another thread, unless that thread waits for this one.

    Raises:
        LoopBlocked: the loop is blocked, because the running cell waits for threads.
    """
    future = asyncio.run_coroutine_threadsafe(work, context.loop)
    blocked = 0.0  # seconds that the loop has not run
    while True:
        alive = threading.Event()
        context.loop.call_soon_threadsafe(alive.set)
        try:
            return future.result(PROBE_PERIOD)
        except TimeoutError:
            if future.done():  # it has just finished, or raised the error itself
                return future.result()
        waits = not alive.is_set() and _waits_for_threads(context)
        blocked = blocked + PROBE_PERIOD if waits else 0.0
        if blocked >= DEADLOCK_TIMEOUT:
            future.cancel()
            raise LoopBlocked(
                "This thread waits for the notebook, and the running cell waits for threads: call"
                " from the cell with %fabric_call -a and %fabric_result, or write"
                " `await asyncio.to_thread(...)` around what waits."
            )


def _waits_for_threads(context: _CellContext) -> bool:
    """Return whether the thread in which cells run waits for other threads, without a timeout.

    Executors, queues and events all wait in the module `threading`.
    """
    frame = sys._current_frames().get(context.thread)  # noqa: SLF001 - documented, with this name
    if frame is None or frame.f_globals.get("__name__") != "threading":
        return False
    return frame.f_locals.get("timeout") in (None, -1)


@contextmanager
def _interrupt_cancels(
    task: asyncio.Task[Any], loop: asyncio.AbstractEventLoop
) -> Iterator[threading.Event]:
    """Let SIGINT cancel a task instead of interrupting the code that happens to run."""
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted  # only the main thread receives signals
        return

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        if interrupted.is_set():  # a second interrupt, because the task ignores its cancellation
            raise KeyboardInterrupt
        interrupted.set()
        loop.call_soon_threadsafe(task.cancel)

    previous = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, previous)


def finish(work: Coroutine[Any, Any, object], loop: asyncio.AbstractEventLoop) -> None:
    """Run a coroutine while the process exits and the loop is stopped, within two seconds.

    The loop is run repeatedly, because other code may stop it, which `run_until_complete` does not
    tolerate.
    """
    if loop.is_closed():
        work.close()
        return
    task = loop.create_task(work)
    task.add_done_callback(lambda _: loop.stop())
    deadline = loop.time() + CLOSE_TIMEOUT
    loop.call_later(CLOSE_TIMEOUT, loop.stop)
    while not task.done() and loop.time() < deadline:
        loop.run_forever()
    if not task.done():
        task.cancel()
    elif not task.cancelled():
        task.exception()
