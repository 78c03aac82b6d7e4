"""Differential test: the same operations on the embedded broker and RabbitMQ."""

from __future__ import annotations

import itertools
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tests.broker.driver import CHANNELS, Driver, Observation
from tests.support.rabbitmq_supervisor import TRANSIENT_QUEUES_DENIED, transient_queues_denied

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.broker.process import BrokerProcess

Operation = tuple[str, tuple[Any, ...], dict[str, Any]]

EXAMPLES = 12
"""Sequences per run; each takes about a second, mostly in RabbitMQ."""

QUEUES = ["q0", "q1", "q2"]
EXCHANGES = {"direct": "direct", "fanout": "fanout", "topic": "topic", "headers": "headers"}
KEYS = ["q0", "q1", "q2", "a", "a.b", "a.b.c", "", "#", "*"]
PATTERNS = ["a", "a.b", "a.*", "a.#", "#", "*.b", "#.b.#", "*", "", "#.#", "a.*.c"]
HEADERS = [{}, {"k": 1}, {"k": "1"}, {"k": 1, "l": True}, {"l": "x"}, {"x-h": 1, "k": 1}]
MATCHES = ["all", "any", "all-with-x", "any-with-x", None, "wrong"]
QUEUE_ARGUMENTS: list[dict[str, Any]] = [
    {},
    {"x-max-length": 2},
    {"x-max-length": 2, "x-overflow": "reject-publish"},
    {"x-max-length": 1, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "q2"},
    {"x-max-length-bytes": 10, "x-overflow": "drop-head"},
    {"x-max-priority": 5},
    {"x-max-priority": 5, "x-max-length": 3},
    {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "q2"},
    {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "q0"},
    {"x-dead-letter-exchange": "fanout"},
    {"x-message-ttl": 0, "x-dead-letter-exchange": "fanout"},
    {"x-single-active-consumer": True},
    {"x-max-length": 0},
]


def _bool(rng: Random) -> bool:
    return rng.random() < 0.5


def _channel(rng: Random) -> int:
    return rng.randrange(CHANNELS)


def _publish(rng: Random) -> Operation:
    options: dict[str, Any] = {}
    if _bool(rng):
        options["headers"] = rng.choice(HEADERS)
    if _bool(rng):
        options["priority"] = rng.randrange(8)
    if rng.random() < 0.2:
        options["expiration"] = "60000"
    exchange = rng.choice(["", "", *EXCHANGES])
    key = rng.choice(QUEUES if not exchange and rng.random() < 0.8 else KEYS)
    body = rng.randbytes(3).hex().encode()
    return "publish", (_channel(rng), exchange, key, body, _bool(rng)), options


def _consume(rng: Random) -> Operation:
    options: dict[str, Any] = {}
    if rng.random() < 0.1:
        options["exclusive"] = True
    if rng.random() < 0.3:
        options["arguments"] = {"x-priority": rng.choice([-1, 1])}
    channel = _channel(rng)
    # One queue per channel, because RabbitMQ defines no order between queues.
    return "consume", (channel, f"q{channel}", rng.choice(["t0", "t1"]), _bool(rng)), options


def _settle(rng: Random) -> Operation:
    outcome = rng.choice(["ack", "ack", "requeue", "drop", "reject"])
    return "settle", (_channel(rng), rng.randrange(9), outcome, _bool(rng)), {}


def _binding(rng: Random) -> tuple[Any, ...]:
    arguments = dict(rng.choice(HEADERS))
    match = rng.choice(MATCHES)
    if match:
        arguments["x-match"] = match
    queue, exchange = rng.choice(QUEUES), rng.choice([*EXCHANGES])
    return _channel(rng), queue, exchange, rng.choice(PATTERNS), arguments


def _queue(rng: Random) -> str:
    return rng.choice(QUEUES)


def _exchange(rng: Random) -> str:
    return rng.choice([*EXCHANGES])


OPERATIONS: list[tuple[int, Callable[[Random], Operation]]] = [
    (30, _publish),
    (10, _consume),
    (20, _settle),
    (8, lambda rng: ("bind", _binding(rng), {})),
    (3, lambda rng: ("unbind", _binding(rng), {})),
    (3, lambda rng: ("cancel", (_channel(rng), rng.choice(["t0", "t1"])), {})),
    (8, lambda rng: ("get", (_channel(rng), _queue(rng), _bool(rng)), {})),
    (4, lambda rng: ("qos", (_channel(rng), rng.randrange(4), _bool(rng)), {})),
    (2, lambda rng: ("recover", (_channel(rng),), {})),
    (1, lambda rng: ("purge", (_channel(rng), _queue(rng)), {})),
    (2, lambda rng: ("confirm", (_channel(rng),), {})),
    (1, lambda rng: ("transaction", (_channel(rng), "select"), {})),
    (3, lambda rng: ("transaction", (_channel(rng), rng.choice(["commit", "rollback"])), {})),
    (1, lambda rng: ("reopen", (_channel(rng),), {})),
    (1, lambda rng: ("settle_unknown", (_channel(rng),), {})),
    (
        1,
        lambda rng: ("delete_exchange", (_channel(rng), _exchange(rng)), {"if_unused": _bool(rng)}),
    ),
    (
        2,
        lambda rng: (
            "delete_queue",
            (_channel(rng), _queue(rng)),
            {"if_unused": _bool(rng), "if_empty": _bool(rng)},
        ),
    ),
    (
        2,
        lambda rng: (
            "bind_exchange",
            (_channel(rng), _exchange(rng), _exchange(rng), rng.choice(PATTERNS)),
            {},
        ),
    ),
    (
        3,
        lambda rng: (
            "declare_queue",
            (_channel(rng), _queue(rng), rng.choice(QUEUE_ARGUMENTS)),
            {},
        ),
    ),
    (1, lambda rng: ("declare_exchange", (_channel(rng), _exchange(rng), _exchange(rng)), {})),
]


def _sequence(number: int, length: int) -> list[Operation]:
    """Return a random sequence of operations; a number determines it up to its length."""
    rng = Random(number)
    weights = [weight for weight, _ in OPERATIONS]
    steps: list[Operation] = [
        ("declare_exchange", (0, name, kind), {}) for name, kind in EXCHANGES.items()
    ]
    steps += [("declare_queue", (0, name, rng.choice(QUEUE_ARGUMENTS)), {}) for name in QUEUES]
    for _ in range(length):
        _, make = rng.choices(OPERATIONS, weights)[0]
        steps.append(make(rng))
    if number % 2:
        steps = [_compete_for_one_queue(step) for step in steps]
    limited = number % 3 == 0
    return [_use_one_kind_of_limit(step, limited) for step in steps]


def _compete_for_one_queue(step: Operation) -> Operation:
    """Make both channels consume one queue."""
    name, parts, options = step
    return (name, (parts[0], "q0", *parts[2:]), options) if name == "consume" else step


def _use_one_kind_of_limit(step: Operation, limited: bool) -> Operation:
    """Use either prefetch limits of channels, or unacknowledged Basic.Get.

    With both, RabbitMQ counts fetched messages against a limit set later, and never stops.
    """
    name, parts, options = step
    if name == "qos":
        return name, (*parts[:2], limited), options
    return (name, (*parts[:2], limited), options) if name == "get" else step


def _run(driver: Driver, steps: list[Operation]) -> list[tuple[Operation, Observation]]:
    """Perform the steps, and return each with its observation."""
    return [(step, getattr(driver, step[0])(*step[1], **step[2])) for step in steps]


_runs = itertools.count()


@pytest.mark.skipif(transient_queues_denied(), reason=TRANSIENT_QUEUES_DENIED)
@seed(20240611)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(number=st.integers(0, 2**32), length=st.integers(40, 80))
def test_both_brokers_give_the_same_observations(
    broker: BrokerProcess, rabbitmq_uri: str, number: int, length: int
) -> None:
    """Deliveries, their order, returns, confirms and close codes are those of RabbitMQ."""
    prefix = f"d{next(_runs)}-"
    steps = _sequence(number, length)
    with Driver(rabbitmq_uri, prefix) as reference, Driver(broker.uri, prefix) as embedded:
        try:
            expected = _run(reference, steps)
            for reference_step, embedded_step in zip(expected, _run(embedded, steps), strict=True):
                assert embedded_step == reference_step
        finally:
            reference.delete_all()
            embedded.delete_all()
