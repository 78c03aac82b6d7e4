"""Connection of a command, and values of its arguments."""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import stat
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import orjson

from fabric_nb.broker.launch import BrokerStartError, find_broker
from fabric_nb.cli.output import (
    BROKEN_PIPE,
    ReaderGone,
    discard_output,
    print_error,
    print_text,
    sanitize_python_output,
)
from fabric_nb.cli.uris import configured_uri
from fabric_nb.errors import (
    BrokerUnavailable,
    FabricError,
    InvalidArgument,
    InvalidUri,
    RemoteError,
)
from fabric_nb.fabric.amqp.translation import silence_client_logs
from fabric_nb.fabric.connector import AmqBrokerConnector
from fabric_nb.notebook.options import CALL_TIMEOUT, CONNECT_TIMEOUT, DEFAULT_DOMAIN

Command = Callable[[AmqBrokerConnector, argparse.Namespace], Awaitable[int]]


def run(command: Command, options: argparse.Namespace, *, connects: bool = True) -> int:
    """Connect, run a command, and return the exit code; an error is one sentence on stderr.

    If the reader of the standard output leaves, such as ``head``, the command is cancelled.
    """
    silence_client_logs()
    sanitize_python_output()
    try:
        return asyncio.run(_with_connector(command, options, connects=connects))
    except FabricError as error:
        print_error(error, as_json=getattr(options, "json", False))
        if getattr(options, "verbose", False) and isinstance(error, RemoteError):
            print_text("\n".join(error.details), file=sys.stderr)
        return 1
    except ReaderGone:
        return BROKEN_PIPE
    except KeyboardInterrupt:
        return 130


def connect_timeout(options: argparse.Namespace) -> float:
    """Return the seconds that connecting may take."""
    return CONNECT_TIMEOUT if options.timeout is None else float(options.timeout)


async def _with_connector(command: Command, options: argparse.Namespace, *, connects: bool) -> int:
    connector = AmqBrokerConnector(
        amqp_uri=configured_or_embedded_uri(options),
        service_domain=fabric_domain(options),
        service_type="cli",
        service_id=f"cli-{secrets.token_hex(3)}",
        keep_alive_listen=True,
        timeout=CALL_TIMEOUT if options.timeout is None else options.timeout,
    )
    if connects:
        await connector.open(timeout=connect_timeout(options), retry=False)
    try:
        with _cancelled_without_reader():
            return await command(connector, options)
    finally:
        await connector.close()


@contextmanager
def _cancelled_without_reader() -> Iterator[None]:
    """Cancel the current task when the reader of a pipe leaves, also while nothing is printed.

    Raises:
        ReaderGone: the reader has left.
    """
    loop, task, gone = asyncio.get_running_loop(), asyncio.current_task(), False

    def on_gone() -> None:
        nonlocal gone
        gone = True
        if file is not None:
            loop.remove_reader(file)
        discard_output()
        if task is not None:
            task.cancel()

    file = _output_pipe()
    if file is not None:
        # Nothing can be read from this end of a pipe: it is ready when the other one is closed.
        try:
            loop.add_reader(file, on_gone)
        except NotImplementedError:  # Windows: the next output raises the error
            file = None
    try:
        yield
    except asyncio.CancelledError:
        if gone:
            raise ReaderGone from None
        raise
    finally:
        if file is not None:
            loop.remove_reader(file)


def _output_pipe() -> int | None:
    """Return the descriptor of the standard output if that is a pipe."""
    try:
        file = sys.stdout.fileno()
        return file if stat.S_ISFIFO(os.fstat(file).st_mode) else None
    except (OSError, ValueError):  # no file, as in a test
        return None


def fabric_domain(options: argparse.Namespace) -> str:
    """Return the domain of the fabric that a command is in."""
    return options.domain or os.environ.get("SERVICE_DOMAIN") or DEFAULT_DOMAIN


def configured_or_embedded_uri(options: argparse.Namespace, *, prompt: bool = True) -> str:
    """Return the URI of the broker that is given, or of the embedded one that runs.

    Raises:
        InvalidUri: there is none.
        BrokerUnavailable: the password is not known, or a broker failed to start.
    """
    if uri := configured_uri(options, prompt=prompt):
        return uri
    try:
        found = find_broker()
    except BrokerStartError as error:
        raise BrokerUnavailable(f"No broker is given, and {error}.") from None
    if found is None:
        raise InvalidUri(
            "No broker is given and no embedded one runs: use --uri amqp://user:password@host/,"
            " or set AMQP_URL."
        )
    return found.uri


def assignments(texts: list[str]) -> dict[str, Any]:
    """Return the values of ``name=value`` arguments: JSON, or else text.

    Raises:
        InvalidArgument: an argument has another form, or a name is given twice.
    """
    values = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise InvalidArgument(f"{text!r} is not of the form name=value.")
        if name in values:
            raise InvalidArgument(f"{name} is given twice.")
        values[name] = json_or_text(value)
    return values


def json_or_text(text: str) -> Any:
    """Return the value of JSON, or the text itself if it is not JSON."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
