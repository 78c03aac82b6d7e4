"""AMQP for the fabric: connections that come back, channels that set themselves up again.

The only place that imports aio-pika and aiormq; everything above it deals in `Message`,
`Delivery` and `Channel`.
"""

from fabric_nb.fabric.amqp.channel import Channel, backoff
from fabric_nb.fabric.amqp.connection import DEFAULT_HEARTBEAT, UPKEEP, Connection, State
from fabric_nb.fabric.amqp.message import Delivery, Message
from fabric_nb.fabric.amqp.reading import ReadingConnection
from fabric_nb.fabric.amqp.topology import Terms
from fabric_nb.fabric.amqp.translation import Unroutable, keep_client_quiet

__all__ = [
    "DEFAULT_HEARTBEAT",
    "UPKEEP",
    "Channel",
    "Connection",
    "Delivery",
    "Message",
    "ReadingConnection",
    "State",
    "Terms",
    "Unroutable",
    "backoff",
    "keep_client_quiet",
]
