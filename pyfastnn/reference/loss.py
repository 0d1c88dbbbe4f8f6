"""Reference of the losses, value and gradient in one op, and of the L2 penalty."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from pyfastnn.reference.spec import (
    SIZES,
    Array,
    Cost,
    ErrorCase,
    OpSpec,
    Rng,
    Rounding,
    Sample,
    different_dtype,
    label_of,
    normal,
    register,
)

_SHAPES = (
    (0, 3), (1, 1), (1, 10), (2, 2), (3, 5), (5, 7), (7, 16), (13, 3), (15, 10), (16, 10),
    (17, 10), (31, 15), (32, 10), (33, 9), (5, 17), (63, 10), (65, 33), (9, 63), (4, 65),
    (3, 1000), (1000, 10),
)  # fmt: skip
SHAPES = tuple({"n": n, "c": c} for n, c in _SHAPES)
BENCH = tuple({"n": n, "c": c} for n, c in ((32, 10), (128, 10), (1000, 10), (256, 1000)))
FLAT_SHAPES = tuple({"size": size} for size in SIZES)
FLAT_BENCH = tuple({"size": size} for size in (320, 32768, 1 << 20))
_U64 = 2.0**-53  # losses are accumulated and returned in float64


def softmax_cross_entropy(scores: Array, labels: Array) -> tuple[Array, Array, Array]:
    """Return loss, number of correct rows and dscores.

    The loss is the mean over rows of ``log(sum(exp(scores))) - scores[label]``; a row whose largest
    score is not finite has loss and gradient NaN. A row is correct if its first maximum, by NumPy's
    argmax, is its label. No row: loss 0.
    """
    n, c = scores.shape
    if n == 0:
        return np.zeros(1, scores.dtype), np.zeros(1, scores.dtype), np.zeros_like(scores)
    largest = scores.max(axis=1, keepdims=True)
    relative = np.where(np.isfinite(largest), scores - largest, np.nan)
    logsum = np.logaddexp.reduce(relative, axis=1, keepdims=True)
    losses = logsum - relative[np.arange(n), labels][:, None]
    onehot = labels[:, None] == np.arange(c)
    dscores = (np.exp(relative - logsum) - onehot) / n
    correct = np.sum(scores.argmax(axis=1) == labels)
    return losses.mean(keepdims=True)[0], np.full(1, correct, scores.dtype), dscores


def mean_squared_error(y_pred: Array, y_true: Array) -> tuple[Array, Array]:
    """Return the mean of ``(y_pred - y_true)**2`` and its gradient; no element: 0."""
    difference = y_pred - y_true
    size = max(difference.size, 1)
    return np.full(1, np.square(difference).sum() / size), difference * 2 / size


def l2_penalty(w: Array, *, weight_decay: float) -> tuple[Array]:
    """Return ``0.5 * weight_decay * sum(w * w)``, the penalty of the lectures."""
    return (np.full(1, np.square(w).sum() * (weight_decay / 2)),)


def _softmax_bound(r: Rounding, scores: Array, labels: Array) -> tuple[Any, ...]:
    """Follow the errors of exp(s - max), their sum, its logarithm, the quotient and the mean over
    rows.

    ``s - max`` is off by u of its size, which exp turns into a relative error; exp itself is within
    2 ULP (4 in float64).
    """
    n, c = scores.shape
    if n == 0:
        return 0.0, 0.0, 0.0
    row_max = scores.max(axis=1, keepdims=True)
    distance = np.abs(np.where(np.isneginf(scores), 0, scores - row_max))
    weight = np.exp(scores - row_max)
    total = weight.sum(axis=1, keepdims=True)
    p = weight / total
    d_exp = r.u * (distance + (4 if r.dtype == np.float32 else 8))  # relative
    d_total = (p * d_exp).sum(axis=1, keepdims=True) + (c + 2) * r.u  # relative
    onehot = labels[:, None] == np.arange(c)
    picked = scores[np.arange(n), labels][:, None]
    d_loss = d_total + r.u * (4 * np.abs(np.log(total)) + 3 * np.abs(picked - row_max) + 2) + 4 * r.tiny
    losses = np.log(total) + row_max - picked
    finite = np.isfinite(losses).all()
    d_mean = d_loss.mean() + (n + 2) * _U64 * np.abs(losses).mean() if finite else np.nan
    d_scores = (p * (d_exp + d_total + 4 * r.u) + 3 * r.u * onehot + 4 * r.tiny) / n + r.tiny
    return d_mean, 0.0, d_scores


def _mse_bound(r: Rounding, y_pred: Array, y_true: Array) -> tuple[Any, ...]:
    difference = y_pred - y_true
    size = max(difference.size, 1)
    mean = np.square(difference).sum() / size
    return (4 * r.u + (size + 2) * _U64) * mean + r.tiny, r.relative(4, difference * 2 / size)


def _l2_bound(r: Rounding, w: Array, *, weight_decay: float) -> tuple[Any]:
    return ((w.size + 4) * _U64 * np.square(w).sum() * abs(weight_decay) + np.finfo(np.float64).smallest_subnormal,)


def _softmax_case(rng: Rng, dtype: DTypeLike, n: int, c: int) -> Sample:
    return Sample(
        label_of(n=n, c=c),
        {"scores": 3 * normal(rng, dtype, n, c), "labels": rng.integers(0, c, n)},
    )


def _softmax_special(rng: Rng, dtype: DTypeLike) -> list[Sample]:
    samples = []
    for n, c in ((19, 10), (6, 21)):
        base = _softmax_case(rng, dtype, n=n, c=c).inputs
        scores, labels = base["scores"], base["labels"]
        assert scores is not None and labels is not None
        wide = scores * 40
        wide[0], wide[1], wide[2], wide[3, :5] = 5e4, -5e4, 0.0, -np.inf
        labels[3] = c - 1
        ties = np.round(scores)
        bad = scores.copy()
        bad[0, 3], bad[1, 4], bad[2], bad[3, 0], bad[4, 1:3] = (
            np.nan,
            np.inf,
            -np.inf,
            -np.inf,
            np.nan,
        )
        labels_bad = labels.copy()
        labels_bad[:5] = 3, 4, 0, 5, 2
        shape = label_of(n=n, c=c)
        samples.append(Sample("wide_" + shape, {"scores": wide, "labels": labels}))
        samples.append(Sample("ties_" + shape, {"scores": ties, "labels": ties.argmax(axis=1)}))
        samples.append(Sample("nonfinite_" + shape, {"scores": bad, "labels": labels_bad}))
        impossible = scores.copy()
        impossible[np.arange(n), labels] = -np.inf
        samples.append(Sample("impossible_" + shape, {"scores": impossible, "labels": labels}))
    return samples


def _softmax_errors(rng: Rng, dtype: DTypeLike) -> list[ErrorCase]:
    good = _softmax_case(rng, dtype, n=3, c=4).inputs
    labels = np.array([0, 4, 1])
    op = "softmax_cross_entropy"
    match = rf"{op}: 'labels' has shape \(4,\), expected \(3,\) because 'scores' has shape \(3, 4\)"
    return [
        ErrorCase(Sample("label_high", {**good, "labels": labels}), ValueError, f"{op}: 'labels'.*4"),
        ErrorCase(
            Sample("label_negative", {**good, "labels": labels - 1}),
            ValueError,
            f"{op}: 'labels'.*-1",
        ),
        ErrorCase(
            Sample("label_float", {**good, "labels": labels * 1.0}),
            TypeError,
            f"{op}: 'labels'.*float64",
        ),
        ErrorCase(Sample("label_count", {**good, "labels": np.zeros(4, np.int64)}), ValueError, match),
    ]


def _mse_case(rng: Rng, dtype: DTypeLike, size: int) -> Sample:
    return Sample(
        label_of(size=size),
        {"y_pred": normal(rng, dtype, size), "y_true": normal(rng, dtype, size)},
    )


def _mse_special(rng: Rng, dtype: DTypeLike) -> list[Sample]:
    good = {"y_pred": normal(rng, dtype, 7, 5), "y_true": normal(rng, dtype, 7, 5)}
    bad = good["y_pred"].copy()
    bad[2, 1], bad[3, 3] = np.nan, np.inf
    return [
        Sample("two_dimensions", dict(good)),
        Sample("nonfinite", {**good, "y_pred": bad}),
        Sample("equal", {"y_pred": good["y_true"].copy(), "y_true": good["y_true"]}),
        Sample("nearly_equal", {"y_pred": good["y_true"] * 1.001, "y_true": good["y_true"]}),
    ]


def _mse_errors(rng: Rng, dtype: DTypeLike) -> list[ErrorCase]:
    inputs = {"y_pred": normal(rng, dtype, 3, 1), "y_true": normal(rng, dtype, 3)}
    return [
        ErrorCase(
            Sample("shape", dict(inputs)),
            ValueError,
            r"mean_squared_error: 'y_true' has shape \(3,\), expected \(3, 1\)",
        )
    ]


def _l2_case(rng: Rng, dtype: DTypeLike, size: int) -> Sample:
    return Sample(label_of(size=size), {"w": normal(rng, dtype, size)}, {}, {"weight_decay": 0.01})


def _l2_special(rng: Rng, dtype: DTypeLike) -> list[Sample]:
    nan = normal(rng, dtype, 17)
    nan[9] = np.nan
    return [
        Sample("two_dimensions", {"w": normal(rng, dtype, 7, 5)}, {}, {"weight_decay": 0.3}),
        Sample("no_decay", {"w": normal(rng, dtype, 7)}, {}, {"weight_decay": 0.0}),
        Sample("nan", {"w": nan}, {}, {"weight_decay": 0.3}),
    ]


def _l2_errors(rng: Rng, dtype: DTypeLike) -> list[ErrorCase]:
    bad = _l2_case(rng, dtype, size=5)
    return [
        ErrorCase(
            Sample("dtype", different_dtype(bad.inputs, "w"), {}, bad.hyper),
            TypeError,
            "l2_penalty: 'w'.*int32",
        )
    ]


register(
    OpSpec(
        name="softmax_cross_entropy",
        reference=softmax_cross_entropy,
        bound=_softmax_bound,
        case=_softmax_case,
        shapes=SHAPES,
        bench=BENCH,
        special=_softmax_special,
        errors=_softmax_errors,
        cost=lambda itemsize, n, c: Cost(16 * n * c, 2 * itemsize * n * c + 8 * n),
        source="Bridle 1990; log-sum-exp form",
        backward={"scores": "softmax_cross_entropy.dscores"},
    )
)
register(
    OpSpec(
        name="mean_squared_error",
        reference=mean_squared_error,
        bound=_mse_bound,
        case=_mse_case,
        shapes=FLAT_SHAPES,
        bench=FLAT_BENCH,
        special=_mse_special,
        errors=_mse_errors,
        cost=lambda itemsize, size: Cost(4 * size, 3 * itemsize * size),
        source="Legendre 1805, Gauss 1809",
        backward={"y_pred": "mean_squared_error.dy_pred"},
    )
)
register(
    OpSpec(
        name="l2_penalty",
        reference=l2_penalty,
        bound=_l2_bound,
        case=_l2_case,
        shapes=FLAT_SHAPES,
        bench=FLAT_BENCH,
        special=_l2_special,
        errors=_l2_errors,
        cost=lambda itemsize, size: Cost(2 * size, itemsize * size),
        source="CS231n, Regularization: 0.5 * reg * sum(w * w)",
    )
)
