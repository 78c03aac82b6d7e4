"""One message of a recording, and what files of them have in common. Pure."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

from fabric_nb.errors import NotSerializable
from fabric_nb.fabric.codec import encode
from fabric_nb.fabric.decoding import Batch

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


class Writer(Protocol):
    """A file that is being written; its methods take time, and are for a thread."""

    def write(self, entries: Sequence[Entry]) -> None:
        """Add messages."""

    def close(self) -> None:
        """Make the file whole."""


class Reader(Protocol):
    """A file that is being read; for a thread, too."""

    progress: float
    """How much of it was read, from 0 to 1."""

    def __iter__(self) -> Iterator[Sequence[Entry]]: ...

    def close(self) -> None:
        """Let go of the file."""


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
