"""The ``fabric-nb`` command, which is also ``jupyter fabric``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fabric_nb._version import __version__
from fabric_nb.cli import broker, completion

MEMBERS = ("services", "call", "stream", "logs", "publish", "doctor")
"""The commands that join a fabric; they need nothing that runs a notebook."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = command_parser(*arguments[:1]).parse_args(arguments)
    code: int = options.run(options)
    return code


def command_parser(only: str = "") -> argparse.ArgumentParser:
    """The parser of the whole command line.

    Args:
        only: the command that is wanted; the others may be left out where they take longer to
            import than it does.
    """
    alias = Path(sys.argv[0]).stem == "jupyter-fabric"
    parser = argparse.ArgumentParser(
        prog="jupyter fabric" if alias else "fabric-nb",
        description="AMQP microservices from the command line.",
    )
    parser.add_argument("--version", action="version", version=f"fabric-nb {__version__}")
    commands = parser.add_subparsers(metavar="command", required=True)
    broker.add_to(commands)
    if only not in ("broker", *MEMBERS):
        from fabric_nb.cli import serve

        serve.add_to(commands)
    if only not in ("broker", "serve"):
        from fabric_nb.cli import commands as members

        members.add_to(commands)
    completion.add_to(commands)
    return parser
