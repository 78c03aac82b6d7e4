"""Facts on the connection, and hints, that several views share."""

from __future__ import annotations

from fabric_nb.fabric.amqp.connection import State
from fabric_nb.fabric.member import FabricMember
from fabric_nb.notebook.pages import Badge

CHECK_PERIOD = 2.0
"""Seconds between two checks of the states of other services."""


def check_interval(fabric: FabricMember, domain: str) -> int:
    """Return the number of the current check; `with_other_domains` is constant within one."""
    return int(fabric.registry.now / CHECK_PERIOD) if domain else 0


def with_other_domains(sentence: str, fabric: FabricMember, domain: str) -> str:
    """Return the sentence, followed by other domains in which services were announced."""
    return f"{sentence} {fabric.registry.describe_other_domains(domain) if domain else ''}".rstrip()


def state_badge(fabric: FabricMember) -> list[Badge]:
    """Return a badge if the connection is not usable, else an empty list."""
    match fabric.state:
        case State.BLOCKED:
            return [Badge("blocked by the broker", "warn")]
        case State.RECONNECTING:
            return [Badge("reconnecting", "warn")]
        case State.CLOSED:
            return [Badge("disconnected", "quiet")]
    return []
