"""History of calls: numbers, retention by method, arguments and results, and their limits."""

from __future__ import annotations

import time
from typing import Any, cast

import pandas as pd
import pytest

from fabric_nb.errors import NotKept
from fabric_nb.fabric.amqp.message import Message
from fabric_nb.fabric.rpc import history
from fabric_nb.fabric.rpc.call_contents import MAX_BODY, CallContents, is_secret, masked
from fabric_nb.fabric.rpc.history import CallLog, CallRecord
from fabric_nb.fabric.wire.calls import RESULT, Request
from fabric_nb.fabric.wire.codec import encode
from fabric_nb.fabric.wire.formats import TABLES_HEADER


def add(calls: CallLog, method: str = "quote", arguments: Any = None, result: Any = None) -> None:
    contents = CallContents()
    contents.request = Request.of(arguments or {})
    body, tables = encode(result)
    contents.reply = Message(body, type=RESULT, headers={TABLES_HEADER: tables})
    fields = (time.time(), "made", "shop.pricing.main", method, 1.0, "ok")
    calls.add(CallRecord(*cast("Any", fields), contents=contents))


def test_a_call_is_found_by_its_number() -> None:
    """`calls[17]` is call number 17 for as long as it is kept, `calls[-1]` the last one."""
    calls = CallLog()
    with pytest.raises(NotKept, match="no call -1"):
        calls[-1]
    for number in range(1, 4):
        add(calls, arguments={"n": number}, result=number * 10)
    assert [record.number for record in calls.records] == [1, 2, 3]
    assert calls[2].arguments == {"n": 2}
    assert (calls[-1].result, calls[-3].result) == (30, 10)
    for number in (0, 4, -4):
        with pytest.raises(NotKept, match=f"no call {number} "):
            calls[number]
    assert list(calls.df["number"]) == [1, 2, 3]


def test_many_calls_of_one_method_keep_those_of_others() -> None:
    """A map of thousands of rows does not push out the calls of other methods."""
    calls = CallLog()
    for _ in range(30):
        add(calls, "rare")
    for _ in range(5000):
        add(calls, "many")
    assert [record.method for record in calls.records].count("rare") == history.MAX_OLDER
    assert len(calls) == len(calls.records) == 1000 + 2 * history.MAX_OLDER
    numbers = [record.number for record in calls.records]
    assert numbers == sorted(numbers)
    assert calls.newer_than(5028) == calls.records[-2:]
    assert len(calls.newer_than(0)) == len(calls)
    with pytest.raises(NotKept):
        calls[31]
    for method in range(2000):
        add(calls, f"method{method}")
    assert len(calls) <= 1000 + history.MAX_METHODS * history.MAX_OLDER


def test_contents_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large bodies are not kept, and of all bodies only the newest; the error tells the size."""
    calls = CallLog()
    add(calls, arguments={"text": "x" * MAX_BODY}, result="small")
    with pytest.raises(
        NotKept, match=r"The arguments of call 1 \(shop.pricing.main.quote\) .* 1,0"
    ):
        _ = calls[1].arguments
    assert calls[1].result == "small"
    monkeypatch.setattr(history, "MAX_BODIES", 100_000)
    for _ in range(50):
        add(calls, arguments={"text": "x" * 10_000})
    with pytest.raises(NotKept):
        _ = calls[2].arguments
    kept = [one for one in calls.records if one.contents and one.contents.request]
    assert 7 <= len(kept) <= 9
    assert calls[-1].arguments == {"text": "x" * 10_000}


def test_contents_that_are_dropped_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Contents of calls that have left the history do not count towards the limit."""
    monkeypatch.setattr(history, "MAX_BODIES", 30_000)
    calls = CallLog()
    for number in range(5000):
        add(calls, arguments={"n": number})
    assert calls[-1000].arguments == {"n": 4000}


def test_tables_and_missing_contents() -> None:
    """A DataFrame arrives as such; a call that was not sent or has no result says so."""
    calls = CallLog()
    frame = pd.DataFrame({"sku": ["tea"], "n": [1]})
    add(calls, arguments={"frame": frame}, result=frame)
    pd.testing.assert_frame_equal(calls[-1].result, frame)
    pd.testing.assert_frame_equal(calls[-1].arguments["frame"], frame)
    calls.record_served("shop.pricing.main", "quote", 0.1)
    with pytest.raises(NotKept, match="was not sent"):
        _ = calls[-1].arguments
    with pytest.raises(NotKept, match="no result"):
        _ = calls[-1].result


def test_secrets_are_masked_by_their_names() -> None:
    """Values of names such as `password` are masked on any level; `kwargs()` has them."""
    secret = (
        *("password", "PASSWORD", "db_password", "apiKey", "api-key", "access_token", "token"),
        *("client_secret", "privateKey", "credentials", "passphrase", "pin", "Authorization"),
    )
    plain = ("sku", "tokens", "passed", "keyboard", "secretary", "key", "pinned", "monkey")
    assert [name for name in secret if not is_secret(name)] == []
    assert [name for name in plain if is_secret(name)] == []
    calls = CallLog()
    arguments = {"user": "ann", "password": 1234, "more": [{"token": "x", "n": [1]}]}
    add(calls, arguments=arguments)
    assert calls[-1].arguments == {
        "user": "ann",
        "password": "***",
        "more": [{"token": "***", "n": [1]}],
    }
    assert calls[-1].kwargs() == arguments
    deep: Any = "s"
    for _ in range(200):
        deep = [deep]
    assert "***" in repr(masked(deep))
