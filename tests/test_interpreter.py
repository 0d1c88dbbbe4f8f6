"""The reference interpreter on whole networks: every gradient against central differences."""

from __future__ import annotations

import numpy as np
import pytest

from pyfastnn.graph import Builder, Graph, Node, Value
from pyfastnn.graph.autodiff import backward
from pyfastnn.graph.schema import schema
from pyfastnn.reference import HYPER_FIELDS, interpret
from pyfastnn.testing import central_difference, rng_of

ROWS, FEATURES, HIDDEN, CLASSES = 7, 5, 6, 4


def network(activation: str, loss: str, residual: bool) -> tuple[Builder, str, list[str]]:
    """Return two hidden layers with batch norm, dropout and, if asked for, a value used twice."""
    b = Builder(training=True)
    x = b.value("x", ("n", FEATURES))
    parameters = []

    def parameter(name: str, *shape: int) -> str:
        parameters.append(name)
        return b.value(name, shape, kind="parameter")

    sizes = [FEATURES, HIDDEN, HIDDEN]
    for k in (1, 2):
        w, bias = parameter(f"w{k}", sizes[k - 1], sizes[k]), parameter(f"b{k}", sizes[k])
        (h,) = b.emit("linear_forward", (x, w, bias), name=f"linear_{k}")
        gamma, beta = parameter(f"gamma{k}", HIDDEN), parameter(f"beta{k}", HIDDEN)
        mean = b.value(f"running_mean{k}", (HIDDEN,), kind="state")
        var = b.value(f"running_var{k}", (HIDDEN,), kind="state")
        h, *_ = b.emit("batch_norm_forward", (h, gamma, beta, mean, var), name=f"norm_{k}")
        (h,) = b.emit(activation, (h,), name=f"activation_{k}")
        h, _ = b.emit("dropout_forward", (h,), {"p": 0.2, "node": float(k)}, name=f"dropout_{k}")
        x = b.emit("add", (h, x), name="add")[0] if residual and k == 2 else h
    out = CLASSES if loss == "softmax_cross_entropy" else 1
    (y,) = b.emit("linear_forward", (x, parameter("w3", HIDDEN, out), None), name="linear_3")
    if loss == "softmax_cross_entropy":
        target = b.value("target", ("n",), "i64")
    else:
        target = b.value("target", ("n", 1))
    more = [None] * (len(schema(loss).inputs) - 2)
    value = b.emit(loss, (y, target, *more), name="loss")[0]
    return b, value, parameters


def values_of(builder: Builder, seed: str) -> dict[str, np.ndarray]:
    rng = rng_of(seed)
    values = {}
    for name, value in builder.graph.values.items():
        if value.kind == "activation":
            continue
        shape = tuple(ROWS if d == "n" else d for d in value.shape)
        if value.dtype == "i64":
            values[name] = rng.integers(0, CLASSES, shape)
        elif "var" in name:
            values[name] = np.ones(shape)
        else:
            values[name] = rng.standard_normal(shape)
    return values


def hyper_row(**fields: float) -> np.ndarray:
    return np.array([[fields.get(name, 0.0) for name in HYPER_FIELDS]])


ACTIVATIONS = (
    "relu_forward",
    "leaky_relu_forward",
    "elu_forward",
    "sigmoid_forward",
    "tanh_forward",
    "selu_forward",
    "gelu_forward",
    "gelu_tanh_forward",
    "silu_forward",
    "softplus_forward",
    "softmax_forward",
    "log_softmax_forward",
)


@pytest.mark.parametrize("residual", [False, True], ids=["chain", "residual"])
@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "mean_squared_error"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_of_a_whole_network(activation, loss, residual):
    b, value, parameters = network(activation, loss, residual)
    forward = Graph(dict(b.graph.values), list(b.graph.nodes))
    names = backward(b, value, parameters)
    assert set(names) == set(parameters)
    values = values_of(b, f"{activation}-{loss}-{residual}")
    hyper = hyper_row(seed=3, step=2)
    computed = interpret(b.graph, values, hyper)
    for name in parameters:

        def objective(p, name=name):
            return float(interpret(forward, {**values, name: p}, hyper)[value][0])

        want = central_difference(objective, values[name])
        np.testing.assert_allclose(computed[names[name]], want, rtol=1e-5, atol=1e-7, err_msg=name)


def test_given_values_stay_and_updates_rebind():
    b = Builder()
    for name in ("p", "dp", "velocity"):
        b.value(name, (3,), kind="state")
    b.emit("momentum_step", ("p", "dp", "velocity"))
    b.emit("momentum_step", ("p", "dp", "velocity"))
    values = {"p": np.zeros(3), "dp": np.ones(3), "velocity": np.zeros(3)}
    row = hyper_row(learning_rate=0.1, momentum=0.5)
    computed = interpret(b.graph, values, row)
    assert values["p"].tolist() == values["velocity"].tolist() == [0, 0, 0]
    np.testing.assert_allclose(computed["velocity"], 1.5)
    np.testing.assert_allclose(computed["p"], -0.25)


def test_groups_read_their_own_row():
    b = Builder()
    for name in ("p", "q", "g"):
        b.value(name, (2,))
    b.emit("sgd_step", ("p", "g"), group=0)
    b.emit("sgd_step", ("q", "g"), group=1)
    rows = np.concatenate([hyper_row(learning_rate=1.0), hyper_row(learning_rate=0.25)])
    computed = interpret(b.graph, {"p": np.zeros(2), "q": np.zeros(2), "g": np.ones(2)}, rows)
    assert computed["p"].tolist() == [-1, -1]
    assert computed["q"].tolist() == [-0.25, -0.25]
    with pytest.raises(ValueError, match="group 1"):
        interpret(b.graph, {"p": np.zeros(2), "q": np.zeros(2), "g": np.ones(2)}, rows[:1])


def test_float_type_is_the_one_asked_for():
    b = Builder()
    b.value("data", ("m", 2), "any")
    b.value("index", ("n",), "i64")
    (x,) = b.emit("gather_rows", ("data", "index", None, None))
    (y,) = b.emit("tanh_forward", (x,))
    data = np.array([[0, 1], [2, 3]], dtype=np.uint8)
    for dtype in (np.float32, np.float64):
        computed = interpret(b.graph, {"data": data, "index": np.array([1])}, dtype=dtype)
        assert computed[x].dtype == computed[y].dtype == dtype
        assert computed[x].tolist() == [[2.0, 3.0]]
        assert computed["data"].dtype == np.uint8


def test_missing_values_and_unknown_ops_are_named():
    graph = Graph({"y": Value("y", (2,))}, [Node("relu_forward", ("x",), ("y",))])
    with pytest.raises(KeyError, match="relu_forward reads 'x'"):
        interpret(graph, {})
    graph.nodes[0] = Node("relu_sideways", ("x",), ("y",))
    with pytest.raises(KeyError, match="relu_sideways"):
        interpret(graph, {"x": np.ones(2)})
