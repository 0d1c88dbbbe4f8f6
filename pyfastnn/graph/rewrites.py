"""Graph to Graph. Each rewrite has a switch and a test; all but `to_bf16`, which rounds, keep every bit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from pyfastnn.graph.graph import Graph, Node

_PRODUCTS = ("linear_forward", "linear_dx", "linear_dw")
_NARROW = 16
"""Products with so few inputs or outputs stay as they are: they cost little, and the last layer is where rounding shows most."""


def hoist_updates(graph: Graph) -> Graph:
    """Move each node of the update up to where its gradient is still in cache.

    A node of the update (one that rewrites a parameter, or is named ``"update"``) is put right behind the last of the nodes before it that
    writes what it reads or writes, or reads what it writes. So every value is read with the content it had in the old order.

    Parameters
    ----------
    graph : Graph
        Forward, backward and update nodes. Not changed.

    Returns
    -------
    Graph
        The same nodes in another order.
    """

    def memory(names: Iterable[str | None]) -> set[str]:
        """Return the values whose memory is touched: that of a view is the value it reads."""
        return {graph.values[name].view_of or name for name in names if name is not None}

    nodes: list[_Placed] = []
    for node in graph.nodes:
        placed = _Placed(node, memory(node.inputs), memory(node.outputs), node.name == "update")
        placed.moves |= any(graph.values[o].kind == "parameter" for o in node.outputs)
        at = len(nodes)
        if placed.moves:
            while at > 0 and not placed.needs(nodes[at - 1]):
                at -= 1
            # Behind the same node the old order stays.
            while at < len(nodes) and nodes[at].moves:
                at += 1
        nodes.insert(at, placed)
    return Graph(dict(graph.values), [placed.node for placed in nodes])


@dataclass
class _Placed:
    """A node with the memory it reads and writes."""

    node: Node
    reads: set[str]
    writes: set[str]
    moves: bool

    def needs(self, earlier: _Placed) -> bool:
        """Return whether it must stay behind an earlier node."""
        return not (
            self.reads.isdisjoint(earlier.writes)
            and self.writes.isdisjoint(earlier.writes)
            and self.writes.isdisjoint(earlier.reads)
        )


def to_bf16(graph: Graph) -> Graph:
    """Let large matrix products round their factors to bfloat16.

    ``linear_forward``, ``linear_dx`` and ``linear_dw`` become ``linear_forward_bf16`` and so on wherever the weights are learned and have
    more than 16 rows and columns. This changes results: each factor by a relative ``2**-8`` at most.

    Parameters
    ----------
    graph : Graph
        Forward and backward nodes. Not changed.

    Returns
    -------
    Graph
        The same nodes with other ops.
    """
    nodes = []
    for node in graph.nodes:
        if node.op in _PRODUCTS:
            w = node.outputs[0] if node.op == "linear_dw" else node.inputs[1]
            assert w is not None
            learned = graph.values[w].kind != "state"  # the matrix of a preprocessing is none of the layers'
            if learned and all(isinstance(d, int) and d > _NARROW for d in graph.values[w].shape):
                node = replace(node, op=f"{node.op}_bf16")
        nodes.append(node)
    return Graph(dict(graph.values), nodes)
