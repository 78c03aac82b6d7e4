"""Calculator service on amqp-fabric."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import peer_io


class CalcError(Exception):
    """Error class of the service, which a caller cannot import."""


class CalcApi(peer_io.AbstractServiceApi):
    """API of the calculator."""

    def __init__(self) -> None:
        self._calls = 0

    def multiply(self, x: float, y: float) -> float:
        """Return x times y."""
        return x * y

    def divide(self, x: float, y: float) -> float:
        """Return x divided by y."""
        return x / y

    async def slow(self, seconds: float) -> int:
        """Return the process id after some time; send an event at the start."""
        peer_io.send_event("slow_began", seconds=seconds)
        await asyncio.sleep(seconds)
        return os.getpid()

    def fail(self, message: str) -> None:
        """Raise a ValueError."""
        raise ValueError(message)

    def refuse(self, reason: str) -> None:
        """Raise an error of the service's own class."""
        raise CalcError(reason, 42)

    async def whoami(self) -> int:
        """Return the process id."""
        return os.getpid()

    def echo(self, value: Any) -> Any:
        """Return the value."""
        return value

    def block(self, seconds: float) -> None:
        """Block the loop for some time; send an event at the start."""
        peer_io.send_event("block_began")
        time.sleep(seconds)

    def die(self) -> None:
        """End the process at once, as a crash in native code does."""
        os._exit(3)

    def count(self) -> int:
        """Return the number of calls in this process."""
        self._calls += 1
        return self._calls


async def main() -> None:
    """Serve until the end is requested."""
    options = peer_io.arguments(__doc__, type="calc", id="calc1", keep_alive=1).parse_args()
    connector = peer_io.connector(options)
    await connector.open()
    await connector.rpc_register(CalcApi())
    await peer_io.serve()
    await connector.close()


if __name__ == "__main__":
    asyncio.run(main())
