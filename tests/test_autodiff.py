"""Gradients of whole networks, held against central differences of the loss in float64.

The interpreter runs forward and backward graph with the NumPy reference; only the forward part serves the
differences, so a term that autodiff forgets shows.
"""

from __future__ import annotations

import numpy as np
import pytest

from pyfastnn import nn
from pyfastnn.graph import BATCH, Builder
from pyfastnn.graph.autodiff import backward
from pyfastnn.nn import losses
from pyfastnn.reference import HYPER_FIELDS, interpret
from pyfastnn.testing import rng_of
from pyfastnn.train.compiled import loss_graph

ROWS, FEATURES, OUTPUTS = 7, 5, 3
HYPER = np.zeros((2, len(HYPER_FIELDS)))
HYPER[:, HYPER_FIELDS.index("seed")] = 11
HYPER[:, HYPER_FIELDS.index("step")] = 4

MIDDLES = {
    "linear": [],
    "no_bias": [nn.Linear(4, bias=False), nn.Tanh()],
    "relu": [nn.Linear(6), nn.ReLU()],
    "leaky_relu": [nn.Linear(6), nn.LeakyReLU(0.2)],
    "elu": [nn.Linear(6), nn.ELU(0.7)],
    "sigmoid": [nn.Linear(6), nn.Sigmoid()],
    "tanh": [nn.Linear(6), nn.Tanh()],
    "exp": [nn.Linear(6), nn.Tanh(), nn.Exp()],
    "selu": [nn.Linear(6), nn.SELU()],
    "gelu": [nn.Linear(6), nn.GELU()],
    "gelu_tanh": [nn.Linear(6), nn.GELU("tanh")],
    "silu": [nn.Linear(6), nn.SiLU()],
    "softplus": [nn.Linear(6), nn.Softplus()],
    "prelu": [nn.Linear(6), nn.PReLU()],
    "prelu_shared": [nn.PReLU(shared=True), nn.Linear(6), nn.PReLU(shared=True, init=-0.5)],
    "softmax": [nn.Linear(6), nn.Softmax()],
    "log_softmax": [nn.Linear(6), nn.LogSoftmax()],
    "maxout": [nn.Maxout(6), nn.Maxout(4, pieces=3, bias=False)],
    "batch_norm": [nn.Linear(6), nn.BatchNorm(eps=1e-2)],
    "batch_norm_first": [nn.BatchNorm(), nn.Linear(4), nn.Sigmoid()],
    "dropout": [nn.Linear(6), nn.Dropout(0.4)],
    "two_dropouts": [nn.Dropout(0.3), nn.Linear(6), nn.Dropout(0.3)],
    "all": [nn.Linear(6), nn.BatchNorm(), nn.ELU(), nn.Dropout(0.2), nn.Linear(5), nn.BatchNorm(), nn.Tanh()],
}


def network(middle: str, loss: losses.Loss):
    """Return builder, loss value, parameters and float64 inputs of a small network with random weights."""
    rng = rng_of("autodiff", middle, loss.kind)
    model = nn.Sequential(*MIDDLES[middle], nn.Linear(OUTPUTS), dtype="float64").build((FEATURES,))
    builder, value = loss_graph(model, loss, training=True)
    values = {k: a.copy() for k, a in model.arrays().items()}
    for name in values:
        if not name.endswith("running_var"):
            values[name] += 0.3 * rng.standard_normal(values[name].shape)
    values["X"] = rng.standard_normal((20, FEATURES))
    values["index"] = rng.permutation(20)[:ROWS]
    classes = loss.task == "classification"
    values["y"] = rng.integers(0, OUTPUTS, 20) if classes else rng.standard_normal((20, OUTPUTS))
    return builder, value, [k for k, p in model.declared.items() if p.learned], values


def central(graph, loss: str, values, name: str, step: float = 1e-6) -> np.ndarray:
    """Return the gradient of a value by central differences."""
    gradient = np.empty_like(values[name])
    for at in np.ndindex(gradient.shape):
        found = []
        for sign in (1, -1):
            moved = {**values, name: values[name].copy()}
            moved[name][at] += sign * step
            found.append(float(interpret(graph, moved, HYPER)[loss][0]))
        gradient[at] = (found[0] - found[1]) / (2 * step)
    return gradient


def assert_close(got: np.ndarray, want: np.ndarray, name: str) -> None:
    """Central differences at step h err by O(h**2) and by 2**-52 / h of the loss: together under 1e-8 of its scale."""
    np.testing.assert_allclose(got, want, rtol=2e-6, atol=2e-8, err_msg=name)


@pytest.mark.parametrize("loss", [losses.SoftmaxCrossEntropy(), losses.MeanSquaredError()], ids=lambda v: v.kind)
@pytest.mark.parametrize("middle", MIDDLES)
def test_every_parameter(middle, loss):
    builder, value, learned, values = network(middle, loss)
    forward = type(builder.graph)(dict(builder.graph.values), list(builder.graph.nodes))
    gradients = backward(builder, value, learned)
    assert list(gradients) == learned
    computed = interpret(builder.graph, values, HYPER)
    for name in learned:
        assert_close(computed[gradients[name]], central(forward, value, values, name), name)


def test_the_gradient_of_the_data():
    """``wanted`` may be an input: the gradient goes through every layer down to the gathered rows."""
    builder, value, _, values = network("all", losses.SoftmaxCrossEntropy())
    gradients = backward(builder, value, ["x"])
    computed = interpret(builder.graph, values, HYPER)
    dx = computed[gradients["x"]]
    rows = values["index"]
    for row, feature in [(0, 0), (3, 4), (6, 2)]:
        found = []
        for sign in (1, -1):
            moved = {**values, "X": values["X"].copy()}
            moved["X"][rows[row], feature] += sign * 1e-6
            found.append(float(interpret(builder.graph, moved, HYPER)[value][0]))
        assert_close(dx[row, feature], np.array((found[0] - found[1]) / 2e-6), f"x[{row},{feature}]")


def used_twice() -> tuple[Builder, str, dict[str, np.ndarray]]:
    """Return a graph in which a value, a weight and a sum have several readers: tanh(x w) w + sigmoid(x w) + x w + x w."""
    builder = Builder(training=True)
    x = builder.value("x", (BATCH, 4))
    w = builder.value("w", (4, 4), kind="parameter")
    b = builder.value("b", (4,), kind="parameter")
    target = builder.value("target", (BATCH, 4))
    (h,) = builder.emit("linear_forward", (x, w, b), outputs=("h",))
    (a,) = builder.emit("tanh_forward", (h,), outputs=("a",))
    (again,) = builder.emit("linear_forward", (a, w, b), outputs=("again",))
    (s,) = builder.emit("sigmoid_forward", (h,), outputs=("s",))
    (one,) = builder.emit("add", (again, s), outputs=("one",))
    (two,) = builder.emit("add", (h, h), outputs=("two",))
    (y,) = builder.emit("add", (one, two), outputs=("y",))
    (loss, _) = builder.emit("mean_squared_error", (y, target, None), outputs=("loss", "d(y)"))
    rng = rng_of("used twice")
    values = {k: rng.standard_normal(s) for k, s in {"x": (3, 4), "w": (4, 4), "b": (4,), "target": (3, 4)}.items()}
    return builder, loss, values


def test_values_used_twice():
    builder, loss, values = used_twice()
    forward = type(builder.graph)(dict(builder.graph.values), list(builder.graph.nodes))
    gradients = backward(builder, loss, ["w", "b", "x"])
    computed = interpret(builder.graph, values)
    for name in ("w", "b", "x"):
        assert_close(computed[gradients[name]], central(forward, loss, values, name), name)


def test_only_what_is_wanted_is_computed():
    """No node is added for the gradient of the data, nor for a weight nobody asked for."""
    builder, loss, _ = used_twice()
    before = len(builder.graph.nodes)
    backward(builder, loss, ["b"])
    added = [n.op for n in builder.graph.nodes[before:]]
    assert "linear_dw" not in added
    assert added.count("linear_dx") == 1
    builder, value, learned, _ = network("relu", losses.SoftmaxCrossEntropy())
    last = [k for k in learned if k.startswith("linear_2")]
    before = len(builder.graph.nodes)
    assert list(backward(builder, value, last)) == last
    assert [n.op for n in builder.graph.nodes[before:]] == ["linear_dw", "linear_db"]


def test_values_the_loss_does_not_depend_on_are_absent():
    builder, loss, _ = used_twice()
    lonely = builder.value("lonely", (2,), kind="parameter")
    assert list(backward(builder, loss, ["w", lonely])) == ["w"]


def test_op_without_a_rule_is_named():
    builder = Builder()
    x = builder.value("x", (BATCH, 2))
    (y,) = builder.emit("relu_backward", (x, x))
    target = builder.value("target", (BATCH, 2))
    loss = builder.emit("mean_squared_error", (y, target, None))[0]
    with pytest.raises(ValueError, match="relu_backward has no gradient rule"):
        backward(builder, loss, ["x"])


def test_a_start_that_is_no_loss_is_refused():
    builder, _, _ = used_twice()
    with pytest.raises(ValueError, match="'y' is no loss"):
        backward(builder, "y", ["w"])


def test_a_wrong_gradient_would_show():
    """The comparison rejects a thousandth too much, and a term that is left out."""
    builder, loss, values = used_twice()
    forward = type(builder.graph)(dict(builder.graph.values), list(builder.graph.nodes))
    want = central(forward, loss, values, "w")
    with pytest.raises(AssertionError):
        assert_close(want * 1.001, want, "w")
    gradients = backward(builder, loss, ["w"])
    computed = interpret(builder.graph, values)
    parts = [n.inputs for n in builder.graph.nodes if n.op == "add" and n.outputs[0] == gradients["w"]]
    assert len(parts) == 1
    for part in parts[0]:
        with pytest.raises(AssertionError):
            assert_close(computed[part], want, "w")
