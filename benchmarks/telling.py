"""What a program that measures against targets says at its end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.report import verdict_table
from benchmarks.targets import Verdict


def tell_verdicts(
    about: dict[str, Any], verdicts: Sequence[Verdict], path: Path | None = None
) -> None:
    """Print what was found and on what machine; as JSON to `path` too."""
    print(f"{about['date']}, {about['cpu']}, {about['cores']} cores, Python {about['python']},")
    print(f"load before {about['load']}, after {about['load_after']}")
    print(verdict_table(verdicts))
    if path is not None:
        figures = [{**asdict(one), "met": one.met} for one in verdicts]
        written = json.dumps({"machine": about, "targets": figures}, indent=2)
        path.write_text(written + "\n", encoding="utf-8")
