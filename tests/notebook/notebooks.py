"""A kernel with fabric_nb loaded, and helpers for tests."""

from __future__ import annotations

import asyncio
import itertools
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fabric_nb.fabric.discovery.services import ServiceState
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
        """Start a kernel and load the extension."""
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
        """Connect as ``notebook.{id}``."""
        return await self.run(f"%fabric_connect {uri} --domain {DOMAIN} --id {id} {options}")

    async def run(self, code: str, timeout: float = 60, *, cell_id: str | None = None) -> Cell:
        """Run a cell that must succeed; interrupt it after the timeout, for later tests."""
        try:
            return await super().run(code, timeout, cell_id=cell_id)
        except KernelTimeout:
            await self.interrupt()
            raise

    async def value(self, code: str) -> str:
        """Return the plain text of an expression's value."""
        return (await self.run(code)).text

    def check_secret(self, uri: str) -> None:
        """Check that no message and no log of the kernel contains the password of a URI.

        The source of cells, which the kernel echoes, is ignored.
        """
        sent = [message for message in self.messages if message.type != "execute_input"]
        for message in (*sent, *self.replies.values(), self.log):
            assert password_of(uri) not in repr(message)


_numbers = itertools.count(1)


class SlowCall:
    """A distinguishable call of `calc1.slow`; `line` is the line for a cell."""

    def __init__(self, calc: Peer, seconds: float) -> None:
        self.seconds = round(seconds + next(_numbers) / 10_000, 4)
        self.line = f"calc1.slow seconds={self.seconds}"
        self._calc = calc

    async def began(self) -> None:
        """Wait until the service executes the call."""
        while (await self._calc.event("slow_began"))["seconds"] != self.seconds:
            pass


async def call(caller: Peer, target: str, method: str, **kwargs: object) -> object:
    """Call the service `notebook.{target}`, or `type.id`, from amqp-fabric."""
    kind, _, name = target.rpartition(".")
    return await caller.ask(
        "call", type=kind or "notebook", target=name, method=method, kwargs=kwargs, timeout=60
    )


def password_of(uri: str) -> str:
    """Return the password of a URI."""
    password = urlsplit(uri).password
    assert password
    return password


def error_text(cell: Cell, name: str = "UsageError") -> str:
    """Return the text of the fabric error with which a cell failed, which has no traceback.

    IPython shows a `UsageError`, for an invalid line, as text on standard error, and other errors
    as error outputs.
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
    """Return the text of a cell's error, which must be short and have no frames of fabric_nb."""
    assert cell.error is not None, cell
    assert cell.error.name == name, cell.error
    shown = cell.error.traceback
    own = shown.partition("Remote traceback:")[0]
    assert "Traceback (most recent call last)" not in own
    assert not re.search(r"fabric_nb|nest_asyncio2|asyncio/", own)
    return shown


async def until(
    watcher: AmqBrokerConnector, what: Callable[[], object], timeout: float = 60
) -> None:
    """Wait until a condition holds, checked after every keep-alive that `watcher` receives."""
    async with asyncio.timeout(timeout):
        while not what():
            await watcher.registry.changed()


def state_of(watcher: AmqBrokerConnector, id: str, type: str = "notebook") -> ServiceState | None:  # noqa: A002
    """Return the state of a service in the registry of `watcher`; None if it is unknown."""
    service = watcher.registry.get(ServiceName(DOMAIN, type, id))
    return None if service is None else watcher.registry.state(service)
