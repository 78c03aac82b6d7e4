"""The libraries that are measured: one module each, with the same functions.

    serve(uri, service, prefetch)   a context in which `payloads.echo` is served
    call(uri, service)              a context that yields `echo`, which makes one call
    consume(uri, feed)              a context that yields `take(count)`, which subscribes and
                                    returns that many rows, as a list or a DataFrame

They are asynchronous context managers; nameko's are ordinary ones, and its `call` yields a function
that makes the calls of a whole window, because it blocks. A peer does what its own documentation
shows, with what speeds it up without leaving its public interface.
"""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

PACKAGES = {
    "fabric_nb": "fabric_nb",
    "aiormq": "aiormq",
    "amqp_fabric": "amqp_fabric",
    "aio_pika": "aio_pika",
    "faststream": "faststream",
    "nameko": "nameko",
}
"""What each peer needs, in the order in which they take turns."""


def installed(peer: str) -> bool:
    """Whether what the peer needs is there."""
    return importlib.util.find_spec(PACKAGES[peer]) is not None


def load(peer: str) -> ModuleType:
    """The peer's module; only the worker that runs it imports it."""
    return importlib.import_module(f"{__name__}.{peer}")
