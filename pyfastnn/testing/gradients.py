"""Gradient rules judged by central differences in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from pyfastnn.graph import Graph, Node, Value
from pyfastnn.graph.gradients import RULES
from pyfastnn.reference import HYPER_FIELDS, Sample, interpret, specs
from pyfastnn.testing.calls import op_table, rng_of
from pyfastnn.testing.compare import Array

LOSSES = (
    "softmax_cross_entropy",
    "multiclass_hinge",
    "binary_cross_entropy",
    "mean_squared_error",
    "mean_absolute_error",
    "huber",
    "poisson",
    "add_losses",
)
"""Ops whose first output is a loss: the gradient that flows into it is a number known beforehand."""

_LEAST = {
    ("batch_norm_forward", "n"): 3,
    ("layer_norm_forward", "c"): 3,
    ("group_norm_forward", "k"): 3,
    ("prelu_forward", "n"): 3,
    ("prelu_forward", "c"): 3,
    ("gelu_forward", "size"): 3,
    ("gelu_tanh_forward", "size"): 3,
    ("softmax_forward", "c"): 2,
    ("log_softmax_forward", "c"): 2,
}
"""Least sizes: statistics of one or two numbers have no derivative to speak of, nor has the tail of gelu or the softmax of one
number, and PReLU wants inputs of both signs."""

_KINKED = ("relu_forward", "leaky_relu_forward", "elu_forward", "selu_forward", "prelu_forward")
_STEP = 1e-5


def _random_sizes(op: str, rng: np.random.Generator) -> dict[str, int]:
    """Return small sizes; enough for a derivative to speak of."""
    sizes = {}
    most = 6 if len(specs()[op].shapes[0]) < 10 else 3
    for name in specs()[op].shapes[0]:
        sizes[name] = int(rng.integers(_LEAST.get((op, name), 1), most + 1))
    return sizes


def random_case(op: str, trial: int) -> Sample:
    """Return a small random float64 sample that keeps away from kinks."""
    rng = rng_of("gradient", op, trial)
    sample = specs()[op].case(rng, "float64", **_random_sizes(op, rng))
    while (
        op == "conv2d_forward"
        and not specs()[op].evaluate(replace(sample, inputs={**sample.inputs, "b": None}), "f8")[0].any()
    ):
        sample = specs()[op].case(rng, "float64", **_random_sizes(op, rng))  # its filter saw nothing but padding
    if op in _KINKED:  # central differences need a neighbourhood on one side of the kink
        x = sample.inputs["x"]
        assert x is not None
        away = x + np.where(x > 0, 0.1, -0.1)
        sample = replace(sample, inputs={**sample.inputs, "x": away})
    if op == "max_pool_forward":  # the largest of a window is by far the largest
        x = sample.inputs["x"]
        assert x is not None
        sample = replace(sample, inputs={**sample.inputs, "x": rng.permutation(x.size).reshape(x.shape) / 8})
    if op == "mean_absolute_error":
        y_pred, y_true = sample.inputs["y_pred"], sample.inputs["y_true"]
        assert y_pred is not None and y_true is not None
        away = y_pred + np.where(y_pred > y_true, 0.1, -0.1)
        sample = replace(sample, inputs={**sample.inputs, "y_pred": away})
    if op == "multiclass_hinge":  # margins are whole quarters and a tenth
        scores, labels = sample.inputs["scores"], sample.inputs["labels"]
        assert scores is not None and labels is not None
        away = np.round(scores * 4) / 4
        away[np.arange(len(labels)), labels] += 0.1
        sample = replace(sample, inputs={**sample.inputs, "scores": away})
    return sample


class _Emitter:
    """Appends the nodes of a gradient rule to a graph of which only the inputs have values."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def __call__(
        self,
        op: str,
        inputs: Sequence[str | None],
        attrs: Mapping[str, float] | None = None,
        outputs: Sequence[str] | None = None,
    ) -> tuple[str, ...]:
        new = tuple(f"{op}.{o['name']}{len(self._graph.nodes)}" for o in op_table()[op]["outputs"])
        self._graph.nodes.append(Node(op, tuple(inputs), new, {**op_table()[op]["attrs"], **(attrs or {})}))
        return new

    def shape(self, value: str) -> tuple[int | str, ...]:
        return self._graph.values[value].shape


def differentiate(op: str, sample: Sample, upstream: Array | None) -> dict[str, Array]:
    """Return the gradients of ``sum(upstream * first output)`` by the op's gradient rule; for a loss ``upstream`` is one number."""
    schema = op_table()[op]
    graph = Graph()
    names = [a["name"] if sample.inputs[a["name"]] is not None else None for a in schema["inputs"]]
    values: dict[str, Array] = {}
    for arg in schema["inputs"]:
        array = sample.inputs[arg["name"]]
        if array is not None:
            graph.values[arg["name"]] = Value(arg["name"], array.shape, arg["dtype"], "input")
            values[arg["name"]] = array
    outputs = [o["name"] if o["name"] in values else f"out.{o['name']}" for o in schema["outputs"]]
    attrs = {**schema["attrs"], **sample.attrs}
    node = Node(op, tuple(names), tuple(outputs), attrs)
    graph.nodes.append(node)
    dy: dict[str, str | float] = {outputs[0]: 1.0}
    if upstream is not None and op in LOSSES:
        dy = {outputs[0]: float(upstream.item())}
    elif upstream is not None:
        values["upstream"] = upstream
        dy = {outputs[0]: "upstream"}

    wanted = set(specs()[op].backward)
    gradients = RULES[op](node, dy, _Emitter(graph), wanted.__contains__)
    assert set(gradients) == wanted
    hyper = np.array([[sample.hyper.get(field, 0.0) for field in HYPER_FIELDS]])
    computed = interpret(graph, values, hyper)
    return {
        name: computed[gradient] if isinstance(gradient, str) else np.full(values[name].shape, gradient)
        for name, gradient in gradients.items()
    }


def central_difference(f: Callable[[Array], float], x: Array) -> Array:
    """Return the gradient of ``f`` at ``x`` from two evaluations per element."""
    gradient = np.empty_like(x)
    for index in np.ndindex(x.shape):
        step = _STEP * max(1.0, float(abs(x[index])))
        high, low = x.copy(), x.copy()
        high[index] += step
        low[index] -= step
        gradient[index] = (f(high) - f(low)) / (high[index] - low[index])
    return gradient


def assert_gradients(op: str, sample: Sample, upstream: Array | None, gradients: Mapping[str, Array]) -> None:
    """Assert that gradients agree with central differences to 1e-6 of the largest element.

    Raises
    ------
    AssertionError
        If one does not; names the op and the input.
    """
    reference = specs()[op].reference
    for name, got in gradients.items():

        def objective(x: Array, name: str = name) -> float:
            inputs = {**sample.inputs, name: x}
            y = reference(**inputs, **sample.attrs, **sample.hyper)[0]
            return float((y if upstream is None else y * upstream).sum())

        at = sample.inputs[name]
        assert at is not None
        want = central_difference(objective, at)
        scale = max(1.0, float(np.abs(want).max(initial=0)))
        assert got.shape == want.shape, f"{op} d{name}"
        error = float(np.abs(got - want).max(initial=0))
        assert error <= 1e-6 * scale, f"{op} {sample.label}: d{name} is off by {error}"
