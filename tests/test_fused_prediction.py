"""What predicts and evaluates is rewritten as training is: which nodes are fused, that no bit changes, and what stays readable."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

import pyfastnn as fnn
from pyfastnn import _core, nn
from pyfastnn import functional as F
from pyfastnn.backends.cpu import CpuPlan
from pyfastnn.graph import BATCH, Builder, Graph
from pyfastnn.graph.rewrites import fuse_conv_pool, pool_before_relu, sparse_pool_gradients
from pyfastnn.nn.losses import SoftmaxCrossEntropy
from pyfastnn.testing import DTYPES, assert_same_bits, rng_of
from pyfastnn.train.compiled import evaluation_graph

OP = "conv2d_max_pool_forward"
SHAPE = (12, 12, 3)
NETS = {
    "relu_pool": lambda: (nn.Conv2d(6, 5, padding="same"), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 3), nn.ReLU(), nn.MaxPool2d(2)),
    "pool_relu": lambda: (nn.Conv2d(6, 5, padding="same"), nn.MaxPool2d(2), nn.ReLU()),
    "batch_norm": lambda: (nn.Conv2d(8, 3), nn.BatchNorm(), nn.ReLU(), nn.MaxPool2d(2)),
    "overlapping": lambda: (nn.Conv2d(5, 3), nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1)),
}  # fmt: skip
PREDICTED = {
    "relu_pool": [OP, "relu_forward", OP, "relu_forward"],
    "pool_relu": [OP, "relu_forward"],
    "batch_norm": ["conv2d_forward", "batch_norm_predict", "max_pool_forward", "relu_forward"],
    "overlapping": ["conv2d_forward", "max_pool_forward", "relu_forward"],
}
"""The steps between the gather and the last layer."""


def built(net: str, dtype: str) -> nn.Sequential:
    return nn.Sequential(*NETS[net](), nn.Flatten(), nn.Linear(4), dtype=dtype).build(SHAPE, seed=3)


def images(dtype: str, rows: int = 21) -> np.ndarray:
    """Return images of which some hold what is not finite, and one nothing but zeros."""
    X = rng_of("fused prediction", dtype).standard_normal((rows, *SHAPE)).astype(dtype)
    X[3, 4, 5, 1], X[7, 0, 0, 0], X[7, 11, 11, 2], X[9] = np.nan, np.inf, -np.inf, 0.0
    return X


def ops_of(graph: Graph) -> list[str]:
    return [node.op for node in graph.nodes]


def plan_of(model: nn.Model) -> list[str]:
    """Return the ops of the plan that the model predicted with."""
    (plan,) = model._plans[frozenset()]
    return [row["op"] for row in plan.native.layout("predict")]


def scores_without_fusing(model: nn.Model, X: np.ndarray) -> dict[str, np.ndarray]:
    graph = model.prediction_graph(fuse_pools=False)
    assert OP not in ops_of(graph)
    found = {name: np.empty((len(X), *shape), model.dtype) for name, shape in model.output_shapes().items()}
    results = {f"scores{model.suffix(name)}": array for name, array in found.items()}
    plan = CpuPlan({"predict": graph}, dict.fromkeys(results, "row"), max_batch=len(X), dtype=model.dtype.name)
    flat = {"X": X.reshape(len(X), -1), "index": np.arange(len(X))}
    plan.run("predict", len(X), len(X), {**model.arrays(), **flat, **results})
    return found


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("net", NETS)
def test_prediction_is_fused_and_keeps_every_bit(net, dtype):
    model, X = built(net, dtype), images(dtype)
    together = model(X)
    assert plan_of(model) == ["gather_rows", *PREDICTED[net], "linear_forward"]
    assert_same_bits(together, scores_without_fusing(model, X)["y"], "fused or not")
    predictor = model.predictor(max_batch=2)
    for row in range(len(X)):
        alone = model(X[row : row + 1])
        assert_same_bits(alone, together[row : row + 1], f"row {row}")
        assert_same_bits(predictor(X[row : row + 1]), alone, f"row {row} of the predictor")
    assert_same_bits(predictor(X[5:7]), together[5:7], "two rows of the predictor")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("net", NETS)
def test_evaluation_is_fused_and_keeps_every_bit(net, dtype):
    model, X = built(net, dtype), images(dtype)[10:]
    found = {}
    for fused in (True, False):
        graph = evaluation_graph(model, SoftmaxCrossEntropy(), fuse_pools=fused)
        assert ops_of(graph).count(OP) == (PREDICTED[net].count(OP) if fused else 0)
        plan = CpuPlan({"evaluate": graph}, dict.fromkeys(("loss", "correct"), "step"), max_batch=4, dtype=dtype)
        results = {"loss": np.zeros(3), "correct": np.zeros(3)}
        data = {"X": X.reshape(len(X), -1), "y": np.arange(len(X)) % 4, "index": np.arange(len(X))}
        plan.run("evaluate", len(X), 4, {**model.arrays(), **data, **results})
        found[fused] = results
    assert np.isfinite(found[True]["loss"]).all() and (found[True]["loss"] > 0).all()
    for name, array in found[True].items():
        assert_same_bits(array, found[False][name], name)


AWKWARD = (-1.0, -0.0, 0.0, 1.0, np.nan, -np.nan, np.inf, -np.inf, 5e-324)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("window", [{}, {"kernel_h": 3, "stride_w": 1, "top": 1}], ids=["touching", "overlapping"])
def test_a_relu_behind_the_pool_gives_the_same_bits(window, dtype):
    """Windows of zeros of both signs, of NaN and of numbers that are not finite."""
    builder = Builder()
    z = builder.value("z", (BATCH, 8, 8, 19))
    (y,) = builder.emit("relu_forward", (z,), outputs=("y",))
    builder.emit("max_pool_forward", (y,), window, ("pooled", "index"))
    graphs = builder.graph, pool_before_relu(builder.graph)
    assert [ops_of(g)[0] for g in graphs] == ["relu_forward", "max_pool_forward"]
    rng = rng_of("awkward windows", dtype)
    few = rng.choice(AWKWARD[:3], (400, 8, 8, 19))  # most windows hold nothing above 0
    rows = np.concatenate([few, rng.choice(AWKWARD, (100, 8, 8, 19))]).astype(dtype)
    found = []
    for graph in graphs:
        shape = [d for d in graph.values["pooled"].shape if isinstance(d, int)]
        pooled = np.empty((len(rows), *shape), dtype)
        plan = CpuPlan({"g": graph}, {"pooled": "row"}, max_batch=len(rows), dtype=dtype)
        plan.run("g", len(rows), len(rows), {"z": rows, "pooled": pooled})
        found.append(pooled)
    assert_same_bits(found[1], found[0])
    assert (found[0] == 0).any() and not np.signbit(found[0][found[0] == 0]).any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_relu_gives_no_negative_zero(dtype):
    for size in (1, 7, 16, 37, 100):
        (y,) = _core.call("relu_forward", (np.full(size, -0.0, dtype),))
        assert_same_bits(y, np.zeros(size, dtype))


# Values between that are asked for


def branched(between: str, dtype: str = "float32") -> nn.Model:
    x = nn.Input(SHAPE)
    conv = nn.Conv2d(6, 5, padding="same")(x)
    relu = nn.ReLU()(conv)
    pool = nn.MaxPool2d(2)(relu)
    deep = nn.MaxPool2d(2)(nn.ReLU()(nn.Conv2d(16, 3)(pool)))
    values = {"conv": conv, "relu": relu, "pool": pool, "flat": nn.Flatten()(relu)}
    return nn.Model(x, {"class": nn.Linear(4)(nn.Flatten()(deep)), "between": values[between]}, dtype=dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("between", "fused"), [("conv", 1), ("relu", 1), ("pool", 2), ("flat", 1)])
def test_an_output_in_the_midst_is_given(between, fused, dtype):
    model, X = branched(between, dtype), images(dtype)
    found = model(X)
    assert plan_of(model).count(OP) == fused
    a = model.arrays()
    want = {"conv": F.conv2d(X, a["conv2d_1.w"], a["conv2d_1.b"], top=2, bottom=2, left=2, right=2)}
    want["relu"] = F.relu(want["conv"])
    want["pool"] = F.max_pool(want["relu"])[0]
    want["flat"] = want["relu"].reshape(len(X), -1)
    assert_same_bits(found["between"], want[between])
    for name, scores in scores_without_fusing(model, X).items():
        assert_same_bits(found[name], scores, name)
    assert_same_bits(model(X[4:5])["between"], found["between"][4:5], "a row alone")


def test_an_output_in_the_midst_without_a_loss_costs_training_nothing():
    """Training and evaluation need not make it, so they fuse both pairs; prediction goes on giving it."""
    model, X = branched("relu"), np.nan_to_num(images("float32"), posinf=1, neginf=-1)
    trainer = fnn.Trainer(model, {"class": "softmax_cross_entropy"})
    trainer.fit(X, {"class": np.arange(len(X)) % 4}, epochs=1, verbose=0)
    assert [row["op"] for row in trainer._compiled.train.native.layout("train")].count(OP) == 2
    assert ops_of(evaluation_graph(model, trainer.heads)).count(OP) == 2
    a = model.arrays()
    want = F.relu(F.conv2d(X, a["conv2d_1.w"], a["conv2d_1.b"], top=2, bottom=2, left=2, right=2))
    assert_same_bits(model.predict(X)["between"], want)


def chained() -> Graph:
    """Return a convolution, a ReLU and a max pool, and their backward pass to the weights."""
    builder = Builder(training=True)
    x = builder.value("x", (BATCH, 10, 10, 4))
    w = builder.value("w", (3, 3, 4, 5), kind="parameter")
    (z,) = builder.emit("conv2d_forward", (x, w, None), outputs=("z",))
    (y,) = builder.emit("relu_forward", (z,), outputs=("y",))
    _, index = builder.emit("max_pool_forward", (y,), outputs=("pooled", "index"))
    up = builder.value("up", (BATCH, 4, 4, 5))
    (spread,) = builder.emit("max_pool_backward", (up, index), {"height": 8, "width": 8}, ("spread",))
    (masked,) = builder.emit("relu_backward", (spread, y), outputs=("masked",))
    builder.emit("conv2d_dw", (x, masked), {"kernel_h": 3, "kernel_w": 3}, ("dw",))
    return builder.graph


def rewritten(keep: tuple[str, ...]) -> Graph:
    return fuse_conv_pool(pool_before_relu(sparse_pool_gradients(chained(), keep), keep), keep)


@pytest.mark.parametrize(
    ("keep", "ops"),
    [
        ((), [OP, "relu_forward", "relu_backward", "conv2d_dw_pooled"]),
        (("pooled", "dw", "not in the graph"), [OP, "relu_forward", "relu_backward", "conv2d_dw_pooled"]),
        (("z",), ["conv2d_forward", "max_pool_forward", "relu_forward", "relu_backward", "conv2d_dw_pooled"]),
        (("y",), ["conv2d_forward", "relu_forward", "max_pool_forward", "relu_backward", "conv2d_dw_pooled"]),
        (("index",), ["conv2d_forward", "relu_forward", "max_pool_forward", "relu_backward", "conv2d_dw_pooled"]),
        (("masked",), [OP, "relu_forward", "relu_backward", "max_pool_backward", "conv2d_dw_pooled"]),
        (("spread",), ["conv2d_forward", "relu_forward", "max_pool_forward", "max_pool_backward", "relu_backward", "conv2d_dw"]),
    ],
    ids=lambda v: "-".join(v) if isinstance(v, tuple) else "",
)  # fmt: skip
def test_what_is_to_be_kept_is_kept(keep, ops):
    """Each rewrite leaves a value that is asked for, and does all else."""
    graph = rewritten(keep)
    assert ops_of(graph) == ops
    assert {name for name in keep if name in chained().values} <= set(graph.values)
    assert Counter(o for node in graph.nodes for o in node.outputs).most_common(1)[0][1] == 1
