"""Common part of the peer scripts: arguments, the connector, and a protocol of JSON lines.

A peer writes `{"event": "ready", "pid": ...}` once it is ready. It replies to each request line
`{"id": n, "do": name, ...}` with `{"event": "reply", "id": n, ...}`, and writes received messages
as events of other names. On SIGTERM or the end of its input it closes its connection and ends.

With `PEERS_ON=fabric_nb` in the environment the scripts run on fabric_nb, where the broker refuses
the queues of amqp-fabric.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

if os.environ.get("PEERS_ON") == "fabric_nb":
    from fabric_nb import AbstractServiceApi, AmqBrokerConnector, AmqpHandler
else:
    from amqp_fabric.abstract_service_api import AbstractServiceApi
    from amqp_fabric.amq_broker_connector import AmqBrokerConnector
    from amqp_fabric.logging_amqp_handler import AmqpHandler

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    Handler = Callable[..., Awaitable[Any]]

__all__ = ["AbstractServiceApi", "AmqpHandler"]


def arguments(doc: str | None, *, type: str, id: str, keep_alive: float) -> argparse.ArgumentParser:  # noqa: A002
    """Return a parser of the arguments that all peers take, with these defaults."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--uri", required=True)
    parser.add_argument("--domain", required=True)
    parser.add_argument("--type", default=type)
    parser.add_argument("--id", default=id)
    parser.add_argument("--keep-alive", type=float, default=keep_alive, help="seconds; 0: never")
    return parser


def connector(options: argparse.Namespace, **more: Any) -> AmqBrokerConnector:
    """Return a connector for these arguments, not yet open."""
    return AmqBrokerConnector(
        amqp_uri=options.uri,
        service_domain=options.domain,
        service_type=options.type,
        service_id=options.id,
        keep_alive_seconds=options.keep_alive or False,
        **more,
    )


def send_event(event: str, **facts: Any) -> None:
    """Write an event to the standard output."""
    print(json.dumps({"event": event, **facts}, default=repr), flush=True)


def message_facts(message: Any) -> dict[str, Any]:
    """Return headers and body text of a data or log message."""
    return {"headers": dict(message.headers), "body": message.body.decode("utf-8", "replace")}


async def serve(**handlers: Handler) -> None:
    """Send the event `ready`, and handle requests until the end is requested."""
    reading = asyncio.create_task(_read(handlers))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, reading.cancel)
    send_event("ready", pid=os.getpid())
    with contextlib.suppress(asyncio.CancelledError):
        await reading


async def _read(handlers: Mapping[str, Handler]) -> None:
    """Handle requests concurrently until the input ends."""
    running = set()
    async for request in _lines():
        task = asyncio.create_task(_answer(handlers, request))
        running.add(task)
        task.add_done_callback(running.discard)


async def _lines() -> AsyncIterator[dict[str, Any]]:
    reader = asyncio.StreamReader(limit=64 * 2**20)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while line := await reader.readline():
        yield json.loads(line)


async def _answer(handlers: Mapping[str, Handler], request: dict[str, Any]) -> None:
    number = request.pop("id")
    try:
        result = await handlers[request.pop("do")](**request)
    except Exception as error:  # noqa: BLE001 - any error is the reply
        kind = type(error)
        facts = {
            "type": f"{kind.__module__}.{kind.__qualname__}",
            "message": str(error),
            "args": error.args,
        }
        send_event("reply", id=number, error=facts)
    else:
        send_event("reply", id=number, result=result)
