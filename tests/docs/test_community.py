"""Consistency of citation, issue forms and pre-commit hooks with the project."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from fabric_nb import __version__

ROOT = Path(__file__).parents[2]
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def loaded(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_citation_has_this_version() -> None:
    """CITATION.cff has the version and the license of the package."""
    citation = loaded(ROOT / "CITATION.cff")
    assert citation["version"] == __version__
    assert citation["license"] == "BSD-3-Clause"
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("BSD 3-Clause License")


@pytest.mark.parametrize("path", [one for one in FORMS if one.stem != "config"], ids=str)
def test_fields_of_issue_forms_are_labelled(path: Path) -> None:
    """Every field of an issue form has a unique id and a label."""
    form = loaded(path)
    assert form["name"]
    assert form["description"]
    ids = [field["id"] for field in form["body"]]
    assert len(ids) == len(set(ids))
    assert all(field["attributes"]["label"] for field in form["body"])


def test_pre_commit_hooks_are_installed() -> None:
    """Each hook runs a program that `make develop` installs."""
    hooks = [
        hook for repo in loaded(ROOT / ".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]
    ]
    assert {"ruff-check", "ruff-format", "mypy"} <= {hook["id"] for hook in hooks}
    for hook in hooks:
        assert hook["entry"].startswith(".venv/bin/")
