"""``fabric-nb top`` in a pseudo-terminal, as over ssh."""

from __future__ import annotations

import asyncio
import math
import os
import pty
import re
import signal
import termios
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from fabric_nb import AmqBrokerConnector
from fabric_nb.cli.top import Line, sorted_lines
from fabric_nb.fabric.discovery.registry import ServiceRow
from tests.cli.test_commands import DOMAIN, command, run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytest.importorskip("rich")

FRAME = r"(?:(?!q quit)[\s\S])*"
"""Anything within one frame, whose last line ends with ``q quit``."""
ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[()][0-9A-B]|[=>78])")


class Screen:
    """A program in a pseudo-terminal, and what it has drawn since it was last looked at."""

    def __init__(self, master: int, process: asyncio.subprocess.Process) -> None:
        self.master = master
        self.process = process
        self.drawn = ""
        self._changed = asyncio.Event()
        asyncio.get_running_loop().add_reader(master, self._read)

    def _read(self) -> None:
        try:
            self.drawn += os.read(self.master, 65536).decode(errors="replace")
        except OSError:  # the program has ended
            asyncio.get_running_loop().remove_reader(self.master)
        self._changed.set()

    async def until(self, pattern: str) -> str:
        """Wait until a pattern is drawn, and return the text up to its end."""
        async with asyncio.timeout(60):
            while not (match := re.search(pattern, ESCAPES.sub("", self.drawn))):
                self._changed.clear()
                await self._changed.wait()
        return ESCAPES.sub("", self.drawn)[: match.end()]

    def press(self, key: str) -> None:
        """Press a key; what was drawn before it is forgotten."""
        self.drawn = ""
        os.write(self.master, key.encode())


@asynccontextmanager
async def top(uri: str, *options: str, size: tuple[int, int] = (24, 80)) -> AsyncIterator[Screen]:
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, size)
    line, environment = command(uri, "top", *options)
    environment = {**environment, "TERM": "xterm-256color"}
    for name in ("COLUMNS", "LINES", "NO_COLOR"):
        environment.pop(name, None)
    process = await asyncio.create_subprocess_exec(
        *line, env=environment, stdin=slave, stdout=slave, stderr=slave
    )
    screen = Screen(master, process)
    try:
        yield screen
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        asyncio.get_running_loop().remove_reader(master)
        os.close(slave)
        os.close(master)


async def test_top(broker_uri: str) -> None:
    """It shows the services in 80 columns with their rates, sorts by keys, and leaves with `q`."""
    async with AmqBrokerConnector(
        broker_uri, DOMAIN, "shop", "caller", keep_alive_seconds=0.25
    ) as fabric:
        calling = asyncio.Event()

        def fail() -> None:
            raise ValueError

        await fabric.serve({"work": calling.set}, id="busy")
        await fabric.serve({"fail": fail}, id="broken")

        async def call() -> None:
            while True:
                for _ in range(5):
                    await fabric.call(f"{DOMAIN}.shop.busy.work")
                await asyncio.gather(
                    fabric.call(f"{DOMAIN}.shop.broken.fail"), return_exceptions=True
                )
                await asyncio.sleep(0.01)

        calls = asyncio.create_task(call())
        try:
            async with top(broker_uri) as screen:
                busy = r"shop\.busy +1 +up +(?!0\.0 )[\d,.]+ +0\.0 "
                # In each order, once there are rates.
                await screen.until(rf"calls/s ▼{FRAME}{busy}{FRAME}shop\.broken{FRAME}q quit")
                screen.press("e")
                await screen.until(rf"err/s ▼{FRAME}shop\.broken{FRAME}shop\.busy{FRAME}q quit")
                screen.press("q")
                assert await asyncio.wait_for(screen.process.wait(), 60) == 0
                assert "\x1b[?1049l" in screen.drawn  # the screen from before is back
        finally:
            calls.cancel()


@pytest.mark.any_broker
async def test_top_without_services(broker_uri: str) -> None:
    """A fabric without services, and a small terminal, are shown as they are; Ctrl-C leaves."""
    async with top(broker_uri, "--domain", "nothing", size=(4, 30)) as screen:
        text = await screen.until(r"fabric-nb top[\s\S]*service +calls/s ▼")
        assert "state" not in text
        screen.process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(screen.process.wait(), 60) in (0, 130)


@pytest.mark.any_broker
async def test_top_needs_a_terminal(broker_uri: str) -> None:
    """In a pipe it says what to write instead."""
    done = await run(broker_uri, "top")
    assert done.code == 1
    assert "services --stats --watch" in done.err
    assert not done.out


def test_order() -> None:
    """Services are sorted by a figure, highest first; those without it stand last, by name."""

    def line(name: str, calls: float | None) -> Line:
        row = ServiceRow("d", "t", name, "", 1, "up", 0.0, "", calls_s=calls, p95_ms=calls)
        return Line(row, ())

    lines = [line("a", None), line("b", 1.0), line("c", 7.5), line("d", 0.0), line("e", math.nan)]
    ordered = [each.row.id for each in sorted_lines(iter(lines[:4]), "calls")]
    assert ordered == ["c", "b", "d", "a"]
    assert [each.row.id for each in sorted_lines(iter(lines[:4]), "name")] == ["a", "b", "c", "d"]
    assert next(each.row.id for each in sorted_lines(iter(lines[:4]), "errors")) == "a"
