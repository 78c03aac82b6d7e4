"""Libraries under measurement: one module each, with the same functions.

    serve(uri, service, prefetch)   a context in which `payloads.echo` is served
    call(uri, service)              a context that yields `echo`, which makes one call
    map_rows(uri, service)          a context that yields `results_of(rows, in_flight)`; of
                                    fabric_nb only
    consume(uri, source)              a context that yields `receive(count)`, which subscribes and
                                    returns that many rows, as a list or a DataFrame

They are asynchronous context managers; nameko's are synchronous, and its `call` yields a function
that makes all calls of a measurement, because it blocks. A peer is used as in its documentation,
with optimisations in its public interface. Peers in other languages are programs; see `native`.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType

from benchmarks.peers import native

PACKAGES = {
    "fabric_nb": "fabric_nb",
    "aiormq": "aiormq",
    "amqp_fabric": "amqp_fabric",
    "aio_pika": "aio_pika",
    "faststream": "faststream",
    "nameko": "nameko",
}
"""Package of each peer, in the order of measurement."""


def missing(peer: str) -> str:
    """Return what is missing to run the peer; empty if nothing is."""
    if peer in native.PROGRAMS:
        found, needed = native.build(peer) is not None, native.PROGRAMS[peer].packages
    else:
        found, needed = installed(peer), PACKAGES[peer]
    return "" if found else f"{peer} needs {needed}"


def command(peer: str) -> list[str]:
    """Return the command that runs a worker of the peer."""
    if peer in native.PROGRAMS:
        return [str(native.build(peer))]
    return [sys.executable, "-m", "benchmarks.worker"]


def installed(peer: str) -> bool:
    """Return whether the package of a peer in Python is installed."""
    return importlib.util.find_spec(PACKAGES[peer]) is not None


def load(peer: str) -> ModuleType:
    """Import and return the peer's module; called only in its worker."""
    return importlib.import_module(f"{__name__}.{peer}")
