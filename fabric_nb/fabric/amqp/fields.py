"""Field tables on their way out: headers and arguments, checked before they leave. Pure.

What is encoded here is taken by RabbitMQ (3.10 to 4.3) and by the embedded broker, and is read back
as the value that it was. All else is refused at the sender, because a broker that cannot read a
table closes the connection, and every call on it is lost. The types are those of AMQP 0-9-1
(section 4.2.5.5) in RabbitMQ's reading (its "AMQP 0-9-1 Errata", section 3).

Types are chosen as pamqp, and so amqp-fabric, chooses them, except for floats: pamqp cuts them to
32 bits, and here they keep their 64. RabbitMQ compares a filter with a header by value (floats of
either length are equal when their values are), so that a filter is also bound with its floats as
amqp-fabric's headers have them. Since 3.13 it compares the times of headers in milliseconds with
those of a filter in seconds, so a filter is bound with both. See `filters`.
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
"""Bytes of a field's name (AMQP 0-9-1, 4.2.5.5)."""
MAX_NESTING = 32
"""Tables and lists inside one another; readers of deeper ones fail."""
MAX_TABLE = 131_072 - 4096
"""Bytes of a whole table: it must fit into one frame, with a message's properties beside it."""

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


_TEXT = {str}
_SECONDS, _MILLISECONDS = 1, 1000


class Fields(dict[str, Any]):
    """A table that was checked. Not to be changed: `raw` are its bytes, with their length."""

    __slots__ = ("raw",)
    raw: bytes

    @classmethod
    def of(cls, fields: Mapping[str, Any], raw: bytes) -> Self:
        """Return the table with its bytes; no constructor, which would take twice the time."""
        made = cls(fields)
        made.raw = raw
        return made


def checked(fields: Mapping[str, Any], what: str = "header") -> Fields:
    """Check a table and encode it, once.

    Args:
        fields: values by name: text, numbers, booleans, None, bytes, datetimes with a zone, and
            lists and mappings of these; scalars of numpy and members of enumerations too.
        what: how one of them is called in an error, as in ``header 'score'``.

    Raises:
        UnusableHeader: a name or value cannot be sent, or all together are too long.

    Example:
        >>> checked({"score": float("nan")})
        Traceback (most recent call last):
        fabric_nb.errors.UnusableHeader: header 'score' is nan, and brokers take only finite \
numbers: leave it out, or send it as text.
    """
    if type(fields) is Fields:
        return fields
    if "CC" in fields or "BCC" in fields:
        _check_copies(fields, what)
    # Only text is remembered: 1, 1.0 and True would be found as one another.
    if set(map(type, fields.values())) == _TEXT:
        return Fields.of(fields, _table_of_text(what, tuple(fields.items())))
    return Fields.of(fields, _whole(_Encoder(what), fields))


def _check_copies(fields: Mapping[str, Any], what: str) -> None:
    """Refuse headers that RabbitMQ takes for the routing keys of copies ("Sender-selected")."""
    for name in ("CC", "BCC"):
        listed = isinstance(fields.get(name, ()), (list, tuple))
        if name in fields and (name == "BCC" or not listed):
            raise UnusableHeader(
                f"{what} {name!r} has a name that RabbitMQ keeps for copies of a message, and"
                f" {'it takes that out' if listed else 'which must be a list'}: choose another."
            )


def filters(fields: Mapping[str, Any], what: str = "filter") -> list[Fields]:
    """Return the tables that a filter is bound with: several if it has floats or times in it.

    A message meets at most one of them.

    Raises:
        UnusableHeader: as `checked`.
    """
    first = checked(fields, what)
    found = {first.raw: first}
    for cut, unit in product((False, True), (_SECONDS, _MILLISECONDS)):
        encoder = _Encoder(what, cut_floats=cut, unit=unit)
        raw = _whole(encoder, fields)
        found.setdefault(raw, Fields.of(fields, raw))
        if not encoder.ambiguous:
            break
    return list(found.values())


@lru_cache(maxsize=256)
def _table_of_text(what: str, items: tuple[tuple[str, str], ...]) -> bytes:
    return _whole(_Encoder(what), dict(items))


def _whole(encoder: _Encoder, fields: Mapping[str, Any]) -> bytes:
    raw = encoder.table(fields, ())
    if len(raw) > MAX_TABLE:
        raise UnusableHeader(
            f"The {encoder.what}s take {len(raw):,} bytes, and {MAX_TABLE:,} fit into a frame:"
            " put what is long into the body."
        )
    return raw


class _Encoder:
    """Encodes one table.

    Attributes:
        ambiguous: whether there was a float or a time in it.
    """

    def __init__(self, what: str, *, cut_floats: bool = False, unit: int = _SECONDS) -> None:
        self.what = what
        self.ambiguous = False
        self._cut_floats = cut_floats
        self._unit = unit

    def table(self, fields: Mapping[Any, Any], at: tuple[Any, ...]) -> bytes:
        named: dict[str, Any] = {}
        for key, value in fields.items():
            # So short a name is not too long, of whatever characters.
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
                f"{self.what} {at[0]!r} is nested more than {MAX_NESTING} deep, which readers do"
                " not follow: put it into the body."
            )
        if isinstance(value, Mapping):
            return b"F" + self.table(value, at)
        return b"A" + _prefixed([self._value(one, (*at, n)) for n, one in enumerate(value)])

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
        return b"d" + _F64.pack(_cut(value) if self._cut_floats else value)

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
            # AMQP has it without a sign, RabbitMQ with one.
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
        return f"{self.what} {first}" + "".join(f"[{step!r}]" for step in inner)


def _cut(value: float) -> float:
    """Return the 32-bit float that amqp-fabric's headers carry; the float itself if it is 0."""
    try:
        cut: float = _F32.unpack(_F32.pack(value))[0]
    except OverflowError:
        return value
    return cut or value


def _prefixed(parts: Iterable[bytes]) -> bytes:
    data = b"".join(parts)
    return _U32.pack(len(data)) + data
