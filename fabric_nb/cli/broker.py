"""``fabric-nb broker``: the embedded development broker."""

from __future__ import annotations

import argparse
import sys
from typing import TextIO

from fabric_nb.broker.launch import BrokerStartError, find_broker, stop_broker
from fabric_nb.cli.output import BROKEN_PIPE, ReaderGone, print_error, print_text


def run(options: argparse.Namespace) -> int:
    """Run, find or stop the broker; return the exit code."""
    try:
        match options.action:
            case "uri":
                found = find_broker()
                text = found.uri if found else "No embedded broker runs."
                print_text(text, file=_output(success=found is not None))
                return 0 if found else 1
            case "stop":
                stopped = stop_broker()
                text = "Stopped." if stopped else "No embedded broker runs."
                print_text(text, file=_output(success=stopped))
                return 0 if stopped else 1
    except ReaderGone:
        return BROKEN_PIPE
    except BrokerStartError as error:
        print_error(error)
        return 1
    from fabric_nb.broker import __main__ as broker

    broker.run(options)
    return 0


def _output(*, success: bool) -> TextIO:
    return sys.stdout if success else sys.stderr
