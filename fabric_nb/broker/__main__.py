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
from fabric_nb.broker.options import BANNER, argument_parser
from fabric_nb.broker.server import HOST, Server, Settings

_MEGABYTE = 1024 * 1024


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
