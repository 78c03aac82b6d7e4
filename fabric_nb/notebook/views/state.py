"""The state of the connection, as every view shows it."""

from __future__ import annotations

from fabric_nb.fabric.amqp.connection import State
from fabric_nb.fabric.member import FabricMember
from fabric_nb.notebook.pages import Badge

CHECKED_EVERY = 2.0
"""Seconds between two looks at how others are doing."""


def look_at_others(fabric: FabricMember, domain: str) -> int:
    """Return a number that grows when `nothing_yet` may have become another sentence."""
    return int(fabric.registry.now / CHECKED_EVERY) if domain else 0


def nothing_yet(what: str, fabric: FabricMember, domain: str) -> str:
    """Return a sentence that says that nothing has come, with the domains that it may be in."""
    return f"{what} {fabric.registry.elsewhere(domain) if domain else ''}".rstrip()


def state_badge(fabric: FabricMember) -> list[Badge]:
    """A badge when the connection is not as it should be, none otherwise."""
    match fabric.state:
        case State.BLOCKED:
            return [Badge("blocked by the broker", "warn")]
        case State.RECONNECTING:
            return [Badge("reconnecting", "warn")]
        case State.CLOSED:
            return [Badge("disconnected", "quiet")]
    return []
