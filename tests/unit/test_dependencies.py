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
    *(text for extra in ("arrow", "keyring", "otel", "terminal", "zstd") for text in EXTRAS[extra]),
]
FOR_DEVELOPERS = [*EXTRAS["demo"], *EXTRAS["test"], *EXTRAS["dev"]]


def lines_of(name: str) -> list[str]:
    return [line for line in (ROOT / name).read_text().splitlines() if line[:1] != "#"]


def versions(lines: list[str]) -> dict[str, str]:
    """Return versions by package."""
    return {canonicalize_name(line.partition("==")[0]): line.partition("==")[2] for line in lines}


LINES = lines_of("constraints.txt")
LOCKED = versions(LINES)
OLDEST = versions(lines_of("constraints-oldest.txt"))


@pytest.mark.parametrize("text", FOR_USERS)
def test_ranges_are_closed(text: str) -> None:
    """Each dependency of users has a lowest version and an upper bound."""
    operators = {each.operator for each in Requirement(text).specifier}
    assert operators in ({">=", "<"}, {"=="})


@pytest.mark.parametrize("text", sorted({*FOR_USERS, *FOR_DEVELOPERS}))
def test_locked_versions_are_in_range(text: str) -> None:
    """constraints.txt has a version of each dependency, within its range."""
    requirement = Requirement(text)
    if requirement.name == "fabric-nb":
        return
    assert requirement.specifier.contains(
        LOCKED[canonicalize_name(requirement.name)], prereleases=True
    )


@pytest.mark.parametrize("text", sorted({*FOR_USERS, *EXTRAS["demo"]}))
def test_lowest_versions_are_tested(text: str) -> None:
    """`make test-oldest` uses the lowest version of each range."""
    requirement = Requirement(text)
    lowest = {each.version for each in requirement.specifier if each.operator in (">=", "==")}
    assert {Version(version) for version in lowest} == {
        Version(OLDEST[canonicalize_name(requirement.name)])
    }


def test_oldest_constraints_are_complete() -> None:
    """constraints-oldest.txt has exactly the dependencies of pyproject.toml."""
    named = {Requirement(text).name for text in (*FOR_USERS, *EXTRAS["demo"])}
    assert OLDEST.keys() == {canonicalize_name(name) for name in named}


def test_constraints_have_no_addresses() -> None:
    """constraints.txt has names and versions, but no addresses of registries or files."""
    assert len(LINES) > 50
    for line in LINES:
        name, equals, version = line.partition("==")
        assert equals, line
        assert not set("/:@ ") & set(name + version), line
