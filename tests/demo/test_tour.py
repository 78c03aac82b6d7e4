"""The tour, as `make demo` runs it, and the demo's services."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run_tour(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name != "AMQP_URL"}
    return subprocess.run(
        [sys.executable, "-m", "tests.docs.tour", *options],
        cwd=ROOT,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def test_the_tour_runs_with_nothing_installed(tmp_path: Path) -> None:
    """The tour's every step shows what it should, on the embedded broker."""
    page = tmp_path / "tour.html"
    done = run_tour("--page", str(page), FABRIC_NB_RUNTIME_DIR=str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    steps = [line for line in done.stdout.splitlines() if line.startswith("  ok")]
    assert len(steps) >= 20
    html = page.read_text(encoding="utf-8")
    for shown in ("the tour was here", "RemoteError: demo.math.calc.divide", "cpu_percent"):
        assert shown in html


def test_the_tour_runs_on_rabbitmq(rabbitmq_uri: str, tmp_path: Path) -> None:
    """The same tour runs on RabbitMQ, when AMQP_URL names one, and never shows its password."""
    page = tmp_path / "tour.html"
    done = run_tour("--page", str(page), AMQP_URL=rabbitmq_uri)
    assert done.returncode == 0, done.stdout + done.stderr
    password = rabbitmq_uri.split(":")[2].split("@")[0]
    assert f":{password}@" not in done.stdout + page.read_text(encoding="utf-8")


def test_a_step_that_shows_something_else_fails_the_demo(tmp_path: Path) -> None:
    """A tour whose output is not what its steps expect ends with exit code 1 and says which."""
    tour = json.loads((ROOT / "notebooks" / "01_tour.ipynb").read_text(encoding="utf-8"))
    step = next(
        cell
        for cell in tour["cells"]
        if cell["metadata"].get("fabric_nb", {}).get("step") == "call"
    )
    step["metadata"]["fabric_nb"]["expect"] = "^36$"
    tour["cells"] = tour["cells"][: tour["cells"].index(step) + 1]
    wrong = tmp_path / "wrong.ipynb"
    wrong.write_text(json.dumps(tour), encoding="utf-8")
    done = run_tour(
        "--notebook", str(wrong), "--page", str(tmp_path / "page.html"),
        FABRIC_NB_RUNTIME_DIR=str(tmp_path),
    )  # fmt: skip
    assert done.returncode == 1
    assert "FAIL  call" in done.stdout
    assert "35" in done.stderr


def test_a_broker_that_is_away_is_said(tmp_path: Path) -> None:
    """Without the broker that AMQP_URL names, the demo says so in words and exits with 1."""
    done = run_tour(AMQP_URL="amqp://guest:secret@127.0.0.1:1/")
    assert done.returncode == 1
    assert "127.0.0.1:1" in done.stderr
    assert "secret" not in done.stdout + done.stderr


@pytest.mark.parametrize("module", ["calc", "monitor"])
def test_services_end_on_sigterm(module: str, rabbitmq_uri: str) -> None:
    """A demo service says when it is ready, and ends on SIGTERM with exit code 0."""
    with subprocess.Popen(
        [sys.executable, "-m", f"fabric_nb.demo.{module}"],
        env={**os.environ, "AMQP_URL": rabbitmq_uri, "SERVICE_DOMAIN": "demo"},
        stdout=subprocess.PIPE,
        text=True,
    ) as service:
        assert service.stdout is not None
        assert service.stdout.readline() == "ready\n"
        service.terminate()
        assert service.wait(10) == 0
