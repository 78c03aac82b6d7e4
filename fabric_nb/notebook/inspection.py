"""What Shift-Tab and ``?`` show of remote methods: signature and doc, as of a local function.

IPython looks up names of the user's namespace alone and reads the docs that objects have. So the
kernel's answer is replaced on the lines that call a remote method, an inspector's hook asks the
service of a method's proxy, and ``fabric.service("reports").make?`` is made an expression.
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
from fabric_nb.notebook.arguments import call_among, words
from fabric_nb.notebook.bridge import wait

if TYPE_CHECKING:
    from fabric_nb.fabric.member import FabricMember
    from fabric_nb.fabric.rpc.proxy import RemoteMethod

_CALLING = re.compile(r"(?:^|=)\s*%{1,2}fabric_call\s")
_ASKED = re.compile(r"(?P<method>[^\s?!%].*\.service\(.*\)\.[A-Za-z_]\w*)\?{1,2}\s*")
Fields = list[tuple[str, str]]
"""What IPython shows of something, each under its heading."""

DESCRIBED_WITHIN = 1.0
"""Seconds that a service has to tell a method's doc; its signature is known before."""


def call_at(code: str, cursor: int) -> tuple[str, bool] | None:
    """The call in a `%fabric_call` line that the cursor is behind, and whether it stands on it.

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
    call = call_among(words(line[magic.end() :]))
    if call is None:
        return None
    place = start + line.index(call, magic.end())
    return call, place <= cursor <= place + len(call)


def asked_of_proxy(lines: list[str]) -> list[str]:
    """A cell that only asks for help on a proxy's method, as Python; any other as it is.

    Example:
        >>> print(*asked_of_proxy(['fabric.service("calc").add?']), sep="")
        _method = fabric.service("calc").add
        %pinfo _method
        <BLANKLINE>
    """
    asked = _ASKED.fullmatch("".join(lines))
    if asked is None:
        return lines
    return [f"_method = {asked['method']}\n", "%pinfo _method\n"]


async def method_help(fabric: FabricMember, call: str) -> Fields | None:
    """What a remote method tells of itself, as IPython shows a function's; None: it is not known.

    Args:
        fabric: knows the service, and asks it.
        call: as in ``calc.multiply``.
    """
    try:
        parse_call(call, domain=fabric.domain)
    except InvalidName:
        return None
    target, _, name = call.rpartition(".")
    return await _help_on(getattr(fabric.service(target), name))


async def _help_on(method: RemoteMethod) -> Fields | None:
    service, name = method.service, method.__name__
    if service is None or name not in service.methods:
        return None
    doc, signature = "", service.methods[name]
    with contextlib.suppress(FabricError, TimeoutError):
        async with asyncio.timeout(DESCRIBED_WITHIN):
            told = await method.told()
            doc, signature = told.get("doc", ""), told.get("signature") or signature
    return [
        ("Signature", f"{name}{signature or '(...)'}"),
        ("Docstring", doc or "<no docstring>"),
        ("Service", service.name.fqn),
        ("Type", "remote method"),
    ]


def help_on_proxy(asked: Any, info: object = None) -> Fields | None:
    """IPython's hook for what it shows of an object: None for all but proxies' methods.

    Args:
        asked: holds the object; before IPython 8.22, the object itself.
        info: before IPython 8.22, what IPython knows of it.
    """
    from fabric_nb.fabric.rpc.proxy import RemoteMethod

    method = asked.obj if info is None else asked
    return wait(_help_on(method)) if isinstance(method, RemoteMethod) else None


class Inspection:
    """Lets a shell and its kernel explain remote methods.

    Args:
        shell: the notebook's IPython; its other answers stay as they are.
        help: tells the help on a call, as `method_help`.
    """

    def __init__(
        self,
        shell: InteractiveShell,
        help: Callable[[str], Awaitable[Fields | None]],  # noqa: A002 - what it is
    ) -> None:
        self._shell = shell
        self._kernel = getattr(shell, "kernel", None)  # there is none in a terminal
        self._help = help
        self._inspect = getattr(self._kernel, "do_inspect", None)

    def open(self) -> None:
        """Explain from now on."""
        if self._kernel is not None:
            self._kernel.do_inspect = self._do_inspect
        self._shell.inspector.mime_hooks["text/plain"] = help_on_proxy
        self._shell.input_transformers_cleanup.append(asked_of_proxy)

    def close(self) -> None:
        """Leave all as it was, where nobody else has come in between."""
        if self._kernel is not None and self._kernel.__dict__.get("do_inspect") == self._do_inspect:
            self._kernel.do_inspect = self._inspect
        hooks = self._shell.inspector.mime_hooks
        if hooks.get("text/plain") is help_on_proxy:
            del hooks["text/plain"]
        with contextlib.suppress(ValueError):
            self._shell.input_transformers_cleanup.remove(asked_of_proxy)

    async def _do_inspect(
        self,
        code: str,
        cursor_pos: int,
        detail_level: int = 0,
        omit_sections: Collection[str] = (),
    ) -> dict[str, Any]:
        assert self._inspect is not None  # noqa: S101 - this stands in its place
        answer: Any = self._inspect(code, cursor_pos, detail_level, omit_sections)
        reply: dict[str, Any] = await answer if inspect.isawaitable(answer) else answer
        found = call_at(code, cursor_pos)
        if found is None:
            return reply
        call, on_it = found
        if reply.get("found") and not on_it:  # a name in an argument
            return reply
        fields = await self._help(call)
        if fields is None:
            return reply
        shown = self._shell.inspector.format_mime({"text/plain": fields})
        return {"status": "ok", "found": True, "data": shown, "metadata": {}}
