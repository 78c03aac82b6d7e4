"""Messages that are larger than the broker accepts (RabbitMQ's `max_message_size`)."""

from __future__ import annotations

import asyncio
import inspect
import pickle
from typing import TYPE_CHECKING

import pytest

from fabric_nb import AmqBrokerConnector, errors
from fabric_nb.errors import FabricError, MessageTooLarge, RemoteError
from tests.broker.process import BrokerProcess
from tests.support.fabric import Members, until, wait_for_service
from tests.support.rabbitmq import RabbitMq

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

LIMIT = 1_000_000
"""Bytes."""
ERRORS = [
    one
    for one in vars(errors).values()
    if inspect.isclass(one) and issubclass(one, FabricError) and one is not RemoteError
]


@pytest.fixture(scope="module")
def small_node() -> Iterator[RabbitMq]:
    with RabbitMq.start(settings={"max_message_size": LIMIT}) as node:
        yield node


@pytest.fixture(params=["rabbitmq", "embedded"])
def small_uri(request: pytest.FixtureRequest) -> Iterator[str]:
    """Broker that accepts messages of at most `LIMIT` bytes."""
    if request.param == "embedded":
        with BrokerProcess("--max-message-size", str(LIMIT)) as broker:
            yield broker.uri
    else:
        node: RabbitMq = request.getfixturevalue("small_node")
        with node.private_vhost() as vhost:
            yield node.uri_for(vhost=vhost)


@pytest.fixture
async def members(small_uri: str) -> AsyncIterator[Members]:
    async with Members(small_uri) as members:
        yield members


class Api:
    """Service with results of any size, which counts its calls."""

    def __init__(self) -> None:
        self.runs = 0
        self.gate = asyncio.Event()

    def text(self, size: int) -> str:
        self.runs += 1
        return "x" * size

    def items(self, sizes: list[int]):  # type: ignore[no-untyped-def]
        for size in sizes:
            yield "x" * size

    async def wait(self) -> str:
        await self.gate.wait()
        return "waited"

    def measure(self, text: str) -> int:
        return len(text)


async def test_a_result_that_is_too_large(members: Members) -> None:
    """A result that the broker refuses is an error at once, without an effect on other calls."""
    apis = []
    for _ in range(2):
        member = await members.join("calc")
        apis.append(Api())
        await member.serve(apis[-1])
    caller = await members.join("caller")
    await wait_for_service(caller, "calc", methods=4, instances=2)
    waiting = [asyncio.ensure_future(caller.call("calc.wait", timeout=60)) for _ in range(2)]
    for runs in (1, 2, 3):  # also when the limit is known
        with pytest.raises(RemoteError, match=r"1,000,000 bytes.*max_message_size") as caught:
            await caller.call("calc.text", size=2 * LIMIT, timeout=60)
        assert caught.value.type == "fabric_nb.errors.MessageTooLarge"
        assert sum(api.runs for api in apis) == runs
    assert len(await caller.call("calc.text", size=LIMIT - 2, timeout=60)) == LIMIT - 2
    for api in apis:
        api.gate.set()
    assert await asyncio.gather(*waiting) == ["waited", "waited"]
    errors = [member.servers[0].stats["text"].errors for member in members.opened[:2]]
    assert sum(errors) == 3


async def test_arguments_that_are_too_large(members: Members) -> None:
    """Arguments that the broker refuses are an error at once, without an effect on other calls."""
    member, caller = await members.join("calc"), await members.join("caller")
    api = Api()
    await member.serve(api)
    await wait_for_service(caller, "calc", methods=4)
    waiting = asyncio.ensure_future(caller.call("calc.wait", timeout=60))
    for _ in range(2):
        with pytest.raises(MessageTooLarge, match=r"The request to .*calc\.measure of 2,000,0"):
            await caller.call("calc.measure", text="x" * 2 * LIMIT, timeout=60)
    assert await caller.call("calc.measure", text="x" * (LIMIT - 20), timeout=60) == LIMIT - 20
    api.gate.set()
    assert await waiting == "waited"


async def test_data_that_are_too_large(members: Members) -> None:
    """A published message that the broker refuses is counted; the others keep their order."""
    one = await members.join("one")
    async with await one.stream() as stream:
        sizes = [10, 2 * LIMIT, 50_000, 20, LIMIT // 2, 30, 2 * LIMIT, LIMIT - 100, 40]
        sent = [one.publish_data({"size": size, "text": "x" * size}) for size in sizes]
        outcomes = await asyncio.gather(*sent, return_exceptions=True)
        refused = [size for size, outcome in zip(sizes, outcomes, strict=True) if outcome]
        assert refused == [2 * LIMIT] * 2
        assert all(isinstance(outcome, MessageTooLarge) for outcome in outcomes if outcome)
        await stream.wait(7, timeout=60)
        assert list(stream.df["size"]) == [size for size in sizes if size < LIMIT]
    assert (one.publisher.published, one.publisher.failed) == (7, 2)


async def test_an_item_that_is_too_large(members: Members) -> None:
    """An item that the broker refuses ends only its item stream, with an error."""
    member, caller = await members.join("calc"), await members.join("caller")
    await member.serve(Api())
    await wait_for_service(caller, "calc", methods=4)
    items = caller.call_stream("calc.items", sizes=[10, 50_000, 2 * LIMIT, 10], timeout=60)
    assert len(await anext(items)) == 10
    assert len(await anext(items)) == 50_000
    with pytest.raises(RemoteError, match="max_message_size"):
        await anext(items)
    await until(lambda: member.servers[0].stats["items"].running == 0)
    assert len(await caller.call("calc.text", size=10, timeout=60)) == 10


class Failing:
    """Service that raises errors of any size."""

    def __init__(self) -> None:
        self.fabric: AmqBrokerConnector | None = None

    def argument(self, size: int) -> None:
        raise ValueError("x" * size, 7)

    def arguments(self, size: int) -> None:
        raise KeyError(list(range(size)))

    def attribute(self, size: int) -> None:
        raise FileNotFoundError(2, "No such file", "x" * size)

    def own(self, size: int) -> None:
        raise NoRoom("x" * size)

    def group(self, size: int) -> None:
        raise ExceptionGroup("x" * size, [ValueError("x" * size)] * 3)

    def items(self, size: int):  # type: ignore[no-untyped-def]
        yield 1
        raise ValueError("x" * size)

    async def chained(self, size: int) -> None:
        assert self.fabric is not None
        await self.fabric.call("calc.argument", size=size, timeout=60)


class NoRoom(Exception):
    """Error class of a service."""


@pytest.fixture
async def failing(members: Members) -> AmqBrokerConnector:
    """Member that may call `calc`, a service whose errors are too large."""
    member, caller = await members.join("calc"), await members.join("caller")
    api = Failing()
    api.fabric = caller
    await member.serve(api, prefetch=2)
    await wait_for_service(caller, "calc", methods=7)
    return caller


@pytest.mark.any_broker
@pytest.mark.parametrize(
    ("method", "type_", "caught_as"),
    [
        ("argument", "builtins.ValueError", ValueError),
        ("arguments", "builtins.KeyError", KeyError),
        ("attribute", "builtins.FileNotFoundError", FileNotFoundError),
        ("own", f"{__name__}.NoRoom", RemoteError),
        ("group", "builtins.ExceptionGroup", RemoteError),
        ("chained", "builtins.ValueError", ValueError),
    ],
)
async def test_an_error_that_is_too_large(
    failing: AmqBrokerConnector, method: str, type_: str, caught_as: type[Exception]
) -> None:
    """An error that the broker refuses is sent in a shorter form, with its type."""
    with pytest.raises(caught_as) as caught:
        await failing.call(f"calc.{method}", size=2 * LIMIT, timeout=60)
    error = caught.value
    assert isinstance(error, RemoteError)
    assert error.type == type_
    raised_in = "argument" if method == "chained" else method
    assert [hop.call.rpartition(".")[2] for hop in error.chain][-1] == raised_in
    assert method == "chained" or f"in {raised_in}" in error.remote_traceback
    assert len(str(error)) < 20_000


async def test_an_error_among_items_that_is_too_large(failing: AmqBrokerConnector) -> None:
    """An item stream that ends with an error which is too large ends at once, with that error."""
    items = failing.call_stream("calc.items", size=2 * LIMIT, timeout=60)
    assert await anext(items) == 1
    with pytest.raises(ValueError, match="xxx"):
        await anext(items)


@pytest.mark.parametrize("error", [MessageTooLarge.of(5, 3), *(e("text") for e in ERRORS)])
def test_errors_can_be_made_of_their_arguments(error: FabricError) -> None:
    """Errors can be pickled, and be constructed by peers from the arguments in a reply."""
    for again in (type(error)(*error.args), pickle.loads(pickle.dumps(error))):
        assert type(again) is type(error)
        assert str(again) == str(error)
    assert str(error) in str(type(error)(str(error), list(error.args)))  # as amqp-fabric makes them
    assert vars(pickle.loads(pickle.dumps(error))) == vars(error)
