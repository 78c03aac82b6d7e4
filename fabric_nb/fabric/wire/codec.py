"""Encoding of Python values, including DataFrames and Series, as JSON. Pure.

Every peer reads JSON. A value that JSON cannot represent is refused at the sender, with its
position, and never replaced by its `repr`. A DataFrame or Series is sent as plain records with a
descriptor (see `tables`), from which another fabric_nb member restores it.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import math
import uuid
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, cast

import orjson

from fabric_nb.errors import NotSerializable
from fabric_nb.fabric.core.values import error_text, shown, unboxed
from fabric_nb.fabric.wire.json_reading import read_json
from fabric_nb.libraries import importing, is_imported, is_series, is_table

if TYPE_CHECKING:
    import pandas as pd

    from fabric_nb.fabric.wire.tables import Path, Tables

_HINTS: dict[type, str] = {
    bytes: "decode it to text, or publish it as data",
    bytearray: "decode it to text, or publish it as data",
    set: "make it a list",
    frozenset: "make it a list",
    complex: "send its real and imaginary parts",
    Decimal: "send its text, or a float",
    Fraction: "send its text, or a float",
    dt.timedelta: "send its total_seconds()",
    PurePath: "send its text",
    Iterable: "make it a list",
}

_EXACT = (
    orjson.OPT_PASSTHROUGH_SUBCLASS
    | orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
)
"""Options with which orjson encodes only values that it decodes as equal ones; others are converted
by `_simple` or `_Plain`. By default it omits some fields of a dataclass, and the seconds of a time
zone's offset."""


def encode(value: object, *, label: str = "value") -> tuple[bytes, str | None]:
    """Return the JSON bytes of `value`, and the descriptor of the tables in it, if any.

    Dates and times become ISO 8601 text, tuples and numpy arrays become lists, NaN stays NaN
    (as Python's own `json` writes it), and numbers as keys become text.

    Args:
        value: value to send.
        label: name of the value in errors, as in ``argument 'x'``.

    Raises:
        NotSerializable: a part of it cannot be JSON, or raises when it is read; the message
            names it and its position. No other exception, except for those that end a program.

    Example:
        >>> encode({"x": 1})
        (b'{"x":1}', None)
    """
    try:
        body = orjson.dumps(value, _simple, _EXACT)
    except Exception:  # noqa: BLE001 - not plain JSON, or a number too large for orjson
        body = None
    if body is not None and _kept_numbers(body, value):
        return body, None
    return _encode_slowly(value, label)


def encode_columns(columns: Mapping[Any, Any], *, label: str) -> bytes:
    """Return the JSON of columns: an object of lists.

    Args:
        columns: columns by name, each a list, an array or a Series.
        label: name of all columns in errors.

    Raises:
        NotSerializable: as `encode`.
    """
    plain = _Plain(label)
    listed = {
        name: plain.cells(column, name) if is_series(column) else column
        for name, column in columns.items()
    }
    return encode(listed, label=label)[0]


def _simple(value: object) -> Any:
    """Convert a value of the most common types as `_Plain` does; callback of orjson."""
    if type(value) in (dt.datetime, dt.date, dt.time):
        return cast("dt.date", value).isoformat()
    if type(value) in (OrderedDict, defaultdict, Counter):
        return dict(cast("dict[Any, Any]", value))
    raise TypeError


def decode(body: bytes, tables: object = None) -> Any:
    """Return the value that was encoded as `body`, with its tables restored.

    Args:
        body: JSON, as returned by `encode`.
        tables: descriptor that was received with it; ignored if it does not match.

    Raises:
        MalformedMessage: the body is not JSON.
        UnusableLibrary: it has tables, and pandas cannot be imported.
    """
    value = read_json(body)
    if isinstance(tables, str):
        with importing("pandas"):
            from fabric_nb.fabric.wire.tables import restore_tables
        value = restore_tables(value, tables)
    return value


def _encode_slowly(value: object, label: str) -> tuple[bytes, str | None]:
    conversion = _Plain(label)
    try:
        return _dumps(conversion.of(value, ())), conversion.descriptor()
    except NotSerializable:
        raise
    except RecursionError:
        raise NotSerializable(f"{label} is nested too deeply to be sent.") from None
    except MemoryError:
        raise NotSerializable(f"{label} is too large to be sent: memory ran out.") from None
    except Exception as error:
        raise NotSerializable(f"{label} cannot be sent: {error_text(error)}.") from error


def _dumps(plain: object) -> bytes:
    try:
        body = orjson.dumps(plain)
    except TypeError:  # integers over 64 bits, text with lone surrogates
        return json.dumps(plain).encode()
    if not _kept_numbers(body, plain):
        return json.dumps(plain, ensure_ascii=False).encode()
    return body


def _kept_numbers(body: bytes, value: object) -> bool:
    """Return whether no NaN or infinity became null; searched only if there is a null."""
    return b"null" not in body or all(map(math.isfinite, _floats(value)))


def _floats(value: object) -> Iterator[float]:
    """Yield the floats in a plain value, and NaN for each object that may contain some."""
    if isinstance(value, float):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _floats(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _floats(item)
    elif not isinstance(value, (str, int, type(None), dt.date, dt.time)):
        yield math.nan


class _Plain:
    """Conversion of one value to plain JSON values, which also collects its tables."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._tables: Tables | None = None

    def of(self, value: Any, at: Path) -> Any:
        try:
            match value:
                case None | str() | int() | float():
                    return unboxed(value)
                case Mapping():
                    return self._mapping(value, at)
                case list() | tuple():
                    return [self.of(item, (*at, index)) for index, item in enumerate(value)]
            if is_table(value):
                return self._table(value, at)
            return self._scalar(value, at)
        except (NotSerializable, RecursionError, MemoryError):
            raise
        except Exception as error:
            raise NotSerializable(
                f"{self.place(at)} is a {type(value).__name__} that cannot be read to be sent:"
                f" {error_text(error)}."
            ) from error

    def cells(self, column: pd.Series[Any], name: str) -> list[Any]:
        """Return the cells of a column, without its index."""
        from fabric_nb.fabric.wire.tables import cells

        return cells(column, (name,), self)

    def descriptor(self) -> str | None:
        """Return the descriptor of the tables found; None if there was none."""
        return None if self._tables is None else self._tables.descriptor()

    def _table(self, table: pd.DataFrame | pd.Series[Any], at: Path) -> Any:
        if self._tables is None:
            from fabric_nb.fabric.wire.tables import Tables

            self._tables = Tables()
        return self._tables.add(table, at, self)

    def _mapping(self, mapping: Mapping[Any, Any], at: Path) -> dict[str, Any]:
        plain: dict[str, Any] = {}
        for key, item in mapping.items():
            text = self._key(key, at)
            if text in plain:
                raise NotSerializable(
                    f"{self.place(at)} has the key {text[:40]!r} twice, as text and as a number:"
                    " JSON keys are text, so rename one of them."
                )
            plain[text] = self.of(item, (*at, text))
        return plain

    def _scalar(self, value: Any, at: Path) -> Any:
        if is_imported("numpy"):
            from fabric_nb.fabric.wire.array_values import plain_value

            # First, because missing values of pandas count as datetimes.
            if (plain := plain_value(value, at, self)) is not NotImplemented:
                return plain
        match value:
            case dt.datetime() | dt.date() | dt.time():
                return value.isoformat()
            case Enum():
                return self.of(value.value, at)
            case uuid.UUID():
                return str(value)
            case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
                names = [field.name for field in dataclasses.fields(value)]
                return {name: self.of(getattr(value, name), (*at, name)) for name in names}
        raise self.refuse(value, at)

    def _key(self, key: object, at: Path) -> str:
        plain = unboxed(key)
        if isinstance(plain, str):
            return plain
        if plain is None or isinstance(plain, (bool, int, float)):
            return str(json.dumps(plain))
        raise NotSerializable(
            f"{self.place(at)} has the key {shown(key)} of type {type(key).__name__}, and JSON"
            " keys are text: use text keys."
        )

    def refuse(self, value: object, at: Path, hint: str = "") -> NotSerializable:
        """Return the error for a value that JSON cannot represent."""
        hint = hint or _hint(value)
        if hasattr(type(value), "__arrow_c_stream__"):
            hint = "publish it with format='arrow', or send its rows"
        return NotSerializable(
            f"{self.place(at)} is a {type(value).__name__}, which JSON cannot carry"
            f"{': ' + hint if hint else ''}."
        )

    def place(self, at: Path) -> str:
        """Return a position in the value as a Python expression: ``argument 'x'[2]['name']``."""
        return self._label + "".join(f"[{step!r}]" for step in at)


def _hint(value: object) -> str:
    """Return an advice on a value that JSON cannot represent; empty if there is none."""
    if is_imported("numpy"):
        from fabric_nb.fabric.wire import array_values

        if found := array_values.hint(value):
            return found
    return next((text for kind, text in _HINTS.items() if isinstance(value, kind)), "")
