"""The panel is built against the oldest supported JupyterLab, and works with all later ones."""

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


def oldest_supported() -> tuple[int, int]:
    """Return the lowest version of JupyterLab in pyproject.toml."""
    (lowest,) = (one.version for one in LAB.specifier)
    return minor(lowest)


@pytest.mark.parametrize("name", RANGES)
def test_it_is_built_against_the_oldest(name: str) -> None:
    """Types are of the lowest version of each range."""
    assert re.fullmatch(r"\^\d+\.\d+\.0", RANGES[name])
    assert minor(PACKAGE["resolutions"][name]) == minor(RANGES[name][1:])


def test_ranges_agree() -> None:
    """package.json and pyproject.toml have the same lowest version of JupyterLab."""
    assert minor(RANGES["@jupyterlab/application"][1:]) == oldest_supported()
    second = oldest_supported()[1]
    expected = {"@jupyterlab/apputils": (4, second + 1), "@jupyterlab/services": (7, second)}
    assert {name: minor(wanted[1:]) for name, wanted in RANGES.items()} == {
        name: expected.get(name, (4, second)) for name in RANGES
    }


def test_the_lock_names_no_place() -> None:
    """yarn.lock has names, versions and checksums, and no address of any registry."""
    lock = (ROOT / "labextension" / "yarn.lock").read_text()
    assert "://" not in lock
    assert lock.count("checksum: ") > 100


def test_this_jupyterlab_takes_the_panel() -> None:
    """`jupyter labextension list` reports it as OK; `make test-oldest` checks the oldest."""
    done = subprocess.run(
        [sys.executable, "-m", "jupyterlab.labextensions", "list"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    listing = re.sub(r"\x1b\[\d+m", "", done.stdout + done.stderr)
    assert re.search(r"fabric-nb v\S+ enabled OK", listing), listing
