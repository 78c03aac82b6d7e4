"""Rows of a map: keywords of each call, from a DataFrame, mappings or columns. No I/O."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
    Sized,
)
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from fabric_nb.errors import InvalidArgument, InvalidArgumentType
from fabric_nb.fabric.core.values import shown
from fabric_nb.libraries import is_frame, is_series

if TYPE_CHECKING:
    import pandas as pd

_END: Any = object()


@dataclass(frozen=True, slots=True)
class RowSource:
    """Rows of a map, before they are taken.

    Attributes:
        rows: the rows; each is a mapping of keywords.
        constants: keywords that all calls have.
        total: number of rows; None if it is not known.
        index: index of the results; None: the numbers of the rows.
    """

    rows: Iterable[Any] | AsyncIterable[Any]
    constants: Mapping[str, Any]
    total: int | None = None
    index: pd.Index[Any] | None = None


def row_source(rows: object, keywords: Mapping[str, Any]) -> RowSource:
    """Return the source of rows for the arguments of a map.

    Args:
        rows: a DataFrame, or mappings in an iterable or an async iterable; None: `keywords` has
            columns.
        keywords: constants; without `rows`, those that are a Series, a list or another sequence,
            or an array of one dimension are columns.

    Raises:
        InvalidArgumentType: `rows` is none of these.
        InvalidArgument: there is no column, columns differ in length or index, or the name of a
            column cannot be a keyword.

    Example:
        >>> source = row_source(None, {"sku": ["a", "b"], "country": "DE"})
        >>> list(source.rows), source.constants, source.total
        ([{'sku': 'a'}, {'sku': 'b'}], {'country': 'DE'}, 2)
    """
    if rows is None:
        return _of_columns(keywords)
    if is_frame(rows):
        return RowSource(_of_frame(rows), keywords, len(rows), rows.index)
    if isinstance(rows, (str, bytes, bytearray, Mapping)) or is_series(rows) or _is_foreign(rows):
        raise InvalidArgumentType(
            f"rows is a {type(rows).__name__}, and a map needs a DataFrame of pandas or mappings:"
            " give a column by its name, as in map(call, sku=values), a dict of columns as"
            " map(call, **columns), and another table as a DataFrame."
        )
    if isinstance(rows, (AsyncIterable, Iterable)):
        return RowSource(rows, keywords, len(rows) if isinstance(rows, Sized) else None)
    raise InvalidArgumentType(
        f"rows is a {type(rows).__name__}, and a map needs a DataFrame, or an iterable or async"
        " iterable of mappings."
    )


def _is_foreign(rows: object) -> bool:
    """Return whether it is a table of another library, such as polars, which iterates columns."""
    return hasattr(rows, "__arrow_c_stream__") or hasattr(rows, "__dataframe__")


def _of_frame(frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    names = list(frame.columns)
    if twice := sorted({shown(name) for name in names if names.count(name) > 1}):
        raise InvalidArgument(
            f"The column {twice[0]} occurs more than once in the rows of a map: rename one of them."
        )
    for name in names:
        if not (isinstance(name, str) and name.isidentifier()):
            raise InvalidArgument(
                f"The column {shown(name)} cannot be a keyword of the method: rename it with"
                " rows.rename(columns={...}), or omit it."
            )
    # A Series yields Python's own numbers, which are those that a call with one of them sends.
    columns = [frame.iloc[:, place] for place in range(len(names))]
    if not columns:
        return iter([{} for _ in range(len(frame))])
    return _transposed(names, columns)


def _of_columns(keywords: Mapping[str, Any]) -> RowSource:
    columns = {name: value for name, value in keywords.items() if _is_column(value)}
    constants = {name: value for name, value in keywords.items() if name not in columns}
    if not columns:
        raise InvalidArgument(
            "A map needs rows: give a DataFrame or mappings after the call's name, or keywords with"
            " a Series, an array or a list."
        )
    first, total = next((name, len(column)) for name, column in columns.items())
    indexed, index = "", None
    for name, column in columns.items():
        if len(column) != total:
            raise InvalidArgument(
                f"The column {name} has {len(column):,} rows, and {first} has {total:,}: give"
                " columns of one length. A list that all calls are to have goes beside rows, or"
                " into them."
            )
        if is_series(column):
            if index is not None and not index.equals(column.index):
                raise InvalidArgument(
                    f"The columns {indexed} and {name} have different indexes: give columns of one"
                    " DataFrame, or their values (.to_numpy())."
                )
            indexed, index = name, column.index
    return RowSource(_transposed(list(columns), list(columns.values())), constants, total, index)


def _is_column(value: object) -> bool:
    if isinstance(value, (str, bytes, bytearray, memoryview)):
        return False
    return (
        isinstance(value, Sequence)
        or is_series(value)
        or getattr(value, "ndim", None) == 1  # arrays
        or hasattr(value, "to_list")  # Series of polars
    )


def _transposed(names: Sequence[str], columns: Sequence[Iterable[Any]]) -> Iterator[dict[str, Any]]:
    return (dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True))


class TakenRow(NamedTuple):
    """A row that a worker has taken.

    Attributes:
        number: position of the row, from 0.
        row: the row as given.
    """

    number: int
    row: Any


class RowQueue:
    """Hands the rows of a source to workers, one at a time and only when they ask.

    A row that was put back is handed out before new ones. An iterator that raises stops the queue.

    Args:
        rows: the rows.

    Attributes:
        taken: number of rows taken from the source.
        exhausted: True once the source has no more rows.
        stopped: error that has stopped the queue; None: it is not stopped.
    """

    def __init__(self, rows: Iterable[Any] | AsyncIterable[Any]) -> None:
        self.taken = 0
        self.exhausted = False
        self.stopped: BaseException | None = None
        self._returned: deque[TakenRow] = deque()
        self._later = aiter(rows) if isinstance(rows, AsyncIterable) else None
        self._iterator = iter(()) if isinstance(rows, AsyncIterable) else iter(rows)
        self._lock = asyncio.Lock()
        # An iterator that is cancelled cannot be continued, so its next row is awaited apart from
        # the workers.
        self._fetching: asyncio.Task[Any] | None = None
        self._wake: asyncio.Future[None] | None = None

    @property
    def missing(self) -> bool:
        """True if there may be rows to take."""
        return bool(self._returned) or not self.exhausted

    def put_back(self, rows: Iterable[TakenRow]) -> None:
        """Hand these rows out again."""
        self._returned.extend(rows)
        self._wake_up()

    def stop(self, error: BaseException) -> None:
        """Hand out no more rows until `restart`; the first error counts."""
        if self.stopped is None:
            self.stopped = error
        self._wake_up()

    def restart(self) -> None:
        """Hand out rows again."""
        self.stopped = None

    def close(self) -> None:
        """Cancel the request for a row of an async source; the source ends with it."""
        if self._fetching is not None:
            self._fetching.cancel()

    def _wake_up(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def take(self) -> TakenRow | None:
        """Return the next row; None if there is none, or the queue is stopped."""
        if self._later is not None:
            async with self._lock:
                return await self._take_later(self._later)
        if self._must_not_fetch:
            return self._take_returned()
        try:
            row = next(self._iterator, _END)
        except Exception as error:  # noqa: BLE001 - raised where the map is awaited
            self.stop(error)
            return None
        return self._numbered(row)

    @property
    def _must_not_fetch(self) -> bool:
        return bool(self._returned) or self.exhausted or self.stopped is not None

    def _take_returned(self) -> TakenRow | None:
        return self._returned.popleft() if self._returned and self.stopped is None else None

    async def _take_later(self, rows: AsyncIterator[Any]) -> TakenRow | None:
        while not self._must_not_fetch:
            if self._fetching is None:
                self._fetching = asyncio.ensure_future(_next(rows))
            fetching, self._wake = self._fetching, asyncio.get_running_loop().create_future()
            await asyncio.wait((fetching, self._wake), return_when=asyncio.FIRST_COMPLETED)
            if not fetching.done():
                continue
            self._fetching = None
            try:
                row = fetching.result()
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - as in `take`
                self.stop(error)
                return None
            return self._numbered(row)
        return self._take_returned()

    def _numbered(self, row: Any) -> TakenRow | None:
        if row is _END:
            self.exhausted = True
            return None
        self.taken += 1
        return TakenRow(self.taken - 1, row)


async def _next(rows: AsyncIterator[Any]) -> Any:
    return await anext(rows, _END)
