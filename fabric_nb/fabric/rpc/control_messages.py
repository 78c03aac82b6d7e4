"""Messages about the calls of one server: pings, cancellations, credits and probes."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping
from functools import partial

from fabric_nb.errors import ConnectionLost, FabricError, MalformedMessage
from fabric_nb.fabric.amqp.frames import read_exchange
from fabric_nb.fabric.amqp.message import Delivery
from fabric_nb.fabric.amqp.rejected import RejectedMessages
from fabric_nb.fabric.amqp.translation import Unroutable
from fabric_nb.fabric.rpc.access import STRAY, AccessControl
from fabric_nb.fabric.rpc.control_channel import ControlChannel
from fabric_nb.fabric.rpc.instance_calls import InstanceCalls
from fabric_nb.fabric.rpc.item_streams import Outgoing
from fabric_nb.fabric.rpc.replies import Replies
from fabric_nb.fabric.rpc.running_calls import RunningCall, RunningCalls
from fabric_nb.fabric.rpc.served_methods import ServedMethod
from fabric_nb.fabric.wire.calls import CALL
from fabric_nb.fabric.wire.instances import PING, InstanceStatus, pong_message
from fabric_nb.fabric.wire.names import ServiceName
from fabric_nb.fabric.wire.running_calls import (
    CANCEL,
    EXPIRE,
    PROBE,
    cancelled_message,
    probe_message,
)

log = logging.getLogger(__name__)


class ControlMessages:
    """Receives the messages of callers about their calls, and probes the callers.

    Args:
        name: address of the service.
        instance: id of the instance.
        control: channel of the messages.
        access: access control of the service.
        rejected: record of messages that cannot be read.
        methods: served methods by name.
        running: calls that are running.
        replies: replies of the server.
        outgoing: item streams that are being sent.
        instance_calls: calls to this instance, which arrive in the same queue.

    Attributes:
        version: version of the service.
    """

    def __init__(
        self,
        name: ServiceName,
        instance: str,
        control: ControlChannel,
        *,
        access: AccessControl,
        rejected: RejectedMessages,
        methods: Mapping[str, ServedMethod],
        running: RunningCalls,
        replies: Replies,
        outgoing: Outgoing,
        instance_calls: InstanceCalls,
        version: str,
    ) -> None:
        self._name = name
        self._instance = instance
        self._control = control
        self._access = access
        self._rejected = rejected
        self._methods = methods
        self._running = running
        self._replies = replies
        self._outgoing = outgoing
        self._instance_calls = instance_calls
        self.version = version

    def receive(self, delivery: Delivery) -> None:
        """Accept a message about a call, or a call to this instance."""
        if delivery.type == CALL:
            self._instance_calls.receive(delivery)
            return
        if read_exchange(delivery.origin) not in ("", self._name.api_exchange):
            self._rejected.add("call", STRAY, delivery)
            return
        reply_to = delivery.reply_to or ""
        if reply_to and not self._access.is_reply_queue(reply_to):
            self._rejected.add("call", f"It wants its reply in {reply_to[:255]!r}.", delivery)
            return
        try:
            if delivery.type == PING:
                self._answer_ping(delivery)
            elif delivery.type == CANCEL:
                self._cancel(delivery)
            elif delivery.type == EXPIRE:
                self._expire(delivery)
            elif delivery.type != PROBE:
                self._outgoing.grant(delivery)
        except MalformedMessage as error:
            self._rejected.add("stream", error, delivery)
        except ConnectionLost as lost:  # the caller asks again
            log.debug("A message about calls of %s was not answered: %s", self._name, lost)

    def probe_callers(self) -> None:
        """Cancel item streams, and calls whose callers have asked for any report, if they are gone.

        Other callers do not know probes, or let their calls continue.
        """
        for running in self._running:
            reply_to, correlation_id = running.key
            is_watched = running.report and not running.continues
            if reply_to and (is_watched or running.worker is None):
                probe = probe_message(correlation_id)
                self._control.send(reply_to, probe, partial(self._on_probed, running))

    def _on_probed(self, running: RunningCall, error: FabricError | None) -> None:
        if isinstance(error, Unroutable):
            self._replies.acknowledge(running)
            running.cancel()

    def _answer_ping(self, delivery: Delivery) -> None:
        now = time.monotonic()
        methods = {
            method.name: None if method.created is None else now - method.created
            for method in self._methods.values()
            if method.consumer_tag
        }
        if delivery.reply_to and self._access.admits(self._access.identify(delivery)):
            waiting = (call for method in self._methods.values() for call in method.queue)
            calls = self._running.statuses(delivery.reply_to, waiting)
            status = InstanceStatus(
                self._instance,
                methods,
                calls,
                host=socket.gethostname(),
                pid=os.getpid(),
                version=self.version,
                up=now - self._instance_calls.began,
                time=time.time(),
            )
            self._control.send(delivery.reply_to, pong_message(status, delivery.correlation_id))

    def _cancel(self, delivery: Delivery) -> None:
        """Cancel a call that is running, waits for a worker, or has not arrived."""
        correlation_id = delivery.correlation_id
        if not correlation_id:
            return
        stopped = True
        if (running := self._running.find(correlation_id)) is not None:
            self._replies.acknowledge(running)  # no other instance is to run it
            stopped = running.cancel()
        else:
            self._running.refuse(correlation_id)
        if running is not None and delivery.reply_to:
            message = cancelled_message(correlation_id, stopped=stopped)
            self._control.send(delivery.reply_to, message)

    def _expire(self, delivery: Delivery) -> None:
        """Refuse a call that waits for a worker or has not arrived; one that runs continues."""
        correlation_id = delivery.correlation_id
        if correlation_id and self._running.find(correlation_id) is None:
            self._running.refuse(correlation_id)
