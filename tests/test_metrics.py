"""Metrics: scikit-learn's values, cases counted by hand, and what cannot be measured."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pyfastnn import metrics

RNG = np.random.default_rng(0)
N = 200
TWO = RNG.integers(0, 2, N)
TWO_PREDICTED = np.where(RNG.random(N) < 0.7, TWO, 1 - TWO)
MANY = RNG.integers(0, 4, N)
MANY_PREDICTED = np.where(RNG.random(N) < 0.6, MANY, RNG.integers(0, 5, N))  # one class is never true
WORDS = np.array(["ash", "birch", "cedar", "dogwood", "elm"])
WEIGHTS = RNG.integers(0, 4, N) / 2
SCORES = np.round(RNG.normal(size=N) + TWO, 1)  # rounded: there are ties
TABLE = np.exp(RNG.normal(size=(N, 4)) + np.eye(4)[MANY])
TABLE /= TABLE.sum(axis=1, keepdims=True)
Y = RNG.normal(size=(N, 3)) + [0, 1, 5]
P = Y + RNG.normal(size=(N, 3))
WEIGHTED = pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])


def close(found: float, wanted: float, terms: int = N) -> None:
    """Assert equality to the rounding of sums of so many terms in float64, each of which either side may do in its own order."""
    assert found == pytest.approx(wanted, rel=8 * terms * np.finfo(np.float64).eps, abs=8 * terms * 2.0**-52)


@pytest.fixture(scope="module")
def sk():
    return pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed: nothing to compare with")


@WEIGHTED
@pytest.mark.parametrize("labels", ["two", "many", "words"])
def test_labels_as_scikit_learn(sk, labels, weights):
    y, p = {
        "two": (TWO, TWO_PREDICTED),
        "many": (MANY, MANY_PREDICTED),
        "words": (WORDS[MANY], WORDS[MANY_PREDICTED]),
    }[labels]
    more = {"sample_weight": weights}
    close(metrics.accuracy(y, p, **more), sk.accuracy_score(y, p, **more))
    table = metrics.confusion_matrix(y, p, **more)
    np.testing.assert_allclose(table, sk.confusion_matrix(y, p, **more), rtol=1e-13)
    assert table.dtype == (np.int64 if weights is None else np.float64)
    for normalize in ("true", "pred", "all"):
        found = metrics.confusion_matrix(y, p, normalize=normalize, **more)
        np.testing.assert_allclose(found, sk.confusion_matrix(y, p, normalize=normalize, **more), rtol=1e-12)
    if labels == "two":
        for adjusted in (False, True):
            wanted = sk.balanced_accuracy_score(y, p, adjusted=adjusted, **more)
            close(metrics.balanced_accuracy(y, p, adjusted=adjusted, **more), wanted)
    for average in ("macro", "weighted", "micro") + (("binary",) if labels == "two" else ()):
        for zero in (0, 1):
            more = {"sample_weight": weights, "average": average, "zero_division": zero}
            close(metrics.precision(y, p, **more), sk.precision_score(y, p, **more))
            close(metrics.recall(y, p, **more), sk.recall_score(y, p, **more))
            close(metrics.f1(y, p, **more), sk.f1_score(y, p, **more))


def test_chosen_labels_as_scikit_learn(sk):
    for chosen in ([3, 1], [2, 0, 1], [4, 0]):
        wanted = sk.confusion_matrix(MANY, MANY_PREDICTED, labels=chosen)
        assert np.array_equal(metrics.confusion_matrix(MANY, MANY_PREDICTED, labels=chosen), wanted)
        for average in ("macro", "weighted", "micro"):
            more = {"labels": chosen, "average": average, "zero_division": 0}
            for ours, theirs in ((metrics.precision, "precision"), (metrics.recall, "recall"), (metrics.f1, "f1")):
                close(ours(MANY, MANY_PREDICTED, **more), getattr(sk, f"{theirs}_score")(MANY, MANY_PREDICTED, **more))
    close(metrics.f1(TWO, TWO_PREDICTED, pos_label=0), sk.f1_score(TWO, TWO_PREDICTED, pos_label=0))


@pytest.mark.filterwarnings("ignore")  # theirs, of classes that are missing
def test_a_few_labels_as_scikit_learn(sk):
    """Single rows, single classes, classes that one side lacks, weights of 0, labels that never occur."""
    rng = np.random.default_rng(1)
    for _ in range(60):
        n, k = rng.integers(1, 8), rng.integers(1, 4)
        y, p, weights = rng.integers(0, k, n), rng.integers(0, k, n), rng.integers(0, 3, n)
        more = {"sample_weight": weights if weights.any() else None}
        close(metrics.balanced_accuracy(y, p, **more), sk.balanced_accuracy_score(y, p, **more))
        assert np.array_equal(metrics.confusion_matrix(y, p, **more), sk.confusion_matrix(y, p, **more))
        chosen = np.append(rng.permutation(4)[: rng.integers(1, 4)], y[:1]) if rng.random() < 0.5 else None
        more["labels"] = None if chosen is None else list(dict.fromkeys(chosen.tolist()))
        for average in ("macro", "weighted", "micro"):
            for zero in (0, 1):
                more |= {"average": average, "zero_division": zero}
                close(metrics.precision(y, p, **more), sk.precision_score(y, p, **more))
                close(metrics.recall(y, p, **more), sk.recall_score(y, p, **more))
                close(metrics.f1(y, p, **more), sk.f1_score(y, p, **more))


@WEIGHTED
def test_scores_as_scikit_learn(sk, weights):
    more = {"sample_weight": weights}
    close(metrics.roc_auc(TWO, SCORES, **more), sk.roc_auc_score(TWO, SCORES, **more))
    close(metrics.average_precision(TWO, SCORES, **more), sk.average_precision_score(TWO, SCORES, **more))
    for average in ("macro", "weighted"):
        more["average"] = average
        for y in (MANY, WORDS[MANY]):
            wanted = sk.roc_auc_score(y, TABLE, multi_class="ovr", **more)
            close(metrics.roc_auc(y, TABLE, multi_class="ovr", **more), wanted)
        wanted = sk.average_precision_score(MANY, TABLE, **more)
        close(metrics.average_precision(MANY, TABLE, **more), wanted)


@WEIGHTED
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_probabilities_as_scikit_learn(sk, weights, dtype):
    table = TABLE.astype(dtype)
    table[:3] = np.eye(4)[MANY[:3]][:, ::-1]  # certain and wrong: clipped
    two = np.stack([1 - TABLE[:, 0], TABLE[:, 0]], axis=1).astype(dtype)
    for y, p in ((MANY, table), (TWO, two), (TWO, two[:, 1])):
        # Theirs rounds logarithms to the dtype of the probabilities.
        wanted = sk.log_loss(y, p, sample_weight=weights)
        assert metrics.log_loss(y, p, sample_weight=weights) == pytest.approx(
            wanted, rel=N * float(np.finfo(dtype).eps)
        )
    tied = np.round(table, 1)
    for k in (1, 2, 3):
        wanted = sk.top_k_accuracy_score(MANY, tied, k=k, sample_weight=weights)
        close(metrics.top_k_accuracy(MANY, tied, k=k, sample_weight=weights), wanted)


@WEIGHTED
@pytest.mark.parametrize("outputs", [1, 3])
def test_values_as_scikit_learn(sk, weights, outputs):
    y, p = (Y, P) if outputs == 3 else (Y[:, 0], P[:, 0])
    more = {"sample_weight": weights}
    close(metrics.r2(y, p, **more), sk.r2_score(y, p, **more))
    close(metrics.mae(y, p, **more), sk.mean_absolute_error(y, p, **more))
    close(metrics.rmse(y, p, **more), sk.root_mean_squared_error(y, p, **more))
    close(metrics.mape(y, p, **more), sk.mean_absolute_percentage_error(y, p, **more))
    for same in (np.zeros_like(y), y * 0 + 3):
        assert metrics.r2(same, same, **more) == sk.r2_score(same, same, **more) == 1
        assert metrics.r2(same, p, **more) == sk.r2_score(same, p, **more) == 0


def test_labels_by_hand():
    y, p = [1, 1, 1, 0, 0, 0, 0, 0], [1, 1, 0, 1, 0, 0, 0, 0]
    assert metrics.confusion_matrix(y, p).tolist() == [[4, 1], [1, 2]]
    assert metrics.confusion_matrix(y, p, labels=[1, 0, 7]).tolist() == [[2, 1, 0], [1, 4, 0], [0, 0, 0]]
    assert metrics.accuracy(y, p) == 6 / 8
    assert metrics.accuracy(y, p, sample_weight=[0, 0, 1, 1, 0, 0, 0, 2]) == 0.5
    assert metrics.balanced_accuracy(y, p) == (2 / 3 + 4 / 5) / 2
    assert metrics.precision(y, p) == metrics.recall(y, p) == metrics.f1(y, p) == 2 / 3
    assert metrics.precision(y, p, pos_label=0) == 4 / 5
    assert metrics.f1(y, p, average="macro") == (2 / 3 + 4 / 5) / 2
    assert metrics.f1(y, p, average="micro") == 6 / 8
    assert metrics.recall(["a", "b", "b"], ["b", "b", "b"], average="weighted") == 2 / 3
    assert metrics.recall([True, False], np.array([1.0, 1.0])) == 1.0  # booleans and whole floats are labels too


def test_scores_by_hand():
    assert metrics.roc_auc([0, 1, 1, 0], [1, 1, 2, 0]) == 0.875
    assert metrics.roc_auc([0, 1], [3, 3]) == 0.5
    assert metrics.roc_auc([0, 1], [-np.inf, np.inf]) == 1.0
    assert metrics.roc_auc([0, 0, 1], [1, 3, 2], sample_weight=[3, 1, 5]) == 0.75
    assert metrics.roc_auc([0, 1, 1, 0], [1, 1, 2, 0], labels=[1, 0]) == 0.125
    assert metrics.average_precision([0, 1, 0, 1], [1, 2, 3, 4]) == (1 + 2 / 3) / 2
    assert metrics.average_precision([0, 1], [3, 3]) == 0.5
    assert metrics.log_loss([0, 1], [[0.5, 0.5], [0.75, 0.25]]) == (math.log(2) + math.log(4)) / 2
    y, scores = [2, 0, 1], [[0.1, 0.2, 0.7], [0.2, 0.5, 0.3], [0.6, 0.3, 0.1]]
    assert [metrics.top_k_accuracy(y, scores, k=k) for k in (1, 2, 3)] == [1 / 3, 2 / 3, 1]


def test_values_by_hand():
    y, p = [1, 2, 3, 6], [1, 2, 5, 2]
    assert metrics.r2(y, p) == 1 - 20 / 14
    assert metrics.mae(y, p) == 1.5
    assert metrics.rmse(y, p) == math.sqrt(5)
    assert metrics.mape(y, p) == (2 / 3 + 4 / 6) / 4
    assert metrics.mae(y, p, sample_weight=[0, 0, 1, 0]) == 2
    assert metrics.mae(np.reshape(y, (4, 1)), p) == 1.5  # a column is no second dimension: nothing is broadcast
    assert metrics.r2(np.reshape(y, (4, 1)), p) == 1 - 20 / 14


def test_predictions_that_are_nan_make_nan():
    nan = np.nan
    table = [[0.5, nan], [0.5, 0.5]]
    for name in ("roc_auc", "average_precision"):
        assert math.isnan(getattr(metrics, name)([0, 1], [nan, 1]))
    for name in ("roc_auc", "log_loss", "top_k_accuracy"):
        assert math.isnan(getattr(metrics, name)([0, 1], table))
    for name in ("r2", "mae", "rmse", "mape"):
        assert math.isnan(getattr(metrics, name)([0, 1], [nan, 1]))
    assert math.isnan(metrics.r2([1, 1], [nan, 1]))


@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
def test_what_is_never_there_is_zero_division(name):
    of = getattr(metrics, name)
    assert of([0, 0], [0, 0]) == 0
    assert of([0, 0], [0, 0], zero_division=1) == 1
    assert of(["a"], ["b"], labels=["c"], average="weighted", zero_division=1) == 1


LABELS = ("accuracy", "balanced_accuracy", "precision", "recall", "f1", "confusion_matrix")
RANKINGS = ("roc_auc", "average_precision", "log_loss", "top_k_accuracy")
VALUES = ("r2", "mae", "rmse", "mape")
WRONG = [
    *((n, ([], []), {}, ValueError, "'y_true' is empty") for n in (*LABELS, *RANKINGS, *VALUES)),
    *((n, ([0, 1], [0]), {}, ValueError, "'y_pred' has 1 rows and 'y_true' 2") for n in LABELS),
    *(
        (n, ([0, 1], [0, np.nan]), {}, TypeError, "'y_pred' holds nan, expected labels: strings or whole numbers")
        for n in LABELS
    ),
    *(
        (
            n,
            ([0, 1], ["a", "b"]),
            {},
            TypeError,
            "'y_pred' holds strings and 'y_true' whole numbers, expected labels of one kind",
        )
        for n in LABELS
    ),
    *(
        (
            n,
            ([0, 1], np.eye(2)),
            {},
            ValueError,
            "'y_pred' has shape (2, 2), expected one label a row: (n,); for one-hot rows pass y_pred.argmax(axis=1)",
        )
        for n in LABELS
    ),
    *(
        (n, ([0, 1], [0, 1]), {"sample_weight": [0, 0]}, ValueError, "'sample_weight' holds nothing but 0")
        for n in (*LABELS, *VALUES)
    ),
    *(
        (
            n,
            ([1, 1], [0.5, 0.5]),
            {},
            ValueError,
            "'y_true' holds one label only, 1, expected two or more; pass all of them as labels=",
        )
        for n in RANKINGS
    ),
    *((n, ([0, 1], [0.5]), {}, ValueError, "'y_score' has 1 rows and 'y_true' 2") for n in RANKINGS if n != "log_loss"),
    *(
        (n, ([0, 1, 2], [1, 2, 3]), {}, ValueError, "'y_score' has shape (3,), expected (n, 3) for 3 classes")
        for n in RANKINGS
        if n != "log_loss"
    ),
    *(
        (n, ([0, np.nan], [0, 1]), {}, TypeError, "'y_true' holds nan, expected labels: strings or whole numbers")
        for n in (*LABELS, *RANKINGS)
    ),
    *((n, ([0, np.nan], [0, 1]), {}, ValueError, "'y_true' holds nan, expected finite numbers") for n in VALUES),
    *(
        (n, ([0, 1], [0, 1, 2]), {}, ValueError, "'y_pred' has shape (3,) and 'y_true' (2,), expected the same")
        for n in VALUES
    ),
    *((n, ([0, 1], ["a", "b"]), {}, TypeError, "'y_pred' has dtype <U1, expected numbers") for n in VALUES),
    ("r2", ([1], [1]), {}, ValueError, "'y_true' has one row, expected two or more"),
    ("roc_auc", ([0, 0], [1, 2]), {"labels": [0, 1]}, ValueError, "'y_true' has no rows of class 1"),
    (
        "roc_auc",
        ([0, 1], [1, 2]),
        {"sample_weight": [1, 0]},
        ValueError,
        "'y_true' has no rows of class 1 of a weight above 0",
    ),
    (
        "roc_auc",
        ([0, 3], [1, 2]),
        {"labels": [0, 1]},
        ValueError,
        "'y_true' holds the label 3, which is not in 'labels'",
    ),
    ("roc_auc", ([0, 1], [1, 2]), {"labels": [1, 1]}, ValueError, "'labels' holds a label twice"),
    (
        "roc_auc",
        ([0, 1], [1, 2]),
        {"multi_class": "ovo"},
        ValueError,
        "unknown multi_class 'ovo', did you mean 'ovr'? known: ovr",
    ),
    (
        "roc_auc",
        ([0, 1], [1, 2]),
        {"average": "micro"},
        ValueError,
        "unknown average 'micro', did you mean 'macro'? known: macro, weighted",
    ),
    ("log_loss", ([0, 1], [0.5, 1.5]), {}, ValueError, "'y_proba' holds 1.5, expected probabilities from 0 to 1"),
    (
        "log_loss",
        ([0, 1], [[0.5, 0.5], [0.5, 0.25]]),
        {},
        ValueError,
        "'y_proba' has a row that sums to 0.75, expected 1",
    ),
    ("top_k_accuracy", ([0, 1], np.eye(2)), {"k": 3}, ValueError, "'k' is 3, expected 1 to 2, the number of classes"),
    ("top_k_accuracy", ([0, 1], np.eye(2)), {"k": 1.0}, TypeError, "'k' is 1.0, expected a whole number"),
    (
        "top_k_accuracy",
        ([0, 1], [0, 1]),
        {},
        ValueError,
        "'y_score' has shape (2,), expected (n, 2): a column for each class",
    ),
    (
        "f1",
        ([0, 1, 2], [0, 1, 2]),
        {},
        ValueError,
        "average='binary' is for two labels, and 'y_true' and 'y_pred' hold 3: write average='macro', 'weighted' or 'micro'",
    ),
    ("f1", (["a", "b"], ["a", "b"]), {}, ValueError, "'pos_label' is 1, expected one of 'a', 'b'"),
    (
        "f1",
        ([0, 1], [0, 1]),
        {"average": "marco"},
        ValueError,
        "unknown average 'marco', did you mean 'macro'? known: binary, macro, weighted, micro",
    ),
    (
        "confusion_matrix",
        ([0], [0]),
        {"normalize": "rows"},
        ValueError,
        "unknown normalize 'rows'; known: true, pred, all, or None",
    ),
    (
        "balanced_accuracy",
        ([0, 0], [0, 1]),
        {"adjusted": True},
        ValueError,
        "'y_true' holds one class only, expected two or more with adjusted=True",
    ),
    (
        "accuracy",
        ([None, "a"], ["a", "a"]),
        {},
        TypeError,
        "'y_true' holds NoneType, str, expected all strings or all whole numbers",
    ),
]


@pytest.mark.parametrize("case", WRONG, ids=lambda case: f"{case[0]}: {case[4][:40]}")
def test_what_cannot_be_measured(case):
    name, arguments, more, kind, message = case
    with pytest.raises(kind) as caught:
        getattr(metrics, name)(*arguments, **more)
    assert str(caught.value) == f"{name}: {message}"


def test_weights_are_checked():
    with pytest.raises(ValueError, match=r"^'sample_weight' has shape \(1,\), expected \(2,\) as 'y_true' has 2 rows$"):
        metrics.accuracy([0, 1], [0, 1], sample_weight=[1])
    with pytest.raises(ValueError, match=r"^'sample_weight' holds -1.0, expected finite numbers of 0 or more$"):
        metrics.mae([0, 1], [0, 1], sample_weight=[1, -1])


def test_the_registry():
    smaller = {"log_loss", "mae", "rmse", "mape"}
    assert {name for name in metrics.names() if metrics.get(name).mode == "min"} == smaller
    assert metrics.get("f1_macro").function(MANY, MANY_PREDICTED) == metrics.f1(MANY, MANY_PREDICTED, average="macro")
    assert metrics.get("top_5_accuracy").function([0, 1], np.eye(2, 6), labels=range(6)) == 1
    wrong = (
        (
            lambda: metrics.get("f1_marco"),
            ValueError,
            "metrics.get: unknown metric 'f1_marco', did you mean 'f1_macro'?",
        ),
        (lambda: metrics.get(3), TypeError, "metrics.get: 'name' is 3, expected a name such as 'f1_macro'"),
        (
            lambda: metrics.Metric("m", abs, "maximum"),
            ValueError,
            "Metric: unknown mode 'maximum', did you mean 'max'?",
        ),
        (lambda: metrics.Metric("m", 3, "max"), TypeError, "Metric: 'function' is 3, expected a function of y_true"),
        (lambda: metrics.Metric("", abs), TypeError, "Metric: 'name' is '', expected a name"),
        (
            lambda: metrics.Metric("m", abs, reads="label"),
            ValueError,
            "Metric: unknown kind of predictions 'label', did",
        ),
        (lambda: metrics.rsme, AttributeError, "unknown name in pyfastnn.metrics 'rsme', did you mean 'rmse'?"),
    )
    for call, kind, message in wrong:
        with pytest.raises(kind) as caught:
            call()
        assert str(caught.value).startswith(message)


def test_all_names_are_there_and_lazy():
    assert all(getattr(metrics, name) is not None for name in metrics.__all__)
    code = (
        "import pyfastnn, sys; pyfastnn.metrics; print([m for m in sys.modules if m.startswith('pyfastnn.metrics.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


PAGE = (Path(__file__).resolve().parents[1] / "docs" / "metrics.md").read_text(encoding="utf-8")


def test_the_page_lists_every_name_and_direction():
    shown = {}
    for line in PAGE.splitlines():
        if line.startswith("| `"):
            names, reads, better, _ = (cell.strip() for cell in line.strip("|").split("|"))
            shown |= dict.fromkeys(re.findall(r"`(\w+)`", names), (reads, {"more": "max", "less": "min"}[better]))
    assert shown == {name: (metrics.get(name).reads, metrics.get(name).mode) for name in metrics.names()}


def test_the_program_of_the_page_runs():
    program = PAGE.partition("```python\n")[2].partition("```")[0]
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    first, table = done.stdout.split("\n", 1)
    for name in ("loss", "accuracy", "f1_macro", "roc_auc", "top_5_accuracy", "far_off"):
        assert f"'{name}': " in first
    assert len(table.splitlines()) == 10


def test_the_examples_of_docstrings():
    import doctest

    from pyfastnn.metrics import registry

    found = doctest.testmod(registry)
    assert found.failed == 0 < found.attempted
