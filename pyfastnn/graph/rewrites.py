"""Graph to Graph. Each rewrite has a switch and a test.

All keep every bit but two: `to_bf16`, which rounds, and `sparse_pool_gradients`, which adds in another order. Those that leave out values
take the names of what must stay readable, such as the outputs of a model, as ``keep``; names that the graph does not have keep nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from pyfastnn.graph.graph import Graph, Node

_PRODUCTS = ("linear_forward", "linear_dx", "linear_dw")
_NARROW = 16
"""Products with so few inputs or outputs stay as they are: they cost little, and the last layer is where rounding shows most."""


def hoist_updates(graph: Graph) -> Graph:
    """Move each node of the update up to where its gradient is still in cache.

    A node of the update (one that rewrites a parameter, or is named ``"update"``) is put right after the last of the nodes before it that
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
            # After the same node the old order stays.
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
        """Return whether it must stay after an earlier node."""
        return not (
            self.reads.isdisjoint(earlier.writes)
            and self.writes.isdisjoint(earlier.writes)
            and self.writes.isdisjoint(earlier.reads)
        )


def drop_unread(graph: Graph, keep: Collection[str]) -> Graph:
    """Leave out what nobody reads: neither the caller, by the names of ``keep``, nor a node that stays.

    A node that rewrites a parameter or state, such as running statistics, stays with all it reads.

    Parameters
    ----------
    graph : Graph
        Any nodes. Not changed.
    keep : collection of str
        Values whose nodes stay.

    Returns
    -------
    Graph
        The nodes that stay, in the old order. Inputs, parameters and state are values of it whether they are read or not.
    """

    def memory(name: str) -> str:
        return graph.values[name].view_of or name

    read = {memory(name) for name in keep if name in graph.values}
    nodes: list[Node] = []
    for node in reversed(graph.nodes):
        if any(memory(o) in read or graph.values[o].kind != "activation" for o in node.outputs):
            nodes.append(node)
            read.update(memory(i) for i in node.inputs if i is not None)
    gone = {o for node in graph.nodes for o in node.outputs} - {o for node in nodes for o in node.outputs}
    values = {k: v for k, v in graph.values.items() if k not in gone and v.view_of not in gone}
    return Graph(values, nodes[::-1])


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


_SHORT_RUN = 12
"""Where fewer values of x lie side by side under a window, the dense sums are as fast."""

_PATCHES = 1 << 20
"""Bytes of a convolution's patches in float32 beyond which they are slow to read, and the dense sums as fast."""

_TOUCHING = {"kernel_h": 2, "kernel_w": 2, "stride_h": 2, "stride_w": 2, "top": 0, "bottom": 0, "left": 0, "right": 0}
_PLAIN = {"stride_h": 1, "stride_w": 1, "dilation_h": 1, "dilation_w": 1, "groups": 1}


def sparse_pool_gradients(graph: Graph, keep: Collection[str] = ()) -> Graph:
    """Use that after a max pool of touching 2 x 2 windows three quarters of a gradient are zero.

    A ``relu_backward`` after the pool's gradient moves before it, onto the pooled array: the same bits, since the output of the pool
    is the output of the ReLU at the maximum. Then ``conv2d_dw``, ``conv2d_dx`` and ``linear_db`` of the spread gradient become
    ``conv2d_dw_pooled``, ``conv2d_dx_pooled`` and ``linear_db`` of the pooled one, which add the same terms in another order (and leave out
    products of 0 with what is not finite).
    The spread gradient is no longer made if nothing else reads it.

    Parameters
    ----------
    graph : Graph
        Forward and backward nodes. Not changed.
    keep : collection of str
        Values that stay.

    Returns
    -------
    Graph
        The same values but for rounding.
    """
    values, nodes = dict(graph.values), list(graph.nodes)
    pools = {n.outputs[1]: n for n in nodes if n.op == "max_pool_forward"}
    viewed = graph.views()
    for pool in [n for n in nodes if n.op == "max_pool_backward"]:
        pooled, index = pool.inputs
        (spread,) = pool.outputs
        assert pooled is not None and index is not None
        if any(pool.attrs[k] != v for k, v in _TOUCHING.items()) or spread in viewed or spread in keep:
            continue
        readers = [n for n in nodes if spread in n.inputs]
        if len(readers) == 1 and readers[0].op == "relu_backward" and index in pools:
            relu, forward = readers[0], pools[index]
            if relu.inputs == (spread, forward.inputs[0]) and relu.outputs[0] not in viewed:
                masked = f"pooled({relu.outputs[0]})"
                values[masked] = replace(values[forward.outputs[0]], name=masked)
                first = replace(relu, inputs=(pooled, forward.outputs[0]), outputs=(masked,))
                second = replace(pool, inputs=(masked, index), outputs=relu.outputs)
                nodes[nodes.index(pool) : nodes.index(pool) + 1] = [first, second]
                nodes.remove(relu)
                del values[spread]
                pool, pooled, spread = second, masked, relu.outputs[0]
        for at, node in enumerate(nodes):
            if node.op == "linear_db" and node.inputs == (spread,):
                nodes[at] = replace(node, inputs=(pooled,))
            elif node.op == "conv2d_dw" and node.inputs[1] == spread and _is_sparse(graph, node):
                attrs = {k: v for k, v in node.attrs.items() if k not in _PLAIN}
                nodes[at] = replace(node, op="conv2d_dw_pooled", inputs=(node.inputs[0], pooled, index), attrs=attrs)
            elif node.op == "conv2d_dx" and node.inputs[0] == spread and _is_sparse_dx(graph, node):
                attrs = {k: v for k, v in node.attrs.items() if k not in _PLAIN}
                nodes[at] = replace(node, op="conv2d_dx_pooled", inputs=(pooled, index, node.inputs[1]), attrs=attrs)
        if spread not in keep and not any(spread in n.inputs for n in nodes):
            nodes.remove(pool)
            del values[spread]
    return Graph(values, nodes)


def pool_before_relu(graph: Graph, keep: Collection[str] = ()) -> Graph:
    """Let a max pool that alone reads the output of a ReLU come first: the ReLU then has a quarter of the work, or less.

    The largest value is found among the same cells, and a ReLU makes +0 of all that is not above 0, so every bit stays. Where a whole
    window is dead the index may name another cell, to which the gradient 0 goes. After `sparse_pool_gradients` the backward pass no longer
    reads the output of the ReLU.

    Parameters
    ----------
    graph : Graph
        Forward nodes, perhaps with backward nodes. Not changed.
    keep : collection of str
        Values that stay.

    Returns
    -------
    Graph
        The same values but for the outputs of these ReLUs, and for the indices of dead windows.
    """
    values, nodes = dict(graph.values), list(graph.nodes)
    viewed = graph.views()
    for relu in [n for n in nodes if n.op == "relu_forward"]:
        (whole,) = relu.outputs
        readers = [n for n in nodes if whole in n.inputs]
        if len(readers) != 1 or readers[0].op != "max_pool_forward" or whole in viewed:
            continue
        pool = readers[0]
        if whole in keep or pool.outputs[1] in keep:
            continue
        a = pool.attrs
        if max(a["top"], a["bottom"]) >= a["kernel_h"] or max(a["left"], a["right"]) >= a["kernel_w"]:
            continue  # a window without a cell of the image gives -inf, which a ReLU would change
        small, index = pool.outputs
        largest = f"max({small})"
        values[largest] = replace(values[small], name=largest)
        nodes.remove(relu)
        first = replace(pool, inputs=relu.inputs, outputs=(largest, index))
        second = replace(relu, inputs=(largest,), outputs=(small,))
        at = nodes.index(pool)
        nodes[at : at + 1] = [first, second]
        del values[whole]
    return Graph(values, nodes)


def fuse_conv_pool(graph: Graph, keep: Collection[str] = ()) -> Graph:
    """Let a convolution whose output a max pool of touching 2 x 2 windows alone reads pool as it goes: its output is never stored.

    All bits stay. Filters of one pixel are left alone: they are a product of matrices, which would store it all the same.

    Parameters
    ----------
    graph : Graph
        Forward nodes, perhaps with backward nodes, for which `sparse_pool_gradients` and `pool_before_relu` make it likelier. Not changed.
    keep : collection of str
        Values that stay.

    Returns
    -------
    Graph
        The same values but for the outputs of these convolutions.
    """
    values, nodes = dict(graph.values), list(graph.nodes)
    viewed = graph.views()
    for conv in [n for n in nodes if n.op == "conv2d_forward"]:
        (whole,) = conv.outputs
        w = conv.inputs[1]
        readers = [n for n in nodes if whole in n.inputs]
        if len(readers) != 1 or readers[0].op != "max_pool_forward" or whole in viewed or whole in keep:
            continue
        pool = readers[0]
        assert w is not None
        if any(pool.attrs[k] != v for k, v in _TOUCHING.items()) or graph.values[w].shape[:2] == (1, 1):
            continue
        nodes[nodes.index(conv)] = replace(conv, op="conv2d_max_pool_forward", outputs=pool.outputs)
        nodes.remove(pool)
        del values[whole]
    return Graph(values, nodes)


def _is_sparse(graph: Graph, node: Node) -> bool:
    """Return whether ``conv2d_dw_pooled`` can do this node, and pays."""
    run = node.attrs["kernel_w"] * int(graph.values[node.outputs[0]].shape[2])
    return all(node.attrs[k] == v for k, v in _PLAIN.items()) and run >= _SHORT_RUN


def _is_sparse_dx(graph: Graph, node: Node) -> bool:
    """Return whether ``conv2d_dx_pooled`` can do this node, and pays: not for filters of one pixel, which are a product of matrices."""
    assert node.inputs[1] is not None
    kernel_h, kernel_w, channels, filters = (int(size) for size in graph.values[node.inputs[1]].shape)
    patches = 4 * 4 * filters * (kernel_h + 1) * (kernel_w + 1) * channels
    return all(node.attrs[k] == v for k, v in _PLAIN.items()) and kernel_h * kernel_w > 1 and patches <= _PATCHES
