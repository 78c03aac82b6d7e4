"""Number of received bytes that wake the loop, which is raised while a confirm is awaited."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys

_ABOVE_CONFIRM = 22
"""One more than the bytes of ``basic.ack`` (see `frames.ack`), with which the broker confirms."""


class ReadThreshold:
    """Threshold from which the kernel reports received bytes (``SO_RCVLOWAT``, socket(7)).

    The broker confirms a request a moment before its reply arrives. A wake-up of the loop for the
    confirm alone takes a tenth of a call's time, and nothing waits for it. With a threshold above
    it, the confirm is read together with whatever comes next.

    It only ever delays a confirm, or a frame as short in the moment before the confirm, because the
    next byte after a confirm exceeds the threshold. The end of the connection is always reported.

    Linux applies a change to bytes that were received before. Elsewhere, and with TLS, whose
    records have another size, the threshold stays as it is.

    Args:
        transport: transport of the connection.
    """

    def __init__(self, transport: asyncio.BaseTransport) -> None:
        sock = transport.get_extra_info("socket")
        plain = transport.get_extra_info("sslcontext") is None
        self._socket: socket.socket | None = sock if sys.platform == "linux" and plain else None
        self._raised = False

    def raise_above_confirm(self) -> None:
        """Raise it until `reset`, which follows when anything is received or else is sent."""
        if self._socket is not None and not self._raised:
            self._raised = True
            self._set(_ABOVE_CONFIRM)

    def reset(self) -> None:
        """Report every byte again."""
        if self._raised:
            self._raised = False
            self._set(1)

    def _set(self, size: int) -> None:
        assert self._socket is not None  # noqa: S101 - only then it is raised
        with contextlib.suppress(OSError):  # it is closed
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)
