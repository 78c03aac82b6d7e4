"""`python -m benchmarks`: all suites, or selected ones, on a private RabbitMQ."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import calls, frames, machine, report, start, streams
from benchmarks.harness import WorkerFailed
from benchmarks.targets import Results, judge
from tests.support.rabbitmq import RabbitMq, RabbitMqError

SUITES = ("calls", "streams", "frames", "start")
RESULTS = Path("build/bench")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of measurements")
    parser.add_argument(
        "--seconds", type=float, default=1.0, help="duration of each measurement of calls"
    )
    parser.add_argument(
        "--messages", type=int, default=20_000, help="messages per measurement of a stream"
    )
    parser.add_argument(
        "--batches", type=int, default=500, help="batches of a thousand rows per measurement"
    )
    parser.add_argument("--rows", type=int, default=1_000_000, help="maximum rows of a frame")
    parser.add_argument("--only", default=",".join(SUITES), help="suites, separated by commas")
    parser.add_argument("--uri", help="a running broker; otherwise a private RabbitMQ is started")
    parser.add_argument("--json", type=Path, help=f"instead of a dated file in {RESULTS}/")
    options = parser.parse_args()
    options.only = options.only.split(",")
    if unknown := set(options.only) - set(SUITES):
        parser.error(f"there is no suite {', '.join(sorted(unknown))}; there are {SUITES}")
    return options


def progress(line: str) -> None:
    """Print a line of progress to standard error."""
    print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def broker(uri: str | None) -> Iterator[str]:
    """Yield the URI of the given broker, or of a private one."""
    if uri is not None:
        yield uri
        return
    with RabbitMq.start() as rabbitmq:
        yield rabbitmq.uri


async def measure_on_broker(uri: str, options: argparse.Namespace, results: Results) -> str:
    """Run the suites that need a broker, and return its product and version."""
    if "calls" in options.only:
        results.calls = await calls.measure(
            uri, count=options.rounds, seconds=options.seconds, progress=progress
        )
        results.cancelling = await calls.measure_cancelling(
            uri, count=options.rounds, progress=progress
        )
    if "streams" in options.only:
        results.streams = await streams.measure(
            uri,
            count=options.rounds,
            messages=options.messages,
            batches=options.batches,
            progress=progress,
        )
    return await machine.broker(uri)


def measure_frames(options: argparse.Namespace) -> dict[str, Any]:
    """Run the suite of frames in a separate process, with nothing else in memory."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frames.json"
        command = [sys.executable, "-m", frames.__name__, f"--rows={options.rows}"]
        subprocess.run([*command, f"--json={path}"], check=True)
        print(flush=True)
        figures: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return figures


def main() -> None:
    options = parse_arguments()
    about = machine.facts() | {"rounds": options.rounds}
    results = Results()
    if {"calls", "streams"} & set(options.only):
        with broker(options.uri) as uri:
            about["broker"] = asyncio.run(measure_on_broker(uri, options, results))
    if "frames" in options.only:
        progress("frames")
        results.frames = measure_frames(options)
    if "start" in options.only:
        results.start = asyncio.run(start.measure(count=options.rounds, progress=progress))
    about["load_after"] = machine.load()

    verdicts = judge(results)
    print(report.tables(about, results, verdicts))
    path = options.json or RESULTS / f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%S}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    written = json.dumps(report.as_json(about, results, verdicts), indent=2)
    path.write_text(written + "\n", encoding="utf-8")
    print(f"\nWritten to {path}")


if __name__ == "__main__":
    try:
        main()
    except (RabbitMqError, WorkerFailed) as error:
        sys.exit(str(error))
