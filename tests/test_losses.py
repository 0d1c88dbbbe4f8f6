"""What the losses promise beyond the table: weights, smoothing, sums of losses, and the classes users write."""

from __future__ import annotations

import json

import numpy as np
import pytest

import pyfastnn as fnn
from pyfastnn import functional as F
from pyfastnn import nn
from pyfastnn.backends.cpu import CpuPlan
from pyfastnn.graph import BATCH, Builder
from pyfastnn.graph.autodiff import backward
from pyfastnn.nn import losses
from pyfastnn.nn.loss import TASKS
from pyfastnn.reference import interpret
from pyfastnn.testing import DTYPES, assert_same_bits, central_difference, rng_of, samples_of

CLASS_LOSSES = (F.softmax_cross_entropy, F.multiclass_hinge)
ROW_LOSSES = (F.binary_cross_entropy, F.mean_squared_error, F.mean_absolute_error, F.huber, F.poisson)


def arguments(loss, dtype: str, n: int, c: int) -> tuple[np.ndarray, np.ndarray]:
    rng = rng_of("losses", loss.__name__, n, c)
    scores = rng.standard_normal((n, c)).astype(dtype)
    targets = rng.integers(0, c, n) if loss in CLASS_LOSSES else rng.integers(0, 2, (n, c)).astype(dtype)
    return scores, targets


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", [*CLASS_LOSSES, *ROW_LOSSES], ids=lambda f: f.__name__)
@pytest.mark.parametrize("c", [1, 10, 33])
def test_whole_weights_are_rows_that_stand_several_times(loss, c, dtype):
    """Weights 0, 1, 2, 3 give what the same rows give when they are left out, or repeated, without weights."""
    scores, targets = arguments(loss, dtype, 41, c)
    weights = rng_of("repeat", c).integers(0, 4, 41)
    value, slope = loss(scores, targets, weights=weights.astype(dtype))[:2]
    want, per_row = loss(np.repeat(scores, weights, axis=0), np.repeat(targets, weights, axis=0))[:2]
    assert value == pytest.approx(want, rel=100 * float(np.finfo(dtype).eps))
    first = np.cumsum(weights) - weights
    for row, weight in enumerate(weights):
        expected = per_row[first[row]] * dtype_of(dtype)(weight) if weight else np.zeros(c, dtype)
        np.testing.assert_allclose(slope[row], expected, rtol=1e-5, atol=1e-8)


def dtype_of(dtype: str):
    return np.dtype(dtype).type


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", [*CLASS_LOSSES, *ROW_LOSSES], ids=lambda f: f.__name__)
@pytest.mark.parametrize("shape", [(7, 1), (7, 5), (33, 17)])
def test_nothing_counts_where_the_weights_sum_to_zero(loss, shape, dtype):
    scores, targets = arguments(loss, dtype, *shape)
    scores[0] = np.nan
    value, slope = loss(scores, targets, weights=np.zeros(len(scores), dtype))[:2]
    assert value == 0.0
    assert (slope == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", [*CLASS_LOSSES, *ROW_LOSSES], ids=lambda f: f.__name__)
@pytest.mark.parametrize("c", [1, 3, 17])
def test_a_row_of_weight_zero_may_hold_anything(loss, c, dtype):
    """NaN, infinities and their places change no bit of the loss and of the other rows."""
    scores, targets = arguments(loss, dtype, 23, c)
    weights = np.ones(23, dtype)
    weights[[2, 22]] = 0
    value, slope = loss(scores, targets, weights=weights)[:2]
    scores[2], scores[22] = np.nan, np.inf
    again, other = loss(scores, targets, weights=weights)[:2]
    assert again == value
    assert_same_bits(other, slope)
    assert (slope[[2, 22]] == 0).all()
    assert np.abs(slope).sum() > 0 or (c == 1 and loss in CLASS_LOSSES)


@pytest.mark.parametrize("loss", CLASS_LOSSES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("c", [10, 33])
def test_rows_of_weight_zero_are_never_right(loss, c):
    scores = rng_of("right", c).standard_normal((20, c))
    labels = scores.argmax(axis=1)
    weights = np.ones(20)
    weights[::3] = 0
    assert loss(scores, labels, weights=weights, with_correct=True)[2] == np.count_nonzero(weights)
    assert loss(scores, labels, with_correct=True)[2] == 20


@pytest.mark.parametrize("loss", CLASS_LOSSES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("c", [4, 40])
def test_weights_of_one_change_little(loss, c):
    """Another path through the kernel, the same numbers but for rounding."""
    scores, labels = arguments(loss, "float32", 50, c)
    value, slope, correct = loss(scores, labels, with_correct=True)
    again, other, right = loss(scores, labels, weights=np.ones(50, np.float32), with_correct=True)
    assert again == pytest.approx(value, rel=1e-6)
    assert right == correct
    np.testing.assert_allclose(other, slope, rtol=1e-5, atol=1e-9)


def test_smoothing_of_a_perfect_row():
    """The smoothed loss is least where the probabilities are the smoothed targets, and its gradient is 0 there."""
    q = np.full((1, 4), 0.1 / 4)
    q[0, 2] += 0.9
    loss, dscores = F.softmax_cross_entropy(np.log(q), np.array([2]), label_smoothing=0.1)
    assert loss == pytest.approx(-(q * np.log(q)).sum())
    np.testing.assert_allclose(dscores, 0, atol=1e-15)


def test_hinge_of_the_lectures():
    """Three pictures of the notes on linear classification: losses 2.9, 0 and 12.9, mean 5.27."""
    scores = np.array([[3.2, 5.1, -1.7], [1.3, 4.9, 2.0], [2.2, 2.5, -3.1]])
    loss, dscores, correct = F.multiclass_hinge(scores, np.array([0, 1, 2]), with_correct=True)
    assert loss == pytest.approx((2.9 + 0 + 12.9) / 3)
    np.testing.assert_allclose(dscores * 3, [[-1, 1, 0], [0, 0, 0], [1, 1, -2]])
    assert correct == 1


def test_binary_cross_entropy_keeps_its_tails():
    """At +-90 the loss of the right answer is exp(-90), not 0, in float32 too."""
    scores = np.array([[90.0, -90.0]], np.float32)
    loss, dscores = F.binary_cross_entropy(scores, np.array([[1.0, 0.0]], np.float32))
    assert loss == pytest.approx(np.exp(-90.0), rel=1e-5)
    np.testing.assert_allclose(dscores, [[-np.exp(-90.0) / 2, np.exp(-90.0) / 2]], rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: F.softmax_cross_entropy(x, np.array([0]), label_smoothing=1.5), "'label_smoothing' is 1.5"),
        (lambda x: F.softmax_cross_entropy(x, np.array([0]), label_smoothing=-0.5), "'label_smoothing' is -0.5"),
        (lambda x: F.softmax_cross_entropy(x, np.array([0]), label_smoothing=np.nan), "'label_smoothing' is nan"),
        (lambda x: F.huber(x, x, delta=0.0), "'delta' is 0.0"),
        (lambda x: F.huber(x, x, delta=np.nan), "'delta' is nan"),
    ],
)
def test_settings_out_of_range(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.zeros((1, 2)))


# --- in a graph


def two_headed() -> tuple[Builder, str]:
    """Return a net with a shared layer and two losses that count 0.25 and -2 in the total."""
    b = Builder(training=True)
    x, w = b.value("x", (BATCH, 3)), b.value("w", (3, 4), kind="parameter")
    (h,) = b.emit("linear_forward", (x, w, None), outputs=("h",))
    (h,) = b.emit("tanh_forward", (h,), outputs=("hidden",))
    heads = []
    for name, out in (("policy", 3), ("value", 1)):
        v = b.value(f"{name}.w", (4, out), kind="parameter")
        heads.append(b.emit("linear_forward", (h, v, None), outputs=(f"{name}.y",))[0])
    policy = nn.SoftmaxCrossEntropy().forward(b, heads[0], b.value("a", (BATCH,), "i64"), name="loss.policy")
    value = nn.MeanSquaredError().forward(b, heads[1], b.value("r", (BATCH, 1)), name="loss.value")
    attrs = {"a_weight": 0.25, "b_weight": -2.0}
    return b, b.emit("add_losses", (policy, value), attrs, outputs=("loss",))[0]


def two_headed_values() -> dict[str, np.ndarray]:
    rng = rng_of("two heads")
    shapes = {"x": (6, 3), "w": (3, 4), "policy.w": (4, 3), "value.w": (4, 1), "r": (6, 1)}
    values = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    return {**values, "a": rng.integers(0, 3, 6)}


def test_a_sum_of_losses_is_differentiated():
    builder, loss = two_headed()
    forward = type(builder.graph)(dict(builder.graph.values), list(builder.graph.nodes))
    values, parameters = two_headed_values(), ["w", "policy.w", "value.w"]
    gradients = backward(builder, loss, parameters)
    computed = interpret(builder.graph, values)
    for name in parameters:

        def objective(p, name=name):
            return float(interpret(forward, {**values, name: p})[loss][0])

        np.testing.assert_allclose(
            computed[gradients[name]], central_difference(objective, values[name]), rtol=1e-6, atol=1e-8
        )


def test_a_plan_sums_losses():
    """The kernels agree with the interpreter on total, parts, counts and gradients."""
    builder, loss = two_headed()
    gradients = backward(builder, loss, ["w", "policy.w", "value.w"])
    values = two_headed_values()
    want = interpret(builder.graph, values)
    asked = ["loss", "loss.policy", "loss.value", "correct.policy", *gradients.values()]
    plan = CpuPlan({"step": builder.graph}, dict.fromkeys(asked, "none"), max_batch=6, dtype="float64")
    results = {name: np.full(want[name].shape, np.nan) for name in asked}
    plan.bind({**values, **results})
    plan.run("step", 6, 6, {})
    for name in asked:
        np.testing.assert_allclose(results[name], want[name], rtol=1e-12, atol=1e-15, err_msg=name)


def test_only_losses_that_are_wanted_are_followed():
    builder, loss = two_headed()
    before = len(builder.graph.nodes)
    assert list(backward(builder, loss, ["value.w"])) == ["value.w"]
    assert [n.op for n in builder.graph.nodes[before:]] == ["scale", "linear_dw"]


def test_the_gradient_of_one_loss_needs_no_scale():
    builder, _ = two_headed()
    backward(builder, "loss.policy", ["w"])
    assert "scale" not in [n.op for n in builder.graph.nodes]


@pytest.mark.parametrize("loss", [nn.SoftmaxCrossEntropy(0.1, {0: 2.0}), nn.MulticlassHinge()], ids=lambda v: v.kind)
def test_weights_of_rows_in_a_plan(loss):
    """``weights`` is a value of its own, class weights are state bound by name."""
    b = Builder()
    scores, labels = b.value("scores", (BATCH, 3)), b.value("labels", (BATCH,), "i64")
    name = loss.forward(b, scores, labels, b.value("weights", (BATCH,)))
    rng = rng_of("weights in a plan")
    values = {"scores": rng.standard_normal((9, 3)), "labels": rng.integers(0, 3, 9), "weights": rng.random(9)}
    values["weights"][3] = 0
    values |= loss.arrays(np.arange(3), values["labels"], np.float64)
    want = interpret(b.graph, values)
    asked = ["loss", "correct", "d(scores)"]
    plan = CpuPlan({"step": b.graph}, dict.fromkeys(asked, "none"), max_batch=9, dtype="float64")
    results = {k: np.full(want[k].shape, np.nan) for k in asked}
    plan.bind({**values, **results})
    plan.run("step", 9, 9, {})
    assert name == "loss"
    for k in asked:
        np.testing.assert_allclose(results[k], want[k], rtol=1e-12, atol=1e-15, err_msg=k)


# --- the classes


@pytest.mark.parametrize("kind", losses.LOSSES)
def test_every_loss_says_what_it_takes(kind):
    loss = losses.get(kind)
    assert loss.task in TASKS
    low, high = loss.target_range
    assert low < high
    assert loss.targets == ("labels" if loss.task == "classification" else "rows")
    assert loss.counts == (loss.task == "classification")
    assert repr(loss) == f"{type(loss).__name__}()"
    assert getattr(nn, type(loss).__name__) is type(loss)


SETTINGS = [
    nn.SoftmaxCrossEntropy(0.1, {"cat": 2.0, "dog": 0.5}, ignore_index="none"),
    nn.SoftmaxCrossEntropy(class_weight={3: 2.0}, ignore_index=-100),
    nn.SoftmaxCrossEntropy(class_weight="balanced"),
    nn.SoftmaxCrossEntropy(class_weight=[1.0, 2.0, 3.0]),
    nn.MulticlassHinge(0.5, ignore_index=9),
    nn.BinaryCrossEntropy(3.0),
    nn.BinaryCrossEntropy(np.array([1.0, 2.5])),
    nn.MeanSquaredError(),
    nn.MeanAbsoluteError(),
    nn.Huber(0.5),
    nn.Poisson(),
]


@pytest.mark.parametrize("loss", SETTINGS, ids=repr)
def test_settings_survive_json(loss):
    again = losses.from_config(loss.kind, json.loads(json.dumps(loss.config())))
    assert type(again) is type(loss)
    assert vars(again) == vars(loss)


def test_settings_survive_a_checkpoint(tmp_path):
    trainer = fnn.Trainer(nn.Sequential(nn.Linear(3)), nn.SoftmaxCrossEntropy(label_smoothing=0.2), seed=0)
    rng = rng_of("checkpoint")
    trainer.fit(rng.standard_normal((30, 4)).astype(np.float32), rng.integers(0, 3, 30), epochs=1)
    trainer.checkpoint(tmp_path / "c")
    again = fnn.Trainer.resume(tmp_path / "c")
    assert again.loss.config() == trainer.loss.config()


@pytest.mark.parametrize(
    "kind", ["multiclass_hinge", "mean_absolute_error", "huber", "poisson", "binary_cross_entropy"]
)
def test_a_trainer_learns_with_every_loss(kind):
    """A line fitted with each loss: the training loss falls by half of what it can fall, and counts are those of the predictions."""
    rng = rng_of("learns", kind)
    X = rng.standard_normal((200, 3)).astype(np.float32)
    line = X @ np.array([1.0, -1.0, 0.5], np.float32)
    y = {
        "multiclass_hinge": (line > 0).astype(np.int64),
        "poisson": rng.poisson(np.exp(0.5 * line)),
        "binary_cross_entropy": np.stack([line > 0, line < 0], axis=1).astype(np.float32),
    }.get(kind, line)
    outputs = 2 if kind in ("multiclass_hinge", "binary_cross_entropy") else 1
    trainer = fnn.Trainer(nn.Sequential(nn.Linear(outputs)), kind, fnn.optim.SGD(0.1), seed=0)
    trainer.fit(X, y, epochs=1)
    before = trainer.evaluate(X, y)["loss"]
    trainer.fit(X, y, epochs=30)
    after = trainer.evaluate(X, y)["loss"]
    least = float(np.mean(np.exp(0.5 * line) - y * 0.5 * line)) if kind == "poisson" else 0.0
    assert after - least < (before - least) / 2 or after <= least


def test_class_weights_move_a_trainer():
    """Rows that look alike and have either label, as often: the label that counts ten times is predicted."""
    X, y = np.ones((40, 2), np.float32), np.tile(["cat", "dog"], 20)
    for label in ("cat", "dog"):
        loss = nn.SoftmaxCrossEntropy(class_weight={label: 10.0})
        trainer = fnn.Trainer(nn.Sequential(nn.Linear(2)), loss, fnn.optim.SGD(0.5), seed=0, preflight=False)
        trainer.fit(X, y, epochs=30)
        p = trainer.model.predict_proba(X[:1])[0]
        assert p[["cat", "dog"].index(label)] == pytest.approx(10 / 11, abs=0.01)


def test_balanced_classes_stay_those_of_the_first_fit(tmp_path):
    """Evaluation uses the weights of the training labels, after a checkpoint too."""
    rng = rng_of("balanced")
    X, y = rng.standard_normal((30, 4)).astype(np.float32), np.repeat([0, 1, 2], [20, 5, 5])
    trainer = fnn.Trainer(nn.Sequential(nn.Linear(3)), nn.SoftmaxCrossEntropy(class_weight="balanced"), seed=0)
    trainer.fit(X, y, epochs=1)
    weights = np.array([30 / 60, 2, 2], np.float32)
    scores = trainer.model(X)
    want = F.softmax_cross_entropy(scores, y, weights)[0]
    assert trainer.evaluate(X, y)["loss"] == pytest.approx(want, rel=1e-6)
    assert trainer.evaluate(X[:20], y[:20])["loss"] == pytest.approx(
        F.softmax_cross_entropy(scores[:20], y[:20], weights)[0], rel=1e-6
    )
    trainer.checkpoint(tmp_path / "c")
    again = fnn.Trainer.resume(tmp_path / "c")
    assert again.evaluate(X, y) == trainer.evaluate(X, y)
    again.fit(X, y, epochs=1)
    trainer.fit(X, y, epochs=1)
    assert again.history["loss"] == trainer.history["loss"]


def test_class_weights_by_label_balance_and_order():
    classes, y = np.array(["a", "b", "c"]), np.array([0, 0, 0, 2, -1])
    arrays = nn.SoftmaxCrossEntropy(class_weight={"b": 4}).arrays(classes, None, np.float32)
    assert arrays["class_weights"].dtype == np.float32
    assert arrays["class_weights"].tolist() == [1, 4, 1]
    balanced = nn.SoftmaxCrossEntropy(class_weight="balanced").arrays(classes, y, np.float64, name="loss.head")
    np.testing.assert_allclose(balanced["class_weights.head"], [4 / (2 * 3), 1, 4 / 2])
    ordered = nn.SoftmaxCrossEntropy(class_weight=(3, 2, 1)).arrays(classes, None, np.float64)
    assert ordered["class_weights"].tolist() == [3, 2, 1]
    assert nn.SoftmaxCrossEntropy().arrays(None, None, np.float32) == {}


def test_pos_weight_for_all_outputs_and_for_each():
    y = np.zeros((4, 3))
    assert nn.BinaryCrossEntropy(2).arrays(None, y, np.float32)["pos_weight"].tolist() == [2, 2, 2]
    assert nn.BinaryCrossEntropy([1, 2, 3]).arrays(None, y, np.float32)["pos_weight"].tolist() == [1, 2, 3]
    assert nn.BinaryCrossEntropy().arrays(None, y, np.float32) == {}


@pytest.mark.parametrize(
    ("make", "exception", "message"),
    [
        (lambda: nn.SoftmaxCrossEntropy(1.0), ValueError, "'label_smoothing' is 1"),
        (lambda: nn.SoftmaxCrossEntropy(class_weight="balance"), ValueError, "did you mean 'balanced'"),
        (lambda: nn.SoftmaxCrossEntropy(class_weight={"a": -1}), ValueError, "'class_weight' holds -1"),
        (lambda: nn.SoftmaxCrossEntropy(class_weight={"a": "x"}), TypeError, "'class_weight' is"),
        (lambda: nn.SoftmaxCrossEntropy(class_weight=[[1.0]]), ValueError, "'class_weight' has shape"),
        (lambda: nn.SoftmaxCrossEntropy(class_weight={}), ValueError, "'class_weight'"),
        (lambda: nn.SoftmaxCrossEntropy(class_weight={1.5: 1}), TypeError, "1.5 is no label"),
        (lambda: nn.SoftmaxCrossEntropy(label_smothing=0.1), TypeError, "did you mean 'label_smoothing'"),
        (lambda: nn.MulticlassHinge(margin=-1), ValueError, "'margin' is -1"),
        (lambda: nn.BinaryCrossEntropy(0.0), ValueError, "'pos_weight' is 0"),
        (lambda: nn.BinaryCrossEntropy("balanced"), TypeError, "'pos_weight' is 'balanced'"),
        (lambda: nn.Huber(0), ValueError, "'delta' is 0"),
        (lambda: losses.from_config("huber", {"deltaa": 1.0}), ValueError, "did you mean 'delta'"),
        (lambda: losses.get("hubber"), ValueError, "did you mean 'huber'"),
        (lambda: nn.SoftmaxCrossEntropy(class_weight={"z": 1}).arrays(np.array(["a"]), None, "f4"), ValueError, "'z'"),
        (lambda: nn.SoftmaxCrossEntropy(class_weight=[1, 2]).arrays(np.array(["a"]), None, "f4"), ValueError, "2 items"),
        (lambda: nn.SoftmaxCrossEntropy(class_weight="balanced").arrays(np.array(["a"]), None, "f4"), ValueError, "labels"),
        (lambda: nn.BinaryCrossEntropy([1, 2]).arrays(None, np.zeros((2, 3)), "f4"), ValueError, "2 items"),
        (lambda: nn.BinaryCrossEntropy(2).arrays(None, None, "f4"), ValueError, "targets"),
    ],
)  # fmt: skip
def test_settings_that_are_refused(make, exception, message):
    with pytest.raises(exception, match=message):
        make()


def test_a_sample_is_judged_with_its_weights():
    """The reference itself: a weight left out of the reference would show against the sum written out."""
    sample = samples_of("softmax_cross_entropy", "float64")["n17_c10_weighted1"]
    s, y, u, w = (sample.inputs[k] for k in ("scores", "labels", "class_weights", "weights"))
    e = sample.attrs["label_smoothing"]
    log_p = s - np.log(np.exp(s).sum(axis=1, keepdims=True))
    total = 0.0
    for i in range(17):
        for j in range(10):
            total -= w[i] * ((1 - e) * (j == y[i]) + e / 10) * u[j] * log_p[i, j]
    loss, _ = F.softmax_cross_entropy(s, y, u, w, label_smoothing=e)
    assert loss == pytest.approx(total / sum(w[i] * u[y[i]] for i in range(17)), rel=1e-12)
