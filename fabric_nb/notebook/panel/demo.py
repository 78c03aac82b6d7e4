"""Demo services, started from the panel for a notebook on the embedded broker."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys

from fabric_nb.errors import DemoFailed

READY = "Running"
STOP_TIMEOUT = 3.0


class DemoServices:
    """Process of the demo services; it exits with the kernel, even if that is killed."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, domain: str) -> None:
        """Start the demo services in a domain, unless they are running.

        Raises:
            DemoFailed: they could not be started.
        """
        if self._process is not None and self._process.returncode is None:
            return
        # Without AMQP_URL they connect to the embedded broker. They exit at the end of their input.
        env = {name: value for name, value in os.environ.items() if name != "AMQP_URL"}
        process = self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "fabric_nb.demo", "services"),
            *("--domain", domain, "--until-eof"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=env,
        )
        assert process.stdout is not None  # noqa: S101 - a pipe, as asked for
        last = ""
        async for line in process.stdout:
            text = line.decode(errors="replace").strip()
            if text.startswith(READY):
                return
            last = text or last
        if "No module named" in last:
            last += ": install the extra, `pip install 'fabric-nb[demo]'`"
        raise DemoFailed(f"The demo services did not start: {last or 'no answer'}")

    async def stop(self) -> None:
        """Stop the demo services."""
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
