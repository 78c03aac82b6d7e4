"""The tour on the demo's broker and services."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.peers import needs_amqp_fabric

ROOT = Path(__file__).parents[2]


def run_tour(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name != "AMQP_URL"}
    return subprocess.run(
        [sys.executable, "-m", "tests.docs.tour", *options],
        cwd=ROOT,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def test_the_tour_runs_with_nothing_installed(tmp_path: Path) -> None:
    """Every step of the tour has the expected output on the embedded broker."""
    page = tmp_path / "tour.html"
    result = run_tour("--page", str(page), FABRIC_NB_RUNTIME_DIR=str(tmp_path))
    assert result.returncode == 0, result.stdout + result.stderr
    steps = [line for line in result.stdout.splitlines() if line.startswith("  ok")]
    assert len(steps) >= 20
    html = page.read_text(encoding="utf-8")
    for text in ("the tour was here", "RemoteError: demo.math.calc.divide", "cpu_percent"):
        assert text in html


@needs_amqp_fabric
def test_the_tour_runs_on_rabbitmq(rabbitmq_uri: str, tmp_path: Path) -> None:
    """The tour runs on the RabbitMQ of AMQP_URL, and never shows its password."""
    page = tmp_path / "tour.html"
    result = run_tour("--page", str(page), AMQP_URL=rabbitmq_uri)
    assert result.returncode == 0, result.stdout + result.stderr
    password = rabbitmq_uri.split(":")[2].split("@")[0]
    assert f":{password}@" not in result.stdout + page.read_text(encoding="utf-8")


def test_a_step_with_unexpected_output_fails(tmp_path: Path) -> None:
    """A step with other than the expected output is reported, and the exit code is 1."""
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
    result = run_tour(
        "--notebook", str(wrong), "--page", str(tmp_path / "page.html"),
        FABRIC_NB_RUNTIME_DIR=str(tmp_path),
    )  # fmt: skip
    assert result.returncode == 1
    assert "FAIL  call" in result.stdout
    assert "35" in result.stderr


def test_an_unreachable_broker_is_reported(tmp_path: Path) -> None:
    """If the broker of AMQP_URL is unreachable, the error names it and the exit code is 1."""
    result = run_tour(AMQP_URL="amqp://guest:secret@127.0.0.1:1/")
    assert result.returncode == 1
    assert "127.0.0.1:1" in result.stderr
    assert "secret" not in result.stdout + result.stderr


@pytest.mark.parametrize("module", [pytest.param("calc", marks=needs_amqp_fabric), "monitor"])
def test_services_end_on_sigterm(module: str, rabbitmq_uri: str) -> None:
    """A demo service reports when it is ready, and exits on SIGTERM with code 0."""
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
