"""References of `docs/guarantees.md` to tests."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`(\w+/test_\w+\.py)(?:::(\w+))?`")


def test_guarantees_name_their_tests():
    """Every referenced test exists."""
    named = NAMED.findall((ROOT / "docs/guarantees.md").read_text())
    assert len(named) > 20
    for file, test in named:
        path = ROOT / "tests" / file
        assert path.is_file(), file
        assert not test or re.search(rf"^(async )?def {test}\(", path.read_text(), re.MULTILINE), (
            test
        )
