"""Handling of signals that end a program, on every operating system."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable


def on_signals(callback: Callable[[], object], *numbers: signal.Signals) -> None:
    """Call `callback` on the running loop when one of these signals arrives.

    Must be called from the main thread. Event loops on Windows do not handle signals; there a
    handler of `signal` wakes the loop. Windows delivers only SIGINT, by Ctrl-C.

    Example::

        stopping = asyncio.Event()
        on_signals(stopping.set, signal.SIGTERM, signal.SIGINT)
        await stopping.wait()
    """
    loop = asyncio.get_running_loop()
    for number in numbers:
        try:
            loop.add_signal_handler(number, callback)
        except NotImplementedError:
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(callback))
