"""Graph to Graph: the same bits in a better order. Each rewrite has a switch and an equality test."""

from __future__ import annotations

from pyfastnn.graph.graph import Graph, Node


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


def _rewrites_parameter(graph: Graph, node: Node) -> bool:
    return any(graph.values[o].kind == "parameter" for o in node.outputs)
