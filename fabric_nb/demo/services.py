"""Start and stop of the demo's services, each in a separate process."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from fabric_nb.errors import DemoFailed

DOMAIN = "demo"
READY_TIMEOUT = 30.0
STOP_TIMEOUT = 5.0

SERVICES = {
    "calc (first instance)": "fabric_nb.demo.calc",
    "calc (second instance)": "fabric_nb.demo.calc",
    "monitor": "fabric_nb.demo.monitor",
    "orders": "fabric_nb.demo.orders",
}


@contextmanager
def demo_services(uri: str, domain: str = DOMAIN) -> Iterator[None]:
    """Run two calculators on amqp-fabric, which form a clique, a monitor and a shop on fabric_nb.

    Raises:
        DemoFailed: A service did not start.
    """
    with ExitStack() as stack:
        started = {
            name: stack.enter_context(_service(module, uri, domain))
            for name, module in SERVICES.items()
        }
        for name, process in started.items():
            _await_ready(name, process)
        yield


@contextmanager
def _service(module: str, uri: str, domain: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(  # noqa: S603 - modules of this package
        [sys.executable, "-m", module],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "AMQP_URL": uri, "SERVICE_DOMAIN": domain},
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _await_ready(name: str, process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    output = []
    watchdog = threading.Timer(READY_TIMEOUT, process.kill)
    watchdog.start()
    try:
        for line in process.stdout:
            if line.strip() == "ready":
                return
            output.append(line)
    finally:
        watchdog.cancel()
    raise DemoFailed(f"The service {name} did not start: {''.join(output).strip() or 'no answer'}")
