"""Every error that fabric_nb raises on purpose.

All of them derive from `FabricError`, and each message is one sentence with what was wrong,
where, and what to do::

    FabricError
    ├── InvalidName (AttributeError)       a domain, type, id, method or target that cannot be
    ├── InvalidUri (ValueError)            an AMQP URI that cannot be used
    ├── InvalidArgument (ValueError)       an argument that cannot be used
    │   ├── InvalidArgumentType (TypeError)  one of a type that cannot be used
    │   ├── BadArgument                    a word behind a magic that can be read and not be used
    │   ├── InvalidTimeout                 a time to wait that is none
    │   ├── UnknownLevel                   a log level that is none
    │   └── UnusableQueue                  a queue as no stream can have it
    ├── BrokerUnavailable (ConnectionError)
    │   ├── LoginRefused                   wrong user or password
    │   ├── VirtualHostRefused             missing virtual host, or no right to it
    │   └── TlsFailed                      certificates, or TLS against a plain port
    ├── NotConnected (RuntimeError)        used before `open()` or after `close()`
    ├── WrongLoop (RuntimeError)           used in another event loop than it was opened in
    ├── NotListening (AssertionError)      keep-alives wanted of a connector that receives none
    ├── ConnectionLost (ConnectionError)   the broker went away underneath
    │   └── TransientQueuesRefused         the broker closes it over queues that are not durable
    ├── BrokerRefused                      the broker said no to one operation
    │   ├── MessageTooLarge                a message larger than it takes
    │   └── NotAcknowledgedInTime          a delivery that the broker has taken back
    ├── WaitTimeout (TimeoutError)         rows or records that did not come in time
    ├── NotSerializable (TypeError)        a value that cannot travel
    │   └── UnusableHeader (ValueError)    a header or filter that no broker takes
    ├── RecordingError (ValueError)        a file that cannot be recorded to, or replayed
    ├── NotServed                          what was to be served, or not any more, is not there
    ├── NotRerun (ValueError)              a failed call that cannot be run again
    ├── NotThere                           what the panel asks for is not there
    ├── DemoFailed (RuntimeError)          the demo's broker or services did not start
    ├── LoopBlocked (RuntimeError)         a thread and the running cell wait for each other
    ├── NotInNotebook (RuntimeError)       something that is only seen in a notebook
    ├── MalformedMessage (ValueError)      bytes from the broker that are not what they should be
    └── CallError
        ├── UnknownService (LookupError)   no instance serves it: the call was not run
        ├── ServiceLost (LookupError)      all instances left during the call: it may have been run
        ├── AmbiguousService (LookupError) several services fit a short name
        ├── VersionMismatch                it is there, in another version
        ├── MethodNotFound (AttributeError)
        ├── CallTimeout (TimeoutError)
        └── RemoteError                    the service raised; also catchable as the built-in type

Only the standard library is imported here, so that every module may use it.
"""

from __future__ import annotations

import builtins
import contextlib
import os
import re
import traceback
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePath
from typing import Any, Self


class FabricError(Exception):
    """Root of all errors raised by fabric_nb.

    Each can be made of its message and one thing more, as amqp-fabric makes what a reply names.
    """

    def _render_traceback_(self) -> list[str]:
        """What IPython shows instead of a traceback: the sentence, and the user's own lines."""
        return [f"{self._shown_as()}: {printable(str(self))}", *lines_of_the_user(self)]

    def _shown_as(self) -> str:
        return type(self).__name__


_MACHINERY = {"fabric_nb", "IPython", "ipykernel", "asyncio", "nest_asyncio2", "contextlib"}


def _is_magic_line(line: str | None) -> bool:
    return "run_line_magic(" in (line or "") or "run_cell_magic(" in (line or "")


def lines_of_the_user(error: BaseException) -> list[str]:
    """Return the lines of a traceback that are neither ours nor the notebook's machinery."""
    lines = []
    for frame in traceback.extract_tb(error.__traceback__):
        path = PurePath(frame.filename)
        made = frame.filename.startswith("<")  # what dataclasses and expressions are made of
        if made or _MACHINERY.intersection((*path.parts, path.stem)) or _is_magic_line(frame.line):
            continue
        cell = frame.name in ("<module>", "<cell line: 1>") or "ipykernel" in frame.filename
        where = "cell" if cell else frame.filename
        lines.append(f"  {where}, line {frame.lineno}, in {frame.name}: {frame.line}")
    return lines


def show_short(error: BaseException, said: str) -> None:
    """Let IPython show an error that is not of this package as it shows those that are.

    Args:
        error: an interrupt, for example.
        said: what has happened.
    """
    error.__dict__["_render_traceback_"] = lambda: [
        f"{type(error).__name__}: {printable(said)}",
        *lines_of_the_user(error),
    ]


class InvalidName(FabricError, AttributeError):
    """A name that cannot be part of an address; an `AttributeError`, as in amqp-fabric."""


class InvalidUri(FabricError, ValueError):
    """An AMQP URI that cannot be used."""


class InvalidArgument(FabricError, ValueError):
    """An argument that cannot be used: of a function, a magic or a command."""


class InvalidArgumentType(InvalidArgument, TypeError):
    """An argument of a type that cannot be used."""


class BadArgument(InvalidArgument):
    """A magic's arguments that can be read but not used, such as an expression that raised."""

    def _render_traceback_(self) -> list[str]:
        """Render as any `FabricError`, with the lines that the expression ran."""
        cause = self.__cause__
        return super()._render_traceback_() + (lines_of_the_user(cause) if cause else [])


class BrokerUnavailable(FabricError, ConnectionError):
    """The broker cannot be reached."""


class LoginRefused(BrokerUnavailable):
    """The broker does not accept this user and password."""


class VirtualHostRefused(BrokerUnavailable):
    """The virtual host does not exist, or this user may not enter it."""


class TlsFailed(BrokerUnavailable):
    """The TLS handshake failed."""


class NotConnected(FabricError, RuntimeError):
    """Something was asked of a connector that is not open."""


class WrongLoop(FabricError, RuntimeError):
    """A connector that is used in another event loop, or thread, than it was opened in."""


class NotListening(FabricError, AssertionError):
    """A connector that receives no keep-alives; an `AssertionError`, as in amqp-fabric."""


class ConnectionLost(FabricError, ConnectionError):
    """The connection went away before the operation was known to be done."""


class TransientQueuesRefused(ConnectionLost):
    """The broker closes the connection over queues that are neither durable nor exclusive.

    RabbitMQ 4.3 does so by default (its deprecated feature ``transient_nonexcl_queues``).
    """


class BrokerRefused(FabricError):
    """The broker refused one operation; `code` is the AMQP reply code."""

    def __init__(self, message: str, *_: object, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class MessageTooLarge(BrokerRefused):
    """A message that is larger than the broker takes (RabbitMQ's ``max_message_size``).

    Attributes:
        size: of its body, in bytes.
        limit: bytes that the broker takes at most.
    """

    def __init__(self, message: str, *_: object, size: int = 0, limit: int = 0) -> None:
        super().__init__(message, code=406)
        self.size = size
        self.limit = limit

    @classmethod
    def of(cls, size: int, limit: int, *, what: str = "The message") -> Self:
        """Return the error for a body of `size` bytes where the broker takes `limit`."""
        return cls(
            f"{what} of {size:,} bytes is larger than the {limit:,} bytes that the broker takes"
            " (its max_message_size): send less at once, or have its operator raise the limit.",
            size=size,
            limit=limit,
        )


class NotAcknowledgedInTime(BrokerRefused):
    """The broker has taken back a delivery that was not acknowledged in time, with its channel.

    Attributes:
        seconds: RabbitMQ's `consumer_timeout`.
    """

    def __init__(self, message: str, *_: object, seconds: float = 0.0) -> None:
        super().__init__(message, code=406)
        self.seconds = seconds


class WaitTimeout(FabricError, TimeoutError):
    """Rows or records did not come in time; `seconds` is how long was waited."""

    def __init__(self, message: str, *_: object, seconds: float = 0.0) -> None:
        super().__init__(message)
        self.seconds = seconds


class NotSerializable(FabricError, TypeError):
    """A value that JSON cannot carry; the message says where in the value it stands."""


class UnusableHeader(NotSerializable, ValueError):
    """A header or filter that brokers do not take, or change; the message says which and why."""


class MalformedMessage(FabricError, ValueError):
    """A message from the broker that does not have the shape its kind must have."""


class RecordingError(FabricError, ValueError):
    """A file that cannot be recorded to, or replayed; the message says which."""


class UnusableQueue(InvalidArgument):
    """A queue as no stream can have it."""


class InvalidTimeout(InvalidArgument):
    """A time to wait that is none: negative, NaN or no number."""


class UnknownLevel(InvalidArgument):
    """A log level that is none."""


class NotServed(FabricError):
    """What was to be served, or to be served no more, is not there."""


class NotRerun(FabricError, ValueError):
    """A failed call that cannot be run again; the message says why."""


class NotThere(FabricError):
    """Something that the panel asks for and that is not there."""


class DemoFailed(FabricError, RuntimeError):
    """The demo's broker or services did not start; the message says which, and why."""


class LoopBlocked(FabricError, RuntimeError):
    """A thread waits for the notebook's loop, and the running cell for threads."""


class NotInNotebook(FabricError, RuntimeError):
    """Something that is only seen in a notebook in which the extension is loaded."""


class CallError(FabricError):
    """Root of what can go wrong with a call; `call` names it, as in ``calc.c1.multiply``."""

    def __init__(self, message: str, *_: object, call: str = "") -> None:
        super().__init__(message)
        self.call = call


class UnknownService(CallError, LookupError):
    """No instance serves the address, so the call was not run and can safely be made again.

    Of a call that was made with ``idempotent=True`` this is known of its last attempt only.
    """


class ServiceLost(CallError, LookupError):
    """All instances of the service left before they answered; the call may have been run.

    It is no `UnknownService`, because a call that is made again may then run twice.
    """


class AmbiguousService(CallError, LookupError):
    """A short name fits several services; `candidates` are their full names."""

    def __init__(
        self, message: str, *_: object, call: str = "", candidates: Sequence[str] = ()
    ) -> None:
        super().__init__(message, call=call)
        self.candidates = tuple(candidates)


class VersionMismatch(CallError):
    """The service is there, but not in the version that was required."""


class MethodNotFound(CallError, AttributeError):
    """The service is there, but has no such method; `close_matches` are those that look alike."""

    def __init__(
        self, message: str, *_: object, call: str = "", close_matches: Sequence[str] = ()
    ) -> None:
        super().__init__(message, call=call)
        self.close_matches = tuple(close_matches)


class CallTimeout(CallError, TimeoutError):
    """No answer came in time; `seconds` is how long was waited."""

    def __init__(self, message: str, *_: object, call: str = "", seconds: float = 0.0) -> None:
        super().__init__(message, call=call)
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class Hop:
    """One call of a chain of calls that failed, as text from elsewhere.

    Attributes:
        call: the call's name, ``domain.type.id.method``; empty where it is not known.
        type: the type of the error that it raised, as sent (``builtins.KeyError``).
        message: the error's `repr`.
        traceback: its traceback, empty when the peer sends none.
    """

    call: str = ""
    type: str = ""
    message: str = ""
    traceback: str = ""

    @property
    def said(self) -> str:
        """The error in a line: ``KeyError 'beer'``."""
        name = self.type.rpartition(".")[2]
        message = self.message
        if message.startswith(f"{name}(") and message.endswith(")"):
            message = message[len(name) + 1 : -1]
            text = f"{name} {message}"
        else:
            text = f"{name}: {message}" if message else name
        return " ".join(text.split())

    @property
    def last_line(self) -> str:
        """Last frame of the traceback that is not a library's: the place that failed."""
        frames = _FRAME.findall(self.traceback)
        own = [frame for frame in frames if _library(frame[0]) is None]
        if not frames:
            return ""
        path, line, function = (own or frames)[-1]
        return f"{path}, line {line}, in {function}"


class RemoteError(CallError):
    """The remote method raised.

    When the remote type is one of Python's built-in exceptions, the error that is raised is
    an instance of that type too, so both of these catch it::

        try:
            await fabric.call("calc.divide", x=1, y=0)
        except ZeroDivisionError: ...
        except RemoteError as error: print(error.type, error.remote_traceback)

    No other type is ever looked up by name: a reply is data from somewhere else.

    When it failed because a call that it made has failed, `chain` has a hop for each call, and the
    error's text names them all: ``orders.place → pricing.quote → catalog.price: KeyError 'beer'``.

    Attributes:
        chain: the calls that failed, from the one that was made here to the innermost one.
        type: the remote type's name, as sent (``builtins.ZeroDivisionError``).
        message: the remote ``repr``.
        remote_args: the remote exception's arguments, as data.
        remote_traceback: the remote traceback as text, empty when the peer sends none.
    """

    def __init__(
        self,
        type: str,  # noqa: A002 - the wire's word for it
        message: str,
        args: Sequence[Any] = (),
        remote_traceback: str = "",
        *,
        call: str = "",
        chain: Sequence[Hop] = (),
    ) -> None:
        Exception.__init__(self, message)  # not the built-in's own: it may want other arguments
        self.call = call
        self.type = type
        self.message = message
        self.remote_args = tuple(args)
        self.remote_traceback = remote_traceback
        self.chain = (Hop(call, type, message, remote_traceback), *chain)

    @property
    def is_builtin(self) -> bool:
        """True if it can be caught as one of Python's own exceptions."""
        return type(self) is not RemoteError

    def __str__(self) -> str:
        if len(self.chain) > 1:
            return printable(_path(self.chain))
        where = f"{self.call}: " if self.call else ""
        return printable(f"{where}{self.message or self.type}")

    def _shown_as(self) -> str:
        return "RemoteError"

    def _render_traceback_(self) -> list[str]:
        """Render as any `FabricError`, with a line for each hop and the innermost traceback."""
        shown = super()._render_traceback_()
        *outer, innermost = self.chain
        names = _short_names(self.chain)
        lines = [
            f"  {name}: {hop.last_line}"
            for name, hop in zip(names, outer, strict=False)
            if hop.last_line
        ]
        if lines:
            shown += ["", *(printable(line) for line in lines)]
        if innermost.traceback:
            where = f" of {names[-1]}" if outer else ""
            shown += ["", f"Remote traceback{where}:", printable(folded(innermost.traceback))]
        return shown

    def __reduce__(self) -> tuple[Any, ...]:
        state = (self.type, self.message, self.remote_args, self.remote_traceback, self.call)
        return remote_error, (*state, self.chain[1:], attributes_of(self))


def _path(chain: Sequence[Hop]) -> str:
    """The calls in a line, each error once: ``a.f → b.g: ValueError 1, from c.h: KeyError 2``."""
    parts: list[tuple[list[str], str]] = []
    for name, hop in zip(_short_names(chain), chain, strict=True):
        if parts and (hop.said in ("", parts[-1][1])):
            parts[-1][0].append(name)
        else:
            parts.append(([name], hop.said))
    return ", from ".join(f"{' → '.join(names)}: {said}" for names, said in parts)


def _short_names(chain: Sequence[Hop]) -> list[str]:
    """The calls as ``id.method``, or in full where that would be two services' name."""
    meant: dict[str, set[str]] = {}
    for hop in chain:
        meant.setdefault(_id_and_method(hop.call), set()).add(hop.call)
    return [
        hop.call if len(meant[_id_and_method(hop.call)]) > 1 else _id_and_method(hop.call) or "…"
        for hop in chain
    ]


def _id_and_method(call: str) -> str:
    return ".".join(call.split(".")[-2:])


_FRAME = re.compile(r'^ {2}File "([^"\n]+)", line (\d+), in ([^\n]+)$', re.MULTILINE)
_INSTALLED = re.compile(r"[/\\](?:site|dist)-packages[/\\]([^/\\]+)")
_STANDARD = re.compile(r"[/\\]lib(?:rary)?[/\\]python3[^/\\]*[/\\]([^/\\.]+)|<frozen ([^>]+)>")
_OWN = re.compile(r"[/\\]fabric_nb[/\\](?:fabric[/\\]|errors\.py)")


def _library(path: str) -> str | None:
    """The library that a file belongs to; None for a program's own."""
    if _OWN.search(path):
        return "fabric_nb"
    if found := _INSTALLED.search(path) or _STANDARD.search(path):
        return (found.group(1) or found.group(found.lastindex or 1)).removesuffix(".py")
    return None


def folded(text: str) -> str:
    """A traceback in which the frames of libraries are counted, not shown.

    The last frame before an error's own line stays, where all of them are of libraries.
    """
    shown: list[str] = []
    hidden: list[tuple[str, list[str]]] = []  # library and lines of each frame
    own = False

    def unfold(*, keep_last: bool) -> None:
        kept = hidden.pop()[1] if hidden and keep_last else []
        if hidden:
            frames = f"{len(hidden)} frame{'s' if len(hidden) > 1 else ''}"
            shown.append(f"  … {frames} of {', '.join(dict.fromkeys(one for one, _ in hidden))}")
        shown.extend(kept)
        hidden.clear()

    inside = False
    for line in text.splitlines():
        if found := _FRAME.match(line):
            library = _library(found.group(1))
            inside = library is not None
            if library is not None:
                hidden.append((library, [line]))
                continue
            own = True
            unfold(keep_last=False)
        elif inside and line.startswith("    "):
            hidden[-1][1].append(line)
            continue
        elif not line.startswith(" "):
            unfold(keep_last=not own)
            inside = own = False
        shown.append(line)
    unfold(keep_last=not own)
    return "\n".join(shown)


def printable(text: str) -> str:
    """Return text from elsewhere as it may be shown, in a terminal or anywhere.

    Characters that a terminal obeys, that turn text around or hide in it, or that end a line in
    another way than by a newline are replaced.
    """
    # The usual first: going through the characters is slow.
    if text.isprintable() or text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "".join(char if _is_harmless(char) else "\N{REPLACEMENT CHARACTER}" for char in text)


def one_line(text: str) -> str:
    """`printable` text that cannot begin a line of its own."""
    return printable(text).replace("\n", " ")


_HARMFUL = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
"""Unicode's categories: control and format (such as marks of direction), half a surrogate pair, and
the ends of lines and paragraphs."""


def _is_harmless(char: str) -> bool:
    return char in "\n\t" or unicodedata.category(char) not in _HARMFUL


def remote_error(
    type_name: str,
    message: str,
    args: Sequence[Any] = (),
    remote_traceback: str = "",
    call: str = "",
    chain: Sequence[Hop] = (),
    attributes: Mapping[str, Any] | None = None,
) -> RemoteError:
    """The `RemoteError` for what a peer sent, catchable as the built-in type it names.

    It has the attributes of that type that the peer sends (`attributes_of`), or that its arguments
    tell: ``errno``, ``strerror`` and ``filename`` of an `OSError`.

    Example:
        >>> error = remote_error("builtins.ValueError", "ValueError('no')", ["no"])
        >>> isinstance(error, ValueError), isinstance(error, RemoteError)
        (True, True)
    """
    module, _, name = type_name.rpartition(".")
    cls = _catchable_as(name) if module in ("", "builtins") else RemoteError
    error = cls(type_name, message, args, remote_traceback, call=call, chain=chain)
    _set_attributes(error, _told_by_arguments(error, args))
    _set_attributes(error, attributes or {})
    if isinstance(error, SyntaxError):
        error.msg = str(error)  # tracebacks show it in place of the text
    return error


MAX_ATTRIBUTE = 4096
"""Characters of an attribute that are sent or read: a path is as long."""

_ATTRIBUTES: dict[type[BaseException], dict[str, type]] = {
    OSError: {"errno": int, "strerror": str, "filename": str, "filename2": str},
    ImportError: {"name": str, "path": str},
    NameError: {"name": str},
    AttributeError: {"name": str},
    SyntaxError: {
        "filename": str,
        "lineno": int,
        "offset": int,
        "text": str,
        "end_lineno": int,
        "end_offset": int,
    },
    UnicodeError: {"encoding": str, "start": int, "end": int, "reason": str},
}
"""Attributes that Python's own exceptions have beside their arguments, as text and numbers."""


def _attributes(error: BaseException) -> Iterator[tuple[str, type]]:
    """The attributes of an error's type, with the type of each."""
    for kind, attributes in _ATTRIBUTES.items():
        if isinstance(error, kind):
            yield from attributes.items()


def attributes_of(error: BaseException) -> dict[str, str | int]:
    """Return what one of Python's own exceptions has beside its arguments, where that is plain."""
    values = {name: _plain_attribute(error, name) for name, _ in _attributes(error)}
    return {name: value for name, value in values.items() if value is not None}


def _plain_attribute(error: BaseException, name: str) -> str | int | None:
    try:
        value: object = getattr(error, name)
        value = os.fsdecode(value) if isinstance(value, (bytes, os.PathLike)) else value
        if isinstance(value, str):
            return str.__str__(value)[:MAX_ATTRIBUTE]
        return int.__int__(value) if isinstance(value, int) else None
    except Exception:  # noqa: BLE001 - an attribute must not hide the error it is of
        return None


def _set_attributes(error: RemoteError, told: Mapping[str, Any]) -> None:
    """Set the attributes that the error's type has, as far as they were sent and are valid."""
    for name, wanted in _attributes(error):
        value = told.get(name)
        if isinstance(value, str):
            value = value[:MAX_ATTRIBUTE]
        elif not isinstance(value, int) or not -(2**31) <= value < 2**31:
            continue
        if type(value) is wanted:
            with contextlib.suppress(AttributeError, TypeError):  # of a base that has it not
                setattr(error, name, value)


def _told_by_arguments(error: RemoteError, args: Sequence[Any]) -> dict[str, Any]:
    """Return the attributes that the arguments imply, for a peer that sends none."""
    if isinstance(error, OSError) and len(args) > 1:
        return dict(zip(("errno", "strerror"), args, strict=False))
    if isinstance(error, UnicodeError) and len(args) == 5:
        return dict(zip(("encoding", "object", "start", "end", "reason"), args, strict=True))
    return {}


@lru_cache(maxsize=128)
def _catchable_as(name: str) -> type[RemoteError]:
    """`RemoteError` joined with the built-in exception of that name, where that is safe.

    Left out are those that mean something to the interpreter that raises them (exit,
    interrupt, the end of an iteration) and groups, whose arguments are exceptions.
    """
    builtin = getattr(builtins, name, None)
    if not (isinstance(builtin, type) and issubclass(builtin, Exception)):
        return RemoteError
    if issubclass(builtin, (BaseExceptionGroup, StopIteration, StopAsyncIteration, FabricError)):
        return RemoteError
    if builtin is Exception:
        return RemoteError
    return type(f"Remote{name}", (RemoteError, builtin), {"__module__": __name__})
