"""Batches of rows: encoded and decoded equal, with hostile ones refused."""

from __future__ import annotations

import contextlib
import gzip
import json
import math
import sys
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric_nb.errors import MalformedMessage, NotSerializable
from fabric_nb.fabric.wire import data_decoding
from fabric_nb.fabric.wire.codec import decode
from fabric_nb.fabric.wire.data_encoding import (
    Format,
    compress,
    data_message,
    encode_rows,
)
from fabric_nb.fabric.wire.names import ServiceName
from fabric_nb.frames.buffer import FrameBuffer
from tests.support.decoding import decode_rows

KINDS = (data_decoding.JSON, data_decoding.JSON_COLUMNS, data_decoding.ARROW)
FRAME = pd.DataFrame(
    {
        "n": [1, 2, 3],
        "x": [0.5, None, -2.0],
        "name": ["a", None, "ü"],
        "at": pd.to_datetime(["2026-01-01", "2026-01-02", None]),
    },
    index=[7, 8, 9],
)


def frame_of(body: bytes, content_type: str | None, encoding: str | None = None) -> pd.DataFrame:
    """Return the DataFrame of a stream with one message."""
    buffer = FrameBuffer()
    batch = decode_rows(body, content_type, encoding)
    if isinstance(batch, (list, tuple)):
        buffer.extend(batch)
    else:
        buffer.extend_columns(batch)
    return buffer.df


@pytest.mark.parametrize("form", ["json", "json-columns", "arrow"])
@pytest.mark.parametrize("compression", [None, "gzip", "zstd"])
def test_a_frame_arrives_in_every_form(form: Format, compression: Any) -> None:
    """A DataFrame arrives with its values, types and index, compressed or not."""
    body, content_type = encode_rows(FRAME, form)
    packed = body if compression is None else compress(body, compression)
    arrived = frame_of(packed, content_type, compression)
    assert list(arrived.columns) == ["index", *FRAME.columns]
    assert arrived["index"].tolist() == [7, 8, 9]
    assert arrived["n"].tolist() == [1, 2, 3]
    assert arrived["x"].isna().tolist() == [False, True, False]
    assert arrived["name"].tolist()[2] == "ü"
    assert arrived["at"].dt.strftime("%Y-%m-%d").tolist()[:2] == ["2026-01-01", "2026-01-02"]


def test_rows_are_batched_as_well() -> None:
    """Rows, also of an iterator, can be published in every format."""
    rows = [{"a": 1}, {"a": 2, "b": "x"}]
    for form in ("json", "json-columns", "arrow"):
        for given_rows in (rows, iter(rows)):
            arrived = frame_of(*encode_rows(given_rows, form))  # type: ignore[arg-type]
            assert arrived["a"].tolist() == [1, 2]
            assert arrived["b"].tolist()[1] == "x"
    plain = data_message(iter(rows), None, ServiceName("d", "t", "i"))
    assert plain.content_type == "application/json"
    assert json.loads(plain.body) == rows


def test_missing_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sender and reader name the missing package for Arrow and for zstd."""
    arrow, _ = encode_rows(FRAME, "arrow")
    packed = compress(b"[]", "zstd")
    for name in ("pyarrow", "compression.zstd", "backports.zstd"):
        monkeypatch.setitem(sys.modules, name, None)
    for extra, does in (
        ("arrow", lambda: encode_rows(FRAME, "arrow")),
        ("arrow", lambda: decode_rows(arrow, data_decoding.ARROW, None)),
        ("zstd", lambda: compress(b"[]", "zstd")),
        ("zstd", lambda: decode_rows(packed, None, "zstd")),
    ):
        with pytest.raises((NotSerializable, MalformedMessage), match=rf"fabric-nb\[{extra}\]"):
            does()


@pytest.mark.parametrize(
    ("body", "rows"),
    [(b'{"a": 1}', 1), (b'[{"a": 1}, {"a": 2}]', 2), (b"[]", 0)],
)
def test_plain_json_needs_no_content_type(body: bytes, rows: int) -> None:
    """Data of amqp-fabric, objects or lists of them without a content type, are rows."""
    assert len(decode_rows(body, None, None)) == rows


@pytest.mark.parametrize(
    ("body", "content_type", "encoding", "text"),
    [
        (b"[1, 2]", None, None, "JSON object"),
        (b"7", "application/json", None, "JSON object"),
        (b"{", None, None, "not JSON"),
        (b'{"a": [1], "b": [1, 2]}', data_decoding.JSON_COLUMNS, None, "one length"),
        (b'{"a": 1}', data_decoding.JSON_COLUMNS, None, "lists"),
        (b"[]", data_decoding.JSON_COLUMNS, None, "object"),
        (b"junk", data_decoding.ARROW, None, "Arrow"),
        (b"", data_decoding.ARROW, None, "Arrow"),
        (b"junk", None, "gzip", "not gzip"),
        (gzip.compress(b"{}", mtime=0)[:-9], None, "gzip", "too early"),
        (b"junk", None, "zstd", "not zstd"),
        (b"{}", None, "br", "not known"),
    ],
)
def test_bodies_of_another_format_are_malformed(
    body: bytes, content_type: str | None, encoding: str | None, text: str
) -> None:
    """A body that does not have its declared type or encoding is malformed, with the reason."""
    with pytest.raises(MalformedMessage, match=text):
        decode_rows(body, content_type, encoding)


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_decompression_bombs_are_refused(encoding: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small body that exceeds the limit when decompressed is refused before that."""
    monkeypatch.setattr(data_decoding, "MAX_BYTES", 100_000)
    bomb = compress(b" " * 10_000_000, encoding)
    assert len(bomb) < 20_000
    with pytest.raises(MalformedMessage, match="more than"):
        decode_rows(bomb, None, encoding)


@given(
    st.binary(max_size=300),
    st.sampled_from([None, *KINDS]),
    st.sampled_from([None, "gzip", "zstd"]),
)
def test_any_bytes_are_read_or_refused(
    body: bytes, content_type: str | None, encoding: str | None
) -> None:
    """Arbitrary bytes are rows or malformed; nothing else is raised."""
    with contextlib.suppress(MalformedMessage):
        decode_rows(body, content_type, encoding)


@given(st.data())
def test_a_damaged_arrow_stream_is_read_or_refused(data: st.DataObject) -> None:
    """An Arrow stream with some changed bytes is read or malformed."""
    body = bytearray(encode_rows(FRAME, "arrow")[0])
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        table = decode_rows(bytes(body), data_decoding.ARROW, None)
    except MalformedMessage:
        return
    assert isinstance(table, pa.Table)


@pytest.mark.parametrize("form", ["json", "json-columns", "arrow"])
@pytest.mark.parametrize(
    "data",
    [
        pa.table([[1], [2]], names=["a", "a"]),
        pa.table({"a": [1]}).select([]),
        pd.DataFrame({"a": pd.cut(pd.Series([1, 2]), 2)}),
        pd.DataFrame({"a": pd.Categorical(pd.period_range("2024", periods=1))}),
    ],
    ids=["twice", "no column", "intervals", "periods"],
)
def test_data_that_no_reader_can_read_are_refused(data: Any, form: Format) -> None:
    """Data that all readers would reject, or read as nothing, are refused at the sender."""
    with pytest.raises(NotSerializable, match="the data"):
        encode_rows(data, form)


@pytest.mark.parametrize("form", ["json", "json-columns"])
@pytest.mark.parametrize(
    "column",
    [
        pa.array([1], pa.time64("ns")),
        pa.array([2**62], pa.timestamp("s")),
        pa.array([2**31 - 1], pa.date32()),
        pa.array([0], pa.timestamp("s", tz="Mars/Olympus")),
    ],
    ids=lambda column: str(column.type),
)
def test_values_that_python_does_not_have(column: pa.Array, form: Format) -> None:
    """A value of an Arrow table that JSON would change, or that cannot be read, is refused."""
    with pytest.raises(NotSerializable, match=r"the data\['a'\] has a value of type"):
        encode_rows(pa.table({"a": column}), form)


@pytest.mark.parametrize(
    "values",
    [
        pd.date_range("2024-10-26T23:00", periods=3, freq="h", tz="Europe/Berlin"),
        ["b", "a", None],
        [2, 1, None],
        [True, False],
    ],
    ids=["zone", "text", "numbers", "booleans"],
)
def test_categories_arrive_equal_in_arrow(values: Any) -> None:
    """Categories of every type arrive in Arrow as equal values."""
    column = pd.Series(values, dtype="category")
    table = decode_rows(encode_rows(column.to_frame("a"), "arrow")[0], data_decoding.ARROW, None)
    expected = [None if pd.isna(value) else value for value in column]
    assert table.column("a").to_pylist() == expected


def test_nan_in_a_list_arrives_in_arrow() -> None:
    """NaN in a list arrives as NaN."""
    table = decode_rows(
        encode_rows([{"a": [math.nan, 1.5]}], "arrow")[0], data_decoding.ARROW, None
    )
    nan, number = table.column("a").to_pylist()[0]
    assert math.isnan(nan)
    assert number == 1.5


def test_a_series_is_rows_without_a_format() -> None:
    """A Series is published as rows of one column, with and without a format."""
    series = pd.Series([1, 2], name="n")
    message = data_message(series, {}, ServiceName("d", "t", "i"))
    assert decode(message.body) == [{"n": 1}, {"n": 2}]


def test_unsupported_values_and_formats_are_refused() -> None:
    """A value without a representation, and an unknown format, are refused at the sender."""
    with pytest.raises(NotSerializable, match="Arrow"):
        encode_rows(pd.DataFrame({"o": [object()]}), "arrow")
    with pytest.raises(NotSerializable, match="format"):
        encode_rows([], "csv")  # type: ignore[arg-type]
    with pytest.raises(NotSerializable, match="compression"):
        compress(b"", "br")  # type: ignore[arg-type]
