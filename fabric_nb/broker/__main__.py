"""Run the embedded broker in the foreground: `python -m fabric_nb.broker --port 5672`."""

import argparse
import asyncio
import gc
import logging
import os
import secrets
import signal
import sys

from fabric_nb.broker.discovery import (
    BrokerRecord,
    record_path,
    remove_record,
    runtime_folder,
    write_record,
)
from fabric_nb.broker.handshake import Credentials
from fabric_nb.broker.lifetime import Lifetime
from fabric_nb.broker.log_rate_limit import RepeatFilter
from fabric_nb.broker.names import DENIABLE_FEATURES
from fabric_nb.broker.server import HOST, MAX_MESSAGE_SIZE, Server, Settings

BANNER = (
    "fabric_nb embedded AMQP 0-9-1 broker: for development. "
    "Nothing is kept when it stops; use RabbitMQ in production."
)

LINGER = 5.0
"""Seconds that a leased broker keeps running after its last lease has ended."""

_MEGABYTE = 1024 * 1024


def argument_parser(*, add_help: bool = True) -> argparse.ArgumentParser:
    """Return the parser of the broker's options."""
    parser = argparse.ArgumentParser(
        prog="python -m fabric_nb.broker", description=BANNER, add_help=add_help
    )
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0: a free one")
    parser.add_argument("--user", default="guest", help="the user's name (default: guest)")
    parser.add_argument("--password", help="the user's password (default: a random one, printed)")
    parser.add_argument(
        "--deny",
        action="append",
        default=[],
        choices=sorted(DENIABLE_FEATURES),
        help="refuse a deprecated feature, as RabbitMQ 4.3 does; may be repeated",
    )
    parser.add_argument(
        "--memory-limit",
        type=int,
        default=256,
        metavar="MB",
        help="memory for messages; publishers wait before it is reached (default: 256)",
    )
    parser.add_argument(
        "--max-message-size",
        type=int,
        default=MAX_MESSAGE_SIZE,
        metavar="BYTES",
        help="refuse larger messages, as RabbitMQ does (default: 67108864; RabbitMQ 4: 16777216)",
    )
    parser.add_argument(
        "--leased",
        action="store_true",
        help="serve the user's notebooks, and stop after the last one has disconnected",
    )
    parser.add_argument("--linger", type=float, default=LINGER, help=argparse.SUPPRESS)
    return parser


async def serve(settings: Settings, *, leased: bool, linger: float) -> None:
    """Run a broker until SIGTERM or SIGINT or, if `leased`, until the last lease has ended."""
    loop = asyncio.get_running_loop()
    lifetime = Lifetime(loop, linger if leased else None)
    server = Server(settings, loop, lifetime)
    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            loop.add_signal_handler(number, lifetime.stop)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(lifetime.stop))
    await server.start()
    # Objects created up to here live as long as the process, so the collector can skip them.
    gc.freeze()
    path = record_path(runtime_folder()) if leased else None
    if path is not None:
        user = settings.credentials
        write_record(path, BrokerRecord(os.getpid(), server.port, user.user, user.password))
    sys.stdout.write(f"{BANNER}\nlistening on {HOST}:{server.port}\n" if not leased else "ready\n")
    sys.stdout.flush()
    await lifetime.wait_until_end()
    if path is not None:
        # Before the port is released, so that this cannot remove the record of a successor.
        remove_record(path, os.getpid())
    await server.stop()


def main(arguments: list[str] | None = None) -> None:
    """Run the broker with the options of a command line."""
    run(argument_parser().parse_args(arguments))


def run(options: argparse.Namespace) -> None:
    """Run the broker with options parsed by `argument_parser`."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for handler in logging.getLogger().handlers:
        handler.addFilter(RepeatFilter())
    password = options.password
    if password is None:
        password = secrets.token_urlsafe(24)
        if not options.leased:
            sys.stdout.write(f"user {options.user}, password {password}\n")
    settings = Settings(
        Credentials(options.user, password),
        options.port,
        denied=frozenset(options.deny),
        memory_limit=options.memory_limit * _MEGABYTE,
        max_message_size=options.max_message_size,
    )
    try:
        asyncio.run(serve(settings, leased=options.leased, linger=options.linger))
    except OSError as error:
        sys.exit(f"the broker cannot run: {error}")


if __name__ == "__main__":
    main()
