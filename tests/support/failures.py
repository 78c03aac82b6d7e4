"""Fresh fixtures after a failed test.

Tests share JupyterLab, pages and kernels. The state in which a failed test leaves them must not
affect the next one.
"""

from __future__ import annotations

import contextlib

import pytest

FAILED = pytest.StashKey[bool]()
"""Key of an item's stash: True if a phase of the test has failed."""
RENEWED = ("lab", "notebook")
"""Names of fixtures that end after a failed test, with all fixtures that use them."""


def end_shared_fixtures(item: pytest.Item) -> None:
    """End the fixtures in `RENEWED` of a failed test, so that the next test starts them anew."""
    if not isinstance(item, pytest.Function) or not item.stash.get(FAILED, False):
        return
    for name in RENEWED:
        # pytest has no public function for this; it does it where a parameter changes.
        for fixture in item._fixtureinfo.name2fixturedefs.get(name, ()):
            with contextlib.suppress(Exception):  # follows from the failure
                fixture.finish(item._request)
