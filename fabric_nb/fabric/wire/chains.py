"""The further hops of a call that failed because a call that it made has failed.

An error reply carries them as ``chain``, which amqp-fabric ignores. All of it is text from
elsewhere: it is bounded when it is sent and when it is read, at each hop anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from fabric_nb.errors import CallError, Hop, RemoteError
from fabric_nb.fabric.wire.reading import MAX_TRACEBACK, ending, shortened, text, valid

MAX_HOPS = 16
"""Hops of one error, beside the first; of more, those in the middle are left out."""
MAX_HOP_TEXT = 1_000
MAX_HOP_TRACEBACK = 2_000
"""Characters of a hop's message, and of the traceback of all but the innermost one."""
MAX_CAUSES = 32
"""Exceptions that are looked at to find the call which was the cause of an error."""
_CALL = re.compile(r"[A-Za-z0-9_.-]{1,330}\Z")
_REPORTED = "aio_pika.patterns.rpc.JsonRPCError"
"""As what amqp-fabric passes on an error of a type that it cannot import."""


def hops_of(error: BaseException) -> list[dict[str, str]]:
    """The further hops of an error as they travel: the calls that it comes from, innermost last."""
    for cause in _causes(error):
        if isinstance(cause, RemoteError):
            return _sent(cause.chain)
        if isinstance(cause, CallError) and cause.call:
            return _sent(
                [Hop(cause.call, _type_of(cause), f"{type(cause).__name__}({str(cause)!r})")]
            )
    return []


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it came from, as Python's tracebacks tell it; of a group, all of it."""
    waiting = [error]
    seen: set[int] = set()
    while waiting and len(seen) < MAX_CAUSES:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        if isinstance(one, BaseExceptionGroup):
            waiting.extend(one.exceptions[:MAX_CAUSES])
        if one.__cause__ is not None:
            waiting.append(one.__cause__)
        elif one.__context__ is not None and not one.__suppress_context__:
            waiting.append(one.__context__)


def _type_of(error: BaseException) -> str:
    return f"{type(error).__module__}.{type(error).__qualname__}"


def _sent(hops: Sequence[Hop]) -> list[dict[str, str]]:
    if len(hops) > MAX_HOPS:
        half = MAX_HOPS // 2
        hops = [*hops[: half - 1], Hop(), *hops[-half:]]
    innermost = len(hops) - 1
    return [
        {
            "call": hop.call,
            "type": valid(hop.type[:200]),
            "message": valid(shortened(hop.message, MAX_HOP_TEXT)),
            "traceback": valid(
                ending(hop.traceback, MAX_TRACEBACK if at == innermost else MAX_HOP_TRACEBACK)
            ),
        }
        for at, hop in enumerate(hops)
    ]


def _read_hops(told: object) -> tuple[Hop, ...]:
    """The further hops in an error reply; what is no hop is left out."""
    hops = told if isinstance(told, list) else []
    return tuple(
        Hop(
            call if _CALL.match(call := text(hop.get("call"), 400)) else "",
            text(hop.get("type"), 200),
            text(hop.get("message"), MAX_HOP_TEXT),
            text(hop.get("traceback"), MAX_TRACEBACK),
        )
        for hop in hops[: MAX_HOPS + 1]
        if isinstance(hop, dict)
    )


def read_chain(error: dict[str, Any]) -> tuple[dict[str, Any], tuple[Hop, ...]]:
    """An error object and its further hops.

    amqp-fabric, which passes on no chain, raises again what it could import, with text and
    arguments of the former as its arguments, and an error of its own around the whole object
    otherwise. Both are taken off; the call that it made is not known then.
    """
    inner = _taken_off(error)
    hops = _read_hops(inner.get("chain"))
    if inner is not error:
        kind, message = (text(inner.get(key), MAX_HOP_TEXT) for key in ("type", "message"))
        hops = (Hop("", kind, message, text(inner.get("traceback"), MAX_TRACEBACK)), *hops)
    if hops and error.get("type") == f"{RemoteError.__module__}.{RemoteError.__name__}":
        inner = {**inner, "type": hops[0].type}  # a type name that no peer imports
    return {**inner, "traceback": error.get("traceback")}, hops


def _taken_off(error: dict[str, Any]) -> dict[str, Any]:
    for _ in range(MAX_HOPS):
        args = error.get("args")
        if not (isinstance(args, list) and len(args) == 2):
            break
        said, inner = args
        if error.get("type") == _REPORTED and isinstance(inner, dict):
            if not isinstance(inner.get("error"), dict):
                break
            error = inner["error"]
        elif isinstance(said, str) and isinstance(inner, list) and _is_repr(said, error):
            error = {**error, "message": said, "args": inner}
        else:
            break
    return error


def _is_repr(said: str, error: dict[str, Any]) -> bool:
    name = text(error.get("type"), 200).rpartition(".")[2]
    return bool(name) and said.startswith(f"{name}(") and said.endswith(")")
