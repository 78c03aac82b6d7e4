"""``fabric-nb bench``: measures a method."""

from __future__ import annotations

import argparse
import asyncio
import sys

from fabric_nb.cli.connecting import assignments
from fabric_nb.cli.output import print_json, print_text
from fabric_nb.fabric.connector import AmqBrokerConnector
from fabric_nb.fabric.rpc.bench import Benchmark
from fabric_nb.fabric.rpc.bench_options import BenchOptions
from fabric_nb.fabric.rpc.bench_result import BenchResult
from fabric_nb.fabric.wire.names import parse_call
from fabric_nb.notebook.options import read_options
from fabric_nb.notebook.terminal_line import PERIOD, TerminalLine, bench_text


async def measure_method(fabric: AmqBrokerConnector, options: argparse.Namespace) -> int:
    """Measure a method and print the result; the exit code is 1 if a call failed, or none ended.

    Raises:
        CancelledError: the user has interrupted it; the result so far is printed.
    """
    pattern, method = parse_call(options.call, domain=fabric.domain)
    kwargs, bench_options = assignments(options.keywords), read_options(BenchOptions, options)
    benchmarks = fabric.member.benchmarks
    benchmark = benchmarks.create(pattern, method, kwargs, bench_options)
    line = TerminalLine(sys.stderr)
    drawing = asyncio.create_task(_draw(line, benchmark))
    try:
        await benchmarks.run(benchmark)
    finally:
        drawing.cancel()
        line.clear()
        if benchmark.begun:
            _print(benchmark.result, as_json=options.json)
    return 1 if benchmark.result.errors or not benchmark.result.calls else 0


async def _draw(line: TerminalLine, benchmark: Benchmark) -> None:
    while not (line.closed or await benchmark.ended(PERIOD)):
        line.draw(bench_text(benchmark.totals))


def _print(result: BenchResult, *, as_json: bool) -> None:
    if as_json:
        print_json(result.as_json())
    else:
        print_text(repr(result))
