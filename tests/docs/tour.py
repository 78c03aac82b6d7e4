"""`make demo`: run the tour headless, print the output of each step, and write it as a page.

python -m tests.docs.tour              exit 0 if every step passed
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from nbconvert import HTMLExporter
from nbformat import NotebookNode

from fabric_nb.demo.runner import run_with_demo
from fabric_nb.fabric.core.files import replacing
from tests.docs import notebooks

TOUR = Path("notebooks/01_tour.ipynb")
PAGE = Path("build/tour.html")


def main() -> int:
    """Run the tour beside the demo, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.docs.tour")
    parser.add_argument("--notebook", type=Path, default=TOUR)
    parser.add_argument("--page", type=Path, default=PAGE)
    args = parser.parse_args()
    return run_with_demo(lambda: _run(args.notebook, args.page))


def _run(notebook: Path, page: Path) -> int:
    print(f"Tour      {notebook}", flush=True)
    tour = notebooks.run(notebook)
    _write(tour, page)
    steps = notebooks.steps(tour)
    failed = notebooks.report(steps)
    print(f"{len(steps) - failed} of {len(steps)} steps passed. Page: {page}")
    return 1 if failed else 0


def _write(tour: NotebookNode, page: Path) -> None:
    """Write the executed notebook as an HTML page."""
    page.parent.mkdir(parents=True, exist_ok=True)
    exporter = HTMLExporter(exclude_input_prompt=True, exclude_output_prompt=True)
    body, _ = exporter.from_notebook_node(tour)
    with replacing(page) as draft:
        draft.write_text(body, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
