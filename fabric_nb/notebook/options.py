"""Options of commands, declared once for the magics and the command line, and their values."""

from __future__ import annotations

from argparse import ArgumentTypeError, Namespace
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

_QUOTES = "'\""
Options = TypeVar("Options")


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a command.

    Attributes:
        names: its spellings, as in ``--level`` and ``-l``.
        help: a phrase that begins in lower case and has no full stop.
        settings: further arguments of `argparse.ArgumentParser.add_argument`.
    """

    names: tuple[str, ...]
    help: str
    settings: Mapping[str, Any]

    def also(self, *names: str) -> Option:
        """Return the option with further spellings."""
        return replace(self, names=(*self.names, *names))


def option(*names: str, help: str, **settings: Any) -> Option:  # noqa: A002 - as in argparse
    """Declare an option."""
    return Option(names, help, settings)


def read_options(kind: type[Options], parsed: Namespace, **more: Any) -> Options:
    """Return a dataclass of options, with the fields that were parsed and `more`."""
    names = {field.name for field in fields(kind)} & vars(parsed).keys()  # type: ignore[arg-type]
    return kind(**{name: getattr(parsed, name) for name in names}, **more)


def unquoted(word: str) -> str:
    """Return an option's value, which may be written in quotes."""
    if len(word) > 1 and word[0] in _QUOTES and word[-1] == word[0]:
        return word[1:-1]
    return word


def seconds(word: str) -> float:
    """Return an option's value that is a time in seconds, greater than 0."""
    try:
        value = float(unquoted(word))
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise ArgumentTypeError(f"{word!r} is not a time in seconds")
    return value


def time_limit(word: str) -> float:
    """Return an option's value that is a limit in seconds, greater than 0; ``inf`` for no limit."""
    return float("inf") if unquoted(word).strip().lower() in ("inf", "infinity") else seconds(word)


def duration(word: str) -> float:
    """Return an option's value that is a time in seconds, or 0."""
    plain = unquoted(word)
    return 0.0 if plain.strip("0.") == "" and "0" in plain else seconds(word)


def count(word: str) -> int:
    """Return an option's value that is a whole number from 1 upward."""
    plain = unquoted(word)
    if not plain.isascii() or not plain.isdecimal() or int(plain) < 1:
        raise ArgumentTypeError(f"{word!r} is not a number from 1 upward")
    return int(plain)


def offset(word: str) -> str | int:
    """Return an option's value that is a place in a RabbitMQ stream."""
    plain = unquoted(word)
    return int(plain) if word.isascii() and word.isdecimal() else plain


def names(word: str) -> list[str]:
    """Return an option's value that is a list: ``a,b``."""
    return [name.strip() for name in unquoted(word).split(",") if name.strip()]


CALL = (
    option("--version", "-v", help="the version that is required, as in '>=1.2,<2'"),
    option(
        "--idempotent",
        "-i",
        action="store_true",
        help="safe to run twice: retry if the service or connection is lost",
    ),
    option("--stream", "-s", action="store_true", help="show a generator's items as they arrive"),
    option("--count", "-n", type=count, help="end the stream after so many items"),
)
STREAM_NAME = option("--name", default="", help="share the messages under a name")
STREAM = (
    option(
        "--durable", action="store_true", help="keep messages at the broker while nothing reads"
    ),
    option(
        "--replay-from",
        type=offset,
        help="first, last, next, or an offset in the messages that the broker keeps",
    ),
    option("--with-headers", action="store_true", help="headers as columns named header.<name>"),
    option("--arrival", action="store_true", help="the time of arrival as the column arrival"),
    option("--record", help="also write everything to this .parquet or .jsonl file"),
)
SERVICES = (
    option("--type", help="only this type"),
    option("--id", help="only this id"),
    option("--gone", action="store_true", help="also services that are gone"),
)
LOGS = (
    option("--level", "-l", help="the minimum level, as in WARNING"),
    option("--service", "-s", help="only this service: id or type.id"),
)
SERVE = (
    option("--version", "-v", default="", help="the service's version"),
    option("--allow", type=names, help="accept only calls of these users of the broker: a,b"),
    option("--thread", dest="threads", action="store_true", help="run plain functions in threads"),
    option("--prefetch", type=count, default=1, help="concurrent calls of one method"),
    option(
        "--redelivered",
        choices=["run", "refuse"],
        default="run",
        help="run or refuse a call that was delivered before to an instance that was lost",
    ),
)
