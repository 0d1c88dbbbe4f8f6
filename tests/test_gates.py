"""The teaching graph: every gate against central differences, forks, broadcasting, errors, and training natively."""

from __future__ import annotations

import math

import numpy as np
import pytest

import pyfastnn as fnn
from pyfastnn import gates, nn
from pyfastnn.backends.cpu import HYPER, CpuPlan
from pyfastnn.gates import Add, ComputationalGraph, Gate, Linear, Max, Multiply, ReLU, Sigmoid, Sum, Tanh
from pyfastnn.graph import Builder
from pyfastnn.graph.autodiff import backward
from pyfastnn.graph.schema import schemas
from pyfastnn.reference import interpret
from pyfastnn.testing import assert_same_bits, rng_of

UNARY = {
    "exp": gates.Exp(),
    "log": gates.Log(),
    "inverse": gates.Inverse(),
    "negate": gates.Negate(),
    "addconstant": gates.AddConstant(2.5),
    "multiplyconstant": gates.MultiplyConstant(-1.5),
    "square": gates.Square(),
    "sigmoid": Sigmoid(),
    "tanh": Tanh(),
    "relu": ReLU(),
    "sum": Sum(),
}
BINARY = {"add": Add(), "subtract": gates.Subtract(), "multiply": Multiply(), "divide": gates.Divide(), "max": Max()}
OTHERS = {
    "dot_vectors": (gates.Dot(), (4,), (4,)),
    "dot_matrix_vector": (gates.Dot(), (3, 4), (4,)),
    "dot_vector_matrix": (gates.Dot(), (4,), (4, 2)),
    "dot_matrices": (gates.Dot(), (3, 4), (4, 2)),
    "linear": (Linear(), (5, 4), (4, 3), (3,)),
    "mse": (gates.MeanSquaredError(), (3, 2), (3, 2)),
}
SHAPES = [((), ()), ((3,), (3,)), ((2, 3), (3,)), ((), (2, 3)), ((2, 1), (1, 3)), ((1,), (4,)), ((0,), (0,))]


def plane(x):
    """Return float64 numbers from 0.5 to 2: away from kinks and poles, no two equal."""
    return 0.5 + 1.5 * x


def check(gate: Gate, *shapes: tuple[int, ...]) -> None:
    """Hold the gradients of a gate inside a small graph against central differences."""
    rng = rng_of("gates", repr(gate), shapes)
    values = {f"x{k}": plane(rng.random(shape)) for k, shape in enumerate(shapes)}
    weight = None

    def run(point):
        nonlocal weight
        g = ComputationalGraph()
        y = gate(*g.inputs(*point))
        out = g.forward(**point)
        assert out.dtype == np.float64
        if weight is None:
            weight = rng.standard_normal(y.value.shape)
        return float(np.sum(out * weight)), g.backward(weight)

    found = fnn.diagnose.gradient_check(run, values, samples=None)
    assert found.passed, str(found)
    assert sum(p.kinks for p in found.parameters) == 0


def test_every_gate_is_tested():
    tested = {type(g) for g in (*UNARY.values(), *BINARY.values(), *(o[0] for o in OTHERS.values()))}
    known = {getattr(gates, name) for name in gates.__all__}
    missing = {g for g in known if issubclass(g, Gate)} - tested - {Gate, gates.SoftmaxCrossEntropy}
    assert not missing


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)], ids=str)
@pytest.mark.parametrize("gate", UNARY.values(), ids=UNARY)
def test_gradient_of_one_input(gate, shape):
    check(gate, shape)


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("gate", BINARY.values(), ids=BINARY)
def test_gradient_of_two_inputs(gate, shapes):
    check(gate, *shapes)


@pytest.mark.parametrize("case", OTHERS.values(), ids=OTHERS)
def test_gradient_of_products(case):
    check(*case)


def test_softmax_cross_entropy():
    scores = rng_of("softmax gate").standard_normal((4, 3)) * 3
    labels = [0, 2, 1, 2]

    def run(point):
        g = ComputationalGraph()
        gates.SoftmaxCrossEntropy()(*g.inputs("scores", "labels"))
        return float(g.forward(scores=point, labels=labels)), g.backward()["scores"]

    assert fnn.diagnose.gradient_check(run, scores, samples=None)
    p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    assert run(scores)[0] == pytest.approx(-np.log(p[range(4), labels]).mean(), rel=1e-14)


def test_gradients_meet_at_forks():
    """f = (x + y)(x + max(y, z)), by hand: df/dx = (x + m) + (x + y), df/dy = (x + m) + (x + y) where y > z."""
    g = ComputationalGraph()
    x, y, z = g.inputs("x", "y", "z")
    Multiply()(Add()(x, y), Add()(x, Max()(y, z)))
    assert g.forward(x=2, y=5, z=1) == 49
    assert {k: float(v) for k, v in g.backward().items()} == {"x": 14, "y": 14, "z": 0}
    assert {k: float(v) for k, v in g.backward(0.5).items()} == {"x": 7, "y": 7, "z": 0}


def test_a_wire_read_twice_by_one_gate():
    g = ComputationalGraph()
    x = g.input("x")
    Multiply()(x, x)
    g.forward(x=3)
    assert g.backward()["x"] == 6


def test_an_input_may_have_any_name():
    g = ComputationalGraph()
    Multiply()(*g.inputs("self", "weights of the cell"))
    assert g.forward(**{"self": 2, "weights of the cell": 3}) == 6


def test_only_the_last_gate_counts():
    g = ComputationalGraph()
    x, y, z = g.inputs("x", "y", "z")
    aside = gates.Log()(z)
    Add()(x, y)
    g.forward(x=1, y=2, z=-1)
    found = g.backward()
    assert {k: float(v) for k, v in found.items()} == {"x": 1, "y": 1, "z": 0}
    assert math.isnan(aside.value)
    assert aside.gradient == 0


def test_nan_goes_through():
    for gate in UNARY.values():
        g = ComputationalGraph()
        gate(g.input("x"))
        assert math.isnan(g.forward(x=math.nan)), gate
    for gate in BINARY.values():
        for a, b in [(1.0, math.nan), (math.nan, 1.0)]:
            g = ComputationalGraph()
            gate(*g.inputs("a", "b"))
            assert math.isnan(g.forward(a=a, b=b)), gate
    g = ComputationalGraph()
    Max()(*g.inputs("a", "b"))
    for a, b, want in [(1, math.nan, (0, 1)), (math.nan, 1, (1, 0)), (2, 2, (1, 0))]:
        g.forward(a=a, b=b)
        assert tuple(float(v) for v in g.backward().values()) == want
    g = ComputationalGraph()
    ReLU()(g.input("x"))
    g.forward(x=math.nan)
    assert g.backward()["x"] == 1  # as the engine's: the gradient passes where the output is not 0


def test_far_tails_do_not_overflow():
    g = ComputationalGraph()
    Sigmoid()(g.input("x"))
    assert g.forward(x=-800.0) == 0
    assert g.forward(x=800.0) == 1
    assert gates.Neuron([1.0]).tick([-800.0]) == 0
    assert gates.Neuron([1.0]).tick([800.0]) == 1
    assert math.isnan(gates.Neuron([1.0]).tick([math.nan]))


def test_the_loops_of_the_lecture():
    g = ComputationalGraph()
    x, y = g.inputs("x", "y")
    Sigmoid()(Multiply()(x, y))
    g.forward(x=0.5, y=-2)
    want = g.backward()
    nodes = g.nodes_topologically_sorted()
    assert [n.name for n in nodes] == ["multiply_1", "sigmoid_1"]
    for node in nodes:
        node.forward()
    x.gradient = y.gradient = None
    nodes[-1].gradient = np.ones(())
    for node in reversed(nodes):
        node.backward()
    assert (x.gradient, y.gradient) == (want["x"], want["y"])


def test_names():
    g = ComputationalGraph()
    x, taken = g.inputs("x", "add_1")
    assert [Add()(x, x).name, Add()(x, taken, name="sum").name, Add()(x, x).name] == ["add_2", "sum", "add_3"]
    assert "add_2 = Add()(x, x)" in repr(g.wires["add_2"])


class Wrong(Gate):
    def forward(self, x):
        return 2 * x

    def backward(self, dy, y, x):
        return (np.zeros((2, 2)),)


class TooMany(Wrong):
    def backward(self, dy, y, x):
        return dy, dy


def graph(*names: str):
    g = ComputationalGraph()
    return g, g.inputs(*names)


ERRORS = [
    (lambda: Add()(graph("x")[1][0]), TypeError, "Add reads 2 wires, 1 given"),
    (lambda: Sigmoid()(), TypeError, "Sigmoid reads 1 wire, 0 given"),
    (lambda: Add()(graph("x")[1][0], 3), TypeError, "Add: input 2 is 3, expected a wire"),
    (lambda: Add()(graph("x")[1][0], graph("y")[1][0]), ValueError, "'x' and 'y' belong to different graphs"),
    (lambda: graph("x", "x"), ValueError, "two wires are named 'x'"),
    (lambda: graph(""), ValueError, "the name is empty"),
    (lambda: graph(3), TypeError, "name is 3, expected a string"),
    (lambda: graph("x")[0].forward(x=1), RuntimeError, "no gates yet"),
    (lambda: sigmoid().backward(), RuntimeError, "'sigmoid_1' has no value yet"),
    (lambda: sigmoid().forward(), TypeError, "no value for input 'x'"),
    (lambda: sigmoid().forward(x=1, X=1), TypeError, "unknown input 'X', did you mean 'x'"),
    (lambda: sigmoid().forward(x="one"), TypeError, "'x' has dtype <U3, expected numbers"),
    (lambda: run(sigmoid()).backward([1.0, 2.0]), ValueError, r"'upstream' has shape \(2,\), expected \(\)"),
    (lambda: gates.AddConstant("1"), TypeError, "'c' is '1', expected a number"),
    (lambda: gates.MultiplyConstant(math.inf), ValueError, "'c' is inf"),
    (lambda: gates.Neuron([[1.0]]), ValueError, r"'weights' has shape \(1, 1\)"),
    (lambda: gates.Neuron([1.0, 2.0]).tick([1.0]), ValueError, r"'inputs' has shape \(1,\), expected \(2,\)"),
    (lambda: forward(Add(), np.ones(2), np.ones(3)), ValueError, "add_1: operands could not be broadcast"),
    (lambda: forward(gates.Dot(), 1.0, np.ones(3)), ValueError, r"dot_1: shapes \(\) and \(3,\) do not fit"),
    (lambda: forward(Linear(), np.ones((2, 3)), np.ones((2, 3)), np.ones(3)), ValueError, "linear_1: shapes"),
    (lambda: forward(gates.MeanSquaredError(), np.ones(3), np.ones((3, 1))), ValueError, "predictions have shape"),
    (lambda: forward(gates.SoftmaxCrossEntropy(), np.ones((2, 3)), [0, 3]), ValueError, "labels hold 3, expected"),
    (lambda: forward(gates.SoftmaxCrossEntropy(), np.ones((2, 3)), [0.5, 1]), ValueError, "labels hold 0.5, expected"),
    (lambda: forward(gates.SoftmaxCrossEntropy(), np.ones((2, 3)), [0]), ValueError, "scores have shape"),
    (lambda: forward(Gate(), 1.0), NotImplementedError, "Gate has no forward"),
    (
        lambda: forward(Wrong(), np.ones(3)).backward(),
        ValueError,
        r"gradient of shape \(2, 2\) for 'x0' of shape \(3,\)",
    ),
    (lambda: forward(TooMany(), 1.0).backward(), ValueError, "returned 2 gradients for 1 inputs"),
    (lambda: graph("x")[1][0].forward(), RuntimeError, "'x' is an input"),
    (lambda: graph("x")[1][0].backward(), RuntimeError, "'x' is an input"),
    (lambda: sigmoid().to_graph(), RuntimeError, "call g.forward"),
    (lambda: run(sigmoid()).to_graph(parameters=["w"]), ValueError, "unknown input in 'parameters' 'w'"),
    (lambda: run(sigmoid()).to_graph(batch="x"), TypeError, "'batch' is 'x', expected a list"),
    (lambda: run(sigmoid()).to_graph(batch=["x"]), ValueError, "'x' in 'batch' is a scalar"),
    (lambda: forward(Max(), 1.0, 2.0).to_graph(), ValueError, r"gate 'max_1', Max\(\), cannot run natively: .* no op"),
    (lambda: forward(gates.AddConstant(2), 1.0).to_graph(), ValueError, r"AddConstant\(2\), cannot run natively"),
    (
        lambda: forward(Add(), np.ones(2), 1.0).to_graph(),
        ValueError,
        r"gate 'add_1', Add\(\): add: 'b' has shape \(1,\)",
    ),
]


def sigmoid() -> ComputationalGraph:
    g, (x,) = graph("x")
    Sigmoid()(x)
    return g


def run(g: ComputationalGraph) -> ComputationalGraph:
    g.forward(x=1.0)
    return g


def forward(gate: Gate, *values) -> ComputationalGraph:
    g, wires = graph(*(f"x{k}" for k in range(len(values))))
    gate(*wires)
    g.forward(**{f"x{k}": v for k, v in enumerate(values)})
    return g


@pytest.mark.parametrize("case", range(len(ERRORS)))
def test_errors(case):
    call, exception, message = ERRORS[case]
    with pytest.raises(exception, match=message):
        call()


def test_a_failed_forward_leaves_no_old_values():
    g, (a, b) = graph("a", "b")
    Sum()(Add()(a, b))
    g.forward(a=[1.0, 2.0], b=[1.0, 2.0])
    with pytest.raises(ValueError, match="add_1"):
        g.forward(a=[1.0, 2.0], b=[1.0, 2.0, 3.0])
    with pytest.raises(RuntimeError, match="no value yet"):
        g.backward()


# To the engine


def network() -> tuple[ComputationalGraph, dict[str, np.ndarray]]:
    """Return a small classifier wired by hand, with a fork, and values for its inputs."""
    g, (x, w1, b1, w2, b2, labels) = graph("x", "w1", "b1", "w2", "b2", "labels")
    h = ReLU()(Linear()(x, w1, b1))
    h = Add()(h, Tanh()(h))
    gates.SoftmaxCrossEntropy()(Linear()(h, w2, b2), labels, name="loss")
    rng = rng_of("gates network")
    shapes = {"x": (12, 5), "w1": (5, 8), "b1": (8,), "w2": (8, 3), "b2": (3,)}
    values = {k: rng.standard_normal(s) for k, s in shapes.items()}
    return g, {**values, "labels": rng.integers(0, 3, 12)}


def test_the_engines_graph_computes_the_same():
    g, values = network()
    loss = g.forward(**values)
    want = g.backward()
    built = g.to_graph(parameters=["w1", "b1", "w2", "b2"], batch=["x", "labels"])
    builder = Builder(training=True)
    builder.graph = built
    names = backward(builder, "loss", ["x", "w1", "b1", "w2", "b2"])
    computed = interpret(builder.graph, values)
    np.testing.assert_allclose(computed["loss"][0], loss, rtol=1e-14)
    for name, gradient in names.items():
        np.testing.assert_allclose(computed[gradient], want[name], rtol=1e-11, atol=1e-14, err_msg=name)
        assert np.abs(want[name]).max() > 1e-3


def test_training_natively():
    """Fifty steps of the plan give the weights of fifty steps by hand with the gates' own gradients."""
    g, values = network()
    parameters = ["w1", "b1", "w2", "b2"]
    g.forward(**values)
    builder = Builder(training=True)
    builder.graph = g.to_graph(parameters=parameters, batch=["x", "labels"])
    for name, gradient in backward(builder, "loss", parameters).items():
        builder.emit("sgd_step", (name, gradient), name="update")
    plan = CpuPlan({"train": builder.graph}, {"loss": "step"}, max_batch=12, dtype="float64")
    native = {k: np.array(values[k]) for k in parameters}
    hyper = np.zeros((1, 1, len(HYPER)))
    hyper[..., HYPER["learning_rate"]] = 0.1
    losses = np.zeros(50)
    for step in range(50):
        data = {"x": values["x"], "labels": values["labels"], "loss": losses[step : step + 1]}
        plan.run("train", 12, 12, {**native, **data}, hyper=hyper)
    by_hand = dict(values)
    for step in range(50):
        assert losses[step] == pytest.approx(float(g.forward(**by_hand)), rel=1e-9)
        for name, gradient in g.backward().items():
            if name in parameters:
                by_hand[name] = by_hand[name] - 0.1 * gradient
    for name in parameters:
        np.testing.assert_allclose(native[name], by_hand[name], rtol=1e-8, atol=1e-10, err_msg=name)
    assert losses[-1] < 0.5 * losses[0]


def scores_graph() -> ComputationalGraph:
    """Return a two-layer net by hand with the first values of ``nn.Sequential(Linear(8), ReLU, Linear(3))``."""
    g, (x, w1, b1, w2, b2) = graph("x", "w1", "b1", "w2", "b2")
    Linear()(ReLU()(Linear()(x, w1, b1)), w2, b2)
    same = nn.Sequential(nn.Linear(8), nn.ReLU(), nn.Linear(3)).build((5,)).parameters
    first = {k: same[f"linear_{k[1]}.{k[0]}"] for k in ("w1", "b1", "w2", "b2")}
    g.forward(x=np.zeros((1, 5)), **first)
    return g


PARAMETERS = ["w1", "b1", "w2", "b2"]


def test_a_layer_of_gates_trains_like_layers():
    """The Trainer makes the same bits of a net wired by hand as of the layers that are the same ops."""
    rng = rng_of("layer of gates")
    X, y = rng.standard_normal((70, 5)).astype("f4"), rng.integers(0, 3, 70)
    g = scores_graph()
    by_hand = nn.Sequential(g.to_layer(inputs=["x"], parameters=PARAMETERS))
    layers = nn.Sequential(nn.Linear(8), nn.ReLU(), nn.Linear(3))
    for model in (by_hand, layers):
        fnn.Trainer(model, optimizer=fnn.optim.AdamW(0.01)).fit(X, y, epochs=4, verbose=0)
    for name in PARAMETERS:
        assert_same_bits(by_hand.parameters[f"gates_1.{name}"], layers.parameters[f"linear_{name[1]}.{name[0]}"], name)
    assert_same_bits(by_hand(X), layers(X))
    assert fnn.diagnose.gradient_check(by_hand, X, y)
    assert "GraphLayer(x; 3 gates)" in repr(by_hand)
    before = g.wires["w1"].value.copy()
    fnn.Trainer(by_hand).fit(X, y, epochs=1, verbose=0)
    assert_same_bits(g.wires["w1"].value, before)


def test_a_layer_of_gates_with_two_inputs():
    g, (a, b, w) = graph("a", "b", "w")
    Tanh()(Add()(gates.Dot()(a, w), b))
    values = {"a": np.ones((2, 4)), "b": np.ones((2, 3)), "w": rng_of("w").standard_normal((4, 3))}
    want = g.forward(**values)
    p, q = nn.Input((4,), name="p"), nn.Input((3,), name="q")
    model = nn.Model([p, q], g.to_layer(inputs=["a", "b"], parameters=["w"])(p, q))
    np.testing.assert_allclose(model({"p": values["a"], "q": values["b"]}), want, rtol=1e-5)


LAYER_ERRORS = [
    (lambda g: g.to_layer(inputs="x"), TypeError, "'inputs' is 'x', expected a list"),
    (lambda g: g.to_layer(inputs=["X"]), ValueError, "unknown input in 'inputs' 'X', did you mean 'x'"),
    (lambda g: g.to_layer(inputs=["x"], parameters=["w1"]), ValueError, "'b1' stands in neither"),
    (lambda g: g.to_layer(inputs=["x", "x"], parameters=PARAMETERS), ValueError, "'x' stands twice in"),
    (lambda g: g.to_layer(inputs=[], parameters=["x", *PARAMETERS]), ValueError, "'inputs' is empty"),
    (lambda g: sigmoid().to_layer(inputs=[], parameters=["x"]), ValueError, "'inputs' is empty"),
    (lambda g: unset().to_layer(inputs=["x"], parameters=["w"]), RuntimeError, "'w' has no first value"),
    (lambda g: dotted().to_layer(inputs=["x"], parameters=["w.a"]), ValueError, "'w.a' has a dot"),
    (lambda g: built(g).save("no.safetensors"), TypeError, "cannot be saved in a model file"),
    (lambda g: built(g, (6,)), ValueError, "gate 'linear_1'"),
    (
        lambda g: nn.Sequential(loss().to_layer(inputs=["a", "b"])).build((3,)),
        ValueError,
        "called on 1 values, expected a, b",
    ),
    (lambda g: with_loss(), ValueError, r"the last gate gives shape \(1,\), expected rows: leave out the loss"),
    (lambda g: routed(), ValueError, r"gate 'max_1', Max\(\), cannot run natively"),
]


def built(g: ComputationalGraph, shape=(5,)) -> nn.Model:
    return nn.Sequential(g.to_layer(inputs=["x"], parameters=PARAMETERS)).build(shape)


def unset() -> ComputationalGraph:
    g, (x, w) = graph("x", "w")
    gates.Dot()(x, w)
    return g


def dotted() -> ComputationalGraph:
    g, (x, w) = graph("x", "w.a")
    gates.Dot()(x, w)
    g.forward(**{"x": np.ones((1, 2)), "w.a": np.ones((2, 2))})
    return g


def loss() -> ComputationalGraph:
    g, (a, b) = graph("a", "b")
    gates.MeanSquaredError()(a, b)
    return g


def with_loss():
    a, b = nn.Input((3,), name="a"), nn.Input((3,), name="b")
    return loss().to_layer(inputs=["a", "b"])(a, b)


def routed():
    g, (a, b) = graph("a", "b")
    Max()(a, b)
    p, q = nn.Input((3,), name="p"), nn.Input((3,), name="q")
    return g.to_layer(inputs=["a", "b"])(p, q)


@pytest.mark.parametrize("case", range(len(LAYER_ERRORS)))
def test_errors_of_layers(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call, exception, message = LAYER_ERRORS[case]
    with pytest.raises(exception, match=message):
        call(scores_graph())


NATIVE = [
    (Add(), 2),
    (gates.Subtract(), 2),
    (Multiply(), 2),
    (gates.Exp(), 1),
    (gates.Negate(), 1),
    (gates.MultiplyConstant(2.5), 1),
    (gates.Square(), 1),
    (Sigmoid(), 1),
    (Tanh(), 1),
    (ReLU(), 1),
]


@pytest.mark.parametrize("gate", NATIVE, ids=lambda g: g[0].kind)
def test_gates_with_ops(gate):
    """Every gate that has an op computes it; a gate whose op is not in the table says so."""
    rng = rng_of("native gate", gate[0].kind)
    values = [rng.standard_normal((2, 3)) for _ in range(gate[1])]
    g = forward(gate[0], *values)
    needs = {
        "subtract": "scale",
        "negate": "scale",
        "multiplyconstant": "scale",
        "square": "multiply",
        "multiply": "multiply",
    }
    wanted = needs.get(gate[0].kind)
    if wanted is not None and wanted not in schemas():
        with pytest.raises(ValueError, match=f"no op '{wanted}'"):
            g.to_graph()
        return
    computed = interpret(g.to_graph(), {f"x{k}": v for k, v in enumerate(values)})
    np.testing.assert_allclose(computed[g.output.name], g.output.value, rtol=1e-14)


def test_matrix_product_without_bias():
    g = forward(gates.Dot(), np.ones((2, 3)), np.ones((3, 4)))
    assert str(g.to_graph()) == "dot_1[2, 4] = linear_forward(x0, x1, None)"
    with pytest.raises(ValueError, match="gate 'dot_1'"):
        forward(gates.Dot(), np.ones(3), np.ones(3)).to_graph()


def test_labels_cannot_be_numbers_too():
    g, (s, y) = graph("s", "y")
    loss = gates.SoftmaxCrossEntropy()(s, y)
    Add()(loss, Sum()(y))
    g.forward(s=np.ones((2, 3)), y=[0, 1])
    with pytest.raises(ValueError, match="'y' is read as labels by one gate and as numbers by another"):
        g.to_graph()
