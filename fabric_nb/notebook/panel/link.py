"""The two comms between the panel and the kernel.

`TARGET` only pushes, from the thread, and is one for all panels that look at this kernel. No
message tells that it is there, as other front ends would complain about it: a panel
asks for the kernel's comms. `REQUESTS` is opened by each panel and answered only in its own
handler: ipykernel sends what comes in on a comm to the subshell that sent last on it, and a
push would bring requests behind the running cell.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import comm
from IPython.core.interactiveshell import InteractiveShell

from fabric_nb._version import __version__
from fabric_nb.fabric.logs import LEVELS
from fabric_nb.notebook.panel.watcher import Notebook, Watcher
from fabric_nb.notebook.views.methods import NoValue, read_arguments

TARGET = "fabric_nb.panel"
REQUESTS = "fabric_nb.panel.requests"
PROTOCOL = 1
MAX_ARGUMENTS = 50


class BadRequest(ValueError):
    """A request that is not as the panel writes them."""


class Panel:
    """What a panel in JupyterLab talks to; does nothing until one does.

    Args:
        shell: the notebook's IPython; outside a kernel there is no panel.
        notebook: what to show.
        loop: the notebook's.
    """

    def __init__(
        self, shell: InteractiveShell, notebook: Notebook, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._in_kernel = getattr(shell, "kernel", None) is not None
        self._watcher = Watcher(notebook, loop, self._push)
        self._pushing: Any = None

    def open(self) -> None:
        """Let panels find this kernel."""
        if not self._in_kernel:
            return
        manager = comm.get_comm_manager()
        manager.register_target(REQUESTS, self._on_open)
        self._pushing = comm.create_comm(target_name=TARGET, primary=False)
        manager.register_comm(self._pushing)

    def close(self) -> None:
        """Be found no more; what was started is ended."""
        if self._pushing is None:
            return
        manager = comm.get_comm_manager()
        manager.unregister_target(REQUESTS, self._on_open)
        self._watcher.close()
        self._pushing.close()
        self._pushing = None

    def _push(self, message: Mapping[str, Any]) -> None:
        if self._pushing is not None:
            self._pushing.send(dict(message))

    def _on_open(self, requests: Any, _: Mapping[str, Any]) -> None:
        requests.on_msg(lambda message: self._on_request(requests, message))
        requests.send({"protocol": PROTOCOL, "version": __version__})

    def _on_request(self, requests: Any, message: Mapping[str, Any]) -> None:
        data = message.get("content", {}).get("data", {})
        request = _text(data, "id", 64)
        try:
            self._take(request, data)
        except BadRequest as problem:
            requests.send({"id": request, "error": str(problem)})
        else:
            requests.send({"id": request})

    def _take(self, request: str, data: Mapping[str, Any]) -> None:
        watcher = self._watcher
        match data.get("do"):
            case "tell":
                watcher.tell_all()
            case "call":
                watcher.call(request, _call(data), _arguments(data))
            case "describe":
                watcher.describe(request, _call(data))
            case "logs":
                watcher.hear_logs(request, _level(data))
            case "pause":
                watcher.pause(request, _text(data, "stream", 40), data.get("paused") is True)
            case "demo":
                watcher.start_demo(request)
            case _:
                raise BadRequest("fabric_nb in this kernel is too old or too new for this panel.")


def _text(data: Mapping[str, Any], name: str, longest: int) -> str:
    value = data.get(name, "")
    if not isinstance(value, str) or len(value) > longest:
        raise BadRequest(f"{name} is not a text of up to {longest} characters.")
    return value


def _call(data: Mapping[str, Any]) -> str:
    return _text(data, "call", 400)


def _level(data: Mapping[str, Any]) -> str | None:
    level = data.get("level")
    if level is not None and level not in LEVELS:
        raise BadRequest("There is no such log level.")
    return level


def _arguments(data: Mapping[str, Any]) -> dict[str, Any]:
    written = data.get("arguments")
    if not isinstance(written, dict) or len(written) > MAX_ARGUMENTS:
        raise BadRequest(f"A call has up to {MAX_ARGUMENTS} arguments.")
    try:
        return read_arguments(written)
    except NoValue as problem:
        raise BadRequest(str(problem)) from None
