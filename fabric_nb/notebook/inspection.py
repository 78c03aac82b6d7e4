"""Shift-Tab on a call in a magic's line: the remote method's signature and doc.

IPython looks up names of the user's namespace alone, so the kernel's own answer is asked first and
replaced on the lines that call.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import re
from collections.abc import Awaitable, Callable, Collection
from typing import TYPE_CHECKING, Any

from fabric_nb.errors import FabricError, InvalidName
from fabric_nb.fabric.naming import parse_call
from fabric_nb.notebook.arguments import call_among, words

if TYPE_CHECKING:
    from fabric_nb.fabric.member import FabricMember

_CALLING = re.compile(r"(?:^|=)\s*%{1,2}fabric_call\s")
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


async def method_help(fabric: FabricMember, call: str) -> str | None:
    """What a remote method tells of itself, as IPython shows a function's; None: it is not known.

    Args:
        fabric: knows the service, and asks it.
        call: as in ``calc.multiply``.
    """
    try:
        pattern, method = parse_call(call, domain=fabric.domain)
    except InvalidName:
        return None
    service = fabric.known(pattern)
    if service is None or method not in service.methods:
        return None
    doc = ""
    signature = service.methods[method]
    with contextlib.suppress(FabricError, TimeoutError):
        async with asyncio.timeout(DESCRIBED_WITHIN):
            described = (await fabric.describe(pattern)).get(method, {})
            doc, signature = described.get("doc", ""), described.get("signature") or signature
    doc = doc or "<no docstring>"
    return (
        f"Signature: {method}{signature or '(...)'}\n"
        + (f"Docstring:\n{doc}\n" if "\n" in doc else f"Docstring: {doc}\n")
        + f"Service:   {service.name.fqn}\n"
        + "Type:      remote method"
    )


class Inspection:
    """Answers a kernel's inspect requests where a line calls a remote method.

    Args:
        kernel: ipykernel's; its other answers stay as they are.
        help: tells the help on a call, as `method_help`.
    """

    def __init__(self, kernel: Any, help: Callable[[str], Awaitable[str | None]]) -> None:  # noqa: A002
        self._kernel = kernel
        self._help = help
        self._inspect = kernel.do_inspect

    def open(self) -> None:
        """Answer from now on."""
        self._kernel.do_inspect = self._do_inspect

    def close(self) -> None:
        """Leave the kernel as it was, unless somebody else has come in between."""
        if self._kernel.__dict__.get("do_inspect") == self._do_inspect:
            self._kernel.do_inspect = self._inspect

    async def _do_inspect(
        self,
        code: str,
        cursor_pos: int,
        detail_level: int = 0,
        omit_sections: Collection[str] = (),
    ) -> dict[str, Any]:
        answer: Any = self._inspect(code, cursor_pos, detail_level, omit_sections)
        reply: dict[str, Any] = await answer if inspect.isawaitable(answer) else answer
        found = call_at(code, cursor_pos)
        if found is None:
            return reply
        call, on_it = found
        if reply.get("found") and not on_it:  # a name in an argument
            return reply
        text = await self._help(call)
        if text is None:
            return reply
        return {"status": "ok", "found": True, "data": {"text/plain": text}, "metadata": {}}
