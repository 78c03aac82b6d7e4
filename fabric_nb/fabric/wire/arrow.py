"""Received Arrow streams: measured before they are decoded, and split into slices.

A few bytes of Arrow may represent any number of values: null, run-end encoded and fixed-size-list
columns store none of their values, buffers may be compressed, and dictionaries and views share
theirs. So the metadata of the messages is read first (the Flatbuffers of Arrow's ``Message.fbs``,
columnar format 1.5), which has the number of values and bytes after decoding.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final

from fabric_nb.errors import MalformedMessage
from fabric_nb.fabric.wire.formats import Table
from fabric_nb.frames.arrow_types import is_simple

MAX_VALUES: Final = 16 * 1024 * 1024
"""Maximum number of values in one message: rows times columns, and the values nested in these."""
MAX_WEIGHTLESS: Final = 1024 * 1024
"""Maximum number of values in one message beyond one value per bit of its buffers."""
MAX_BYTES: Final = 256 * 1024 * 1024
"""Maximum number of bytes of the values of one message."""
_MIN_VALUE_BYTES: Final = MAX_BYTES // MAX_VALUES
"""Bytes that each value counts for at least, so that the limit of bytes limits the values too."""
PART_VALUES: Final = 100_000
"""Values that are processed at once while other threads wait for the interpreter."""

_I32, _U32, _U16, _I64 = (struct.Struct(f"<{kind}") for kind in "iIHq")
_BODY_COMPRESSED = 3


class ArrowBody:
    """Arrow stream in a message body, of which only the metadata was read.

    Attributes:
        values: number of its values.
        bytes: bytes of these values.
        expanded: bytes of the values with shared storage, once each has its own; set by `read`.

    Raises:
        MalformedMessage: it is not an Arrow stream, or it has too many values or bytes.
    """

    def __init__(self, body: bytes) -> None:
        pa = _pyarrow()
        self._body = body
        self.values = self.bytes = self.expanded = 0
        try:
            self._messages = list(pa.ipc.MessageReader.open_stream(pa.py_buffer(body)))
            for message in self._messages:
                if message.type != "schema":
                    values, size = _measure_batch(bytes(message.metadata), message.body)
                    self.values += values
                    self.bytes += size
        except (pa.ArrowException, ValueError, OSError, struct.error, IndexError) as error:
            raise _malformed(error) from None
        most = min(MAX_VALUES, MAX_WEIGHTLESS + 8 * self.bytes)
        if self.values > most or self.bytes > MAX_BYTES:
            raise MalformedMessage(
                f"The Arrow stream has more than {most:,} values or {MAX_BYTES:,}"
                " bytes: publish it in parts."
            )

    def read(self) -> Table:
        """Decode the stream to a table.

        Raises:
            MalformedMessage: it does not match its metadata.
        """
        pa = _pyarrow()
        try:
            table = self._table(pa)
            table.validate(full=True)  # offsets of a hostile body could be out of range
        except (pa.ArrowException, ValueError, OSError) as error:
            raise _malformed(error) from None
        if not is_simple(table.schema):
            self.expanded = _expanded_size(table)
        return table

    def _table(self, pa: Any) -> Table:
        types = [message.type for message in self._messages]
        if types[:1] != ["schema"] or set(types[1:]) - {"record batch"}:  # there are dictionaries
            with pa.ipc.open_stream(pa.py_buffer(self._body)) as reader:
                return reader.read_all()
        schema = pa.ipc.read_schema(self._messages[0])
        batches = [pa.ipc.read_record_batch(each, schema) for each in self._messages[1:]]
        return pa.Table.from_batches(batches, schema)


def _measure_batch(metadata: bytes, body: Any) -> tuple[int, int]:
    """Return the number of values of a record batch or dictionary, and their bytes."""
    message = _Flat(metadata, _U32.unpack_from(metadata)[0])
    batch = message.table(2)
    if message.byte(1) == 2:  # a dictionary, around a batch
        batch = batch.table(1)
    values = [batch.long(0), *(length for length, _ in batch.pairs(1))]
    if min(values) < 0:
        raise IndexError("a negative length")
    size = len(body)
    if batch.has(_BODY_COMPRESSED):
        size = 0
        for offset, length in batch.pairs(2):
            if length:
                unpacked = _I64.unpack(body[offset : offset + 8].to_pybytes())[0]
                size += length if unpacked < 0 else unpacked
    return max(values[0], sum(values[1:])), size


class _Flat:
    """Table of a Flatbuffer; offsets out of range raise `struct.error` or `IndexError`."""

    def __init__(self, raw: bytes, at: int) -> None:
        self._raw, self._at = raw, at
        self._fields = at - _I32.unpack_from(raw, at)[0]
        if self._fields < 0:
            raise IndexError("a table outside of the metadata")
        self._end = self._fields + _U16.unpack_from(raw, self._fields)[0]

    def _place(self, field: int) -> int:
        entry = self._fields + 4 + 2 * field
        offset = _U16.unpack_from(self._raw, entry)[0] if entry < self._end else 0
        return self._at + offset if offset else 0

    def has(self, field: int) -> bool:
        return self._place(field) > 0

    def byte(self, field: int) -> int:
        place = self._place(field)
        return self._raw[place] if place else 0

    def long(self, field: int) -> int:
        place = self._place(field)
        return int(_I64.unpack_from(self._raw, place)[0]) if place else 0

    def table(self, field: int) -> _Flat:
        place = self._place(field)
        if not place:
            raise IndexError("a table is missing")
        return _Flat(self._raw, place + _U32.unpack_from(self._raw, place)[0])

    def pairs(self, field: int) -> Iterator[tuple[int, int]]:
        """Iterate over a vector of structs of two 64-bit numbers."""
        place = self._place(field)
        if not place:
            return iter(())
        start = place + _U32.unpack_from(self._raw, place)[0] + 4
        count = _U32.unpack_from(self._raw, start - 4)[0]
        if start + 16 * count > len(self._raw):
            raise IndexError("a vector outside of the metadata")
        return struct.iter_unpack("<qq", self._raw[start : start + 16 * count])


def parts_of(table: Table, values: int = 0) -> Iterator[Table]:
    """Yield slices of a table, each of about `PART_VALUES` of its `values`."""
    values = max(1, values, table.num_rows * table.num_columns)
    rows = max(1, PART_VALUES * table.num_rows // values)
    for start in range(0, table.num_rows, rows):
        yield table.slice(start, rows)


def _expanded_size(table: Table) -> int:
    """Estimate the bytes of the values of a table with shared storage, once each has its own.

    Raises:
        MalformedMessage: it is more than `MAX_BYTES`.
    """
    size = sum(_expanded(chunk) for column in table.columns for chunk in column.chunks)
    if size > MAX_BYTES:
        raise MalformedMessage(
            f"The Arrow stream takes more than {MAX_BYTES:,} bytes once its values share none:"
            " publish it in parts."
        )
    return size


def _expanded(array: Any) -> int:
    """Estimate the bytes of the values of an array with shared storage; 0 if there are none."""
    pa = _pyarrow()
    types, kind = pa.types, array.type
    if isinstance(array, pa.ExtensionArray):
        return _expanded(array.storage)
    if types.is_dictionary(kind):
        return _of_dictionary(array)
    if types.is_run_end_encoded(kind):
        return len(array) * max(_MIN_VALUE_BYTES, _longest(array.values))
    if types.is_string_view(kind) or types.is_binary_view(kind):
        return int(_view_lengths(array).sum())
    if types.is_list_view(kind) or types.is_large_list_view(kind):
        return (pa.compute.sum(array.sizes).as_py() or 0) * _longest(array.values)
    if types.is_union(kind):
        return len(array) * max(map(_longest, _fields(array)), default=0)
    if types.is_struct(kind):
        return sum(map(_expanded, _fields(array)))
    if types.is_map(kind):
        return _expanded(array.keys) + _expanded(array.items)
    return _expanded(array.values) if types.is_nested(kind) else 0


def _longest(array: Any) -> int:
    """Return at least the bytes of the longest value of an array."""
    pa = _pyarrow()
    types, kind = pa.types, array.type
    if types.is_string_view(kind) or types.is_binary_view(kind):
        return int(_view_lengths(array).max(initial=0))
    if types.is_string(kind) or types.is_binary(kind) or types.is_large_string(kind):
        return pa.compute.max(pa.compute.binary_length(array)).as_py() or 0
    if types.is_primitive(kind):
        return _MIN_VALUE_BYTES
    size: int = array.nbytes + _expanded(array)
    return max(_MIN_VALUE_BYTES, size)


def _of_dictionary(array: Any) -> int:
    pa = _pyarrow()
    kind = array.dictionary.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return len(array) * _longest(array.dictionary)
    lengths = pa.compute.binary_length(array.dictionary).take(array.indices)
    return pa.compute.sum(lengths).as_py() or 0


def _view_lengths(array: Any) -> Any:
    """Return the lengths of views; each view of 128 bits begins with its length in 32 bits."""
    import numpy as np

    views = np.frombuffer(array.buffers()[1], dtype="<i4")
    return views[4 * array.offset : 4 * (array.offset + len(array)) : 4].astype(np.int64)


def _fields(array: Any) -> list[Any]:
    return [array.field(index) for index in range(array.type.num_fields)]


def _pyarrow() -> Any:
    try:
        import pyarrow as pa
        import pyarrow.compute
    except ImportError:
        raise MalformedMessage(
            "Arrow cannot be read without pyarrow: pip install 'fabric-nb[arrow]'."
        ) from None
    return pa


def _malformed(error: Exception) -> MalformedMessage:
    return MalformedMessage(f"The body is not an Arrow stream ({str(error)[:200]}).")
