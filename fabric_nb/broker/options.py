"""Options of the broker's command line, and their defaults; quick to import."""

import argparse

from fabric_nb.broker.names import DENIABLE_FEATURES

BANNER = (
    "fabric_nb embedded AMQP 0-9-1 broker: for development. "
    "Nothing is kept when it stops; use RabbitMQ in production."
)

LINGER = 5.0
"""Seconds that a leased broker keeps running after its last lease has ended."""

MAX_MESSAGE_SIZE = 64 * 1024 * 1024
"""Default maximum message size in bytes."""


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
