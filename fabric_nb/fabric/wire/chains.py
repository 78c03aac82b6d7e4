"""Chains of failed calls: the hops of a call that failed because a call made by it failed.

An error reply carries them as ``chain``, which amqp-fabric ignores. They are untrusted text, whose
length is limited when it is sent and when it is read, at every hop.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from fabric_nb.errors import CallError, Hop, RemoteError
from fabric_nb.fabric.core.values import valid
from fabric_nb.fabric.wire.reading import MAX_TRACEBACK, ending, shortened, text

MAX_HOPS = 16
"""Hops of one error, beside the first; if there are more, those in the middle are omitted."""
MAX_HOP_TEXT = 1_000
MAX_HOP_TRACEBACK = 2_000
"""Characters of a hop's message, and of the traceback of all hops except for the innermost."""
MAX_CAUSES = 32
"""Exceptions that are searched for the call that caused an error."""
_CALL = re.compile(r"[A-Za-z0-9_.-]{1,330}\Z")
_REPORTED = "aio_pika.patterns.rpc.JsonRPCError"
"""Type with which amqp-fabric forwards an error of a type that it cannot import."""


def hops_of(error: BaseException) -> list[dict[str, str]]:
    """Return the further hops of an error as JSON: the calls that caused it, innermost last."""
    for cause in _causes(error):
        if isinstance(cause, RemoteError):
            return _sent(cause.chain)
        if isinstance(cause, CallError) and cause.call:
            return _sent(
                [Hop(cause.call, _type_of(cause), f"{type(cause).__name__}({str(cause)!r})")]
            )
    return []


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and its causes, as in Python's tracebacks, and the members of groups."""
    pending = [error]
    seen: set[int] = set()
    while pending and len(seen) < MAX_CAUSES:
        cause = pending.pop(0)
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        if isinstance(cause, BaseExceptionGroup):
            pending.extend(cause.exceptions[:MAX_CAUSES])
        if cause.__cause__ is not None:
            pending.append(cause.__cause__)
        elif cause.__context__ is not None and not cause.__suppress_context__:
            pending.append(cause.__context__)


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


def _read_hops(chain: object) -> tuple[Hop, ...]:
    """Return the further hops in an error reply, without invalid ones."""
    hops = chain if isinstance(chain, list) else []
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
    """Return an error object without wrappers, and its further hops.

    amqp-fabric does not forward a chain. An error whose type it can import is raised again, with
    text and arguments of the original as its arguments; any other one is wrapped, as a whole
    object, in an error of its own. Both wrappers are removed; the call that failed is unknown then.
    """
    inner = _unwrapped(error)
    hops = _read_hops(inner.get("chain"))
    if inner is not error:
        kind, message = (text(inner.get(key), MAX_HOP_TEXT) for key in ("type", "message"))
        hops = (Hop("", kind, message, text(inner.get("traceback"), MAX_TRACEBACK)), *hops)
    if hops and error.get("type") == f"{RemoteError.__module__}.{RemoteError.__name__}":
        inner = {**inner, "type": hops[0].type}  # a type name that no peer imports
    return {**inner, "traceback": error.get("traceback")}, hops


def _unwrapped(error: dict[str, Any]) -> dict[str, Any]:
    for _ in range(MAX_HOPS):
        args = error.get("args")
        if not (isinstance(args, list) and len(args) == 2):
            break
        message, inner = args
        if error.get("type") == _REPORTED and isinstance(inner, dict):
            if not isinstance(inner.get("error"), dict):
                break
            error = inner["error"]
        elif isinstance(message, str) and isinstance(inner, list) and _is_repr(message, error):
            error = {**error, "message": message, "args": inner}
        else:
            break
    return error


def _is_repr(message: str, error: dict[str, Any]) -> bool:
    name = text(error.get("type"), 200).rpartition(".")[2]
    return bool(name) and message.startswith(f"{name}(") and message.endswith(")")
