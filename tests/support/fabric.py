"""Members of the fabric for tests, and functions that wait for conditions and messages.

async with Members(uri) as members:
calc = await members.join("calc1", type="calc")
await until(lambda: calc.registry.find("calc1", domain=DOMAIN))
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from fabric_nb import AmqBrokerConnector
from tests.support.peers import DOMAIN

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from aio_pika.abc import AbstractIncomingMessage, AbstractQueue

    from fabric_nb.fabric.discovery.services import Service

KEEP_ALIVE = 0.2
T = TypeVar("T")


class Members:
    """Opens connectors on one broker and closes them with the test.

    Attributes:
        opened: connectors that it has opened.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.opened: list[AmqBrokerConnector] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(connector.close() for connector in self.opened))

    def connector(
        self,
        id: str = "one",  # noqa: A002 - as in the connector
        *,
        type: str = "app",  # noqa: A002
        domain: str = DOMAIN,
        uri: str | None = None,
        **options: Any,
    ) -> AmqBrokerConnector:
        """Return a connector that is not open, with frequent keep-alives and discovery."""
        options = {"keep_alive_seconds": KEEP_ALIVE, "keep_alive_listen": True} | options
        return AmqBrokerConnector(uri or self.uri, domain, type, id, **options)

    async def join(self, id: str = "one", **options: Any) -> AmqBrokerConnector:  # noqa: A002
        """Return an open connector, closed with the test."""
        return await self.open(self.connector(id, **options))

    async def open(self, connector: AmqBrokerConnector) -> AmqBrokerConnector:
        """Open a connector returned by `connector`, closed with the test."""
        await connector.open()
        self.opened.append(connector)
        return connector


class LoopTime:
    """Measures a duration in steps of the event loop: on a busy machine less than on the clock.

        with LoopTime() as took:
            await connector.close()
        assert took.seconds < 2

    Attributes:
        seconds: duration until now, or until the end of the block.
    """

    STEP = 0.05

    def __init__(self) -> None:
        self.seconds = 0.0
        self._next: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Start, or continue after a stop."""
        self._next = asyncio.get_running_loop().call_later(self.STEP, self._count)

    def stop(self) -> None:
        """Stop; no effect if stopped."""
        if self._next is not None:
            self._next.cancel()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _count(self) -> None:
        self.seconds += self.STEP
        self.start()


async def until(
    condition: Callable[[], T],
    *,
    timeout: float = 60,
    description: str = "",
    found: Callable[[], object] | None = None,
) -> T:
    """Poll a condition, and return its first true value.

    If it does not become true, the error has the `description`, and what is `found` then.
    """
    try:
        async with asyncio.timeout(timeout):
            while not (value := condition()):  # noqa: ASYNC110 - there is no event
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(
            f"not within {timeout:g} s: {description or 'the condition'};"
            f" it is {(condition if found is None else found)()!r}"
        ) from None
    return value


async def wait_for_service(
    listener: AmqBrokerConnector,
    service: str,
    *,
    methods: int = 0,
    instances: int = 1,
    timeout: float = 60,
) -> Service:
    """Wait until a member has discovered a service with enough methods and instances."""
    try:
        async with asyncio.timeout(timeout):
            while True:
                services = listener.registry.find(service, domain=listener.domain)
                if (
                    services
                    and len(services[0].methods) >= methods
                    and len(services[0].present(listener.registry.now)) >= instances
                ):
                    return services[0]
                await listener.registry.changed()
    except TimeoutError:
        raise AssertionError(f"{service} was not discovered:\n{listener.registry.df}") from None


async def next_message(queue: AbstractQueue, timeout: float = 60) -> AbstractIncomingMessage:
    """Wait for the next message of a queue and acknowledge it; `Queue.get` would not wait."""
    first: asyncio.Future[AbstractIncomingMessage] = asyncio.get_running_loop().create_future()
    extra: list[AbstractIncomingMessage] = []

    async def on_message(message: AbstractIncomingMessage) -> None:
        if first.done():
            extra.append(message)
        else:
            first.set_result(message)

    tag = await queue.consume(on_message)
    async with asyncio.timeout(timeout):
        message = await first
    await queue.cancel(tag)
    await message.ack()
    for extra_message in extra:
        await extra_message.nack(requeue=True)
    return message
