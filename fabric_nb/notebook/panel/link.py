"""The two comms between the panel and the kernel.

`TARGET` is for pushes from the companion thread, and shared by all panels of this kernel. It is
opened without a message, which other front ends would report as an error; a panel requests the
kernel's list of comms. `REQUESTS` is opened by each panel, and replies are sent only in its
handler: ipykernel dispatches a message on a comm to the subshell that last sent on it, so that a
push would make requests wait for the running cell.
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
from fabric_nb.notebook.connect import log_filter

if TYPE_CHECKING:
    from fabric_nb.notebook.connect.finder import BrokerFinder
    from fabric_nb.notebook.panel.poller import Connections, Connector, Streams
    from fabric_nb.notebook.panel.watcher import Watcher

TARGET = "fabric_nb.panel"
REQUESTS = "fabric_nb.panel.requests"
PROTOCOL = 5


class Panel:
    """Kernel side of the panel; does nothing, and imports nothing, until a panel is opened.

    Args:
        shell: IPython shell; outside a kernel there is no panel.
        connector: returns the connector of the notebook; None if it is not connected.
        streams: returns the streams of the notebook; called while it is connected.
        connections: returns the open connections of the notebook.
        finder: returns what answers the form that connects.
        loop: the notebook's event loop.
    """

    def __init__(
        self,
        shell: InteractiveShell,
        connector: Connector,
        streams: Streams,
        connections: Connections,
        finder: Callable[[], BrokerFinder],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._in_kernel = getattr(shell, "kernel", None) is not None
        self._connector = connector
        self._streams = streams
        self._connections = connections
        self._finder = finder
        self._loop = loop
        self._lock = threading.Lock()  # requests may come in several subshells, which are threads
        self._watcher: Watcher | None = None
        self._push_comm: Any = None

    def open(self) -> None:
        """Open the comms, so that panels find this kernel."""
        if not self._in_kernel:
            return
        log_filter.hide_passwords()
        manager = comm.get_comm_manager()
        manager.register_target(REQUESTS, self._on_open)
        self._push_comm = comm.create_comm(target_name=TARGET, primary=False)
        manager.register_comm(self._push_comm)

    def close(self) -> None:
        """Close the comms and stop the watcher."""
        if self._push_comm is None:
            return
        manager = comm.get_comm_manager()
        log_filter.remove_filter()
        manager.unregister_target(REQUESTS, self._on_open)
        if self._watcher is not None:
            self._watcher.close()
        self._push_comm.close()
        self._push_comm = None

    def _push(self, message: Mapping[str, Any]) -> None:
        if self._push_comm is not None:
            self._push_comm.send(dict(message))

    def _on_open(self, requests: Any, _: Mapping[str, Any]) -> None:
        requests.on_msg(lambda message: self._on_request(requests, message))
        requests.send({"protocol": PROTOCOL, "version": __version__})

    def _on_request(self, requests: Any, message: Mapping[str, Any]) -> None:
        from fabric_nb.notebook.panel.requests import dispatch, text

        data = message.get("content", {}).get("data", {})
        request = text(data, "id", 64)
        try:
            dispatch(self._open_watcher(), request, data)
        except InvalidArgument as error:
            requests.send({"id": request, "error": str(error)})
        else:
            requests.send({"id": request})

    def _open_watcher(self) -> Watcher:
        from fabric_nb.notebook.panel.watcher import Watcher

        with self._lock:
            if self._watcher is None:
                self._watcher = Watcher(
                    *(self._connector, self._streams, self._connections, self._finder),
                    self._loop,
                    self._push,
                )
            return self._watcher
