"""Sanitized output of the commands.

Results, rows, log records and errors may contain untrusted text. Terminals execute some control
characters, and others reverse or hide text. In text they are replaced, in JSON they are escaped.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import sys
import time
import traceback
from dataclasses import asdict
from types import TracebackType
from typing import Any, TextIO

import orjson

from fabric_nb.cli.styles import Line, Style, Styled, rendered, shows_colours
from fabric_nb.errors import CallError, RemoteError, printable
from fabric_nb.fabric.wire.logs import LogRecord
from fabric_nb.libraries import is_table

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_BEYOND_ASCII = re.compile(r"[^\x20-\x7e]")
_INDENT = "    "
_LEVEL_STYLES: dict[str, Style] = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}


class ReaderGone(Exception):
    """The reader of the output, such as ``head``, has closed its pipe."""


BROKEN_PIPE = 128 + 13
"""Exit code that a shell reports for a program that SIGPIPE has ended."""

_discarded = False


def discard_output() -> None:
    """Discard all further output, because its reader is gone."""
    global _discarded
    _discarded = True
    # The interpreter flushes the streams when it exits.
    null = os.open(os.devnull, os.O_WRONLY)
    with contextlib.suppress(OSError, ValueError):  # no file, as in a test
        os.dup2(null, sys.stdout.fileno())
    os.close(null)


def _write_line(line: str, file: TextIO) -> None:
    if _discarded:
        return
    try:
        print(line, file=file, flush=True)
    except BrokenPipeError:
        discard_output()
        raise ReaderGone from None


def print_text(text: object, *, file: TextIO | None = None) -> None:
    """Print text without control characters, on the standard output by default."""
    stream = file or sys.stdout
    _write_line(encodable(printable(str(text)), stream), stream)


def print_line(line: Line, *, file: TextIO | None = None) -> None:
    """Print a line, in colour on a terminal; on the standard output by default."""
    stream = file or sys.stdout
    _write_line(encodable(rendered(line, colours=shows_colours(stream)), stream), stream)


def encodable(text: str, file: TextIO) -> str:
    """Return text without the characters that a stream cannot encode."""
    encoding = file.encoding or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)


def print_error(error: object, *, as_json: bool = False, **details: Any) -> None:
    """Print an error on the standard error: after the name of the command, or as JSON.

    Args:
        error: an exception, or a sentence.
        as_json: print an object, ``{"error": {"type": ..., "message": ..., **details}}``.
        details: further members of the object, such as the number of a line of the input.
    """
    if as_json:
        print_json({"error": {**error_object(error), **details}}, file=sys.stderr)
        return
    first, *further = str(error).split("\n")
    print_line([Styled("fabric-nb: ", "red"), Styled(first)], file=sys.stderr)
    for line in further:
        print_text(line, file=sys.stderr)


def error_object(error: object) -> dict[str, Any]:
    """Return an error as data: its type and message, and the failed calls of a remote error.

    Each element of ``chain`` is a call with its error, from the one made here to the innermost.
    """
    if not isinstance(error, BaseException):
        return {"type": "", "message": str(error)}
    described = {"type": type(error).__name__, "message": str(error)}
    if isinstance(error, CallError):
        described["call"] = error.call
    if isinstance(error, RemoteError):
        chain = [asdict(hop) for hop in error.chain]
        return {**described, "type": error.type, "chain": chain}
    return described


def print_note(text: str, *, as_json: bool = False) -> None:
    """Print a note for the user on the standard error, as JSON ``{"note": ...}``."""
    if as_json:
        print_json({"note": text}, file=sys.stderr)
    else:
        print_line([Styled(text, "dim")], file=sys.stderr)


def without_colours(text: str) -> str:
    """Return text without the colours of IPython's tracebacks."""
    return _COLOURS.sub("", text)


def jsonable(value: Any) -> Any:
    """Return a value for JSON: the records of a table, and errors among results by instance."""
    if is_table(value):
        return value.reset_index().to_dict(orient="records")
    if isinstance(value, dict) and any(map(is_error, value.values())):
        return {
            key: {"error": error_object(one)} if is_error(one) else jsonable(one)
            for key, one in value.items()
        }
    return value


def is_error(value: object) -> bool:
    """Return whether a result is the error of an instance."""
    return isinstance(value, Exception)


def print_json(value: Any, *, file: TextIO | None = None) -> None:
    """Print a value as one line of JSON in ASCII, without buffering."""
    try:
        text = orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # integers over 64 bits, lone surrogates
        text = json.dumps(value, default=str)
    _write_line(_BEYOND_ASCII.sub(_escaped, text), file or sys.stdout)


def _escaped(match: re.Match[str]) -> str:
    char = match[0]
    return "\\u007f" if char == "\x7f" else json.dumps(char)[1:-1]


def print_record(record: LogRecord) -> None:
    """Print a log record; further lines of its text are indented, unlike records."""
    clock = time.strftime("%H:%M:%S", time.localtime(record.time))
    service = f"{record.service_type}.{record.service_id}"
    message = printable(record.message).replace("\n", f"\n{_INDENT}")
    style = _LEVEL_STYLES.get(record.level, "")
    first, *further = message.split("\n")
    head = [Styled(f"{clock} ", "dim"), Styled(f"{record.level:8} ", style), Styled(f"{service} ")]
    print_line([*head, Styled(first)])
    for line in further:
        print_text(line)


class _SanitizingFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record)).replace("\n", f"\n{_INDENT}")


def sanitize_python_output() -> None:
    """Sanitize the warnings and uncaught errors that Python itself prints."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_SanitizingFormatter())
    sys.excepthook = _print_exception


def _print_exception(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    print_text("".join(traceback.format_exception(kind, error, trace)).rstrip(), file=sys.stderr)
