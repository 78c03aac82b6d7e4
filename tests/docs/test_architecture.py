"""References of the page on the architecture to files, functions and packages."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import fabric_nb

PACKAGE = Path(fabric_nb.__file__).parent
PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "architecture.md"
HOPS = re.findall(r"`([\w/]+\.py):(\w+)`", PAGE.read_text())
PACKAGES = re.findall(r"^\| `([\w/.]+)`", PAGE.read_text(), re.MULTILINE)


@pytest.mark.parametrize(("path", "name"), sorted(set(HOPS)))
def test_every_hop_exists(path: str, name: str) -> None:
    """Each file and function on the path of a message exists."""
    tree = ast.parse((PACKAGE / path).read_text())
    functions = {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    assert name in functions


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_exists(package: str) -> None:
    """Each package of the table exists."""
    assert (PACKAGE / package).exists()
