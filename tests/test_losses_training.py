"""Weights of classes and rows, ignored labels and smoothing on the way through a Trainer, against NumPy written out and PyTorch."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import pyfastnn as fnn
from pyfastnn import nn, optim
from pyfastnn.testing import assert_same_bits, central_difference, rng_of

RNG = rng_of("losses in training")
N, FEATURES, CLASSES = 613, 5, 4
X = RNG.standard_normal((N, FEATURES))
NUMBERS = RNG.integers(0, CLASSES, N)
NUMBERS[::7] = -100
NAMES = np.array(["ant", "bee", "cat", "dog"])
WORDS = np.where(NUMBERS < 0, "unknown", NAMES[np.maximum(NUMBERS, 0)])
WEIGHTS = RNG.random(N) * 3
WEIGHTS[::11] = 0

CLASS_WEIGHTS = {
    "none": None,
    "dict": {"bee": 3.0, "dog": 0.25},
    "array": [0.5, 2.0, 1.0, 0.0],
    "balanced": "balanced",
}
CASES = list(itertools.product(CLASS_WEIGHTS, (0.0, 0.1), (False, True), (False, True)))


def case(class_weight: str, smoothing: float, ignoring: bool, weighted: bool):
    """Return the loss, the rows that may be trained on, labels and row weights."""
    loss = nn.SoftmaxCrossEntropy(smoothing, CLASS_WEIGHTS[class_weight], "unknown" if ignoring else None)
    used = slice(None) if ignoring else NUMBERS >= 0
    return loss, X[used], WORDS[used], WEIGHTS[used] if weighted else None


def class_weights(loss: nn.SoftmaxCrossEntropy, labels: np.ndarray) -> np.ndarray:
    known = labels[labels != loss.ignore_index]
    chosen = loss.class_weight
    if chosen is None:
        return np.ones(CLASSES)
    if chosen == "balanced":
        return np.array([len(known) / (CLASSES * np.count_nonzero(known == name)) for name in NAMES])
    if isinstance(chosen, dict):
        return np.array([chosen.get(str(name), 1.0) for name in NAMES])
    return np.array(chosen)


def by_hand(scores, labels, weights, loss, u) -> tuple[float, float]:
    """Return loss and accuracy, row by row and class by class."""
    total = of = right = rows = 0.0
    for i, label in enumerate(labels):
        w = 1.0 if weights is None else weights[i]
        if label == loss.ignore_index or w == 0:
            continue
        k = NAMES.tolist().index(label)
        log_p = scores[i] - np.logaddexp.reduce(scores[i])
        e = loss.label_smoothing
        total -= w * sum(((1 - e) * (j == k) + e / CLASSES) * u[j] * log_p[j] for j in range(CLASSES))
        of += w * u[k]
        right += scores[i].argmax() == k
        rows += 1
    return total / of, right / rows


def trainer_of(loss, **settings) -> fnn.Trainer:
    model = nn.Sequential(nn.Linear(6), nn.Tanh(), nn.Linear(CLASSES), dtype="float64")
    return fnn.Trainer(model, loss, **{"optimizer": optim.SGD(0.1), "seed": 2, **settings})


@pytest.mark.parametrize("which", CASES, ids=str)
def test_every_combination_against_numpy(which):
    """Loss and accuracy of `evaluate` (three steps of it), of `step` and of an epoch at rate 0; gradients by central differences."""
    loss, rows, labels, weights = case(*which)
    u = class_weights(loss, labels)
    trainer = trainer_of(loss, optimizer=optim.SGD(0.0))
    history = trainer.fit(
        rows, labels, sample_weight=weights, X_val=rows, y_val=labels, epochs=1, batch_size=50, verbose=0
    )
    scores = trainer.model(rows)
    want, accuracy = by_hand(scores, labels, weights, loss, u)
    plain, plain_accuracy = by_hand(scores, labels, None, loss, u)
    rel = 1e-12
    assert history["loss"] == pytest.approx([want], rel=rel)
    assert history["accuracy"] == pytest.approx([accuracy], rel=rel)
    assert history["val_loss"] == pytest.approx([plain], rel=rel)
    assert history["val_accuracy"] == pytest.approx([plain_accuracy], rel=rel)
    assert trainer.evaluate(rows, labels, weights) == pytest.approx({"loss": want, "accuracy": accuracy}, rel=rel)
    assert trainer.step(rows, labels, weights) == pytest.approx(want, rel=rel)
    part = slice(0, 40)
    some = None if weights is None else weights[part]
    gradients = trainer.gradients(rows[part], labels[part], some)
    for name, array in trainer.model.parameters.items():

        def objective(p, array=array):
            kept = array.copy()
            array[...] = p
            value = by_hand(trainer.model(rows[part]), labels[part], some, loss, u)[0]
            array[...] = kept
            return value

        np.testing.assert_allclose(gradients[name], central_difference(objective, array.copy()), rtol=1e-5, atol=1e-8)
    if weights is None:
        assert trainer.compare(rows[part], labels[part]) is None


@pytest.mark.parametrize("which", CASES, ids=str)
def test_every_combination_against_torch(which):
    """Where PyTorch has the case (it has no weights of rows): loss and gradients in float64."""
    torch = pytest.importorskip("torch", reason="compares with torch.nn.CrossEntropyLoss")
    loss, rows, labels, weights = case(*which)
    if weights is not None:
        weights = np.ones(len(rows))  # what PyTorch means
    u = torch.tensor(class_weights(loss, labels))
    codes = np.array([-100 if label == "unknown" else NAMES.tolist().index(label) for label in labels])
    trainer = trainer_of(loss)
    trainer.fit(rows, labels, epochs=1, verbose=0)
    leaves = {k: torch.tensor(v.copy(), requires_grad=True) for k, v in trainer.model.parameters.items()}
    h = torch.tanh(torch.tensor(rows) @ leaves["linear_1.w"] + leaves["linear_1.b"])
    scores = h @ leaves["linear_2.w"] + leaves["linear_2.b"]
    criterion = torch.nn.CrossEntropyLoss(weight=u, ignore_index=-100, label_smoothing=loss.label_smoothing)
    want = criterion(scores, torch.tensor(codes))
    want.backward()
    assert trainer.evaluate(rows, labels, weights)["loss"] == pytest.approx(want.item(), rel=1e-12)
    for name, gradient in trainer.gradients(rows, labels, weights).items():
        np.testing.assert_allclose(gradient, leaves[name].grad.numpy(), rtol=1e-9, atol=1e-13, err_msg=name)


@pytest.mark.parametrize("which", CASES, ids=str)
def test_checkpoints_go_on_and_evaluate(which, tmp_path):
    loss, rows, labels, weights = case(*which)
    straight, parted = trainer_of(loss, optimizer="adam"), trainer_of(loss, optimizer="adam")
    straight.fit(rows, labels, sample_weight=weights, epochs=4, verbose=0)
    parted.fit(rows, labels, sample_weight=weights, epochs=2, verbose=0)
    parted.checkpoint(tmp_path / "c")
    again = fnn.Trainer.resume(tmp_path / "c")
    assert again.evaluate(rows, labels, weights) == parted.evaluate(rows, labels, weights)
    again.fit(rows, labels, sample_weight=weights, epochs=2, verbose=0)
    assert again.history["loss"] == straight.history["loss"]
    for name, array in straight.model.state_dict().items():
        assert_same_bits(again.model.state_dict()[name], array, name)


@pytest.mark.parametrize("labels", [NUMBERS, WORDS, NUMBERS.astype(float)], ids=["numbers", "words", "floats"])
def test_ignored_rows_change_no_bit_of_the_others(labels):
    """What an ignored row holds does not matter, nor its targets: and no class is made of its label."""
    ignored = NUMBERS < 0
    rows = X.copy()
    loss = nn.SoftmaxCrossEntropy(ignore_index="unknown" if labels is WORDS else -100)
    one, other = trainer_of(loss), trainer_of(loss)
    one.fit(rows, labels, epochs=2, verbose=0)
    rows[ignored] = 1e6
    other.fit(rows, labels, epochs=2, verbose=0)
    assert len(one.model.classes_) == CLASSES
    for name, array in one.model.state_dict().items():
        assert_same_bits(other.model.state_dict()[name], array, name)


def test_unsigned_labels_and_a_class_that_is_ignored():
    """Label 0 of an image means background: the class keeps its output, and no row teaches it."""
    labels = RNG.integers(0, 3, N).astype(np.uint8)
    trainer = fnn.Trainer(nn.Sequential(nn.Linear(3)), nn.SoftmaxCrossEntropy(ignore_index=0), seed=0)
    trainer.fit(X, labels, epochs=1, verbose=0)
    assert trainer.model.classes_.tolist() == [0, 1, 2]
    kept = labels > 0
    found = trainer.evaluate(X, labels)
    assert found == pytest.approx(trainer.evaluate(X[kept], labels[kept]), rel=1e-6)
    assert found["accuracy"] == (trainer.model.predict(X)[kept] == labels[kept]).mean()
    far = fnn.Trainer(nn.Sequential(nn.Linear(3)), nn.SoftmaxCrossEntropy(ignore_index=-100), seed=0)
    far.fit(X, labels, epochs=1, verbose=0)


def test_a_batch_of_ignored_rows_does_nothing():
    trainer = trainer_of(nn.MulticlassHinge(ignore_index="unknown"))
    trainer.fit(X, WORDS, epochs=1, verbose=0)
    before = trainer.model.state_dict()
    assert trainer.step(X[:9], np.full(9, "unknown")) == 0.0
    assert trainer.evaluate(X[:9], np.full(9, "unknown")) == {"loss": 0.0, "accuracy": 0.0}
    for name, array in trainer.model.state_dict().items():
        assert_same_bits(array, before[name], name)
    fresh = trainer_of(nn.MulticlassHinge(ignore_index="unknown"))
    with pytest.raises(ValueError, match="'y' holds nothing but the label 'unknown', which the loss ignores"):
        fresh.fit(X[:9], np.full(9, "unknown"), verbose=0)


def test_rows_of_a_fold_with_ignored_labels():
    chosen = RNG.permutation(N)[:200]
    loss = nn.SoftmaxCrossEntropy(0.1, "balanced", "unknown")
    fold, copied = trainer_of(loss), trainer_of(loss)
    fold.fit(X, WORDS, rows=chosen, sample_weight=WEIGHTS, epochs=2, verbose=0)
    copied.fit(X[chosen], WORDS[chosen], sample_weight=WEIGHTS[chosen], epochs=2, verbose=0)
    assert fold.history["loss"] == copied.history["loss"]
    assert fold.history["accuracy"] == copied.history["accuracy"]
    for name, array in copied.model.state_dict().items():
        assert_same_bits(fold.model.state_dict()[name], array, name)


def test_a_stream_with_ignored_labels():
    from pyfastnn.data import Stream

    loss = nn.SoftmaxCrossEntropy(class_weight="balanced", ignore_index="unknown")
    trainer, in_memory = trainer_of(loss), trainer_of(loss)
    stream = Stream(X, WORDS, block_rows=1000, shuffle=False)
    trainer.fit(stream, epochs=2, verbose=0)
    in_memory.fit(X, WORDS, epochs=2, verbose=0)
    assert trainer.history["loss"] == in_memory.history["loss"]
    assert trainer.evaluate(Stream(X, WORDS, block_rows=100)) == pytest.approx(in_memory.evaluate(X, WORDS), rel=1e-12)


def test_each_output_ignores_and_weighs_its_own():
    """The parts are those of one-headed losses by hand; the total is their weighted sum, over all rows too."""
    x = nn.Input((FEATURES,))
    h = nn.Tanh()(nn.Linear(6)(x))
    model = nn.Model(x, {"kind": nn.Linear(CLASSES)(h), "size": nn.Linear(1)(h)}, dtype="float64")
    loss = nn.SoftmaxCrossEntropy(0.1, {"bee": 3.0}, "unknown")
    losses = {"kind": loss, "size": "mean_squared_error"}
    trainer = fnn.Trainer(model, losses, optim.SGD(0.0), loss_weights={"size": 0.5}, seed=1)
    y = {"kind": WORDS, "size": X[:, 0]}
    u = class_weights(loss, WORDS)
    for weights in (None, WEIGHTS):
        trainer.fit(X, y, sample_weight=weights, epochs=1, batch_size=60, verbose=0)
        scores = model(X)
        kind, accuracy = by_hand(scores["kind"], WORDS, weights, loss, u)
        w = np.ones(N) if weights is None else weights
        size = float((w * (scores["size"][:, 0] - X[:, 0]) ** 2).sum() / w.sum())
        want = {"loss": kind + 0.5 * size, "loss.kind": kind, "loss.size": size, "accuracy.kind": accuracy}
        assert trainer.evaluate(X, y, weights) == pytest.approx(want, rel=1e-12)
        row = trainer.history.rows[-1]
        assert {k: row[k] for k in want} == pytest.approx(want, rel=1e-12)


# What was remembered wrongly


def test_class_weights_follow_new_settings_and_classes():
    rows, labels = X[NUMBERS >= 0].astype("f4"), NUMBERS[NUMBERS >= 0]
    trainer = fnn.Trainer(nn.Sequential(nn.Linear(4)), nn.SoftmaxCrossEntropy(class_weight="balanced"), seed=0)
    trainer.fit(rows, labels, epochs=1, verbose=0)
    trainer.model.replace_head(nn.Linear(2))
    trainer.fit(rows, labels > 1, epochs=1, verbose=0)
    ((_, arrays),) = trainer.loss_arrays.values()
    assert arrays["class_weights"].shape == (2,)
    trainer.loss = nn.SoftmaxCrossEntropy()
    scores = trainer.model(rows).astype("f8")
    want = np.mean(np.logaddexp.reduce(scores, axis=1) - scores[np.arange(len(rows)), (labels > 1).astype(int)])
    assert trainer.evaluate(rows, labels > 1)["loss"] == pytest.approx(want, rel=1e-5)


def test_a_fit_that_was_refused_leaves_no_weights():
    rows, labels = X.astype("f4"), np.maximum(NUMBERS, 0)
    bad = rows.copy()
    bad[3, 2] = np.nan
    loss = nn.SoftmaxCrossEntropy(class_weight="balanced")
    trainer = fnn.Trainer(nn.Sequential(nn.Linear(4), preprocess=fnn.data.Standardize()), loss)
    with pytest.raises(ValueError, match="column 2"):
        trainer.fit(bad, labels[::-1], verbose=0)
    assert trainer.loss_arrays == {}


def test_pos_weight_evaluates_behind_a_checkpoint(tmp_path):
    y = (X[:, :3] > 0).astype(float)
    trainer = fnn.Trainer(nn.Sequential(nn.Linear(3), dtype="float64"), nn.BinaryCrossEntropy(2.5), seed=0)
    trainer.fit(X, y, sample_weight=WEIGHTS, epochs=2, verbose=0)
    p = trainer.model.predict_proba(X)
    rows = -(2.5 * y * np.log(p) + (1 - y) * np.log(1 - p)).mean(axis=1)
    assert trainer.evaluate(X, y, WEIGHTS)["loss"] == pytest.approx((rows * WEIGHTS).sum() / WEIGHTS.sum(), rel=1e-12)
    trainer.checkpoint(tmp_path / "c")
    assert fnn.Trainer.resume(tmp_path / "c").evaluate(X, y) == trainer.evaluate(X, y)


def test_weights_that_do_not_fit():
    trainer = trainer_of(nn.SoftmaxCrossEntropy(ignore_index="unknown"))
    trainer.fit(X, WORDS, epochs=1, verbose=0)
    cases = [
        (WEIGHTS[:-1], ValueError, r"'sample_weight' has shape \(612,\), expected \(613,\)"),
        (-WEIGHTS, ValueError, "'sample_weight' holds -"),
        (WORDS, TypeError, "'sample_weight' has dtype"),
    ]
    for weights, kind, message in cases:
        for call in (trainer.evaluate, trainer.step, trainer.gradients):
            with pytest.raises(kind, match=message):
                call(X, WORDS, weights)
