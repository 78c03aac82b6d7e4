"""The form under a cell. Neither the widget's state nor its static copy has what the form shows."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fabric_nb.errors import FabricError
from fabric_nb.fabric.core.tasks import failures
from fabric_nb.notebook.connect.finder import BrokerFinder
from fabric_nb.notebook.live.code import joined_script
from fabric_nb.notebook.live.widget import LiveWidget
from fabric_nb.notebook.pages import TOKENS, plain
from fabric_nb.notebook.views.live import Output

_HERE = Path(__file__).parent


class ConnectWidget(LiveWidget):
    """Form that connects, by a cell that it writes.

    Args:
        finder: answers its requests.
    """

    script = joined_script(_HERE / "widget.js")
    style_sheet = TOKENS + (_HERE / "form.css").read_text("utf-8")

    def __init__(self, finder: BrokerFinder) -> None:
        self._finder = finder
        self._answering: set[asyncio.Task[None]] = set()
        super().__init__()

    @property
    def changes(self) -> int:
        """Number of changes: none, because the form requests what it shows."""
        return 0

    def encoded(self) -> str:
        """Return an empty object, because a saved notebook must not list brokers."""
        return "{}"

    def forms(self) -> dict[str, str]:
        """Return an empty text, because a form without a kernel has no use."""
        return {"text/html": "", "text/plain": ""}

    def send_changes(self) -> None:
        """Do nothing: the form requests what it shows."""

    def on_message(self, content: dict[str, Any]) -> None:
        """Answer a request of the form."""
        match content:
            case {"type": "hello", "hides": bool(hides)}:
                self.attach(hides=hides)
            case {"type": "ask", "request": int(request), "name": str(name), "values": dict(texts)}:
                task = asyncio.create_task(self._answer(request, name, texts), name="connect form")
                self._answering.add(task)
                task.add_done_callback(self._answering.discard)

    async def _answer(self, request: int, name: str, values: dict[str, Any]) -> None:
        answer: dict[str, Any] = {}
        error = ""
        try:
            answer = await self._finder.answer(name, values)
        except FabricError as refused:
            error = plain(str(refused), 1000)
        except Exception as failure:  # noqa: BLE001 - shown in the form
            failures.add("the form that connects", failure)
            error = f"{type(failure).__name__}: %fabric_doctor shows details."
        if self.live:
            self.post({"type": "answer", "request": request, "answer": answer, "error": error})


class LiveConnectForm(Output):
    """The form on display."""

    def __init__(self, finder: BrokerFinder) -> None:
        super().__init__(ConnectWidget(finder).showing)
        self._showing.show()

    @property
    def widgets(self) -> Sequence[LiveWidget]:
        """Return none, because a report has no use for a form."""
        return ()

    def refresh(self) -> None:
        """Do nothing: the form requests what it shows."""
