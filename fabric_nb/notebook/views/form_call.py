"""Calls that users make from forms, under cells and in the panel."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Mapping
from typing import Any

from fabric_nb.fabric.member import FabricMember
from fabric_nb.fabric.rpc.call_handle import CallHandle
from fabric_nb.fabric.wire.names import parse_call
from fabric_nb.notebook.terminal_line import bar
from fabric_nb.notebook.views.methods import METHOD, parse_arguments, result_text


def call_from_form(
    fabric: FabricMember, call: str, texts: Mapping[str, Any], *, timed: bool = True
) -> FormCall:
    """Call the method of a form; its answer is the result, and the duration if it is `timed`.

    Args:
        fabric: the member that calls.
        call: name of the form: the call, as in ``calc.add``; with ``calc.`` a field has the method.
        texts: texts by field.
        timed: add the duration to the result.

    Raises:
        InvalidArgument: a text is no value.
    """
    if call.endswith("."):
        texts = dict(texts)
        call += str(texts.pop(METHOD, ""))
    pattern, method = parse_call(call, domain=fabric.domain)
    service = fabric.rpc.known(pattern)
    signature = "" if service is None else service.methods.get(method, "")
    handle = fabric.rpc.start(pattern, method, parse_arguments(texts, signature))
    return FormCall(handle, timed=timed)


class FormCall:
    """A call that was made from a form; await it for its result as text.

    If the task that awaits it is cancelled, so is the call, and the text of the `CancelledError` is
    the outcome at the service.

    Args:
        handle: the call.
        timed: add its duration to the result.
    """

    def __init__(self, handle: CallHandle, *, timed: bool = False) -> None:
        self._handle = handle
        self._timed = timed

    def __await__(self) -> Generator[Any, None, str]:
        return self._text().__await__()

    async def _text(self) -> str:
        handle = self._handle
        try:
            text = result_text(await handle)
        except asyncio.CancelledError:
            await handle.stop()
            raise asyncio.CancelledError(handle.cancellation) from None
        return f"{text}\n{handle.elapsed * 1000:,.1f} ms" if self._timed else text

    @property
    def progress(self) -> str:
        """Queue, instance and progress as text; empty while nothing of it is known."""
        report, progress = self._handle.report, self._handle.progress
        if report.began is None and report.ahead is None:
            return ""
        fraction = None if progress is None else progress.fraction
        text = " · ".join(self._handle.facts)
        return text if fraction is None else f"{bar(fraction)}\n{text}"
