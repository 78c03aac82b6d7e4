"""Timeouts: any number of seconds is accepted, and invalid values are refused at once."""

from __future__ import annotations

import datetime as dt
import math

import numpy as np
import pytest

from fabric_nb.errors import InvalidTimeout
from fabric_nb.fabric.core.timeouts import NO_LIMIT
from tests.support.fabric import wait_for_service

pytestmark = pytest.mark.any_broker  # the timeouts are checked before


@pytest.fixture
async def server(members):
    """Member that serves and publishes, as ``app.server``."""
    member = await members.join("server")

    def items():
        yield 1
        yield 2

    await member.serve({"one": lambda: 1, "items": items})
    return member


LONG = [math.inf, 1e300, 10**400, NO_LIMIT, NO_LIMIT - 1, 1e9, 5e6, np.float64(60), np.int64(60)]


@pytest.mark.parametrize("timeout", LONG, ids=range(len(LONG)))
async def test_long_timeouts(members, server, timeout):
    """Infinity, and numbers beyond the range of clocks, are valid timeouts."""
    caller = members.connector("caller", type="client", timeout=timeout)
    await caller.open(timeout=timeout)
    try:
        await wait_for_service(caller, "server", methods=2)
        assert await caller.call("server.one") == 1
        assert await caller.call("server.one", timeout=timeout, idempotent=True) == 1
        assert await caller.service("server", timeout=timeout).one() == 1
        stream = caller.call_stream("server.items", timeout=timeout)
        assert [item async for item in stream] == [1, 2]
        async with await caller.stream() as rows, await caller.logs() as feed:
            await server.publish_data({"n": 1})
            await rows.wait(1, timeout=timeout)
            await feed.wait(0, timeout=timeout)
    finally:
        await caller.close(grace=1.0)


NONE = [-1, -0.001, -math.inf, math.nan, np.float64("nan"), "5", True, dt.timedelta(seconds=5), []]


@pytest.mark.parametrize("timeout", NONE, ids=str)
async def test_invalid_timeouts(members, server, timeout):
    """A negative number, NaN and other types are refused at once, wherever they are given."""
    caller = await members.join("caller", type="client")
    await wait_for_service(caller, "server", methods=2)
    calls_before = len(caller.calls)
    with pytest.raises(InvalidTimeout, match=r"^timeout is .*\.$"):
        members.connector("other", timeout=timeout)
    with pytest.raises(InvalidTimeout, match=r"^keep_alive_seconds is"):
        members.connector("other", keep_alive_seconds=[] if timeout is True else timeout)
    with pytest.raises(InvalidTimeout):
        await members.connector("other").open(timeout=timeout)
    with pytest.raises(InvalidTimeout):
        caller.timeout = timeout
    with pytest.raises(InvalidTimeout):
        await caller.call("server.one", timeout=timeout)
    with pytest.raises(InvalidTimeout):
        caller.call_stream("server.items", timeout=timeout)
    with pytest.raises(InvalidTimeout):
        caller.service("server", timeout=timeout)
    async with await caller.stream() as rows, await caller.logs() as feed:
        with pytest.raises(InvalidTimeout):
            await rows.wait(1, timeout=timeout)
        with pytest.raises(InvalidTimeout):
            await feed.wait(1, timeout=timeout)
    with pytest.raises(InvalidTimeout):
        await caller.diagnose(timeout=timeout)
    with pytest.raises(InvalidTimeout, match=r"^grace is"):
        await caller.close(grace=timeout)
    assert len(caller.calls) == calls_before
    assert await caller.call("server.one") == 1
