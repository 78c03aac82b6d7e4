"""Selection of rows of a DataFrame: words, conditions on columns, and sorting; no I/O.

    query = Query("tea", [ColumnFilter("price", "> 5")], sort="price")
    select(frame, query).positions        # array([4, 17, 2])

It works on slices of the rows, so that it may run in a thread beside an event loop: no step keeps
the interpreter's lock for long.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from typing import Any, Literal

import numpy as np
import pandas as pd

from fabric_nb.errors import InvalidArgument
from fabric_nb.frames.conditions import SECOND, number_test, time_test
from fabric_nb.frames.time_conversion import Array
from fabric_nb.frames.typed_chunks import arrow

ColumnKind = Literal["number", "time", "text"]
"""Kind of a column: how its filter is written, and how it is sorted."""

SLICE = 16_384
"""Rows of a step."""
_UNITS = {"s": SECOND, "ms": 1_000_000, "us": 1_000, "ns": 1}
"""Nanoseconds of each unit."""
_IN_NUMBERS = frozenset("0123456789.+-e")
_IN_TIMES = frozenset("0123456789.:-+")
"""Characters of numbers and times, in which a word with others is not searched."""
_DIGITS = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class ColumnFilter:
    """A filter of one column.

    Attributes:
        column: name of the column.
        text: conditions for a column of numbers or times (see `conditions`), else words.
        kind: kind that the column had when the filter was written; None for any.
    """

    column: str
    text: str
    kind: ColumnKind | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """Rows to select, and their order.

    Attributes:
        words: words that a row must contain, in any of the columns, in upper or lower case.
        filters: conditions on columns, which a row must fulfil all.
        sort: column to sort by; None for the order of arrival.
        descending: True for the highest first. Missing values are last in both directions.
        within: columns that are searched for the words; None for all.
    """

    words: str = ""
    filters: Sequence[ColumnFilter] = ()
    sort: str | None = None
    descending: bool = False
    within: Sequence[str] | None = None

    def __bool__(self) -> bool:
        return bool(self.words.split() or self.filters or self.sort is not None)


@dataclass(frozen=True, slots=True)
class Selection:
    """Selected rows.

    Attributes:
        positions: positions of the rows in the DataFrame, in order.
        problems: a sentence for each filter that could not be applied, by column.
    """

    positions: Array
    problems: dict[str, str] = field(default_factory=dict)


class Cancelled(Exception):
    """A selection was cancelled."""


def kind_of(dtype: Any) -> ColumnKind:
    """Return the kind of a column."""
    kind = getattr(dtype, "kind", "O")
    return "number" if kind in "iuf" else "time" if kind == "M" else "text"


def with_index_as_column(frame: pd.DataFrame) -> pd.DataFrame:
    """Return rows with a named index as their first column, and positions as their index."""
    name, frame = frame.index.name, frame.copy(deep=False)
    if name is not None:
        frame.insert(0, name, frame.index)
    frame.index = pd.RangeIndex(len(frame))
    return frame


def select(
    frame: pd.DataFrame, query: Query, is_cancelled: Callable[[], bool] = lambda: False
) -> Selection:
    """Return the rows that a query selects. A filter that cannot be applied is left out.

    Args:
        frame: rows, with unique names of columns.
        query: rows to select.
        is_cancelled: polled between steps.

    Raises:
        Cancelled: it was cancelled.
    """
    problems: dict[str, str] = {}
    tests = [*_filter_tests(frame, query.filters, problems), *_word_tests(frame, query)]
    parts = []
    for rows in _slices(len(frame)):
        if is_cancelled():
            raise Cancelled
        for test in tests:
            if not len(rows):
                break
            rows = rows[test(rows)]
        parts.append(rows)
    positions = np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)
    if query.sort is not None and query.sort in frame:
        order = _Column(frame[query.sort]).order(positions, is_cancelled)
        positions = _sorted(positions, order, descending=query.descending)
    return Selection(positions, problems)


RowTest = Callable[[Array], Array]
"""Returns a mask of rows, given as consecutive or selected positions."""


def _filter_tests(
    frame: pd.DataFrame, filters: Sequence[ColumnFilter], problems: dict[str, str]
) -> list[RowTest]:
    tests = []
    for each in filters:
        try:
            tests.append(_filter_test(frame, each))
        except InvalidArgument as problem:
            problems[each.column] = str(problem)
    return tests


def _filter_test(frame: pd.DataFrame, each: ColumnFilter) -> RowTest:
    if each.column not in frame:
        raise InvalidArgument(
            f"There is no column {each.column!r} any more, so that its filter is off."
        )
    column = _Column(frame[each.column])
    if each.kind is not None and each.kind != column.kind:
        nouns = {"number": "numbers", "time": "times", "text": "texts"}
        advice = "write words" if column.kind == "text" else f"filter it by {nouns[column.kind]}"
        raise InvalidArgument(
            f"{each.column!r} is no column of {nouns[each.kind]} any more, so that its filter is"
            f" off: {advice}."
        )
    match column.kind:
        case "number":
            test = number_test(each.text)
            return lambda rows: test(column.values(rows))
        case "time":
            times, unit = time_test(each.text), column.unit
            return lambda rows: times(column.values(rows), unit)
    words = each.text.lower().split()
    return lambda rows: _all_words(words, [column], rows)


def _word_tests(frame: pd.DataFrame, query: Query) -> list[RowTest]:
    words = query.words.lower().split()
    if not words:
        return []
    names = frame.columns if query.within is None else query.within
    columns = [_Column(frame[name]) for name in names if name in frame]
    columns.sort(key=lambda column: column.search_cost)
    return [lambda rows: _all_words(words, columns, rows)]


def _all_words(words: Sequence[str], columns: Sequence[_Column], rows: Array) -> Array:
    """Return a mask of the rows that contain all words, each in any column."""
    found = np.ones(len(rows), dtype=bool)
    for word in words:
        sought = np.flatnonzero(found)  # indices of rows without this word so far
        for column in columns:
            if not len(sought):
                break
            sought = sought[~column.contains(word, rows[sought])]
        found[sought] = False
    return found


def _slices(rows: int) -> Iterator[Array]:
    for start in range(0, rows, SLICE):
        yield np.arange(start, min(rows, start + SLICE))


class _Column:
    """A column that is searched and sorted.

    Attributes:
        kind: its kind.
        unit: nanoseconds of a unit of its times.
    """

    def __init__(self, column: pd.Series[Any]) -> None:
        self.kind = kind_of(column.dtype)
        self.unit = 0
        self._arrow: Any = None
        self._values: Any
        if self.kind == "time":
            times = column.array
            self._values = times.asi8
            self.unit = _UNITS[times.unit]
        elif isinstance(column.dtype, pd.StringDtype) and column.dtype.storage == "pyarrow":
            self._arrow = column.array.__arrow_array__()
            self._values = column.array
        else:
            self._values = column.to_numpy()

    @property
    def search_cost(self) -> int:
        """Rank of the time that searching a value takes."""
        if self._arrow is not None:
            return 0
        return {"number": 1, "time": 2}.get(self.kind, 3)

    def values(self, rows: Array) -> Array:
        """Return the numbers, or times as integers, of rows."""
        return self._values[_as_slice(rows)]  # type: ignore[no-any-return]

    def contains(self, word: str, rows: Array) -> Array:
        """Return a mask of the rows whose text contains a word in lower case."""
        if self._arrow is not None:
            return _arrow_contains(self._arrow_rows(rows), word)
        if self.kind == "time":
            return self._time_contains(word, rows)
        values = self._values[_as_slice(rows)]
        if self.kind == "number":
            return _number_contains(values, word.replace(",", ""))
        texts = map(_searched, values.tolist())
        return np.fromiter((word in text for text in texts), bool, len(rows))

    def _time_contains(self, word: str, rows: Array) -> Array:
        if not (_IN_TIMES.issuperset(word) and {":", "-"}.intersection(word)):
            return np.zeros(len(rows), dtype=bool)  # digits alone would match most times
        unit = next(name for name, size in _UNITS.items() if size == self.unit)
        times = self._values[_as_slice(rows)].view(f"datetime64[{unit}]")
        found = np.char.find(np.datetime_as_string(times), word) >= 0
        return found & ~np.isnat(times)  # type: ignore[no-any-return]

    def _arrow_rows(self, rows: Array) -> Any:
        chosen = _as_slice(rows)
        if isinstance(chosen, slice):
            return self._arrow.slice(chosen.start, len(rows))
        return self._arrow.take(rows)

    # -- sorting

    def order(self, rows: Array, is_cancelled: Callable[[], bool]) -> _Order:
        """Return the sort keys of rows."""
        if self.kind in ("number", "time"):
            values = self._values[rows]
            missing = np.isnan(values) if values.dtype.kind == "f" else np.zeros(len(rows), bool)
            if self.kind == "time":
                missing = values == np.iinfo(np.int64).min
            return _Order(np.where(missing, 2, 0).astype(np.int8), values)
        if self._arrow is not None:
            return self._text_order(rows, is_cancelled)
        texts: dict[str, int] = {}
        groups, keys = np.full(len(rows), 2, dtype=np.int8), np.zeros(len(rows))
        for start in range(0, len(rows), SLICE):
            if is_cancelled():
                raise Cancelled
            part = self._values[rows[start : start + SLICE]].tolist()
            for index, value in enumerate(part, start):
                if isinstance(value, (int, float)) and not isinstance(value, bool):
                    if value == value:
                        groups[index], keys[index] = 0, _float(value)
                elif value is not None and value == value:
                    text = value if isinstance(value, str) else _text(value)
                    groups[index], keys[index] = 1, texts.setdefault(text, len(texts))
        ranks = _ranks(_parts(list(texts)), is_cancelled)
        chosen = groups == 1
        keys[chosen] = ranks[keys[chosen].astype(np.int64)]
        return _Order(groups, keys)

    def _text_order(self, rows: Array, is_cancelled: Callable[[], bool]) -> _Order:
        import pyarrow.compute as pc

        encoded = self._arrow_rows(rows).dictionary_encode().combine_chunks()
        texts = encoded.dictionary
        parts = (texts.slice(at, SLICE).to_pylist() for at in range(0, len(texts), SLICE))
        ranks = _ranks(parts, is_cancelled)
        codes = np.asarray(pc.fill_null(encoded.indices, 0)).astype(np.int64)
        missing = np.asarray(encoded.indices.is_null())
        keys = ranks[codes] if len(ranks) else np.zeros(len(rows))
        return _Order(np.where(missing, 2, 1).astype(np.int8), keys)


@dataclass(frozen=True, slots=True)
class _Order:
    """Sort keys of rows.

    Attributes:
        groups: 0 for numbers, 1 for texts, 2 for missing values, which are always in this order.
        keys: sort keys within the group.
    """

    groups: Array
    keys: Array


def _sorted(positions: Array, order: _Order, *, descending: bool) -> Array:
    """Return sorted positions; equal rows stay in their order."""
    parts = []
    for group in (0, 1, 2):
        rows = np.flatnonzero(order.groups == group)
        if group < 2:
            keys = order.keys[rows]
            if descending:
                rows = rows[::-1][np.argsort(keys[::-1], kind="stable")[::-1]]
            else:
                rows = rows[np.argsort(keys, kind="stable")]
        parts.append(rows)
    return positions[np.concatenate(parts)]


def _parts(texts: list[str]) -> Iterator[list[str]]:
    return (texts[start : start + SLICE] for start in range(0, len(texts), SLICE))


def _ranks(parts: Iterable[list[str]], is_cancelled: Callable[[], bool]) -> Array:
    """Return the rank of each text, ignoring case; numbers within texts are compared as numbers."""
    keys = _natural_keys(parts, is_cancelled)
    if arrow() is not None:
        return _arrow_ranks(keys)
    numbers = count()
    runs = [sorted(zip(run, islice(numbers, len(run)), strict=True)) for run in keys]
    ranks, rank, previous = np.empty(next(numbers)), -1, None
    for key, index in heapq.merge(*runs):
        rank += key != previous
        ranks[index], previous = rank, key
    return ranks


def _natural_keys(
    parts: Iterable[list[str]], is_cancelled: Callable[[], bool]
) -> Iterator[list[str]]:
    for part in parts:
        if is_cancelled():
            raise Cancelled
        yield [*map(_natural, part)]


def _arrow_ranks(runs: Iterable[list[str]]) -> Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    text = pa.large_string()
    keys = pa.chunked_array([pa.array(run, text) for run in runs], text)
    order = pc.sort_indices(keys)
    ordered = keys.take(order)
    ranks = np.zeros(len(keys))
    if len(keys):
        steps = pc.not_equal(ordered.slice(1), ordered.slice(0, len(keys) - 1))
        ranks[np.asarray(order)[1:]] = np.cumsum(np.asarray(steps))
    return ranks


def _natural(text: str) -> str:
    """Return a sort key in which 9 is before 10: the length of a number precedes its digits."""
    return _DIGITS.sub(_with_length, text.casefold()) if not text.isalpha() else text.casefold()


def _with_length(found: re.Match[str]) -> str:
    digits = found[0].lstrip("0")
    return f"0{chr(0x100 + min(len(digits), 0x1000))}{digits}"


def _as_slice(rows: Array) -> Any:
    """Return consecutive rows as a slice, which copies nothing."""
    if len(rows) and rows[-1] - rows[0] == len(rows) - 1:
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return rows


def _arrow_contains(texts: Any, word: str) -> Array:
    import pyarrow.compute as pc

    found = pc.match_substring(texts, word, ignore_case=True)
    return np.asarray(pc.fill_null(found, False))


def _number_contains(values: Array, digits: str) -> Array:
    """Return a mask of the numbers that contain digits, as a table shows them."""
    if not digits or not _IN_NUMBERS.issuperset(digits):
        return np.zeros(len(values), dtype=bool)
    is_float = values.dtype.kind == "f"
    if arrow() is None:
        texts = map(_shown if is_float else str, values.tolist())
        return np.fromiter((digits in text for text in texts), bool, len(values))
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = pc.cast(pa.array(_rounded(values) if is_float else values), pa.string())
    return np.asarray(pc.match_substring(texts, digits))


def _rounded(values: Array) -> Array:
    """Round numbers as a table does: to six digits, or to whole numbers from a million on."""
    with np.errstate(all="ignore"):
        scale = 10.0 ** (5 - np.floor(np.log10(np.abs(values))))
        rounded = np.where(np.abs(values) < 1e6, np.round(values * scale) / scale, np.round(values))
    return np.where(np.isfinite(rounded), rounded, values)


def _shown(value: float) -> str:
    """Return a number as a table shows it, without separators of thousands."""
    return f"{value:.6g}" if abs(value) < 1e6 or value != value else f"{value:.0f}"


def _searched(value: object) -> str:
    """Return a value as text in lower case."""
    if isinstance(value, str):
        return value.lower()
    if value is None or value != value:
        return ""
    return _text(value).lower()


def _text(value: object) -> str:
    try:
        return str(value)
    except RecursionError:
        return ""


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
