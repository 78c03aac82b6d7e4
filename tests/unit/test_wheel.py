"""What a user installs: with the panel where it could be built, and never hindered by it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import fabric_nb

PROJECT = Path(__file__).parents[2]
IN_WHEEL = "/data/share/jupyter/labextensions/fabric-nb/"


def build(
    kind: str, source: Path, target: Path, **env: str
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Build a wheel or an sdist without Node; returns how it went and the files in it."""
    result = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(target)],
        cwd=source,
        env={**os.environ, "PATH": "/nowhere", **env},
        text=True,
        capture_output=True,
        check=False,
    )
    built = list(target.glob("*")) if target.exists() else []
    if result.returncode or not built:
        return result, []
    if kind == "wheel":
        with zipfile.ZipFile(built[0]) as wheel:
            return result, wheel.namelist()
    with tarfile.open(built[0]) as sdist:
        return result, sdist.getnames()


def panel_in(names: list[str]) -> list[str]:
    """The files of the panel in a wheel."""
    return [name.partition(IN_WHEEL)[2] for name in names if IN_WHEEL in name]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The project's sources, with nothing built."""
    source = tmp_path / "source"
    for name in ("fabric_nb", "labextension"):
        ignored = shutil.ignore_patterns("__pycache__", "node_modules", "lib", "lib-test")
        shutil.copytree(PROJECT / name, source / name, ignore=ignored)
    for name in ("pyproject.toml", "hatch_lab.py", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, source)
    shutil.rmtree(source / "fabric_nb" / "labextension", ignore_errors=True)
    return source


def test_without_node_all_but_the_panel_is_installed(checkout: Path, tmp_path: Path) -> None:
    """A checkout builds without Node, says that the panel is missing, and has everything else."""
    result, names = build("wheel", checkout, tmp_path / "out", FABRIC_NB_REQUIRE_LAB="")
    assert result.returncode == 0, result.stderr
    assert "Node is missing" in result.stdout + result.stderr
    assert "fabric_nb/__init__.py" in names
    assert panel_in(names) == []


def test_a_release_needs_the_panel(checkout: Path, tmp_path: Path) -> None:
    """Where the panel is required, a build without it fails and says why."""
    result, names = build("wheel", checkout, tmp_path / "out", FABRIC_NB_REQUIRE_LAB="1")
    assert result.returncode != 0
    assert names == []
    assert "FABRIC_NB_REQUIRE_LAB=1 requires it" in result.stdout + result.stderr


def test_an_sdist_brings_the_panel_built(tmp_path: Path) -> None:
    """From an sdist the panel is installed without Node, and is found by JupyterLab."""
    subprocess.run(
        [sys.executable, "hatch_lab.py"],
        cwd=PROJECT,
        env={**os.environ, "FABRIC_NB_REQUIRE_LAB": "1"},
        check=True,
    )
    result, names = build("sdist", PROJECT, tmp_path / "out", FABRIC_NB_REQUIRE_LAB="1")
    assert result.returncode == 0, result.stderr
    assert not [name for name in names if "node_modules" in name or "/lib/" in name]
    with tarfile.open(next((tmp_path / "out").glob("*.tar.gz"))) as sdist:
        sdist.extractall(tmp_path / "unpacked", filter="data")
    [source] = (tmp_path / "unpacked").iterdir()
    result, names = build("wheel", source, tmp_path / "wheel", FABRIC_NB_REQUIRE_LAB="1")
    assert result.returncode == 0, result.stderr
    panel = panel_in(names)
    assert [name for name in panel if name.startswith("static/remoteEntry.")]
    assert {"package.json", "install.json", "schemas/fabric-nb/plugin.json"} <= set(panel)
    assert not [name for name in names if name.startswith("fabric_nb/labextension")]


def test_the_lock_file_names_no_place() -> None:
    """The lock file of the panel's packages holds versions and checksums, and no addresses."""
    lock = (PROJECT / "labextension" / "yarn.lock").read_text()
    assert "checksum:" in lock
    assert "://" not in lock


def test_the_panel_has_the_version_of_the_package() -> None:
    """JupyterLab lists the panel with the version of fabric_nb that it belongs to."""
    package = json.loads((PROJECT / "labextension" / "package.json").read_text())
    assert package["version"] == fabric_nb.__version__
