"""Footer of a Parquet file that grows by one row group at a time. Pure.

pyarrow writes a footer only when it closes a file. So it writes each group to a file of its own in
memory, and this module joins their footers: Parquet's ``FileMetaData`` (parquet.thrift) in Thrift's
compact protocol, with the offsets of each group shifted to its position.
"""

from __future__ import annotations

from typing import Final

MAGIC: Final = b"PAR1"
_STOP, _TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 0, 1, 2, 3, 7, 8, 9, 10, 12
_INTEGERS: Final = frozenset((4, 5, 6))

# Fields of parquet.thrift that are offsets in the file, by their path of field numbers.
_ROWS, _GROUPS = 3, 4
_OFFSETS: Final = frozenset(
    (
        (5,),  # RowGroup.file_offset
        (1, 2),  # RowGroup.columns[].file_offset
        (1, 4),  # offset_index_offset
        (1, 6),  # column_index_offset
        (1, 3, 9),  # meta_data.data_page_offset
        (1, 3, 10),  # index_page_offset
        (1, 3, 11),  # dictionary_page_offset
        (1, 3, 14),  # bloom_filter_offset
    )
)
_ORDINAL: Final = (7,)


class Footer:
    """Footer of a Parquet file, which describes the row groups in it.

    Attributes:
        end: offset of the next group, and of the footer until then.
    """

    def __init__(self) -> None:
        self.end = len(MAGIC)
        self._head = self._tail = b""
        self._groups: list[tuple[int, bytes]] = []

    def added(self, file: bytes) -> tuple[bytes, Footer]:
        """Return the bytes of a group, from a file with it alone, and the extended footer."""
        size = int.from_bytes(file[-8:-4], "little")
        data, thrift = file[len(MAGIC) : -8 - size], file[-8 - size : -8]
        reader = _Reader(thrift, self.end - len(MAGIC), len(self._groups))
        footer = Footer()
        head, rows, group, tail = reader.parts()
        footer.end = self.end + len(data)
        footer._head, footer._tail = self._head or head, self._tail or tail
        footer._groups = [*self._groups, *([(rows, group)] if group else [])]
        return data, footer

    def __bytes__(self) -> bytes:
        rows = sum(rows for rows, _ in self._groups)
        groups = b"".join(group for _, group in self._groups)
        thrift = b"".join(
            (
                self._head,
                _zigzag(rows),
                bytes((0x10 | _LIST,)),  # the next field is a list
                _list_head(len(self._groups)),
                groups,
                self._tail,
            )
        )
        return thrift + len(thrift).to_bytes(4, "little") + MAGIC


class _Reader:
    """Reader of the footer of one group, which shifts its offsets."""

    def __init__(self, raw: bytes, shift: int, ordinal: int) -> None:
        self._raw, self._at = raw, 0
        self._shift, self._ordinal = shift, ordinal

    def parts(self) -> tuple[bytes, int, bytes, bytes]:
        """Return the bytes before the row count, the count, the group, and the remaining bytes."""
        field = rows = 0
        head = b""
        while kind := self._field_head():
            field += kind >> 4
            if field == _ROWS:
                head, rows = self._raw[: self._at], self._integer()
            elif field == _GROUPS:
                count, _ = self._list_head()
                if count > 1:
                    raise ValueError("the file has more than one row group")
                shifted = bytearray()
                for _ in range(count):
                    self._struct(shifted, ())
                return head, rows, bytes(shifted), self._raw[self._at :]
            else:
                self._value(kind & 0x0F, bytearray(), (0, field))
        raise ValueError("the file has no row groups")

    def _byte(self) -> int:
        self._at += 1
        return self._raw[self._at - 1]

    def _field_head(self) -> int:
        head = self._byte()
        if head and not head >> 4:
            raise ValueError("a field is out of order")
        return head

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def _integer(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _list_head(self) -> tuple[int, int]:
        head = self._byte()
        return (self._varint() if head >> 4 == 15 else head >> 4), head & 0x0F

    def _struct(self, out: bytearray, path: tuple[int, ...]) -> None:
        field = 0
        while head := self._field_head():
            out.append(head)
            field += head >> 4
            self._value(head & 0x0F, out, (*path, field))
        out.append(_STOP)

    def _value(self, kind: int, out: bytearray, path: tuple[int, ...]) -> None:
        """Copy a value, with its offsets shifted."""
        start = self._at
        if kind in (_TRUE, _FALSE):
            return
        if kind in _INTEGERS:
            value = self._integer()
            if path in _OFFSETS and value > 0:
                value += self._shift
            elif path == _ORDINAL:
                value = self._ordinal
            out += _zigzag(value)
        elif kind in (_LIST, _SET):
            count, of = self._list_head()
            out += self._raw[start : self._at]
            for _ in range(count):
                self._element(of, out, path)
        elif kind == _STRUCT:
            self._struct(out, path)
        elif kind in (_BYTE, _DOUBLE, _BINARY):
            size = {_BYTE: 1, _DOUBLE: 8}.get(kind) or self._varint()
            self._at += size
            out += self._raw[start : self._at]
        else:
            raise ValueError(f"a value is of the type {kind}")

    def _element(self, kind: int, out: bytearray, path: tuple[int, ...]) -> None:
        if kind in (_TRUE, _FALSE):  # in a list they take a byte
            out.append(self._byte())
        else:
            self._value(kind, out, path)


def _zigzag(value: int) -> bytes:
    value = (value << 1) ^ (value >> 63)
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _list_head(count: int) -> bytes:
    if count < 15:
        return bytes((count << 4 | _STRUCT,))
    out = bytearray((0xF0 | _STRUCT,))
    while count >= 0x80:
        out.append(count & 0x7F | 0x80)
        count >>= 7
    out.append(count)
    return bytes(out)
