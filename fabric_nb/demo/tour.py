"""Runs the tour headless, says what each step saw, and writes it as a page."""

from __future__ import annotations

from pathlib import Path

from nbconvert import HTMLExporter

from fabric_nb.demo import notebooks
from fabric_nb.demo.notebooks import Step
from fabric_nb.fabric.core.files import beside


def run_tour(notebook: Path, page: Path) -> list[Step]:
    """Execute a notebook from top to bottom and write the result as HTML.

    Args:
        notebook: the notebook; it is not changed.
        page: where to write the executed notebook as a page.

    Returns:
        The steps, in order.
    """
    tour = notebooks.run(notebook)
    page.parent.mkdir(parents=True, exist_ok=True)
    body, _ = HTMLExporter(
        exclude_input_prompt=True, exclude_output_prompt=True
    ).from_notebook_node(tour)
    with beside(page) as draft:
        draft.write_text(body, encoding="utf-8")
    return notebooks.steps(tour)
