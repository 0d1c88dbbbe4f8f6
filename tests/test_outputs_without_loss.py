"""Models of which only some outputs are trained: the others are predicted, and cost training nothing."""

from __future__ import annotations

import numpy as np
import pytest

import pyfastnn as fnn
from pyfastnn import nn, optim
from pyfastnn.data import Stream
from pyfastnn.testing import assert_same_bits, rng_of
from pyfastnn.train.compiled import evaluation_graph

RNG = rng_of("outputs without a loss")
N = 150
X = RNG.standard_normal((N, 5))
KINDS = np.array(["a", "b", "c"])[(X[:, 0] > 0).astype(int) + (X[:, 1] > 0)]
SIZES = X[:, 2] - X[:, 3]
LOSS = {"kind": "softmax_cross_entropy"}


def model_of(*outputs: str, dtype: str = "float64", **settings) -> nn.Model:
    """Return a model with some of its outputs; the layers of "kind" come first, so their first values are the same in all."""
    x = nn.Input((5,))
    h = nn.Tanh()(nn.Linear(7)(x))
    values = {"kind": nn.Linear(3)(h), "size": nn.Linear(1)(nn.Dropout(0.2)(nn.Linear(4)(h))), "embedding": h}
    return nn.Model(x, {name: values[name] for name in outputs}, dtype=dtype, **settings)


ALL = ("kind", "size", "embedding")
UNTRAINED = ("linear_3.w", "linear_3.b", "linear_4.w", "linear_4.b")


def trainer_of(*outputs: str, loss=LOSS, **settings) -> fnn.Trainer:
    return fnn.Trainer(model_of(*(outputs or ALL)), loss, **{"optimizer": optim.Adam(0.02), "seed": 5, **settings})


def fitted(*outputs: str, epochs: int = 3, y=KINDS, **settings) -> fnn.Trainer:
    trainer = trainer_of(*outputs, **settings)
    trainer.fit(X, y, epochs=epochs, verbose=0)
    return trainer


def test_the_others_change_nothing():
    """Weights, losses and accuracies are those of the model that has the trained output alone."""
    trainer, alone = fitted(), fitted("kind", loss="softmax_cross_entropy")
    start = model_of(*ALL).state_dict()
    state = trainer.model.state_dict()
    assert set(state) - set(alone.model.state_dict()) == set(UNTRAINED)
    for name, array in state.items():
        assert_same_bits(array, start[name] if name in UNTRAINED else alone.model.state_dict()[name], name)
    assert not any(np.array_equal(state[name], start[name]) for name in ("linear_1.w", "linear_2.w"))
    figures = [c for c in trainer.history.columns if c.startswith(("loss", "accuracy"))]
    assert figures == ["loss", "loss.kind", "accuracy.kind"]
    assert trainer.history["loss"] == trainer.history["loss.kind"] == alone.history["loss"]
    assert trainer.history["accuracy.kind"] == alone.history["accuracy"]
    found = trainer.evaluate(X, {"kind": KINDS})
    assert list(found) == figures
    assert list(found.values()) == [alone.evaluate(X, KINDS)[k] for k in ("loss", "loss", "accuracy")]


def test_plans_leave_out_what_only_the_others_need():
    trainer = fitted(epochs=1)
    ops = [row["op"] for row in trainer._compiled.train.native.layout("train")]
    assert ops.count("linear_forward") == 2 and "dropout_forward" not in ops
    assert ops.count("adam_step") == 4
    assert [n.op for n in evaluation_graph(trainer.model, trainer.heads).nodes].count("linear_forward") == 2
    assert "scale" not in ops


def test_prediction_gives_them_all():
    trainer = fitted()
    scores, predicted, p = trainer.model(X), trainer.model.predict(X), trainer.model.predict_proba(X)
    assert list(scores) == list(predicted) == list(ALL)
    assert list(p) == ["kind"]
    assert trainer.model.task == {"kind": "classification"}
    assert list(trainer.model.classes_) == ["kind"]
    assert (predicted["kind"] == KINDS).mean() > 0.5
    assert_same_bits(predicted["embedding"], scores["embedding"])
    assert_same_bits(predicted["size"], scores["size"][:, 0])
    a = trainer.model.arrays()
    np.testing.assert_allclose(scores["embedding"], np.tanh(X @ a["linear_1.w"] + a["linear_1.b"]), rtol=1e-12)


@pytest.mark.parametrize("part", [0.3, 1 / 3, 0.0])
def test_the_only_loss_counts_its_part(part):
    trainer = trainer_of(loss_weights={"kind": part}, optimizer=optim.SGD(0.0))
    whole = trainer_of(optimizer=optim.SGD(0.0))
    for each in (trainer, whole):
        each.fit(X, KINDS, X_val=X[:40], y_val=KINDS[:40], batch_size=N, epochs=1, verbose=0)
    for prefix in ("", "val_"):
        assert trainer.history[f"{prefix}loss.kind"] == whole.history[f"{prefix}loss"]
        assert trainer.history[f"{prefix}loss"][0] == pytest.approx(part * whole.history[f"{prefix}loss"][0], rel=1e-15)
    gradients, full = trainer.gradients(X, KINDS), whole.gradients(X, KINDS)
    assert set(gradients) == {"linear_1.w", "linear_1.b", "linear_2.w", "linear_2.b"}
    for name, gradient in gradients.items():
        np.testing.assert_allclose(gradient, part * full[name], rtol=1e-12, atol=1e-18)


def test_every_way_to_train_takes_the_only_targets():
    """As an array or in a dict, step by step, from a stream, with weights, by row number, several at once."""
    settings = {"epochs": 2, "batch_size": 50, "verbose": 0}
    want = trainer_of()
    want.fit(X, KINDS, X_val=X, y_val=KINDS, **settings)
    others = {name: trainer_of() for name in ("dict", "stream", "weights", "rows", "many")}
    y = {"kind": KINDS}
    others["dict"].fit(X, y, X_val=X, y_val=y, **settings)
    with Stream(X, KINDS, shuffle=False, block_rows=256, chunk_rows=16) as stream:
        others["stream"].fit(stream, X_val=stream, **settings)
    others["weights"].fit(X, KINDS, sample_weight=np.ones(N), **settings)
    others["rows"].fit(X, KINDS, rows=np.arange(N), **settings)
    fnn.train_many([others["many"]], X, KINDS, epochs=2, batch_size=50)
    for how, trainer in others.items():
        for name, array in want.model.state_dict().items():
            assert_same_bits(trainer.model.state_dict()[name], array, f"{how} {name}")
    assert others["stream"].history["val_loss"] == others["dict"].history["val_loss"] == want.history["val_loss"]
    stepped, by_dict = trainer_of(), trainer_of()
    for k in range(0, N, 50):
        loss = stepped.step(X[k : k + 50], KINDS[k : k + 50])
        assert loss == by_dict.step(X[k : k + 50], {"kind": KINDS[k : k + 50]}) > 0
    for name, array in stepped.model.state_dict().items():
        assert_same_bits(by_dict.model.state_dict()[name], array, name)


def test_looking_inside():
    trainer = fitted()
    assert trainer.compare(X[:30], KINDS[:30]) is None
    values, _ = trainer.trace(X[:30], KINDS[:30])
    assert values["loss"] == values["loss.kind"]
    check = fnn.diagnose.gradient_check(trainer.model, X[:9], KINDS[:9], loss=LOSS)
    assert check
    assert [p.name for p in check.parameters if p.analytic == p.numeric == 0] == list(UNTRAINED)


def test_penalties_are_those_of_what_is_trained():
    trainer = fitted(optimizer=optim.SGD(0.01, weight_decay=0.1))
    a = trainer.model.arrays()
    want = sum(0.05 * float((a[name] ** 2).sum()) for name in ("linear_1.w", "linear_2.w"))
    assert trainer.history["penalty"][-1] == pytest.approx(want, rel=1e-12)
    start = model_of(*ALL).state_dict()
    for name in UNTRAINED:
        assert_same_bits(a[name], start[name], f"{name} does not decay")


def test_files_and_checkpoints(tmp_path):
    straight, parted = fitted(epochs=4), fitted(epochs=2)
    parted.checkpoint(tmp_path / "c")
    parted.model.save(tmp_path / "m")
    again = fnn.Trainer.resume(tmp_path / "c")
    assert {k: v.kind for k, v in again.loss.items()} == LOSS
    assert again.evaluate(X, KINDS) == parted.evaluate(X, KINDS)
    for model in (fnn.load(tmp_path / "m"), again.model):
        assert list(model.predict(X)) == list(ALL)
        assert model.task == {"kind": "classification"}
        for name, scores in parted.model(X).items():
            assert_same_bits(model(X)[name], scores, name)
    again.fit(X, KINDS, epochs=2, verbose=0)
    for name, array in {**straight.model.state_dict(), **straight.slots}.items():
        assert_same_bits({**again.model.state_dict(), **again.slots}[name], array, name)
    assert again.history["loss"] == straight.history["loss"]


def test_one_output_after_the_other():
    """A second trainer with a loss of another output: what was learned of the first stays known."""
    model = fitted().model
    trainer = fnn.Trainer(model, {"size": "mean_squared_error"}, optim.Adam(0.02))
    before = model.state_dict()
    trainer.fit(X, SIZES, epochs=20, verbose=0)
    assert_same_bits(model.state_dict()["linear_2.w"], before["linear_2.w"], "of the output without a loss")
    assert model.task == {"kind": "classification", "size": "regression"}
    assert set(model.predict(X)["kind"]) <= {"a", "b", "c"}
    assert trainer.evaluate(X, SIZES)["loss"] < np.var(SIZES)


def test_the_loss_may_change_between_fits():
    trainer = fitted()
    before = trainer.model.state_dict()
    trainer.loss = {"size": nn.MeanSquaredError()}
    trainer.fit(X, SIZES, epochs=1, verbose=0)
    after = trainer.model.state_dict()
    changed = {name for name, array in after.items() if not np.array_equal(array, before[name])}
    assert changed == {"linear_1.w", "linear_1.b", *UNTRAINED}


def test_running_statistics_follow_without_a_loss():
    """As where every output is computed in training: so that what is predicted is normalized."""
    x = nn.Input((5,))
    z = nn.Linear(4)(x)
    model = nn.Model(x, {"kind": nn.Linear(3)(x), "z": nn.BatchNorm(momentum=0.25)(z)}, dtype="float64")
    trainer = fnn.Trainer(model, LOSS)
    trainer.step(X, KINDS)
    a = model.arrays()
    rows = X @ a["linear_2.w"] + a["linear_2.b"]
    np.testing.assert_allclose(a["batch_norm_1.running_mean"], 0.25 * rows.mean(axis=0), rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(a["batch_norm_1.running_var"], 0.75 + 0.25 * rows.var(axis=0, ddof=1), rtol=1e-10)
    assert (a["batch_norm_1.gamma"] == 1).all() and (a["batch_norm_1.beta"] == 0).all()
    before = a["batch_norm_1.running_mean"].copy()
    model.freeze("batch_norm_1")
    trainer.step(X, KINDS)
    assert_same_bits(a["batch_norm_1.running_mean"], before, "frozen")


def test_inputs_that_only_the_others_read():
    a, b = nn.Input((5,), name="a"), nn.Input((2,), name="b")
    h = nn.Linear(3)(a)
    model = nn.Model([a, b], {"kind": h, "both": nn.Concat()(h, b)})
    rows = {"a": X, "b": X[:, :2].astype("f4")}
    trainer = fnn.Trainer(model, LOSS)
    trainer.fit(rows, KINDS, X_val=rows, y_val=KINDS, epochs=2, verbose=0)
    assert trainer.compare({k: v[:20] for k, v in rows.items()}, KINDS[:20]) is None
    assert "linear_1.w" in trainer.gradients(rows, KINDS)
    assert_same_bits(model.predict(rows)["both"][:, 3:], rows["b"])
    with pytest.raises(ValueError, match="'X' has no rows of input 'b'"):
        trainer.evaluate({"a": X}, KINDS)


def test_a_step_taken_apart_takes_gradients_of_all():
    trainer = fitted()
    before = trainer.model.state_dict()
    scores = trainer.forward(X)
    trainer.backward({name: np.ones_like(s) for name, s in scores.items()})
    trainer.update()
    assert not any(np.array_equal(array, before[name]) for name, array in trainer.model.state_dict().items())


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda t: t.fit(X, {"kind": KINDS, "size": SIZES}, verbose=0), ValueError, "'y' has targets of output 'size', which has no loss"),
        (lambda t: t.fit(X, {"kinds": KINDS}, verbose=0), ValueError, "'y': unknown output 'kinds', did you mean 'kind'"),
        (lambda t: t.fit(X, {}, verbose=0), ValueError, r"'X' was given without .*kind"),
        (lambda t: t.fit(X, verbose=0), ValueError, r"'X' was given without .*kind"),
        (lambda t: t.fit(X, KINDS[:-1], verbose=0), ValueError, r"'y' .* expected 150 rows"),
        (lambda t: t.fit(X, {"kind": KINDS[:-1]}, verbose=0), ValueError, r"y\['kind'\].* expected 150 rows"),
        (lambda t: t.fit(X, KINDS, X_val=X, y_val={"embedding": X}, verbose=0), ValueError, "'y_val' has targets of output 'embedding'"),
        (lambda t: t.evaluate(X, {"size": SIZES}), ValueError, "'y' has targets of output 'size', which has no loss"),
        (lambda t: t.step(X, np.full(N, "z")), ValueError, "'y' holds the label 'z'"),
    ],
)  # fmt: skip
def test_targets_that_do_not_fit(call, kind, message):
    trainer = fitted()
    before = trainer.model.state_dict()
    with pytest.raises(kind, match=message):
        call(trainer)
    for name, array in trainer.model.state_dict().items():
        assert_same_bits(array, before[name], name)


@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        ({"loss": "softmax_cross_entropy"}, TypeError, "expected a dict by output: kind, size, embedding"),
        ({"loss": {"kinds": "huber"}}, ValueError, "'loss': unknown output 'kinds', did you mean 'kind'"),
        ({"loss": {}}, ValueError, "'loss' is empty, expected a loss of at least one output: kind, size, embedding"),
        ({"loss": LOSS, "loss_weights": {"size": 0.5}}, ValueError, "'loss_weights' has a part of output 'size', which has no loss"),
        ({"loss": LOSS, "loss_weights": {"sice": 0.5}}, ValueError, "unknown output 'sice', did you mean 'size'"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit(settings, kind, message):
    with pytest.raises(kind, match=message):
        fnn.Trainer(model_of(*ALL), **settings)
