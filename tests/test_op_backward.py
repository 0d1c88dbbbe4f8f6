"""Gradient rules and backward references against central differences in float64, with a random upstream gradient.

The kernels of the backward ops are checked against the same references in test_op_forward.py.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pyfastnn.graph import Graph, Node, Value
from pyfastnn.graph.gradients import RULES
from pyfastnn.reference import HYPER_FIELDS, Sample, interpret, specs
from pyfastnn.testing import op_table, rng_of

LOSSES = {"softmax_cross_entropy", "mean_squared_error"}
KINKED = {"relu_forward", "leaky_relu_forward", "elu_forward"}
TRIALS = 50
STEP = 1e-5


def random_sizes(op: str, rng: np.random.Generator) -> dict[str, int]:
    """Return small sizes; batch norm has rows enough for statistics that are no accident."""
    sizes = {}
    for name in specs()[op].shapes[0]:
        low = 3 if (op, name) == ("batch_norm_forward", "n") else 1
        sizes[name] = int(rng.integers(low, 7))
    return sizes


def random_case(op: str, trial: int) -> Sample:
    rng = rng_of("gradient", op, trial)
    sample = specs()[op].case(rng, "float64", **random_sizes(op, rng))
    if op in KINKED:  # central differences need a neighbourhood on one side of the kink
        x = sample.inputs["x"]
        sample.inputs["x"] = x + np.where(x > 0, 0.1, -0.1)
    return sample


def differentiate(op: str, sample: Sample, upstream: np.ndarray | None) -> dict[str, np.ndarray]:
    """Return the gradients of ``sum(upstream * first output)`` by the op's rule, run by the interpreter."""
    schema = op_table()[op]
    graph = Graph()
    names = [a["name"] if sample.inputs[a["name"]] is not None else None for a in schema["inputs"]]
    values = {}
    for arg in schema["inputs"]:
        array = sample.inputs[arg["name"]]
        if array is not None:
            graph.values[arg["name"]] = Value(arg["name"], array.shape, arg["dtype"], "input")
            values[arg["name"]] = array
    outputs = [o["name"] if o["name"] in values else f"out.{o['name']}" for o in schema["outputs"]]
    attrs = {**schema["attrs"], **sample.attrs}
    node = Node(op, tuple(names), tuple(outputs), attrs)
    graph.nodes.append(node)
    dy = {outputs[0]: None}
    if upstream is not None:
        values["upstream"] = upstream
        dy = {outputs[0]: "upstream"}

    def emit(op, inputs, attrs=None, outputs=None):
        new = tuple(f"{op}.{o['name']}{len(graph.nodes)}" for o in op_table()[op]["outputs"])
        graph.nodes.append(Node(op, tuple(inputs), new, {**op_table()[op]["attrs"], **(attrs or {})}))
        return new

    wanted = set(specs()[op].backward)
    gradients = RULES[op](node, dy, emit, wanted.__contains__)
    assert set(gradients) == wanted
    hyper = np.array([[sample.hyper.get(field, 0.0) for field in HYPER_FIELDS]])
    computed = interpret(graph, values, hyper)
    return {name: computed[gradient] for name, gradient in gradients.items()}


def central_difference(f: Callable[[np.ndarray], float], x: np.ndarray) -> np.ndarray:
    """Return the gradient of ``f`` at ``x`` from two evaluations per element."""
    gradient = np.empty_like(x)
    for index in np.ndindex(x.shape):
        step = STEP * max(1.0, abs(x[index]))
        high, low = x.copy(), x.copy()
        high[index] += step
        low[index] -= step
        gradient[index] = (f(high) - f(low)) / (high[index] - low[index])
    return gradient


def assert_gradients(op: str, sample: Sample, upstream: np.ndarray | None, gradients: dict) -> None:
    """Assert that gradients agree with central differences to 1e-6 of the largest term."""
    reference = specs()[op].reference
    for name, got in gradients.items():

        def objective(x, name=name):
            inputs = {**sample.inputs, name: x}
            y = reference(**inputs, **sample.attrs, **sample.hyper)[0]
            return float((y if upstream is None else y * upstream).sum())

        want = central_difference(objective, sample.inputs[name])
        scale = max(1.0, float(np.abs(want).max(initial=0)))
        assert got.shape == want.shape, f"{op} d{name}"
        error = float(np.abs(got - want).max(initial=0))
        assert error <= 1e-6 * scale, f"{op} {sample.label}: d{name} is off by {error}"


@pytest.mark.parametrize("op", sorted(RULES))
def test_rule_agrees_with_central_differences(op):
    for trial in range(TRIALS):
        sample = random_case(op, trial)
        upstream = None
        if op not in LOSSES:
            y = specs()[op].evaluate(sample, "float64")[0]
            upstream = rng_of("upstream", op, trial).standard_normal(y.shape)
        gradients = differentiate(op, sample, upstream)
        assert_gradients(op, sample, upstream, gradients)


def test_linear_without_bias_has_no_bias_gradient():
    sample = random_case("linear_forward", 0)
    without = Sample("nobias", {**sample.inputs, "b": None})
    calls = []
    node = Node("linear_forward", ("x", "w", None), ("y",))

    def emit(op, inputs, attrs=None, outputs=None):
        calls.append(op)
        return (f"{op}.out",)

    assert without.inputs["b"] is None
    rule = RULES["linear_forward"]
    assert rule(node, {"y": "dy"}, emit, lambda _: True) == {"x": "linear_dx.out", "w": "linear_dw.out"}
    assert calls == ["linear_dx", "linear_dw"]
    calls.clear()
    assert rule(node, {"y": "dy"}, emit, {"w"}.__contains__) == {"w": "linear_dw.out"}
    assert calls == ["linear_dw"]


def test_a_value_added_to_itself_gets_both_gradients():
    node = Node("add", ("a", "a"), ("y",))
    added = []

    def emit(op, inputs, attrs=None, outputs=None):
        added.append((op, inputs))
        return ("sum",)

    assert RULES["add"](node, {"y": "dy"}, emit, lambda _: True) == {"a": "sum"}
    assert added == [("add", ("dy", "dy"))]


def test_batch_norm_of_one_row_passes_no_gradient():
    sample = specs()["batch_norm_forward"].case(rng_of("one row"), "float64", n=1, c=5)
    gradients = differentiate("batch_norm_forward", sample, np.ones((1, 5)))
    assert (gradients["x"] == 0).all()
    assert (gradients["gamma"] == 0).all()
    assert (gradients["beta"] == 1).all()


def test_loss_rules_refuse_what_they_cannot_do():
    node = Node("mean_squared_error", ("a", "b"), ("loss", "da"))
    rule = RULES["mean_squared_error"]
    with pytest.raises(ValueError, match="scaled"):
        rule(node, {"loss": "weight"}, None, {"a"}.__contains__)
    with pytest.raises(ValueError, match="targets"):
        rule(node, {"loss": None}, None, {"b"}.__contains__)
