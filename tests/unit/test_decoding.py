"""Decoding of messages: equal results in parts and at once, and limits before decoding."""

from __future__ import annotations

import contextlib
import gzip
import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fabric_nb.errors import MalformedMessage
from fabric_nb.fabric.amqp.message import Delivery
from fabric_nb.fabric.wire import arrow, json_reading
from fabric_nb.fabric.wire.content_encodings import TooLong, unpack
from fabric_nb.fabric.wire.data_decoding import (
    ARROW,
    JSON_COLUMNS,
    read_small,
    read_together,
    rows_of,
)
from fabric_nb.fabric.wire.data_encoding import arrow_body, compress
from fabric_nb.fabric.wire.json_reading import read_json
from tests.support.decoding import decode_rows
from tests.unit.test_wire import arrived

HARD_TEXT = st.sampled_from(["", "},{", '"}, {"', "],", '],"a":[', '1, 2", "3', "\\", "é", "\x00"])
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), HARD_TEXT),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(HARD_TEXT, inner, max_size=4)
    ),
    max_leaves=8,
)
rows = st.lists(st.dictionaries(HARD_TEXT, values, max_size=4), max_size=12)


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "in_parts" in request.node.name:
        monkeypatch.setattr(json_reading, "PIECE", 16)


@given(rows, st.sampled_from([None, 1]))
@example([{"a": [{"b": 1}, {"c": 2}]}] * 5, None)
@example([{"a": "},{" * 20}] * 3, 1)
def test_rows_are_read_alike_in_parts(sent: list[dict[str, Any]], indent: int | None) -> None:
    """A list of rows is decoded equal in parts and at once, wherever it is split."""
    body = json.dumps(sent, indent=indent).encode()
    assert decode_rows(body, None, None) == json.loads(body)


@given(st.lists(st.lists(values, min_size=3, max_size=3), max_size=6), st.sampled_from([None, 1]))
@example([["],", '],"a":[', 1]] * 4, None)
@example([["1, 2" * 30, "3", "4"]], None)
def test_columns_are_read_alike_in_parts(sent: list[list[Any]], indent: int | None) -> None:
    """Columns are decoded equal in parts and at once, wherever they are split."""
    body = json.dumps({f"c{n}": each for n, each in enumerate(sent)}, indent=indent).encode()
    assert decode_rows(body, JSON_COLUMNS, None) == json.loads(body)


@given(st.dictionaries(HARD_TEXT, values, max_size=6))
def test_an_object_is_read_alike_in_parts(sent: dict[str, Any]) -> None:
    """A single row is decoded equal in parts and at once."""
    body = json.dumps(sent).encode()
    assert decode_rows(body, None, None) == (json.loads(body),)


@given(values)
@example({"a": {"b": {"c": [{"d": 1}] * 20}}})
@example([{"a": "},{" * 20}, 1, [2] * 30, "x" * 40])
@example({"a": [1, 2, 3] * 9, "b": {"c": [], "d": {}}, "e": "]}" * 9})
@example({f"k{n}": {"a": [n], "b": "}, "} for n in range(20)})
def test_any_value_is_read_alike_in_parts(sent: Any) -> None:
    """Any JSON value, however nested, is decoded equal in pieces and at once."""
    for indent in (None, 1):
        body = json.dumps(sent, indent=indent).encode()
        assert read_json(body) == json.loads(body)


@given(values, st.data())
def test_any_damage_is_refused_alike_in_parts(sent: Any, data: st.DataObject) -> None:
    """A damaged value is decoded or refused alike in pieces and at once."""
    body = bytearray(json.dumps(sent).encode())
    place = data.draw(st.integers(0, len(body) - 1))
    body[place : place + data.draw(st.integers(0, 2))] = data.draw(
        st.sampled_from([b"", b",", b"}", b"]", b"{", b"[", b'"', b":", b"\\", b"1", b" "])
    )
    try:
        whole = json.loads(bytes(body))
    except ValueError:
        with pytest.raises(MalformedMessage):
            read_json(bytes(body))
    else:
        assert read_json(bytes(body)) == whole


BROAD: dict[str, Callable[[], Any]] = {
    "rows": lambda: [{"id": n, "name": f"n{n}", "at": None} for n in range(90_000)],
    "columns": lambda: {f"c{n}": list(range(30_000)) for n in range(20)},
    "nested": lambda: {"data": {"inner": [[n, [n]] for n in range(200_000)]}},
    "members": lambda: {f"k{n}": {"a": n, "b": [n, {"c": n}]} for n in range(80_000)},
    "texts": lambda: ["x},{" * 10] * 80_000,
}


@pytest.mark.parametrize("form", BROAD)
def test_no_piece_is_large(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No call of the parsers decodes more than a few pieces, however the value is nested."""
    read: list[int] = []
    scan, loads = json_reading.scan, json_reading.read_at_once

    def scanned(text: str, at: int) -> Any:
        value, end = scan(text, at)
        read.append(end - at)
        return value, end

    def loaded(piece: bytes) -> Any:
        read.append(len(piece))
        return loads(piece)

    monkeypatch.setattr(json_reading, "scan", scanned)
    monkeypatch.setattr(json_reading, "read_at_once", loaded)
    value = BROAD[form]()
    body = json.dumps(value).encode()
    assert len(body) > 8 * json_reading.PIECE
    assert read_json(body) == value
    assert max(read) <= 2 * json_reading.PIECE + 100
    assert sum(read) < 4 * len(body)


@given(rows, st.data())
def test_damaged_json_is_refused_alike_in_parts(
    sent: list[dict[str, Any]], data: st.DataObject
) -> None:
    """A damaged list is decoded or refused alike in parts and at once."""
    body = bytearray(json.dumps(sent).encode())
    place = data.draw(st.integers(0, len(body) - 1))
    body[place] = data.draw(st.sampled_from(b'[]{},":1 '))
    try:
        whole = json.loads(bytes(body))
    except ValueError:
        whole = None
    if isinstance(whole, dict):
        whole = (whole,)
    if not isinstance(whole, (list, tuple)) or not all(isinstance(one, dict) for one in whole):
        with pytest.raises(MalformedMessage):
            decode_rows(bytes(body), None, None)
    else:
        assert decode_rows(bytes(body), None, None) == whole


# -- content encodings

TEXT = '[{"name": "Zoë €"}]'


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("utf-8", TEXT.encode()),
        ("UTF8", TEXT.encode()),
        ("identity", TEXT.encode()),
        ("binary", TEXT.encode()),
        ("utf-16", TEXT.encode("utf-16")),
        ("utf-8-sig", TEXT.encode("utf-8-sig")),
        ("windows-1252", TEXT.encode("cp1252")),
        ("iso-8859-15", TEXT.encode("iso-8859-15")),
        ("gzip", gzip.compress(TEXT.encode(), mtime=0)),
        ("x-gzip", gzip.compress(TEXT.encode(), mtime=0)),
        ("gzip, utf-8", gzip.compress(TEXT.encode(), mtime=0)),
        ("gzip:UTF-8", gzip.compress(TEXT.encode(), mtime=0)),
        ("utf-16, gzip", gzip.compress(TEXT.encode("utf-16"), mtime=0)),
        ("identity, gzip", gzip.compress(TEXT.encode(), mtime=0)),
        ("deflate", zlib.compress(TEXT.encode())),
        ("deflate", zlib.compress(TEXT.encode())[2:-4]),
        ("zstd", compress(TEXT.encode(), "zstd")),
        ("gzip, zstd", compress(gzip.compress(TEXT.encode(), mtime=0), "zstd")),
        (
            "gzip",
            gzip.compress(TEXT[:7].encode(), mtime=0) + gzip.compress(TEXT[7:].encode(), mtime=0),
        ),
        ("zstd", compress(TEXT[:7].encode(), "zstd") + compress(TEXT[7:].encode(), "zstd")),
        ("", TEXT.encode()),
    ],
)
def test_content_encodings(encoding: str, body: bytes) -> None:
    """Compressions, charsets and lists of them are decoded, as written by other libraries."""
    assert decode_rows(body, "application/json", encoding) == json.loads(TEXT)
    assert read_small(arrived(body, content_encoding=encoding)) == json.loads(TEXT)


@pytest.mark.parametrize(
    "encoding", ["br", "base64", "zlib_codec", "punycode", "idna", "rot13", "gzip," * 9, "\x1b[2J"]
)
def test_other_content_encodings_are_malformed(encoding: str) -> None:
    """An encoding that is neither a known compression nor a charset is refused."""
    with pytest.raises(MalformedMessage):
        decode_rows(b"[]", None, encoding)


@given(st.binary(max_size=5000), st.sampled_from(["gzip", "zstd", "deflate"]), st.integers(1, 3))
def test_compressed_bodies_are_decompressed(body: bytes, encoding: str, times: int) -> None:
    """A body of any number of compressed parts is decompressed equal, up to its limit."""
    pack: dict[str, Callable[[bytes], bytes]] = {
        "gzip": gzip.compress,
        "zstd": lambda raw: compress(raw, "zstd"),
        "deflate": zlib.compress,
    }
    packed = b"".join(pack[encoding](body) for _ in range(times))
    assert bytes(unpack(packed, encoding, len(body) * times)) == body * times
    if body:
        with pytest.raises(TooLong):
            unpack(packed, encoding, len(body) * times - 1)
        with pytest.raises(MalformedMessage):
            unpack(packed[:-1], encoding, len(body) * times)


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "deflate"])
def test_many_compressed_bodies_in_a_row_cost_little(encoding: str) -> None:
    """Several concatenated compressed bodies are one; a large number of empty ones is refused."""
    pack: dict[str, Callable[[bytes], bytes]] = {
        "gzip": gzip.compress,
        "zstd": lambda raw: compress(raw, "zstd"),
        "deflate": zlib.compress,
    }
    assert unpack(pack[encoding](b"ab") * 64, encoding, 200) == b"ab" * 64
    many_empty = pack[encoding](b"") * 10_000
    assert read_small(arrived(many_empty, content_encoding=encoding)) is None, "left to a thread"
    with pytest.raises(TooLong, match="in a row"):
        unpack(pack[encoding](b"") * 70_000, encoding, 256 * 1024 * 1024)


# -- Arrow


def many(kind: pa.DataType, values: Any, lengths: int) -> pa.Array:
    """Return an array of many values that stores none of them."""
    return pa.RunEndEncodedArray.from_arrays(
        [lengths], pa.array(values, kind), pa.run_end_encoded(pa.int32(), kind)
    )


def zeros(rows: int) -> bytes:
    """Return a compressed column of zeros."""
    table = pa.table({"x": np.zeros(rows)})
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def of(array: pa.Array) -> bytes:
    """Return a stream of one column."""
    return arrow_body(pa.table({"x": array}))


LONG = "x" * 100_000
VIEW = struct.pack("<i4sii", len(LONG), b"xxxx", 0, 0)
MOST = 2**31 - 1
BOMBS: dict[str, Callable[[], bytes]] = {
    "null": lambda: of(pa.nulls(MOST)),
    "run-end": lambda: of(many(pa.string(), ["x"], MOST)),
    "fixed-size list": lambda: of(
        pa.Array.from_buffers(pa.list_(pa.null(), 1), MOST, [None], children=[pa.nulls(MOST)])
    ),
    "struct of nulls": lambda: of(pa.StructArray.from_arrays([pa.nulls(MOST)], ["a"])),
    "compressed": lambda: zeros(40_000_000),
    "run-end text": lambda: of(many(pa.string(), [LONG], 1_000_000)),
    "dictionary": lambda: of(
        pa.DictionaryArray.from_arrays(pa.array(np.zeros(1_000_000, "i1")), pa.array([LONG]))
    ),
    "nested dictionary": lambda: of(
        pa.ListArray.from_arrays(
            pa.array([0, 1_000_000], pa.int32()),
            pa.DictionaryArray.from_arrays(pa.array(np.zeros(1_000_000, "i1")), pa.array([LONG])),
        )
    ),
    "list view": lambda: of(
        pa.ListViewArray.from_arrays(
            pa.array(np.zeros(100_000, "i4")),
            pa.array(np.full(100_000, 100_000, "i4")),
            pa.array(np.zeros(100_000, "i1")),
        )
    ),
    "empty lists": lambda: of(
        pa.Array.from_buffers(pa.list_(pa.int8(), 0), 10**7, [None], children=[pa.nulls(0, "i1")])
    ),
    "empty structs": lambda: of(pa.Array.from_buffers(pa.struct([]), 10**7, [None])),
    "many columns of null": lambda: arrow_body(
        pa.table({f"c{number}": pa.nulls(10_000) for number in range(1500)})
    ),
    "short list views": lambda: of(
        pa.ListViewArray.from_arrays(
            pa.array(np.zeros(20_000, "i4")),
            pa.array(np.full(20_000, 1000, "i4")),
            pa.array(np.zeros(1000, "i1")),
        )
    ),
    "union": lambda: of(
        pa.UnionArray.from_dense(
            pa.array(np.zeros(1_000_000, "i1")),
            pa.array(np.zeros(1_000_000, "i4")),
            [pa.array([LONG])],
        )
    ),
}
if int(pa.__version__.partition(".")[0]) >= 17:  # older ones cannot make such an array
    BOMBS["view"] = lambda: of(
        pa.Array.from_buffers(
            pa.string_view(),
            100_000,
            [None, pa.py_buffer(VIEW * 100_000), pa.py_buffer(LONG.encode())],
        )
    )


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_arrow_with_too_many_values_is_refused(bomb: Callable[[], bytes]) -> None:
    """A few bytes of Arrow that represent too many values are refused."""
    body = bomb()
    with pytest.raises(MalformedMessage, match="publish it in parts"):
        decode_rows(body, ARROW, None)
    with contextlib.suppress(MalformedMessage):
        assert read_small(arrived(body, content_type=ARROW)) is None, "left to a thread"


@pytest.mark.parametrize(
    "body",
    [
        lambda: arrow_body(pa.table({f"c{number}": [1] for number in range(5000)})),
        lambda: arrow_body(pa.table({f"c{number}": pa.nulls(1) for number in range(5000)})),
        lambda: of(
            pa.ListViewArray.from_arrays(
                pa.array(np.zeros(9000, "i4")),
                pa.array(np.full(9000, 1000, "i4")),
                pa.array(np.zeros(1000, "i1")),
            )
        ),
        lambda: of(many(pa.string(), ["x" * 20_000], 9000)),
    ],
    ids=["columns", "columns of null", "list views", "run-end text"],
)
def test_expensive_arrow_is_left_to_a_thread(body: Callable[[], bytes]) -> None:
    """A small message that becomes many columns or values is not decoded on the loop."""
    sent = body()
    assert len(sent) < 1024 * 1024
    assert read_small(arrived(sent, content_type=ARROW)) is None
    assert len(decode_rows(sent, ARROW, None)) >= 1


def test_bombs_take_no_memory() -> None:
    """A body that would decompress to gigabytes is refused without allocating them."""
    script = """
import resource, sys
from tests.unit.test_decoding import BOMBS, JSON_BOMBS, decode_rows, ARROW, MalformedMessage
bodies = [(bomb(), ARROW, None) for name, bomb in BOMBS.items()]
bodies += [(bomb(), None, "gzip") for bomb in JSON_BOMBS.values()]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for body, kind, encoding in bodies:
    try:
        decode_rows(body, kind, encoding)
    except MalformedMessage:
        continue
    sys.exit(f"{body[:100]} was read")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 700, "MB beyond what the bombs took to be made"


JSON_BOMBS: dict[str, Callable[[], bytes]] = {
    "rows": lambda: gzip.compress(b"[" + b"{}," * 60_000_000 + b"{}]", 1),
    "lists": lambda: gzip.compress(b'{"a":[' + b"[]," * 60_000_000 + b"[]]}", 1),
    "numbers": lambda: gzip.compress(b'{"a":[' + b"1," * 60_000_000 + b"1]}", 1),
    "spaces": lambda: gzip.compress(b" " * 300_000_000, 1),
}


KINDS = [
    pa.array([1, None]),
    pa.array(["a", None]),
    pa.array([[1, 2], None, []]),
    pa.array([[["a"], None]], pa.large_list(pa.list_(pa.string()))),
    pa.array([[1, 2]], pa.list_(pa.int64(), 2)),
    pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int64(), 2)),
    pa.array([{"a": {"b": [[1], None]}, "c": None}, None, {"a": None, "c": 1}]),
    pa.array([[{"a": 1}, None], None, []]),
    pa.array([{"a": [1]}, None]),
    pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
    pa.array(["a", "b", "a"]).dictionary_encode(),
    many(pa.string(), ["ab"], 5),
    pa.array(["x" * 50, "y"], pa.string_view()),
    pa.array([[1], [2, 3]], pa.list_view(pa.int64())),
    pa.nulls(3),
]


@pytest.mark.parametrize("array", KINDS, ids=lambda array: str(array.type)[:30])
@pytest.mark.parametrize("compression", [None, "zstd", "lz4"])
def test_arrow_is_measured(array: pa.Array, compression: str | None) -> None:
    """The number of values and bytes is known before decoding, and the body is decoded."""
    table = pa.table({"x": array, "n": list(range(len(array)))})
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    body = sink.getvalue().to_pybytes()
    found = arrow.ArrowBody(body)
    assert found.values >= 2 * len(array)
    assert found.bytes >= 8 * len(array)
    read = decode_rows(body, ARROW, None)
    assert read.to_pylist() == rows_of(read) == table.to_pylist()


@given(st.data())
def test_damaged_metadata_is_refused(data: st.DataObject) -> None:
    """Arrow with some changed bytes is measured or malformed; nothing else is raised."""
    body = bytearray(of(pa.array([[1, 2], None, []])))
    for _ in range(data.draw(st.integers(1, 6))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = arrow.ArrowBody(bytes(body))
    except MalformedMessage:
        return
    assert found.values <= arrow.MAX_VALUES


fragments = st.sampled_from(
    [b'{"a":1}', b'{"a":', b'{"a":[', b'{"a":"', b"1", b"}", b"]", b'"', b",", b" ", b"[]", b"null"]
)
bodies = st.lists(st.lists(fragments, min_size=1, max_size=4).map(b"".join), min_size=1, max_size=5)


@given(bodies)
@example([b'{"a":1}', b'{"b":2}'])
@example([b'{"a":[{"x":1}', b'{"b":2}', b'{"c":3}]}', b'{"p":1},{"q":2},{"r":3}'])
@example([b'{"a":1', b'"b":2}', b'{"c":1},{"d":2}'])
@example([b'{"a":1}', b'{"a":NaN}'])
def test_messages_are_decoded_together_as_one_by_one(bodies: list[bytes]) -> None:
    """Messages that are decoded together are the same rows as one by one, or none of them is."""
    together = read_together([Delivery(body) for body in bodies])
    if together is None:
        return
    for body, row in zip(bodies, together, strict=True):
        assert repr(read_small(Delivery(body))) == repr((row,))


@pytest.mark.parametrize(
    "other",
    [
        Delivery(b"[1]"),
        Delivery(b"not JSON"),
        Delivery(b'[{"a": 1}]'),
        Delivery(b'{"a": [1]}', content_type=JSON_COLUMNS),
        Delivery(b'{"a": 1}', content_encoding="gzip"),
        Delivery(b'{"a": "' + b"x" * 20_000 + b'"}'),
    ],
)
def test_other_messages_are_decoded_one_by_one(other: Delivery) -> None:
    """Only small JSON objects are decoded together, without a content encoding."""
    row = Delivery(b'{"a": 1}', content_type="application/json")
    assert read_together([row, row]) == [{"a": 1}, {"a": 1}]
    assert read_together([row, other, row]) is None
