"""Fresh fixtures after a failed test.

Tests share JupyterLab, pages and kernels. The state in which a failed test leaves them must not
affect the next one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import Any

import pytest

FAILED = pytest.StashKey[bool]()
"""Key of an item's stash: True if a phase of the test has failed."""
RENEWED = ("lab", "notebook")
"""Names of fixtures that end after a failed test, with all fixtures that use them."""

_set_up: dict[pytest.FixtureDef[Any], Any] = {}
"""Fixtures in `RENEWED` that were set up, with the request of each."""


def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any], request: Any) -> None:
    """Remember the fixtures in `RENEWED`, which only this hook makes known."""
    if fixturedef.argname in RENEWED:
        _set_up[fixturedef] = request


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """End the fixtures in `RENEWED` of a failed test, so that the next test starts them anew."""
    try:
        yield
    finally:
        if isinstance(item, pytest.Function) and item.stash.get(FAILED, False):
            for fixture in [each for each in _set_up if each.argname in item.fixturenames]:
                with contextlib.suppress(Exception):  # follows from the failure
                    fixture.finish(_set_up.pop(fixture))
