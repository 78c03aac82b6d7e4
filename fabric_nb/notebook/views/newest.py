"""Records that come one after another, for tables whose newest is at the bottom."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import islice
from typing import TypeVar

from fabric_nb.notebook.table import TableModel, Value

T = TypeVar("T")


def since(records: Collection[T], count: int, taken: int) -> Iterator[tuple[int, T]]:
    """The records after the first `taken`, each with its number.

    Args:
        records: those that are still held, of all.
        count: how many there were in all.
        taken: how many were looked at before.
    """
    first = count - len(records)
    begin = max(taken, first)
    return enumerate(islice(records, begin - first, None), begin)


def put_newest(
    model: TableModel,
    fresh: Iterable[tuple[int, T]],
    row: Callable[[T], tuple[list[Value], str]],
) -> None:
    """Add records at the end, under their numbers; what there is no room for is only counted.

    Args:
        model: where to.
        fresh: numbers and records.
        row: gives the cells and the detail of a record.
    """
    new = list(fresh)
    model.cut += max(0, len(new) - model.max_rows)
    for number, record in new[-model.max_rows :]:
        model.put(number, *row(record))
