"""The manual: it builds, and it is complete."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fabric_nb

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def manual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manual as `make docs` builds it: offline, and any warning is an error."""
    built = tmp_path_factory.mktemp("manual")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "sphinx",
            "--fail-on-warning",
            "--keep-going",
            "-q",
            "docs",
            str(built),
        ],
        cwd=ROOT,
        # Nothing may be fetched: what tries finds no proxy.
        env={**os.environ, "https_proxy": "http://127.0.0.1:1", "http_proxy": "http://127.0.0.1:1"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return built


def test_the_notebooks_are_pages(manual: Path) -> None:
    """Every notebook is a page of the manual, with the outputs that are stored in it."""
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        page = (manual / "tutorial" / f"{path.stem}.html").read_text(encoding="utf-8")
        assert "cell_output" in page
    tour = (manual / "tutorial" / "01_tour.html").read_text(encoding="utf-8")
    assert "the tour was here" in tour


def test_the_reference_is_what_can_be_imported() -> None:
    """The reference documents what `fabric_nb` exports, each thing once and under that name."""
    directive = re.compile(r"^\.\. auto(?:class|exception|function):: (\S+)$", re.MULTILINE)
    documented = [
        name
        for page in ("api.md", "errors.md")
        for name in directive.findall((ROOT / "docs" / "reference" / page).read_text("utf-8"))
    ]
    exported = [f"fabric_nb.{name}" for name in fabric_nb.__all__ if name != "__version__"]
    assert sorted(documented) == exported


def test_the_reference_has_every_public_name(manual: Path) -> None:
    """Every public name of fabric_nb, including all errors, is documented in the reference."""
    reference = "".join(
        path.read_text(encoding="utf-8") for path in (manual / "reference").glob("*.html")
    )
    for name in fabric_nb.__all__:
        assert f'id="fabric_nb.{name}"' in reference or name == "__version__", name


def test_pages_load_nothing_from_elsewhere(manual: Path) -> None:
    """The manual can be read offline: no page loads a script, a font or an image from the web."""
    loads = re.compile(
        r'<(?:script|img|iframe)[^>]*\ssrc="https?:|<link[^>]*rel="stylesheet"[^>]*href="https?:'
    )
    for page in manual.rglob("*.html"):
        assert not loads.search(page.read_text(encoding="utf-8")), page.name
