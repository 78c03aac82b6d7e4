"""The tests that use RabbitMQ, on several versions of it.

    python -m tests.broker_versions [VERSION ...]

Runs them on the installed RabbitMQ and on those of other Debian releases, which are unpacked
beside it, and prints a table.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.support import debian
from tests.support.rabbitmq_supervisor import DENY_TRANSIENT_QUEUES
from tests.support.results import Results, table

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "build" / "results"
TESTS = (
    *("broker", "cli", "contract", "demo", "faults", "notebook", "peers"),
    "unit/test_support.py",
)


@dataclass(frozen=True)
class Version:
    """A RabbitMQ to test on.

    Attributes:
        release: Debian release whose package is unpacked; empty for the installed RabbitMQ.
        settings: lines of rabbitmq.conf.
    """

    release: str = ""
    settings: str = ""

    def environment(self) -> dict[str, str]:
        """Return the variables with which the tests start this RabbitMQ."""
        environment = {**os.environ, "RABBITMQ_TEST_SETTINGS": self.settings}
        if self.release:
            root = debian.unpack(self.release, ["rabbitmq-server"])
            (home,) = root.glob("usr/lib/rabbitmq/lib/rabbitmq_server-*")
            environment["RABBITMQ_HOME"] = str(home)
        return environment


VERSIONS = {
    "installed": Version(),
    "4.0": Version("trixie"),
    "4.3": Version("sid"),
    # Debian's package permits what RabbitMQ 4.3 refuses by default.
    "4.3-upstream": Version("sid", DENY_TRANSIENT_QUEUES),
}


def run(name: str, version: Version, workers: int) -> Results:
    """Run the tests on a version, and return the results."""
    file = RESULTS / f"rabbitmq-{name}.json"
    file.unlink(missing_ok=True)
    tests = [f"tests/{part}" for part in TESTS]
    options = ["-n", str(workers), "--broker", "rabbitmq", "--results", str(file)]
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *options, *tests],
        cwd=ROOT,
        env=version.environment(),
        check=False,
    )
    return Results.read(file)


def main() -> None:
    """Run the tests on the versions of the command line, all by default."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("versions", nargs="*", choices=VERSIONS, default=list(VERSIONS))
    parser.add_argument("--workers", type=int, default=4, help="processes (%(default)s)")
    options = parser.parse_args()
    runs = [(name, run(name, VERSIONS[name], options.workers)) for name in options.versions]
    print(table(runs))
    sys.exit(any(results.failed for _, results in runs))


if __name__ == "__main__":
    main()
