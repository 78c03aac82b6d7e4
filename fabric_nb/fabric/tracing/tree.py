"""Tree of the spans of a trace, on a common time axis. Pure.

Spans are not trusted: they may be incomplete, refer to one another in a circle, or carry the times
of clocks that differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from fabric_nb.fabric.wire.spans import Span

MAX_DEPTH = 100
"""Levels below which spans are shown at the same depth."""


@dataclass(eq=False, slots=True)
class Node:
    """A span in its place.

    Attributes:
        span: the span.
        server: for a call, the span of the service that has answered it.
        depth: level in the tree, from 0.
        start: start on the common time axis, in milliseconds after the start of the trace.
        clock: milliseconds by which the clock of its member was set back to fit into its parent.
        orphan: True if its parent has not arrived.
        children: spans within it.
    """

    span: Span
    server: Span | None = None
    depth: int = 0
    start: float = 0.0
    clock: float = 0.0
    orphan: bool = False
    children: list[Node] = field(default_factory=list)

    @property
    def end(self) -> float:
        """End on the common time axis, in milliseconds."""
        return self.start + self.span.ms

    @property
    def queued(self) -> float | None:
        """Milliseconds between the request and the begin of the call; None if not known.

        It includes the way of the request, and is known only where the clocks agree.
        """
        if self.server is None or self.clock:
            return None
        return (self.server.start - self.span.start) * 1000

    @property
    def error(self) -> str:
        """Error of the call; as its service tells it, if that has told it."""
        served = "" if self.server is None else self.server.error
        return served or self.span.error


def tree(spans: Iterable[Span]) -> list[Node]:
    """Return the spans in the order of a depth-first walk, calls joined with their services' spans.

    Children are sorted by their start. A span whose parent is unknown stands at the top, as does
    one of each circle.
    """
    nodes = {span.id: Node(span) for span in spans}
    roots = _joined(nodes)
    ordered = list(_walk(roots))
    reached = set(map(id, ordered))
    for node in nodes.values():
        if id(node) not in reached and not _is_joined(node, nodes):
            node.orphan = True  # in a circle
            found = [one for one in _walk([node]) if id(one) not in reached]
            reached.update(map(id, found))
            ordered += found
    first = min((node.start for node in ordered), default=0.0)
    for node in ordered:
        node.start -= first
    return ordered


def _is_joined(node: Node, nodes: dict[str, Node]) -> bool:
    parent = nodes.get(node.span.parent)
    return parent is not None and parent.server is node.span


def _joined(nodes: dict[str, Node]) -> list[Node]:
    """Link the nodes to their parents, and return those without one."""
    for node in nodes.values():  # first, so that children of a service's span find the call
        span, parent = node.span, nodes.get(node.span.parent)
        answers = span.kind == "server" and parent is not None and parent.span.kind == "client"
        if answers and parent is not None and parent.server is None:
            parent.server = span
    roots: list[Node] = []
    for node in nodes.values():
        if _is_joined(node, nodes):
            continue
        parent = nodes.get(node.span.parent)
        if parent is not None and _is_joined(parent, nodes):
            parent = nodes[parent.span.parent]
        if parent is None or parent is node:
            node.orphan = bool(node.span.parent)
            roots.append(node)
        else:
            parent.children.append(node)
    return roots


def _walk(roots: list[Node]) -> Iterator[Node]:
    """Yield the nodes below some roots, each once, with their depth and start."""
    seen: set[int] = set()
    stack = [(node, 0, 0.0) for node in sorted(roots, key=_start, reverse=True)]
    while stack:
        node, depth, shift = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        node.depth = min(depth, MAX_DEPTH)
        node.start = node.span.start * 1000 - shift
        node.clock = 0.0
        within = shift
        if (server := node.server) is not None:
            # The clock of the service's machine may differ from that of the caller's.
            offset = server.start * 1000 - shift - node.start
            if offset < -1 or offset + server.ms > node.span.ms + 1:
                node.clock = offset - max(0.0, node.span.ms - server.ms) / 2
                within = shift + node.clock
        below = sorted(node.children, key=_start, reverse=True)
        stack += [(child, depth + 1, within) for child in below]
        yield node


def _start(node: Node) -> float:
    return node.span.start
