"""Tables of many rows, of which the browser has only those that it shows. Pure.

The model of a paged table contains the newest rows. The browser requests others, a page at a time,
and with them the filters and the order, so that the kernel keeps no state of a view::

    {"type": "page", "view": "x7", "request": 3, "first": 0, "count": 120, "selection": 0,
     "query": {"words": "tea", "filters": [[2, "price", "number", "> 5"]],
               "sort": [2, "price"], "descending": true}}

The answer is a `RowPage`. A request replaces the earlier one of the same view. Rows are identified
by their numbers, columns by their position in `TableModel.choices` together with their label,
because positions change if a stream is cleared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from fabric_nb.notebook.pages import plain
from fabric_nb.notebook.table.cells import Value

MAX_PAGE = 500
"""Maximum number of rows of a page."""
MAX_LISTED = 600_000
"""Maximum number of rows that a view can scroll through, because browsers limit heights."""
MAX_TEXT = 1_000
"""Maximum number of characters of words, and of a filter."""

ChoiceKind = Literal["number", "time", "text"]


@dataclass(frozen=True, slots=True)
class Choice:
    """A column that can be shown and filtered.

    Attributes:
        name: name of the column.
        kind: kind of its filter.
        shown: True if it is shown.
    """

    name: str
    kind: ChoiceKind
    shown: bool

    def encoded(self) -> list[Any]:
        """Return the encoding for the browser."""
        return [plain(self.name), self.kind, self.shown]


@dataclass(frozen=True, slots=True)
class ColumnReference:
    """A column in a request: its position, and its label as the browser has it."""

    index: int
    label: str


@dataclass(frozen=True, slots=True)
class RequestedFilter:
    """A filter of a column, as it was written.

    Attributes:
        column: the column.
        kind: kind that it had then.
        text: text of the filter.
    """

    column: ColumnReference
    kind: ChoiceKind
    text: str


@dataclass(frozen=True, slots=True)
class RequestedQuery:
    """Filters and order of a view.

    Attributes:
        words: words that a row must contain.
        filters: filters of columns.
        sort: column to sort by; None for the order of arrival.
        descending: True for the highest first.
    """

    words: str = ""
    filters: Sequence[RequestedFilter] = ()
    sort: ColumnReference | None = None
    descending: bool = False

    @classmethod
    def decoded(cls, content: Any) -> RequestedQuery | None:
        """Return a query from the browser; None if it is none."""
        match content:
            case {
                "words": str(words),
                "filters": [*filters],
                "sort": sort,
                "descending": bool(descending),
            }:
                read = [_decoded_filter(each) for each in filters]
                by = None if sort is None else _decoded_reference(sort)
                if None in read or (by is None and sort is not None):
                    return None
                valid = tuple(each for each in read if each is not None)
                return cls(words[:MAX_TEXT], valid, by, descending)
        return None


def _decoded_filter(content: Any) -> RequestedFilter | None:
    match content:
        case [index, label, ("number" | "time" | "text") as kind, str(text)]:
            if (column := _decoded_reference([index, label])) is not None:
                return RequestedFilter(column, kind, text[:MAX_TEXT])
    return None


def _decoded_reference(content: Any) -> ColumnReference | None:
    match content:
        case [int(index), str(label)] if index >= 0:
            return ColumnReference(index, label)
    return None


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Rows that a view requests.

    Attributes:
        query: filters and order.
        first: place of the first row among those that match; negative for the last rows.
        count: number of rows.
        selection: number of the selection to continue with, as when the view is scrolled; 0 for
            a new one.
    """

    query: RequestedQuery
    first: int
    count: int
    selection: int = 0

    @classmethod
    def decoded(cls, content: Any) -> PageRequest | None:
        """Return a request from the browser; None if it is none."""
        match content:
            case {"query": query, "first": int(first), "count": int(count), "selection": int(of)}:
                read = RequestedQuery.decoded(query)
                if read is not None:
                    return cls(read, first, max(0, min(count, MAX_PAGE)), of)
        return None


@dataclass(frozen=True, slots=True)
class RowPage:
    """Rows for a view.

    Attributes:
        total: number of rows that match.
        listed: number of them that the view can scroll through.
        held: number of rows among which they were selected.
        first: place of the first row among those that are listed.
        numbers: numbers of the rows.
        cells: cells of each row; None for a row that was dropped since it was selected.
        selection: number of the selection.
        problems: a sentence for each filter that is off, by position of its column.
    """

    total: int
    listed: int
    held: int
    first: int
    numbers: Sequence[int]
    cells: Sequence[Sequence[Value] | None]
    selection: int = 0
    problems: dict[int, str] = field(default_factory=dict)


class PagedRows(Protocol):
    """Source of the rows of a paged table."""

    async def page(self, request: PageRequest) -> RowPage:
        """Return requested rows."""

    async def values(self, number: int) -> Sequence[tuple[str, Any]] | None:
        """Return the labelled values of a row; None if it was dropped."""
