"""What a table shows, as plain state: a head, columns, and rows that each have a key.

    model = TableModel("Services", [Column("name"), Column("state", "badge")])
    model.put("orders", ["orders", Badge("up", "good")])
    model.diff()                      # everything, as it was never sent
    model.put("orders", ["orders", Badge("late", "warn")])
    model.diff()                      # {"from": 1, "to": 2, "set": [[0, [1, ["late", "warn"]]]]}

What flows in costs nothing but the storing; `diff` looks only at what was touched since the last
time. Not for use from several threads at once.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fabric_nb.notebook.pages import plain
from fabric_nb.notebook.table.cells import Column, Value, Wire, encode
from fabric_nb.notebook.table.parts import Detail, Head, WireDetail, encoded_head

MAX_ROWS = 1000
"""Rows that a table holds unless it is told otherwise."""
MAX_COLUMNS = 50
MAX_DETAILS = 1_000_000
"""Characters of all rows' details together."""
UNSHOWN = "The details of this table are too long to show them all."
NO_DETAIL = Detail()


@dataclass(slots=True)
class Row:
    """A row as it is, and as it was last sent (None: never)."""

    id: int
    cells: Sequence[Value]
    detail: Detail
    sent_from: Sequence[Value] = ()
    sent: list[Wire] | None = None
    sent_detail: WireDetail = ""
    sent_detail_from: Detail = NO_DETAIL
    detail_size: int = 0


class TableModel:
    """Rows in an order, each under a key, and what of them is new.

    Args:
        head: what stands around the rows; a text is its title.
        columns: at most `MAX_COLUMNS`; the rest is left out, and so are its cells.
        max_rows: rows that are held; what is cut is said under the table.
        follow: newest at the bottom, and the view stays there, as a log does.

    Attributes:
        changes: goes up with everything that may have changed what is seen.
        revision: goes up with every `diff` that found something.
        cut: rows that are not held.
    """

    def __init__(
        self,
        head: Head | str,
        columns: Sequence[Column] = (),
        *,
        max_rows: int = MAX_ROWS,
        follow: bool = False,
    ) -> None:
        self.max_rows = max_rows
        self.follow = follow
        self.changes = 1
        self.revision = 0
        self.cut = 0
        self._head = head if isinstance(head, Head) else Head(head)
        self._columns: tuple[Column, ...] = tuple(columns)
        self._rows: dict[Hashable, Row] = {}
        self._next_id = 0
        self._details = 0
        self._seen = 0
        self._touched: dict[Hashable, None] = {}
        self._moved = False
        self._sent_columns: list[dict[str, Any]] | None = None
        self._sent_head: dict[str, Any] = {}
        self._sent_ids: list[int] = []

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._rows

    @property
    def head(self) -> Head:
        """What stands around the rows; assign another to change it."""
        return self._head

    @head.setter
    def head(self, head: Head) -> None:
        if head != self._head:
            self._head = head
            self.changes += 1

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns; assigning others removes all rows."""
        return self._columns

    @columns.setter
    def columns(self, columns: Sequence[Column]) -> None:
        if tuple(columns) != self._columns:
            self._columns = tuple(columns)
            self.clear()
            self._sent_columns = None
            self.changes += 1

    @property
    def rows(self) -> Sequence[Row]:
        """The rows in order."""
        return tuple(self._rows.values())

    # -- changing

    def put(self, key: Hashable, cells: Sequence[Value], detail: str | Detail = "") -> None:
        """Change the row of that key, or add it at the end; the oldest gives way to a new one.

        Args:
            key: which row.
            cells: a value for each column; not to be changed afterwards.
            detail: what opens under the row; a text keeps its line breaks.

        Raises:
            ValueError: there are more or fewer cells than columns.
        """
        self._put(key, cells, detail)
        while len(self._rows) > self.max_rows:
            self._forget(next(iter(self._rows)))
            self.cut += 1

    def remove(self, key: Hashable) -> None:
        """Remove the row of that key, if there is one."""
        if key in self._rows:
            self._forget(key)

    def replace(
        self, rows: Iterable[tuple[Hashable, Sequence[Value], str | Detail]], *, more: int = 0
    ) -> None:
        """Show these rows in this order and no others; only what differs will be sent.

        Args:
            rows: key, cells and detail of each; the first `max_rows` are held.
            more: rows that were left out of `rows`.

        Raises:
            ValueError: a row has more or fewer cells than there are columns.
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
            row = self._rows[key] = Row(self._next_id, cells, detail)
            self._next_id += 1
            self._moved = True
        elif row.cells == cells and row.detail == detail:
            return
        row.cells, row.detail = cells, detail
        self._touched[key] = None
        self.changes += 1

    def _forget(self, key: Hashable) -> None:
        self._release(self._rows.pop(key))
        self._moved = True
        self.changes += 1

    def _release(self, row: Row) -> None:
        self._details -= row.detail_size

    def key_of(self, id_: int) -> Hashable:
        """The key of the row that was sent with that id; None when it is not there any more."""
        return next((key for key, row in self._rows.items() if row.id == id_), None)

    # -- what is new

    def diff(self) -> dict[str, Any] | None:
        """What has changed since the last time, which counts as sent then; None for nothing.

        Returns:
            ``from`` and ``to``, revisions; and where there is any: ``head``; ``drop``, ids; ``add``
            (at the end), ``[id, cells, detail]`` each; ``set``, ``[id, [index, cell, …]]`` each,
            with the detail when that has changed; ``order``, all ids, when the rows stand
            otherwise than these leave them. With ``columns`` it is everything, as `whole`.
        """
        if self._seen == self.changes:
            return None
        self._seen = self.changes
        columns = self._encoded_columns()
        anew = columns != self._sent_columns
        delta: dict[str, Any] = {}
        if (head := encoded_head(self._head, self.cut_notes())) != self._sent_head:
            self._sent_head = delta["head"] = head
        added, changed = self._sent_rows()
        if changed:
            delta["set"] = changed
        if self._moved:
            delta |= self._order(added)
        self._moved = False
        self._touched.clear()
        self._sent_columns = columns
        if not delta and not anew:
            return None
        before, self.revision = self.revision, self.revision + 1
        return self.whole() if anew else {"from": before, "to": self.revision, **delta}

    def whole(self) -> dict[str, Any]:
        """Everything as it was last sent."""
        by_id = {row.id: row for row in self._rows.values() if row.sent is not None}
        return {
            "to": self.revision,
            "columns": self._sent_columns or [],
            "head": self._sent_head,
            "follow": self.follow,
            "add": [_entry(by_id[id_]) for id_ in self._sent_ids if id_ in by_id],
        }

    def _sent_rows(self) -> tuple[list[list[Any]], list[list[Any]]]:
        """Encode what was touched: rows that are new, and changes of rows that are not."""
        added, changed = [], []
        for key in self._touched:
            row = self._rows.get(key)
            if row is None:
                continue
            if row.sent is None:
                row.sent = [*map(encode, row.cells, self._columns[:MAX_COLUMNS])]
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
        """Encode the detail to send, within what all of them may take together."""
        detail = row.detail.encoded()
        size = len(detail if isinstance(detail, str) else repr(detail))
        if self._details - row.detail_size + size > MAX_DETAILS:
            detail, size = UNSHOWN, len(UNSHOWN)
        self._details += size - row.detail_size
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
                "label": plain(one.label),
                "kind": one.kind,
                "digits": one.digits,
                **({"line": one.line} if one.line != 1 else {}),
            }
            for one in self._columns[:MAX_COLUMNS]
        ]

    def cut_notes(self) -> list[str]:
        """What is not held, said in words."""
        notes = []
        if self.cut:
            notes.append(
                f"… and {self.cut:,} {'older' if self.follow else 'more'} rows, not shown."
            )
        if (hidden := len(self._columns) - MAX_COLUMNS) > 0:
            notes.append(f"… and {hidden:,} more columns, not shown.")
        return notes


def _entry(row: Row) -> list[Any]:
    return [row.id, row.sent, row.sent_detail]
