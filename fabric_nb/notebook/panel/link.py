"""The two comms between the panel and the kernel.

`TARGET` only pushes, from the thread, and is one for all panels that look at this kernel. No
message tells that it is there, as other front ends would complain about it: a panel
asks for the kernel's comms. `REQUESTS` is opened by each panel and answered only in its own
handler: ipykernel sends what comes in on a comm to the subshell that sent last on it, and a
push would bring requests behind the running cell.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import comm
from IPython.core.interactiveshell import InteractiveShell

from fabric_nb._version import __version__
from fabric_nb.errors import InvalidArgument

if TYPE_CHECKING:
    from fabric_nb.notebook.panel.watcher import Notebook, Watcher

TARGET = "fabric_nb.panel"
REQUESTS = "fabric_nb.panel.requests"
PROTOCOL = 2


class Panel:
    """What a panel in JupyterLab talks to; does nothing, and imports nothing, until one does.

    Args:
        shell: the notebook's IPython; outside a kernel there is no panel.
        notebook: tells what to show; None as long as there is nothing.
        loop: the notebook's.
    """

    def __init__(
        self,
        shell: InteractiveShell,
        notebook: Callable[[], Notebook | None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._in_kernel = getattr(shell, "kernel", None) is not None
        self._notebook = notebook
        self._loop = loop
        self._guard = threading.Lock()  # panels may ask in subshells, each a thread of its own
        self._made_watcher: Watcher | None = None
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
        if self._made_watcher is not None:
            self._made_watcher.close()
        self._pushing.close()
        self._pushing = None

    def _push(self, message: Mapping[str, Any]) -> None:
        if self._pushing is not None:
            self._pushing.send(dict(message))

    def _on_open(self, requests: Any, _: Mapping[str, Any]) -> None:
        requests.on_msg(lambda message: self._on_request(requests, message))
        requests.send({"protocol": PROTOCOL, "version": __version__})

    def _on_request(self, requests: Any, message: Mapping[str, Any]) -> None:
        from fabric_nb.notebook.panel.requests import take, text

        data = message.get("content", {}).get("data", {})
        request = text(data, "id", 64)
        try:
            take(self._watcher(), request, data)
        except InvalidArgument as problem:
            requests.send({"id": request, "error": str(problem)})
        else:
            requests.send({"id": request})

    def _watcher(self) -> Watcher:
        from fabric_nb.notebook.panel.watcher import Watcher

        with self._guard:
            if self._made_watcher is None:
                self._made_watcher = Watcher(self._notebook, self._loop, self._push)
            return self._made_watcher
