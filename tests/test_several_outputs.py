"""Models with several outputs: gradients, history, prediction, files, and what is refused."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import pyfastnn as fnn
from pyfastnn import nn, optim
from pyfastnn.testing import assert_same_bits, central_difference, rng_of

RNG = rng_of("several outputs")
N = 211
X = RNG.standard_normal((N, 5))
Y = {
    "kind": np.array(["a", "b", "c"])[(X[:, 0] > 0).astype(int) + (X[:, 1] > 0)],
    "size": X[:, 2] - X[:, 3],
    "marks": np.stack([X[:, 0] > 0, X[:, 4] > 0], axis=1).astype(float),
}
LOSSES = {"kind": "softmax_cross_entropy", "size": "mean_squared_error", "marks": "binary_cross_entropy"}
WEIGHTS = {"size": 0.5, "marks": 2.0}
COLUMNS = ["loss", "loss.kind", "loss.marks", "loss.size", "accuracy.kind"]


def model_of(dtype="float64", **settings) -> nn.Model:
    x = nn.Input((5,))
    h = nn.Tanh()(nn.Linear(7)(x))
    heads = {"kind": nn.Linear(3)(h), "size": nn.Linear(1)(h), "marks": nn.Linear(2)(nn.ReLU()(nn.Linear(4)(h)))}
    return nn.Model(x, heads, dtype=dtype, **settings)


def trainer_of(dtype="float64", preprocess=None, **settings) -> fnn.Trainer:
    model = model_of(dtype, preprocess=preprocess)
    return fnn.Trainer(model, LOSSES, **{"optimizer": optim.Adam(0.01), "loss_weights": WEIGHTS, "seed": 5, **settings})


def fitted(epochs=1, **settings) -> fnn.Trainer:
    trainer = trainer_of(**settings)
    trainer.fit(X, Y, epochs=epochs, verbose=0)
    return trainer


def by_hand(scores: dict[str, np.ndarray], y=Y) -> dict[str, float]:
    """Return losses and accuracy from the scores, without the library's losses."""
    kind = scores["kind"]
    codes = np.searchsorted(["a", "b", "c"], y["kind"])
    p = 1 / (1 + np.exp(-scores["marks"]))
    found = {
        "loss.kind": float(np.mean(np.log(np.exp(kind).sum(axis=1)) - kind[np.arange(len(kind)), codes])),
        "loss.size": float(np.mean((scores["size"][:, 0] - y["size"]) ** 2)),
        "loss.marks": float(-np.mean(y["marks"] * np.log(p) + (1 - y["marks"]) * np.log(1 - p))),
        "accuracy.kind": float((kind.argmax(axis=1) == codes).mean()),
    }
    total = found["loss.kind"] + 0.5 * found["loss.size"] + 2.0 * found["loss.marks"]
    return {**found, "loss": total}


def test_gradients_against_central_differences():
    """Of the weighted sum, for every array; a part of weight 0 has no gradient of its own head."""
    rows, y = X[:30], {k: v[:30] for k, v in Y.items()}
    trainer = fitted()
    gradients = trainer.gradients(rows, y)
    assert list(gradients) == list(trainer.model.parameters)
    for name, array in trainer.model.parameters.items():

        def objective(p, array=array):
            kept = array.copy()
            array[...] = p
            value = by_hand(trainer.model(rows), y)["loss"]
            array[...] = kept
            return value

        np.testing.assert_allclose(
            gradients[name], central_difference(objective, array.copy()), rtol=1e-6, atol=1e-8, err_msg=name
        )
    assert trainer.compare(rows, y) is None
    alone = fnn.Trainer(trainer.model, LOSSES, loss_weights={"size": 0.0}).gradients(rows, y)
    head = trainer.model.network.calls[trainer.model.network.outputs["size"] - 1].layer
    assert (alone[f"{head}.w"] == 0).all()
    assert (gradients[f"{head}.w"] != 0).any()


def test_history_and_evaluation_have_every_output():
    trainer = trainer_of(optimizer=optim.SGD(0.0))
    trainer.fit(X, Y, X_val=X[:70], y_val={k: v[:70] for k, v in Y.items()}, epochs=2, batch_size=50, verbose=0)
    want = by_hand(trainer.model(X))
    held = by_hand(trainer.model(X[:70]), {k: v[:70] for k, v in Y.items()})
    for row in trainer.history:
        assert {k: row[k] for k in want} == pytest.approx(want, rel=1e-12)
        assert {k: row[f"val_{k}"] for k in held} == pytest.approx(held, rel=1e-12)
    columns = [c for c in trainer.history.columns if c.startswith(("loss", "accuracy"))]
    assert columns == COLUMNS
    assert trainer.evaluate(X, Y) == pytest.approx(want, rel=1e-12)
    assert "loss.kind" in repr(trainer.history)


def test_it_learns_all_of_them():
    trainer = fitted(80, dtype="float32", preprocess=fnn.data.Standardize())
    found = trainer.evaluate(X, Y)
    assert found["accuracy.kind"] > 0.9
    assert found["loss.size"] < 0.1 * np.var(Y["size"])
    assert ((trainer.model.predict(X)["marks"] == (Y["marks"] > 0)).mean()) > 0.9


def test_prediction_by_output():
    model = fitted(3).model
    scores, predicted, p = model(X), model.predict(X), model.predict_proba(X)
    assert list(scores) == list(predicted) == ["kind", "size", "marks"]
    assert list(p) == ["kind", "marks"]  # those that have probabilities
    assert model.classes_["kind"].tolist() == ["a", "b", "c"]
    assert model.task == {"kind": "classification", "size": "regression", "marks": "multilabel"}
    e = np.exp(scores["kind"])
    np.testing.assert_allclose(p["kind"], e / e.sum(axis=1, keepdims=True), rtol=1e-12)
    np.testing.assert_allclose(p["marks"], 1 / (1 + np.exp(-scores["marks"])), rtol=1e-12)
    assert predicted["kind"].tolist() == model.classes_["kind"][scores["kind"].argmax(axis=1)].tolist()
    assert_same_bits(predicted["size"], scores["size"][:, 0])
    assert (predicted["marks"] == (scores["marks"] > 0)).all()


def test_steps_are_an_epoch():
    one, other = trainer_of(), trainer_of()
    one.fit(X, Y, batch_size=100, epochs=2, shuffle=False, verbose=0)
    for _ in range(2):
        losses = [other.step(X[k : k + 100], {n: v[k : k + 100] for n, v in Y.items()}) for k in range(0, N, 100)]
    assert one.history["loss"][-1] == pytest.approx((100 * losses[0] + 100 * losses[1] + 11 * losses[2]) / N, rel=1e-12)
    for name, array in one.model.state_dict().items():
        assert_same_bits(other.model.state_dict()[name], array, name)


def test_bits_do_not_depend_on_threads():
    one, two = fitted(3, threads=1, dtype="float32"), fitted(3, threads=2, dtype="float32")
    for name, array in one.model.state_dict().items():
        assert_same_bits(two.model.state_dict()[name], array, name)


def test_files_and_copies(tmp_path):
    trainer = fitted(2, preprocess=fnn.data.Standardize())
    trainer.model.save(tmp_path / "m")
    for again in (fnn.load(tmp_path / "m"), copy.deepcopy(trainer.model), pickle.loads(pickle.dumps(trainer.model))):
        for name, scores in trainer.model(X).items():
            assert_same_bits(again(X)[name], scores, name)
        assert again.predict(X)["kind"].tolist() == trainer.model.predict(X)["kind"].tolist()
        assert again.task == trainer.model.task


def test_a_checkpoint_goes_on_bit_for_bit(tmp_path):
    straight, parted = fitted(4), fitted(2)
    parted.checkpoint(tmp_path / "c")
    again = fnn.Trainer.resume(tmp_path / "c")
    assert again.loss_weights == WEIGHTS
    assert {k: v.kind for k, v in again.loss.items()} == LOSSES
    assert again.evaluate(X, Y) == parted.evaluate(X, Y)
    again.fit(X, Y, epochs=2, verbose=0)
    for column in COLUMNS:
        assert again.history[column] == straight.history[column]
    for name, array in {**straight.model.state_dict(), **straight.slots}.items():
        assert_same_bits({**again.model.state_dict(), **again.slots}[name], array, name)


def test_many_at_once_with_dicts():
    """Several inputs and outputs: each trainer ends with the bits of its own fit."""

    def two_inputs(seed):
        a, b = nn.Input((5,), name="a"), nn.Input((2,), name="b")
        h = nn.Tanh()(nn.Linear(6)(nn.Concat()(a, b)))
        model = nn.Model([a, b], {"kind": nn.Linear(3)(h), "size": nn.Linear(1)(h)})
        return fnn.Trainer(model, {k: LOSSES[k] for k in ("kind", "size")}, seed=seed)

    rows, y = {"a": X, "b": X[:, :2].astype("f4")}, {k: Y[k] for k in ("kind", "size")}
    folds = [np.arange(100), np.arange(100, N), None]
    trainers = [two_inputs(k) for k in range(3)]
    fnn.train_many(trainers, rows, y, rows=folds, X_val=rows, y_val=y, epochs=2)
    for seed, (trainer, fold) in enumerate(zip(trainers, folds, strict=True)):
        alone = two_inputs(seed)
        alone.fit(rows, y, rows=fold, X_val=rows, y_val=y, epochs=2, verbose=0)
        assert trainer.history["val_loss.size"] == alone.history["val_loss.size"]
        for name, array in alone.model.state_dict().items():
            assert_same_bits(trainer.model.state_dict()[name], array, name)


def test_a_schedule_may_watch_one_output():
    rate = optim.ReduceOnPlateau(0.1, monitor="val_loss.size", patience=1)
    trainer = trainer_of(optimizer=optim.SGD(rate))
    trainer.fit(X, Y, X_val=X, y_val=Y, epochs=2, verbose=0)
    with pytest.raises(ValueError, match="val_loss.size"):
        fnn.Trainer(model_of(), LOSSES, optim.SGD(rate)).fit(X, Y, verbose=0)


# What is refused


def without(name):
    return {k: v for k, v in Y.items() if k != name}


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda t: t.fit(X, without("size"), verbose=0), ValueError, r"'X' was given without .*size"),
        (lambda t: t.fit(X, {**Y, "sizes": Y["size"]}, verbose=0), ValueError, "'y': unknown output 'sizes', did you mean 'size'"),
        (lambda t: t.fit(X, Y["kind"], verbose=0), TypeError, "'y' is ndarray, expected a dict with the outputs kind, size, marks"),
        (lambda t: t.fit(X, verbose=0), ValueError, "'X' was given without"),
        (lambda t: t.fit(X, {**Y, "size": Y["size"][:-1]}, verbose=0), ValueError, r"y\['size'\].* \(210, 1\), expected 211 rows"),
        (lambda t: t.fit(X, {**Y, "kind": Y["size"]}, verbose=0), TypeError, r"y\['kind'\].* holds floats that are no whole numbers"),
        (lambda t: t.fit(X, {**Y, "marks": Y["size"]}, verbose=0), ValueError, r"y\['marks'\].* expected \(n, 2\)"),
        (lambda t: t.fit(X, {**Y, "kind": np.full(N, "z")}, verbose=0), ValueError, r"y\['kind'\].* holds the label 'z'"),
        (lambda t: t.evaluate(X, without("kind")), ValueError, "'X' was given without"),
        (lambda t: t.evaluate(X, Y["size"]), TypeError, "expected a dict with the outputs"),
        (lambda t: t.step(X, Y["size"]), TypeError, "expected a dict with the outputs"),
        (lambda t: t.gradients(X, without("marks")), ValueError, "'X' was given without"),
        (lambda t: t.fit(X, Y, X_val=X, y_val=without("size"), verbose=0), ValueError, "'X_val' was given without"),
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
        ({"loss": "mean_squared_error"}, TypeError, "'loss' is 'mean_squared_error', expected a dict by output: kind, size, marks"),
        ({"loss": {}}, ValueError, "'loss' is empty, expected a loss of at least one output: kind, size, marks"),
        ({"loss": {**LOSSES, "sise": "huber"}}, ValueError, "'loss': unknown output 'sise', did you mean 'size'"),
        ({"loss_weights": {"sizes": 1.0}}, ValueError, "'loss_weights': unknown output 'sizes', did you mean 'size'"),
        ({"loss_weights": {"size": -1.0}}, ValueError, "'loss_weights' is -1"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit(settings, kind, message):
    with pytest.raises(kind, match=message):
        fnn.Trainer(model_of(), **{"loss": LOSSES, **settings})


def test_one_output_takes_no_dict_of_weights():
    with pytest.raises(ValueError, match="'loss_weights' is for models with several outputs"):
        fnn.Trainer(nn.Sequential(nn.Linear(2)), loss_weights={"y": 2.0})
