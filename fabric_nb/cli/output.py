"""The gate to the terminal: everything that a command prints goes through here.

Results, rows, log records and errors hold text from elsewhere. A terminal obeys some characters,
and others turn text around or hide it: as text they are replaced, in JSON they are escapes.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
import traceback
from types import TracebackType
from typing import Any, TextIO

import orjson

from fabric_nb.errors import one_line, printable
from fabric_nb.fabric.wire.logs import LogRecord

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_BEYOND_ASCII = re.compile(r"[^\x20-\x7e]")
_INDENT = "    "


def say(text: object, *, file: TextIO | None = None) -> None:
    """Print text, without what a terminal would obey."""
    shown = printable(str(text))
    stream = file or sys.stdout
    encoding = stream.encoding or "utf-8"
    print(shown.encode(encoding, "replace").decode(encoding), file=stream, flush=True)


def complain(text: object) -> None:
    """Print what went wrong on the standard error, under the command's name."""
    say(f"fabric-nb: {text}", file=sys.stderr)


def uncoloured(text: str) -> str:
    """Text without the colours that IPython gives to tracebacks."""
    return _COLOURS.sub("", text)


def print_json(value: Any) -> None:
    """Print a line of JSON in ASCII, at once, also into a pipe."""
    try:
        text = orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # integers over 64 bits, half a surrogate pair
        text = json.dumps(value, default=str)
    print(_BEYOND_ASCII.sub(_escaped, text), flush=True)


def _escaped(found: re.Match[str]) -> str:
    char = found[0]
    return "\\u007f" if char == "\x7f" else json.dumps(char)[1:-1]


def print_record(record: LogRecord) -> None:
    """Print a log record; further lines of its text are indented, as none is a record."""
    at = time.strftime("%H:%M:%S", time.localtime(record.time))
    who = f"{record.service_type}.{record.service_id}"
    message = printable(record.message).replace("\n", f"\n{_INDENT}")
    say(f"{one_line(f'{at} {record.level:8} {who}')} {message}")


class _Printable(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record)).replace("\n", f"\n{_INDENT}")


def guard() -> None:
    """Let what Python itself prints of warnings and errors go through the gate as well."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_Printable())
    sys.excepthook = _tell


def _tell(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    say("".join(traceback.format_exception(kind, error, where)).rstrip(), file=sys.stderr)
