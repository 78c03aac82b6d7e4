"""``fabric-nb broker``: the embedded development broker."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from fabric_nb.broker import __main__ as broker
from fabric_nb.broker.launch import BrokerStartError, find_broker, stop_broker
from fabric_nb.cli.output import complain, say


def run(options: argparse.Namespace) -> int:
    """Run, find or stop the broker; returns the exit code."""
    try:
        match options.action:
            case "uri":
                found = find_broker()
                say(found.uri if found else "No embedded broker runs.", file=_output(found))
                return 0 if found else 1
            case "stop":
                stopped = stop_broker()
                say("Stopped." if stopped else "No embedded broker runs.", file=_output(stopped))
                return 0 if stopped else 1
    except BrokerStartError as error:
        complain(error)
        return 1
    broker.run(options)
    return 0


def _output(found: object) -> Any:
    return sys.stdout if found else sys.stderr
