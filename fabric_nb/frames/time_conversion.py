"""Conversion of text, datetimes and numbers to datetime64, and back; vectorised, no I/O.

Text, datetime objects, and numbers of a given unit may be times. Values with a zone, and numbers
since 1970, are stored in UTC. A `SourceFormat` restores the original values, so that nothing is
lost if a later value of the column is no time.

The text format is narrow, so that a part number is not read as a time: ``2024-05-31``,
or with a time of day ``2024-05-31T12:30:00``, after a ``T`` or one space, with up to nine digits of
a second and a zone of ``Z`` or ``+02:00``. Texts with a zone and texts without do not mix.

numpy parses the texts of one layout. `pandas.to_datetime(texts, format="ISO8601")` would need the
same checks of layouts and years around it, and its place in `IsoFormat.read` makes `from_text` take
0.9 to 1.1 of its time with pandas 3.1 and 1.4 to 11 with pandas 2.2, which has no times before
1677 or after 2262 (1e5 and 1e6 texts from JSON in nine layouts, best of 3 to 9 runs).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

Array: TypeAlias = npt.NDArray[Any]
Unit: TypeAlias = Literal["s", "ms", "us", "ns"]

NANOSECONDS: dict[Unit, int] = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}

TEXT = frozenset({str})
NUMBERS = frozenset({int, float})
_NUMBER_DTYPES = {int: np.int64, float: np.float64}
DATETIMES = frozenset({datetime, pd.Timestamp})

# Source formats in one column; more of them means that the text does not come from a clock.
MAX_FORMATS = 255

# Layout of a time: the text with each digit replaced by 0, except those of the zone offset.
_LAYOUT = re.compile(
    r"0000-00-00(?:([T ])00:00:00(?:\.(0{1,9}))?(Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])?)?"
)
_ZEROS = str.maketrans("123456789", "000000000")

# Years beyond four digits cannot be written back; datetime64[ns] covers only a part of 1677.
_YEARS_US = ("0001", "9999")
_YEARS_NS = ("1678", "2261")


class SourceFormat(Protocol):
    """Original format of converted values, which restores them."""

    def restore(self, values: Array) -> list[Any]:
        """Return the original values; none of `values` is missing."""


@dataclass(frozen=True, slots=True)
class Times:
    """Converted times.

    Attributes:
        values: datetime64[us], or datetime64[ns] if needed; NaT for missing ones.
        zoned: True if the values are in UTC, False if they have no zone.
        formats: Source formats.
        codes: Index into `formats` for each value; None if there is only one format.
    """

    values: Array
    zoned: bool
    formats: tuple[SourceFormat, ...]
    codes: Array | None = None


@dataclass(frozen=True, slots=True)
class DatetimeFormat:
    """Format of datetime objects and datetime64."""

    zoned: bool

    def restore(self, values: Array) -> list[pd.Timestamp]:
        """Return Timestamps, in UTC if they had a zone."""
        return list(pd.DatetimeIndex(values).tz_localize("UTC" if self.zoned else None))


@dataclass(frozen=True, slots=True)
class EpochFormat:
    """Format of numbers of units since 1970.

    Attributes:
        number: Type of the numbers.
        unit: Nanoseconds in one unit.
    """

    number: type[int] | type[float]
    unit: int

    def restore(self, values: Array) -> list[int] | list[float]:
        """Return the numbers; floats exactly from April 1970 on, before that to the nanosecond."""
        whole, remainder = np.divmod(values.astype("M8[ns]").view(np.int64), self.unit)
        numbers = whole if self.number is int else whole.astype(np.float64) + remainder / self.unit
        originals: list[int] | list[float] = numbers.tolist()
        return originals


@dataclass(frozen=True, slots=True)
class IsoFormat:
    """Layout of ISO 8601 text.

    Attributes:
        separator: Character between date and time of day: ``T``, a space, or empty for a date
            alone.
        digits: Digits of the fraction of a second: 0 to 9.
        zone: ``Z``, an offset such as ``+02:00``, or empty.
    """

    separator: str
    digits: int
    zone: str

    def restore(self, values: Array) -> list[str]:
        """Return the texts from which these values were read."""
        local_times = (values + self._offset).astype(values.dtype)
        local: list[str] = np.datetime_as_string(local_times).tolist()
        if not self.separator:
            return [text[:10] for text in local]
        end = 20 + self.digits if self.digits else 19
        return [f"{text[:10]}{self.separator}{text[11:end]}{self.zone}" for text in local]

    @property
    def unit(self) -> Literal["us", "ns"]:
        """Unit of the values: microseconds, or nanoseconds for more than six digits."""
        return "ns" if self.digits > 6 else "us"

    def read(self, texts: Sequence[str]) -> Array | None:
        """Parse texts of this layout; None if one is not a time, for example in month 13."""
        first, last = _YEARS_NS if self.unit == "ns" else _YEARS_US
        if self.unit == "ns" and not first <= min(texts)[:4] <= max(texts)[:4] <= last:
            return None  # numpy would wrap around
        end = -len(self.zone) or None  # numpy warns of zones
        try:
            values = np.array([text[:end] for text in texts], dtype=f"M8[{self.unit}]")
        except ValueError:
            return None
        values -= self._offset
        # Year 0, or a day that the offset has moved out of the range.
        valid = (values >= np.datetime64(first)) & (
            values < np.datetime64(last) + np.timedelta64(1, "Y")
        )
        return values if valid.all() else None

    @property
    def _offset(self) -> np.timedelta64:
        if self.zone in {"", "Z"}:
            return np.timedelta64(0, "m")
        minutes = int(self.zone[1:3]) * 60 + int(self.zone[4:6])
        return np.timedelta64(-minutes if self.zone[0] == "-" else minutes, "m")


# -- text ------------------------------------------------------------------------------------------


def looks_like_time(text: str) -> bool:
    """Return whether a text has the layout of a time, though it may be the 31st of June."""
    layouts = _layouts([text])
    return bool(layouts and _formats_by_layout(layouts))


def from_text(texts: Sequence[str | None]) -> Times | None:
    """Parse texts as times; None if one is not a time, or only some have a zone.

    Example:
        >>> from_text(["2024-05-31T12:30:00+02:00", None]).values
        array(['2024-05-31T10:30:00.000000',                        'NaT'],
              dtype='datetime64[us]')
    """
    present = [text for text in texts if text is not None]
    if not present or not looks_like_time(present[0]):
        return None
    layouts = _layouts(present)
    formats = _formats_by_layout(layouts) if layouts else None
    if layouts is None or formats is None:
        return None
    unit = "ns" if any(source_format.unit == "ns" for source_format in formats.values()) else "us"
    values = np.full(len(texts), "NaT", dtype=f"M8[{unit}]")
    codes = np.zeros(len(texts), dtype=np.uint8)
    filled = np.arange(len(texts))
    if len(present) < len(texts):
        filled = filled[[text is not None for text in texts]]
    for code, (layout, source_format) in enumerate(formats.items()):
        rows, written = filled, present
        if len(formats) > 1:
            places = [place for place, row_layout in enumerate(layouts) if row_layout == layout]
            rows, written = filled[places], [present[place] for place in places]
        read = source_format.read(written)
        converted = None if read is None else _convert_unit(read, unit)
        if converted is None:
            return None
        values[rows], codes[rows] = converted, code
    zoned = any(source_format.zone for source_format in formats.values())
    return Times(values, zoned, tuple(formats.values()), codes if len(formats) > 1 else None)


def _layouts(texts: Sequence[str]) -> list[str] | None:
    """Return the layout of each text; None if one contains a line break."""
    layouts = "\n".join(texts).translate(_ZEROS).split("\n")
    if len(layouts) != len(texts):
        return None
    distinct = set(layouts)
    offsets = {layout for layout in distinct if len(layout) > 10 and layout[-6] in "+-"}
    if not offsets:
        return layouts
    zones = [text[-6:] for text in texts]
    if len(distinct) == len(set(zones)) == 1:
        # One zone throughout, as from one clock in one season: layouts need not be built singly.
        return [layouts[0][:-6] + zones[0]] * len(texts)
    return [
        layout[:-6] + zone if layout in offsets else layout
        for layout, zone in zip(layouts, zones, strict=True)
    ]


def _formats_by_layout(layouts: Sequence[str]) -> dict[str, IsoFormat] | None:
    """Return the format of each distinct layout; None if they do not fit in one column."""
    formats: dict[str, IsoFormat] = {}
    for layout in dict.fromkeys(layouts):
        match = _LAYOUT.fullmatch(layout)
        if match is None or len(formats) == MAX_FORMATS:
            return None
        formats[layout] = IsoFormat(match[1] or "", len(match[2] or ""), match[3] or "")
    zoned = {bool(source_format.zone) for source_format in formats.values()}
    return formats if len(zoned) == 1 else None


# -- numbers ---------------------------------------------------------------------------------------


def from_numbers(values: Sequence[int | float | None], unit: Unit) -> Times | None:
    """Convert numbers of units since 1970; None if one is outside the range of datetime64[ns]."""
    times = np.full(len(values), "NaT", dtype="M8[ns]")
    codes = np.zeros(len(values), dtype=np.uint8)
    formats: list[EpochFormat] = []
    for number, dtype in _NUMBER_DTYPES.items():
        rows = [row for row, value in enumerate(values) if type(value) is number]
        if not rows:
            continue
        try:
            numbers = np.array([values[row] for row in rows], dtype=dtype)
        except OverflowError:
            return None
        part = _nanoseconds(numbers, NANOSECONDS[unit])
        if part is None:
            return None
        times[rows], codes[rows] = part, len(formats)
        formats.append(EpochFormat(number, NANOSECONDS[unit]))
    return Times(times, True, tuple(formats), codes if len(formats) > 1 else None)


def from_number_array(numbers: Array, unit: Unit) -> Times | None:
    """Convert an array of int64 or float64 like `from_numbers`; NaN is missing."""
    number = float if numbers.dtype.kind == "f" else int
    times = _nanoseconds(numbers, NANOSECONDS[unit])
    return None if times is None else Times(times, True, (EpochFormat(number, NANOSECONDS[unit]),))


def _nanoseconds(numbers: Array, unit: int) -> Array | None:
    gaps = np.isnan(numbers)
    is_float = numbers.dtype.kind == "f"
    whole = np.where(gaps, 0, np.floor(numbers)) if is_float else numbers
    # One less: as a float the limit may round up, beyond the range of int64.
    limit = np.iinfo(np.int64).max // unit - 1
    if ((whole >= limit) | (whole <= -limit)).any():
        return None
    result = whole.astype(np.int64) * unit
    if is_float:
        result += np.rint(np.where(gaps, 0, numbers - whole) * unit).astype(np.int64)
    times = result.view("M8[ns]")
    times[gaps] = np.datetime64("NaT", "ns")
    return times


# -- datetime objects ------------------------------------------------------------------------------


def from_datetimes(values: Sequence[datetime | None]) -> Times | None:
    """Convert datetimes and Timestamps; None if only some have a zone or one is out of range."""
    zones = {value.tzinfo is not None for value in values if value is not None}
    if len(zones) != 1:
        return None
    unit: Literal["us", "ns"] = (
        "ns" if any(getattr(value, "nanosecond", 0) for value in values) else "us"
    )
    zoned = zones.pop()
    try:
        if zoned and all(value is None or value.tzinfo is UTC for value in values):
            values = [value and value.replace(tzinfo=None) for value in values]
        elif zoned:
            values = [value and pd.Timestamp(value).tz_convert(None) for value in values]
        index = pd.DatetimeIndex(list(values), dtype=f"datetime64[{unit}]")
    except (ValueError, OverflowError):
        return None
    return Times(index.to_numpy(), zoned, (DatetimeFormat(zoned),))


def from_datetime_array(array: Array, *, zoned: bool) -> Times | None:
    """Convert a datetime64 array; None if it is out of the range of microseconds."""
    unit = "ns" if np.datetime_data(array.dtype)[0] == "ns" else "us"
    times = _convert_unit(array, unit)
    return None if times is None else Times(times, zoned, (DatetimeFormat(zoned),))


# -- mixtures --------------------------------------------------------------------------------------


def from_mixed(values: Sequence[Any], unit: Unit | None) -> Times | None:
    """Convert a mixture of text, datetimes and, with a unit, numbers; None if one is no time."""
    parts = []
    for types in (TEXT, DATETIMES, NUMBERS):
        same_type = [value if type(value) in types else None for value in values]
        if all(value is None for value in same_type):
            continue
        if types is NUMBERS:
            part = from_numbers(same_type, unit) if unit else None
        else:
            part = from_text(same_type) if types is TEXT else from_datetimes(same_type)
        if part is None:
            return None
        parts.append(part)
    return _merge(parts)


def _merge(parts: Sequence[Times]) -> Times | None:
    """Merge conversions of disjoint rows."""
    formats = tuple(source_format for part in parts for source_format in part.formats)
    if len({part.zoned for part in parts}) > 1 or len(formats) > MAX_FORMATS:
        return None
    unit = "ns" if any(part.values.dtype == "M8[ns]" for part in parts) else "us"
    merged = np.full(len(parts[0].values), "NaT", dtype=f"M8[{unit}]")
    codes = np.zeros(len(merged), dtype=np.uint8)
    for part in parts:
        values = _convert_unit(part.values, unit)
        if values is None:
            return None
        rows = ~np.isnat(values)
        merged[rows] = values[rows]
        codes[rows] = formats.index(part.formats[0])
        if part.codes is not None:
            codes[rows] += part.codes[rows]
    return Times(merged, parts[0].zoned, formats, codes)


def in_nanoseconds(values: Array) -> Array | None:
    """Return times as datetime64[ns]; None if one lies outside 1677 to 2262."""
    return _convert_unit(values, "ns")


def _convert_unit(values: Array, unit: str) -> Array | None:
    try:
        converted = values.astype(f"M8[{unit}]", copy=False)
    except OverflowError:  # from numpy 2.5 on
        return None
    # Older versions wrap around on overflow, which the conversion back reveals.
    lost = (converted.astype(values.dtype) != values) & ~np.isnat(values)
    return None if lost.any() else converted


def utc_times(seconds: pd.Series[Any]) -> pd.Series[Any]:
    """Return seconds since 1970 as times in UTC, rounded to milliseconds.

    The further digits of a float timestamp are noise.
    """
    whole = (seconds.astype("float64") * 1000).round().astype("int64").astype("datetime64[ms]")
    return whole.dt.tz_localize("UTC")
