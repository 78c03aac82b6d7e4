"""The demo's broker: the one that is named, or the embedded one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fabric_nb.fabric.amqp.uri import mask


@dataclass(frozen=True)
class DemoBroker:
    """Where the demo runs; `shown` may be printed."""

    uri: str
    shown: str


@contextmanager
def demo_broker() -> Iterator[DemoBroker]:
    """The broker at ``AMQP_URL``."""
    uri = os.environ["AMQP_URL"]
    yield DemoBroker(uri, mask(uri))
