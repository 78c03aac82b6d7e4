"""Starts and stops the demo's services, each a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from fabric_nb.errors import DemoFailed

DOMAIN = "demo"
READY_WITHIN = 30.0
STOP_WITHIN = 5.0

SERVICES = {
    "calc (first instance)": "fabric_nb.demo.calc",
    "calc (second instance)": "fabric_nb.demo.calc",
    "monitor": "fabric_nb.demo.monitor",
}


@contextmanager
def demo_services(uri: str, domain: str = DOMAIN) -> Iterator[None]:
    """Two calculators on amqp-fabric, which form a clique, and a monitor on fabric_nb.

    Raises:
        DemoFailed: a service did not come up.
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
    process = subprocess.Popen(  # noqa: S603 - our own modules
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
            process.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _await_ready(name: str, process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None  # noqa: S101 - a pipe, as asked for
    said = []
    watchdog = threading.Timer(READY_WITHIN, process.kill)
    watchdog.start()
    try:
        for line in process.stdout:
            if line.strip() == "ready":
                return
            said.append(line)
    finally:
        watchdog.cancel()
    raise DemoFailed(f"The service {name} did not start: {''.join(said).strip() or 'no answer'}")
