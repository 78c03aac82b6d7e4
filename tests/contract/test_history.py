"""Record of the calls that a member made and served."""

from __future__ import annotations

import asyncio

import pandas as pd
import pytest

from fabric_nb.errors import CallTimeout, NotKept, RemoteError, UnknownService
from fabric_nb.fabric.rpc import history
from tests.support.fabric import until, wait_for_service
from tests.support.peers import DOMAIN

pytestmark = pytest.mark.any_broker  # the record is of the member


async def never():
    await asyncio.Event().wait()


def divide(x, y):
    return x / y


@pytest.fixture
async def server(members):
    """Return a member that serves, as ``app.server``."""
    server = await members.join("server")
    await server.serve({"divide": divide, "never": never}, version="1.2")
    return server


@pytest.fixture
async def caller(members, server):
    """Return a member that calls it."""
    return await members.join("caller", type="client")


async def test_both_ends_record_a_call(server, caller):
    """A call is in the record of the caller as made, and in that of the server as served."""
    assert (len(caller.calls), len(server.calls)) == (0, 0)
    before = server.calls.changes
    assert await caller.call("app.server.divide", x=6, y=3) == 2
    (made,), (served,) = caller.calls.records, server.calls.records
    for record, direction in ((made, "made"), (served, "served")):
        assert record.direction == direction
        assert (record.service, record.method) == (f"{DOMAIN}.app.server", "divide")
        assert (record.outcome, record.error, record.traceback) == ("ok", "", "")
    assert (made.caller, served.caller) == ("", f"{DOMAIN}.client.caller")
    assert 0 < served.ms < made.ms
    assert made.time <= served.time
    assert server.calls.changes == before + 1
    assert repr(caller.calls) == "<Calls: 1 made>"


async def test_both_ends_keep_arguments_and_result(server, caller):
    """The arguments and the result of a call are kept at both ends, as they were sent."""
    frame = pd.DataFrame({"x": [1, 2]})
    serving = await server.serve({"echo": lambda value, password: value}, id="echo")
    for value in (5, "text", [1, None], frame):
        result = await caller.call("app.echo.echo", value=value, password="s3cret")
        for record in (caller.calls[-1], server.calls[-1]):
            assert str(record.result) == str(result)
            assert str(record.arguments) == str({"value": value, "password": "***"})
            assert record.kwargs()["password"] == "s3cret"
    assert server.calls[2].number == caller.calls[2].number == 2
    with pytest.raises(ZeroDivisionError):
        await caller.call("app.server.divide", x=1, y=0)
    for record in (caller.calls[-1], server.calls[-1]):
        assert record.arguments == {"x": 1, "y": 0}
        with pytest.raises(NotKept):
            record.result  # noqa: B018
    await serving.close()


async def test_failed_calls(server, caller):
    """A failed call is recorded with its error, and the traceback if there is one."""
    await wait_for_service(caller, "server")
    with pytest.raises(ZeroDivisionError):
        await caller.call("server.divide", x=1, y=0)
    with pytest.raises(CallTimeout):
        await caller.call("server.never", timeout=0.1)
    given_up = asyncio.create_task(caller.call("server.never"))
    await asyncio.sleep(0)
    given_up.cancel()
    with pytest.raises(UnknownService):
        await caller.call("missing.method", timeout=0.1)
    await until(lambda: len(caller.calls) == 4)

    raised, late, cancelled, unknown = caller.calls.records
    assert raised.outcome == "failed"
    assert raised.error.startswith("RemoteZeroDivisionError: my_project.app.server.divide: Zero")
    assert "return x / y" in raised.traceback
    assert (late.outcome, cancelled.outcome) == ("timeout", "cancelled")
    assert late.ms >= 100
    assert (unknown.outcome, unknown.service) == ("failed", f"{DOMAIN}.missing")
    assert unknown.error.startswith("UnknownService: ")
    served = server.calls.records[0]
    assert (served.outcome, served.error) == ("failed", "ZeroDivisionError: division by zero")
    assert "return x / y" in served.traceback
    assert "fabric_nb" not in served.traceback.replace("fabric_nb/../", "")


async def test_calls_as_a_frame(server, caller):
    """`calls.df` has typed columns, also if it is empty, and can be joined with `registry.df`."""
    empty = caller.calls.df
    await caller.call("app.server.divide", x=6, y=3)
    await wait_for_service(caller, "server", methods=2)
    frame = caller.calls.df
    assert list(frame.dtypes) == list(empty.dtypes)
    assert str(frame.time.dtype) == "datetime64[ns, UTC]"
    assert frame.ms.dtype == "float64"
    assert abs(frame.time[0] - pd.Timestamp.now("UTC")) < pd.Timedelta(minutes=1)
    joined = frame.merge(caller.registry.df, on=["domain", "type", "id"])
    assert joined[["method", "version", "state"]].values.tolist() == [["divide", "1.2", "up"]]


async def test_record_is_bounded(server, caller, monkeypatch):
    """The last thousand calls are kept, some older ones, twenty failures, no large arguments."""
    monkeypatch.setattr(history, "MAX_REQUEST", 1000)
    monkeypatch.setattr(history, "MAX_REQUESTS", 2000)
    for n in range(1100):
        await caller.call("app.server.divide", x=n, y=1)
    assert len(caller.calls) == len(server.calls) == 1000 + history.MAX_OLDER
    assert server.calls.failures == ()
    for x in [1] * 25 + ["y" * 600] * 4 + ["y" * 1000]:
        with pytest.raises((ZeroDivisionError, TypeError)):
            await caller.call("app.server.divide", x=x, y=0)
    failures = server.calls.failures
    assert [one.number for one in failures] == [27, 28, 29, 30][-len(failures) :]
    assert sum(len(one.request or b"") for one in failures) <= 2000
    assert failures[0].kwargs() == {"x": "y" * 600, "y": 0}
    with pytest.raises(ValueError, match=r"failed call 30 .* are not kept"):
        failures[-1].kwargs()


@pytest.mark.any_broker
async def test_texts_without_utf8(members):
    """Errors whose text UTF-8 cannot represent are recorded at both ends, and become DataFrames."""

    def fail() -> None:
        raise ValueError("half \ud83d of a pair")

    server, caller = await members.join("server"), await members.join("caller")
    await server.serve({"fail": fail})
    with pytest.raises(RemoteError):
        await caller.call(f"{DOMAIN}.app.server.fail")
    for fabric in (server, caller):
        (error,) = fabric.calls.df.error
        assert "\\ud83d" in error or "\ufffd" in error
    figures = await caller.stats(f"{DOMAIN}.app.server")
    assert any("half" in text for text in figures.last_error)
