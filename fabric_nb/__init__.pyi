"""Public names, which `__init__.py` imports when they are used."""

from ._version import __version__ as __version__
from .errors import (
    AmbiguousService as AmbiguousService,
)
from .errors import (
    BadArgument as BadArgument,
)
from .errors import (
    BrokerFailed as BrokerFailed,
)
from .errors import (
    BrokerRefused as BrokerRefused,
)
from .errors import (
    BrokerUnavailable as BrokerUnavailable,
)
from .errors import (
    CallCancelled as CallCancelled,
)
from .errors import (
    CallError as CallError,
)
from .errors import (
    CallTimeout as CallTimeout,
)
from .errors import (
    ConnectionLost as ConnectionLost,
)
from .errors import (
    DemoFailed as DemoFailed,
)
from .errors import (
    FabricError as FabricError,
)
from .errors import (
    Hop as Hop,
)
from .errors import (
    InstanceNotFound as InstanceNotFound,
)
from .errors import (
    InvalidArgument as InvalidArgument,
)
from .errors import (
    InvalidArgumentType as InvalidArgumentType,
)
from .errors import (
    InvalidName as InvalidName,
)
from .errors import (
    InvalidTimeout as InvalidTimeout,
)
from .errors import (
    InvalidUri as InvalidUri,
)
from .errors import (
    LoginRefused as LoginRefused,
)
from .errors import (
    LoopBlocked as LoopBlocked,
)
from .errors import (
    MalformedMessage as MalformedMessage,
)
from .errors import (
    MapStopped as MapStopped,
)
from .errors import (
    MessageTooLarge as MessageTooLarge,
)
from .errors import (
    MethodNotFound as MethodNotFound,
)
from .errors import (
    NoSubscriber as NoSubscriber,
)
from .errors import (
    NotAcknowledgedInTime as NotAcknowledgedInTime,
)
from .errors import (
    NotConnected as NotConnected,
)
from .errors import (
    NotInNotebook as NotInNotebook,
)
from .errors import (
    NotKept as NotKept,
)
from .errors import (
    NotListening as NotListening,
)
from .errors import (
    NotRerun as NotRerun,
)
from .errors import (
    NotSerializable as NotSerializable,
)
from .errors import (
    NotServed as NotServed,
)
from .errors import (
    NotThere as NotThere,
)
from .errors import (
    RecordingError as RecordingError,
)
from .errors import (
    RemoteError as RemoteError,
)
from .errors import (
    ReportError as ReportError,
)
from .errors import (
    ServiceLost as ServiceLost,
)
from .errors import (
    TlsFailed as TlsFailed,
)
from .errors import (
    TransientQueuesRefused as TransientQueuesRefused,
)
from .errors import (
    UnknownLevel as UnknownLevel,
)
from .errors import (
    UnknownService as UnknownService,
)
from .errors import (
    UnusableHeader as UnusableHeader,
)
from .errors import (
    UnusableLibrary as UnusableLibrary,
)
from .errors import (
    UnusableQueue as UnusableQueue,
)
from .errors import (
    VersionMismatch as VersionMismatch,
)
from .errors import (
    VirtualHostRefused as VirtualHostRefused,
)
from .errors import (
    WaitTimeout as WaitTimeout,
)
from .errors import (
    WrongLoop as WrongLoop,
)
from .fabric.connector import AmqBrokerConnector as AmqBrokerConnector
from .fabric.data.recording import (
    Recording as Recording,
)
from .fabric.data.recording import (
    Replay as Replay,
)
from .fabric.data.stream import Stream as Stream
from .fabric.data.stream_options import StreamOptions as StreamOptions
from .fabric.discovery.registry import Registry as Registry
from .fabric.discovery.services import (
    Service as Service,
)
from .fabric.discovery.services import (
    ServiceState as ServiceState,
)
from .fabric.doctor.findings import (
    Diagnosis as Diagnosis,
)
from .fabric.doctor.findings import (
    Finding as Finding,
)
from .fabric.doctor.findings import (
    Severity as Severity,
)
from .fabric.logs.feed import LogFeed as LogFeed
from .fabric.logs.feeds import Logs as Logs
from .fabric.logs.handler import AmqpHandler as AmqpHandler
from .fabric.rpc.access import (
    CallerIdentity as CallerIdentity,
)
from .fabric.rpc.bench_options import BenchOptions as BenchOptions
from .fabric.rpc.bench_result import BenchResult as BenchResult
from .fabric.rpc.bench_result import ErrorCount as ErrorCount
from .fabric.rpc.bench_result import InstanceCalls as InstanceCalls
from .fabric.rpc.bench_result import SecondOfCalls as SecondOfCalls
from .fabric.rpc.call_handle import CallHandle as CallHandle
from .fabric.rpc.call_report import CallReport as CallReport
from .fabric.rpc.current_call import caller as caller
from .fabric.rpc.current_call import progress as progress
from .fabric.rpc.current_call import sleep as sleep
from .fabric.rpc.current_call import track as track
from .fabric.rpc.history import (
    CallLog as CallLog,
)
from .fabric.rpc.history import (
    CallRecord as CallRecord,
)
from .fabric.rpc.history import (
    FailedCall as FailedCall,
)
from .fabric.rpc.instance_statistics import Edge as Edge
from .fabric.rpc.instance_statistics import MethodStatistics as MethodStatistics
from .fabric.rpc.latency_histogram import Bin as Bin
from .fabric.rpc.latency_histogram import LatencyHistogram as LatencyHistogram
from .fabric.rpc.map_calls import MapOptions as MapOptions
from .fabric.rpc.map_progress import MapProgress as MapProgress
from .fabric.rpc.map_results import FailedRow as FailedRow
from .fabric.rpc.mapping import MapHandle as MapHandle
from .fabric.rpc.methods import AbstractServiceApi as AbstractServiceApi
from .fabric.rpc.proxy import (
    RemoteMethod as RemoteMethod,
)
from .fabric.rpc.proxy import (
    ServiceProxy as ServiceProxy,
)
from .fabric.rpc.serve_options import ServeOptions as ServeOptions
from .fabric.rpc.server import Server as Server
from .fabric.rpc.traced_call import TracedCall as TracedCall
from .fabric.timeline.events import TimelineEvent as TimelineEvent
from .fabric.timeline.timeline import Timeline as Timeline
from .fabric.tracing.traces import Trace as Trace
from .fabric.tracing.traces import Traces as Traces
from .fabric.wire.reports import OutputLine as OutputLine
from .fabric.wire.reports import Progress as Progress
from .fabric.wire.spans import Span as Span
from .frames.buffer import FrameBuffer as FrameBuffer
from .notebook.extension import (
    load_ipython_extension as load_ipython_extension,
)
from .notebook.extension import (
    unload_ipython_extension as unload_ipython_extension,
)
from .notebook.plot.chart import Chart as Chart
