"""Decoding of data stream messages: JSON, JSON columns, Arrow; compressed or not. Pure.

Content type and content encoding tell the format of a body; a body without them is JSON, as
amqp-fabric publishes it. Received messages are not trusted: the cost of decoding is proportional
to a message's bytes, and its decompressed size is limited before it is decompressed.

Small messages are decoded synchronously, by `read_small`; all others in a thread and in parts,
because C code that reads JSON blocks all other threads until it returns.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final

from fabric_nb.errors import MalformedMessage
from fabric_nb.fabric.amqp.message import Delivery
from fabric_nb.fabric.wire.arrow import (
    MAX_BYTES,
    MAX_VALUES,
    ArrowBody,
    parts_of,
)
from fabric_nb.fabric.wire.content_encodings import TooLong, unpack
from fabric_nb.fabric.wire.formats import ARROW, JSON, JSON_COLUMNS, Table
from fabric_nb.fabric.wire.json_reading import PIECE, read_json, read_list
from fabric_nb.frames.arrow_types import is_simple

SURELY_SMALL: Final = 16 * 1024
SMALL: Final = 256 * 1024
"""Bytes of JSON decoded synchronously: of any content, and of rows with equal keys, few columns."""
NARROW: Final = 200
"""Maximum number of columns that count as few."""
SMALL_ARROW: Final = 1024 * 1024
SMALL_VALUES: Final = 200_000
"""Bytes and values of Arrow that are decoded synchronously, because its columns are only copied."""
MAX_OBJECT, MAX_CONTAINERS = 4 * 1024 * 1024, 1024 * 1024
"""Maximum numbers of values, and of lists and objects, in a message that is a single object."""

Row = Mapping[str, Any]
Columns = Mapping[str, Sequence[Any]]
Batch = Sequence[Row] | Columns | Table


def read_small(delivery: Delivery) -> Batch | None:
    """Return the rows in a message, in the form in which they were sent; None if it is not small.

    Raises:
        MalformedMessage: as `read_parts`.
    """
    body, encoding, kind = delivery.body, delivery.content_encoding, delivery.content_type
    if kind is None or kind != JSON:  # the most common case needs no parsing
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
        batch = _of_json(read_json(body), kind)
        return batch if len(body) <= SURELY_SMALL or _is_narrow(batch) else None
    arrow = ArrowBody(body)
    if arrow.values > SMALL_VALUES or arrow.bytes > SMALL_ARROW:
        return None
    table = arrow.read()
    few = arrow.values <= SMALL_VALUES // 20 and arrow.expanded <= SMALL_ARROW
    small = table.num_columns <= NARROW and (few or is_simple(table.schema))
    return table if small else None


_MARK: Final = secrets.randbelow(9 * 10**16) + 10**16
"""A number of 17 digits that no peer can guess."""
_SEPARATOR: Final = b",%d," % _MARK


def read_together(deliveries: Sequence[Delivery]) -> list[Row] | None:
    """Return the rows of messages that are small JSON objects; None if they are not all so.

    One call of the decoder takes less time than one for each. The bodies are separated by a number
    that no peer can guess: if it is every second value, each body is one value.
    """
    bodies = [delivery.body for delivery in deliveries]
    if set(map(_format_of, deliveries)) - _PLAIN_JSON or max(map(len, bodies)) > SURELY_SMALL:
        return None
    text = _SEPARATOR.join(bodies)
    if len(text) > PIECE:
        return None
    with contextlib.suppress(MalformedMessage):
        values = read_json(b"".join((b"[", text, b"]")))
        rows: list[Row] = values[::2]
        marks = len(bodies) - 1
        if (
            len(values) == len(bodies) + marks
            and values[1::2].count(_MARK) == marks
            and set(map(type, rows)) == {dict}
        ):
            return rows
    return None


_format_of = attrgetter("content_type", "content_encoding")
_PLAIN_JSON = {(None, None), (JSON, None)}


def _is_narrow(batch: Batch) -> bool:
    """Return whether the rows have few columns, so that they become columns at little cost."""
    if isinstance(batch, Mapping):
        return len(batch) <= NARROW
    first = batch[0].keys() if batch else ()
    return len(first) <= NARROW and all(row.keys() == first for row in batch)


def read_parts(delivery: Delivery) -> Iterator[Batch]:
    """Yield the rows in a message in parts, all of one form; to be run in a thread.

    Raises:
        MalformedMessage: it does not have its declared format, has more than `MAX_VALUES` values,
            decompresses to more than `MAX_BYTES` bytes, or has a format that cannot be read here.
    """
    body = delivery.body
    if delivery.content_encoding:
        body = unpack(body, delivery.content_encoding, MAX_BYTES)
    kind = _kind(delivery.content_type)
    if kind == ARROW:
        arrow = ArrowBody(body)
        table = arrow.read()
        yield from parts_of(table, arrow.values) if table.num_rows else (table,)
    elif kind == JSON_COLUMNS and _first(body) == b"{":
        _check_values(body, MAX_VALUES, MAX_CONTAINERS)
        yield _of_json(read_json(body), kind)
    elif kind != JSON_COLUMNS and _first(body) == b"[":
        _check_values(body, MAX_VALUES, MAX_VALUES)
        for part in read_list(body):
            yield _checked_rows(part)
    else:
        _check_values(body, MAX_OBJECT, MAX_CONTAINERS)
        yield _of_json(read_json(body), kind)


def joined(parts: Sequence[Batch]) -> Batch:
    """Join the parts of a message."""
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], (list, tuple)):
        return [row for part in parts for row in part]
    import pyarrow as pa

    return pa.concat_tables(parts)


def rows_of(batch: Batch) -> Sequence[Row]:
    """Return the rows of a batch of any form as mappings."""
    if isinstance(batch, (list, tuple)):
        return batch
    if isinstance(batch, Mapping):
        return [dict(zip(batch, row, strict=True)) for row in zip(*batch.values(), strict=True)]
    return [row for part in parts_of(batch) for row in part.to_pylist()]


def _kind(content_type: str | None) -> str:
    return (content_type or JSON).partition(";")[0].strip().lower()


def _of_json(value: Any, kind: str) -> Batch:
    if kind == JSON_COLUMNS:
        lists = isinstance(value, dict) and all(isinstance(item, list) for item in value.values())
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
    """Refuse JSON with too many values; commas and brackets within its texts count as well.

    Raises:
        MalformedMessage: it may have more.
    """
    if len(body) <= min(values, containers):
        return
    if _count(body, b",") > values or _count(body, b"[") + _count(body, b"{") > containers:
        raise MalformedMessage(
            f"The body has more than {values:,} values, or {containers:,} lists and objects:"
            " publish it in parts."
        )


def _count(body: bytes, mark: bytes) -> int:
    return sum(body.count(mark, at, at + PIECE) for at in range(0, len(body), PIECE))


def _first(body: bytes) -> bytes:
    """Return the first byte that is not white space."""
    for at in range(0, len(body), PIECE):
        if part := body[at : at + PIECE].lstrip():
            return part[:1]
    return b""
