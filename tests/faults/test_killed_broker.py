"""The broker is killed and restarted under load; each call and message is accounted for.

A few rounds by default; `FABRIC_NB_ROUNDS=20` for the number, and the load, of the guarantee.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from fabric_nb import AmqpHandler
from fabric_nb.fabric.amqp.connection import State
from tests.faults.brokers import MortalEmbedded, MortalRabbitMq
from tests.faults.traffic import Calls, Messages, channels_of
from tests.support.fabric import Members, until

ROUNDS = int(os.environ.get("FABRIC_NB_ROUNDS", "0"))
CALLS, MESSAGES = (200, 2000) if ROUNDS else (100, 500)
"""A second; a machine that runs other tests beside is not asked for more."""
PATIENCE = 180.0
"""Seconds; on a machine at its limit RabbitMQ alone needs 45 to start again."""
POOL = "asyncio_"
"""Name prefix of the threads of the loop's executor, which keeps a few."""
EXPECTED = {"answered", "ConnectionLost", "ServiceLost", "UnknownService"}


@pytest.fixture(params=["rabbitmq", "embedded"])
def broker_and_rounds(request):
    """Broker that can be killed, of each kind, and the number of rounds."""
    if request.param == "rabbitmq":
        node, vhost = (request.getfixturevalue(name) for name in ("rabbitmq", "vhost"))
        yield MortalRabbitMq(node, vhost), ROUNDS or 1
    else:
        with MortalEmbedded() as embedded:
            yield embedded, ROUNDS or 3


def handles():
    """Return the numbers of tasks, threads, open files and sockets."""
    gc.collect()
    return {
        "tasks": len(asyncio.all_tasks()),
        "threads": sum(not one.name.startswith(POOL) for one in threading.enumerate()),
        "files": len(list(Path("/proc/self/fd").iterdir())),
    }


def inside(connectors):
    """Return the numbers of open and registered channels of the connections."""
    return [channels_of(one) for one in connectors]


def record(text):
    return logging.makeLogRecord({"name": "x", "msg": text, "levelname": "INFO"})


def answers_of(connector):
    """Count the replies received from the broker, by call."""
    counted, caller = Counter(), connector.member.rpc.requester
    take = caller._on_reply

    def count(delivery):
        counted[delivery.correlation_id] += 1
        take(delivery)

    caller._on_reply = count
    return counted


@pytest.mark.timeout(120 + 60 * ROUNDS)
async def test_killed_under_load(broker_and_rounds):
    """After any number of crashes all members recover, without duplicates or leaks."""
    broker, rounds = broker_and_rounds
    async with Members(broker.uri) as members:
        everybody = [members.connector(one) for one in ("server", "caller", "publisher", "reader")]
        server, caller, publisher, reader = everybody
        answers = answers_of(caller)
        await asyncio.gather(*(members.open(one) for one in everybody))
        await server.serve({"double": lambda x: 2 * x}, prefetch=20)
        stream, feed = await reader.stream(), await reader.logs()
        handler = AmqpHandler()
        await publisher.init_logging_handler(handler)
        method = f"{server.fqn}.double"
        assert await caller.call(method, x=1) == 2  # opens the channel to the service
        calls = Calls(caller, method, CALLS * 3 / 4, timeout=PATIENCE)
        repeated = Calls(caller, method, CALLS / 4, timeout=PATIENCE, idempotent=True)
        messages = Messages(publisher, MESSAGES)
        before, before_inside, queues = handles(), inside(everybody), sorted(broker.queues)

        stop = asyncio.Event()
        running = asyncio.gather(*(one.run(stop) for one in (calls, repeated, messages)))
        started = time.monotonic()
        steady = []  # from when all stood to what was heard last before the crash
        began = 0
        for number in range(rounds):
            # All flows again, and nothing waits any more that the last crash has left.
            started, repeated_started = calls.started, repeated.started
            answered, rows = calls.outcomes["answered"], stream.rows
            await until(lambda m=started: calls.all_completed(m), timeout=PATIENCE)
            await until(lambda m=repeated_started: repeated.all_completed(m), timeout=PATIENCE)
            await until(lambda a=answered: calls.outcomes["answered"] > a + 100, timeout=30)
            await until(lambda r=rows: stream.rows > r + 1000, timeout=30)
            await until(lambda b=began: stream.df["n"].iloc[-1] >= b, timeout=30)
            steady.append(range(began, int(stream.df["n"].iloc[-1])))
            await asyncio.to_thread(broker.kill)
            for one in everybody:
                await until(lambda one=one: one.state is State.RECONNECTING, timeout=5)
            await asyncio.to_thread(broker.restart)
            for one in everybody:
                await until(lambda one=one: one.state is State.CONNECTED, timeout=30)
            began = messages.published
            handler.handle(record(f"round {number}"))
            await until(lambda n=number: feed.records and feed.records[-1].message == f"round {n}")
        stop.set()
        await asyncio.wait_for(running, 60)
        steady.append(range(began, messages.published))
        await until(lambda: stream.df["n"].iloc[-1] == messages.published - 1)

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
        print(f"before: {before}, channels {before_inside}, queues {len(queues)}")
        print(f"after: {after}, channels {inside(everybody)}, queues {len(broker.queues)}")
        assert after["threads"] <= before["threads"]
        assert after["files"] <= before["files"]
        assert inside(everybody) == before_inside
        await until(lambda: len(broker.queues) == len(queues), description="no queue is left")
        assert caller._caller.pending == 0
        assert [one._connection.reconnects for one in everybody] == [rounds] * 4
