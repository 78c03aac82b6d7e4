"""Recording of an open stream, and playback of the recording."""

from __future__ import annotations

import asyncio
import datetime as dt
import errno
import gc
import threading
import time
from contextlib import closing
from decimal import Decimal

import pandas as pd
import pytest

from fabric_nb.errors import RecordingError
from fabric_nb.fabric.core.files import Draft
from fabric_nb.fabric.data.recording import recorder
from fabric_nb.fabric.data.recording import replay as replaying
from fabric_nb.fabric.data.recording.files import open_reader
from fabric_nb.fabric.data.recording.jsonlines import JsonLinesWriter
from tests.support.fabric import next_message, until

pytestmark = pytest.mark.any_broker  # files are of the member

KINDS = ("parquet", "jsonl")


def recorded(path):
    """Return the messages of a recording."""
    with closing(open_reader(path)) as reader:
        return [entry for chunk in reader for entry in chunk]


@pytest.fixture
async def source(members):
    """Member that publishes and plays back."""
    return await members.join("source", type="source")


@pytest.fixture
async def sink(members):
    """Member that subscribes and records."""
    return await members.join("sink", type="sink")


@pytest.mark.parametrize("kind", KINDS)
async def test_playback(source, sink, tmp_path, kind):
    """A recording is published with the same rows, headers and forms, in order."""
    path = tmp_path / f"orders.{kind}"
    frame = pd.DataFrame({"n": range(4, 104), "s": [f"t{n}" for n in range(100)]})
    async with (
        await sink.stream(kind="A", with_headers=True) as stream,
        await stream.record(path) as recording,
    ):
        source.publish_data({"n": 0, "who": "Ann", "none": None}, {"kind": "A", "level": 3})
        source.publish_data([{"n": 1}, {"n": 2}, {"n": 3}], {"kind": "A", "ok": True})
        source.publish_data({"n": -1}, {"kind": "B"})
        source.publish_data([], {"kind": "A"})
        source.publish_data(frame, {"kind": "A"}, format="arrow")
        source.publish_data(frame, {"kind": "A"}, format="json-columns", compression="gzip")
        await stream.wait(204, timeout=60)
        assert (recording.rows, recording.messages) == (204, 4)
        assert f"orders.{kind}: 204 rows of 4 messages, open" in repr(recording)
        assert stream.recordings == (recording,)
    assert recording.closed
    assert stream.recordings == ()
    first = stream.df

    async with await sink.stream(kind="A", with_headers=True) as again:
        replay = await (await source.replay(path, speed=0))
        await again.wait(204, timeout=60)
        assert (replay.messages, replay.rows, replay.failed) == (4, 204, 0)
        assert replay.done
        assert replay.progress == 1
        assert "204 rows of 4 messages, done" in repr(replay)
        pd.testing.assert_frame_equal(again.df, first, check_like=True)


async def test_any_tool_reads_a_recording(source, sink, tmp_path):
    """A Parquet recording is a table of rows, with headers and times of arrival."""
    path = tmp_path / "r.parquet"
    async with await sink.stream() as stream:
        recording = await stream.record(path)
        for n in range(10):
            await source.publish_data({"n": n}, {"kind": f"k{n % 2}"})
        await stream.wait(10, timeout=60)
        await recording.close()
        await source.publish_data({"n": 10})  # comes too late
        await stream.wait(11, timeout=60)
    frame = pd.read_parquet(path)
    assert list(frame["n"]) == list(range(10))
    assert list(frame["header.kind"]) == ["k0", "k1"] * 5
    assert list(frame["header.service_id"].unique()) == ["source"]
    assert frame["arrival"].is_monotonic_increasing
    assert abs(frame["arrival"].iloc[-1].timestamp() - time.time()) < 60


async def test_playback_speed(source, sink, tmp_path):
    """A recording is played back at its own speed, or at a multiple of it."""
    path = tmp_path / "r.jsonl"
    async with await sink.stream() as stream:
        async with await stream.record(path):
            for n in range(3):
                await source.publish_data({"n": n})
                await stream.wait(n + 1, timeout=60)
                await asyncio.sleep(0.2)
        entries = recorded(path)
        lasted = (entries[-1].arrival - entries[0].arrival).total_seconds()
        for speed in (1.0, 4.0):
            began = time.monotonic()
            await (await source.replay(path, speed=speed))
            assert time.monotonic() - began >= 0.9 * lasted / speed
        await stream.wait(9, timeout=60)


async def test_playback_can_be_cancelled(source, sink, tmp_path):
    """Playback ends when it is cancelled or its connector is closed, and has its progress."""
    path = tmp_path / "r.jsonl"
    async with await sink.stream() as stream:
        async with await stream.record(path):
            await source.publish_data({"n": 0})
            await stream.wait(1, timeout=60)
            await asyncio.sleep(0.3)
            await source.publish_data({"n": 1})
            await stream.wait(2, timeout=60)
        replay = await source.replay(path, speed=0.001)
        await until(lambda: replay.messages == 1)
        replay.cancel()
        async with asyncio.timeout(60):
            assert (await replay).cancelled
        assert "1 rows of 1 messages, cancelled" in repr(replay)
        other = await source.replay(path, speed=0.001)
        await source.close()
        assert other.cancelled
        assert other.done


async def test_playback_with_other_headers(source, sink, tmp_path):
    """Headers can be added for playback, or replace the recorded ones."""
    path = tmp_path / "r.jsonl"
    async with await sink.stream(kind="A") as stream, await stream.record(path):
        await source.publish_data({"n": 1}, {"kind": "A", "unit": "m"})
        await stream.wait(1, timeout=60)
    async with await sink.stream({"kind": "test", "unit": "m"}, with_headers=["kind"]) as again:
        await (await source.replay(path, speed=0, headers={"kind": "test"}))
        await again.wait(1, timeout=60)
        assert again.df["header.kind"].tolist() == ["test"]


@pytest.mark.parametrize("closing", ["stream", "connector"])
async def test_closing_completes_the_file(source, sink, tmp_path, closing):
    """When a stream or its connector is closed, its recordings are completed."""
    stream = await sink.stream()
    recording = await stream.record(tmp_path / "r.parquet")
    await source.publish_data({"n": 1})
    await stream.wait(1, timeout=60)
    await (stream if closing == "stream" else sink).close()
    assert recording.closed
    assert len(pd.read_parquet(recording.path)) == 1


async def test_a_stream_waits_for_its_recording(source, sink, tmp_path, monkeypatch):
    """If writing cannot keep up, messages wait at the broker, and none is lost."""
    monkeypatch.setattr(recorder, "MAX_BEHIND", 2000)
    async with await sink.stream(prefetch=50) as stream:
        free, write = threading.Event(), JsonLinesWriter.write

        def wait_and_write(writer, entries):
            assert free.wait(60)
            return write(writer, entries)

        monkeypatch.setattr(JsonLinesWriter, "write", wait_and_write)
        recording = await stream.record(tmp_path / "r.jsonl")
        for n in range(500):
            source.publish_data({"n": n})
        await until(lambda: stream.held_up)
        assert stream.rows < 500
        assert stream.waiting <= 50
        free.set()
        await stream.wait(500, timeout=60)
        await recording.close()
        assert list(stream.df["n"]) == list(range(500))
    found = [entry.batch[0]["n"] for entry in recorded(recording.path)]
    assert found == list(range(500))


async def test_a_recording_that_fails(source, sink, tmp_path, caplog, monkeypatch):
    """Rows that cannot be written are reported once and counted, and the stream continues."""

    def fail(*_):
        raise OSError(errno.EIO, "the disk has gone")

    async with await sink.stream() as stream:
        recording = await stream.record(tmp_path / "r.jsonl")
        monkeypatch.setattr(Draft, "write_at", fail)
        source.publish_data({"n": 1})
        await until(lambda: recording.error is not None)
        await source.publish_data({"n": 2})
        await stream.wait(2, timeout=60)
        assert recording.lost == 2
        assert "2 messages lost, failed" in repr(recording)
        with pytest.raises(RecordingError, match=r"r\.jsonl could not be written"):
            await recording.close()
        await recording.close()  # reported already
    assert "could not be written" in caplog.text


async def test_two_recordings_and_a_reader(source, sink, tmp_path):
    """A stream can be recorded twice and read at once, without an effect on each other."""
    async with await sink.stream() as stream:
        one = await stream.record(tmp_path / "one.jsonl")
        two = await stream.record(tmp_path / "two.parquet")

        async def read():
            async for rows in stream.batches():
                rows[0]["n"] = "changed"
                return

        reading = asyncio.create_task(read())
        await asyncio.sleep(0)
        await source.publish_data([{"n": 1}, {"n": 2}])
        await reading
        await one.close()
        await two.close()
        assert list(stream.df["n"]) == [1, 2]
    for recording in (one, two):
        (entry,) = recorded(recording.path)
        assert entry.batch == [{"n": 1}, {"n": 2}]


async def test_refusals(sink, tmp_path):
    """Files that cannot be recorded to or played back are refused in one sentence."""
    (tmp_path / "there.jsonl").write_text("mine")
    async with await sink.stream() as stream:
        with pytest.raises(RecordingError, match="exists: choose another name"):
            await stream.record(tmp_path / "there.jsonl")
        with pytest.raises(RecordingError, match=r"ends in \.parquet or \.jsonl"):
            await stream.record(tmp_path / "r.txt")
        assert stream.recordings == ()
    with pytest.raises(RecordingError, match="is no recording"):
        await sink.replay(tmp_path / "there.jsonl")
    with pytest.raises(RecordingError, match="speed is a factor"):
        await sink.replay(tmp_path / "there.jsonl", speed=-1)


async def test_to_parquet(source, sink, tmp_path):
    """The rows of a stream are written like a DataFrame."""
    async with await sink.stream(index="at") as stream:
        await source.publish_data([{"at": "2026-11-25T12:00:00Z", "n": 1}])
        await stream.wait(1, timeout=60)
        stream.to_parquet(tmp_path / "held.parquet")
        found = pd.read_parquet(tmp_path / "held.parquet")
        pd.testing.assert_frame_equal(found, stream.df)


HEADERS = {
    "float": 0.1,
    "int": 2**40,
    "bool": True,
    "time": dt.datetime(2024, 5, 31, 12, 30, tzinfo=dt.UTC),
    "bytes": b"\xff\x00",
    "list": [1, 0.1, "a"],
    "table": {"a": [True]},
    "text": "ü",
}
ONLY_IN_JSON_LINES = {"none": None, "decimal": Decimal("3.14"), "times": [HEADERS["time"]]}


@pytest.mark.parametrize("kind", KINDS)
async def test_playback_keeps_headers(source, sink, raw, tmp_path, kind):
    """A played back message has the recorded headers, in value and type."""
    expected = HEADERS if kind == "parquet" else {**HEADERS, **ONLY_IN_JSON_LINES}
    path = tmp_path / f"headers.{kind}"
    async with await sink.stream(text="ü") as stream, await stream.record(path):
        await source.publish_data({"n": 1}, expected)
        await stream.wait(1, timeout=60)
    queue = await raw.declare_queue(exclusive=True)
    await queue.bind(source.data_exchange)
    await (await source.replay(path, speed=0))
    headers = dict((await next_message(queue)).headers)
    assert {name: headers[name] for name in expected} == expected
    assert {name: type(headers[name]) for name in ("bool", "time", "text")} == {
        "bool": bool,
        "time": dt.datetime,
        "text": str,
    }


async def test_one_message_does_not_end_playback(source, sink, tmp_path, monkeypatch, caplog):
    """A message that cannot be published is counted, and the others are published."""
    path = tmp_path / "r.jsonl"
    async with await sink.stream() as stream, await stream.record(path):
        for n in range(3):
            await source.publish_data({"n": n})
        await stream.wait(3, timeout=60)
    make = replaying.recorded_message

    def fail(batch, form, headers):
        if batch[0]["n"] == 1:
            raise OverflowError("no body")
        return make(batch, form, headers)

    monkeypatch.setattr(replaying, "recorded_message", fail)
    async with await sink.stream() as again:
        replay = await (await source.replay(path, speed=0))
        await again.wait(2, timeout=60)
        assert again.df["n"].tolist() == [0, 2]
    assert (replay.messages, replay.failed, replay.error) == (2, 1, None)
    assert "cannot be published: no body" in caplog.text


async def play_back(source, path):
    """Play a recording back, without awaiting its end."""
    replay = await source.replay(path, speed=0)
    await until(lambda: replay.done)


async def test_a_damaged_recording(source, tmp_path, caplog):
    """Playback that ends early is logged, also if it is not awaited."""
    path = tmp_path / "r.jsonl"
    path.write_bytes(b'{"fabric_nb": "recording", "version": 1}\nno message\n')
    replay = await source.replay(path, speed=0)
    await until(lambda: replay.done)
    assert "Line 2 of" in str(replay.error)
    assert repr(replay).endswith("failed>")
    assert "r.jsonl has ended: Line 2 of" in caplog.text
    await play_back(source, path)
    gc.collect()
    assert "never retrieved" not in caplog.text, "by asyncio, with a traceback"
    with pytest.raises(RecordingError, match="Line 2 of"):
        await replay
