"""Strict decoding, and encoding, of `pamqp`'s method classes.

`pamqp.commands` defines the methods and their arguments. Its decoder accepts truncated strings and
does not bound recursion, so the arguments are decoded here.
"""

import struct
from typing import Any

from pamqp import base, commands, encode

from fabric_nb.broker.errors import AMQPError, ReplyCode
from fabric_nb.broker.field_table import decode_table

_METHODS: dict[bytes, type[base.Frame]] = {
    struct.pack(">I", index): method for index, method in commands.INDEX_MAPPING.items()
}
_INTEGERS = {
    "octet": struct.Struct(">B"),
    "short": struct.Struct(">H"),
    "long": struct.Struct(">I"),
    "longlong": struct.Struct(">Q"),
}
_LENGTH = struct.Struct(">I")


def decode_method(payload: bytes) -> base.Frame:
    """Decode the payload of a method frame.

    Raises:
        AMQPError: NOT_IMPLEMENTED for an unknown method, FRAME_ERROR for malformed arguments.
    """
    method_class = _METHODS.get(payload[:4])
    if method_class is None:
        raise AMQPError(ReplyCode.NOT_IMPLEMENTED, f"unknown method {payload[:4].hex()}")
    # Bypasses the constructor, whose checks are narrower than RabbitMQ's.
    method = method_class.__new__(method_class)
    try:
        _read_arguments(method, payload)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise AMQPError(ReplyCode.FRAME_ERROR, f"malformed {method.name}: {error}") from error
    return method


def _read_arguments(method: base.Frame, payload: bytes) -> None:
    position, bit = 4, 0
    for argument in method.attributes():
        kind = method.amqp_type(argument)
        if kind == "bit":
            # Consecutive bits share an octet (AMQP 0-9-1, section 4.2.5.2).
            position += bit == 0
            value: Any = bool(payload[position - 1] >> bit & 1)
            bit = (bit + 1) % 8
        else:
            bit = 0
            value, position = _read(kind, payload, position)
        setattr(method, argument, value)
    if position != len(payload):
        raise AMQPError(ReplyCode.FRAME_ERROR, f"malformed {method.name}: bytes after its end")


def _read(kind: str, payload: bytes, position: int) -> tuple[Any, int]:
    if kind in _INTEGERS:
        layout = _INTEGERS[kind]
        return layout.unpack_from(payload, position)[0], position + layout.size
    if kind == "shortstr":
        start = position + 1
        stop = start + payload[position]
    else:
        start = position + 4
        stop = start + _LENGTH.unpack_from(payload, position)[0]
    if stop > len(payload):
        raise IndexError("a length runs past its end")
    if kind == "table":
        return decode_table(payload, position, stop), stop
    data = payload[start:stop]
    return (data.decode() if kind == "shortstr" else data), stop


def encode_method(method: base.Frame) -> bytes:
    """Encode a method as the payload of a method frame.

    Names are not limited to the character set of `pamqp`, because RabbitMQ accepts any UTF-8 name.
    A table must be given as bytes, see `field_table.join_table`.
    """
    parts = [_LENGTH.pack(method.index)]
    bits, count = 0, 0
    for argument in method.attributes():
        kind = method.amqp_type(argument)
        value = getattr(method, argument)
        if kind == "bit":
            bits |= bool(value) << count
            count += 1
            continue
        if count:
            parts.append(bytes((bits,)))
            bits, count = 0, 0
        # Tables are already encoded, because pamqp would sort their fields.
        parts.append(value if kind == "table" else encode.by_type(value, kind))
    if count:
        parts.append(bytes((bits,)))
    return b"".join(parts)
