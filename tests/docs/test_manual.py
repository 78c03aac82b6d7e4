"""Build and completeness of the manual."""

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
    """Build the manual as `make docs` does: offline, with warnings as errors."""
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
        # A proxy that does not exist makes any download fail.
        env={**os.environ, "https_proxy": "http://127.0.0.1:1", "http_proxy": "http://127.0.0.1:1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return built


def test_every_notebook_is_a_page(manual: Path) -> None:
    """Every notebook is a page of the manual, with its stored outputs."""
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        page = (manual / "tutorial" / f"{path.stem}.html").read_text(encoding="utf-8")
        assert "cell_output" in page
    tour = (manual / "tutorial" / "01_tour.html").read_text(encoding="utf-8")
    assert "the tour was here" in tour


def test_reference_documents_each_export_once() -> None:
    """The reference documents each export of `fabric_nb` once, under that name."""
    directive = re.compile(r"^\.\. auto(?:class|exception|function):: (\S+)$", re.MULTILINE)
    documented = [
        name
        for page in ("api.md", "errors.md")
        for name in directive.findall((ROOT / "docs" / "reference" / page).read_text("utf-8"))
    ]
    exported = [f"fabric_nb.{name}" for name in fabric_nb.__all__ if name != "__version__"]
    assert sorted(documented) == exported


def test_reference_page_has_every_export(manual: Path) -> None:
    """Every export of `fabric_nb`, including all errors, has an anchor in the built reference."""
    reference = "".join(
        path.read_text(encoding="utf-8") for path in (manual / "reference").glob("*.html")
    )
    for name in fabric_nb.__all__:
        assert f'id="fabric_nb.{name}"' in reference or name == "__version__", name


def test_pages_load_no_remote_resources(manual: Path) -> None:
    """No page loads a script, a font or an image from the web."""
    loads = re.compile(
        r'<(?:script|img|iframe)[^>]*\ssrc="https?:|<link[^>]*rel="stylesheet"[^>]*href="https?:'
    )
    for page in manual.rglob("*.html"):
        assert not loads.search(page.read_text(encoding="utf-8")), page.name
