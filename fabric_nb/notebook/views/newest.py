"""Incremental filling of tables whose newest record is at the bottom."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import islice
from typing import TypeVar

from fabric_nb.notebook.table import Detail, TableModel, Value

T = TypeVar("T")


def records_after(processed: int, records: Collection[T], total: int) -> Iterator[tuple[int, T]]:
    """Return the records after the first `processed`, each with its number.

    Args:
        processed: number of records that were processed before.
        records: the newest records, as far as they are retained.
        total: number of records ever added, including dropped ones.
    """
    oldest = total - len(records)
    begin = max(processed, oldest)
    return enumerate(islice(records, begin - oldest, None), begin)


def append_newest(
    model: TableModel,
    records: Iterable[tuple[int, T]],
    row: Callable[[T], tuple[list[Value], str | Detail]],
) -> None:
    """Append records under their numbers; records beyond the table's capacity are only counted.

    Args:
        model: table to append to.
        records: pairs of number and record.
        row: returns the cells and the detail of a record.
    """
    new = list(records)
    model.cut += max(0, len(new) - model.max_rows)
    for number, record in new[-model.max_rows :]:
        model.put(number, *row(record))
