"""Encoding of field tables: headers and arguments, checked before they are sent. Pure.

Tables encoded here are accepted by RabbitMQ (3.10 to 4.3) and by the embedded broker, and are read
as equal values. All other values are refused at the sender, because a broker that cannot read a
table closes the connection, and every call on it is lost. The types are those of AMQP 0-9-1
(section 4.2.5.5) as RabbitMQ interprets them (its "AMQP 0-9-1 Errata", section 3).

Types are chosen as pamqp, and so amqp-fabric, chooses them, except for floats: pamqp truncates
them to 32 bits, and here they keep their 64. RabbitMQ compares a filter with a header by value
(floats of either length are equal when their values are), so a filter is also bound with its
floats truncated as in amqp-fabric's headers. Since 3.13 it compares the times of headers in
milliseconds with those of a filter in seconds, so a filter is bound with both. See `filter_tables`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from itertools import product
from struct import Struct
from typing import Any, Self

from fabric_nb.errors import UnusableHeader
from fabric_nb.fabric.core.values import shown, unboxed

MAX_NAME = 128
"""Maximum bytes of a field's name (AMQP 0-9-1, 4.2.5.5)."""
MAX_NESTING = 32
"""Maximum depth of nested tables and lists; readers of deeper ones fail."""
MAX_TABLE = 131_072 - 4096
"""Maximum bytes of a table: it must fit into one frame, beside the properties of a message."""

_HINTS: dict[type, str] = {
    timedelta: "send its total_seconds()",
    date: "send its isoformat()",
    set: "make it a list",
    frozenset: "make it a list",
    complex: "send its real and imaginary parts",
}

_U32, _U64, _F32, _F64 = Struct(">I"), Struct(">Q"), Struct(">f"), Struct(">d")
_DECIMAL = Struct(">Bi")
_INTEGERS = tuple(
    (kind, low, high, Struct(layout))
    for kind, low, high, layout in (
        (b"b", -(2**7), 2**7, ">b"),
        (b"s", -(2**15), 2**15, ">h"),
        (b"u", 0, 2**16, ">H"),
        (b"I", -(2**31), 2**31, ">i"),
        (b"i", 0, 2**32, ">I"),
        (b"l", -(2**63), 2**63, ">q"),
    )
)


_TEXT_ONLY = {str}
_SECONDS, _MILLISECONDS = 1, 1000


class FieldTable(dict[str, Any]):
    """Checked table, which must not be changed; `raw` are its bytes, with their length."""

    __slots__ = ("raw",)
    raw: bytes

    @classmethod
    def of(cls, fields: Mapping[str, Any], raw: bytes) -> Self:
        """Return the table with its bytes; not a constructor, which would take twice the time."""
        table = cls(fields)
        table.raw = raw
        return table


def checked(fields: Mapping[str, Any], label: str = "header") -> FieldTable:
    """Check and encode a table; a checked table is returned as it is.

    Args:
        fields: values by name: text, numbers, booleans, None, bytes, datetimes with a zone, and
            lists and mappings of these; also scalars of numpy and members of enumerations.
        label: name of a field in errors, as in ``header 'score'``.

    Raises:
        UnusableHeader: a name or value cannot be sent, or the whole table is too long.

    Example:
        >>> checked({"score": float("nan")})
        Traceback (most recent call last):
        fabric_nb.errors.UnusableHeader: header 'score' is nan, and brokers take only finite \
numbers: leave it out, or send it as text.
    """
    if type(fields) is FieldTable:
        return fields
    if "CC" in fields or "BCC" in fields:
        _check_copies(fields, label)
    # Only text is cached, because 1, 1.0 and True are equal as keys.
    if set(map(type, fields.values())) == _TEXT_ONLY:
        return FieldTable.of(fields, _table_of_text(label, tuple(fields.items())))
    return FieldTable.of(fields, _encode(_Encoder(label), fields))


def _check_copies(fields: Mapping[str, Any], label: str) -> None:
    """Refuse headers that RabbitMQ uses as routing keys of copies ("Sender-selected")."""
    for name in ("CC", "BCC"):
        listed = isinstance(fields.get(name, ()), (list, tuple))
        if name in fields and (name == "BCC" or not listed):
            raise UnusableHeader(
                f"{label} {name!r} has a name that RabbitMQ keeps for copies of a message, and"
                f" {'it takes that out' if listed else 'which must be a list'}: choose another."
            )


def filter_tables(fields: Mapping[str, Any], label: str = "filter") -> list[FieldTable]:
    """Return the tables to bind a filter with: several if it contains floats or times.

    A message matches at most one of them.

    Raises:
        UnusableHeader: as `checked`.
    """
    first = checked(fields, label)
    tables = {first.raw: first}
    for truncate, unit in product((False, True), (_SECONDS, _MILLISECONDS)):
        encoder = _Encoder(label, truncate_floats=truncate, unit=unit)
        raw = _encode(encoder, fields)
        tables.setdefault(raw, FieldTable.of(fields, raw))
        if not encoder.ambiguous:
            break
    return list(tables.values())


@lru_cache(maxsize=256)
def _table_of_text(label: str, items: tuple[tuple[str, str], ...]) -> bytes:
    return _encode(_Encoder(label), dict(items))


def _encode(encoder: _Encoder, fields: Mapping[str, Any]) -> bytes:
    raw = encoder.table(fields, ())
    if len(raw) > MAX_TABLE:
        raise UnusableHeader(
            f"The {encoder.label}s take {len(raw):,} bytes, and {MAX_TABLE:,} fit into a frame:"
            " put what is long into the body."
        )
    return raw


class _Encoder:
    """Encoder of one table.

    Attributes:
        ambiguous: True if the table contains a float or a time.
    """

    def __init__(self, label: str, *, truncate_floats: bool = False, unit: int = _SECONDS) -> None:
        self.label = label
        self.ambiguous = False
        self._truncate_floats = truncate_floats
        self._unit = unit

    def table(self, fields: Mapping[Any, Any], at: tuple[Any, ...]) -> bytes:
        named: dict[str, Any] = {}
        for key, value in fields.items():
            # A name of so few characters is not too long, whatever they are.
            short = type(key) is str and len(key) <= MAX_NAME // 4
            name = key if short else self._name(key, at)
            if name in named:
                raise UnusableHeader(f"{self._place((*at, name))} is there twice: rename one.")
            named[name] = value
        parts: list[bytes] = []
        for name in sorted(named):  # as pamqp does
            inner = (*at, name)
            raw = self._utf8(name, inner)
            parts += (bytes((len(raw),)), raw, self._value(named[name], inner))
        return _prefixed(parts)

    def _name(self, key: object, at: tuple[Any, ...]) -> str:
        name = unboxed(key)
        if not isinstance(name, str):
            raise UnusableHeader(
                f"{self._place((*at, name))} has a name of type {type(key).__name__}, and names"
                " are text."
            )
        size = len(self._utf8(name, (*at, name)))
        if size > MAX_NAME:
            raise UnusableHeader(
                f"{self._place((*at, name[:20] + '...'))} has a name of {size} bytes, and"
                f" {MAX_NAME} are allowed: shorten it."
            )
        return name

    def _value(self, value: Any, at: tuple[Any, ...]) -> bytes:
        plain = unboxed(value)
        if type(plain) is str:
            raw = self._utf8(plain, at)
            return b"S" + _U32.pack(len(raw)) + raw
        match plain:
            case bool():
                return b"t\1" if plain else b"t\0"
            case int():
                return self._integer(plain, at)
            case float():
                return self._float(plain, at)
            case None:
                return b"V"
            case bytes() | bytearray() | memoryview():
                return b"x" + _prefixed([bytes(plain)])
            case Mapping() | list() | tuple():
                return self._nested(plain, at)
        return self._other(plain, at)

    def _nested(self, value: Any, at: tuple[Any, ...]) -> bytes:
        if len(at) > MAX_NESTING:
            raise UnusableHeader(
                f"{self.label} {at[0]!r} is nested more than {MAX_NESTING} deep, which readers do"
                " not follow: put it into the body."
            )
        if isinstance(value, Mapping):
            return b"F" + self.table(value, at)
        return b"A" + _prefixed([self._value(item, (*at, n)) for n, item in enumerate(value)])

    def _integer(self, value: int, at: tuple[Any, ...]) -> bytes:
        for kind, low, high, layout in _INTEGERS:
            if low <= value < high:
                return kind + layout.pack(value)
        raise UnusableHeader(
            f"{self._place(at)} is an integer over 64 bits, which no broker takes: send it as text."
        )

    def _float(self, value: float, at: tuple[Any, ...]) -> bytes:
        if not math.isfinite(value):
            raise UnusableHeader(
                f"{self._place(at)} is {value}, and brokers take only finite numbers: leave it"
                " out, or send it as text."
            )
        self.ambiguous = True
        return b"d" + _F64.pack(_truncated(value) if self._truncate_floats else value)

    def _other(self, value: Any, at: tuple[Any, ...]) -> bytes:
        if isinstance(value, datetime):
            self.ambiguous = True
            return b"T" + _U64.pack(self._seconds(value, at) * self._unit)
        if isinstance(value, Decimal):
            return b"D" + self._decimal(value, at)
        hint = next((hint for kind, hint in _HINTS.items() if isinstance(value, kind)), "")
        raise UnusableHeader(
            f"{self._place(at)} is a {type(value).__name__}, which AMQP does not have"
            f"{': ' + hint if hint else ''}."
        )

    def _seconds(self, value: datetime, at: tuple[Any, ...]) -> int:
        if value != value:  # pandas' NaT, of which all methods raise
            raise UnusableHeader(f"{self._place(at)} is no time (NaT): send None, or leave it out.")
        if value.utcoffset() is None:
            raise UnusableHeader(
                f"{self._place(at)} is a time without a zone, and AMQP's times are in UTC: give it"
                " one, as in value.astimezone(), or send its isoformat()."
            )
        if value.microsecond or getattr(value, "nanosecond", 0):
            raise UnusableHeader(
                f"{self._place(at)} is a time with a fraction of a second, and AMQP's times have"
                " none: cut it off with replace(microsecond=0), or send its isoformat()."
            )
        seconds = round(value.timestamp())
        if not 0 <= seconds < 2**32:  # pamqp takes larger numbers for milliseconds
            raise UnusableHeader(
                f"{self._place(at)} is a time before 1970 or after 2106, which AMQP's readers do"
                " not have: send its isoformat()."
            )
        return seconds

    def _decimal(self, value: Decimal, at: tuple[Any, ...]) -> bytes:
        exponent = value.as_tuple().exponent
        if isinstance(exponent, int) and -255 <= exponent <= 0:
            mantissa = int(value.scaleb(-exponent)) if abs(value.adjusted()) < 28 else 2**31
            # Unsigned in AMQP, signed in RabbitMQ.
            if 0 <= mantissa < 2**31:
                return _DECIMAL.pack(-exponent, mantissa)
        raise UnusableHeader(
            f"{self._place(at)} is a Decimal that is negative, or has more than 31 bits or 255"
            " places, which AMQP does not have: send it as text."
        )

    def _utf8(self, text: str, at: tuple[Any, ...]) -> bytes:
        try:
            return text.encode()
        except UnicodeEncodeError:
            raise UnusableHeader(
                f"{self._place(at)} has half a character in it (a lone surrogate), which is no"
                " text: decode what it came from with errors='replace'."
            ) from None

    def _place(self, at: tuple[Any, ...]) -> str:
        name, *inner = at
        first = repr(name) if isinstance(name, (str, int)) else shown(name)
        return f"{self.label} {first}" + "".join(f"[{step!r}]" for step in inner)


def _truncated(value: float) -> float:
    """Return the 32-bit float in amqp-fabric's headers; the float itself if that would be 0."""
    try:
        truncated: float = _F32.unpack(_F32.pack(value))[0]
    except OverflowError:
        return value
    return truncated or value


def _prefixed(parts: Iterable[bytes]) -> bytes:
    data = b"".join(parts)
    return _U32.pack(len(data)) + data
