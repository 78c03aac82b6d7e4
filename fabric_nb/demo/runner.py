"""Execution of a function while the demo's broker and services are running."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable

from fabric_nb.demo.broker import demo_broker
from fabric_nb.demo.services import DOMAIN, demo_services
from fabric_nb.errors import DemoFailed

STOP_SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
"""Signals that stop the demo."""


def run_with_demo(work: Callable[[], int], domain: str = DOMAIN) -> int:
    """Start broker and services, run `work`, and stop them.

    Returns:
        The exit code: that of `work`, 1 if the demo cannot be set up, 0 after a signal.
    """
    for number in STOP_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, _on_stop_signal)
    try:
        with demo_broker() as broker:
            print(f"Broker    {broker.shown}", flush=True)
            with demo_services(broker.uri, domain):
                served = "math.calc (2 instances), host.monitor, a shop of four"
                print(f"Services  {served}, in {domain}", flush=True)
                return work()
    except DemoFailed as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


def _on_stop_signal(*_: object) -> None:
    """Stop like Ctrl-C; further signals do not interrupt the stopping of the services."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt
