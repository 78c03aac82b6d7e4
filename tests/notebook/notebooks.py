"""A kernel with fabric_nb loaded, and what tests ask of it again and again."""

from __future__ import annotations

import asyncio
import itertools
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fabric_nb.fabric.discovery.registry import ServiceState
from fabric_nb.fabric.wire.names import ServiceName
from tests.support.cells import Cell
from tests.support.kernels import Kernel, KernelTimeout
from tests.support.peers import DOMAIN, Peer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from typing import Self

    from fabric_nb import AmqBrokerConnector

    StartPeer = Callable[..., Awaitable[Peer]]
    StartNotebook = Callable[..., Awaitable["Notebook"]]

KEEP_ALIVE = 0.5


class Notebook(Kernel):
    """A kernel in which fabric_nb is loaded."""

    @classmethod
    async def start(
        cls, folder: Path, env: Mapping[str, str] | None = None, *, load: bool = True
    ) -> Self:
        """Start the kernel and load the extension."""
        notebook = await super().start(folder, env)
        if load:
            await notebook.load()
        return notebook

    async def load(self) -> Cell:
        """Load the extension, with keep-alives twice a second."""
        return await self.run(
            f"%load_ext fabric_nb\n%config FabricMagics.keep_alive_seconds = {KEEP_ALIVE}"
        )

    async def connect(self, uri: str, options: str = "", *, id: str) -> Cell:  # noqa: A002
        """Join the fabric as ``notebook.{id}``."""
        return await self.run(f"%fabric_connect {uri} --domain {DOMAIN} --id {id} {options}")

    async def run(self, code: str, timeout: float = 30, *, cell_id: str | None = None) -> Cell:
        """Run a cell that must succeed; one that does not end is interrupted, for later tests."""
        try:
            return await super().run(code, timeout, cell_id=cell_id)
        except KernelTimeout:
            await self.interrupt()
            raise

    async def value(self, code: str) -> str:
        """The plain text of an expression's value."""
        return (await self.run(code)).text

    def check_secret(self, uri: str) -> None:
        """Hold that nothing the kernel has sent or logged tells the password in `uri`.

        What it echoes of a cell's own text is not counted.
        """
        sent = [message for message in self.messages if message.type != "execute_input"]
        for message in (*sent, *self.replies.values(), self.log):
            assert password_of(uri) not in repr(message)


_numbers = itertools.count(1)


class SlowCall:
    """A call to `calc1.slow` that can be told from all others; `line` is how a cell makes it."""

    def __init__(self, calc: Peer, seconds: float) -> None:
        self.seconds = round(seconds + next(_numbers) / 10_000, 4)
        self.line = f"calc1.slow seconds={self.seconds}"
        self._calc = calc

    async def began(self) -> None:
        """Wait until the service runs it."""
        while (await self._calc.event("slow_began"))["seconds"] != self.seconds:
            pass


async def call(caller: Peer, target: str, method: str, **kwargs: object) -> object:
    """Have amqp-fabric call the service `notebook.{target}`, or another `type.id`."""
    kind, _, name = target.rpartition(".")
    return await caller.ask(
        "call", type=kind or "notebook", target=name, method=method, kwargs=kwargs, timeout=40
    )


def password_of(uri: str) -> str:
    """The password in a URI."""
    password = urlsplit(uri).password
    assert password
    return password


def told(cell: Cell, name: str = "UsageError") -> str:
    """What a cell told that ended with an error of ours: a sentence or two, no traceback.

    IPython shows a `UsageError`, for a line that cannot be read, as text on the standard error,
    and any other error as what front ends and headless runs take for one.
    """
    assert cell.status == "error", cell
    assert cell.error is not None
    assert cell.error.name == name, cell.error
    shown = [output.text for output in cell.outputs if output.kind == "error"]
    if name == "UsageError":
        assert not shown
        shown = [cell.stderr.strip()]
    assert len(shown) == 1, shown
    assert "Traceback" not in shown[0]
    assert len(shown[0].splitlines()) <= 2, shown
    assert shown[0].startswith(f"{name}: {cell.error.value}"), shown
    return shown[0].removeprefix(f"{name}: ")


def shown_error(cell: Cell, name: str) -> str:
    """The text under a cell that ended with an error of ours: short, without our own frames."""
    assert cell.error is not None, cell
    assert cell.error.name == name, cell.error
    shown = cell.error.traceback
    own = shown.partition("Remote traceback:")[0]
    assert "Traceback (most recent call last)" not in own
    assert not re.search(r"fabric_nb|nest_asyncio2|asyncio/", own)
    return shown


async def until(
    watcher: AmqBrokerConnector, what: Callable[[], object], timeout: float = 10
) -> None:
    """Wait until something holds, looked at after every keep-alive that `watcher` hears."""
    async with asyncio.timeout(timeout):
        while not what():
            await watcher.registry.changed()


def state_of(watcher: AmqBrokerConnector, id: str, type: str = "notebook") -> ServiceState | None:  # noqa: A002
    """How a service is doing, as others see it; None when it was never heard."""
    service = watcher.registry.get(ServiceName(DOMAIN, type, id))
    return None if service is None else watcher.registry.state(service)
