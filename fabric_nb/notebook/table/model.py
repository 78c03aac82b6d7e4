"""State of a table: head, columns, and rows with keys.

    model = TableModel("Services", [Column("name"), Column("state", "badge")])
    model.put("orders", ["orders", Badge("up", "good")])
    model.diff()                      # everything, as nothing was sent before
    model.put("orders", ["orders", Badge("late", "warn")])
    model.diff()                      # {"from": 1, "to": 2, "set": [[0, [1, ["late", "warn"]]]]}

Changing a row only stores it; `diff` encodes the rows that were changed since the last time. Not
thread-safe.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from fabric_nb.notebook.pages import counted, plain
from fabric_nb.notebook.table.cells import Column, Value, Wire, encode
from fabric_nb.notebook.table.paging import Choice
from fabric_nb.notebook.table.parts import Detail, Head, WireDetail, encoded_head

MAX_ROWS = 1000
"""Default capacity of a table in rows."""
MAX_COLUMNS = 50
MAX_DETAILS = 1_000_000
"""Maximum total characters of the details of a table."""
OMITTED_DETAIL = "The details of this table are too long to show them all."
NO_DETAIL = Detail()
SAVED_ROWS = 20
"""Maximum number of rows that a notebook stores."""
MAX_SAVED = 20_000
"""Maximum size of them, in bytes, beside the static copy."""
INCOMPLETE = -1
"""Revision of a state that does not have all rows."""


@dataclass(slots=True)
class Row:
    """A row, and its encoding as last sent (`sent` is None if it never was)."""

    id: int
    cells: Sequence[Value]
    detail: Detail
    sent_from: Sequence[Value] = ()
    sent: list[Wire] | None = None
    sent_detail: WireDetail = ""
    sent_detail_from: Detail = NO_DETAIL
    detail_size: int = 0


class TableModel:
    """Ordered rows by key, with change tracking.

    Args:
        head: content around the rows; a string is the title.
        columns: the first `MAX_COLUMNS` are shown.
        max_rows: capacity; a note under the table gives the number of rows beyond.
        follow: True to keep the view scrolled to the newest row, at the bottom, as in a log.
        paged: True for the newest of many rows, whose keys are consecutive numbers; see `paging`.

    Attributes:
        changes: number of changes that may have affected the output.
        revision: number of non-empty `diff` results.
        cut: number of rows beyond the capacity.
        layout: number of times that the columns have changed.
    """

    def __init__(
        self,
        head: Head | str,
        columns: Sequence[Column] = (),
        *,
        max_rows: int = MAX_ROWS,
        follow: bool = False,
        paged: bool = False,
    ) -> None:
        self.max_rows = max_rows
        self.follow = follow
        self.paged = paged
        self.layout = 0
        self.changes = 1
        self.revision = 0
        self.cut = 0
        self._head = head if isinstance(head, Head) else Head(head)
        self._columns: tuple[Column, ...] = tuple(columns)
        self._rows: dict[Hashable, Row] = {}
        self._next_id = 0
        self._detail_size = 0
        self._diffed = 0
        self._touched: dict[Hashable, None] = {}
        self._moved = False
        self._sent_columns: list[dict[str, Any]] | None = None
        self._sent_head: dict[str, Any] = {}
        self._sent_ids: list[int] = []
        self._held, self._sent_held = (0, 0), (0, 0)
        self._choices: tuple[Choice, ...] = ()

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._rows

    @property
    def head(self) -> Head:
        """Content around the rows; replaced by assignment."""
        return self._head

    @head.setter
    def head(self, head: Head) -> None:
        if head != self._head:
            self._head = head
            self.changes += 1

    @property
    def columns(self) -> tuple[Column, ...]:
        """Columns; assigning different ones removes all rows."""
        return self._columns

    @columns.setter
    def columns(self, columns: Sequence[Column]) -> None:
        if tuple(columns) != self._columns:
            self._columns = tuple(columns)
            self.clear()
            self._sent_columns = None
            self.layout += 1
            self.changes += 1

    @property
    def held(self) -> tuple[int, int]:
        """Number of the oldest row of a paged table, and number of rows from it on."""
        return self._held

    @held.setter
    def held(self, held: tuple[int, int]) -> None:
        if held != self._held:
            self._held = held
            self.changes += 1

    @property
    def choices(self) -> tuple[Choice, ...]:
        """Columns of a paged table that can be chosen and filtered."""
        return self._choices

    @choices.setter
    def choices(self, choices: Sequence[Choice]) -> None:
        if tuple(choices) != self._choices:
            self._choices = tuple(choices)
            self._sent_columns = None
            self.changes += 1

    @property
    def rows(self) -> Sequence[Row]:
        """Rows in order."""
        return tuple(self._rows.values())

    @property
    def keys(self) -> Sequence[Hashable]:
        """Keys of the rows in order."""
        return tuple(self._rows)

    # -- changing

    def put(self, key: Hashable, cells: Sequence[Value], detail: str | Detail = "") -> None:
        """Replace the row with this key, or append it, dropping the oldest beyond the capacity.

        Args:
            key: key of the row.
            cells: a value for each column; must not be modified afterwards.
            detail: content that opens under the row.

        Raises:
            ValueError: the number of cells differs from the number of columns.
        """
        self._put(key, cells, detail)
        while len(self._rows) > self.max_rows:
            self._drop(next(iter(self._rows)))
            self.cut += 1

    def remove(self, key: Hashable) -> None:
        """Remove the row with this key, if there is one."""
        if key in self._rows:
            self._drop(key)

    def replace(
        self, rows: Iterable[tuple[Hashable, Sequence[Value], str | Detail]], *, more: int = 0
    ) -> None:
        """Replace all rows; only differences are sent.

        Args:
            rows: key, cells and detail of each row; those beyond the capacity are only counted.
            more: number of rows that the caller omitted from `rows`.

        Raises:
            ValueError: the number of cells of a row differs from the number of columns.
        """
        before, self._rows = self._rows, {}
        cut = more
        for key, cells, detail in rows:
            if len(self._rows) >= self.max_rows and key not in self._rows:
                cut += 1
                continue
            if key in before:
                self._rows[key] = before[key]
            self._put(key, cells, detail)
        if cut != self.cut or list(before) != list(self._rows):
            self.changes += 1
            self._moved = True
        self.cut = cut
        for key in before.keys() - self._rows.keys():
            self._release(before[key])

    def clear(self) -> None:
        """Remove all rows."""
        self.replace(())

    def _put(self, key: Hashable, cells: Sequence[Value], detail: str | Detail) -> None:
        if len(cells) != len(self._columns):
            raise ValueError(f"{len(cells)} cells for {len(self._columns)} columns")
        if isinstance(detail, str):
            detail = Detail(detail) if detail else NO_DETAIL
        row = self._rows.get(key)
        if row is None:
            id_ = key if self.paged and isinstance(key, int) else self._next_id
            row = self._rows[key] = Row(id_, cells, detail)
            self._next_id += 1
            self._moved = True
        elif row.cells == cells and row.detail == detail:
            return
        row.cells, row.detail = cells, detail
        self._touched[key] = None
        self.changes += 1

    def _drop(self, key: Hashable) -> None:
        self._release(self._rows.pop(key))
        self._moved = True
        self.changes += 1

    def _release(self, row: Row) -> None:
        self._detail_size -= row.detail_size

    def key_of(self, id_: int) -> Hashable:
        """Return the key of the row that was sent with this id; None if it was removed."""
        return next((key for key, row in self._rows.items() if row.id == id_), None)

    # -- changes

    def diff(self) -> dict[str, Any] | None:
        """Return the changes since the last call and mark them as sent; None if there are none.

        Returns:
            ``from`` and ``to``, revisions; and, if not empty: ``head``; ``drop``, ids; ``add``
            (at the end), ``[id, cells, detail]`` each; ``held``; ``set``,
            ``[id, [index, cell, …]]`` each, with the detail if that has changed; ``order``, all
            ids, if the order differs from the one that results from these. With ``columns`` it is
            the complete state, as `whole`.
        """
        if self._diffed == self.changes:
            return None
        self._diffed = self.changes
        columns = self._encoded_columns()
        columns_changed = columns != self._sent_columns
        delta: dict[str, Any] = {}
        if (head := encoded_head(self._head, self.cut_notes())) != self._sent_head:
            self._sent_head = delta["head"] = head
        added, changed = self._encode_touched()
        if changed:
            delta["set"] = changed
        if self._moved:
            delta |= self._order(added)
        if self._held != self._sent_held:
            self._sent_held = delta["held"] = self._held
        self._moved = False
        self._touched.clear()
        self._sent_columns = columns
        if not delta and not columns_changed:
            return None
        before, self.revision = self.revision, self.revision + 1
        if columns_changed:
            return self.whole()
        return {"from": before, "to": self.revision, **delta}

    def whole(self) -> dict[str, Any]:
        """Return the complete state, as last sent."""
        by_id = {row.id: row for row in self._rows.values() if row.sent is not None}
        paged = {
            "held": self._sent_held,
            "layout": self.layout,
            "choices": [choice.encoded() for choice in self._choices],
        }
        return {
            "to": self.revision,
            "columns": self._sent_columns or [],
            "head": self._sent_head,
            "follow": self.follow,
            "add": [_entry(by_id[id_]) for id_ in self._sent_ids if id_ in by_id],
            **(paged if self.paged else {}),
        }

    def saved(self) -> dict[str, Any]:
        """Return the complete state, as last sent, as far as it is stored in a notebook.

        A view that has it requests the complete one, because it has another revision.
        """
        state = self.whole()
        every = state["add"]
        rows = _of_size(every[-SAVED_ROWS:] if self.follow else every[:SAVED_ROWS], MAX_SAVED)
        few = len(self._choices) <= MAX_COLUMNS
        if rows == every and few:
            return state
        notes = self.cut_notes(len(every) - len(rows))
        head = {
            **state["head"],
            "notes": [*state["head"]["notes"][: -len(self.cut_notes()) or None], *notes],
        }
        choices: dict[str, Any] = {} if few else {"choices": []}
        return {**state, "to": INCOMPLETE, "add": rows, "head": head, **choices}

    def encoded_cells(self, cells: Sequence[Value]) -> list[Wire]:
        """Return the cells of a row that is not in the model, for the browser."""
        return [*map(encode, cells, self._columns[:MAX_COLUMNS])]

    def _encode_touched(self) -> tuple[list[list[Any]], list[list[Any]]]:
        """Return the encoded new rows, and the changes of rows that were sent before."""
        added, changed = [], []
        for key in self._touched:
            row = self._rows.get(key)
            if row is None:
                continue
            if row.sent is None:
                row.sent = self.encoded_cells(row.cells)
                self._encode_detail(row)
                added.append(_entry(row))
            elif change := self._changes_of(row, row.sent):
                changed.append(change)
            row.sent_from = row.cells
        return added, changed

    def _changes_of(self, row: Row, sent: list[Wire]) -> list[Any]:
        cells: list[Wire] = []
        before = row.sent_from
        for index, value in enumerate(row.cells[:MAX_COLUMNS]):
            if value is before[index]:
                continue
            wire = encode(value, self._columns[index])
            if wire != sent[index]:
                sent[index] = wire
                cells.append(index)
                cells.append(wire)
        if row.detail != row.sent_detail_from:
            sent_before = row.sent_detail
            self._encode_detail(row)
            if row.sent_detail != sent_before:
                return [row.id, cells, row.sent_detail]
        return [row.id, cells] if cells else []

    def _encode_detail(self, row: Row) -> None:
        """Encode the detail of a row, or omit it if the limit of the table is exceeded."""
        detail = row.detail.encoded()
        size = len(detail if isinstance(detail, str) else repr(detail))
        if self._detail_size - row.detail_size + size > MAX_DETAILS:
            detail, size = OMITTED_DETAIL, len(OMITTED_DETAIL)
        self._detail_size += size - row.detail_size
        row.sent_detail, row.sent_detail_from, row.detail_size = detail, row.detail, size

    def _order(self, added: list[list[Any]]) -> dict[str, Any]:
        ids = [row.id for row in self._rows.values()]
        present = set(ids)
        dropped = [id_ for id_ in self._sent_ids if id_ not in present]
        expected = [id_ for id_ in self._sent_ids if id_ in present]
        expected += [entry[0] for entry in added]
        self._sent_ids = ids
        order = {} if expected == ids else {"order": ids}
        return {
            **({"drop": dropped} if dropped else {}),
            **({"add": added} if added else {}),
            **order,
        }

    def _encoded_columns(self) -> list[dict[str, Any]]:
        return [
            {
                "label": plain(column.label),
                "kind": column.kind,
                "digits": column.digits,
                **({"line": column.line} if column.line != 1 else {}),
            }
            for column in self._columns[:MAX_COLUMNS]
        ]

    def cut_notes(self, omitted: int = 0) -> list[str]:
        """Return notes on rows and columns that are not shown; `omitted` are rows of the table."""
        notes = []
        if (cut := self.cut + omitted) and not self.paged:
            rows = counted(cut, "older row" if self.follow else "more row")
            notes.append(f"… and {rows}, not shown.")
        if (hidden := len(self._columns) - MAX_COLUMNS) > 0:
            notes.append(f"… and {counted(hidden, 'more column')}, not shown.")
        return notes


def _of_size(entries: list[list[Any]], size: int) -> list[list[Any]]:
    """Return encoded rows of at most `size` characters; details that are too long are left out."""
    for with_details in (True, False):
        rows = [[id_, cells, detail if with_details else ""] for id_, cells, detail in entries]
        if len(orjson.dumps(rows)) <= size:
            return rows
    while len(rows) > 1 and len(orjson.dumps(rows)) > size:
        rows = rows[: len(rows) // 2]
    return rows


def _entry(row: Row) -> list[Any]:
    return [row.id, row.sent, row.sent_detail]
