"""DataFrames and Series in JSON: plain records, with a descriptor from which they are restored.

An amqp-fabric peer reads the records. The descriptor is sent in a header that such a peer ignores;
it has the positions of the tables and their columns and index. A received descriptor is checked:
if it does not match, the records stay plain.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypedDict, cast

import numpy as np
import pandas as pd

from fabric_nb.errors import NotSerializable
from fabric_nb.fabric.core.values import shown, unboxed

log = logging.getLogger(__name__)

MAX_DESCRIPTOR = 64 * 1024
"""Maximum bytes; a header must fit into one AMQP frame (AMQP 0-9-1, 4.2.6)."""

Path = tuple[str | int, ...]

_DTYPE = re.compile(
    r"(?:u?int(?:8|16|32|64)|U?Int(?:8|16|32|64)|float(?:32|64)|Float(?:32|64)|bool|boolean|object"
    r"|str|string|category|datetime64\[(?:s|ms|us|ns)(?:, [A-Za-z0-9_+:/-]{1,40})?\]"
    r"|timedelta64\[(?:s|ms|us|ns)\])\Z"
)


_LONG_DURATION = re.compile(r"P(-?\d+)DT(\d+)H(\d+)M(\d+)(?:\.(\d{1,9}))?S\Z", re.ASCII)
"""Format of pandas; with at most six decimals in units other than nanoseconds."""
_SIGNS = frozenset("+-")


class _Categories(TypedDict):
    values: list[Any]
    dtype: str
    ordered: bool


class _Column(TypedDict, total=False):
    key: str
    label: Any
    dtype: str
    categories: _Categories
    range: list[int]


class _Descriptor(TypedDict, total=False):
    at: list[str | int]
    columns: list[_Column]
    index: list[_Column]
    range: list[Any]
    heading: Any
    series: bool


class Field(NamedTuple):
    """Column of a table, or level of its index, to be sent.

    Attributes:
        key: its name in a record.
        label: its name in the table.
        values: its cells; for a level, with the level as index too.
    """

    key: str
    label: Any
    values: pd.Series[Any]


class Encoder(Protocol):
    """Conversion of cells to JSON values; see `codec`."""

    def of(self, value: Any, at: Path) -> Any:
        """Return a value in its JSON form."""

    def place(self, at: Path) -> str:
        """Return a position in its form for errors."""

    def refuse(self, value: object, at: Path, hint: str = "") -> NotSerializable:
        """Return the error for a value that JSON cannot represent."""


class Tables:
    """Tables found while one value is encoded."""

    def __init__(self) -> None:
        self._found: list[_Descriptor] = []

    def add(self, table: pd.DataFrame | pd.Series[Any], at: Path, encoder: Encoder) -> Any:
        """Return the plain form of a table and record its descriptor.

        A DataFrame becomes a list of records, with its index as further fields, except for a plain
        row counter. A Series with a plain row counter becomes a list, any other a list of records.

        Raises:
            NotSerializable: duplicate or nested column labels, or a column type that JSON cannot
                represent.
        """
        series = isinstance(table, pd.Series)
        frame = table.to_frame(_label_of(table)) if isinstance(table, pd.Series) else table
        levels, columns = index_fields(frame, encoder.place(at)), fields(frame, encoder.place(at))
        if isinstance(table, pd.Series) and table.name is None:
            columns = [columns[0]._replace(label=None)]
        descriptor: _Descriptor = {
            "at": list(at),
            "series": series,
            "columns": [_described(column, at, encoder) for column in columns],
            "index": [_described(level, at, encoder) for level in levels],
        }
        if frame.columns.name is not None:
            descriptor["heading"] = _checked_name(frame.columns.name, encoder.place(at))
        if isinstance(frame.index, pd.RangeIndex):
            counter = [frame.index.start, frame.index.step]
            if levels:
                descriptor["index"][0]["range"] = counter
            else:
                descriptor["range"] = [*counter, None]
        outer = len(self._found)
        values = {
            field.key: cells(field.values, (*at, field.key), encoder)
            for field in (*levels, *columns)
        }
        listed = series and not levels
        for inner in self._found[outer:]:  # in a cell: addressed by row, then key
            key, row, *rest = inner["at"][len(at) :]
            inner["at"] = [*at, row, *rest] if listed else [*at, row, key, *rest]
        self._found.append(descriptor)
        if listed:
            return values[columns[0].key]
        if not values:
            return [{} for _ in range(len(frame))]
        return [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]

    def descriptor(self) -> str | None:
        """Return the content of the header; None if there was no table.

        Raises:
            NotSerializable: there are too many columns or categories.
        """
        if not self._found:
            return None
        text = json.dumps(self._found, separators=(",", ":"))
        if len(text) > MAX_DESCRIPTOR:
            columns = sum(len(found["columns"]) for found in self._found)
            raise NotSerializable(
                f"A table of {columns} columns is too wide to be sent as a table, or has too many"
                " categories: send it in long form, as a dict of lists, or with astype(str)."
            )
        return text


def fields(frame: pd.DataFrame, place: str) -> list[Field]:
    """Return the columns of a frame; see `index_fields` for its index.

    Raises:
        NotSerializable: a label is neither text nor a number, or is there twice.
    """
    found: dict[str, Field] = {}
    for position, label in enumerate(frame.columns):
        plain = unboxed(label)
        if not isinstance(plain, (str, int, float)):
            raise NotSerializable(
                f"{place} has the column {shown(label)}, and column labels must be text or numbers:"
                " flatten or rename them."
            )
        key = str(plain)
        if key in found:
            raise NotSerializable(
                f"{place} has the column {shown(label)} twice: rename one of them."
            )
        found[key] = Field(key, plain, frame.iloc[:, position])
    return list(found.values())


def index_fields(frame: pd.DataFrame, place: str) -> list[Field]:
    """Return the levels of a frame's index; none for an unnamed row counter.

    Raises:
        NotSerializable: a level's name is neither text nor a number.
    """
    if isinstance(frame.index, pd.RangeIndex) and frame.index.name is None:
        return []
    names = list(frame.index.names)
    unnamed = frame.index.set_names([None] * len(names))  # a name could be read as a level number
    taken = {str(unboxed(label)) for label in frame.columns}
    found = []
    for level, level_name in enumerate(names):
        name = _checked_name(level_name, place)
        key = ("index" if len(names) == 1 else f"level_{level}") if name is None else str(name)
        while key in taken:
            key = f"_{key}"
        taken.add(key)
        found.append(Field(key, name, unnamed.get_level_values(level).to_series()))
    return found


def _label_of(series: pd.Series[Any]) -> Any:
    return "value" if series.name is None else series.name


def _checked_name(name: Any, place: str) -> Any:
    plain = unboxed(name)
    if plain is None or isinstance(plain, (str, int, float)):
        return plain
    raise NotSerializable(
        f"{place} has an index called {shown(name)}, and names must be text or numbers: rename it."
    )


def _described(field: Field, at: Path, encoder: Encoder) -> _Column:
    dtype = field.values.dtype
    column: _Column = {"key": field.key, "label": field.label, "dtype": str(dtype)}
    if isinstance(dtype, pd.CategoricalDtype):
        place = (*at, field.key, "categories")
        values = dtype.categories.to_series()
        plain = cells(values, place, encoder)
        if any(isinstance(category, (list, dict)) for category in plain):
            raise NotSerializable(
                f"{encoder.place(place)} are no single values, and JSON has no others that can be"
                " categories: convert the column, for example with astype(str)."
            )
        if not _is_inferred(field.values, dtype):
            column["categories"] = {
                "values": plain,
                "dtype": str(values.dtype),
                "ordered": bool(dtype.ordered),
            }
    return column


def _is_inferred(values: pd.Series[Any], dtype: pd.CategoricalDtype) -> bool:
    """Return whether these categories, in this order, can be inferred from the cells."""
    if dtype.ordered or dtype.categories.dtype.kind in "mM":  # times are sent as text
        return False
    inferred = pd.Series(values.astype(object).tolist(), dtype="category").cat.categories
    return inferred.dtype == dtype.categories.dtype and inferred.equals(dtype.categories)


def cells(column: pd.Series[Any], at: Path, encoder: Encoder) -> list[Any]:
    """Return the JSON values of a column, with null for missing ones."""
    kind = column.dtype
    dtype = str(kind.categories.dtype if isinstance(kind, pd.CategoricalDtype) else kind)
    if not _DTYPE.match(dtype):
        raise NotSerializable(
            f"{encoder.place(at)} has the type {dtype}, which JSON cannot carry: convert the"
            " column, for example with astype(str)."
        )
    missing = column.isna()
    values = column.astype(object).tolist()
    if dtype.startswith(("datetime64", "timedelta64")):
        return [None if na else _iso(cell) for cell, na in zip(values, missing, strict=True)]
    if dtype == "object":
        return [
            None if na else encoder.of(cell, (*at, row))
            for row, (cell, na) in enumerate(zip(values, missing, strict=True))
        ]
    if missing.any():
        return [None if na else cell for cell, na in zip(values, missing, strict=True)]
    return values


def _iso(cell: Any) -> str:
    """Return ISO 8601 text; in UTC if the offset has seconds, as local mean times do."""
    text = cast("str", cell.isoformat())
    return cast("str", cell.tz_convert("UTC").isoformat()) if text[-9:-8] in _SIGNS else text


def restore_tables(value: Any, text: str) -> Any:
    """Replace records in a decoded value by the tables that `text` describes."""
    try:
        descriptors = json.loads(text) if len(text) <= MAX_DESCRIPTOR else []
    except (ValueError, RecursionError):
        return value
    root = [value]
    places: set[Path] = set()
    for descriptor in descriptors if isinstance(descriptors, list) else []:
        try:
            if (place := tuple(descriptor["at"])) not in places:
                places.add(place)
                _restore(root, descriptor)
        except Exception as error:  # noqa: BLE001 - pandas may raise anything for invalid input
            log.warning("A table arrives as plain records: its description fails: %r", error)
    return root[0]


def _restore(root: list[Any], descriptor: _Descriptor) -> None:
    holder: Any = root
    step: Any = 0
    for following in descriptor["at"]:
        holder, step = holder[step], following
    holder[step] = _table(holder[step], descriptor)


def _table(records: Any, descriptor: _Descriptor) -> pd.DataFrame | pd.Series[Any]:
    columns, index = descriptor["columns"], descriptor["index"]
    if not isinstance(records, list):
        raise TypeError("records")
    # A repeated key would multiply the values.
    keys = [each["key"] for each in (*columns, *index) if "range" not in each]
    if len(set(keys)) < len(keys) or (descriptor.get("series") and len(columns) != 1):
        raise ValueError("columns")
    read: Callable[[_Column], list[Any]]
    if descriptor.get("series") and not index:
        read = lambda column: records  # noqa: E731
    else:
        read = lambda column: [record[column["key"]] for record in records]  # noqa: E731
    restored = {position: _column(read(column), column) for position, column in enumerate(columns)}
    frame = pd.DataFrame(restored, index=range(len(records)))
    frame.columns = _index([_label(column) for column in columns], descriptor.get("heading"))
    if index:
        names = [level["label"] for level in index]
        if "range" in index[0]:
            start, step = index[0]["range"]
            frame.index = _counted(start, step, len(records), names[0])
        else:
            levels = [_column(read(level), level) for level in index]
            frame.index = (
                pd.Index(levels[0], name=names[0])
                if len(levels) == 1
                else pd.MultiIndex.from_arrays(levels, names=names)
            )
    else:
        start, step, name = descriptor["range"]
        frame.index = _counted(start, step, len(records), name)
    if not descriptor.get("series"):
        return frame
    series: pd.Series[Any] = frame.iloc[:, 0]
    return series


def _index(labels: list[Any], name: Any) -> pd.Index[Any]:
    index: pd.Index[Any]
    try:
        index = pd.Index(labels, name=name)
    except UnicodeEncodeError:  # a lone surrogate, which the text type of pandas refuses
        index = pd.Index(labels, name=name, dtype=object)
    return index


def _label(column: _Column) -> Any:
    label = column["label"]
    if label is None or isinstance(label, (str, int, float)):
        return label
    raise TypeError("label")


def _counted(start: int, step: int, rows: int, name: Any) -> pd.RangeIndex:
    return pd.RangeIndex(start, start + step * rows, step, name=name)


def _column(values: list[Any], column: _Column) -> pd.Series[Any]:
    if "categories" not in column:
        return _typed(values, column["dtype"])
    categories = column["categories"]
    dtype = pd.CategoricalDtype(
        pd.Index(_typed(categories["values"], categories["dtype"])), bool(categories["ordered"])
    )
    if categories["dtype"].startswith(("datetime64", "timedelta64")):
        return cast("pd.Series[Any]", _typed(values, categories["dtype"]).astype(dtype))
    return cast("pd.Series[Any]", pd.Series(values, dtype=object).astype(dtype))


def _typed(values: list[Any], dtype_name: object) -> pd.Series[Any]:
    if not isinstance(dtype_name, str) or not _DTYPE.match(dtype_name):
        raise ValueError(dtype_name)
    dtype: Any = dtype_name
    column: Any
    if dtype_name.startswith("datetime64"):
        column = pd.Series(_times(values, dtype_name))
    elif dtype_name.startswith("timedelta64"):
        column = pd.Series(_durations(values, dtype_name))
    else:
        column = pd.Series(values, dtype=dtype)
    return cast("pd.Series[Any]", column.astype(dtype))


def _times(cells: list[Any], dtype_name: str) -> pd.DatetimeIndex:
    zoned = "," in dtype_name
    try:
        return pd.to_datetime(cells, format="ISO8601", utc=zoned)
    except ValueError:
        # pandas 2 converts to nanoseconds, which end in 2262; no version reads five-digit years.
        stamps: list[Any] = [pd.NaT if cell is None else _time(cell) for cell in cells]
        naive = [stamp.tz_convert(None) if zoned else stamp for stamp in stamps]
        values = np.array(
            [stamp.to_datetime64() for stamp in naive], dtype=f"datetime64[{_unit(dtype_name)}]"
        )
        return pd.DatetimeIndex(values, tz="UTC" if zoned else None)


def _time(text: str) -> pd.Timestamp:
    try:
        return pd.Timestamp(text)
    except ValueError:
        return pd.Timestamp(np.datetime64(text))


def _durations(cells: list[Any], dtype_name: str) -> pd.TimedeltaIndex:
    try:
        return pd.to_timedelta(cells)
    except (pd.errors.OutOfBoundsDatetime, pd.errors.OutOfBoundsTimedelta):
        # pandas converts to nanoseconds, which end after 292 years.
        unit: Any = _unit(dtype_name)
        missing = np.timedelta64("NaT", unit)  # numpy 1 converts that of another unit to zero
        durations = [missing if cell is None else _duration(cell) for cell in cells]
        return pd.TimedeltaIndex(np.array(durations, dtype=f"timedelta64[{unit}]"))


def _duration(text: str) -> np.timedelta64:
    found = _LONG_DURATION.match(text)
    if found is None:
        raise ValueError(text)
    days, hours, minutes, seconds = map(int, found.groups()[:4])
    whole = np.timedelta64(((days * 24 + hours) * 60 + minutes) * 60 + seconds, "s")
    fraction = int((found[5] or "0").ljust(6, "0")[:6])
    return np.timedelta64(whole, "us") + np.timedelta64(fraction, "us") if fraction else whole


def _unit(dtype_name: str) -> str:
    """Return the unit in ``datetime64[us, UTC]``."""
    return dtype_name.partition("[")[2].partition(",")[0].rstrip("]")
