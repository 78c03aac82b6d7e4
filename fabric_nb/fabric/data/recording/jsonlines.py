"""Recordings as JSON Lines, one line for each message: slow and large, complete at every moment.

A file is written with the suffix ``.partial``, and gets its final name when it is closed. The first
line identifies the format; after a kernel was killed, all lines except for the last are valid::

    {"fabric_nb": "recording", "version": 1}
    {"arrival": "2026-11-24T12:00:00.125+00:00", "headers": {"kind": "A"}, "form": "object",
     "rows": [{"n": 1}]}

If JSON cannot represent the values of some headers, such as times and bytes, ``table`` has all
headers as they were sent, as a field table in base64, and ``headers`` has their text.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from fabric_nb.errors import MalformedMessage, NotSerializable, RecordingError, UnusableHeader
from fabric_nb.fabric.amqp.fields import checked
from fabric_nb.fabric.amqp.message import Delivery
from fabric_nb.fabric.core.files import Draft
from fabric_nb.fabric.data.recording.entry import (
    FAILURES,
    Counts,
    Entry,
    batch_of,
    json_or_text,
    salvaged,
)
from fabric_nb.fabric.wire.codec import decode, encode
from fabric_nb.fabric.wire.data_decoding import rows_of

_HEAD = b'{"fabric_nb": "recording", "version": 1}\n'
_CHUNK = 1000
"""Messages that are read together."""
_AT_ONCE = 100
"""Messages that are written together; on a full disk, all or none of them are in the file."""


class JsonLinesWriter:
    """Writer of JSON Lines."""

    def __init__(self, path: Path, *, overwrite: bool = True) -> None:
        self.written, self.skipped, self.reason = Counts(), Counts(), ""
        self._target = path
        self._draft = Draft(path, overwrite=overwrite)
        try:
            self._end = self._draft.write_at(0, _HEAD)
        except OSError:
            self._draft.discard()
            raise

    def write(self, entries: Sequence[Entry]) -> None:
        """Add messages."""
        for start in range(0, len(entries), _AT_ONCE):
            lines, written = [], []
            for entry in entries[start : start + _AT_ONCE]:
                try:
                    lines.append(_line(entry))
                except FAILURES:
                    raise
                except Exception as error:  # noqa: BLE001 - the message is omitted and counted
                    self.skipped.add([entry])
                    self.reason = str(error)
                else:
                    written.append(entry)
            self._end = self._draft.write_at(self._end, b"".join(lines))
            self.written.add(written)

    def close(self) -> None:
        """Rename the file to its final name."""
        self._draft.commit()

    def salvage(self) -> Path | None:
        """End with the complete messages in the file; return its path, or None without any."""
        return salvaged(self._draft, self._target, self.written, end=self._end)


def _line(entry: Entry) -> bytes:
    line = {
        "arrival": entry.arrival.isoformat(),
        "headers": dict(entry.headers),
        "form": entry.form,
        "rows": rows_of(entry.batch),
    }
    if not all(map(_is_json, entry.headers.values())):
        with contextlib.suppress(UnusableHeader):  # sent by another library; only text is kept
            line["table"] = base64.b64encode(checked(entry.headers).raw).decode()
    try:
        return encode(line)[0] + b"\n"
    except NotSerializable:
        line["headers"] = {name: json_or_text(value) for name, value in entry.headers.items()}
        line["rows"] = [
            {name: json_or_text(row[name]) for name in row} for row in rows_of(entry.batch)
        ]
        return encode(line)[0] + b"\n"


def _is_json(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_json, value.values()))
    if isinstance(value, list):
        return all(map(_is_json, value))
    return value is None or isinstance(value, (str, bool, int, float))


def _headers(line: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the headers in a line."""
    table = line.get("table")
    if not isinstance(table, str):
        headers: Mapping[str, Any] = line["headers"]
        return headers
    return Delivery(b"", base64.b64decode(table, validate=True)).headers


class JsonLinesReader:
    """Reader of JSON Lines."""

    def __init__(self, path: Path) -> None:
        self.progress = 0.0
        self._path = path
        self._size = path.stat().st_size
        self._file = path.open("rb")
        if self._file.readline(len(_HEAD)) != _HEAD:
            self.close()
            raise RecordingError(f"{path} is no recording: make one with stream.record(...).")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __iter__(self) -> Iterator[Sequence[Entry]]:
        entries: list[Entry] = []
        read = len(_HEAD)
        for number, line in enumerate(self._file, start=2):
            read += len(line)
            if not line.endswith(b"\n"):
                break  # incomplete, because the kernel that wrote it was killed
            entries.append(self._entry(line, number))
            if len(entries) == _CHUNK:
                self.progress = read / self._size
                yield entries
                entries = []
        self.progress = 1.0
        yield entries

    def _entry(self, line: bytes, number: int) -> Entry:
        try:
            match message := decode(line):
                case {
                    "arrival": str(arrival),
                    "headers": dict(),
                    "form": "object" | "list" | "columns" | "arrow" as form,
                    "rows": list(rows),
                } if all(isinstance(row, dict) for row in rows):
                    time = datetime.fromisoformat(arrival)
                    return Entry(time, _headers(message), batch_of(form, rows), len(rows))
        except (ValueError, MalformedMessage):
            pass
        raise RecordingError(f"Line {number} of {self._path} is no message of a recording.")
