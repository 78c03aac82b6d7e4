"""Field tables: decoding of untrusted input, and editing without re-encoding.

The types are those of RabbitMQ's "AMQP 0-9-1 Errata", section 3. The nesting of a client's table is
bounded, and every length is checked against the available bytes. Tables that are only forwarded
are edited as raw values (`split_table`, `join_table`), because decoding and encoding them again
would change the types of their values.
"""

import decimal
import functools
import math
import struct
from collections.abc import Iterable, Mapping

from fabric_nb.broker.errors import AMQPError, ReplyCode

MAX_NESTING = 32
"""Maximum nesting of tables and arrays."""


class Timestamp(int):
    """Seconds since 1970, distinct from numbers: the two never match in a headers exchange."""


Value = (
    bool
    | int
    | float
    | decimal.Decimal
    | str
    | bytes
    | bytearray
    | list["Value"]
    | dict[str, "Value"]
    | None
)
Table = dict[str, Value]

_LENGTH = struct.Struct(">I")
_NUMBERS: dict[int, struct.Struct] = {
    ord(code): struct.Struct(layout)
    for code, layout in {
        "b": ">b",
        "B": ">B",
        "s": ">h",
        "u": ">H",
        "I": ">i",
        "i": ">I",
        "l": ">q",
        "L": ">q",
        "f": ">f",
        "d": ">d",
        "t": ">?",
        "T": ">Q",
        "D": ">Bi",
    }.items()
}

_FLOATS = frozenset(b"fd")


def decode_table(data: bytes, start: int = 0, end: int | None = None) -> Table:
    """Decode the table that fills `data[start:end]`, including its length prefix.

    Long strings become `str`, or `bytes` if they are not UTF-8; byte arrays become `bytearray`,
    timestamps `Timestamp`.

    Raises:
        AMQPError: FRAME_ERROR when the bytes are not one well-formed table.
    """
    raw = data[start:end]
    return dict(_decode_cached(raw)) if len(raw) <= _CACHED_SIZE else _decode_whole(raw)


_CACHED_SIZE = 1024


@functools.lru_cache(maxsize=256)
def _decode_cached(raw: bytes) -> Table:
    """Decode a small table; cached, because publishers repeat the same few tables."""
    return _decode_whole(raw)


def _decode_whole(raw: bytes) -> Table:
    try:
        value, position = _table(raw, 0, len(raw), 0)
    except (struct.error, UnicodeDecodeError) as error:
        raise AMQPError(ReplyCode.FRAME_ERROR, f"malformed field table: {error}") from error
    if position != len(raw):
        raise AMQPError(ReplyCode.FRAME_ERROR, "malformed field table: bytes after its end")
    return value


def _bounds(raw: bytes, position: int, end: int) -> tuple[int, int]:
    """Return the start and end of the bytes described by a four-byte length."""
    (length,) = _LENGTH.unpack_from(raw, position)
    start = position + 4
    if start + length > end:
        raise AMQPError(ReplyCode.FRAME_ERROR, "malformed field table: a length runs past its end")
    return start, start + length


def _key(raw: bytes, position: int, end: int) -> tuple[str, int]:
    stop = position + 1 + raw[position]
    if stop >= end:
        raise AMQPError(ReplyCode.FRAME_ERROR, "malformed field table: a name without a value")
    return raw[position + 1 : stop].decode(), stop


def _table(raw: bytes, position: int, end: int, depth: int) -> tuple[Table, int]:
    position, end = _bounds(raw, position, end)
    table: Table = {}
    while position < end:
        name, position = _key(raw, position, end)
        table[name], position = _value(raw, position, end, depth)
    return table, position


def _array(raw: bytes, position: int, end: int, depth: int) -> tuple[list[Value], int]:
    position, end = _bounds(raw, position, end)
    values: list[Value] = []
    while position < end:
        value, position = _value(raw, position, end, depth)
        values.append(value)
    return values, position


def _value(raw: bytes, position: int, end: int, depth: int) -> tuple[Value, int]:
    code = raw[position]
    position += 1
    if code in _NUMBERS:
        return _number(raw, code, position, end)
    if code == ord("V"):
        return None, position
    if code in b"FA":
        if depth >= MAX_NESTING:
            raise AMQPError(ReplyCode.FRAME_ERROR, f"field table nested over {MAX_NESTING} deep")
        nested = _table if code == ord("F") else _array
        return nested(raw, position, end, depth + 1)
    if code in b"Sx":
        start, stop = _bounds(raw, position, end)
        return _string(raw[start:stop], code), stop
    raise AMQPError(ReplyCode.FRAME_ERROR, f"unknown field type {chr(code)!r}")


def _number(raw: bytes, code: int, position: int, end: int) -> tuple[Value, int]:
    layout = _NUMBERS[code]
    stop = position + layout.size
    if stop > end:
        raise AMQPError(ReplyCode.FRAME_ERROR, "malformed field table: a number runs past its end")
    value, *extra = layout.unpack_from(raw, position)
    if code == ord("T"):
        return Timestamp(value), stop
    if code == ord("D"):
        return decimal.Decimal(extra[0]).scaleb(-value), stop
    if code in _FLOATS and not math.isfinite(value):
        # Erlang has no NaN or infinity, so RabbitMQ cannot read the table.
        raise AMQPError(ReplyCode.INTERNAL_ERROR, f"a field is {value}, which is no finite number")
    return value, stop


def _string(raw: bytes, code: int) -> str | bytes | bytearray:
    if code == ord("x"):
        return bytearray(raw)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def split_table(raw: bytes) -> dict[str, bytes]:
    """Divide an encoded table into its fields, each value still encoded with its type.

    Raises:
        AMQPError: FRAME_ERROR when the bytes are not one well-formed table.
    """
    position, end = _bounds(raw, 0, len(raw))
    fields: dict[str, bytes] = {}
    while position < end:
        name, start = _key(raw, position, end)
        _, position = _value(raw, start, end, 0)
        fields[name] = raw[start:position]
    return fields


def join_table(fields: Mapping[str, bytes]) -> bytes:
    """Encode a table from values that are already encoded; the inverse of `split_table`."""
    return _prefixed(b"".join(shortstr(name) + value for name, value in fields.items()))


def split_array(raw: bytes) -> list[bytes]:
    """Divide an encoded array value (with its type code) into its encoded values."""
    position, end = _bounds(raw, 1, len(raw))
    values = []
    while position < end:
        start = position
        _, position = _value(raw, start, end, 0)
        values.append(raw[start:position])
    return values


_TYPE_NAMES: dict[type, str] = {
    type(None): "void",
    bool: "bool",
    int: "signedint",
    float: "double",
    decimal.Decimal: "decimal",
    str: "longstr",
    bytes: "longstr",
    bytearray: "binary",
    list: "array",
    dict: "table",
    Timestamp: "timestamp",
}


def type_name(value: Value) -> str:
    """Return RabbitMQ's name of a value's type; the width of a number is not known."""
    return _TYPE_NAMES[type(value)]


def shortstr(text: str) -> bytes:
    """Encode a short string: at most 255 bytes.

    Raises:
        ValueError: The string is longer.
    """
    data = text.encode()
    return bytes((len(data),)) + data


def longstr_value(text: str) -> bytes:
    """Encode a long string as a field value."""
    return b"S" + _prefixed(text.encode())


def long_value(number: int) -> bytes:
    """Encode a signed 64-bit number as a field value."""
    return b"l" + struct.pack(">q", number)


def timestamp_value(seconds: int) -> bytes:
    """Encode a time, in whole seconds since 1970, as a field value."""
    return b"T" + struct.pack(">Q", seconds)


def array_value(values: Iterable[bytes]) -> bytes:
    """Encode an array of encoded values as a field value."""
    return b"A" + _prefixed(b"".join(values))


def table_value(fields: Mapping[str, bytes]) -> bytes:
    """Encode a table of encoded values as a field value."""
    return b"F" + join_table(fields)


def _prefixed(data: bytes) -> bytes:
    return _LENGTH.pack(len(data)) + data
