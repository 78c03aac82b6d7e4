"""A Jupyter notebook as a full member of an AMQP microservice fabric.

In a notebook: ``%load_ext fabric_nb``, then ``%fabric_connect``. In a program::

    from fabric_nb import AbstractServiceApi, AmqBrokerConnector
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fabric_nb._version import __version__

if TYPE_CHECKING:
    from fabric_nb.fabric.connector import AmqBrokerConnector
    from fabric_nb.fabric.logs.feed import AmqpHandler
    from fabric_nb.fabric.rpc.access import caller
    from fabric_nb.fabric.rpc.methods import AbstractServiceApi
    from fabric_nb.frames import FrameBuffer

__all__ = [
    "AbstractServiceApi",
    "AmqBrokerConnector",
    "AmqpHandler",
    "FrameBuffer",
    "__version__",
    "caller",
]

# Imported when first used: the broker's process and the command line do without pandas.
_HOMES = {
    "AbstractServiceApi": "fabric_nb.fabric.rpc.methods",
    "AmqBrokerConnector": "fabric_nb.fabric.connector",
    "AmqpHandler": "fabric_nb.fabric.logs.feed",
    "FrameBuffer": "fabric_nb.frames",
    "caller": "fabric_nb.fabric.rpc.access",
    "load_ipython_extension": "fabric_nb.notebook.extension",
    "unload_ipython_extension": "fabric_nb.notebook.extension",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
