"""DataFrames and Series inside JSON: plain records for everybody, a descriptor for our own.

The records are what an amqp-fabric peer sees. The descriptor travels in a header that such a
peer ignores, and tells another fabric_nb end where the tables are and what their columns and
index were. It comes from elsewhere, so it is checked: what does not fit leaves the records as
they are.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from typing import Any, Protocol, TypedDict, cast

import pandas as pd

from fabric_nb.errors import NotSerializable
from fabric_nb.fabric.plain import shown, unboxed

log = logging.getLogger(__name__)

TABLES_HEADER = "x-fabric-tables"
MAX_DESCRIPTOR = 64 * 1024
"""Bytes; a header must fit into one AMQP frame (AMQP 0-9-1, 4.2.6)."""

Path = tuple[str | int, ...]

_DTYPE = re.compile(
    r"(?:u?int(?:8|16|32|64)|U?Int(?:8|16|32|64)|float(?:32|64)|Float(?:32|64)|bool|boolean|object"
    r"|str|string|category|datetime64\[(?:s|ms|us|ns)(?:, [A-Za-z0-9_+:/-]{1,40})?\]"
    r"|timedelta64\[(?:s|ms|us|ns)\])\Z"
)


class _Column(TypedDict):
    key: str
    label: Any
    dtype: str


class _Descriptor(TypedDict, total=False):
    at: list[str | int]
    columns: list[_Column]
    index: list[_Column]
    range: list[Any]
    heading: Any
    series: bool


class Encoder(Protocol):
    """What turns cells into JSON values; see `codec`."""

    def of(self, value: Any, at: Path) -> Any:
        """The JSON form of one value."""

    def place(self, at: Path) -> str:
        """How a place is called in an error."""


class Tables:
    """The tables met while one value is encoded."""

    def __init__(self) -> None:
        self._found: list[_Descriptor] = []

    def add(self, table: pd.DataFrame | pd.Series[Any], at: Path, encoder: Encoder) -> Any:
        """Return the plain form of a table and remember how to build it again.

        A DataFrame becomes a list of records, its index as a further field unless it only
        counts. A Series that only counts becomes a list, any other one a list of records.

        Raises:
            NotSerializable: duplicate or nested column labels, or a column type that cannot
                be told in JSON.
        """
        series = isinstance(table, pd.Series)
        frame = table.to_frame(_label_of(table)) if isinstance(table, pd.Series) else table
        descriptor: _Descriptor = {"at": list(at), "series": series, "columns": [], "index": []}
        if frame.columns.name is not None:
            descriptor["heading"] = _checked_name(frame.columns.name, at, encoder)
        values: dict[str, list[Any]] = {}
        if isinstance(frame.index, pd.RangeIndex):
            index = frame.index
            name = _checked_name(index.name, at, encoder)
            descriptor["range"] = [index.start, index.step, name]
        else:
            names = list(frame.index.names)
            unnamed = frame.index.set_names([None] * len(names))  # else a name may be a number
            for level, its_name in enumerate(names):
                labels = unnamed.get_level_values(level)
                fallback = "index" if len(names) == 1 else f"level_{level}"
                name = _checked_name(its_name, at, encoder)
                key = str(name) if name is not None else fallback
                while key in values or key in map(str, frame.columns):
                    key = f"_{key}"
                descriptor["index"].append({"key": key, "label": name, "dtype": str(labels.dtype)})
                values[key] = _cells(labels.to_series(), (*at, key), encoder)
        for position, label in enumerate(frame.columns):
            name = _checked_label(label, values, at, encoder)
            key = str(name)
            column = frame.iloc[:, position]
            if isinstance(table, pd.Series) and table.name is None:
                name = None
            descriptor["columns"].append({"key": key, "label": name, "dtype": str(column.dtype)})
            values[key] = _cells(column, (*at, key), encoder)
        self._found.append(descriptor)
        if series and not descriptor["index"]:
            return values[descriptor["columns"][0]["key"]]
        if not values:
            return [{} for _ in range(len(frame))]
        return [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]

    def descriptor(self) -> str | None:
        """The text for the header, None when there was no table.

        Raises:
            NotSerializable: the columns are too many to be described.
        """
        if not self._found:
            return None
        text = json.dumps(self._found, separators=(",", ":"))
        if len(text) > MAX_DESCRIPTOR:
            columns = sum(len(found["columns"]) for found in self._found)
            raise NotSerializable(
                f"A table of {columns} columns is too wide to be sent as a table: send it in long"
                " form, or as a dict of lists."
            )
        return text


def _label_of(series: pd.Series[Any]) -> Any:
    return "value" if series.name is None else series.name


def _checked_name(name: Any, at: Path, encoder: Encoder) -> Any:
    plain = unboxed(name)
    if plain is None or isinstance(plain, (str, int, float)):
        return plain
    raise NotSerializable(
        f"{encoder.place(at)} has an index called {shown(name)}, and names must be text or"
        " numbers: rename it."
    )


def _checked_label(label: Any, taken: dict[str, list[Any]], at: Path, encoder: Encoder) -> Any:
    plain = unboxed(label)
    if not isinstance(plain, (str, int, float)):
        raise NotSerializable(
            f"{encoder.place(at)} has the column {shown(label)}, and column labels must be"
            " text or numbers: flatten or rename them."
        )
    if str(plain) in taken:
        raise NotSerializable(
            f"{encoder.place(at)} has the column {shown(label)} twice: rename one of them."
        )
    return plain


def _cells(column: pd.Series[Any], at: Path, encoder: Encoder) -> list[Any]:
    """One column as JSON values; what is missing becomes null."""
    dtype = str(column.dtype)
    if not _DTYPE.match(dtype):
        raise NotSerializable(
            f"{encoder.place(at)} has the type {dtype}, which JSON cannot carry: convert the"
            " column, for example with astype(str)."
        )
    missing = column.isna()
    cells = column.astype(object).tolist()
    if dtype.startswith(("datetime64", "timedelta64")):
        return [
            None if gone else cell.isoformat() for cell, gone in zip(cells, missing, strict=True)
        ]
    if dtype in ("object", "category"):
        return [
            None if gone else encoder.of(cell, (*at, row))
            for row, (cell, gone) in enumerate(zip(cells, missing, strict=True))
        ]
    if missing.any():
        return [None if gone else cell for cell, gone in zip(cells, missing, strict=True)]
    return cells


def restore_tables(value: Any, text: str) -> Any:
    """Put the tables that `text` describes back into a decoded value."""
    try:
        descriptors = json.loads(text) if len(text) <= MAX_DESCRIPTOR else []
    except (ValueError, RecursionError):
        return value
    root = [value]
    for descriptor in descriptors if isinstance(descriptors, list) else []:
        try:
            _restore(root, descriptor)
        except Exception as error:  # noqa: BLE001 - pandas on nonsense may raise anything
            log.debug("A table came with a description that does not fit: %r", error)
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
    read: Callable[[_Column], list[Any]]
    if descriptor.get("series") and not index:
        read = lambda column: records  # noqa: E731
    else:
        read = lambda column: [record[column["key"]] for record in records]  # noqa: E731
    made = {
        position: _column(read(column), column["dtype"]) for position, column in enumerate(columns)
    }
    frame = pd.DataFrame(made, index=range(len(records)))
    frame.columns = pd.Index([_label(column) for column in columns], name=descriptor.get("heading"))
    if index:
        levels = [_column(read(level), level["dtype"]) for level in index]
        names = [level["label"] for level in index]
        frame.index = (
            pd.Index(levels[0], name=names[0])
            if len(levels) == 1
            else pd.MultiIndex.from_arrays(levels, names=names)
        )
    else:
        start, step, name = descriptor["range"]
        frame.index = pd.RangeIndex(start, start + step * len(records), step, name=name)
    if not descriptor.get("series"):
        return frame
    series: pd.Series[Any] = frame.iloc[:, 0]
    return series


def _label(column: _Column) -> Any:
    label = column["label"]
    if label is None or isinstance(label, (str, int, float)):
        return label
    raise TypeError("label")


def _column(cells: list[Any], dtype_name: object) -> pd.Series[Any]:
    if not isinstance(dtype_name, str) or not _DTYPE.match(dtype_name):
        raise ValueError(dtype_name)
    dtype: Any = dtype_name
    column: Any
    if dtype_name.startswith("datetime64"):
        column = pd.Series(pd.to_datetime(cells, format="ISO8601", utc="," in dtype_name))
    elif dtype_name.startswith("timedelta64"):
        column = pd.Series(pd.to_timedelta(cells))
    else:
        column = pd.Series(cells, dtype=dtype)
    return cast("pd.Series[Any]", column.astype(dtype))
