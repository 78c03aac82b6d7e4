"""Layered layout of a graph: callers at the left, called services at the right. Pure.

After Sugiyama: cycles are broken (Eades, Lin and Smyth), each node is placed one layer to the right
of its callers, and the order in a layer is that of the mean places of the neighbours, in sweeps.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise
from statistics import fmean
from typing import NamedTuple

SWEEPS = 8
"""Passes over the layers that bring nodes near their neighbours."""

MAX_INDENT = 3
"""Rows by which a short layer begins lower than a long one, whose beginning is seen first."""

Pair = tuple[str, str]
"""Caller and called service."""
_Cell = str | tuple[str, str, int]
"""A node, or the bend of a pair in a layer."""


class Place(NamedTuple):
    """Place of a node; rows are fractions where layers of different sizes are centred."""

    layer: int
    row: float


class Layout:
    """Places of nodes, which stay where they are while the graph changes little.

    Example::

        layout = Layout()
        layout.update([("shop", "stock"), ("shop", "prices")])
        layout.places["stock"]                # Place(layer=1, row=1.0)

    Attributes:
        places: places by node.
        bends: places between caller and called service, by pairs that are more than a layer apart.
    """

    def __init__(self) -> None:
        self.places: dict[str, Place] = {}
        self.bends: dict[Pair, list[Place]] = {}

    def update(self, pairs: Collection[Pair]) -> None:
        """Place the nodes of these pairs.

        Known nodes keep their places, and new ones are added below others, unless more than half
        of the nodes come or go: then all are arranged again.
        """
        nodes = sorted({node for pair in pairs for node in pair})
        known = {node: self.places[node] for node in nodes if node in self.places}
        if len(known) * 2 > max(len(nodes), len(self.places)):
            self.places = known
            self.bends = {pair: bends for pair, bends in self.bends.items() if pair in pairs}
            self._extend([node for node in nodes if node not in known], pairs)
        else:
            self._arrange(nodes, sorted(set(pairs)))

    def _extend(self, new: Iterable[str], pairs: Collection[Pair]) -> None:
        taken = [*self.places.values(), *(bend for bends in self.bends.values() for bend in bends)]
        bottom: dict[int, float] = {}
        for layer, row in taken:
            bottom[layer] = max(bottom.get(layer, -1.0), row)
        for node in new:
            callers = [self.places[a].layer for a, b in pairs if b == node and a in self.places]
            called = [self.places[b].layer for a, b in pairs if a == node and b in self.places]
            layer = max(callers) + 1 if callers else max(0, min(called, default=1) - 1)
            bottom[layer] = bottom.get(layer, -1.0) + 1
            self.places[node] = Place(layer, bottom[layer])

    def _arrange(self, nodes: Sequence[str], pairs: Sequence[Pair]) -> None:
        layers = _layers(nodes, pairs)
        cells: list[list[_Cell]] = [[] for _ in range(max(layers.values(), default=-1) + 1)]
        for node in nodes:
            cells[layers[node]].append(node)
        links: list[tuple[_Cell, _Cell]] = []
        bent: dict[Pair, list[_Cell]] = {}
        for caller, service in pairs:
            chain: list[_Cell] = [caller]
            for layer in range(layers[caller] + 1, layers[service]):
                chain.append((caller, service, layer))
                cells[layer].append((caller, service, layer))
            chain.append(service)
            if len(chain) > 2:
                bent[caller, service] = chain[1:-1]
            if layers[caller] < layers[service]:
                links += pairwise(chain)
        _order(cells, links)
        height = max(map(len, cells), default=0)
        placed: dict[_Cell, Place] = {
            cell: Place(layer, row + min(MAX_INDENT, (height - len(column)) / 2))
            for layer, column in enumerate(cells)
            for row, cell in enumerate(column)
        }
        self.places = {node: placed[node] for node in nodes}
        self.bends = {pair: [placed[cell] for cell in chain] for pair, chain in bent.items()}


def _layers(nodes: Sequence[str], pairs: Sequence[Pair]) -> dict[str, int]:
    """Return the layer of each node: one more than those of its callers, except in cycles."""
    callers: dict[str, set[str]] = {node: set() for node in nodes}
    called: dict[str, set[str]] = {node: set() for node in nodes}
    for caller, service in pairs:
        if caller != service:
            callers[service].add(caller)
            called[caller].add(service)
    layers: dict[str, int] = {}
    rest = dict.fromkeys(nodes)
    open_callers = {node: len(found) for node, found in callers.items()}
    open_called = {node: len(found) for node, found in called.items()}
    while rest:
        # One that nothing left calls, or else the one that calls the most for being called.
        node = min(rest, key=lambda n: (open_callers[n] > 0, open_callers[n] - open_called[n], n))
        del rest[node]
        layers[node] = 1 + max((layers[one] for one in callers[node] if one in layers), default=-1)
        for one in called[node]:
            open_callers[one] -= 1
        for one in callers[node]:
            open_called[one] -= 1
    for node in nodes:  # beside what it calls, if nothing calls it
        if called[node] and not callers[node]:
            layers[node] = max(0, min(layers[one] for one in called[node]) - 1)
    return layers


def _order(cells: list[list[_Cell]], links: Iterable[tuple[_Cell, _Cell]]) -> None:
    """Sort the layers by the mean position of the neighbours in the layer before, or behind."""
    before: dict[_Cell, list[_Cell]] = {}
    behind: dict[_Cell, list[_Cell]] = {}
    for left, right in links:
        before.setdefault(right, []).append(left)
        behind.setdefault(left, []).append(right)
    for sweep in range(SWEEPS):
        neighbours = behind if sweep % 2 else before
        at: dict[_Cell, float] = {}
        for column in reversed(cells) if sweep % 2 else cells:
            own = {cell: float(index) for index, cell in enumerate(column)}
            column.sort(
                key=lambda cell, at=at, own=own, near=neighbours: (  # type: ignore[misc]
                    fmean(at[one] for one in near[cell]) if cell in near else own[cell]
                )
            )
            at |= {cell: index - len(column) / 2 for index, cell in enumerate(column)}
