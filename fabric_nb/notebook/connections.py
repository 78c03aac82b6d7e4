"""Named connections of a notebook, of which one is current."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from fabric_nb.errors import NotConnected
from fabric_nb.fabric.amqp.connection import State
from fabric_nb.fabric.connector import AmqBrokerConnector
from fabric_nb.fabric.logs.feed import LogFeed
from fabric_nb.fabric.member import FabricMember
from fabric_nb.notebook.arguments import split_connection

_serving: ContextVar[NamedConnection] = ContextVar("fabric_nb serving connection")


@dataclass(eq=False)
class NamedConnection:
    """A connection of a notebook.

    Attributes:
        name: its name in the notebook.
        fabric: the connector.
        settings: arguments of `AmqBrokerConnector`.
        all_logs: log feed of `%fabric`; None until that is used.
    """

    name: str
    fabric: AmqBrokerConnector
    settings: Mapping[str, Any]
    all_logs: LogFeed | None = None

    @property
    def member(self) -> FabricMember:
        """Member behind the connector."""
        return self.fabric.member

    def is_reusable(self, settings: Mapping[str, Any]) -> bool:
        """Return whether it is connected with these settings; the timeout may differ."""
        if self.fabric.state not in (State.CONNECTED, State.BLOCKED):
            return False
        different = {name for name, value in settings.items() if self.settings[name] != value}
        return not different - {"timeout"}

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Make this the current connection of a served function, which calls others by it."""
        token = _serving.set(self)
        try:
            yield
        finally:
            _serving.reset(token)


class Connections:
    """Open connections of a notebook by name, in the order of their opening.

    A magic uses the current one. That is the newest, or the one that `use` has selected last. When
    it ends, no other becomes current, because a cell would call another fabric without notice.
    """

    def __init__(self) -> None:
        self._named: dict[str, NamedConnection] = {}
        self._selected: NamedConnection | None = None

    def __iter__(self) -> Iterator[NamedConnection]:
        return iter(tuple(self._named.values()))

    def __len__(self) -> int:
        return len(self._named)

    @property
    def selected(self) -> NamedConnection | None:
        """Connection that is current in cells; None if there is none."""
        return self._selected

    @property
    def current(self) -> NamedConnection:
        """Connection that is current: in a served function, the one that serves it.

        Raises:
            NotConnected: there is none.
        """
        serving = _serving.get(None)
        if serving is not None and self._named.get(serving.name) is serving:
            return serving
        if self._selected is None:
            if self._named:
                raise NotConnected(
                    f"No connection is in use: choose one of {self._names} with %fabric_use,"
                    " or run %fabric_connect."
                )
            raise NotConnected("This notebook is not connected: run %fabric_connect first.")
        return self._selected

    def get(self, name: str) -> NamedConnection | None:
        """Return the connection of this name; None if there is none."""
        return self._named.get(name)

    def named(self, name: str) -> NamedConnection:
        """Return the connection of this name.

        Raises:
            NotConnected: there is none.
        """
        if (connection := self._named.get(name)) is not None:
            return connection
        existing = f"it has {self._names}" if self._named else "it has none"
        raise NotConnected(
            f"This notebook has no connection {name!r}; {existing}: %fabric_connect --as {name}"
            " opens it."
        )

    def use(self, connection: NamedConnection) -> None:
        """Make a connection current; it is added, and replaces an earlier one of its name."""
        self._named[connection.name] = connection
        self._selected = connection

    def remove(self, connection: NamedConnection) -> None:
        """Remove a connection."""
        if self._named.get(connection.name) is connection:
            del self._named[connection.name]
        if self._selected is connection:
            self._selected = None

    def resolve(self, name: str) -> tuple[NamedConnection, str]:
        """Split a name such as ``staging/my_app``; without ``/`` it is of the current connection.

        Raises:
            NotConnected: there is no such connection.
        """
        prefix, rest = split_connection(name)
        return (self.named(prefix) if prefix else self.current), rest

    @property
    def _names(self) -> str:
        return ", ".join(self._named)
