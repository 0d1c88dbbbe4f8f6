"""Runs a Graph with the reference ops: every value by name, no memory reused, float64 unless told
otherwise.

It shares nothing with the lowering, the memory plan and the kernels, so comparing it with a plan
checks all three.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import DTypeLike

from pyfastnn.reference.spec import HYPER_FIELDS, Array, specs

if TYPE_CHECKING:
    from pyfastnn.graph.graph import Graph, Node


def interpret(
    graph: Graph,
    values: Mapping[str, Array],
    hyper: Array | None = None,
    dtype: DTypeLike = np.float64,
) -> dict[str, Array]:
    """Compute every value of a graph.

    Parameters
    ----------
    graph : Graph
        Nodes in an order in which each reads only values that exist.
    values : mapping of str to ndarray
        Inputs, parameters and states by name. They are not modified.
    hyper : ndarray, shape (groups, fields), optional
        One row of hyper fields, in the order of `HYPER_FIELDS`, for each parameter group of the
        nodes.
    dtype : dtype, default float64
        Float type of all values of type "T".

    Returns
    -------
    dict of str to ndarray
        Every value, the given ones included. A value that a node updates in place has its last
        content.

    Raises
    ------
    KeyError
        If a node reads a value that is neither given nor computed before, or an op has no
        reference.
    ValueError
        If a node needs hyper fields and ``hyper`` has no row for its group.
    """
    known = specs()
    views = graph.views()
    computed: dict[str, Array] = {}

    def keep(name: str, array: Array) -> None:
        computed[name] = array
        for view in views.get(name, ()):
            computed[view] = array.reshape([d if isinstance(d, int) else -1 for d in graph.values[view].shape])

    for name, array in values.items():
        is_float = name in graph.values and graph.values[name].dtype == "T"
        keep(name, np.asarray(array, dtype=dtype if is_float else None))
    with np.errstate(all="ignore"):
        for node in graph.nodes:
            if node.function is None and node.op not in known:
                raise KeyError(f"interpret: op {node.op!r} has no reference")
            for read in node.inputs:
                if read is not None and read not in computed:
                    raise KeyError(
                        f"interpret: {node.op} reads {read!r}, which is neither given nor computed before it"
                    )
            arguments = [None if name is None else computed[name] for name in node.inputs]
            if node.function is not None:
                results = tuple(map(np.asarray, node.function.forward(*arguments)))
            else:
                fields = hyper_of(node, hyper)
                results = known[node.op].reference(*arguments, **node.attrs, **fields)
            for name, result in zip(node.outputs, results, strict=True):
                is_float = name not in graph.values or graph.values[name].dtype == "T"
                keep(name, result.astype(dtype, copy=False) if is_float else result)
    return computed


def hyper_of(node: Node, hyper: Array | None) -> dict[str, float]:
    """Return the hyper fields that the node's op reads, from the row of its group."""
    parameters = inspect.signature(specs()[node.op].reference).parameters.values()
    fields = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    if not fields:
        return {}
    if hyper is None or node.group >= len(hyper):
        raise ValueError(f"interpret: {node.op} reads {fields[0]!r}, but 'hyper' has no row for group {node.group}")
    return {name: float(hyper[node.group, HYPER_FIELDS.index(name)]) for name in fields}
