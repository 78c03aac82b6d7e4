"""Parser of the commands and their options.

Quick to import, because a shell runs it at each Tab.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fabric_nb._version import __version__
from fabric_nb.broker import options as embedded
from fabric_nb.notebook.options import (
    BENCH,
    CALL,
    CALL_TIMEOUT,
    CONFIGURED_DOMAIN,
    CONNECT_TIMEOUT,
    LOGS,
    MAP,
    SERVICES,
    STREAM,
    STREAM_NAME,
    VERSION,
    Option,
    count,
    domain_option,
    duration,
    time_limit,
)

SORTS = ("calls", "errors", "p95", "name")
"""Columns that ``fabric-nb top`` sorts by."""
SHELLS = ("bash", "zsh", "fish")
_COMPLETED_OPTIONS = {
    "--domain": "domains",
    "--type": "types",
    "--id": "ids",
    "--service": "services",
}
"""Options whose values are names in the fabric, with their functions in `cli.completing`."""

_URI_HELP = (
    "URI of the broker (default: AMQP_URL, or the running embedded broker). Other users of this"
    " machine can see a password in it: prefer AMQP_URL, AMQP_PASSWORD, a keyring or the prompt"
)
_BROKER_EPILOG = """
fabric-nb broker                     run a broker in the foreground
fabric-nb broker uri                 print the URI of your notebooks' broker, with its password
fabric-nb broker stop                stop your notebooks' broker
"""
_COMPLETION_EPILOG = """
bash    eval "$(fabric-nb completion bash)"           in ~/.bashrc
zsh     eval "$(fabric-nb completion zsh)"            in ~/.zshrc
fish    fabric-nb completion fish | source            in ~/.config/fish/config.fish
"""


def command_parser(program: str = "fabric-nb") -> argparse.ArgumentParser:
    """Return the parser of the command line; `command` of its result is the command's name."""
    parser = argparse.ArgumentParser(
        prog=program, description="AMQP microservices from the command line."
    )
    parser.add_argument("--version", action="version", version=f"fabric-nb {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    _add_broker(commands)
    _add_serve(commands)
    _add_services(commands)
    _add_top(commands)
    _add_ping(commands)
    _add_call(commands)
    _add_map(commands)
    _add_bench(commands)
    _add_stream(commands)
    _add_logs(commands)
    _add_doctor(commands)
    _add_publish(commands)
    _add_repl(commands)
    _add_completion(commands)
    return parser


def _completed(action: argparse.Action, kind: str) -> None:
    """Let a function of `cli.completing`, imported at a Tab, complete the values of an argument."""

    def complete(**context: Any) -> Iterable[str]:
        from fabric_nb.cli import completing

        found: Iterable[str] = getattr(completing, kind)(**context)
        return found

    action.completer = complete  # type: ignore[attr-defined]  # argcomplete reads it


def _add_member(
    commands: Any,
    name: str,
    text: str,
    *,
    domain: str = CONFIGURED_DOMAIN,
    json: bool = True,
) -> argparse.ArgumentParser:
    """Add a command that connects to a fabric.

    Args:
        commands: parser of the commands.
        name: name of the command.
        text: its help.
        domain: domain without ``--domain``.
        json: it can print JSON.
    """
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    parser.add_argument("--uri", help=_URI_HELP)
    _add_options(parser, [domain_option(domain)])
    parser.add_argument(
        "--timeout",
        "-t",
        type=time_limit,
        help=f"seconds, or inf (default: {CALL_TIMEOUT:g} for a call, {CONNECT_TIMEOUT:g} to"
        " connect)",
    )
    if json:
        parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _add_options(parser: argparse.ArgumentParser, options: Iterable[Option]) -> None:
    for option in options:
        action = parser.add_argument(*option.names, help=option.help, **option.settings)
        if option.names[0] in _COMPLETED_OPTIONS:
            _completed(action, _COMPLETED_OPTIONS[option.names[0]])


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
        description=f"{text.capitalize()}. Prints `ready` when all cells have run. Exits with 1"
        " when a cell fails, and with 0 after SIGTERM or Ctrl-C, once in-flight calls have ended."
        " Several instances share the calls.",
    )
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--uri", help=_URI_HELP)
    _add_options(parser, [domain_option(CONFIGURED_DOMAIN)])
    parser.add_argument("--type", help="service type of the notebook (default: SERVICE_TYPE)")
    parser.add_argument("--id", help="service id of the notebook (default: SERVICE_ID)")
    parser.add_argument(
        "--grace",
        type=duration,
        default=30.0,
        help="seconds that in-flight calls may take at the end (default: 30)",
    )


def _add_services(commands: Any) -> None:
    parser = _add_member(
        commands, "services", "list the services of all domains", domain="all domains"
    )
    parser.add_argument(
        "--wait",
        type=duration,
        help="seconds to listen for keep-alives (default: 1, or 2 with --stats, in which members of"
        " fabric_nb announce themselves; services on amqp-fabric do so every few seconds)",
    )
    parser.add_argument(
        "--watch",
        "-w",
        action="store_true",
        help="continue until Ctrl-C, or for --wait seconds: a terminal shows the current table, a"
        " pipe gets the rows that change",
    )
    _add_options(parser, SERVICES)


def _add_top(commands: Any) -> None:
    parser = _add_member(
        commands,
        "top",
        "show services by their calls, live in a terminal",
        domain="all domains",
        json=False,
    )
    parser.add_argument(
        "--sort",
        choices=SORTS,
        default=SORTS[0],
        help=f"column that services are sorted by (default: {SORTS[0]}); keys change it",
    )
    _add_options(parser, SERVICES[:2])


def _add_ping(commands: Any) -> None:
    parser = _add_member(
        commands, "ping", "ping the instances of a service; exits with 1 if one gives no answer"
    )
    service = parser.add_argument(
        "service", help="id, type.id or domain.type.id; with @ and the beginning of an id, one"
    )
    _completed(service, "services")


def _add_call(commands: Any) -> None:
    parser = _add_member(commands, "call", "call a method and print its result")
    _add_options(parser, (VERSION, *CALL))
    parser.add_argument(
        "--output",
        action="store_true",
        help="print what the method prints and logs on the standard error, as it arrives",
    )
    parser.add_argument(
        "--verbose",
        "-v",
        action="store_true",
        help="if the method fails, print the remote traceback on the standard error",
    )
    _add_method(parser, "JSON values, or text")


def _add_method(parser: argparse.ArgumentParser, values: str) -> None:
    """Add a method and its keywords, with the help of their `values`."""
    call = parser.add_argument("call", help="id.method, type.id.method or domain.type.id.method")
    _completed(call, "calls")
    given = parser.add_argument("keywords", nargs="*", metavar="name=value", help=values)
    _completed(given, "keywords")


def _add_map(commands: Any) -> None:
    parser = _add_member(
        commands, "map", "call a method for each line of the standard input, a JSON object"
    )
    _add_options(parser, (VERSION, *MAP))
    parser.add_argument(
        "--unordered", action="store_true", help="print results in the order in which they arrive"
    )
    _add_method(parser, "the same for all lines: JSON values, or text")


def _add_bench(commands: Any) -> None:
    parser = _add_member(
        commands, "bench", "measure a method: rate, latencies and errors, by instance"
    )
    _add_options(parser, (VERSION, *BENCH))
    _add_method(parser, "JSON values, or text")


def _add_stream(commands: Any) -> None:
    parser = _add_member(commands, "stream", "print the rows of a data stream")
    parser.add_argument("--count", "-n", type=count, help="stop after this many rows")
    _add_options(parser, (STREAM_NAME, *STREAM))
    parser.add_argument(
        "headers", nargs="*", metavar="name=value", help="headers that messages must have"
    )


def _add_logs(commands: Any) -> None:
    parser = _add_member(commands, "logs", "print remote logs as they arrive")
    _add_options(parser, LOGS)
    parser.add_argument("--count", "-n", type=count, help="stop after this many records")


def _add_doctor(commands: Any) -> None:
    parser = _add_member(commands, "doctor", "check for faults, and advise on each")
    parser.add_argument("--wait", type=duration, help="seconds to listen for keep-alives")
    parser.add_argument(
        "--subscriber",
        action="append",
        default=[],
        help="a name that streams share; may be given several times",
    )


def _add_publish(commands: Any) -> None:
    parser = _add_member(commands, "publish", "publish a message")
    parser.add_argument("headers", nargs="*", metavar="name=value")
    parser.add_argument("--data", required=True, help="JSON, or text; '-' reads standard input")


def _add_repl(commands: Any) -> None:
    text = "an IPython prompt that is connected"
    parser = commands.add_parser(
        "repl",
        help=text,
        description="Start IPython with the extension loaded and connected; `fabric` is the"
        " connector. Without --uri and AMQP_URL it finds or starts the embedded broker.",
    )
    parser.add_argument("--uri", help=_URI_HELP)
    _add_options(parser, [domain_option(CONFIGURED_DOMAIN)])


def _add_completion(commands: Any) -> None:
    text = "print the completion script of a shell"
    parser = commands.add_parser(
        "completion",
        help=text,
        description=f"{text.capitalize()}.",
        epilog=_COMPLETION_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("shell", choices=SHELLS)
