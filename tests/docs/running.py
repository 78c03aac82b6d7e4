"""Runs notebooks in processes of their own, out of the way of the tests' event loops."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path

from fabric_nb.demo import notebooks
from fabric_nb.demo.notebooks import Step

Runs = Mapping[Path, "Future[list[Step]]"]
"""What each notebook showed, or will have shown."""


def steps_of(path: Path) -> list[Step]:
    """Run a notebook, and tell what its steps showed."""
    return notebooks.steps(notebooks.run(path))
