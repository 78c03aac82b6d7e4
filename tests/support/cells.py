"""Notebook cells as in a front end: messages of a kernel, and outputs derived from them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from tests.support.kernels import Kernel

T = TypeVar("T")
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def plain(text: str) -> str:
    """Return a text without its ANSI colours."""
    return _ANSI.sub("", text)


@dataclass(frozen=True)
class Message:
    """A message from a kernel.

    Attributes:
        parent_id: Id of its request, for example of a cell.
        time: Time of sending by the kernel's clock, in seconds since 1970.
    """

    type: str
    parent_id: str
    content: dict[str, Any]
    metadata: dict[str, Any]
    buffers: list[Any]
    time: float

    @property
    def display_id(self) -> str | None:
        """Id of the display that this message creates or updates, if any."""
        display_id = self.content.get("transient", {}).get("display_id")
        return None if display_id is None else str(display_id)


@dataclass
class Output:
    """One output of a cell in a front end: `stream`, `display_data`, ..."""

    kind: str
    data: dict[str, Any] = field(default_factory=dict)
    stream: str = ""
    display_id: str | None = None

    @property
    def text(self) -> str:
        """Plain text."""
        return str(self.data.get("text/plain", ""))

    @property
    def html(self) -> str:
        """HTML, or empty."""
        return str(self.data.get("text/html", ""))


@dataclass(frozen=True)
class CellError:
    """Error of a cell."""

    name: str
    value: str
    traceback: str
    """Traceback without ANSI colours."""


class Cell:
    """A request to a kernel, usually the execution of a cell, with its reply and messages."""

    def __init__(self, kernel: Kernel, id: str, code: str, *, replies: bool = True) -> None:  # noqa: A002
        self.id = id
        self.code = code
        self._kernel = kernel
        self._replies = replies
        self._generation = kernel.generation

    def __repr__(self) -> str:
        return f"<Cell {self.status} {self.code!r} {self.outputs}>"

    # Outcome

    @property
    def reply(self) -> dict[str, Any]:
        """Content of the kernel's reply; empty before it."""
        return self._kernel.replies.get(self.id, {})

    @property
    def done(self) -> bool:
        """True if the kernel has replied and is idle again."""
        idle = any(
            m.type == "status" and m.content["execution_state"] == "idle" for m in self.messages
        )
        return idle and (bool(self.reply) or not self._replies)

    @property
    def status(self) -> str:
        """Status: `pending`, `ok`, `error`, or `aborted` by an earlier error."""
        return str(self.reply.get("status", "pending"))

    @property
    def error(self) -> CellError | None:
        """Error, if any."""
        if self.status != "error":
            return None
        traceback = plain("\n".join(self.reply.get("traceback", [])))
        return CellError(self.reply["ename"], self.reply["evalue"], traceback)

    # Outputs

    @property
    def messages(self) -> list[Message]:
        """All messages of this request, in order."""
        return [m for m in self._kernel.messages if m.parent_id == self.id]

    @property
    def outputs(self) -> list[Output]:
        """Current outputs in a front end, including updates by other cells."""
        screen = _Screen()
        for message in self._kernel.messages:
            if message.type == "update_display_data":
                screen.update(message)
            elif message.parent_id == self.id:
                screen.add(message)
        return screen.outputs

    @property
    def data(self) -> dict[str, Any]:
        """Value in all formats, by MIME type; empty if the cell has none."""
        return next((o.data for o in self.outputs if o.kind == "execute_result"), {})

    @property
    def text(self) -> str:
        """Value as plain text."""
        return str(self.data.get("text/plain", ""))

    @property
    def html(self) -> str:
        """HTML of all outputs."""
        return "\n".join(o.html for o in self.outputs if o.html)

    @property
    def displays(self) -> list[Output]:
        """Displays with plain text: no value, no streams, no live widgets."""
        return [o for o in self.outputs if o.kind == "display_data" and "text/plain" in o.data]

    @property
    def stdout(self) -> str:
        """Text on standard output."""
        return "".join(o.text for o in self.outputs if o.stream == "stdout")

    @property
    def stderr(self) -> str:
        """Text on standard error, without ANSI colours."""
        return plain("".join(o.text for o in self.outputs if o.stream == "stderr"))

    # Waiting

    async def wait(self, timeout: float = 60) -> Self:
        """Wait until it is done, with any outcome."""
        await self.until(lambda cell: cell.done, timeout)
        return self

    async def until(self, condition: Callable[[Self], T], timeout: float = 60) -> T:
        """Wait until a condition on this cell is true, checked after every message."""
        return await self._kernel.until(
            lambda: condition(self), timeout, about=self, generation=self._generation
        )


class _Screen:
    """Outputs of a cell, updated like in a front end."""

    def __init__(self) -> None:
        self.outputs: list[Output] = []
        self._clear_at_next = False

    def add(self, message: Message) -> None:
        content = message.content
        if message.type == "clear_output":
            self._clear_at_next = content["wait"]
            if not content["wait"]:
                self.outputs.clear()
        elif message.type in ("stream", "display_data", "execute_result", "error"):
            if self._clear_at_next:
                self.outputs.clear()
                self._clear_at_next = False
            self._append(message)

    def _append(self, message: Message) -> None:
        content, last = message.content, self.outputs[-1] if self.outputs else None
        if message.type == "error":
            text = plain("\n".join(content["traceback"]))
            self.outputs.append(Output("error", {"text/plain": text}))
        elif message.type != "stream":
            data = dict(content["data"])
            self.outputs.append(Output(message.type, data, display_id=message.display_id))
        elif last is not None and last.stream == content["name"]:
            last.data["text/plain"] += content["text"]
        else:
            data = {"text/plain": content["text"]}
            self.outputs.append(Output("stream", data, stream=content["name"]))

    def update(self, message: Message) -> None:
        for output in self.outputs:
            if output.display_id is not None and output.display_id == message.display_id:
                output.data = dict(message.content["data"])
