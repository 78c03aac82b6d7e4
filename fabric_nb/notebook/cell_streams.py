"""Streams and log feeds that cells have opened."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from types import ModuleType
from typing import TYPE_CHECKING, TypeGuard

from IPython.core.interactiveshell import InteractiveShell

from fabric_nb.fabric.data.streams import is_stream
from fabric_nb.fabric.logs.feed import LogFeed
from fabric_nb.fabric.member import FabricMember
from fabric_nb.notebook.views.live import CellRun

if TYPE_CHECKING:
    from fabric_nb.fabric.data.stream import Stream

MAX_PARTS = 10_000
"""Maximum number of elements of a user's container that are searched for a stream."""


@dataclass(frozen=True, slots=True)
class _Opened:
    """A stream or log feed, the cell that opened it, and the variable it was assigned to."""

    source: Stream | LogFeed
    member: FabricMember
    run: CellRun
    variable: str | None

    def is_replaced_by(self, other: _Opened) -> bool:
        """Return whether a later run of the same cell assigns to the same variable."""
        return self.run.is_replaced_by(other.run) and self.variable == other.variable


def is_source(value: object) -> TypeGuard[Stream | LogFeed]:
    """Return whether a value is a stream or a log feed."""
    return isinstance(value, LogFeed) or is_stream(value)


class CellStreams:
    """Streams and log feeds that cells have opened, or that variables hold.

    A cell that runs again would leave the stream of its previous run open without a name. So that
    stream is closed, unless another variable refers to it.

    Args:
        shell: shell of the notebook.
    """

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._opened: list[_Opened] = []

    async def add(
        self, source: Stream | LogFeed, variable: str | None, member: FabricMember
    ) -> None:
        """Add what the running cell has opened, and close what an earlier run has opened.

        Args:
            source: the stream or log feed.
            member: member that receives it.
            variable: variable that it is going to be assigned to.
        """
        added = _Opened(source, member, CellRun.identified(self._shell), variable)
        kept = [each for each in self._opened if not each.source.closed]
        for earlier in [each for each in kept if each.is_replaced_by(added)]:
            if not self._is_referenced(earlier.source, variable):
                await earlier.source.close()
                kept.remove(earlier)
        self._opened = [*kept, added]

    def _is_referenced(self, source: object, variable: str | None) -> bool:
        """Return whether a user's variable other than `variable`, or its value, refers to it."""
        return any(
            value is source or any(part is source for part in _parts(value))
            for name, value in self._shell.user_ns.items()
            if name != variable and name != "Out" and not name.startswith("_")
        )

    def streams(self) -> list[tuple[str, Stream]]:
        """Return pairs of variable and stream; the variable is empty if there is none.

        They are the open streams, and all that a variable holds.
        """
        opened = {
            id(each.source): ("", each.source)
            for each in self._opened
            if is_stream(each.source) and not each.source.closed
        }
        assigned = {
            id(value): (name, value)
            for name, value in list(self._shell.user_ns.items())
            if is_stream(value) and not name.startswith("_")
        }
        return list((opened | assigned).values())

    def variables(self) -> list[str]:
        """Return the variables that hold a stream or log feed."""
        return [
            name
            for name, value in self._shell.user_ns.items()
            if is_source(value) and not name.startswith("_")
        ]

    def descriptions(self, member: FabricMember) -> list[str]:
        """Return kind and variable of each that a member has open, as in ``the stream tx``."""
        variables = {id(value): name for name, value in self._shell.user_ns.items()}
        kinds = {True: "the stream", False: "the log feed"}
        return [
            f"{kinds[is_stream(each.source)]} {variables.get(id(each.source), '')}".rstrip()
            for each in self._opened
            if each.member is member and not each.source.closed
        ]

    async def close(self, member: FabricMember) -> None:
        """Close all of a member that cells have opened."""
        for each in [each for each in self._opened if each.member is member]:
            await each.source.close()
        self._opened = [each for each in self._opened if each.member is not member]


def _parts(value: object) -> Iterable[object]:
    """Return the elements of a plain container, or the attributes of a user's object."""
    match value:
        case ModuleType():
            return ()
        case _ if is_source(value):
            return ()
        case dict():
            return islice(value.values(), MAX_PARTS)
        case list() | tuple() | set() | frozenset():
            return islice(value, MAX_PARTS)
    try:  # bypasses the `__getattribute__` and `__dict__` of the user's class
        return list(object.__getattribute__(value, "__dict__").values())
    except AttributeError:
        return ()
