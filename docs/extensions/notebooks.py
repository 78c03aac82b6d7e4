"""Copies of the notebooks as pages of the manual, because Sphinx reads only its own folder."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

FOLDER = "tutorial"
_TO_NOTEBOOK = re.compile(r"\]\((?:\.\./)+notebooks/")


def setup(app: Sphinx) -> dict[str, bool]:
    """Copy the notebooks before Sphinx looks for pages."""
    app.connect("config-inited", lambda app, _: copy(Path(app.srcdir)), priority=100)
    app.connect("source-read", _to_copies)
    return {"parallel_read_safe": True}


def copy(docs: Path) -> None:
    """Copy changed notebooks, and remove copies of deleted ones."""
    target = docs / FOLDER
    sources = {path.name: path for path in (docs.parent / "notebooks").glob("*.ipynb")}
    for old in target.glob("*.ipynb"):
        if old.name not in sources:
            old.unlink()
    for name, path in sources.items():
        text = _as_page(json.loads(path.read_text(encoding="utf-8")))
        if not (target / name).exists() or (target / name).read_text(encoding="utf-8") != text:
            (target / name).write_text(text, encoding="utf-8")


def _to_copies(_: Sphinx, docname: str, source: list[str]) -> None:
    """Replace the links of a page to notebooks by links to the copies."""
    source[0] = _TO_NOTEBOOK.sub(f"](/{FOLDER}/", source[0])


def _as_page(notebook: dict[str, Any]) -> str:
    """Return a notebook whose links into docs/ are relative to docs/."""
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            text = "".join(cell["source"])
            cell["source"] = text.replace("](../docs/", "](../")
    return json.dumps(notebook)
