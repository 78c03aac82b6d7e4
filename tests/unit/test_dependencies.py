"""Dependencies: ranges in pyproject.toml, and one tested version of each in constraints.txt."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
FOR_USERS = [
    *PROJECT["dependencies"],
    *(text for extra in ("arrow", "keyring", "terminal", "zstd") for text in EXTRAS[extra]),
]
FOR_DEVELOPERS = [*EXTRAS["demo"], *EXTRAS["test"], *EXTRAS["dev"]]


def lines_of(name: str) -> list[str]:
    return [line for line in (ROOT / name).read_text().splitlines() if line[:1] != "#"]


def versions(lines: list[str]) -> dict[str, str]:
    """Versions by the names of packages."""
    return {canonicalize_name(line.partition("==")[0]): line.partition("==")[2] for line in lines}


LINES = lines_of("constraints.txt")
LOCKED = versions(LINES)
OLDEST = versions(lines_of("constraints-oldest.txt"))


@pytest.mark.parametrize("text", FOR_USERS)
def test_ranges_are_closed(text: str) -> None:
    """What users install has a lowest version that is known to work, and an end."""
    operators = {one.operator for one in Requirement(text).specifier}
    assert operators in ({">=", "<"}, {"=="})


@pytest.mark.parametrize("text", sorted({*FOR_USERS, *FOR_DEVELOPERS}))
def test_locked_versions_are_in_range(text: str) -> None:
    """Each dependency has a version in constraints.txt that is in its range."""
    requirement = Requirement(text)
    if requirement.name == "fabric-nb":
        return
    assert requirement.specifier.contains(
        LOCKED[canonicalize_name(requirement.name)], prereleases=True
    )


@pytest.mark.parametrize("text", sorted({*FOR_USERS, *EXTRAS["demo"]}))
def test_lowest_versions_are_those_that_were_tried(text: str) -> None:
    """`make test-oldest` runs on the lowest version that each range begins with."""
    requirement = Requirement(text)
    lowest = {one.version for one in requirement.specifier if one.operator in (">=", "==")}
    assert {Version(version) for version in lowest} == {
        Version(OLDEST[canonicalize_name(requirement.name)])
    }


def test_nothing_else_is_held_back() -> None:
    """constraints-oldest.txt holds what pyproject.toml names, so that no bound is missing there."""
    named = {Requirement(text).name for text in (*FOR_USERS, *EXTRAS["demo"])}
    assert OLDEST.keys() == {canonicalize_name(name) for name in named}


def test_the_lock_names_no_place() -> None:
    """constraints.txt holds names and versions, and no address of any registry or file."""
    assert len(LINES) > 50
    for line in LINES:
        name, equals, version = line.partition("==")
        assert equals, line
        assert not set("/:@ ") & set(name + version), line
