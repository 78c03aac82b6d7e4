"""Call graph: a picture, and a table with a row for each caller, service and method."""

from __future__ import annotations

from collections.abc import Awaitable, Hashable
from dataclasses import dataclass, field
from typing import Any

from fabric_nb.errors import FabricError
from fabric_nb.fabric.member import FabricMember
from fabric_nb.fabric.rpc.instance_statistics import Edge
from fabric_nb.fabric.rpc.instances import CallGraph
from fabric_nb.fabric.wire.names import ServiceName
from fabric_nb.notebook.graph.picture import UNKNOWN, GraphPictures
from fabric_nb.notebook.pages import counted
from fabric_nb.notebook.table import Button, Column, Head, TableModel, Value
from fabric_nb.notebook.views.base import TableView, unknown_action
from fabric_nb.notebook.views.connection import state_badge

MAX_ROWS = 1000
REFRESH = "refresh"
NOT_ASKED = "Refresh asks every service of the domain who calls it."
COLUMNS = (
    Column("caller"),
    Column("service"),
    Column("method", "code"),
    Column("calls/s", "number", digits=2, line=2),
    Column("errors/s", "number", digits=2, line=2),
    Column("calls", "number", line=2),
    Column("errors", "number", line=0),
)


@dataclass(eq=False)
class GraphView(TableView):
    """Calls between services of a domain, as these have counted them."""

    fabric: FabricMember
    domain: str
    graph: CallGraph = field(default_factory=lambda: CallGraph([], {}))
    _updates: int = 0
    _pictures: GraphPictures = field(init=False)

    def __post_init__(self) -> None:
        self._pictures = GraphPictures(self.domain, self.fabric.name.fqn)

    def version(self) -> Hashable:
        """Return the number of updates."""
        return self.fabric.state, self._updates

    async def update(self) -> None:
        """Ask the services again."""
        self.graph = await self.fabric.instances.graph(self.domain)
        self._pictures.update(self.graph.edges)
        self._updates += 1

    def model(self) -> TableModel:
        """Return an empty table."""
        return TableModel("Who calls whom", COLUMNS, max_rows=MAX_ROWS)

    def fill(self, model: TableModel) -> None:
        """Show the edges, those with most calls a second first."""
        edges = sorted(self.graph.edges, key=lambda edge: (-edge.calls_s, edge[:3]))
        model.replace(
            ((edge[:3], self._cells(edge), "") for edge in edges[:MAX_ROWS]),
            more=max(0, len(edges) - MAX_ROWS),
        )
        services = {edge.service for edge in edges}
        callers = {edge.caller for edge in edges}
        silent = self.graph.unanswered
        model.head = Head(
            "Who calls whom",
            state_badge(self.fabric),
            [
                self.domain,
                counted(len(callers), "caller"),
                counted(len(services), "service"),
            ],
            [*self._pictures.notes, *([_unanswered(list(silent))] if silent else [])],
            [Button(REFRESH, "Refresh")],
            empty="No service has been called yet." if self._updates else NOT_ASKED,
            graph=self._pictures.picture,
        )

    def act(self, name: str, value: Any) -> Awaitable[str | None]:
        """Ask the services again."""
        if name != REFRESH:
            raise unknown_action(name)
        return self._refresh()

    async def _refresh(self) -> str | None:
        try:
            await self.update()
        except FabricError as error:
            return str(error)
        return None

    def _cells(self, edge: Edge) -> list[Value]:
        prefix = f"{self.domain}."
        return [
            edge.caller.removeprefix(prefix) or UNKNOWN,
            edge.service.removeprefix(prefix),
            edge.method,
            edge.calls_s,
            edge.errors_s,
            edge.calls,
            edge.errors,
        ]


def _unanswered(names: list[ServiceName]) -> str:
    shown = ", ".join(name.local for name in names[:5])
    more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
    return f"Not counted, as on amqp-fabric, or without an answer: {shown}{more}."
