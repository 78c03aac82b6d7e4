"""Short run of `python -m benchmarks`, without judging the speed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SMALL = ["--rounds=1", "--seconds=0.05", "--messages=100", "--batches=1", "--rows=10000"]


def test_each_suite_is_measured_against_its_peers(rabbitmq_uri: str, tmp_path: Path) -> None:
    """Each suite runs with its peers, and each target has a figure and a verdict."""
    found = tmp_path / "found.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *SMALL, f"--uri={rabbitmq_uri}", f"--json={found}"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(found.read_text(encoding="utf-8"))
    for suite in ("calls", "streams"):
        kinds = {one["kind"] for one in results[suite]}
        assert {"fabric_nb", "aiormq", "amqp_fabric"} <= kinds
        assert all(one["rate"]["median"] > 0 for one in results[suite])
    assert results["frames"]
    assert len(results["targets"]) >= 20
    for target in results["targets"]:
        assert target["name"] in done.stdout
        assert target["measured"]["median"] > 0
