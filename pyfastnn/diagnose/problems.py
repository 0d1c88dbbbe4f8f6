"""What can be checked: a function with its gradient, or a model with its loss."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from pyfastnn.diagnose.differences import Array, Problem
from pyfastnn.nn.model import Model

if TYPE_CHECKING:
    from pyfastnn.graph import Graph


def of_function(function: Callable[[Any], tuple[Any, Any]], x: Any) -> Problem:
    """Read a function of an array, or of a mapping of arrays."""
    mapped = isinstance(x, Mapping)
    arrays = {str(k): np.array(v, np.float64) for k, v in (x.items() if mapped else (("x", x),))}

    def call() -> tuple[float, Any]:
        given = {k: v.copy() for k, v in arrays.items()}
        answer = function(given if mapped else given["x"])
        if not isinstance(answer, tuple) or len(answer) != 2:
            raise TypeError(f"gradient_check: the function returned {answer!r}, expected (value, gradient)")
        if np.size(answer[0]) != 1:
            raise ValueError(f"gradient_check: the value has shape {np.shape(answer[0])}, expected one number")
        return float(np.asarray(answer[0]).reshape(())), answer[1]

    value, gradient = call()
    if mapped and (not isinstance(gradient, Mapping) or set(gradient) != set(arrays)):
        raise TypeError(f"gradient_check: the gradient is {gradient!r}, expected a mapping with {', '.join(arrays)}")
    gradients = {k: np.asarray(gradient[k] if mapped else gradient, np.float64) for k in arrays}
    for name, array in arrays.items():
        if gradients[name].shape != array.shape:
            raise ValueError(
                f"gradient_check: the gradient of {name!r} has shape {gradients[name].shape}, expected {array.shape}"
            )
    return Problem(value, arrays, gradients, lambda name: call()[0])


def of_model(original: Model, X: Any, y: Any, loss: Any, seed: int) -> Problem:
    """Run one training step natively in float64, and make the forward nodes ready for the reference."""
    from pyfastnn.backends.cpu import HYPER, CpuPlan
    from pyfastnn.graph import Graph
    from pyfastnn.graph.autodiff import backward
    from pyfastnn.reference import interpret
    from pyfastnn.train.compiled import loss_graph
    from pyfastnn.train.prepare import training_data
    from pyfastnn.train.settings import check_trainable
    from pyfastnn.train.trainer import Trainer

    model = copy.deepcopy(original)
    trainer = Trainer(model, loss, seed=seed)
    check_trainable("gradient_check", model, [head.output for head in trainer.heads])
    found = training_data(trainer, X, y)
    builder, value = loss_graph(model, trainer.heads, training=True, form=found.form)
    graph = builder.graph
    forward = _upstream(Graph(graph.values, list(graph.nodes)), value)
    gradients = backward(builder, value, list(model.trained()))
    given = {**found.arrays, "index": np.arange(found.count, dtype=np.int64)}
    data = {k: v.reshape(len(v), -1) if len(graph.values[k].shape) == 2 else v for k, v in given.items()}
    data = {k: v.astype(np.float64) if graph.values[k].dtype == "T" else v for k, v in data.items()}
    state = {k: v.astype(np.float64) for k, v in {**model.arrays(), **model.folded()}.items()}
    hyper = np.zeros((1, 1 + max(node.group for node in graph.nodes), len(HYPER)))
    hyper[..., HYPER["seed"]] = seed
    hyper[..., HYPER["step"]] = 1

    plan = CpuPlan({"check": graph}, {}, max_batch=found.count, dtype="float64")
    bound = {k: v.copy() if k in state else v for k, v in {**state, **data}.items() if k in graph.values}
    traced, _ = plan.trace("check", found.count, bound, hyper=hyper)

    def gradient(name: str) -> Array:
        if name not in gradients:  # the loss does not depend on it, so autodiff says
            return np.zeros(state[name].shape)
        root = graph.values[gradients[name]].view_of or gradients[name]
        return traced[root].reshape(state[name].shape)

    arrays = {k: state[k] for k in model.trained()}
    values = {**state, **data}
    computed = {k: v for k, v in interpret(forward, values, hyper[0]).items() if not graph.values[k].view_of}
    behind = {name: _downstream(forward, name) for name in arrays}
    base = {**computed, **values}

    def evaluate(name: str) -> float:
        return float(interpret(behind[name], base, hyper[0])[value][0])

    return Problem(float(computed[value][0]), arrays, {k: gradient(k) for k in arrays}, evaluate)


def _upstream(graph: Graph, value: str) -> Graph:
    """Return the nodes that a value depends on."""
    from pyfastnn.graph import Graph

    needed, nodes = {value}, []
    for node in reversed(graph.nodes):
        if needed.intersection(node.outputs):
            nodes.append(node)
            read = [i for i in node.inputs if i is not None]
            needed.update(read, (graph.values[i].view_of for i in read))
    return Graph(graph.values, nodes[::-1])


def _downstream(graph: Graph, value: str) -> Graph:
    """Return the nodes that depend on a value."""
    from pyfastnn.graph import Graph

    views = graph.views()
    reached, nodes = {value, *views.get(value, ())}, []
    for node in graph.nodes:
        if reached.intersection(i for i in node.inputs if i is not None):
            nodes.append(node)
            for output in node.outputs:
                reached.update((output, *views.get(output, ())))
    return Graph(graph.values, nodes)
