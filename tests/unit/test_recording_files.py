"""Formats of recordings: messages are read back equal."""

from __future__ import annotations

import errno
import json
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fabric_nb.errors import RecordingError
from fabric_nb.fabric.core.files import Draft
from fabric_nb.fabric.data.recording import columns, parquet, write_frame
from fabric_nb.fabric.data.recording.entry import Entry
from fabric_nb.fabric.data.recording.files import open_reader, open_writer
from fabric_nb.fabric.wire.data_decoding import rows_of

START = datetime(2026, 11, 25, 12, tzinfo=UTC)
KINDS = (".parquet", ".jsonl")


def entry(batch: Any, headers: dict[str, Any] | None = None, at: float = 0.0) -> Entry:
    rows = len(next(iter(batch.values()), ())) if isinstance(batch, dict) else len(batch)
    return Entry(START + timedelta(seconds=at), headers or {}, batch, rows, 100)


def written(path: Path, entries: list[Entry]) -> Path:
    writer = open_writer(path, overwrite=False)
    for each in entries:
        writer.write([each])
    writer.close()
    return path


def read(path: Path) -> list[Entry]:
    with closing(open_reader(path)) as reader:
        found = [one for chunk in reader for one in chunk]
        assert reader.progress == 1
    return found


def shown(value: Any) -> str:
    """Return a value for comparison: NaN equals NaN, 1 differs from True, key order is ignored."""
    if isinstance(value, dict):
        return repr(sorted((key, shown(each)) for key, each in value.items()))
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__}{[shown(each) for each in value]}"
    # Numbers of a column may come back as floats, which JSON does not tell apart.
    return repr(float(value)) if type(value) is int and abs(value) <= 2**53 else repr(value)


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_infinity=False),
    st.text(max_size=4),
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner)
)
names = st.sampled_from(["a", "b", "arrival", "header.a", "row.a", "fabric.form", "_overflow", "ü"])
rows = st.dictionaries(names, values, max_size=4)
headers = st.dictionaries(st.sampled_from(["kind", "n", "x"]), scalars, max_size=3)
batches = st.one_of(
    rows.map(lambda row: (row,)),
    st.lists(rows, min_size=1, max_size=4),
    st.integers(1, 3).flatmap(
        lambda n: st.dictionaries(names, st.lists(values, min_size=n, max_size=n), min_size=1)
    ),
)


@pytest.mark.parametrize(("kind", "group"), [(".parquet", 2), (".parquet", 50), (".jsonl", 50)])
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(messages=st.lists(st.tuples(batches, headers), max_size=6))
def test_messages_are_read_back_equal(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    group: int,
    messages: list[tuple[Any, dict[str, Any]]],
) -> None:
    """Rows, headers, times and forms of messages are read back equal."""
    monkeypatch.setattr(parquet, "GROUP_ROWS", group)
    given_ = [entry(batch, dict(own), at) for at, (batch, own) in enumerate(messages)]
    found = read(written(tmp_path_factory.mktemp("r") / f"r{kind}", given_))
    assert [one.arrival for one in found] == [one.arrival for one in given_]
    assert [(one.form, one.rows) for one in found] == [(one.form, one.rows) for one in given_]
    for one, other in zip(found, given_, strict=True):
        assert shown(dict(one.headers)) == shown(dict(other.headers))
        assert shown(one.batch) == shown(other.batch)


@pytest.mark.parametrize("kind", KINDS)
def test_arrow_tables(tmp_path: Path, kind: str) -> None:
    """Arrow batches are read back as Arrow, in Parquet with their types."""
    times = pa.array([START, None], pa.timestamp("ns", "UTC"))
    table = pa.table({"n": pa.array([1, None], pa.int32()), "at": times, "s": ["x", "y"]})
    other = pa.table({"n": pa.array([2.5]), "late": ["z"]})
    (first, second) = read(written(tmp_path / f"r{kind}", [entry(table), entry(other)]))
    assert first.form == second.form == "arrow"
    assert first.batch["s"].to_pylist() == ["x", "y"]
    assert first.batch["n"].to_pylist() == [1, None]
    assert second.batch.to_pylist() == [{"n": 2.5, "late": "z"}]
    if kind == ".parquet":
        assert first.batch["at"].type == pa.timestamp("ns", "UTC")


def test_any_tool_reads_a_parquet_recording(tmp_path: Path) -> None:
    """A Parquet recording is read by other tools, such as pandas: types, headers, times."""
    path = written(
        tmp_path / "r.parquet",
        [entry(({"n": n, "s": f"t{n}"},), {"kind": "A", "level": n}, n) for n in range(5)],
    )
    frame = pd.read_parquet(path)
    assert list(frame["n"]) == [0, 1, 2, 3, 4]
    assert list(frame["header.level"]) == [0, 1, 2, 3, 4]
    assert str(frame["n"].dtype) == str(frame["header.level"].dtype) == "int64"
    assert frame["arrival"].iloc[3] == pd.Timestamp(START + timedelta(seconds=3))


def test_a_parquet_recording_has_a_temporary_name(tmp_path: Path) -> None:
    """An incomplete recording has a temporary name, and an existing file is kept."""
    path = tmp_path / "r.parquet"
    writer = open_writer(path, overwrite=False)
    writer.write([entry(({"n": 1},))])
    assert not path.exists()
    writer.close()
    assert [one.name for one in tmp_path.iterdir()] == ["r.parquet"]
    with pytest.raises(RecordingError, match="exists: choose another name, or say overwrite=True"):
        open_writer(path, overwrite=False)
    open_writer(path, overwrite=True).close()
    assert read(path) == []


def test_row_groups_limit_the_buffer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row group is written after a number of rows or bytes."""
    monkeypatch.setattr(parquet, "GROUP_ROWS", 10)
    path = written(tmp_path / "r.parquet", [entry(({"n": n},)) for n in range(25)])
    assert pa.parquet.ParquetFile(path).num_row_groups == 3
    monkeypatch.setattr(parquet, "GROUP_BYTES", 500)
    path = written(tmp_path / "s.parquet", [entry(({"n": n},)) for n in range(10)])
    assert pa.parquet.ParquetFile(path).num_row_groups == 2


def test_messages_larger_than_one_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message with more rows than are read at once is still one message."""
    monkeypatch.setattr(parquet, "_READ_ROWS", 3)
    sizes = [1, 10, 2, 1, 7]
    given_ = [entry([{"n": n} for n in range(size)]) for size in sizes]
    found = read(written(tmp_path / "r.parquet", given_))
    assert [one.rows for one in found] == sizes
    assert [one.batch for one in found] == [one.batch for one in given_]


def test_many_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns beyond the limit, and names that are not text, lose no values."""
    monkeypatch.setattr(columns, "MAX_COLUMNS", 3)
    row = {**{f"c{n}": n for n in range(9)}, "\ud800": "half"}
    (found,) = read(written(tmp_path / "r.parquet", [entry((row,))]))
    assert found.batch == (row,)


def test_an_incomplete_jsonl_recording(tmp_path: Path) -> None:
    """All complete messages of a recording whose writer was killed are read."""
    path = written(tmp_path / "r.jsonl", [entry(({"n": n},)) for n in range(3)])
    path.write_bytes(path.read_bytes()[:-5])
    assert [one.batch for one in read(path)] == [({"n": 0},), ({"n": 1},)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_disk_that_fails(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording on a disk that fails is closed, and deleted if it is empty."""

    def fail(*_: object) -> int:
        raise OSError(errno.EIO, "failed")

    writer = open_writer(tmp_path / f"a{kind}", overwrite=False)
    monkeypatch.setattr(parquet, "GROUP_ROWS", 1)
    writer.write([entry(({"n": 1},))])
    empty = open_writer(tmp_path / f"b{kind}", overwrite=False)
    monkeypatch.setattr(Draft, "write_at", fail)
    with pytest.raises(OSError, match="failed"):
        writer.salvage()  # a file left open would warn
    assert empty.salvage() is None
    if kind == ".jsonl":  # which begins with a line of its own
        with pytest.raises(RecordingError, match="cannot be written"):
            open_writer(tmp_path / f"c{kind}", overwrite=False)
    assert [path.name for path in tmp_path.iterdir()] == [f"a{kind}.partial"]


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("r.csv", b"", r"ends in \.parquet or \.jsonl, which 'r\.csv' does not"),
        ("r.jsonl", b"", "is no recording: make one with"),
        ("r.jsonl", b'{"n": 1}\n', "is no recording: make one with"),
        ("r.parquet", b"PAR1", "is no Parquet file"),
    ],
)
def test_other_files(tmp_path: Path, name: str, content: bytes, text: str) -> None:
    """A file that is not a recording is refused in one sentence."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(RecordingError, match=text):
        open_reader(path)


def test_missing_files(tmp_path: Path) -> None:
    """The error for a missing file, or one that cannot be created, has its path."""
    with pytest.raises(RecordingError, match=r"none\.parquet cannot be read: No such file"):
        open_reader(tmp_path / "none.parquet")
    with pytest.raises(RecordingError, match="cannot be written: No such file"):
        open_writer(tmp_path / "none" / "r.jsonl", overwrite=False)


def test_parquet_that_is_not_a_recording(tmp_path: Path) -> None:
    """A Parquet file of a DataFrame is not a recording."""
    write_frame(pd.DataFrame({"n": [1]}), tmp_path / "f.parquet")
    with pytest.raises(RecordingError, match="is no recording"):
        open_reader(tmp_path / "f.parquet")


@pytest.mark.parametrize(
    "line",
    [
        b"no json",
        b"[1]",
        b'{"arrival": "noon", "headers": {}, "form": "object", "rows": [{}]}',
        b'{"arrival": "2026-11-25T12:00:00+00:00", "headers": {}, "form": "odd", "rows": [{}]}',
        b'{"arrival": "2026-11-25T12:00:00+00:00", "headers": {}, "form": "list", "rows": [1]}',
    ],
)
def test_damaged_lines(tmp_path: Path, line: bytes) -> None:
    """The error for an invalid line has its number."""
    path = written(tmp_path / "r.jsonl", [entry(({"n": 1},))])
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(RecordingError, match=r"Line 3 of .*r\.jsonl is no message"):
        read(path)


def test_damaged_parquet(tmp_path: Path) -> None:
    """A recording with overwritten bytes is reported as damaged."""
    path = written(tmp_path / "r.parquet", [entry(({"n": n, "s": f"{n}" * 9},)) for n in range(99)])
    body = bytearray(path.read_bytes())
    body[4:400] = b"\xff" * 396
    path.write_bytes(body)
    with pytest.raises(RecordingError, match=r"r\.parquet is damaged"):
        read(path)


def test_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pyarrow, the error names the package to install, and JSON Lines work."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for work in (
        lambda: open_writer(tmp_path / "r.parquet", overwrite=False),
        lambda: write_frame(pd.DataFrame(), tmp_path / "r.parquet"),
    ):
        with pytest.raises(RecordingError, match=r"pip install 'fabric-nb\[arrow\]'"):
            work()
    assert len(read(written(tmp_path / "r.jsonl", [entry(({"n": 1},))]))) == 1


def test_lines_are_plain_json(tmp_path: Path) -> None:
    """Each line of a JSON recording is an object that any JSON reader reads."""
    path = written(tmp_path / "r.jsonl", [entry(({"n": 1},), {"kind": "A"})])
    head, line = map(json.loads, path.read_text().splitlines())
    assert head == {"fabric_nb": "recording", "version": 1}
    assert line["rows"] == [{"n": 1}]
    assert line["headers"] == {"kind": "A"}


def test_a_column_of_several_types_in_a_frame(tmp_path: Path) -> None:
    """The error for a DataFrame that Parquet cannot represent has the column and advice."""
    frame = pd.DataFrame({"n": [1, 2], "mixed": pd.Series([1, "x"], dtype=object)})
    with pytest.raises(RecordingError, match=r"which mixed has not: write .*'mixed': str"):
        write_frame(frame, tmp_path / "f.parquet")


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_arrow_of_any_type_is_read_again(tmp_path: Path, kind: str) -> None:
    """A column of any Arrow type does not affect the rest of a recording."""
    text = pa.table({"a": ["x", None]})
    pairs = pa.table({"a": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64()))})
    nulls = pa.table({"z": pa.nulls(2)})
    entries = [entry(({"a": {"b": 1}},)), *map(entry, (text, pairs, nulls)), entry(({"a": 5},))]
    found = read(written(tmp_path / f"r.{kind}", entries))
    rows = [list(rows_of(one.batch)) for one in found]
    assert list(map(len, rows)) == [1, 2, 1, 2, 1]
    del rows[3]
    assert rows == [[{"a": {"b": 1}}], [{"a": "x"}, {"a": None}], [{"a": [["k", 1]]}], [{"a": 5}]]
