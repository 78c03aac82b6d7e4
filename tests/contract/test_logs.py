"""Logging handler and log feeds."""

from __future__ import annotations

import asyncio
import io
import logging
import threading
import time

import numpy as np
import pytest

from fabric_nb import AmqpHandler
from fabric_nb.errors import FabricError, WaitTimeout
from fabric_nb.fabric.logs import handler as handler_module
from fabric_nb.fabric.wire.logs import log_message
from tests.support.fabric import until


@pytest.fixture
async def logger(members):
    """Return a member that logs."""
    return await members.join("logger")


@pytest.fixture
async def reader(members):
    """Return a member that reads logs."""
    return await members.join("reader", type="client")


@pytest.fixture
def log():
    """Return a logger of the test's own."""
    log = logging.getLogger("contract.logs")
    log.setLevel(logging.DEBUG)
    log.propagate = False
    yield log
    log.handlers.clear()
    log.propagate = True


@pytest.fixture
async def handler(logger, log):
    """Return a connected handler of that logger."""
    handler = AmqpHandler()
    await logger.init_logging_handler(handler)
    log.addHandler(handler)
    return handler


def messages(feed):
    return [record.message for record in feed.records]


async def test_fields_of_a_record(reader, log, handler):
    """A record arrives with its text, level, logger, place, time and traceback."""
    async with await reader.logs() as feed:
        try:
            int("inner")
        except ValueError:
            log.exception("it %s", "failed")
        await feed.wait(1, timeout=60)
    (record,) = feed.records
    assert record.message == "it failed"
    assert record.level == "ERROR"
    assert record.logger == "contract.logs"
    assert (record.service_type, record.service_id) == ("app", "logger")
    assert record.file == "test_logs.py"
    assert record.line
    assert abs(record.time - time.time()) < 30
    assert "ValueError: invalid literal" in record.traceback
    assert list(feed.df["message"]) == ["it failed"]
    assert str(feed.df["time"].dt.tz) == "UTC"


async def test_formatter_of_the_handler(reader, log, handler):
    """The formatter of the handler formats the text."""
    handler.setFormatter(logging.Formatter("<%(levelname)s> %(message)s"))
    async with await reader.logs() as feed:
        log.addHandler(other := logging.StreamHandler(io.StringIO()))
        other.setFormatter(logging.Formatter("another text: %(message)s"))
        log.info("hello")
        await feed.wait(1, timeout=60)
    assert messages(feed) == ["<INFO> hello"]


async def test_feed_wait_timeout(reader):
    """The error of `wait` after its timeout has the numbers of received and expected records."""
    async with await reader.logs() as feed:
        with pytest.raises(WaitTimeout, match=r"^0 of 2 records came within 0\.1 s\.$") as caught:
            await feed.wait(2, timeout=0.1)
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.seconds == 0.1


async def test_feed_of_a_level(reader, log, handler):
    """A feed with a level receives the records of that level and above."""
    async with await reader.logs(level="warning") as feed, await reader.logs() as everything:
        for level in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"):
            log.log(getattr(logging, level), level)
        await everything.wait(5, timeout=60)
        await feed.wait(3, timeout=60)
    assert messages(feed) == ["WARNING", "ERROR", "CRITICAL"]
    with pytest.raises(ValueError, match="'loud' is not a log level: use one of DEBUG, INFO") as no:
        await reader.logs(level="loud")
    assert isinstance(no.value, FabricError)


@pytest.mark.parametrize("service", ["logger", "app.logger"])
async def test_feed_of_a_service(members, reader, log, handler, service):
    """A feed of a service receives the records of that service only."""
    other = await members.join("other")
    second = AmqpHandler()
    await other.init_logging_handler(second)
    async with await reader.logs(service=service) as feed, await reader.logs() as everything:
        second.handle(logging.makeLogRecord({"msg": "theirs", "levelname": "INFO"}))
        log.info("ours")
        await everything.wait(2, timeout=60)
        await feed.wait(1, timeout=60)
    assert messages(feed) == ["ours"]


async def test_logs_of_all_feeds_as_a_dataframe(reader, log, handler):
    """`fabric.logs.df` has the records of all feeds, sorted by time, each once."""
    assert reader.logs.df.empty
    async with await reader.logs(level="error") as errors, await reader.logs() as everything:
        for n in range(3):
            log.info("same")
            log.error("failed %d", n)
        await errors.wait(3, timeout=60)
        await everything.wait(6, timeout=60)
        frame = reader.logs.df
    assert list(frame["message"]) == ["same", "failed 0", "same", "failed 1", "same", "failed 2"]
    assert list(frame.columns) == list(everything.df.columns)
    assert "2 listening" not in repr(reader.logs)
    known = reader.registry.df
    joined = frame.merge(known, on=["domain", "type", "id"])
    assert set(joined["state"]) == {"up"}
    assert len(joined) == len(frame)
    assert len(reader.logs.df) == 6, "closed feeds keep what they hold"


async def test_feed_is_bounded(reader, log, handler):
    """A feed keeps the newest records and counts the dropped ones."""
    async with await reader.logs(max_records=10) as feed:
        for n in range(25):
            log.info("%d", n)
        await feed.wait(25, timeout=60)
        assert messages(feed) == [str(n) for n in range(15, 25)]
        assert feed.dropped == 15


async def test_logging_from_threads(reader, log, handler):
    """Any thread may log; no record is lost or out of order."""
    async with await reader.logs() as feed:

        def work(name):
            for n in range(50):
                log.info("%s %d", name, n)

        threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        await asyncio.gather(*(asyncio.to_thread(thread.join) for thread in threads))
        await feed.wait(200, timeout=60)
        for name in "abcd":
            mine = [text for text in messages(feed) if text.startswith(name)]
            assert mine == [f"{name} {n}" for n in range(50)]
    assert handler.sent == 200
    assert handler.dropped == 0


async def test_logging_never_blocks_and_is_bounded(reader, logger, log):
    """While nothing can be sent, records are queued up to a limit, then dropped and counted."""
    handler = AmqpHandler(capacity=100)
    log.addHandler(handler)
    for n in range(5000):  # the loop, which sends, does not run meanwhile
        log.info("%d", n)
    assert handler.dropped == 4900
    async with await reader.logs() as feed:
        await logger.init_logging_handler(handler)
        await feed.wait(100, timeout=60)
        assert messages(feed) == [str(n) for n in range(100)]
        log.info("again")
        await feed.wait(101, timeout=60)


async def test_blocked_loop_does_not_block_logging(reader, log, handler):
    """A thread can log while the loop is blocked; the records are sent afterwards."""
    async with await reader.logs() as feed:

        def work():
            for n in range(100):
                log.info("%d", n)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join(60)  # the loop stands still meanwhile, on purpose
        assert not thread.is_alive()
        await feed.wait(100, timeout=60)


async def test_no_feedback_loop(reader, handler):
    """On the root logger, the handler omits records of messaging, which would cause new ones."""
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    noisy = [logging.getLogger(name) for name in ("aio_pika", "aiormq", "fabric_nb.fabric")]
    try:
        async with await reader.logs() as feed:
            for each in noisy:
                each.setLevel(logging.DEBUG)
                each.debug("own")
                each.getChild("part").error("own")
            logging.getLogger("fabric_nb_user").info("user")
            await feed.wait(1, timeout=60)
            await handler.flushed()
            texts = messages(feed)
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        for each in noisy:
            each.setLevel(logging.NOTSET)
    assert texts == ["user"]
    assert handler.sent == 1


async def test_record_that_cannot_be_formatted(reader, log, handler, monkeypatch):
    """A record that cannot be formatted is handled as by `logging`, and the next one is sent."""
    monkeypatch.setattr(logging, "raiseExceptions", False)
    async with await reader.logs() as feed:
        log.info("%d", "no number")
        log.info("lone \ud800 surrogate")
        log.info("x" * 1_000_000)
        log.info("fine")
        await feed.wait(3, timeout=60)
    assert messages(feed)[0] == "lone \\ud800 surrogate"
    assert messages(feed)[1].startswith("xxx")
    assert messages(feed)[1].endswith("more characters]")
    assert messages(feed)[2] == "fine"
    assert (handler.sent, handler.dropped) == (3, 1)
    assert list(feed.df["message"]) == messages(feed)


LATIN = b"caf\xe9.py".decode(errors="surrogateescape")
HARD = {
    "logger": {"name": "x" * 200_000},
    "logger-surrogate": {"name": LATIN},
    "level": {"levelname": "L" * 200_000, "levelno": 35},
    "level-surrogate": {"levelname": LATIN, "levelno": 35},
    "file": {"pathname": "/tmp/" + "x" * 200_000},
    "file-surrogate": {"pathname": LATIN},
    "traceback": {"exc_text": "\U0001f600" * 200_000},
    "traceback-surrogate": {"exc_text": LATIN},
    "stack": {"stack_info": "y" * 200_000},
    "nul": {"name": "a\0b", "pathname": "a\0b", "exc_text": "a\0b", "msg": "a\0b"},
    "times": {"created": float("nan")},
    "line": {"lineno": 2**80},
    "numpy": {"lineno": np.int64(7), "levelno": np.int64(30), "created": np.float64(1.5)},
    "none": {"name": None, "levelname": None, "pathname": None, "lineno": None, "levelno": None},
    "objects": {"name": object(), "levelname": object(), "pathname": object(), "msg": object()},
}


@pytest.mark.any_broker
@pytest.mark.parametrize("hard", HARD.values(), ids=HARD)
async def test_one_record_does_not_end_logging(reader, logger, log, handler, failures, hard):
    """A record with any values is sent as far as possible, and so are the next ones."""
    async with await reader.logs() as feed:
        record = {"msg": "hard", "levelname": "INFO", "levelno": 20, **hard}
        handler.handle(logging.makeLogRecord(record))
        for n in range(3):
            log.warning("after %d", n)
        await feed.wait(4, timeout=60)
        assert messages(feed)[1:] == ["after 0", "after 1", "after 2"]
        assert len(feed.df) == 4
    await handler.flushed(5)
    assert (handler.sent, handler.dropped, feed.rejected) == (4, 0, 0)
    assert logger.member.connection.reconnects == 0
    assert failures.total == 0


async def test_record_that_cannot_be_encoded(reader, log, handler, monkeypatch):
    """A record that cannot be encoded is dropped and counted, and the next one is sent."""
    make = log_message

    def fail(record):
        if record.message == "bad":
            raise OverflowError("no message")
        return make(record)

    monkeypatch.setattr(handler_module, "log_message", fail)
    async with await reader.logs() as feed:
        for text in ("bad", "good", "bad", "fine"):
            log.info(text)
        await feed.wait(2, timeout=60)
    assert messages(feed) == ["good", "fine"]
    assert (handler.sent, handler.dropped) == (2, 2)


async def test_stack_of_a_record(reader, log, handler):
    """`stack_info=True` sends the stack, with the traceback if there is one."""
    async with await reader.logs() as feed:
        log.info("here", stack_info=True)
        try:
            int("inner")
        except ValueError:
            log.exception("failed", stack_info=True)
        await feed.wait(2, timeout=60)
    here, failed = feed.records
    assert here.traceback.startswith("Stack (most recent call last):")
    assert "test_stack_of_a_record" in here.traceback
    assert failed.traceback.index("ValueError") < failed.traceback.index("Stack (most recent")


async def test_numpy_numbers_in_a_record(reader, logger, log, handler):
    """A line and a level that are numpy numbers arrive as numbers."""
    record = logging.LogRecord("n", np.int64(35), "a.py", np.int64(7), "here", (), None)
    record.levelname = "NOTICE"
    async with await reader.logs() as feed:
        log.handle(record)
        await feed.wait(1, timeout=60)
    record = feed.records[0]
    assert (record.line, record.level, record.severity) == (7, "NOTICE", "WARNING")


async def test_renamed_levels(reader, log, handler):
    """A feed with a level receives renamed levels, and those between standard ones."""
    names = {number: logging.getLevelName(number) for number in (10, 20, 30, 40)}
    logging.addLevelName(logging.WARNING, "\x1b[33mWARN\x1b[0m")
    logging.addLevelName(logging.ERROR, "error")
    logging.addLevelName(35, "AUDIT")
    logging.addLevelName(25, "NOTICE")
    try:
        async with await reader.logs(level="warning") as feed:
            for level in (25, 30, 35, 40):
                log.log(level, "%d", level)
            await feed.wait(3, timeout=60)
            await handler.flushed(5)
    finally:
        for number, name in names.items():
            logging.addLevelName(number, name)
    assert [(each.level, each.severity) for each in feed.records] == [
        ("WARNING", ""),
        ("AUDIT", "WARNING"),
        ("ERROR", ""),
    ]


async def test_last_records_are_sent(reader, logger, log, handler):
    """Records logged just before closing are sent."""
    async with await reader.logs() as feed:
        for n in range(50):
            log.info("%d", n)
        await logger.close()
        await feed.wait(50, timeout=60)


async def test_handler_after_close(reader, logger, members, log, handler):
    """A handler whose connector was closed keeps records for its next connector."""
    await logger.close()
    log.info("while closed")
    successor = await members.join("successor")
    async with await reader.logs() as feed:
        await successor.init_logging_handler(handler)
        log.info("open again")
        await feed.wait(2, timeout=60)
    assert messages(feed) == ["while closed", "open again"]
    assert {record.service_id for record in feed.records} == {"successor"}


async def test_closing_ends_waiting(reader):
    """Closing the connector ends waiting for records."""
    feed = await reader.logs()
    waiting = asyncio.create_task(feed.wait(1))
    await asyncio.sleep(0)
    await reader.close()
    async with asyncio.timeout(60):
        await waiting
    await until(lambda: feed.closed)


async def test_repr_of_a_feed(members, caplog):
    """The repr of a feed has its filter, its times are rounded, and closing it logs nothing."""
    member = await members.join("one")
    handler = AmqpHandler()
    await member.init_logging_handler(handler)
    log = logging.getLogger("tests.repr")
    log.addHandler(handler)
    try:
        async with await member.logs(level="WARNING", service="one") as feed:
            log.warning("disk is full")
            await feed.wait(1, timeout=60)
            text = f"<LogFeed of one in {member.domain}: 1 records, WARNING and above, "
            assert repr(feed) == f"{text}open>"
    finally:
        log.removeHandler(handler)
    assert repr(feed) == f"{text}closed>"
    assert [record.name for record in caplog.records] == ["tests.repr"]
    (time,) = feed.df["time"]
    assert (time.microsecond % 1000, time.nanosecond) == (0, 0)
