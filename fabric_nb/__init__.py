"""A Jupyter notebook as a full member of an AMQP microservice fabric.

In a notebook: ``%load_ext fabric_nb``, then ``%fabric_connect``. In a program::

    from fabric_nb import AbstractServiceApi, AmqBrokerConnector
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fabric_nb._version import __version__

if TYPE_CHECKING:
    from fabric_nb.errors import (
        AmbiguousService,
        BadArgument,
        BrokerRefused,
        BrokerUnavailable,
        CallError,
        CallTimeout,
        ConnectionLost,
        DemoFailed,
        FabricError,
        Hop,
        InvalidArgument,
        InvalidArgumentType,
        InvalidName,
        InvalidTimeout,
        InvalidUri,
        LoginRefused,
        LoopBlocked,
        MalformedMessage,
        MessageTooLarge,
        MethodNotFound,
        NotAcknowledgedInTime,
        NotConnected,
        NotInNotebook,
        NotListening,
        NotRerun,
        NotSerializable,
        NotServed,
        NotThere,
        RecordingError,
        RemoteError,
        ServiceLost,
        TlsFailed,
        TransientQueuesRefused,
        UnknownLevel,
        UnknownService,
        UnusableHeader,
        UnusableQueue,
        VersionMismatch,
        VirtualHostRefused,
        WaitTimeout,
        WrongLoop,
    )
    from fabric_nb.fabric.connector import AmqBrokerConnector
    from fabric_nb.fabric.data.recording import Recording, Replay
    from fabric_nb.fabric.data.stream import Stream
    from fabric_nb.fabric.data.stream_options import StreamOptions
    from fabric_nb.fabric.discovery.registry import Registry
    from fabric_nb.fabric.discovery.services import Service, ServiceState
    from fabric_nb.fabric.doctor import Diagnosis, Finding, Severity
    from fabric_nb.fabric.logs.feed import LogFeed
    from fabric_nb.fabric.logs.feeds import Logs
    from fabric_nb.fabric.logs.handler import AmqpHandler
    from fabric_nb.fabric.rpc.access import CallerIdentity, caller
    from fabric_nb.fabric.rpc.history import CallLog, CallRecord, FailedCall
    from fabric_nb.fabric.rpc.methods import AbstractServiceApi
    from fabric_nb.fabric.rpc.proxy import RemoteMethod, ServiceProxy
    from fabric_nb.fabric.rpc.serve_options import ServeOptions
    from fabric_nb.fabric.rpc.server import Server
    from fabric_nb.frames import FrameBuffer
    from fabric_nb.notebook.calling import CallHandle
    from fabric_nb.notebook.plot.chart import Chart

__all__ = [
    "AbstractServiceApi",
    "AmbiguousService",
    "AmqBrokerConnector",
    "AmqpHandler",
    "BadArgument",
    "BrokerRefused",
    "BrokerUnavailable",
    "CallError",
    "CallHandle",
    "CallLog",
    "CallRecord",
    "CallTimeout",
    "CallerIdentity",
    "Chart",
    "ConnectionLost",
    "DemoFailed",
    "Diagnosis",
    "FabricError",
    "FailedCall",
    "Finding",
    "FrameBuffer",
    "Hop",
    "InvalidArgument",
    "InvalidArgumentType",
    "InvalidName",
    "InvalidTimeout",
    "InvalidUri",
    "LogFeed",
    "LoginRefused",
    "Logs",
    "LoopBlocked",
    "MalformedMessage",
    "MessageTooLarge",
    "MethodNotFound",
    "NotAcknowledgedInTime",
    "NotConnected",
    "NotInNotebook",
    "NotListening",
    "NotRerun",
    "NotSerializable",
    "NotServed",
    "NotThere",
    "Recording",
    "RecordingError",
    "Registry",
    "RemoteError",
    "RemoteMethod",
    "Replay",
    "ServeOptions",
    "Server",
    "Service",
    "ServiceLost",
    "ServiceProxy",
    "ServiceState",
    "Severity",
    "Stream",
    "StreamOptions",
    "TlsFailed",
    "TransientQueuesRefused",
    "UnknownLevel",
    "UnknownService",
    "UnusableHeader",
    "UnusableQueue",
    "VersionMismatch",
    "VirtualHostRefused",
    "WaitTimeout",
    "WrongLoop",
    "__version__",
    "caller",
]

# Imported when first used: the broker's process and the command line do without pandas.
_NAMES = {
    "fabric_nb.errors": [
        "AmbiguousService",
        "BadArgument",
        "BrokerRefused",
        "BrokerUnavailable",
        "CallError",
        "CallTimeout",
        "ConnectionLost",
        "DemoFailed",
        "FabricError",
        "Hop",
        "InvalidArgument",
        "InvalidArgumentType",
        "InvalidName",
        "InvalidTimeout",
        "InvalidUri",
        "LoginRefused",
        "LoopBlocked",
        "MalformedMessage",
        "MessageTooLarge",
        "MethodNotFound",
        "NotAcknowledgedInTime",
        "NotConnected",
        "NotInNotebook",
        "NotListening",
        "NotRerun",
        "NotSerializable",
        "NotServed",
        "NotThere",
        "RecordingError",
        "RemoteError",
        "ServiceLost",
        "TlsFailed",
        "TransientQueuesRefused",
        "UnknownLevel",
        "UnknownService",
        "UnusableHeader",
        "UnusableQueue",
        "VersionMismatch",
        "VirtualHostRefused",
        "WaitTimeout",
        "WrongLoop",
    ],
    "fabric_nb.fabric.connector": ["AmqBrokerConnector"],
    "fabric_nb.fabric.data.recording": ["Recording", "Replay"],
    "fabric_nb.fabric.data.stream": ["Stream"],
    "fabric_nb.fabric.data.stream_options": ["StreamOptions"],
    "fabric_nb.fabric.discovery.registry": ["Registry"],
    "fabric_nb.fabric.discovery.services": ["Service", "ServiceState"],
    "fabric_nb.fabric.doctor": ["Diagnosis", "Finding", "Severity"],
    "fabric_nb.fabric.logs.feed": ["LogFeed"],
    "fabric_nb.fabric.logs.feeds": ["Logs"],
    "fabric_nb.fabric.logs.handler": ["AmqpHandler"],
    "fabric_nb.fabric.rpc.access": ["CallerIdentity", "caller"],
    "fabric_nb.fabric.rpc.history": ["CallLog", "CallRecord", "FailedCall"],
    "fabric_nb.fabric.rpc.methods": ["AbstractServiceApi"],
    "fabric_nb.fabric.rpc.proxy": ["RemoteMethod", "ServiceProxy"],
    "fabric_nb.fabric.rpc.serve_options": ["ServeOptions"],
    "fabric_nb.fabric.rpc.server": ["Server"],
    "fabric_nb.frames": ["FrameBuffer"],
    "fabric_nb.notebook.calling": ["CallHandle"],
    "fabric_nb.notebook.extension": ["load_ipython_extension", "unload_ipython_extension"],
    "fabric_nb.notebook.plot.chart": ["Chart"],
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
