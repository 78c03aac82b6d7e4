"""Run the tests repeatedly on a busy machine, each time in another order.

    make test-repeatedly TIMES=20
    python -m tests.repeatedly --times 20 tests/faults tests/contract

Two processes compute beside the tests. The program prints each test that failed, with the number of
failures and the seeds of the orders; `pytest --random-order-seed=SEED` runs one again. It exits
with an error if any failed.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

RESULTS = Path(__file__).parents[1] / "build" / "repeatedly"
COMPUTE = "while True: pass"


@contextmanager
def load(processes: int) -> Iterator[None]:
    """Let processes compute meanwhile."""
    running = [subprocess.Popen([sys.executable, "-c", COMPUTE]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def run(seed: int, workers: int, tests: Sequence[str]) -> set[str]:
    """Run the tests in the order of a seed, and return the names of those that failed."""
    results, log = RESULTS / f"{seed}.xml", RESULTS / f"{seed}.log"
    results.unlink(missing_ok=True)
    order = ("--random-order-bucket=module", f"--random-order-seed={seed}")
    command = (sys.executable, "-m", "pytest", "-n", str(workers), *order, f"--junitxml={results}")
    with log.open("wb") as output:
        code = subprocess.run([*command, *tests], stdout=output, stderr=output, check=False)
    if not results.exists():
        return {f"pytest ended with {code.returncode}, see {log}"}
    cases = ElementTree.parse(results).iter("testcase")
    return {
        f"{case.get('classname')}::{case.get('name')}"
        for case in cases
        if case.find("failure") is not None or case.find("error") is not None
    }


def main() -> int:
    """Run the tests as often as the command line says, and return the exit code."""
    parser = argparse.ArgumentParser(description="Find tests that fail by chance.")
    parser.add_argument("--times", type=int, default=20, help="number of runs (20)")
    parser.add_argument("--workers", type=int, default=4, help="processes of each run (4)")
    parser.add_argument("--load", type=int, default=2, help="processes that compute beside (2)")
    parser.add_argument("--seed", type=int, help="seed of the first run; random by default")
    parser.add_argument("tests", nargs="*", help="files or folders; all tests by default")
    options = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    first = random.randrange(1_000_000) if options.seed is None else options.seed
    failed: dict[str, list[int]] = defaultdict(list)
    with load(options.load):
        for seed in range(first, first + options.times):
            began = time.monotonic()
            names = run(seed, options.workers, options.tests)
            print(
                f"seed {seed}: {len(names)} failed in {time.monotonic() - began:.0f} s", flush=True
            )
            for name in names:
                failed[name].append(seed)
    for name, seeds in sorted(failed.items()):
        print(f"{len(seeds)} of {options.times}  {name}  (seeds {', '.join(map(str, seeds))})")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
