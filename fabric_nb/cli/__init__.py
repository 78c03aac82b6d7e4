"""The ``fabric-nb`` command, which is also ``jupyter fabric``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from fabric_nb.cli.parser import command_parser

_COMMAND = "fabric-nb"
_ZSH_PREAMBLE = "autoload -Uz compinit && compinit\n"
"""Loads the completion system of zsh, which argcomplete's script needs."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    alias = Path(sys.argv[0]).stem == "jupyter-fabric"
    parser = command_parser("jupyter fabric" if alias else _COMMAND)
    if "_ARGCOMPLETE" in os.environ:  # a shell requests completions; this ends the process
        import argcomplete

        argcomplete.autocomplete(parser, always_complete_options=False)
    options = parser.parse_args(arguments)
    try:
        return _run(options)
    except ImportError as error:
        from fabric_nb.libraries import unusable_library

        if (unusable := unusable_library(error)) is None:
            raise
        print(f"{_COMMAND}: {unusable}", file=sys.stderr)  # `cli.output` may need the library
        return 1


def _run(options: argparse.Namespace) -> int:
    """Run a command, importing only its own module."""
    match options.command:
        case "broker":
            from fabric_nb.cli import broker

            return broker.run(options)
        case "serve":
            from fabric_nb.cli import serve

            return serve.run(options)
        case "repl":
            from fabric_nb.cli import repl

            return repl.run(options)
        case "completion":
            from argcomplete.shell_integration import shellcode

            preamble = _ZSH_PREAMBLE if options.shell == "zsh" else ""
            print(preamble + shellcode([_COMMAND], shell=options.shell))
            return 0
        case _:
            from fabric_nb.cli import commands

            return commands.run(options)
