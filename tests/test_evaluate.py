"""`Trainer.evaluate(metrics=...)`: names, functions and metrics on what the model predicts."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import pyfastnn as fnn
from pyfastnn import metrics, nn

RNG = np.random.default_rng(1)
X = RNG.normal(size=(90, 4)).astype(np.float32)
KINDS = np.array(["low", "mid", "top"])[np.digitize(X[:, 0] + 0.3 * X[:, 1], [-0.4, 0.5])]
YES = np.where(X[:, 0] + 0.5 * RNG.normal(size=90) > 0, "yes", "no")
VALUES = X[:, 0] * 2 + X[:, 1]
WEIGHTS = RNG.integers(0, 3, 90)


def trained(y, outputs: int, loss="softmax_cross_entropy", **more) -> fnn.Trainer:
    trainer = fnn.Trainer(nn.Sequential(nn.Linear(8), nn.ReLU(), nn.Linear(outputs)), loss, preflight=False)
    trainer.fit(X, y, epochs=3, **more)
    return trainer


@pytest.fixture(scope="module")
def three() -> fnn.Trainer:
    return trained(KINDS, 3)


@pytest.fixture(scope="module")
def two() -> fnn.Trainer:
    return trained(YES, 2)


@pytest.fixture(scope="module")
def line() -> fnn.Trainer:
    return trained(VALUES, 1, "mean_squared_error")


def errors(y_true, y_pred):
    return np.count_nonzero(y_true != y_pred)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
def test_names_of_three_classes(three, weights):
    names = ["f1_macro", "balanced_accuracy", "roc_auc", "average_precision", "log_loss", "top_k_accuracy"]
    plain = three.evaluate(X, KINDS, weights)
    found = three.evaluate(X, KINDS, weights, metrics=["accuracy", "loss", *names])
    assert list(found) == [*plain, *names]
    assert {name: found[name] for name in plain} == plain
    labels, p, more = three.model.predict(X), three.model.predict_proba(X), {"sample_weight": weights}
    assert found["f1_macro"] == metrics.f1(KINDS, labels, average="macro", **more)
    assert found["balanced_accuracy"] == metrics.balanced_accuracy(KINDS, labels, **more)
    for name in names[2:]:
        assert found[name] == getattr(metrics, name)(KINDS, p, **more)
    # The loss is summed in float32 by the native kernels, and the probabilities are of float32.
    assert found["log_loss"] == pytest.approx(found["loss"], rel=90 * 2.0**-23)


def test_of_two_classes_the_second_is_positive(two):
    names = ["precision", "recall", "f1", "roc_auc"]
    found = two.evaluate(X, YES, metrics=names)
    labels, p = two.model.predict(X), two.model.predict_proba(X)
    for name in names[:3]:
        assert found[name] == getattr(metrics, name)(YES, labels, pos_label="yes")
    assert found["roc_auc"] == metrics.roc_auc(YES == "yes", p[:, 1])
    given = two.evaluate(X, YES, metrics=[metrics.f1, metrics.roc_auc])
    assert {name: given[name] for name in ("f1", "roc_auc")} == {name: found[name] for name in ("f1", "roc_auc")}


def test_validation_rows_may_lack_a_class(three):
    chosen = KINDS != "mid"
    found = three.evaluate(X[chosen], KINDS[chosen], metrics=["log_loss", "top_k_accuracy"])
    p = three.model.predict_proba(X[chosen])
    assert found["log_loss"] == metrics.log_loss(KINDS[chosen], p, labels=["low", "mid", "top"])
    with pytest.raises(ValueError, match=r"^roc_auc: 'y_true' has no rows of class 'mid'$"):
        three.evaluate(X[chosen], KINDS[chosen], metrics="roc_auc")


def test_functions(three):
    wrong = errors(KINDS, three.model.predict(X))
    assert three.evaluate(X, KINDS, metrics=errors)["errors"] == wrong
    named = metrics.Metric("wrong", errors, mode="min")
    best = partial(metrics.top_k_accuracy, k=1)
    found = three.evaluate(X, KINDS, metrics=(named, best, partial(metrics.f1, average="micro")))
    assert found["wrong"] == wrong
    assert found["top_k_accuracy"] == found["f1"] == found["accuracy"]


def test_values(line):
    p = line.model.predict(X)
    for y in (VALUES, VALUES[:, None]):
        found = line.evaluate(X, y, WEIGHTS, metrics=["r2", "mae", "rmse", "mape"])
        assert list(found) == ["loss", "r2", "mae", "rmse", "mape"]
        for name in ("r2", "mae", "rmse", "mape"):
            assert found[name] == getattr(metrics, name)(VALUES, p, sample_weight=WEIGHTS)
    plain = line.evaluate(X, VALUES, metrics="rmse")
    # The loss has targets in float32: each difference is off by 2^-24 of the target.
    assert plain["rmse"] ** 2 == pytest.approx(plain["loss"], rel=90 * 2.0**-23)


def test_one_output_of_yes_and_no():
    y = (YES == "yes").astype(np.float32)
    trainer = trained(y, 1, "binary_cross_entropy")
    found = trainer.evaluate(X, y, metrics=["accuracy", "f1", "roc_auc", "log_loss"])
    labels, p = trainer.model.predict(X), trainer.model.predict_proba(X)[:, 0]
    assert found["accuracy"] == metrics.accuracy(y, labels)
    assert found["f1"] == metrics.f1(y, labels)
    assert found["roc_auc"] == metrics.roc_auc(y, p)
    assert found["log_loss"] == pytest.approx(found["loss"], rel=90 * 2.0**-23)


def test_ignored_labels_are_left_out():
    y = np.digitize(X[:, 0], [-0.4, 0.5])
    y[::3] = -1
    trainer = trained(y, 3, nn.SoftmaxCrossEntropy(ignore_index=-1))
    found = trainer.evaluate(X, y, WEIGHTS, metrics=["f1_macro", "log_loss", errors_of_weight])
    kept, weights = y >= 0, WEIGHTS[y >= 0]
    labels, p = trainer.model.predict(X)[kept], trainer.model.predict_proba(X)[kept]
    assert found["f1_macro"] == metrics.f1(y[kept], labels, average="macro", sample_weight=weights)
    assert found["log_loss"] == metrics.log_loss(y[kept], p, sample_weight=weights)
    assert found["errors_of_weight"] == weights[labels != y[kept]].sum()


def errors_of_weight(y_true, y_pred, sample_weight):
    return sample_weight[y_true != y_pred].sum()


def test_several_outputs():
    x = nn.Input(4)
    h = nn.Tanh()(nn.Linear(6)(x))
    model = nn.Model(x, {"kind": nn.Linear(3)(h), "value": nn.Linear(1)(h)})
    loss = {"kind": "softmax_cross_entropy", "value": "mean_squared_error"}
    trainer = fnn.Trainer(model, loss, preflight=False)
    y = {"kind": KINDS, "value": VALUES}
    trainer.fit(X, y, epochs=2)
    found = trainer.evaluate(X, y, metrics={"kind": ["f1_macro", "roc_auc"], "value": "mae"})
    assert {**found, **trainer.evaluate(X, y)} == found
    assert found["f1_macro.kind"] == metrics.f1(KINDS, model.predict(X)["kind"], average="macro")
    assert found["roc_auc.kind"] == metrics.roc_auc(KINDS, model.predict_proba(X)["kind"])
    assert found["mae.value"] == metrics.mae(VALUES, model.predict(X)["value"])
    with pytest.raises(TypeError, match=r"^evaluate: 'metrics' is \['mae'\], expected a dict by output: kind, value$"):
        trainer.evaluate(X, y, metrics=["mae"])
    with pytest.raises(ValueError, match=r"^evaluate: 'metrics': unknown output 'kinds', did you mean 'kind'\?"):
        trainer.evaluate(X, y, metrics={"kinds": ["f1_macro"]})


def test_one_of_several_outputs_has_a_loss():
    x = nn.Input(4)
    model = nn.Model(x, {"kind": nn.Linear(3)(x), "more": nn.Linear(2)(x)})
    trainer = fnn.Trainer(model, {"kind": "softmax_cross_entropy"}, preflight=False)
    trainer.fit(X, {"kind": KINDS}, epochs=1)
    wanted = metrics.f1(KINDS, model.predict(X)["kind"], average="macro")
    for y, given in ((KINDS, ["f1_macro"]), ({"kind": KINDS}, {"kind": "f1_macro"})):
        assert trainer.evaluate(X, y, metrics=given)["f1_macro.kind"] == wanted


def test_labels_that_are_independent():
    y = np.stack([X[:, 0] > 0, X[:, 1] > 0], axis=1).astype(np.float32)
    trainer = trained(y, 2, "binary_cross_entropy")
    found = trainer.evaluate(X, y, metrics=errors)
    assert found["errors"] == errors(y, trainer.model.predict(X))
    with pytest.raises(
        ValueError, match=r"^evaluate: metric 'f1' is for labels, one a row; the loss here is BinaryCross"
    ):
        trainer.evaluate(X, y, metrics="f1")


def test_the_trainer_says_where_metrics_go():
    with pytest.raises(ValueError, match=r"^Trainer: unknown metric 'f1_macro'; known: accuracy; others are found by"):
        fnn.Trainer(nn.Sequential(nn.Linear(2)), metrics=["f1_macro"])


def test_what_does_not_fit(three, line):
    other = metrics.Metric("f1_macro", errors)
    cases = (
        (three, KINDS, ["f1_marco"], ValueError, "evaluate: unknown metric 'f1_marco', did you mean 'f1_macro'? known: "),
        (three, KINDS, [3], TypeError, "evaluate: a metric is 3, expected a name or a function of y_true and y_pred"),
        (three, KINDS, 3, TypeError, "evaluate: 'metrics' is 3, expected names such as 'f1_macro' or functions"),
        (three, KINDS, ["mae"], ValueError, "evaluate: metric 'mae' is for regression; the loss here is SoftmaxCross"),
        (line, VALUES, ["f1_macro"], ValueError, "evaluate: metric 'f1_macro' is for labels, one a row; the loss here is Mean"),
        (three, KINDS, ["f1_macro", other], ValueError, "evaluate: two metrics are called 'f1_macro': give one another name"),
        (three, KINDS, [metrics.accuracy], ValueError, "evaluate: two metrics are called 'accuracy': give one another name"),
        (
            three, KINDS, ["f1"], ValueError,
            "evaluate: metric 'f1' is for two classes, and the model has 3: write 'f1_macro', 'f1_weighted' or 'f1_micro'",
        ),
        (three, KINDS, [metrics.confusion_matrix], TypeError, "evaluate: metric 'confusion_matrix' returned array("),
    )  # fmt: skip
    for trainer, y, given, kind, message in cases:
        with pytest.raises(kind) as caught:
            trainer.evaluate(X, y, metrics=given)
        assert str(caught.value).startswith(message)
    with pytest.raises(ValueError, match=r"^evaluate: metric 'errors' takes no 'sample_weight', which was given$"):
        three.evaluate(X, KINDS, WEIGHTS, metrics=errors)
    with pytest.raises(ValueError, match=r"^top_k_accuracy: 'k' is 5, expected 1 to 3, the number of classes$"):
        three.evaluate(X, KINDS, metrics="top_5_accuracy")


def test_a_stream_has_loss_and_accuracy_only(three, tmp_path):
    np.save(tmp_path / "rows.npy", X)
    with fnn.data.Stream(tmp_path / "rows.npy", KINDS) as stream:
        assert set(three.evaluate(stream)) == {"loss", "accuracy"}
        with pytest.raises(ValueError, match=r"^evaluate: 'metrics' was given, but 'X' is a Stream, of which loss and"):
            three.evaluate(stream, metrics="f1_macro")
