"""Graph to Graph. Each rewrite has a switch and a test; all but `to_bf16`, which rounds, keep every bit."""

from __future__ import annotations

from dataclasses import replace

from pyfastnn.graph.graph import Graph, Node

_PRODUCTS = ("linear_forward", "linear_dx", "linear_dw")
_NARROW = 16
"""Products with so few inputs or outputs stay as they are: they cost little, and the last layer is where rounding shows most."""


def hoist_updates(graph: Graph) -> Graph:
    """Move each update node up to where its gradient is still in cache.

    An update (a node that rewrites a parameter) may run as soon as every other node that reads or writes the parameter, its slots or
    its gradient has run; it is put right behind the last of those nodes. So no node of the graph may want the parameter as it is after
    the update.

    Parameters
    ----------
    graph : Graph
        Forward, backward and update nodes. Not changed.

    Returns
    -------
    Graph
        The same nodes in another order.
    """
    updates = [n for n in graph.nodes if _rewrites_parameter(graph, n)]
    others = [n for n in graph.nodes if not _rewrites_parameter(graph, n)]
    behind: dict[int, list[Node]] = {}
    for update in updates:
        touched = {i for i in update.inputs if i is not None}
        last = -1
        for at, node in enumerate(others):
            if touched.intersection(node.outputs) or touched.intersection(node.inputs):
                last = at
        behind.setdefault(last, []).append(update)
    nodes = list(behind.get(-1, []))
    for at, node in enumerate(others):
        nodes.append(node)
        nodes.extend(behind.get(at, []))
    return Graph(dict(graph.values), nodes)


def to_bf16(graph: Graph) -> Graph:
    """Let large matrix products round their factors to bfloat16.

    ``linear_forward``, ``linear_dx`` and ``linear_dw`` become ``linear_forward_bf16`` and so on wherever the weights have more than 16
    rows and columns. This changes results: each factor by a relative ``2**-8`` at most.

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
            if all(isinstance(d, int) and d > _NARROW for d in graph.values[w].shape):
                node = replace(node, op=f"{node.op}_bf16")
        nodes.append(node)
    return Graph(dict(graph.values), nodes)


def _rewrites_parameter(graph: Graph, node: Node) -> bool:
    return any(graph.values[o].kind == "parameter" for o in node.outputs)
