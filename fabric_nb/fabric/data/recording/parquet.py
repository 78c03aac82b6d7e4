"""Recordings as Parquet: one row for each row, so that any tool can read them (extra ``arrow``).

Besides the columns of the rows there are

- ``arrival``: time of arrival of the row, in UTC;
- ``header.<name>``: headers of its message;
- ``fabric.message`` and ``fabric.form``: number of its message, and form of the rows in it;
- ``_overflow``: values that do not fit into their column, as JSON: values of another type than in
  the first row group, columns that appeared later, and nulls in columns with values.

Nested values, and columns of several types, are JSON texts, marked in the column's metadata. A file
is written with the suffix ``.partial``, and gets its final name when it is closed; it is complete
after each row group, so that it can be read after a full disk or a killed kernel.

Playback encodes the rows again. Message bodies are not kept beside the columns, because files would
be 1.7 to 2.3 times as large, or 1.4 to 2.1 times with zstd before and after (200,000 rows as JSON
objects, in lists of 100, and in JSON columns with gzip and Arrow tables of 1,000 rows); writing
would take 1.1 to 1.3 times the CPU time, and reading 0.04 to 0.8 times.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC
from itertools import chain, groupby, repeat
from pathlib import Path
from typing import Any

from fabric_nb.errors import MalformedMessage, RecordingError
from fabric_nb.fabric.core.files import Draft
from fabric_nb.fabric.data.recording.columns import (
    ABSENT,
    ARRIVAL,
    FILE_MARK,
    FORM,
    MARK,
    MESSAGE,
    OWN,
    Columns,
    pyarrow,
    schema_of,
    table_of,
)
from fabric_nb.fabric.data.recording.entry import (
    FAILURES,
    HEADER_PREFIX,
    Counts,
    Entry,
    batch_of,
    salvaged,
)
from fabric_nb.fabric.data.recording.footer import MAGIC, Footer
from fabric_nb.fabric.wire.codec import decode
from fabric_nb.fabric.wire.data_decoding import rows_of
from fabric_nb.fabric.wire.formats import Table
from fabric_nb.frames.rows import OVERFLOW

GROUP_ROWS = 50_000
GROUP_BYTES = 64 * 1024 * 1024
"""Rows, and bytes of message bodies, that are buffered before a row group is written."""
_READ_ROWS = 2000
"""Rows that are read at once."""


# -- writing ---------------------------------------------------------------------------------------


class ParquetWriter:
    """Writer of Parquet, one row group at a time; after each the file is complete."""

    def __init__(self, path: Path, *, overwrite: bool = True) -> None:
        self._pa = pyarrow()
        self.written, self.skipped, self.reason = Counts(), Counts(), ""
        self._target = path
        self._draft = Draft(path, overwrite=overwrite)
        self._footer = Footer()
        self._schema: Any = None
        self._buffer: list[Entry] = []
        self._rows = self._size = 0

    def write(self, entries: Sequence[Entry]) -> None:
        """Add messages."""
        for entry in entries:
            self._buffer.append(entry)
            self._rows += entry.rows
            self._size += entry.size
            if self._rows >= GROUP_ROWS or self._size >= GROUP_BYTES:
                self._write_group()

    def close(self) -> None:
        """Write the buffered messages, and rename the file to its final name."""
        if self._buffer or self._schema is None:
            self._write_group()
        self._draft.commit()

    def salvage(self) -> Path | None:
        """End with the complete row groups in the file; return its path, or None without any."""
        # The bytes of the footer were there before, so that there is room for them.
        footer = self._footer
        return salvaged(
            self._draft, self._target, self.written, end=footer.end, footer=bytes(footer)
        )

    def _write_group(self) -> None:
        entries, self._buffer = self._buffer, []
        self._rows = self._size = 0
        try:
            file, schema = self._file_of(entries)
        except FAILURES:
            raise
        except Exception:  # noqa: BLE001 - caused by some of the messages, which are omitted
            entries = self._fitting(entries)
            file, schema = self._file_of(entries)
        data, footer = self._footer.added(file)
        start = self._footer.end
        if not self.written.messages:
            start, data = 0, MAGIC + data
        self._draft.write_at(start, data + bytes(footer))
        self._footer, self._schema = footer, schema
        self.written.add(entries)

    def _fitting(self, entries: list[Entry]) -> list[Entry]:
        """Return the messages that Parquet can represent; count the others as skipped."""
        try:
            self._file_of(entries)
        except FAILURES:
            raise
        except Exception as error:  # noqa: BLE001 - they are omitted and counted
            if len(entries) > 1:
                half = len(entries) // 2
                return self._fitting(entries[:half]) + self._fitting(entries[half:])
            self.skipped.add(entries)
            self.reason = str(error)
            return []
        return entries

    def _file_of(self, entries: Sequence[Entry]) -> tuple[bytes, Any]:
        """Return messages as a file of one row group, and its schema."""
        table = self._table(entries)
        sink = self._pa.BufferOutputStream()
        self._pa.parquet.write_table(table, sink, row_group_size=max(1, table.num_rows))
        return sink.getvalue().to_pybytes(), table.schema

    def _table(self, entries: Sequence[Entry]) -> Any:
        """Return messages as a table of the recording's schema, which the first call determines."""
        parts: list[Columns] = []
        number = self.written.messages
        for of_arrow, group in groupby(entries, key=lambda entry: entry.form == "arrow"):
            alike = list(group)
            # Arrow tables separately, because two of them may have different columns.
            for each in zip(alike) if of_arrow else [alike]:
                parts.append(self._columns(each, number))
                number += len(each)
        schema = self._schema or schema_of(self._pa, parts)
        tables = [table_of(self._pa, schema, columns) for columns in parts]
        return self._pa.concat_tables(tables) if tables else schema.empty_table()

    def _columns(self, entries: Sequence[Entry], number: int) -> Columns:
        """Return all columns of consecutive messages: either one of Arrow, or several of rows."""
        counts = [entry.rows for entry in entries]
        numbers = range(number, number + len(entries))
        columns: Columns = {
            ARRIVAL: _for_rows([entry.arrival for entry in entries], counts),
            MESSAGE: _for_rows(numbers, counts),
            FORM: _for_rows([entry.form for entry in entries], counts),
        }
        for name in dict.fromkeys(chain.from_iterable(entry.headers for entry in entries)):
            values = [entry.headers.get(name, ABSENT) for entry in entries]
            columns[HEADER_PREFIX + name] = _for_rows(values, counts)
        return {**columns, **_own_columns(entries)}


def _for_rows(values: Sequence[Any], counts: Sequence[int]) -> list[Any]:
    """Repeat a value of each message for each of its rows."""
    return list(chain.from_iterable(map(repeat, values, counts)))


def _own_columns(entries: Sequence[Entry]) -> Columns:
    """Return the columns of the rows, with the prefix `row.` for reserved names."""
    if entries[0].form == "arrow":
        table: Table = entries[0].batch
        columns = dict(zip(table.column_names, table.columns, strict=True))
    else:
        rows = list(chain.from_iterable(rows_of(entry.batch) for entry in entries))
        names = dict.fromkeys(chain.from_iterable(rows))
        columns = {name: [row.get(name, ABSENT) for row in rows] for name in names}
    return {_escaped(name): values for name, values in columns.items()}


def _escaped(name: str) -> str:
    taken = name in OWN or name.startswith((HEADER_PREFIX, "row."))
    return f"row.{name}" if taken else name


# -- reading ---------------------------------------------------------------------------------------


class ParquetReader:
    """Reader of Parquet."""

    def __init__(self, path: Path) -> None:
        self.progress = 0.0
        self._pa = pa = pyarrow()
        self._path = path
        try:
            self._file = pa.parquet.ParquetFile(path)
        except pa.ArrowException as error:
            raise RecordingError(f"{path} is no Parquet file: {str(error)[:200]}") from None
        schema = self._file.schema_arrow
        if (schema.metadata or {}).get(MARK) != FILE_MARK[MARK] or not {*OWN} <= {*schema.names}:
            self.close()
            raise RecordingError(f"{path} is no recording: make one with stream.record(...).")
        self._json = {field.name for field in schema if (field.metadata or {}).get(MARK)}
        self._headers = [name for name in schema.names if name.startswith(HEADER_PREFIX)]
        self._columns = [name for name in schema.names if name not in {*OWN, *self._headers}]

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __iter__(self) -> Iterator[Sequence[Entry]]:
        pa, read, total = self._pa, 0, max(1, self._file.metadata.num_rows)
        rest: Any = None  # rows of a message that may continue
        try:
            for batch in self._file.iter_batches(batch_size=_READ_ROWS):
                read += batch.num_rows
                table = pa.Table.from_batches([batch])
                table = table if rest is None else pa.concat_tables([rest, table])
                starts = _starts(table)
                last = int(starts[-1])
                rest = table[last:]
                yield self._entries(table[:last], starts[:-1])
                self.progress = read / total
            if rest is not None:
                yield self._entries(rest, _starts(rest))
        except (pa.ArrowException, OSError, MalformedMessage) as error:
            raise RecordingError(f"{self._path} is damaged: {str(error)[:200]}") from None
        self.progress = 1.0

    def _entries(self, table: Any, starts: Any) -> list[Entry]:
        entries = []
        ends = [*starts[1:].tolist(), table.num_rows]
        first = table.take(starts)
        forms = first[FORM].to_pylist()
        arrivals = first[ARRIVAL].to_pylist()
        headers = [
            {
                name[len(HEADER_PREFIX) :]: row[name]
                for name in row
                if name.startswith(HEADER_PREFIX)
            }
            for row in self._rows(first, self._headers)
        ]
        for form, group in groupby(range(len(forms)), key=forms.__getitem__):
            places = list(group)
            begin, end = int(starts[places[0]]), ends[places[-1]]
            part = table[begin:end]
            rows = None if form == "arrow" and self._is_plain(part) else self._own_rows(part)
            for place in places:
                start, stop = int(starts[place]) - begin, ends[place] - begin
                if rows is None:
                    batch: Any = self._plain_table(part[start:stop])
                else:
                    batch = batch_of(form, rows[start:stop])
                arrival = arrivals[place].astimezone(UTC)
                entries.append(Entry(arrival, headers[place], batch, stop - start))
        return entries

    def _own_rows(self, table: Any) -> list[dict[str, Any]]:
        return [
            {
                name.removeprefix("row."): value
                for name, value in row.items()
                if not name.startswith(HEADER_PREFIX)
            }
            for row in self._rows(table, self._columns)
        ]

    def _rows(self, table: Any, names: Sequence[str]) -> list[dict[str, Any]]:
        """Return rows of some columns, without absent values and with those of the overflow."""
        columns = {name: table[name].to_pylist() for name in names}
        for name in self._json.intersection(columns):
            columns[name] = [ABSENT if text is None else _read(text) for text in columns[name]]
        rows: list[dict[str, Any]] = [{} for _ in range(table.num_rows)]
        for name, values in columns.items():
            missing = ABSENT if name in self._json else None
            for row, value in zip(rows, values, strict=True):
                if value is not missing:
                    row[name] = value
        for row, text in zip(rows, table[OVERFLOW].to_pylist(), strict=True):
            if text is not None:
                row.update(_read(text))
        return rows

    def _is_plain(self, table: Any) -> bool:
        """Return whether no value is in a JSON column or in the overflow."""
        return all(table[name].null_count == table.num_rows for name in self._json)

    def _plain_table(self, table: Any) -> Any:
        """Return an Arrow message with the columns that it had."""
        present = [name for name in self._columns if table[name].null_count < table.num_rows]
        if not present:
            return [{} for _ in range(table.num_rows)]  # a table without columns has no rows
        names = [name.removeprefix("row.") for name in present]
        return table.select(present).rename_columns(names).replace_schema_metadata(None)


def _starts(table: Any) -> Any:
    """Return the index of the first row of each message."""
    import numpy as np

    numbers = table[MESSAGE].to_numpy()
    return np.flatnonzero(np.diff(numbers, prepend=numbers[0] - 1))


def _read(text: str) -> Any:
    return decode(text.encode())
