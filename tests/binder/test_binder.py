"""The Binder: its steps run as Binder runs them, in a clean folder with a clean home."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs import notebooks

ROOT = Path(__file__).parents[2]
STARTS_WITHIN = 60
TOKEN = "of-the-test"


@pytest.fixture
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what Binder has of the repository, in a home of its own."""
    left_out = shutil.ignore_patterns("__pycache__", "node_modules", "lib", "lib-test")
    for folder in ("binder", "notebooks", "fabric_nb", "labextension"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=left_out)
    for file in ("pyproject.toml", "hatch_lab.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, tmp_path)
    for name in ("AMQP_URL", "SERVICE_DOMAIN", "XDG_RUNTIME_DIR", "PYTHONPATH"):
        monkeypatch.delenv(name, raising=False)
    for name in list(os.environ):
        if name.startswith("JUPYTER"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FABRIC_NB_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    return tmp_path


@pytest.fixture
def application() -> str:
    """Binder starts JupyterLab; by default, images of repo2docker start `notebook`."""
    return "lab"


@pytest.fixture
def server(clean: Path, application: str) -> Iterator[str]:
    """Jupyter as `binder/start` starts it; its address."""
    command = [
        "binder/start", "jupyter", application, "--no-browser", "--ip=127.0.0.1", "--port=0",
        f"--IdentityProvider.token={TOKEN}",
        *(["--allow-root"] if os.geteuid() == 0 else []),
    ]  # fmt: skip
    with (
        (clean / "jupyter.log").open("wb") as log,
        subprocess.Popen(
            command, cwd=clean, stdout=log, stderr=log, start_new_session=True
        ) as process,
    ):
        try:
            yield _address(clean, process)
        finally:
            os.killpg(process.pid, signal.SIGTERM)


def _address(home: Path, process: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < deadline and process.poll() is None:
        for file in (home / ".local/share/jupyter/runtime").glob("jpserver-*.json"):
            with contextlib.suppress(OSError, ValueError):  # it is written before all is ready
                told = json.loads(file.read_text())
                socket.create_connection(("127.0.0.1", told["port"])).close()
                return str(told["url"])
        time.sleep(0.1)
    raise AssertionError((home / "jupyter.log").read_text())


def _get(address: str) -> bytes:
    with _open(address) as reply:
        content: bytes = reply.read()
        return content


def _open(address: str) -> http.client.HTTPResponse:
    request = urllib.request.Request(address, headers={"Authorization": f"token {TOKEN}"})
    reply: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=60)
    return reply


def _lands_on_the_tour(server: str) -> bool:
    with _open(server) as reply:
        jupyterlab = b"jupyter-config-data" in reply.read()
        return jupyterlab and reply.url == f"{server}lab/tree/notebooks/01_tour.ipynb"


@pytest.mark.parametrize("application", ["notebook"])
def test_the_tour_opens_where_notebook_is_started(server: str) -> None:
    """Whoever comes without a `urlpath` finds the tour in JupyterLab, also if Notebook runs."""
    assert _lands_on_the_tour(server)


def test_repo2docker_finds_what_is_in_the_folder(clean: Path) -> None:
    """`repo2docker --no-build` makes an image of Python and Node, with our two steps in it."""
    command = [sys.executable, "-m", "repo2docker", "--no-build", "--debug", "."]
    done = subprocess.run(
        command, cwd=clean, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr
    dockerfile = [line.strip() for line in (done.stdout + done.stderr).splitlines()]
    assert "Building conda environment for python=3.12" in dockerfile
    assert "COPY --chown=0:0 src/binder/environment.yml ${REPO_DIR}/binder/environment.yml" in (
        dockerfile
    )
    assert any('--file "binder/environment.yml"' in line for line in dockerfile)
    assert "RUN ./binder/postBuild" in dockerfile
    assert 'ENV R2D_ENTRYPOINT="${REPO_DIR}/binder/start"' in dockerfile


def test_the_tour_runs_where_start_has_started_jupyter(server: str, clean: Path) -> None:
    """Whoever opens the Binder finds the tour in JupyterLab, and every step of it works."""
    assert _lands_on_the_tour(server)
    assert b"jupyter" in _get(f"{server}lab/tree/notebooks/01_tour.ipynb").lower()
    assert json.loads(_get(f"{server}api/contents/notebooks/01_tour.ipynb?content=0"))["name"]
    steps = notebooks.steps(notebooks.run(clean / "notebooks" / "01_tour.ipynb"))
    failed = [f"{step.name} printed:\n{step.output}" for step in steps if not step.passed]
    assert not failed, "\n\n".join(failed)


def test_post_build_installs_the_package(clean: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`postBuild` installs this repository, as it is, into a fresh Python.

    The panel is taken as it was built before, and the dependencies are found in this Python: both
    take minutes.
    """
    digest = Path("build", "labextension.sha256")  # says of which sources the panel was built
    (clean / digest).parent.mkdir()
    shutil.copy(ROOT / digest, clean / digest)
    venv.create(clean / "venv")  # pip too is one of the dependencies
    python = clean / "venv" / "bin"
    monkeypatch.setenv("PATH", f"{python}:{os.environ['PATH']}")
    site = next((clean / "venv").glob("lib/python*/site-packages"))
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    monkeypatch.setenv("FABRIC_NB_REQUIRE_LAB", "1")
    built = subprocess.run(
        ["binder/postBuild"], cwd=clean, capture_output=True, text=True, timeout=280, check=False
    )
    assert built.returncode == 0, built.stdout + built.stderr
    shutil.rmtree(clean / "fabric_nb")  # what is found now is what was installed
    done = subprocess.run(
        [python / "python", "-c", "import fabric_nb.demo.services as s; print(s.__file__)"],
        cwd=clean,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(site)


def test_binder_needs_no_other_broker() -> None:
    """The demo runs on the embedded broker: the image installs no RabbitMQ."""
    wanted = "".join(path.read_text() for path in (ROOT / "binder").iterdir())
    assert "rabbitmq" not in wanted.lower()
