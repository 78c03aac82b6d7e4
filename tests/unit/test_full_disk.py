"""Full disks: existing files are kept, and recordings stay readable.

The limit of a process on the size of its files (RLIMIT_FSIZE) stands for the disk: writing beyond
it fails, for every user, with EFBIG in place of ENOSPC.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fabric_nb.errors import RecordingError
from fabric_nb.fabric.amqp.message import Delivery
from fabric_nb.fabric.core.files import Draft, replacing
from fabric_nb.fabric.data.recording import Recording
from fabric_nb.fabric.data.recording.files import open_writer
from fabric_nb.fabric.data.recording.footer import MAGIC, Footer
from tests.unit.test_recording_files import entry, read, written

LIMITED = """
import json, resource, signal, sys, asyncio
from pathlib import Path
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
def full(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
folder = Path(sys.argv[1])
"""


def limited(folder: Path, script: str) -> Any:
    """Run a script with the file size limit that it sets; return the JSON that it prints."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED + script, str(folder)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_frame_larger_than_the_disk(tmp_path: Path) -> None:
    """`to_parquet` onto an existing file leaves it unchanged when the disk is full."""
    good = tmp_path / "good.parquet"
    pd.DataFrame({"n": range(1000)}).to_parquet(good)
    error = limited(
        tmp_path,
        """
import pandas as pd, numpy as np
from fabric_nb.errors import RecordingError
from fabric_nb.fabric.data.recording import write_frame
full(100_000)
try:
    write_frame(pd.DataFrame({"n": np.random.default_rng(1).random(1_000_000)}),
                folder / "good.parquet")
except RecordingError as error:
    print(json.dumps(str(error)))
""",
    )
    assert "good.parquet cannot be written: File too large" in error
    assert pd.read_parquet(good)["n"].tolist() == list(range(1000))
    assert [one.name for one in tmp_path.iterdir()] == ["good.parquet"]


RECORD = """
from types import SimpleNamespace
from fabric_nb.errors import RecordingError
from fabric_nb.fabric.amqp.message import Delivery
from fabric_nb.fabric.data.recording import Recording, parquet
parquet.GROUP_ROWS = 100
async def record(name, overwrite):
    recording = Recording(folder / name, overwrite=overwrite, on_room=lambda: None)
    await recording.open()
    full(40_000)
    for n in range(3000):
        row = {"n": n, "text": f"{n * 7919 % 1_000_003:x}" * 20}
        recording.add((row,), Delivery(b"x" * 100), 1)
        if n % 100 == 0:
            await asyncio.sleep(0)
    try:
        await recording.close()
    except RecordingError as error:
        print(json.dumps([str(error), recording.messages, recording.rows, recording.lost]))
"""


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
@pytest.mark.parametrize("overwrite", [False, True], ids=["new", "overwrite"])
def test_a_recording_on_a_full_disk_is_readable(tmp_path: Path, kind: str, overwrite: bool) -> None:
    """The written part of a recording is readable when the disk is full; the rest is counted."""
    place = tmp_path / f"r.{kind}"
    if overwrite:
        written(place, [entry(({"n": -1},))])
    error, messages, rows, lost = limited(
        tmp_path, RECORD + f"asyncio.run(record('r.{kind}', {overwrite}))"
    )
    left = tmp_path / f"r.{kind}.partial" if overwrite else place
    assert [one.name for one in tmp_path.iterdir() if one != place] == [left.name] * overwrite
    assert 0 < messages == rows < 3000
    assert messages + lost == 3000
    assert f" messages are lost, and {rows:,} rows are in {left}" in error
    assert [one.batch[0]["n"] for one in read(left)] == list(range(rows))
    if kind == "parquet":
        assert pd.read_parquet(pa.OSFile(str(left)))["n"].tolist() == list(range(rows))
    if overwrite:
        assert [one.batch for one in read(place)] == [({"n": -1},)]


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_a_recording_that_cannot_begin(tmp_path: Path, kind: str) -> None:
    """Without any space, no file is left, and all messages are counted as lost."""
    error, messages, _, lost = limited(
        tmp_path,
        RECORD.replace("full(40_000)", "full(100)") + f"asyncio.run(record('r.{kind}', False))",
    )
    assert (messages, lost) == (0, 3000)
    assert "messages are lost, and nothing is kept." in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_a_recording_that_is_killed(tmp_path: Path, kind: str) -> None:
    """The file of a killed kernel is readable up to its last complete group, and is kept."""
    limited(
        tmp_path,
        f"""
from fabric_nb.fabric.data.recording import parquet
from fabric_nb.fabric.data.recording.files import open_writer
from tests.unit.test_recording_files import entry
parquet.GROUP_ROWS = 10
writer = open_writer(folder / "r.{kind}", overwrite=False)
writer.write([entry(({{"n": n}},)) for n in range(35)])
print(json.dumps(1), flush=True)
import os; os._exit(0)
""",
    )
    left = tmp_path / f"r.{kind}.partial"
    rows = [one.batch[0]["n"] for one in read(left)]
    assert rows == list(range(30 if kind == "parquet" else 35))
    written(tmp_path / f"r.{kind}", [entry(({"n": 1},))])
    assert [one.batch[0]["n"] for one in read(left)] == rows
    again = open_writer(tmp_path / f"r.{kind}", overwrite=True)
    again.write([entry(({"n": 2},))])
    assert (tmp_path / f"r.{kind}.2.partial").exists()
    again.close()
    assert [one.batch for one in read(tmp_path / f"r.{kind}")] == [({"n": 2},)]


class Odd:
    """Value that no format can represent."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_one_message_does_not_end_a_recording(tmp_path: Path, kind: str) -> None:
    """A message that the format cannot represent is omitted and counted; all others are written."""
    data = pa.py_buffer((2**62).to_bytes(8, "little"))
    late = pa.table({"at": pa.Array.from_buffers(pa.timestamp("s"), 1, [None, data])})
    writer = open_writer(tmp_path / f"r.{kind}", overwrite=False)
    writer.write([entry(({"n": 0},)), entry(({"n": Odd()},)), entry(({"n": 1},))])
    writer.write([entry(late), entry(({"n": 2},))])
    writer.close()
    rows = [one.batch[0]["n"] for one in read(tmp_path / f"r.{kind}") if one.form == "object"]
    assert rows == [0, 1, 2]
    assert writer.skipped.messages == 2
    assert writer.written.messages + writer.skipped.messages == 5
    assert writer.reason


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=40),
    st.lists(st.sampled_from("ibsft"), min_size=1, max_size=20),
)
@settings(max_examples=40, deadline=None)
def test_footers_are_joined(sizes: list[int], kinds: list[str]) -> None:
    """Row groups that were written separately are a file that Parquet's own reader reads."""
    of = {"i": 7, "b": True, "s": "text", "f": 0.5, "t": [1, 2]}
    schema = pa.table({f"c{n}": [of[kind]] for n, kind in enumerate(kinds)}).schema
    schema = schema.with_metadata({"mark": "1"})
    footer, file = Footer(), bytearray(MAGIC)
    for size in sizes:
        table = pa.table(
            {f"c{n}": [of[kind]] * size for n, kind in enumerate(kinds)}, schema=schema
        )
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, row_group_size=max(1, size))
        data, footer = footer.added(sink.getvalue().to_pybytes())
        file += data
        assert len(file) == footer.end
    with closing(pq.ParquetFile(pa.BufferReader(bytes(file) + bytes(footer)))) as parquet:
        assert parquet.metadata.num_rows == sum(sizes)
        assert parquet.metadata.num_row_groups == len(sizes)
        alone = pq.read_schema(pa.BufferReader(sink.getvalue()))
        assert parquet.schema_arrow.equals(alone, check_metadata=True)
        assert parquet.read().to_pylist() == [
            {f"c{n}": of[kind] for n, kind in enumerate(kinds)}
        ] * sum(sizes)


def test_files_are_replaced_completely_or_not_at_all(tmp_path: Path) -> None:
    """A file is replaced with its permissions, or is left unchanged on an error."""
    place, link = tmp_path / "a.txt", tmp_path / "link.txt"
    place.write_text("before")
    place.chmod(0o640)
    link.symlink_to(place)
    with pytest.raises(ZeroDivisionError), replacing(link) as draft:
        draft.write_text(f"half {1 / 0}")
    assert place.read_text() == "before"
    with replacing(link) as draft:
        draft.write_text("after")
    assert place.read_text() == "after"
    assert place.stat().st_mode & 0o777 == 0o640
    assert link.is_symlink()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.txt", "link.txt"]


def test_drafts_of_one_file_have_different_names(tmp_path: Path) -> None:
    """Two drafts of one file have different names, and the last commit wins."""
    one, two = Draft(tmp_path / "a"), Draft(tmp_path / "a")
    assert one.path != two.path
    one.write_at(0, b"one")
    two.write_at(0, b"two")
    two.commit()
    one.commit()
    assert (tmp_path / "a").read_bytes() == b"one"


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_a_draft_without_overwriting(
    tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without overwriting, the first commit wins, and the other draft is kept."""

    def link(*_: object) -> None:
        raise PermissionError

    if not links:
        monkeypatch.setattr(os, "link", link)
    one, two = (Draft(tmp_path / "a", overwrite=False) for _ in range(2))
    one.write_at(0, b"one")
    two.write_at(0, b"two")
    two.commit()
    with pytest.raises(FileExistsError):
        one.commit()
    one.write_at(3, b" more")
    one.close()
    assert (tmp_path / "a").read_bytes() == b"two"
    assert one.path.read_bytes() == b"one more"
    assert sorted(tmp_path.iterdir()) == [tmp_path / "a", one.path]


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
async def test_two_recordings_of_one_name(tmp_path: Path, kind: str) -> None:
    """If two recordings write one new file, the second to end is kept as a draft, and named."""
    place = tmp_path / f"r.{kind}"
    one, two = (Recording(place, overwrite=False, on_room=lambda: None) for _ in range(2))
    for number, recording in enumerate((one, two)):
        await recording.open()
        recording.add(({"n": number},), Delivery(b"x"), 1)
    await two.close()
    with pytest.raises(
        RecordingError, match="File exists; 0 messages are lost, and 1 rows"
    ) as caught:
        await one.close()
    assert [entry.batch for entry in read(place)] == [({"n": 1},)]
    left = tmp_path / f"r.{kind}.partial"
    assert str(left) in str(caught.value)
    assert [entry.batch for entry in read(left)] == [({"n": 0},)]
    assert (one.messages, one.rows, one.lost) == (1, 1, 0)


def test_partitioned_frames(tmp_path: Path) -> None:
    """A partitioned DataFrame is written as by pandas."""
    from fabric_nb.fabric.data.recording import write_frame

    frame = pd.DataFrame({"kind": ["a", "b"], "n": [1, 2]})
    write_frame(frame, tmp_path / "parts", partition_cols=["kind"])
    assert sorted(one.name for one in (tmp_path / "parts").iterdir()) == ["kind=a", "kind=b"]
    with pytest.raises(RecordingError, match="cannot be written: No such file"):
        write_frame(frame, tmp_path / "none" / "f.parquet")
