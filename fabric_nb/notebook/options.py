"""Options that magics and the command line share, and parsers of their values."""

from __future__ import annotations

from argparse import ArgumentTypeError, Namespace
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from fabric_nb.fabric.data.plotting import HOWS, KINDS
from fabric_nb.fabric.wire.names import is_part

DEFAULT_DOMAIN = "my_project"
"""Domain of a notebook or command that is given none."""
DEFAULT_CONNECTION = "default"
"""Name of a notebook's connection that is given none."""
CALL_TIMEOUT = 30.0
"""Seconds that a call may take by default."""
CONNECT_TIMEOUT = 10.0
"""Seconds that connecting may take by default."""
_QUOTES = "'\""
Options = TypeVar("Options")


@dataclass(frozen=True, slots=True)
class Option:
    """Option of a command.

    Attributes:
        names: spellings, as in ``--level`` and ``-l``.
        help: description, in lower case and without a full stop.
        settings: further arguments of `argparse.ArgumentParser.add_argument`.
    """

    names: tuple[str, ...]
    help: str
    settings: Mapping[str, Any]

    def with_names(self, *names: str) -> Option:
        """Return the option with further spellings."""
        return replace(self, names=(*self.names, *names))


def option(*names: str, help: str, **settings: Any) -> Option:  # noqa: A002 - as in argparse
    """Declare an option."""
    return Option(names, help, settings)


def read_options(kind: type[Options], parsed: Namespace, **more: Any) -> Options:
    """Return a dataclass with the parsed options that it has fields for, and `more`."""
    names = {field.name for field in fields(kind)} & vars(parsed).keys()  # type: ignore[arg-type]
    return kind(**{name: getattr(parsed, name) for name in names}, **more)


def unquoted(word: str) -> str:
    """Return the value of an option, without its quotes if it has any."""
    if len(word) > 1 and word[0] in _QUOTES and word[-1] == word[0]:
        return word[1:-1]
    return word


def seconds(word: str) -> float:
    """Parse a time in seconds, greater than 0."""
    try:
        value = float(unquoted(word))
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise ArgumentTypeError(f"{word!r} is not a time in seconds")
    return value


def time_limit(word: str) -> float:
    """Parse a limit in seconds, greater than 0; ``inf`` for no limit."""
    return float("inf") if unquoted(word).strip().lower() in ("inf", "infinity") else seconds(word)


def duration(word: str) -> float:
    """Parse a time in seconds, or 0."""
    plain = unquoted(word)
    return 0.0 if plain.strip("0.") == "" and "0" in plain else seconds(word)


def rate(word: str) -> float:
    """Parse a number per second, greater than 0."""
    try:
        return seconds(word)
    except ArgumentTypeError:
        raise ArgumentTypeError(f"{word!r} is not a number per second") from None


def count(word: str) -> int:
    """Parse an integer from 1 upward."""
    return _integer(word, 1)


def whole(word: str) -> int:
    """Parse an integer from 0 upward."""
    return _integer(word, 0)


def _integer(word: str, minimum: int) -> int:
    plain = unquoted(word)
    if not plain.isascii() or not plain.isdecimal() or int(plain) < minimum:
        raise ArgumentTypeError(f"{word!r} is not a number from {minimum} upward")
    return int(plain)


def offset(word: str) -> str | int:
    """Parse an offset in a RabbitMQ stream: a number, or a name such as ``first``."""
    plain = unquoted(word)
    return int(plain) if word.isascii() and word.isdecimal() else plain


def names(word: str) -> list[str]:
    """Parse a list of names: ``a,b``."""
    return [name.strip() for name in unquoted(word).split(",") if name.strip()]


def connection_name(word: str) -> str:
    """Parse the name of a connection: 1 to 63 letters, digits, ``-`` or ``_``."""
    name = unquoted(word)
    if not is_part(name):
        raise ArgumentTypeError(
            f"{name!r} cannot be the name of a connection: use 1 to 63 letters, digits, '-' or '_'"
        )
    return name


CONFIGURED_DOMAIN = f"SERVICE_DOMAIN, or {DEFAULT_DOMAIN}"
"""Domain of a member that is given none."""


def domain_option(default: str) -> Option:
    """Return the option ``--domain``, which has this meaning in every magic and command.

    Args:
        default: domain without the option.
    """
    return option(
        "--domain",
        "-d",
        help="domain that this is about: a group of services that find each other by short names"
        f" (default: {default})",
    )


CONNECTED_DOMAIN = domain_option("that of the connection")
VERSION = option("--version", help="required version, as in '>=1.2,<2'")
IDEMPOTENT = option(
    "--idempotent",
    "-i",
    action="store_true",
    help="safe to run twice: retry if the service or connection is lost",
)
NO_CANCEL = option(
    "--no-cancel",
    dest="cancel_on_timeout",
    action="store_false",
    help="let a call that has begun continue when its timeout is over",
)
CALL = (
    IDEMPOTENT,
    NO_CANCEL,
    option("--stream", "-s", action="store_true", help="show a generator's items as they arrive"),
    option("--count", "-n", type=count, help="stop after this many items"),
)
MAP = (
    option(
        "--in-flight", type=count, default=16, help="rows under way at the same time (default: 16)"
    ),
    IDEMPOTENT,
    NO_CANCEL,
    option(
        "--retries",
        type=whole,
        default=0,
        help="further calls of a row that fails; for idempotent methods",
    ),
    option(
        "--on-error",
        choices=["keep", "raise"],
        default="keep",
        help="keep the error of a row and continue, or stop with the first one (default: keep)",
    ),
)
BENCH = (
    option(
        "--in-flight",
        type=count,
        default=16,
        help="calls under way at the same time (default: 16)",
    ),
    option("--seconds", type=seconds, help="duration in seconds (default: 10 without --calls)"),
    option("--calls", "-n", type=count, help="number of calls, after which it ends"),
    option(
        "--rate",
        type=rate,
        help="calls that are due per second, of which --in-flight are under way at most; latencies"
        " count from the time at which a call is due (default: a call begins when another ends)",
    ),
    option(
        "--warmup",
        type=duration,
        help="seconds at the start that are not counted (default: 0.5 without --calls)",
    ),
    option(
        "--yes",
        "-y",
        dest="repeatable",
        action="store_true",
        help="the method may be called thousands of times; health_check needs no consent",
    ),
)
STREAM_NAME = option("--name", default="", help="share the messages with all streams of this name")
STREAM = (
    option(
        "--durable", action="store_true", help="keep messages at the broker while nothing reads"
    ),
    option(
        "--replay-from",
        type=offset,
        help="start at first, last, next or an offset in the messages stored by the broker",
    ),
    option("--with-headers", action="store_true", help="add headers as columns header.<name>"),
    option("--arrival", action="store_true", help="add the time of arrival as column arrival"),
    option("--record", help="record to this .parquet or .jsonl file"),
)
PLOT = (
    option("--plot", type=names, help="show a chart of these columns: a,b"),
    option("--kind", choices=list(KINDS), help="kind of the chart (default: line)"),
    option("--every", type=unquoted, help="width of a bucket of the chart, as in 1min"),
    option("--how", choices=list(HOWS), help="value of a bucket"),
    option("--by", type=unquoted, help="column whose values are drawn by themselves"),
    option("--window", type=unquoted, help="newest part that the chart shows, as in 5min"),
    option("--utc", action="store_true", help="show the times of the chart in UTC"),
)
"""Options of a chart; with any of them, one is shown."""
SERVICES = (
    option("--type", help="only this type"),
    option("--id", help="only this id"),
    option("--gone", action="store_true", help="include services that are gone"),
    option("--stats", action="store_true", help="show the statistics of their calls"),
)
LOGS = (
    option("--level", "-l", help="minimum level, as in WARNING"),
    option("--service", "-s", help="only this service: id or type.id"),
)
SERVE = (
    option("--version", "-v", default="", help="version of the service"),
    option("--allow", type=names, help="accept calls only from these broker users: a,b"),
    option("--thread", dest="threads", action="store_true", help="run plain functions in threads"),
    option(
        "--prefetch", type=count, default=1, help="maximum number of concurrent calls of one method"
    ),
    option(
        "--redelivered",
        choices=["run", "refuse"],
        default="run",
        help="run or refuse a call that was delivered before, to an instance that was lost",
    ),
    option(
        "--ack",
        choices=["reply", "begin"],
        default="reply",
        help="acknowledge a call with its reply, or when it begins: then no other instance gets it",
    ),
    option("--remote-drain", action="store_true", help="callers may ask this instance to leave"),
)
