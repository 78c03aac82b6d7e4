"""Distribution of the tests over processes, with pytest-xdist.

`pytest -n 6` starts six processes. The tests of a file run in one process, because they share
fixtures; those of files in a row of `TOGETHER` do too. Groups that take long start first, so that
all processes end at about the same time. There are more processes than cores, because tests wait
more than they compute.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest
    from xdist.scheduler import LoadScopeScheduling

TOGETHER = (("tests/browser/test_panel.py", "tests/browser/test_views.py"), ("tests/browser/",))
"""Beginnings of the names of files that share expensive processes: JupyterLab and a browser.

There are two of each, so that neither half of the tests in a browser is the last to end.
"""

LONGEST_FIRST = (
    "tests/browser/",
    "tests/docs/",
    "tests/peers/test_benchmarks.py",
    "tests/faults/",
    "tests/notebook/",
    "tests/unit/test_wheel.py",
    "tests/unit/test_decoding.py",
    "tests/demo/",
)
"""Beginnings of the names of groups that take long; all other groups follow."""


def group_of(test: str) -> str:
    """Return the group of a test, by its node id: its file, or the first name of its row."""
    file = test.partition("::")[0]
    return next((starts[0] for starts in TOGETHER if file.startswith(starts)), file)


def sort(items: list[pytest.Item]) -> None:
    """Move the groups that take long to the front, and keep the order within a group."""

    def place(item: pytest.Item) -> int:
        group = group_of(item.nodeid)
        return next(
            (n for n, start in enumerate(LONGEST_FIRST) if group.startswith(start)),
            len(LONGEST_FIRST),
        )

    items.sort(key=place)


def scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Return a scheduler that distributes groups, in the order of the collection."""
    from xdist.scheduler import LoadScopeScheduling

    class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    config.option.loadscopereorder = False
    return GroupScheduling(config, log)


def sendable(value: Any) -> Any:
    """Return a report's data without lone surrogates, which a worker cannot send."""
    match value:
        case str():
            return value.encode(errors="backslashreplace").decode()
        case dict():
            return {name: sendable(part) for name, part in value.items()}
        case list():
            return [sendable(part) for part in value]
        case tuple():
            return tuple(sendable(part) for part in value)
    return value
