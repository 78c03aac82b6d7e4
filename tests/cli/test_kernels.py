"""The kernel of `fabric-nb serve`."""

from __future__ import annotations

import os
from ast import literal_eval
from pathlib import Path

import pytest

from fabric_nb.cli.kernels import start_kernel


@pytest.mark.skipif(os.name != "posix", reason="there are no Unix sockets")
async def test_a_kernel_takes_no_tcp_port(tmp_path: Path) -> None:
    """A kernel is reached by Unix sockets, so another program cannot take its ports first."""
    async with start_kernel("python3", tmp_path, os.environ) as kernel:
        await kernel.run([])
        await kernel.execute("from ipykernel.connect import get_connection_info", timeout=60)
        shown = await kernel.evaluate("get_connection_info(unpack=True)", timeout=60)
    assert shown is not None
    connection = literal_eval(shown)
    assert connection["transport"] == "ipc"
    sockets = Path(connection["ip"]).parent
    assert not sockets.exists()
