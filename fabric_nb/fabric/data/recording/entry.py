"""Messages of a recording, and the interface of its file formats. Pure."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Protocol

from fabric_nb.errors import NotSerializable
from fabric_nb.fabric.core.files import Draft
from fabric_nb.fabric.wire.codec import encode
from fabric_nb.fabric.wire.data_decoding import Batch
from fabric_nb.fabric.wire.formats import Form

HEADER_PREFIX = "header."
"""Prefix of a header's name in the name of its column."""


@dataclass(slots=True)
class Entry:
    """Received message.

    Attributes:
        arrival: time of arrival, in UTC.
        headers: its headers.
        batch: its rows.
        rows: number of its rows.
        size: bytes of its body; 0 if it was read from a file.
    """

    arrival: datetime
    headers: Mapping[str, Any]
    batch: Batch
    rows: int
    size: int = 0

    @property
    def form(self) -> Form:
        """Form of the rows in the message."""
        if isinstance(self.batch, tuple):
            return "object"
        if isinstance(self.batch, list):
            return "list"
        return "columns" if isinstance(self.batch, Mapping) else "arrow"


@dataclass(slots=True)
class Counts:
    """Numbers of messages and of their rows."""

    messages: int = 0
    rows: int = 0

    def add(self, entries: Sequence[Entry]) -> None:
        """Count messages."""
        self.messages += len(entries)
        self.rows += sum(entry.rows for entry in entries)


class Writer(Protocol):
    """Writer of a recording; its methods block, and are to be called in a thread.

    Attributes:
        written: messages in the file, which stay readable whatever happens.
        skipped: messages that this format cannot represent.
        reason: reason for the last of them.
    """

    written: Counts
    skipped: Counts
    reason: str

    def write(self, entries: Sequence[Entry]) -> None:
        """Add messages."""

    def close(self) -> None:
        """Complete the file, and rename it to its final name."""

    def salvage(self) -> Path | None:
        """End with the messages written so far; return their file, or None if there are none."""


class Reader(Protocol):
    """Reader of a recording; to be used in a thread too."""

    progress: float
    """Fraction of the file that was read, from 0 to 1."""

    def __iter__(self) -> Iterator[Sequence[Entry]]: ...

    def close(self) -> None:
        """Close the file."""


FAILURES: Final = (OSError, MemoryError)
"""Errors of the system; all others belong to one message, which the format cannot represent."""


def salvaged(
    draft: Draft, target: Path, written: Counts, *, end: int, footer: bytes = b""
) -> Path | None:
    """Keep the written part of a recording, as its target unless that exists; return its path.

    Args:
        draft: file that is written to.
        target: path of the recording.
        written: messages in the file; without any it is deleted.
        end: offset of what follows them.
        footer: end of the file.

    Raises:
        OSError: it cannot be ended. The file is closed, and kept.
    """
    if not written.messages:
        draft.discard()
        return None
    try:
        draft.write_at(end, footer)
        return draft.path if target.exists() else draft.commit()
    finally:
        draft.close()


def batch_of(form: str, rows: list[dict[str, Any]]) -> Any:
    """Return rows in the form that they had in their message.

    Rows of an Arrow message stay rows if Arrow columns cannot represent them any more, for example
    maps, which a recording stores as lists of pairs.
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
    """Return a value as JSON; values that JSON cannot represent, such as bytes, become text."""
    try:
        return encode(value)[0].decode()
    except NotSerializable:
        if isinstance(value, Mapping):
            value = {str(name): json_or_text(each) for name, each in value.items()}
        return encode(json_or_text(value))[0].decode()


def json_or_text(value: Any) -> Any:
    """Return the value itself, or its text if JSON cannot represent it."""
    try:
        encode(value)
    except NotSerializable:
        return str(value)
    return value


def reason(error: Exception) -> str:
    """Return the reason of a file error as the system words it, without path and error number."""
    number = getattr(error, "errno", None)
    return os.strerror(number) if number else str(error)
