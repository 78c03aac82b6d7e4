"""Benchmarks in cells: their live figures, and their results at an interrupt."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fabric_nb.fabric.member import FabricMember
from fabric_nb.fabric.rpc.bench import Benchmark
from fabric_nb.fabric.rpc.bench_result import BenchResult
from fabric_nb.notebook.bridge import runs_in_cell
from fabric_nb.notebook.capture import in_terminal
from fabric_nb.notebook.terminal_line import PERIOD, TerminalLine, bench_text
from fabric_nb.notebook.views.bench import live_page
from fabric_nb.notebook.views.live import Transient


class CellBenchmarks:
    """Benchmarks of a notebook.

    A benchmark of a cell, whether by magic or in Python, shows its figures under the cell until it
    ends; then its result is the value of the cell. Those of served functions show none.

    Args:
        bar_after: returns a negative number if progress is not to be shown.
    """

    def __init__(self, bar_after: Callable[[], float]) -> None:
        self._bar_after = bar_after
        self._lines: list[TerminalLine] = []

    def watch(self, member: FabricMember) -> None:
        """Show the benchmarks of a member."""
        member.benchmarks.around = self._shown

    async def run(self, member: FabricMember, benchmark: Benchmark) -> BenchResult:
        """Run a benchmark; if the cell is interrupted, return the result so far."""
        try:
            return await member.benchmarks.run(benchmark)
        except asyncio.CancelledError:
            if not benchmark.begun:
                raise
            return benchmark.result

    def cell_ended(self) -> None:
        """Draw no more lines in a terminal, because its prompt appears."""
        while self._lines:
            self._lines.pop().close()

    @asynccontextmanager
    async def _shown(self, benchmark: Benchmark) -> AsyncIterator[None]:
        if not runs_in_cell() or self._bar_after() < 0:
            yield
            return
        show = self._draw if in_terminal() else self._update_page
        showing = asyncio.create_task(show(benchmark), name="figures of a benchmark")
        try:
            yield
        finally:  # before the cell ends, because a headless run records nothing later
            showing.cancel()
            await asyncio.wait([showing])

    async def _update_page(self, benchmark: Benchmark) -> None:
        await benchmark.ended(PERIOD)
        page = Transient(live_page(benchmark.totals))
        try:
            while not await benchmark.ended(PERIOD):
                page.update(live_page(benchmark.totals))
        finally:
            page.remove()

    async def _draw(self, benchmark: Benchmark) -> None:
        line = TerminalLine(sys.stderr)
        self._lines.append(line)
        try:
            while not (line.closed or await benchmark.ended(PERIOD)):
                line.draw(bench_text(benchmark.totals))
        finally:
            if not line.closed:
                line.clear()
                self._lines.remove(line)
