"""A notebook's cells as a front end sees them: the messages a kernel sends, and what they show."""

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
    """Return a text without its colours."""
    return _ANSI.sub("", text)


@dataclass(frozen=True)
class Message:
    """One message from a kernel; `parent_id` is the request (a cell's `id`) it belongs to.

    `time` is when the kernel sent it, by its own clock, in seconds since 1970.
    """

    type: str
    parent_id: str
    content: dict[str, Any]
    metadata: dict[str, Any]
    buffers: list[Any]
    time: float

    @property
    def display_id(self) -> str | None:
        """The display that this message makes or updates, where it has an id."""
        found = self.content.get("transient", {}).get("display_id")
        return None if found is None else str(found)


@dataclass
class Output:
    """One output under a cell as a front end shows it: `stream`, `display_data`, ..."""

    kind: str
    data: dict[str, Any] = field(default_factory=dict)
    stream: str = ""
    display_id: str | None = None

    @property
    def text(self) -> str:
        """Its plain text."""
        return str(self.data.get("text/plain", ""))

    @property
    def html(self) -> str:
        """Its HTML, or nothing."""
        return str(self.data.get("text/html", ""))


@dataclass(frozen=True)
class CellError:
    """The error a cell ended with."""

    name: str
    value: str
    traceback: str
    """As shown, without the colours."""


class Cell:
    """One request to a kernel (mostly a cell that runs), and all that belongs to it."""

    def __init__(self, kernel: Kernel, id: str, code: str, *, replies: bool = True) -> None:  # noqa: A002
        self.id = id
        self.code = code
        self._kernel = kernel
        self._replies = replies
        self._life = kernel.lives

    def __repr__(self) -> str:
        return f"<Cell {self.status} {self.code!r} {self.outputs}>"

    # How it went

    @property
    def reply(self) -> dict[str, Any]:
        """The content of the kernel's reply; empty until there is one."""
        return self._kernel.replies.get(self.id, {})

    @property
    def done(self) -> bool:
        """Whether the kernel has replied and come to rest again."""
        idle = any(
            m.type == "status" and m.content["execution_state"] == "idle" for m in self.messages
        )
        return idle and (bool(self.reply) or not self._replies)

    @property
    def status(self) -> str:
        """What has become of it: `pending`, `ok`, `error`, or `aborted` by an earlier error."""
        return str(self.reply.get("status", "pending"))

    @property
    def error(self) -> CellError | None:
        """The error it ended with, if it did."""
        if self.status != "error":
            return None
        traceback = plain("\n".join(self.reply.get("traceback", [])))
        return CellError(self.reply["ename"], self.reply["evalue"], traceback)

    # What it shows

    @property
    def messages(self) -> list[Message]:
        """All messages that belong to it, in order."""
        return [m for m in self._kernel.messages if m.parent_id == self.id]

    @property
    def outputs(self) -> list[Output]:
        """What a front end shows under it now, updates by other cells included."""
        screen = _Screen()
        for message in self._kernel.messages:
            if message.type == "update_display_data":
                screen.update(message)
            elif message.parent_id == self.id:
                screen.add(message)
        return screen.outputs

    @property
    def data(self) -> dict[str, Any]:
        """Its value in all formats, by MIME type; empty when the cell has no value."""
        return next((o.data for o in self.outputs if o.kind == "execute_result"), {})

    @property
    def text(self) -> str:
        """Its value as plain text."""
        return str(self.data.get("text/plain", ""))

    @property
    def html(self) -> str:
        """The HTML of all its outputs."""
        return "\n".join(o.html for o in self.outputs if o.html)

    @property
    def displays(self) -> list[Output]:
        """Its outputs that are displays and can be read: no value, no streams, no live widgets."""
        return [o for o in self.outputs if o.kind == "display_data" and "text/plain" in o.data]

    @property
    def stdout(self) -> str:
        """What it printed."""
        return "".join(o.text for o in self.outputs if o.stream == "stdout")

    @property
    def stderr(self) -> str:
        """What it wrote to the standard error, without colours."""
        return plain("".join(o.text for o in self.outputs if o.stream == "stderr"))

    # Waiting

    async def wait(self, timeout: float = 30) -> Self:
        """Wait until it is done, however it ends."""
        await self.until(lambda cell: cell.done, timeout)
        return self

    async def until(self, condition: Callable[[Self], T], timeout: float = 30) -> T:
        """Wait until the condition holds for this cell, looked at after every message."""
        return await self._kernel.until(
            lambda: condition(self), timeout, about=self, life=self._life
        )


class _Screen:
    """The outputs of a cell, kept as a front end keeps them."""

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
