"""Code in notebook files; nbformat, whose validator is slow to import, is not needed for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fabric_nb.errors import InvalidArgument

FORMAT = 4
"""Version of the file format; Jupyter has written no other since 2015."""
DEFAULT_KERNEL = "python3"
SKIPPED, MAY_FAIL = "skip-execution", "raises-exception"
"""Tags of cells, as in nbclient: it is not run; it may raise."""


@dataclass(frozen=True, slots=True)
class CodeCell:
    """Cell to be run.

    Attributes:
        source: its code.
        may_fail: True if the notebook continues after an error in it.
    """

    source: str
    may_fail: bool


@dataclass(frozen=True, slots=True)
class Notebook:
    """Notebook to be run.

    Attributes:
        kernel: name of its kernel.
        cells: its cells with code.
    """

    kernel: str
    cells: tuple[CodeCell, ...]


def read_notebook(path: Path) -> Notebook:
    """Read a notebook file.

    Raises:
        InvalidArgument: it cannot be read, or is not a notebook of the present format.
    """
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidArgument(f"{path} cannot be read: {error}") from None
    try:
        if content["nbformat"] != FORMAT:
            raise InvalidArgument(
                f"{path} cannot be read: it has notebook format {content['nbformat']!r}, not"
                f" {FORMAT}; convert it with jupyter nbconvert --to notebook."
            )
        kernel = content["metadata"].get("kernelspec", {}).get("name", DEFAULT_KERNEL)
        return Notebook(str(kernel), tuple(_code_cells(content["cells"])))
    except (KeyError, TypeError, AttributeError):
        raise InvalidArgument(f"{path} cannot be read: it is not a notebook.") from None


def _code_cells(cells: list[dict[str, Any]]) -> Iterator[CodeCell]:
    for cell in cells:
        source = "".join(cell["source"])  # a text, or a list of lines
        tags = cell.get("metadata", {}).get("tags", ())
        if cell["cell_type"] == "code" and source.strip() and SKIPPED not in tags:
            yield CodeCell(source, may_fail=MAY_FAIL in tags)
