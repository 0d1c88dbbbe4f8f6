"""The watched training step: the same nodes, and beside them what says how training goes.

It writes the same state with the same bits as the plain step, so a run may take it now and then; what it finds advances by record.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn.graph.graph import Graph, Node, Value
from pyfastnn.graph.schema import schema

Array = NDArray[Any]

SATURATED: Mapping[str, tuple[float, float]] = {"tanh_forward": (-0.99, 0.99), "sigmoid_forward": (0.005, 0.995)}
"""Activations of a bounded range, and the answers beyond which a unit is saturated: 0.99 of the way from the middle to the ends."""

ACTIVATIONS = frozenset(
    f"{name}_forward"
    for name in (
        "relu", "leaky_relu", "elu", "selu", "sigmoid", "tanh", "gelu", "gelu_tanh", "silu", "softplus", "prelu", "maxout",
    )
)  # fmt: skip
"""Ops whose answers are summed up."""


@dataclass(frozen=True)
class Probes:
    """What the watched step writes.

    Attributes
    ----------
    widths : dict of str to int
        Items of each result, by value name.
    weights : tuple of str
        Parameters whose updates are measured.
    activations : dict of str to str
        Layers whose answers are summed up, and the ops that made these.
    """

    widths: Mapping[str, int] = field(default_factory=dict)
    weights: tuple[str, ...] = ()
    activations: Mapping[str, str] = field(default_factory=dict)

    def arrays(self, records: int) -> dict[str, Array]:
        """Return arrays for so many records."""
        return {name: np.zeros((records, width)) for name, width in self.widths.items()}


def watched_graph(graph: Graph, weights: Collection[str], outputs: Collection[str] = ()) -> tuple[Graph, Probes]:
    """Return a training step with what says how it goes, and what that is.

    Parameters
    ----------
    graph : Graph
        A training step after all rewrites. Not changed.
    weights : collection of str
        Parameters; those that the step updates are measured if they have two dimensions or more.
    outputs : collection of str
        Scores of the model: they are not summed up, whatever made them.

    Returns
    -------
    Graph
        The same nodes in the same order, with others between them.
    Probes
        Its results.
    """
    values, nodes = dict(graph.values), list(graph.nodes)
    widths: dict[str, int] = {}
    measured, activations = [], {}

    def memory(name: str) -> str:
        return values[name].view_of or name

    def add(at: int, op: str, inputs: tuple[str | None, ...], output: str, like: Value, **attrs: float) -> None:
        values[output] = like
        nodes.insert(at, Node(op, inputs, (output,), {**schema(op).attrs, **attrs}, name="watch"))
        if like.dtype == "f64":
            widths[output] = int(like.shape[0])

    def one(name: str) -> Value:
        return Value(name, (1,), "f64")

    for weight in weights:
        shape = graph.values[weight].shape if weight in graph.values else ()
        writes = [at for at, node in enumerate(nodes) if weight in node.outputs]
        if len(shape) < 2 or not writes:
            continue
        first, last = writes[0], writes[-1]
        gradient = _found_gradient(nodes, nodes[first])
        if gradient is None:
            continue
        before = f"before({weight})"
        update, squares = f"update({weight})", f"weight({weight})"
        add(last + 1, "sum_of_squared_differences", (weight, before), update, one(update))
        add(first, "sum_of_squares", (weight, None), squares, one(squares))
        add(first, "scale", (weight,), before, Value(before, shape))
        made = max(at for at, node in enumerate(nodes) if memory(gradient) in map(memory, node.outputs))
        norm = f"gradient({weight})"
        add(made + 1, "sum_of_squares", (gradient, None), norm, one(norm))
        measured.append(weight)
    scores = {memory(name) for name in outputs if name in graph.values}
    for node in graph.nodes:
        answer = node.outputs[0]
        if node.op not in ACTIVATIONS or memory(answer) in scores or len(graph.values[answer].shape) < 2:
            continue
        layer = node.name
        if not layer or layer in activations:
            continue
        low, high = SATURATED.get(node.op, (0.0, 0.0))
        summary = f"summary({layer})"
        at = next(at for at, other in enumerate(nodes) if other is node)
        add(at + 1, "activation_summary", (answer,), summary, Value(summary, (30,), "f64"), low=low, high=high)
        activations[layer] = node.op
    return Graph(values, nodes), Probes(widths, tuple(measured), activations)


def _found_gradient(nodes: Sequence[Node], update: Node) -> str | None:
    """Return the gradient that backpropagation found and an update stands on, before it was clipped and the like."""
    made_by = {output: node for node in nodes for output in node.outputs if node.name == "update"}
    gradient = update.inputs[1] if update.name == "update" and len(update.inputs) > 1 else None
    while gradient in made_by:
        gradient = made_by[gradient].inputs[0]
    return gradient
