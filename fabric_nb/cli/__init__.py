"""The ``fabric-nb`` command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from fabric_nb._version import __version__
from fabric_nb.cli import broker


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="fabric-nb", description="AMQP microservices from the command line."
    )
    parser.add_argument("--version", action="version", version=f"fabric-nb {__version__}")
    commands = parser.add_subparsers(metavar="command", required=True)
    arguments = sys.argv[1:] if arguments is None else arguments
    broker.add_to(commands)
    if arguments[:1] != ["broker"]:  # which does without pandas and a client
        from fabric_nb.cli import commands as members
        from fabric_nb.cli import serve

        members.add_to(commands)
        serve.add_to(commands)
    options = parser.parse_args(arguments)
    code: int = options.run(options)
    return code
