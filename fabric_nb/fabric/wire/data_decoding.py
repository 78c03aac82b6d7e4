"""Messages of data streams as they come: JSON, JSON columns, Arrow; compressed or not. Pure.

What a body is, its content type and content encoding tell; a body without them is JSON, as
amqp-fabric publishes it. Everything read comes from elsewhere and is bounded and checked: the cost
of a message follows its bytes, and what it may unpack to is bounded before it is made.

Small messages are read at once, by `read_small`. All others are for a thread, and there in parts:
C code that reads JSON holds up all other threads until it returns.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from json.scanner import py_make_scanner  # type: ignore[attr-defined]
from typing import Any, Final

from fabric_nb.errors import MalformedMessage
from fabric_nb.fabric.amqp.message import Delivery
from fabric_nb.fabric.wire.arrow import (
    MAX_BYTES,
    MAX_VALUES,
    Measured,
    parts_of,
)
from fabric_nb.fabric.wire.codec import decode
from fabric_nb.fabric.wire.content_encodings import TooLong, unpack
from fabric_nb.frames.intake import is_simple

JSON: Final = "application/json"
JSON_COLUMNS: Final = "application/vnd.fabric.columns+json"
ARROW: Final = "application/vnd.apache.arrow.stream"
"""The registered media type of Arrow's IPC stream format."""

SURELY_SMALL: Final = 16 * 1024
SMALL: Final = 256 * 1024
"""Bytes of JSON that are read at once: any, and rows that are all alike or columns that are few."""
NARROW: Final = 200
"""Columns that are few."""
SMALL_ARROW: Final = 1024 * 1024
SMALL_VALUES: Final = 200_000
"""Bytes and values of Arrow that are read at once: its columns are copied as they are."""
PART: Final = 256 * 1024
"""Bytes of JSON that are read in one call; of a value that is longer, up to `WHOLE`."""
WHOLE: Final = 1024 * 1024
MAX_WHOLE: Final = 32 * 1024 * 1024
"""Bytes of one value in JSON, such as a row."""
MAX_OBJECT, MAX_CONTAINERS = 4 * 1024 * 1024, 1024 * 1024
"""Values, and lists and objects, in a message that is a single object."""

Table = Any
"""A `pyarrow.Table`; pyarrow is an extra."""
Row = Mapping[str, Any]
Columns = Mapping[str, Sequence[Any]]
Batch = Sequence[Row] | Columns | Table


def read_small(delivery: Delivery) -> Batch | None:
    """The rows in a message, in whichever form they came; None if that may take long.

    Raises:
        MalformedMessage: see `decode_rows`.
    """
    body, encoding, kind = delivery.body, delivery.content_encoding, delivery.content_type
    if kind is None or kind != JSON:  # which is most often there as it is
        kind = _kind(kind)
    most = SMALL_ARROW if kind == ARROW else SMALL
    if len(body) > most:
        return None
    if encoding:
        try:
            body = unpack(body, encoding, most)
        except TooLong:
            return None
    if kind != ARROW:
        batch = _of_json(decode(body), kind)
        return batch if len(body) <= SURELY_SMALL or _is_narrow(batch) else None
    found = Measured(body)
    if found.values > SMALL_VALUES or found.bytes > SMALL_ARROW:
        return None
    table = found.read()
    few = found.values <= SMALL_VALUES // 20 and found.expanded <= SMALL_ARROW
    small = table.num_columns <= NARROW and (few or is_simple(table.schema))
    return table if small else None


def _is_narrow(batch: Batch) -> bool:
    """Return whether the rows become columns at little cost."""
    if isinstance(batch, Mapping):
        return len(batch) <= NARROW
    first = batch[0].keys() if batch else ()
    return len(first) <= NARROW and all(row.keys() == first for row in batch)


def read_parts(delivery: Delivery) -> Iterator[Batch]:
    """The rows in a message in parts, all of one form; for a thread.

    Raises:
        MalformedMessage: see `decode_rows`.
    """
    body = delivery.body
    if delivery.content_encoding:
        body = unpack(body, delivery.content_encoding, MAX_BYTES)
    kind = _kind(delivery.content_type)
    if kind == ARROW:
        found = Measured(body)
        table = found.read()
        yield from parts_of(table, found.values) if table.num_rows else (table,)
    elif kind == JSON_COLUMNS and _first(body) == b"{":
        _check_values(body, MAX_VALUES, MAX_CONTAINERS)
        yield _of_json(_columns_in_parts(body), kind)
    elif kind != JSON_COLUMNS and _first(body) == b"[":
        _check_values(body, MAX_VALUES, MAX_VALUES)
        for part in _in_parts(body, _ROW_ENDS):
            yield _checked_rows(part)
    else:
        _check_values(body, MAX_OBJECT, MAX_CONTAINERS)
        yield _of_json(_whole(body), kind)


def read_rows(delivery: Delivery) -> Batch:
    """The rows in a message of a data stream, in whichever form they came."""
    return decode_rows(delivery.body, delivery.content_type, delivery.content_encoding)


def decode_rows(body: bytes, content_type: str | None, content_encoding: str | None) -> Batch:
    """Return the content of a data message: rows, columns or an Arrow table.

    Raises:
        MalformedMessage: it is not what it says it is, stands for more than `MAX_VALUES` values
            or unpacks to more than `MAX_BYTES` bytes, or is of a kind that cannot be read here.
    """
    delivery = Delivery(body, content_type=content_type, content_encoding=content_encoding)
    return joined(list(read_parts(delivery)))


def joined(parts: Sequence[Batch]) -> Batch:
    """The parts of a message as one."""
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], (list, tuple)):
        return [row for part in parts for row in part]
    import pyarrow as pa

    return pa.concat_tables(parts)


def rows_of(batch: Batch) -> Sequence[Row]:
    """The rows of a batch one by one, whatever its form."""
    if isinstance(batch, (list, tuple)):
        return batch
    if isinstance(batch, Mapping):
        return [dict(zip(batch, row, strict=True)) for row in zip(*batch.values(), strict=True)]
    return [row for part in parts_of(batch) for row in part.to_pylist()]


def _kind(content_type: str | None) -> str:
    return (content_type or JSON).partition(";")[0].strip().lower()


def _of_json(value: Any, kind: str) -> Batch:
    if kind == JSON_COLUMNS:
        lists = isinstance(value, dict) and all(isinstance(one, list) for one in value.values())
        if lists and len({len(column) for column in value.values()}) <= 1:
            columns: Columns = value
            return columns
        raise MalformedMessage("JSON columns must be an object of lists of one length.")
    if isinstance(value, dict):
        return (value,)
    return _checked_rows(value)


def _checked_rows(value: Any) -> list[Row]:
    if isinstance(value, list) and all(isinstance(row, dict) for row in value):
        return value
    raise MalformedMessage("A data message's body must be a JSON object, or a list of them.")


# -- large JSON ------------------------------------------------------------------------------------


def _check_values(body: bytes, values: int, containers: int) -> None:
    """Refuse JSON of more values than may be made; marks within its texts count as well.

    Raises:
        MalformedMessage: it has.
    """
    if len(body) <= min(values, containers):
        return
    if _count(body, b",") > values or _count(body, b"[") + _count(body, b"{") > containers:
        raise MalformedMessage(
            f"The body has more than {values:,} values, or {containers:,} lists and objects:"
            " publish it in parts."
        )


def _count(body: bytes, mark: bytes) -> int:
    return sum(body.count(mark, at, at + PART) for at in range(0, len(body), PART))


def _first(body: bytes) -> bytes:
    """The first byte that is no space."""
    for at in range(0, len(body), PART):
        if part := body[at : at + PART].lstrip():
            return part[:1]
    return b""


_ROW_ENDS = re.compile(rb"\}\s*,\s*(?=\{)")
_ELEMENT_ENDS = re.compile(rb"[\w\]}]\s*,\s*(?=[-\w\[{])|\"\s*,\s*(?=\")")
_COLUMN = re.compile(rb"\s*(\"(?:[^\"\\]|\\.)*\")\s*:\s*(?=\[)")
_COLUMN_ENDS = re.compile(rb"\]\s*(?:,\s*(?=\")|\}\s*\Z)")


def _in_parts(body: bytes, ends: re.Pattern[bytes]) -> Iterator[list[Any]]:
    """A list in parts.

    It is cut where an element may end, by its looks. What is in front of the cut is then valid
    by itself, or else the cut is within a text or a nested value, and a later one is tried.
    """
    at = body.index(b"[") + 1
    size = PART
    while True:
        end = ends.search(body, at + size, at + size + WHOLE)
        if end is None or end.start() + 1 - at > WHOLE:
            _check_whole(len(body) - at)
            yield _whole(b"[" + body[at:])
            return
        try:
            part = decode(b"[" + body[at : end.start() + 1] + b"]")
        except MalformedMessage:
            size = 2 * (end.start() + 1 - at)
        else:
            yield part
            at, size = end.end(), PART


def _columns_in_parts(body: bytes) -> Any:
    """An object of lists, list by list; whatever else it is, as it is."""
    if len(body) <= WHOLE:
        return decode(body)
    columns: dict[str, Any] = {}
    at = body.index(b"{") + 1
    while at < len(body):
        name = _COLUMN.match(body, at, at + WHOLE)
        found = None if name is None else _column(body, name.end())
        if name is None or found is None:
            return _whole(body)
        columns[decode(name[1])], at = found
    return columns


def _column(body: bytes, start: int) -> tuple[list[Any], int] | None:
    """A column that begins at an offset, and where the next one does; None if it is unusual."""
    end = _search(_COLUMN_ENDS, body, start)
    if end is None:
        return None
    column = body[start : end.start() + 1]
    try:
        return list(chain.from_iterable(_in_parts(column, _ELEMENT_ENDS))), end.end()
    except MalformedMessage:
        return None


def _search(pattern: re.Pattern[bytes], body: bytes, start: int) -> re.Match[bytes] | None:
    """The first match, looked for in parts, each of which may see some bytes of the next."""
    for at in range(start, len(body), PART):
        if (found := pattern.search(body, at, at + PART + 1024)) is not None:
            return found
    return None


def _whole(body: bytes) -> Any:
    """A JSON value that cannot be cut.

    Raises:
        MalformedMessage: it is not JSON, or longer than `MAX_WHOLE` bytes.
    """
    if len(body) <= WHOLE:
        return decode(body)
    _check_whole(len(body))
    try:
        return _Patient().decode(body.decode(json.detect_encoding(body), "surrogatepass"))
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise MalformedMessage(f"The body is not JSON ({reason[:200]}).") from None


def _check_whole(size: int) -> None:
    if size > MAX_WHOLE:
        raise MalformedMessage(f"One value of the body has more than {MAX_WHOLE:,} bytes.")


class _Patient(json.JSONDecoder):
    """Reads JSON in Python, so that other threads get their turn."""

    def __init__(self) -> None:
        super().__init__()
        self.scan_once = py_make_scanner(self)
