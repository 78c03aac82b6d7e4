"""The commands and their options; light to import, because a shell reads them at each Tab."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fabric_nb._version import __version__
from fabric_nb.broker import __main__ as embedded
from fabric_nb.notebook.options import (
    CALL,
    DEFAULT_DOMAIN,
    LOGS,
    SERVICES,
    STREAM,
    STREAM_NAME,
    Option,
    count,
    duration,
    time_limit,
)

SHELLS = ("bash", "zsh", "fish")

_URI_HELP = (
    "the broker; AMQP_URL, or the embedded broker that runs. A password in it is seen in this"
    " machine's list of processes: prefer AMQP_URL, AMQP_PASSWORD or a keyring, or be asked"
)
_BROKER_EPILOG = """
fabric-nb broker                     run a broker in the foreground
fabric-nb broker uri                 print where this user's notebooks run theirs, password included
fabric-nb broker stop                stop that one
"""
_COMPLETION_EPILOG = """
bash    eval "$(fabric-nb completion bash)"           in ~/.bashrc
zsh     eval "$(fabric-nb completion zsh)"            in ~/.zshrc
fish    fabric-nb completion fish | source            in ~/.config/fish/config.fish
"""


def command_parser(program: str = "fabric-nb") -> argparse.ArgumentParser:
    """Return the parser of the whole command line; `command` of its result names the command."""
    parser = argparse.ArgumentParser(
        prog=program, description="AMQP microservices from the command line."
    )
    parser.add_argument("--version", action="version", version=f"fabric-nb {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    _add_broker(commands)
    _add_serve(commands)
    _add_services(commands)
    _add_call(commands)
    _add_stream(commands)
    _add_logs(commands)
    _add_doctor(commands)
    _add_publish(commands)
    _add_completion(commands)
    return parser


def _add_member(
    commands: Any, name: str, text: str, *, domain: str = f"SERVICE_DOMAIN, or {DEFAULT_DOMAIN}"
) -> argparse.ArgumentParser:
    """Add a command that joins a fabric; `domain` describes its option of that name."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    parser.add_argument("--uri", help=_URI_HELP)
    parser.add_argument("--domain", "-d", help=domain)
    parser.add_argument(
        "--timeout", "-t", type=time_limit, default=10.0, help="seconds, or inf (default: 10)"
    )
    parser.add_argument("--json", action="store_true", help="output for machines")
    return parser


def _add_options(parser: argparse.ArgumentParser, options: Iterable[Option]) -> None:
    for one in options:
        parser.add_argument(*one.names, help=one.help, **one.settings)


def _add_broker(commands: Any) -> None:
    parser = commands.add_parser(
        "broker",
        help="the embedded development broker",
        description=embedded.BANNER,
        epilog=_BROKER_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[embedded.argument_parser(add_help=False)],
    )
    parser.add_argument("action", nargs="?", choices=["run", "uri", "stop"], default="run")


def _add_serve(commands: Any) -> None:
    text = "run a notebook and keep it serving"
    parser = commands.add_parser(
        "serve",
        help=text,
        description=f"{text.capitalize()}. Prints `ready` when its cells have run; a cell that"
        " fails ends it with 1. SIGTERM or Ctrl-C takes no more calls, lets running ones end, and"
        " ends it with 0. Several of them share the calls.",
    )
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--uri", help=_URI_HELP)
    parser.add_argument("--domain", "-d", help="the domain, as SERVICE_DOMAIN")
    parser.add_argument("--type", help="the notebook's service type, as SERVICE_TYPE")
    parser.add_argument("--id", help="the notebook's service id, as SERVICE_ID")
    parser.add_argument("--grace", type=duration, default=30.0, help="seconds (default: 30)")


def _add_services(commands: Any) -> None:
    parser = _add_member(
        commands, "services", "list the services of all domains", domain="only this domain"
    )
    parser.add_argument("--wait", type=duration, help="seconds to listen")
    _add_options(parser, SERVICES)


def _add_call(commands: Any) -> None:
    parser = _add_member(commands, "call", "call a method and print its result")
    _add_options(parser, CALL)
    parser.add_argument("call", help="id.method, type.id.method or domain.type.id.method")
    parser.add_argument("keywords", nargs="*", metavar="name=value", help="JSON values, or text")


def _add_stream(commands: Any) -> None:
    parser = _add_member(commands, "stream", "print the rows of a data stream")
    parser.add_argument("--count", "-n", type=count, help="end after so many rows")
    _add_options(parser, (STREAM_NAME, *STREAM))
    parser.add_argument(
        "headers", nargs="*", metavar="name=value", help="headers that messages must carry"
    )


def _add_logs(commands: Any) -> None:
    parser = _add_member(commands, "logs", "print remote logs as they come")
    _add_options(parser, LOGS)
    parser.add_argument("--count", "-n", type=count, help="end after so many records")


def _add_doctor(commands: Any) -> None:
    parser = _add_member(commands, "doctor", "look for faults, and say what to do")
    parser.add_argument("--wait", type=duration, help="seconds to listen for keep-alives")
    parser.add_argument(
        "--subscriber", action="append", default=[], help="a name that streams share"
    )


def _add_publish(commands: Any) -> None:
    parser = _add_member(commands, "publish", "publish a message")
    parser.add_argument("headers", nargs="*", metavar="name=value")
    parser.add_argument("--data", required=True, help="JSON, or text; '-' reads standard input")


def _add_completion(commands: Any) -> None:
    text = "print a shell's completion script"
    parser = commands.add_parser(
        "completion",
        help=text,
        description=f"{text.capitalize()}.",
        epilog=_COMPLETION_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("shell", choices=SHELLS)
