"""Decoding of JSON bodies, large ones in pieces. Pure.

C code that reads JSON holds the interpreter lock until it returns, so that a large body decoded in
one call blocks all threads. A large body is therefore split, and each piece is decoded by itself.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
from collections.abc import Callable, Generator, Iterator
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any, Final

import orjson

from fabric_nb.errors import MalformedMessage

PIECE: Final = 256 * 1024
"""Approximate bytes or characters of JSON decoded in one call; a single text may be longer."""

_DIGITS_AS_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_LONG_NUMBER = b"0" * 19


def read_json(body: bytes) -> Any:
    """Return the value of a JSON body; it may contain NaN and integers of any size.

    Bodies of more than `PIECE` bytes are to be decoded in a thread.

    Raises:
        MalformedMessage: the body is not JSON.
    """
    return read_at_once(body) if len(body) <= PIECE else _Text(body).whole()


def read_list(body: bytes) -> Iterator[list[Any]]:
    """Yield the elements of a JSON body that is a list, in consecutive pieces.

    Raises:
        MalformedMessage: the body is not a JSON list; it may be raised after some pieces.
    """
    return _Text(body).pieces()


def read_at_once(body: bytes) -> Any:
    """Return the value of a body of at most `PIECE` bytes."""
    if _LONG_NUMBER in body.translate(_DIGITS_AS_ZEROS):
        return _read_leniently(body)  # orjson would round an integer over 64 bits to a float
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return _read_leniently(body)


def _read_leniently(body: bytes) -> Any:
    """Return the value of JSON as Python's own `json` writes it."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _malformed(error) from None


def _malformed(error: Exception) -> MalformedMessage:
    reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
    return MalformedMessage(f"The body is not JSON ({reason[:200]}).")


_SPACE = re.compile(r"[ \t\n\r]*")
_SEPARATOR = r"[ \t\n\r]*,[ \t\n\r]*"
_KEY = r'(?="(?:[^"\\]|\\.){0,200}"[ \t\n\r]*:)'
_LAST_OF = {"{": r"\}", "[": r"\]", '"': '"'}
"""Pattern of the last character of a value by its first one; a word character for all others."""
_CANDIDATES = 8
"""Offsets that are tried as the end of a piece."""

scan: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder().scan_once  # type: ignore[attr-defined]


def _ends_of_elements(first: str) -> re.Pattern[str]:
    start = re.escape(first) if first in _LAST_OF else r"[-\w]"
    return re.compile(_LAST_OF.get(first, r"\w") + _SEPARATOR + f"(?={start})")


def _ends_of_members(first: str) -> re.Pattern[str]:
    return re.compile(_LAST_OF.get(first, r"\w") + _SEPARATOR + _KEY)


class _Text:
    """JSON text that is decoded in pieces.

    A large list or object is split at an offset that looks like the end of an element. The part
    before it is valid JSON only if an element does end there. If no such offset is found, a piece
    is decoded element by element; a large element is itself decoded in pieces.
    """

    def __init__(self, body: bytes) -> None:
        try:
            self._text = body.decode(json.detect_encoding(body), "surrogatepass")
        except ValueError as error:
            raise _malformed(error) from None
        self._window, self._window_at = "", 0

    def whole(self) -> Any:
        """Return the value of the text."""
        try:
            value, end = self._value(self._skip_space(0))
            self._check_end(end)
        except (ValueError, RecursionError) as error:
            raise _malformed(error) from None
        return value

    def pieces(self) -> Iterator[list[Any]]:
        """Yield the elements of the text, a list, in pieces."""
        start = self._skip_space(0)
        try:
            if self._text[start : start + 1] != "[":
                raise self._error("Expecting a list", start)
            self._check_end((yield from self._elements(start)))
        except (ValueError, RecursionError) as error:
            raise _malformed(error) from None

    def _error(self, message: str, at: int) -> ValueError:
        return ValueError(f"{message}: char {at}")

    def _skip_space(self, at: int) -> int:
        space = _SPACE.match(self._text, at)
        return at if space is None else space.end()

    def _check_end(self, end: int) -> None:
        if self._skip_space(end) != len(self._text):
            raise self._error("Extra data", end)

    def _value(self, at: int) -> tuple[Any, int]:
        """Return the value that begins at an offset, and the offset of its end."""
        first = self._text[at : at + 1]
        if first not in ("[", "{"):
            try:
                return scan(self._text, at)
            except StopIteration:
                raise self._error("Expecting value", at) from None
        if (small := self._small_value(at)) is not None:
            return small
        if first == "{":
            return self._members(at)
        elements: list[Any] = []
        pieces = self._elements(at)
        while True:
            try:
                elements += next(pieces)
            except StopIteration as stop:
                return elements, stop.value

    def _small_value(self, at: int) -> tuple[Any, int] | None:
        """Return a list or object and the offset of its end, if it is at most a piece long."""
        for window_at in (self._window_at, at):
            if window_at == at:
                self._window, self._window_at = self._text[at : at + PIECE], at
            if window_at <= at < window_at + len(self._window):
                with contextlib.suppress(ValueError, StopIteration):  # incomplete or invalid
                    value, end = scan(self._window, at - window_at)
                    return value, window_at + end
        return None

    def _elements(self, start: int) -> Generator[list[Any], None, int]:
        """Yield the elements of the list that begins at an offset; return the offset of its end."""
        at = self._skip_space(start + 1)
        if self._text[at : at + 1] == "]":
            yield []
            return at + 1
        ends = _ends_of_elements(self._text[at : at + 1])
        while True:
            if (piece := self._piece(at, ends, "[]")) is not None:
                yield piece[0]
                at = piece[1]
                continue
            elements, stop = [], at + PIECE
            while at < stop:
                value, end = self._value(at)
                elements.append(value)
                at, closed = self._next(end, "]")
                if closed:
                    yield elements
                    return at
            yield elements

    def _members(self, start: int) -> tuple[dict[str, Any], int]:
        """Return the object that begins at an offset, and the offset of its end."""
        members: dict[str, Any] = {}
        ends: re.Pattern[str] | None = None
        at, stop = self._skip_space(start + 1), 0
        if self._text[at : at + 1] == "}":
            return members, at + 1
        while True:
            piece = None if ends is None or at < stop else self._piece(at, ends, "{}")
            if piece is not None:
                members |= piece[0]
                at = piece[1]
                continue
            if at >= stop:
                stop = at + PIECE
            if self._text[at : at + 1] != '"':
                raise self._error("Expecting property name enclosed in double quotes", at)
            name, end = scanstring(self._text, at + 1, True)
            colon = self._skip_space(end)
            if self._text[colon : colon + 1] != ":":
                raise self._error("Expecting ':' delimiter", colon)
            value_at = self._skip_space(colon + 1)
            ends = ends or _ends_of_members(self._text[value_at : value_at + 1])
            members[name], end = self._value(value_at)
            at, closed = self._next(end, "}")
            if closed:
                return members, at

    def _next(self, end: int, close: str) -> tuple[int, bool]:
        """Return the offset of the next element and False, or of the end and True."""
        at = self._skip_space(end)
        mark = self._text[at : at + 1]
        if mark == close:
            return at + 1, True
        if mark != ",":
            raise self._error("Expecting ',' delimiter", at)
        return self._skip_space(at + 1), False

    def _piece(self, at: int, ends: re.Pattern[str], brackets: str) -> tuple[Any, int] | None:
        """Return about a piece of elements, and the offset of the next; None if no end is found.

        Args:
            at: offset of an element.
            ends: pattern of the possible end of an element.
            brackets: brackets of the list or object.
        """
        text, opening, closing = self._text, *brackets
        candidates = ends.finditer(text, at + PIECE, at + 2 * PIECE)
        for end in itertools.islice(candidates, _CANDIDATES):
            cut = end.start() + 1
            if all(text.count(a, at, cut) == text.count(b, at, cut) for a, b in ("{}", "[]")):
                with contextlib.suppress(MalformedMessage):
                    piece = f"{opening}{text[at:cut]}{closing}"
                    return read_at_once(piece.encode("utf-8", "surrogatepass")), end.end()
        return None
