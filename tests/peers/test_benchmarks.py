"""Short run of `python -m benchmarks`, without judging the speed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.peers import native

SMALL = ["--rounds=1", "--seconds=0.05", "--messages=20", "--batches=1", "--rows=1000"]


def results_of(*options: str, folder: Path) -> dict[str, Any]:
    """Run benchmarks, and return their results; each measured target is in the report."""
    found = folder / "found.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *SMALL, f"--json={found}", *options],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results: dict[str, Any] = json.loads(found.read_text(encoding="utf-8"))
    results["targets"] = [one for one in results["targets"] if one["measured"] is not None]
    for target in results["targets"]:
        assert target["name"] in done.stdout
    return results


def test_each_suite_is_measured_against_its_peers(rabbitmq_uri: str, tmp_path: Path) -> None:
    """Each suite runs with its peers, and each target has a figure and a verdict."""
    results = results_of(f"--uri={rabbitmq_uri}", "--only=calls,streams,frames", folder=tmp_path)
    for suite in ("calls", "streams"):
        kinds = {one["kind"] for one in results[suite]}
        assert {"fabric_nb", "aiormq", "amqp_fabric"} <= kinds
        assert ("amqp091-go" in kinds) == (native.build("amqp091-go") is not None)
        assert all(one["rate"]["median"] > 0 for one in results[suite])
    assert results["frames"]
    assert len(results["targets"]) >= 20
    assert all(target["measured"]["median"] > 0 for target in results["targets"])


def test_starts_are_measured_beside_amqp_fabric(tmp_path: Path) -> None:
    """Programs and commands are measured from their start to their end, with their memory."""
    results = results_of("--only=start", folder=tmp_path)
    runs = {(one["load"], one["kind"]): one for one in results["start"]}
    for load in ("import", "service", "call"):
        assert {(load, "fabric_nb"), (load, "amqp-fabric")} <= runs.keys()
    assert all(one["seconds"] > 0 and one["megabytes"] > 1 for one in runs.values())
    assert len(results["targets"]) >= 12
