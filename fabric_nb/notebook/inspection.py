"""Help on remote methods by Shift-Tab and ``?``: signature and doc, as for local functions.

IPython only inspects objects in the user's namespace. So the kernel's reply is replaced for lines
that call a remote method, an inspector hook requests the description for a method of a proxy, and
``fabric.service("reports").make?`` is rewritten as an expression.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import re
from collections.abc import Awaitable, Callable, Collection
from typing import TYPE_CHECKING, Any

from IPython.core.interactiveshell import InteractiveShell

from fabric_nb.errors import FabricError, InvalidName
from fabric_nb.fabric.wire.names import parse_call
from fabric_nb.notebook.arguments import find_call, words
from fabric_nb.notebook.bridge import wait

if TYPE_CHECKING:
    from fabric_nb.fabric.member import FabricMember
    from fabric_nb.fabric.rpc.proxy import RemoteMethod

_CALLING = re.compile(r"(?:^|=)\s*%{1,2}fabric_(?:call|map|trace)\s")
_PROXY_HELP = re.compile(r"(?P<method>[^\s?!%].*\.service\(.*\)\.[A-Za-z_]\w*)\?{1,2}\s*")
Fields = list[tuple[str, str]]
"""Fields of a help page, as pairs of heading and text."""

DESCRIPTION_TIMEOUT = 1.0
"""Seconds to wait for a method's description; its signature is known from keep-alives."""


def call_at(code: str, cursor: int) -> tuple[str, bool] | None:
    """Return the call in the `%fabric_call` (or map, trace) at the cursor, and if it is on it.

    Example:
        >>> call_at("x = %fabric_call calc.multiply x=5", 25)
        ('calc.multiply', True)
        >>> call_at("print(5)", 3) is None
        True
    """
    start = code.rfind("\n", 0, cursor) + 1
    line = code[start:].partition("\n")[0]
    magic = _CALLING.search(line)
    if magic is None or cursor - start < magic.end():
        return None
    call = find_call(words(line[magic.end() :]))
    if call is None:
        return None
    place = start + line.index(call, magic.end())
    return call, place <= cursor <= place + len(call)


def rewrite_proxy_help(lines: list[str]) -> list[str]:
    """Rewrite a cell that only requests help on a proxy's method; return others unchanged.

    Example:
        >>> print(*rewrite_proxy_help(['fabric.service("calc").add?']), sep="")
        _method = fabric.service("calc").add
        %pinfo _method
        <BLANKLINE>
    """
    match = _PROXY_HELP.fullmatch("".join(lines))
    if match is None:
        return lines
    return [f"_method = {match['method']}\n", "%pinfo _method\n"]


async def method_help(member: FabricMember, call: str) -> Fields | None:
    """Return the help on a remote method; None if the method is unknown.

    Args:
        member: member whose registry has the service.
        call: service and method, such as ``calc.multiply``.
    """
    try:
        pattern, name = parse_call(call, domain=member.domain)
    except InvalidName:
        return None
    from fabric_nb.fabric.rpc.proxy import ServiceProxy  # late, as loading the extension is light

    return await _help_on(getattr(ServiceProxy(member.rpc, pattern), name))


async def _help_on(method: RemoteMethod) -> Fields | None:
    service, name = method.service, method.__name__
    if service is None or name not in service.methods:
        return None
    doc, signature = "", service.methods[name]
    with contextlib.suppress(FabricError, TimeoutError):
        async with asyncio.timeout(DESCRIPTION_TIMEOUT):
            described = await method.description()
            doc, signature = described.get("doc", ""), described.get("signature") or signature
    return [
        ("Signature", f"{name}{signature or '(...)'}"),
        ("Docstring", doc or "<no docstring>"),
        ("Service", service.name.fqn),
        ("Type", "remote method"),
    ]


def help_on_proxy(target: Any, info: object = None) -> Fields | None:
    """Return the help on a proxy's method, as a hook of IPython's inspector; None for others.

    Args:
        target: the object in ``obj``; before IPython 8.22, the object itself.
        info: information on the object, before IPython 8.22 only.
    """
    from fabric_nb.fabric.rpc.proxy import RemoteMethod

    method = target.obj if info is None else target
    return wait(_help_on(method)) if isinstance(method, RemoteMethod) else None


class Inspection:
    """Adds help on remote methods to a shell and its kernel.

    Args:
        shell: IPython shell.
        help: returns the help on a call; see `method_help`.
    """

    def __init__(
        self,
        shell: InteractiveShell,
        help: Callable[[str], Awaitable[Fields | None]],  # noqa: A002
    ) -> None:
        self._shell = shell
        self._kernel = getattr(shell, "kernel", None)  # None in a terminal
        self._help = help
        self._inspect = getattr(self._kernel, "do_inspect", None)

    def open(self) -> None:
        """Install the hooks."""
        if self._kernel is not None:
            self._kernel.do_inspect = self._do_inspect
        self._shell.inspector.mime_hooks["text/plain"] = help_on_proxy
        self._shell.input_transformers_cleanup.append(rewrite_proxy_help)

    def close(self) -> None:
        """Remove the hooks, unless other code has replaced them."""
        if self._kernel is not None and self._kernel.__dict__.get("do_inspect") == self._do_inspect:
            self._kernel.do_inspect = self._inspect
        hooks = self._shell.inspector.mime_hooks
        if hooks.get("text/plain") is help_on_proxy:
            del hooks["text/plain"]
        with contextlib.suppress(ValueError):
            self._shell.input_transformers_cleanup.remove(rewrite_proxy_help)

    async def _do_inspect(
        self,
        code: str,
        cursor_pos: int,
        detail_level: int = 0,
        omit_sections: Collection[str] = (),
    ) -> dict[str, Any]:
        assert self._inspect is not None  # noqa: S101 - this method replaces it
        result: Any = self._inspect(code, cursor_pos, detail_level, omit_sections)
        reply: dict[str, Any] = await result if inspect.isawaitable(result) else result
        found = call_at(code, cursor_pos)
        if found is None:
            return reply
        call, is_on_call = found
        if reply.get("found") and not is_on_call:  # the cursor is on a name in an argument
            return reply
        fields = await self._help(call)
        if fields is None:
            return reply
        shown = self._shell.inspector.format_mime({"text/plain": fields})
        return {"status": "ok", "found": True, "data": shown, "metadata": {}}
