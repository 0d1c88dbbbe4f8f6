"""Where the parts of a drawing stand, in text and in SVG alike.

Gates stand in columns by their longest way from an input. The inputs get rows in the order in which a walk back from the output meets
them, so that a tree is drawn without crossings; a gate stands at the middle of what it reads. A wire that passes columns
has a place in each of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pyfastnn.gates.gate import Array
    from pyfastnn.gates.graph import ComputationalGraph, Wire

_SPACING = 4
"""Rows from one input to the next: value, wire, gradient, and one empty."""


@dataclass
class Place:
    """A gate, an input, or a wire on its way, in one column.

    Attributes
    ----------
    wire : Wire
        Whose place it is.
    row : int
        Of its output.
    passing : bool
        Whether the wire only passes here.
    ports : list of int
        Rows of its inputs.
    sources : list of Place
        The places in the column before, one per port.
    """

    wire: Wire
    row: int
    passing: bool = False
    ports: list[int] = field(default_factory=list)
    sources: list[Place] = field(default_factory=list)

    @property
    def label(self) -> str:
        """The text of the gate, or the name of the input."""
        return self.wire.name if self.wire.gate is None else self.wire.gate.label

    @property
    def extent(self) -> tuple[int, int]:
        """First and last row it covers, with the texts above and below its wire."""
        if self.passing:
            return self.row, self.row
        ports = self.ports or [self.row]
        return min(self.row, ports[0]) - 1, max(self.row, ports[-1]) + 1


def layout(graph: ComputationalGraph) -> list[list[Place]]:
    """Return the columns of a drawing, each from top to bottom; a graph without wires has one empty column."""
    depth: dict[str, int] = {}
    for wire in graph.wires.values():
        depth[wire.name] = 1 + max((depth[w.name] for w in wire.inputs), default=-1)
    last = dict(depth)  # the last column a wire has to reach
    for wire in graph.wires.values():
        for read in wire.inputs:
            last[read.name] = max(last[read.name], depth[wire.name] - 1)
    order = {wire.name: at for at, wire in enumerate(_walk(graph))}
    columns: list[list[Place]] = []
    for column in range(1 + max(depth.values(), default=0)):
        places: list[Place] = []
        before = {place.wire.name: place for place in columns[-1]} if columns else {}
        for wire in sorted(graph.wires.values(), key=lambda w: order[w.name]):
            name = wire.name
            if depth[name] == column:
                sources = [before[w.name] for w in wire.inputs]
                rows = [s.row for s in sources] or [_SPACING * len(places) + 1]
                places.append(Place(wire, sum(rows) // len(rows), sources=sources))
            elif depth[name] < column <= last[name]:
                places.append(Place(wire, before[name].row, passing=True, sources=[before[name]]))
        if column:
            places.sort(key=lambda place: place.row)
        _separate(places)
        columns.append(places)
    return columns


def _walk(graph: ComputationalGraph) -> list[Wire]:
    """Return all wires, each after what it reads, what belongs to the last gate first."""
    seen: dict[str, Wire] = {}
    for start in reversed(graph.wires.values()):
        waiting = [(start, False)]
        while waiting:
            wire, done = waiting.pop()
            if done:
                seen.setdefault(wire.name, wire)
            elif wire.name not in seen:
                waiting.append((wire, True))
                waiting.extend((read, False) for read in reversed(wire.inputs))
    return list(seen.values())


def _separate(places: list[Place]) -> None:
    """Fix the ports, and move places down until none covers rows of the one above."""
    free = None
    for place in places:
        _set_ports(place)
        if free is not None and place.extent[0] < free:
            place.row += free - place.extent[0]
            _set_ports(place)
        free = place.extent[1] + 1


def _set_ports(place: Place) -> None:
    count = len(place.sources)
    first = place.row - count // 2
    # Two inputs leave the middle row free, so that no wire runs into another on its way.
    place.ports = [place.row - 1, place.row + 1] if count == 2 else [first + k for k in range(count)]


def channels(places: list[Place]) -> dict[str, int]:
    """Return for each wire that turns on its way to these places the column of its vertical part, by name.

    A wire that leaves on a row on which another arrives must turn before that one does; apart from this the order is the one with
    the fewest crossings of two wires.
    """
    targets: dict[str, list[int]] = {}
    sources: dict[str, int] = {}
    for place in places:
        for source, port in zip(place.sources, place.ports, strict=True):
            sources[source.wire.name] = source.row
            targets.setdefault(source.wire.name, []).append(port)
    turning = [name for name, rows in targets.items() if any(r != sources[name] for r in rows)]

    def rank(name: str) -> tuple[int, int]:
        down = sum(targets[name]) > sources[name] * len(targets[name])
        return (1, -sources[name]) if down else (0, sources[name])

    def span(name: str) -> tuple[int, int]:
        return min(sources[name], *targets[name]), max(sources[name], *targets[name])

    waiting = sorted(turning, key=rank)
    found: dict[str, int] = {}
    while waiting:
        ready = [a for a in waiting if not any(b != a and sources[b] in targets[a] for b in waiting)]
        chosen = (ready or waiting)[0]
        low, high = span(chosen)
        beside = [found[other] for other in found if span(other)[0] <= high + 1 and low <= span(other)[1] + 1]
        found[chosen] = 1 + max(beside, default=-1)
        waiting.remove(chosen)
    return found


def format_value(value: Array | None, digits: int) -> str:
    """Return a value as it stands at a wire: a number, up to three of them, or a shape."""
    if value is None:
        return ""
    if value.ndim == 0:
        return format_scalar(float(value), digits)
    if value.ndim == 1 and value.size <= 3:
        return "[" + " ".join(format_scalar(float(v), digits) for v in value) + "]"
    return "(" + ", ".join(map(str, value.shape)) + ")"


def format_scalar(value: float, digits: int) -> str:
    """Return a number with so many digits after the point, in scientific form where they would show nothing or far too much."""
    size = abs(value)
    if np.isfinite(size) and size != 0 and (size < 0.5 * 10.0**-digits or size >= 1e6):
        return f"{value:.{digits}e}"
    return f"{value + 0.0:.{digits}f}"
