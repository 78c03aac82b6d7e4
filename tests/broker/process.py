"""Broker processes for tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Self

from fabric_nb.broker.__main__ import main
from tests.support.forks import FORKS

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

ROOT = Path(__file__).parents[2]
USER, PASSWORD = "tester", "p@ss/word"
QUOTED_PASSWORD = "p%40ss%2Fword"
LOGIN = ("--user", USER, "--password", PASSWORD)


class BrokerProcess:
    """`python -m fabric_nb.broker` on a free port, killed at the end of the `with` block.

    Attributes:
        uri: URI with credentials.
        pid: Process id.
    """

    def __init__(self, *options: str) -> None:
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "fabric_nb.broker"),
                *LOGIN,
                *options,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert self._process.stdout
        self.banner = self._process.stdout.readline()
        place = self._process.stdout.readline().removeprefix("listening on ").strip()
        assert place, self._process.communicate()[1]
        self.port = int(place.rpartition(":")[2])
        self.pid = self._process.pid
        self.uri = _uri(place)

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    @property
    def resident_bytes(self) -> int:
        """Resident memory in bytes."""
        fields = Path(f"/proc/{self.pid}/status").read_text().split("\n")
        size = next(line for line in fields if line.startswith("VmRSS:"))
        return int(size.split()[1]) * 1024

    @property
    def cpu_ticks(self) -> int:
        """CPU time in clock ticks."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._process.terminate()

    def stop(self) -> tuple[int, str]:
        """Send SIGTERM, and return the exit code and the text on standard error."""
        self._process.terminate()
        _, errors = self._process.communicate(timeout=60)
        return self._process.returncode, errors

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.is_running:
            self._process.kill()
        self._process.communicate()


class ForkedBroker:
    """Broker for tests of other things: it starts in a tenth of the time of a new interpreter.

    It is forked from a process that has imported it, and killed at the end of the `with` block.

    Attributes:
        uri: URI with credentials.
    """

    def __init__(self) -> None:
        output, own_output = FORKS.Pipe(duplex=False)
        self._process = FORKS.Process(target=_run, args=(own_output,), daemon=True)
        self._process.start()
        own_output.close()
        with output:
            self.uri = _uri(output.recv())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.kill()
        self._process.join()
        self._process.close()


class _Sender:
    """Standard output of a forked broker: sends its address."""

    def __init__(self, output: Connection) -> None:
        self._output = output

    def write(self, text: str) -> None:
        self._output.send(text.rpartition("listening on ")[2].strip())

    def flush(self) -> None:
        pass


def _run(output: Connection) -> None:
    sys.stdout = _Sender(output)  # type: ignore[assignment]
    main([*LOGIN])


def _uri(place: str) -> str:
    return f"amqp://{USER}:{QUOTED_PASSWORD}@{place}/"
