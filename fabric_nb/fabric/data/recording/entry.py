"""One message of a recording, and what files of them have in common. Pure."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from fabric_nb.errors import NotSerializable
from fabric_nb.fabric.core.files import Draft
from fabric_nb.fabric.wire.codec import encode
from fabric_nb.fabric.wire.data_decoding import Batch

HEADER_PREFIX = "header."
"""Before a header's name, in the name of the column that holds it."""

Form = Literal["object", "list", "columns", "arrow"]


@dataclass(slots=True)
class Entry:
    """A message as it came.

    Attributes:
        arrival: when, in UTC.
        headers: its headers.
        batch: its rows.
        rows: how many these are.
        size: bytes of its body; 0 when it was read from a file.
    """

    arrival: datetime
    headers: Mapping[str, Any]
    batch: Batch
    rows: int
    size: int = 0

    @property
    def form(self) -> Form:
        """How the rows came."""
        if isinstance(self.batch, tuple):
            return "object"
        if isinstance(self.batch, list):
            return "list"
        return "columns" if isinstance(self.batch, Mapping) else "arrow"


@dataclass(slots=True)
class Counts:
    """Messages and their rows."""

    messages: int = 0
    rows: int = 0

    def add(self, entries: Sequence[Entry]) -> None:
        """Count messages."""
        self.messages += len(entries)
        self.rows += sum(entry.rows for entry in entries)


class Writer(Protocol):
    """A file that is being written; its methods take time, and are for a thread.

    Attributes:
        written: what is in the file, and can be read whatever comes.
        skipped: messages that cannot be in such a file.
        reason: why the last of them cannot.
    """

    written: Counts
    skipped: Counts
    reason: str

    def write(self, entries: Sequence[Entry]) -> None:
        """Add messages."""

    def close(self) -> None:
        """Make the file whole, and give it its name."""

    def give_up(self) -> Path | None:
        """End with what is in the file; return where that is, None if there is nothing."""


class Reader(Protocol):
    """A file that is being read; for a thread, too."""

    progress: float
    """How much of it was read, from 0 to 1."""

    def __iter__(self) -> Iterator[Sequence[Entry]]: ...

    def close(self) -> None:
        """Let go of the file."""


FAILURES: Final = (OSError, MemoryError)
"""Errors of the machine; all others are of one message, which cannot be in such a file."""


def kept(draft: Draft, place: Path, written: Counts) -> Path | None:
    """Keep what could be written of a recording: in its place, unless another file is there."""
    if not written.messages:
        draft.discard()
        return None
    if place.exists():
        draft.leave()
        return draft.path
    return draft.keep()


def batch_of(form: str, rows: list[dict[str, Any]]) -> Any:
    """A message's rows in the form in which they came.

    Of Arrow's they stay rows where columns of Arrow no longer hold them, such as maps, which are
    in a recording as lists of pairs.
    """
    if form == "object":
        return tuple(rows)
    names = dict.fromkeys(name for row in rows for name in row)
    if form == "list" or not names:
        return rows
    columns = {name: [row.get(name) for row in rows] for name in names}
    if form == "columns":
        return columns
    import pyarrow as pa

    try:
        return pa.table(columns)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError):
        return rows


def as_json(value: Any) -> str:
    """A value as JSON; it, or a value in it, as text where JSON does not have it, as for bytes."""
    try:
        return encode(value)[0].decode()
    except NotSerializable:
        if isinstance(value, Mapping):
            value = {str(name): plain(each) for name, each in value.items()}
        return encode(plain(value))[0].decode()


def plain(value: Any) -> Any:
    """The value itself, or its text if JSON does not have it."""
    try:
        encode(value)
    except NotSerializable:
        return str(value)
    return value


def reason(error: Exception) -> str:
    """Why a file cannot be had: in the system's words, without the path and the number."""
    number = getattr(error, "errno", None)
    return os.strerror(number) if number else str(error)
