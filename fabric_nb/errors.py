"""All errors that fabric_nb raises deliberately.

All of them derive from `FabricError`, and each message is one sentence with what is wrong, where,
and what to do::

    FabricError
    ├── InvalidName (AttributeError)       an invalid domain, type, id, method or target
    ├── InvalidUri (ValueError)            an invalid AMQP URI
    ├── InvalidArgument (ValueError)       an invalid argument
    │   ├── InvalidArgumentType (TypeError)  an argument of an invalid type
    │   ├── BadArgument                    an argument of a magic that raised, or is invalid
    │   ├── InvalidTimeout                 an invalid timeout
    │   ├── UnknownLevel                   an unknown log level
    │   └── UnusableQueue                  a queue that a stream cannot use
    ├── BrokerUnavailable (ConnectionError)
    │   ├── LoginRefused                   wrong user or password
    │   ├── VirtualHostRefused             missing virtual host, or no permission for it
    │   └── TlsFailed                      certificates, or TLS against a plain port
    ├── NotConnected (RuntimeError)        used before `open()` or after `close()`
    ├── WrongLoop (RuntimeError)           used in another event loop than it was opened in
    ├── NotListening (AssertionError)      the connector does not receive keep-alives
    ├── ConnectionLost (ConnectionError)   the connection was lost during an operation
    │   ├── BrokerFailed                   the broker closes it because of an error of its own
    │   └── TransientQueuesRefused         the broker closes it because of transient queues
    ├── BrokerRefused                      the broker refused one operation
    │   ├── MessageTooLarge                a message larger than the broker accepts
    │   └── NotAcknowledgedInTime          a delivery that the broker has requeued
    ├── NoSubscriber                       a mandatory message that no queue has received
    ├── WaitTimeout (TimeoutError)         rows or records that did not arrive in time
    ├── NotSerializable (TypeError)        a value that cannot be sent
    │   └── UnusableHeader (ValueError)    a header or filter that brokers refuse
    ├── UnusableLibrary (ImportError)      a library that is broken, or of an unsupported version
    ├── RecordingError (ValueError)        a file that cannot be recorded to, or played back
    ├── ReportError (OSError)              a report that cannot be written
    ├── NotServed                          a function or service that is not served
    ├── NotKept (LookupError)              a call, or its contents, that the history does not keep
    ├── NotRerun (ValueError)              a failed call that cannot be run again
    ├── NotThere                           an object of the panel that does not exist any more
    ├── DemoFailed (RuntimeError)          the demo's broker or services did not start
    ├── LoopBlocked (RuntimeError)         a thread and the running cell wait for each other
    ├── NotInNotebook (RuntimeError)       a display, or a wait, that needs a notebook
    ├── MalformedMessage (ValueError)      a received message without the required shape
    └── CallError
        ├── UnknownService (LookupError)   no instance serves it: the call was not run
        ├── ServiceLost (LookupError)      all instances left during the call: it may have been run
        ├── InstanceNotFound (LookupError) no such instance: the call was not run
        ├── AmbiguousService (LookupError) a short name that matches several services
        ├── VersionMismatch                the service has another version
        ├── MethodNotFound (AttributeError)
        ├── CallTimeout (TimeoutError)
        ├── CallCancelled                  the caller gave up: it may have been run
        ├── MapStopped                     a map that ended before its last row
        └── RemoteError                    the service raised; also catchable as the built-in type

Only the standard library is imported here, so that every module may import it.
"""

from __future__ import annotations

import builtins
import contextlib
import os
import re
import traceback
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePath
from typing import Any, Self


class FabricError(Exception):
    """Root of all errors raised by fabric_nb.

    Each accepts its message and one more argument, because amqp-fabric constructs the error that a
    reply names in this way.
    """

    def _render_traceback_(self) -> list[str]:
        """Return the lines that IPython shows: the message, and the user's frames."""
        return [f"{self._display_name()}: {printable(str(self))}", *user_frames(self)]

    def _display_name(self) -> str:
        return type(self).__name__


_INFRASTRUCTURE = {"fabric_nb", "IPython", "ipykernel", "asyncio", "nest_asyncio2", "contextlib"}


def _is_magic_line(line: str | None) -> bool:
    return "run_line_magic(" in (line or "") or "run_cell_magic(" in (line or "")


def user_frames(error: BaseException) -> list[str]:
    """Return the lines of a traceback, without those of fabric_nb and of the notebook."""
    lines = []
    for frame in traceback.extract_tb(error.__traceback__):
        path = PurePath(frame.filename)
        generated = frame.filename.startswith("<")  # code of dataclasses and expressions
        infrastructure = _INFRASTRUCTURE.intersection((*path.parts, path.stem))
        if generated or infrastructure or _is_magic_line(frame.line):
            continue
        cell = frame.name in ("<module>", "<cell line: 1>") or "ipykernel" in frame.filename
        where = "cell" if cell else frame.filename
        lines.append(f"  {where}, line {frame.lineno}, in {frame.name}: {frame.line}")
    return lines


def render_briefly(error: BaseException, message: str | Callable[[], str]) -> None:
    """Make IPython show an error of another package like a `FabricError`.

    Args:
        error: an interrupt, for example.
        message: message to show for it, or a function that returns it when it is shown.
    """

    def render() -> list[str]:
        text = message if isinstance(message, str) else message()
        return [f"{type(error).__name__}: {printable(text)}", *user_frames(error)]

    vars(error).update(_render_traceback_=render, _brief_message=message)


def brief_message(error: BaseException) -> str | Callable[[], str] | None:
    """Return the message that `render_briefly` was given for an error; None if it was not."""
    message: str | Callable[[], str] | None = vars(error).get("_brief_message")
    return message


class InvalidName(FabricError, AttributeError):
    """An invalid part of an address; an `AttributeError`, as in amqp-fabric."""


class InvalidUri(FabricError, ValueError):
    """An invalid AMQP URI."""


class InvalidArgument(FabricError, ValueError):
    """An invalid argument of a function, a magic or a command."""


class InvalidArgumentType(InvalidArgument, TypeError):
    """An argument of an invalid type."""


class BadArgument(InvalidArgument):
    """An argument of a magic that raised when it was evaluated, or has an invalid value."""

    def _render_traceback_(self) -> list[str]:
        """Render as any `FabricError`, with the frames of the expression."""
        cause = self.__cause__
        return super()._render_traceback_() + (user_frames(cause) if cause else [])


class BrokerUnavailable(FabricError, ConnectionError):
    """The broker cannot be reached."""


class LoginRefused(BrokerUnavailable):
    """The broker does not accept this user and password."""


class VirtualHostRefused(BrokerUnavailable):
    """The virtual host does not exist, or this user lacks permission for it."""


class TlsFailed(BrokerUnavailable):
    """The TLS handshake failed."""


class NotConnected(FabricError, RuntimeError):
    """A connector that is not open was used."""


class WrongLoop(FabricError, RuntimeError):
    """A connector was used in another event loop, or thread, than it was opened in."""


class NotListening(FabricError, AssertionError):
    """A connector does not receive keep-alives; an `AssertionError`, as in amqp-fabric."""


class ConnectionLost(FabricError, ConnectionError):
    """The connection was lost before the outcome of the operation was known."""


class BrokerFailed(ConnectionLost):
    """The broker closed the connection because of an error of its own; its log describes it.

    RabbitMQ 4.3.6 does so for an exchange that was declared in the moment in which its last
    binding was removed, until the broker is restarted.
    """


class TransientQueuesRefused(ConnectionLost):
    """The broker closes the connection because of queues that are neither durable nor exclusive.

    RabbitMQ 4.3 does so by default (its deprecated feature ``transient_nonexcl_queues``).
    """


class BrokerRefused(FabricError):
    """The broker refused one operation; `code` is the AMQP reply code."""

    def __init__(self, message: str, *_: object, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class NoSubscriber(FabricError):
    """A message that was published as `mandatory` was received by no queue."""


class MessageTooLarge(BrokerRefused):
    """A message is larger than the broker accepts (RabbitMQ's ``max_message_size``).

    Attributes:
        size: bytes of its body.
        limit: maximum bytes that the broker accepts.
    """

    def __init__(self, message: str, *_: object, size: int = 0, limit: int = 0) -> None:
        super().__init__(message, code=406)
        self.size = size
        self.limit = limit

    @classmethod
    def of(cls, size: int, limit: int, *, label: str = "The message") -> Self:
        """Return the error for a body of `size` bytes if the broker accepts `limit`."""
        return cls(
            f"{label} of {size:,} bytes is larger than the {limit:,} bytes that the broker accepts"
            " (its max_message_size): send less at once, or have its operator raise the limit.",
            size=size,
            limit=limit,
        )


class NotAcknowledgedInTime(BrokerRefused):
    """The broker has requeued an unacknowledged delivery, and closed its channel.

    Attributes:
        seconds: RabbitMQ's `consumer_timeout`.
    """

    def __init__(self, message: str, *_: object, seconds: float = 0.0) -> None:
        super().__init__(message, code=406)
        self.seconds = seconds


class WaitTimeout(FabricError, TimeoutError):
    """Rows or records did not arrive in time.

    Attributes:
        seconds: the timeout.
    """

    def __init__(self, message: str, *_: object, seconds: float = 0.0) -> None:
        super().__init__(message)
        self.seconds = seconds


class NotSerializable(FabricError, TypeError):
    """A value cannot be sent as JSON; the message has its position."""


class UnusableHeader(NotSerializable, ValueError):
    """Brokers refuse or change a header or filter; the message names it and the reason."""


class MalformedMessage(FabricError, ValueError):
    """A received message does not have the shape that its kind requires."""


class UnusableLibrary(FabricError, ImportError):
    """A library cannot be imported: it is broken, or its version is not supported."""


class RecordingError(FabricError, ValueError):
    """A file cannot be recorded to, or played back; the message names it and the reason."""


class ReportError(FabricError, OSError):
    """A report cannot be written; the message names the file and the reason."""


class UnusableQueue(InvalidArgument):
    """A stream cannot use a queue of this name or kind."""


class InvalidTimeout(InvalidArgument):
    """A timeout is negative, NaN or not a number."""


class UnknownLevel(InvalidArgument):
    """A log level is not known."""


class NotServed(FabricError):
    """A function to be served does not exist, or a service to be stopped is not served."""


class NotKept(FabricError, LookupError):
    """A call, or its arguments or result, that the history does not keep; the message says why."""


class NotRerun(FabricError, ValueError):
    """A failed call cannot be run again; the message states the reason."""


class NotThere(FabricError):
    """An object that the panel refers to does not exist any more."""


class DemoFailed(FabricError, RuntimeError):
    """The broker or the services of the demo did not start; the message states the reason."""


class LoopBlocked(FabricError, RuntimeError):
    """A thread waits for the notebook's event loop, while the running cell waits for threads."""


class NotInNotebook(FabricError, RuntimeError):
    """A display, or a wait in plain code, needs a notebook in which the extension is loaded."""


class CallError(FabricError):
    """Root of the errors of a call.

    Attributes:
        call: name of the call, as in ``calc.c1.multiply``.
        output: last lines that the method has printed and logged, for a call that receives them.
    """

    output: Sequence[str] = ()

    def __init__(self, message: str, *_: object, call: str = "") -> None:
        super().__init__(message)
        self.call = call

    def _render_traceback_(self) -> list[str]:
        """Render as any `FabricError`, with the output of the call."""
        return super()._render_traceback_() + self._rendered_output()

    def _rendered_output(self) -> list[str]:
        if not self.output:
            return []
        return ["", "Output of the call:", *(f"  {printable(line)}" for line in self.output)]


class UnknownService(CallError, LookupError):
    """No instance serves the address, so the call was not run and can safely be repeated.

    For a call with ``idempotent=True`` this applies to its last attempt only.
    """


class ServiceLost(CallError, LookupError):
    """All instances of the service left before they answered; the call may have been run.

    Not an `UnknownService`, because a repeated call may run twice.
    """


class InstanceNotFound(CallError, LookupError):
    """The service has no such instance, or none that can be called by itself; nothing was run."""


class AmbiguousService(CallError, LookupError):
    """A short name matches several services.

    Attributes:
        candidates: full names of these services.
    """

    def __init__(
        self, message: str, *_: object, call: str = "", candidates: Sequence[str] = ()
    ) -> None:
        super().__init__(message, call=call)
        self.candidates = tuple(candidates)


class VersionMismatch(CallError):
    """The service does not have the required version."""


class MethodNotFound(CallError, AttributeError):
    """The service does not have the method.

    Attributes:
        close_matches: methods with similar names.
    """

    def __init__(
        self, message: str, *_: object, call: str = "", close_matches: Sequence[str] = ()
    ) -> None:
        super().__init__(message, call=call)
        self.close_matches = tuple(close_matches)


class CallTimeout(CallError, TimeoutError):
    """No reply arrived in time.

    Attributes:
        seconds: the timeout.
    """

    def __init__(self, message: str, *_: object, call: str = "", seconds: float = 0.0) -> None:
        super().__init__(message, call=call)
        self.seconds = seconds


class CallCancelled(CallError):
    """The call was cancelled before its reply arrived; it may have been run."""


class MapStopped(CallError):
    """A map has ended before its last row; `__cause__` is the reason.

    Attributes:
        handle: handle of the map, with the results so far; ``handle.resume()`` continues.
    """

    def __init__(self, message: str, *_: object, call: str = "", handle: Any = None) -> None:
        super().__init__(message, call=call)
        self.handle = handle


@dataclass(frozen=True, slots=True)
class Hop:
    """One failed call of a chain of calls; all fields are untrusted text.

    Attributes:
        call: name of the call, ``domain.type.id.method``; empty if it is not known.
        type: type of the error, as sent (``builtins.KeyError``).
        message: `repr` of the error.
        traceback: traceback of the error; empty if the peer sends none.
    """

    call: str = ""
    type: str = ""
    message: str = ""
    traceback: str = ""

    @property
    def summary(self) -> str:
        """Error in one line: ``KeyError 'beer'``."""
        name = self.type.rpartition(".")[2]
        message = self.message
        if message.startswith(f"{name}(") and message.endswith(")"):
            message = message[len(name) + 1 : -1]
            text = f"{name} {message}"
        else:
            text = f"{name}: {message}" if message else name
        return " ".join(text.split())

    @property
    def location(self) -> str:
        """Last frame of the traceback that does not belong to a library."""
        return self._frame()[0]

    @property
    def failing_line(self) -> str:
        """Its location, and the source code: ``/shop.py, line 9, in quote: return p[x]``."""
        location, source = self._frame()
        return f"{location}: {source[:MAX_SOURCE]}" if source else location

    def _frame(self) -> tuple[str, str]:
        frames = _FRAME.findall(self.traceback)
        own = [frame for frame in frames if _library(frame[0]) is None]
        if not frames:
            return "", ""
        path, line, function, source = (own or frames)[-1]
        return f"{path}, line {line}, in {function}", source.strip()


class RemoteError(CallError):
    """The remote method raised.

    If the remote type is one of Python's built-in exceptions, the error is an instance of that type
    too, so both of these catch it::

        try:
            await fabric.call("calc.divide", x=1, y=0)
        except ZeroDivisionError: ...
        except RemoteError as error: print(error.type, error.remote_traceback)

    No other type is ever looked up by name, because a reply is untrusted data.

    If the method failed because a call made by it failed, `chain` has a hop for each call, and the
    error's text names them all: ``orders.place → pricing.quote → catalog.price: KeyError 'beer'``.

    Attributes:
        chain: the failed calls, from the one made here to the innermost one.
        type: name of the remote type, as sent (``builtins.ZeroDivisionError``).
        message: ``repr`` of the remote exception.
        remote_args: arguments of the remote exception, as data.
        remote_traceback: remote traceback as text; empty if the peer sends none.
    """

    def __init__(
        self,
        type: str,  # noqa: A002 - name of the field in the wire contract
        message: str,
        args: Sequence[Any] = (),
        remote_traceback: str = "",
        *,
        call: str = "",
        chain: Sequence[Hop] = (),
    ) -> None:
        Exception.__init__(self, message)  # the built-in type may require other arguments
        self.call = call
        self.type = type
        self.message = message
        self.remote_args = tuple(args)
        self.remote_traceback = remote_traceback
        self.chain = (Hop(call, type, message, remote_traceback), *chain)

    @property
    def is_builtin(self) -> bool:
        """True if it can be caught as one of Python's built-in exceptions."""
        return type(self) is not RemoteError

    def __str__(self) -> str:
        if len(self.chain) > 1:
            return printable(_path(self.chain))
        where = f"{self.call}: " if self.call else ""
        return printable(f"{where}{self.message or self.type}")

    @property
    def details(self) -> list[str]:
        """Lines that explain the error: the failing line of each call, and the innermost traceback.

        Frames of libraries are folded.
        """
        *outer, innermost = self.chain
        names = _short_names(self.chain) if outer else [""]
        details = [
            printable(f"  {name}: {hop.failing_line}" if name else f"  {hop.failing_line}")
            for name, hop in zip(names, self.chain, strict=True)
            if hop.location
        ]
        if innermost.traceback:
            where = f" of {names[-1]}" if outer else ""
            separator = [""] if details else []
            traceback = printable(folded(innermost.traceback))
            details += [*separator, f"Remote traceback{where}:", traceback]
        return details

    def _display_name(self) -> str:
        return "RemoteError"

    def _render_traceback_(self) -> list[str]:
        """Render as any `FabricError`, with the details."""
        details = self.details
        rendered = FabricError._render_traceback_(self)
        return [*rendered, *([""] if details else []), *details, *self._rendered_output()]

    def __reduce__(self) -> tuple[Any, ...]:
        state = (self.type, self.message, self.remote_args, self.remote_traceback, self.call)
        return remote_error, (*state, self.chain[1:], attributes_of(self))


def _path(chain: Sequence[Hop]) -> str:
    """Return the calls in one line: ``a.f → b.g: ValueError 1, from c.h: KeyError 2``."""
    parts: list[tuple[list[str], str]] = []
    for name, hop in zip(_short_names(chain), chain, strict=True):
        if parts and (hop.summary in ("", parts[-1][1])):
            parts[-1][0].append(name)
        else:
            parts.append(([name], hop.summary))
    return ", from ".join(f"{' → '.join(names)}: {summary}" for names, summary in parts)


def _short_names(chain: Sequence[Hop]) -> list[str]:
    """Return the calls as ``id.method``, or their full names if that is ambiguous."""
    full: dict[str, set[str]] = {}
    for hop in chain:
        full.setdefault(_id_and_method(hop.call), set()).add(hop.call)
    return [
        hop.call if len(full[_id_and_method(hop.call)]) > 1 else _id_and_method(hop.call) or "…"
        for hop in chain
    ]


def _id_and_method(call: str) -> str:
    return ".".join(call.split(".")[-2:])


_FRAME = re.compile(
    r'^ {2}File "([^"\n]+)", line (\d+), in ([^\n]+)$(?:\n {4}([^\n]+))?', re.MULTILINE
)
MAX_SOURCE = 200
"""Characters of a line of source code that are shown beside its location."""
_INSTALLED = re.compile(r"[/\\](?:site|dist)-packages[/\\]([^/\\]+)")
_STANDARD = re.compile(r"[/\\]lib(?:rary)?[/\\]python3[^/\\]*[/\\]([^/\\.]+)|<frozen ([^>]+)>")
_OWN = re.compile(r"[/\\]fabric_nb[/\\](?:fabric[/\\]|errors\.py)")


def _library(path: str) -> str | None:
    """Return the library that a file belongs to; None for files of a program."""
    if _OWN.search(path):
        return "fabric_nb"
    if found := _INSTALLED.search(path) or _STANDARD.search(path):
        return (found.group(1) or found.group(found.lastindex or 1)).removesuffix(".py")
    return None


def folded(text: str) -> str:
    """Return a traceback with the frames of libraries replaced by their number.

    If all frames of an error belong to libraries, the last one is kept.
    """
    shown: list[str] = []
    hidden: list[tuple[str, list[str]]] = []  # library and lines of each frame
    own = False

    def summarize(*, keep_last: bool) -> None:
        last = hidden.pop()[1] if hidden and keep_last else []
        if hidden:
            frames = f"{len(hidden)} frame{'s' if len(hidden) > 1 else ''}"
            libraries = dict.fromkeys(library for library, _ in hidden)
            shown.append(f"  … {frames} of {', '.join(libraries)}")
        shown.extend(last)
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
            summarize(keep_last=False)
        elif inside and line.startswith("    "):
            hidden[-1][1].append(line)
            continue
        elif not line.startswith(" "):
            summarize(keep_last=not own)
            inside = own = False
        shown.append(line)
    summarize(keep_last=not own)
    return "\n".join(shown)


def printable(text: str) -> str:
    """Return untrusted text that is safe to display, in a terminal or elsewhere.

    Control characters, characters that reverse text or are invisible, and line separators other
    than the newline are replaced.
    """
    # The common case first: checking each character is slow.
    if text.isprintable() or text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "".join(char if _is_harmless(char) else "\N{REPLACEMENT CHARACTER}" for char in text)


def one_line(text: str) -> str:
    """Return `printable` text without newlines."""
    return printable(text).replace("\n", " ")


_HARMFUL = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
"""Unicode categories: control and format characters (such as marks of direction), lone surrogates,
and line and paragraph separators."""


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
    """Return the `RemoteError` for an error reply, catchable as the built-in type that it names.

    It has the attributes of that type that the peer sends (`attributes_of`), or that are implied by
    its arguments: ``errno``, ``strerror`` and ``filename`` of an `OSError`.

    Example:
        >>> error = remote_error("builtins.ValueError", "ValueError('no')", ["no"])
        >>> isinstance(error, ValueError), isinstance(error, RemoteError)
        (True, True)
    """
    module, _, name = type_name.rpartition(".")
    cls = _catchable_as(name) if module in ("", "builtins") else RemoteError
    error = cls(type_name, message, args, remote_traceback, call=call, chain=chain)
    _set_attributes(error, _implied_attributes(error, args))
    _set_attributes(error, attributes or {})
    if isinstance(error, SyntaxError):
        error.msg = str(error)  # tracebacks show it instead of `str(error)`
    return error


MAX_ATTRIBUTE = 4096
"""Characters of an attribute that are sent or read, enough for a path."""

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
"""Attributes of Python's built-in exceptions, beside their arguments, that are text or numbers."""


def _attributes(error: BaseException) -> Iterator[tuple[str, type]]:
    """Yield the attributes of an error's type, with the type of each."""
    for kind, attributes in _ATTRIBUTES.items():
        if isinstance(error, kind):
            yield from attributes.items()


def attributes_of(error: BaseException) -> dict[str, str | int]:
    """Return the attributes of a built-in exception, beside its arguments, that can be sent."""
    values = {name: _plain_attribute(error, name) for name, _ in _attributes(error)}
    return {name: value for name, value in values.items() if value is not None}


def _plain_attribute(error: BaseException, name: str) -> str | int | None:
    try:
        value: object = getattr(error, name)
        value = os.fsdecode(value) if isinstance(value, (bytes, os.PathLike)) else value
        if isinstance(value, str):
            return str.__str__(value)[:MAX_ATTRIBUTE]
        return int.__int__(value) if isinstance(value, int) else None
    except Exception:  # noqa: BLE001 - an attribute must not hide its error
        return None


def _set_attributes(error: RemoteError, values: Mapping[str, Any]) -> None:
    """Set the attributes of the error's type for which there is a valid value."""
    for name, required in _attributes(error):
        value = values.get(name)
        if isinstance(value, str):
            value = value[:MAX_ATTRIBUTE]
        elif not isinstance(value, int) or not -(2**31) <= value < 2**31:
            continue
        if type(value) is required:
            with contextlib.suppress(AttributeError, TypeError):  # the base lacks the attribute
                setattr(error, name, value)


def _implied_attributes(error: RemoteError, args: Sequence[Any]) -> dict[str, Any]:
    """Return the attributes that the arguments imply, for a peer that sends none."""
    if isinstance(error, OSError) and len(args) > 1:
        return dict(zip(("errno", "strerror"), args, strict=False))
    if isinstance(error, UnicodeError) and len(args) == 5:
        return dict(zip(("encoding", "object", "start", "end", "reason"), args, strict=True))
    return {}


@lru_cache(maxsize=128)
def _catchable_as(name: str) -> type[RemoteError]:
    """Return a subclass of `RemoteError` and of the built-in exception of that name, if safe.

    Excluded are exceptions with a meaning for the interpreter (exit, interrupt, the end of an
    iteration) and groups, whose arguments are exceptions.
    """
    builtin = getattr(builtins, name, None)
    if not (isinstance(builtin, type) and issubclass(builtin, Exception)):
        return RemoteError
    if issubclass(builtin, (BaseExceptionGroup, StopIteration, StopAsyncIteration, FabricError)):
        return RemoteError
    if builtin is Exception:
        return RemoteError
    return type(f"Remote{name}", (RemoteError, builtin), {"__module__": __name__})
