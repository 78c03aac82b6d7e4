"""Messages of data streams as they come: JSON, JSON columns, Arrow; compressed or not. Pure.

What a body is, its content type and content encoding tell; a body without them is JSON, as
amqp-fabric publishes it. Everything read comes from elsewhere and is bounded and checked: the cost
of a message follows its bytes, and what it may unpack to is bounded before it is made.

Small messages are read at once, by `read_small`. All others are for a thread, and there in parts:
C code that reads JSON holds up all other threads until it returns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from fabric_nb.errors import MalformedMessage
from fabric_nb.fabric.amqp.message import Delivery
from fabric_nb.fabric.wire.arrow import (
    MAX_BYTES,
    MAX_VALUES,
    Measured,
    parts_of,
)
from fabric_nb.fabric.wire.content_encodings import TooLong, unpack
from fabric_nb.fabric.wire.json_reading import PIECE, read_json, read_list
from fabric_nb.frames.normalisation import is_simple

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
        batch = _of_json(read_json(body), kind)
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
        yield _of_json(read_json(body), kind)
    elif kind != JSON_COLUMNS and _first(body) == b"[":
        _check_values(body, MAX_VALUES, MAX_VALUES)
        for part in read_list(body):
            yield _checked_rows(part)
    else:
        _check_values(body, MAX_OBJECT, MAX_CONTAINERS)
        yield _of_json(read_json(body), kind)


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
    return sum(body.count(mark, at, at + PIECE) for at in range(0, len(body), PIECE))


def _first(body: bytes) -> bytes:
    """The first byte that is no space."""
    for at in range(0, len(body), PIECE):
        if part := body[at : at + PIECE].lstrip():
            return part[:1]
    return b""
