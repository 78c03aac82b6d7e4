"""Results of test runs as files, and a table of several.

    pytest --results build/results/python-3.15.json
    python -m tests.support.results build/results/*.json

The first command writes what was run: the interpreter, RabbitMQ, packages, the date, and the
numbers of tests. The second prints the tables of docs/reference/versions.md.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from tests.support.rabbitmq_supervisor import rabbitmq_version, transient_queues_denied


@dataclass(frozen=True)
class Results:
    """Results of one run.

    Attributes:
        python: version of the interpreter.
        rabbitmq: version of RabbitMQ, and what it refuses.
        packages: versions of the packages that fabric_nb depends on, by name.
        date: day on which it ended.
        passed: number of tests.
        failed: number of tests, with errors of fixtures.
        skipped: number of tests, by reason.
    """

    python: str
    rabbitmq: str
    packages: dict[str, str]
    date: str
    passed: int
    failed: int
    skipped: dict[str, int]

    @classmethod
    def of(cls, stats: Mapping[str, Sequence[Any]]) -> Results:
        """Return the results of the run that ends, from the reports of pytest's terminal."""
        return cls(
            python=platform.python_version(),
            rabbitmq=_rabbitmq(),
            packages=_packages(),
            date=time.strftime("%Y-%m-%d"),
            passed=len(stats.get("passed", ())),
            failed=len(stats.get("failed", ())) + len(stats.get("error", ())),
            skipped=dict(Counter(map(_reason, stats.get("skipped", ())))),
        )

    def write(self, file: Path) -> None:
        """Write a file, which `read` reads."""
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(asdict(self), indent=1, sort_keys=True))

    @classmethod
    def read(cls, file: Path) -> Results:
        """Return the results in a file."""
        return cls(**json.loads(file.read_text()))


def _rabbitmq() -> str:
    version = ".".join(map(str, rabbitmq_version()))
    return f"{version}, transient queues refused" if transient_queues_denied() else version


def _packages() -> dict[str, str]:
    """Return the versions of the packages that fabric_nb requires, also for its demo."""
    versions = {}
    for requirement in metadata.requires("fabric-nb") or ():
        name, _, condition = requirement.partition(";")
        if "extra" not in condition or "'demo'" in condition or '"demo"' in condition:
            package = re.split(r"[^\w.-]", name.strip())[0]
            versions[package] = metadata.version(package)
    return versions


def _reason(report: Any) -> str:
    return str(report.longrepr[2]).removeprefix("Skipped: ")


def table(runs: Sequence[tuple[str, Results]]) -> str:
    """Return a Markdown table of runs with their names, and the reasons of skipped tests."""
    rows = [
        "| Run | Python | RabbitMQ | date | passed | skipped | failed |",
        "| --- | --- | --- | --- | ---: | ---: | ---: |",
    ]
    for name, run in runs:
        cells = (name, run.python, run.rabbitmq, run.date, f"{run.passed:,}")
        rows.append(f"| {' | '.join(cells)} | {sum(run.skipped.values())} | {run.failed} |")
    reasons = {reason: None for _, run in runs for reason in sorted(run.skipped)}
    if reasons:
        rows += ["", f"| Reason | {' | '.join(name for name, _ in runs)} |"]
        rows.append(f"| --- |{' ---: |' * len(runs)}")
        for reason in reasons:
            numbers = (str(run.skipped.get(reason, "")) for _, run in runs)
            rows.append(f"| {reason} | {' | '.join(numbers)} |")
    return "\n".join(rows)


def package_table(runs: Sequence[tuple[str, Results]]) -> str:
    """Return a Markdown table of the versions of packages in runs."""
    names = sorted({name for _, run in runs for name in run.packages})
    return "\n".join(
        (
            f"| Package | {' | '.join(name for name, _ in runs)} |",
            f"| --- |{' --- |' * len(runs)}",
            *(
                f"| {name} | {' | '.join(run.packages.get(name, '') for _, run in runs)} |"
                for name in names
            ),
        )
    )


def main() -> None:
    """Print the tables of the files of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs="+", type=Path)
    options = parser.parse_args()
    runs = [(file.stem, Results.read(file)) for file in options.files]
    print(table(runs), package_table(runs), sep="\n\n")


if __name__ == "__main__":
    main()
