"""Work beside the demo's broker and services."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable

from fabric_nb.demo.broker import demo_broker
from fabric_nb.demo.services import DOMAIN, demo_services
from fabric_nb.errors import DemoFailed

ENDING = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
"""The signals that end the demo."""


def run_beside_demo(work: Callable[[], int], domain: str = DOMAIN) -> int:
    """Start broker and services, run `work`, and stop them.

    Returns:
        The exit code: that of `work`, 1 if the demo cannot be set up, 0 if a signal ended it.
    """
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, _end)
    try:
        with demo_broker() as broker:
            print(f"Broker    {broker.shown}", flush=True)
            with demo_services(broker.uri, domain):
                print(f"Services  math.calc (2 instances), host.monitor, in {domain}", flush=True)
                return work()
    except DemoFailed as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


def _end(*_: object) -> None:
    """Stop as Ctrl-C does; a second signal does not interrupt the stopping of the services."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt
