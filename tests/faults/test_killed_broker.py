"""The broker is killed and restarted under load, and each call and message is accounted for.

A few rounds by default; `FABRIC_NB_ROUNDS=20` for the guaranteed rounds and load.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
import time
from pathlib import Path

import pytest

from fabric_nb import AmqpHandler
from fabric_nb.fabric.amqp.connection import State
from tests.faults.brokers import RestartableEmbedded, RestartableRabbitMq
from tests.faults.traffic import Calls, Messages, channels_of
from tests.support.fabric import Members, until
from tests.support.internals import count_replies

ROUNDS = int(os.environ.get("FABRIC_NB_ROUNDS", "0"))
CALLS, MESSAGES = (200, 2000) if ROUNDS else (100, 500)
"""Per second; lower by default, for machines that run other tests."""
PATIENCE = 180.0
"""Seconds; on a loaded machine RabbitMQ alone needs 45 to restart."""
POOL = "asyncio_"
"""Name prefix of the threads of the loop's executor, which remain."""
EXPECTED = {"answered", "ConnectionLost", "ServiceLost", "UnknownService"}


@pytest.fixture(params=["rabbitmq", "embedded"])
def broker_and_rounds(request):
    """Yield a broker of each kind, and the number of kills."""
    if request.param == "rabbitmq":
        node, vhost = (request.getfixturevalue(name) for name in ("rabbitmq", "vhost"))
        yield RestartableRabbitMq(node, vhost), ROUNDS or 1
    else:
        with RestartableEmbedded() as embedded:
            yield embedded, ROUNDS or 3


def handles():
    """Return the numbers of tasks, threads, and open files and sockets."""
    gc.collect()
    return {
        "tasks": len(asyncio.all_tasks()),
        "threads": sum(not thread.name.startswith(POOL) for thread in threading.enumerate()),
        "files": len(list(Path("/proc/self/fd").iterdir())),
    }


def channels(connectors):
    """Return the numbers of open and of registered channels per connector."""
    return [channels_of(connector) for connector in connectors]


def record(text):
    return logging.makeLogRecord({"name": "x", "msg": text, "levelname": "INFO"})


@pytest.mark.timeout(600 + 60 * ROUNDS)
async def test_killed_under_load(broker_and_rounds):
    """After any number of kills everything recovers, without duplicates or leaks."""
    broker, rounds = broker_and_rounds
    async with Members(broker.uri) as members:
        connectors = [
            members.connector(name) for name in ("server", "caller", "publisher", "reader")
        ]
        server, caller, publisher, reader = connectors
        answers = count_replies(caller)
        await asyncio.gather(*(members.open(connector) for connector in connectors))
        await server.serve({"double": lambda x: 2 * x}, prefetch=20)
        stream, feed = await reader.stream(), await reader.logs()
        handler = AmqpHandler()
        await publisher.init_logging_handler(handler)
        method = f"{server.fqn}.double"
        assert await caller.call(method, x=1) == 2  # opens the channel to the service
        calls = Calls(caller, method, CALLS * 3 / 4, timeout=PATIENCE)
        repeated = Calls(caller, method, CALLS / 4, timeout=PATIENCE, idempotent=True)
        messages = Messages(publisher, MESSAGES)
        # Channels that open in the background would count as left over.
        await until(lambda: all(opened == known for opened, known in channels(connectors)))
        before, channels_before, queues = handles(), channels(connectors), sorted(broker.queues)
        reconnects = [connector.member.connection.reconnects for connector in connectors]

        stop = asyncio.Event()
        running = asyncio.gather(*(load.run(stop) for load in (calls, repeated, messages)))
        started = time.monotonic()
        steady = []  # ranges of messages published and received while connected
        began = 0
        for number in range(rounds):
            # Wait until load has resumed, and all calls from before the last kill have completed.
            calls_started, repeated_started = calls.started, repeated.started
            answered, rows = calls.outcomes["answered"], stream.rows
            await until(lambda m=calls_started: calls.all_completed(m), timeout=PATIENCE)
            await until(lambda m=repeated_started: repeated.all_completed(m), timeout=PATIENCE)
            await until(lambda a=answered: calls.outcomes["answered"] > a + 100, timeout=PATIENCE)
            await until(lambda r=rows: stream.rows > r + 1000, timeout=PATIENCE)
            await until(lambda b=began: stream.df["n"].iloc[-1] >= b, timeout=PATIENCE)
            steady.append(range(began, int(stream.df["n"].iloc[-1])))
            await asyncio.to_thread(broker.kill)
            for connector in connectors:
                await until(
                    lambda connector=connector: connector.state is State.RECONNECTING,
                    timeout=PATIENCE,
                )
            await asyncio.to_thread(broker.restart)
            for connector in connectors:
                await until(
                    lambda connector=connector: connector.state is State.CONNECTED, timeout=PATIENCE
                )
            began = messages.published
            handler.handle(record(f"round {number}"))
            await until(
                lambda n=number: feed.records and feed.records[-1].message == f"round {n}",
                timeout=PATIENCE,
            )
        stop.set()
        await asyncio.wait_for(running, PATIENCE)
        steady.append(range(began, messages.published))
        await until(
            lambda: stream.df["n"].iloc[-1] == messages.published - 1,
            found=lambda: {
                "published": messages.published,
                "last rows": stream.df["n"].tail(10).tolist(),
                "missing": sorted(messages.missing(stream))[-10:],
                "failed": sorted(messages.failed)[-10:],
            },
        )

        seconds = time.monotonic() - started
        missing, duplicates = messages.missing(stream), messages.duplicates(stream)
        print(f"\n{rounds} rounds in {seconds:.0f} s, at {CALLS} calls/s and {MESSAGES} messages/s")
        print(f"calls: {calls.summary}; repeated: {repeated.summary}")
        print(f"answers: {answers.total()}, at most {max(answers.values())} to a call")
        print(f"messages: {messages.summary}, {len(missing)} missing, {duplicates} duplicates")
        assert calls.outcomes.total() == calls.started
        assert set(calls.outcomes) <= EXPECTED
        assert set(repeated.outcomes) <= {"answered", "UnknownService"}
        assert max(answers.values()) == 1
        assert duplicates == 0
        for numbers in steady:
            assert not missing.intersection(numbers)
        await until(lambda: handles()["tasks"] <= before["tasks"], description="no task is left")
        after = handles()
        print(f"before: {before}, channels {channels_before}, queues {len(queues)}")
        print(f"after: {after}, channels {channels(connectors)}, queues {len(broker.queues)}")
        assert after["threads"] <= before["threads"]
        assert after["files"] <= before["files"]
        assert channels(connectors) == channels_before
        await until(lambda: len(broker.queues) == len(queues), description="no queue is left")
        assert caller.member.rpc.pending == 0
        assert [connector.member.connection.reconnects for connector in connectors] == [
            number + rounds for number in reconnects
        ]
