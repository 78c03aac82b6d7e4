"""The served call in whose context code runs, for layers that do not serve."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Protocol


class ServedCall(Protocol):
    """A call that runs, or has run."""

    @property
    def id(self) -> str:
        """Id of the call in records and logs."""


served_call: ContextVar[ServedCall | None] = ContextVar("call", default=None)
"""Inherited by tasks, by `asyncio.to_thread`, and by the threads that a served function starts."""
