"""Portability: no use of POSIX features without a guard for Windows."""

from __future__ import annotations

import ast
import asyncio
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import fabric_nb
from fabric_nb.fabric.core.signals import on_signals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

POSIX_MODULES = {"fcntl", "grp", "pty", "pwd", "resource", "select", "termios", "tty"}
"""Modules that Windows lacks; its `select` only supports sockets."""
POSIX_NAMES = {
    *("add_reader", "add_signal_handler", "add_writer", "sigwait", "pthread_kill"),
    *("SIGALRM", "SIGHUP", "SIGKILL", "SIGQUIT", "SIGUSR1", "SIGUSR2", "setitimer"),
    *("fork", "forkpty", "register_at_fork", "getuid", "geteuid", "getgid", "getpgid", "killpg"),
    *("setsid", "fchmod", "fchown", "chown", "mkfifo", "O_NOFOLLOW", "O_DIRECTORY", "getrusage"),
    *(
        "signal.pause",
        "signal.alarm",
        "AF_UNIX",
        "TCP_USER_TIMEOUT",
        "sched_getaffinity",
        "uname",
        "tzset",
    ),
}
ROOT = Path(fabric_nb.__file__).parent


def is_guard(node: ast.AST) -> bool:
    """Return whether a statement checks for a feature, or handles its absence."""
    if isinstance(node, ast.If | ast.IfExp | ast.BoolOp):
        test = ast.unparse(node if isinstance(node, ast.BoolOp) else node.test)
        return "hasattr(" in test or "sys.platform" in test
    return isinstance(node, ast.Try) and any(
        "NotImplementedError" in ast.unparse(handler.type)
        for handler in node.handlers
        if handler.type is not None
    )


def posix_only(node: ast.AST) -> Iterator[str]:
    """Yield the POSIX features in a tree that are used without a guard."""
    if is_guard(node):
        return
    if isinstance(node, ast.Import):
        yield from POSIX_MODULES & {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
        yield from POSIX_MODULES & {str(node.module)}
        yield from POSIX_NAMES & {alias.name for alias in node.names}
    elif isinstance(node, ast.Attribute):
        yield from POSIX_NAMES & {node.attr, ast.unparse(node)}
    for child in ast.iter_child_nodes(node):
        yield from posix_only(child)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import fcntl", ["fcntl"]),
        ("from select import select", ["select"]),
        ("loop.add_signal_handler(15, stop)", ["add_signal_handler"]),
        ("signal.pause()", ["signal.pause"]),
        ("if sys.platform != 'win32':\n    import fcntl", []),
        ("x = os.getuid() if hasattr(os, 'getuid') else 0", []),
        ("hasattr(os, 'getuid') and os.getuid() == 0", []),
        ("try:\n    loop.add_signal_handler(15, f)\nexcept NotImplementedError:\n    pass", []),
        (
            "try:\n    loop.add_signal_handler(15, f)\nexcept OSError:\n    pass",
            ["add_signal_handler"],
        ),
    ],
)
def test_unguarded_features_are_found(source: str, found: list[str]) -> None:
    """The search finds exactly the unguarded features."""
    assert list(posix_only(ast.parse(source))) == found


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: path.name)
def test_posix_features_are_guarded(path: Path) -> None:
    """Every use of a POSIX feature is guarded."""
    assert list(posix_only(ast.parse(path.read_text(encoding="utf-8")))) == []


class WithoutSignals(asyncio.SelectorEventLoop):
    """Event loop that refuses signal handlers, like those of Windows."""

    add_signal_handler = asyncio.AbstractEventLoop.add_signal_handler


@pytest.mark.parametrize("make_loop", [asyncio.SelectorEventLoop, WithoutSignals])
def test_signal_sets_the_event(make_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """A signal sets the event, whether or not the loop can handle signals."""

    async def wait() -> None:
        stopping = asyncio.Event()
        on_signals(stopping.set, signal.SIGTERM, signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(60):
            await stopping.wait()

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with asyncio.Runner(loop_factory=make_loop) as runner:
            runner.run(wait())
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
