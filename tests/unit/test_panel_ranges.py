"""The panel is built against the oldest JupyterLab that is promised, and all later ones take it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PACKAGE = json.loads((ROOT / "labextension" / "package.json").read_text())
RANGES = {
    name: wanted for name, wanted in PACKAGE["dependencies"].items() if name.startswith("@jupyter")
}
DEMO = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
(LAB,) = (one for one in map(Requirement, DEMO["demo"]) if one.name == "jupyterlab")


def minor(text: str) -> tuple[int, int]:
    version = Version(text)
    return version.major, version.minor


def promised() -> tuple[int, int]:
    """The JupyterLab that pyproject.toml begins with."""
    (lowest,) = (one.version for one in LAB.specifier)
    return minor(lowest)


@pytest.mark.parametrize("name", RANGES)
def test_it_is_built_against_the_oldest(name: str) -> None:
    """Its types are those of the version that its range begins with."""
    assert re.fullmatch(r"\^\d+\.\d+\.0", RANGES[name])
    assert minor(PACKAGE["resolutions"][name]) == minor(RANGES[name][1:])


def test_the_oldest_is_the_one_that_is_promised() -> None:
    """package.json and pyproject.toml say the same; JupyterLab's packages count in step."""
    assert minor(RANGES["@jupyterlab/application"][1:]) == promised()
    second = promised()[1]
    expected = {"@jupyterlab/apputils": (4, second + 1), "@jupyterlab/services": (7, second)}
    assert {name: minor(wanted[1:]) for name, wanted in RANGES.items()} == {
        name: expected.get(name, (4, second)) for name in RANGES
    }


def test_the_lock_names_no_place() -> None:
    """yarn.lock holds names, versions and checksums, and no address of any registry."""
    lock = (ROOT / "labextension" / "yarn.lock").read_text()
    assert "://" not in lock
    assert lock.count("checksum: ") > 100


def test_this_jupyterlab_takes_the_panel() -> None:
    """`jupyter labextension list` finds it enabled and OK; on the oldest by `make test-oldest`."""
    done = subprocess.run(
        [sys.executable, "-m", "jupyterlab.labextensions", "list"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    said = re.sub(r"\x1b\[\d+m", "", done.stdout + done.stderr)
    assert re.search(r"fabric-nb v\S+ enabled OK", said), said
