"""What the tests of the notebooks are given of their runs."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path

import nbformat

Runs = Mapping[Path, "Future[nbformat.NotebookNode]"]
"""Each notebook as it was executed, or will have been."""
