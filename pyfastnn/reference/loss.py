"""Reference of the losses over classes, value and gradient in one op."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from pyfastnn.reference.spec import (
    Array,
    Cost,
    ErrorCase,
    OpSpec,
    Rng,
    Rounding,
    Sample,
    label_of,
    normal,
    register,
)

_SHAPES = (
    (0, 3), (1, 1), (1, 10), (2, 2), (3, 5), (5, 7), (7, 16), (13, 3), (15, 10), (16, 10),
    (17, 10), (31, 15), (32, 10), (33, 9), (5, 17), (63, 10), (65, 33), (9, 63), (4, 65),
    (3, 1000), (1000, 10),
)  # fmt: skip
_WEIGHTED = ((0, 3), (1, 1), (2, 10), (17, 10), (33, 16), (5, 17), (19, 65), (300, 5), (3, 1000))
SHAPES = tuple({"n": n, "c": c} for n, c in _SHAPES) + tuple({"n": n, "c": c, "weighted": 1} for n, c in _WEIGHTED)
BENCH = tuple({"n": n, "c": c} for n, c in ((32, 10), (128, 10), (1000, 10), (256, 1000)))
_U64 = 2.0**-53  # losses are accumulated and returned in float64


def row_weights(weights: Array | None, n: int, dtype: DTypeLike) -> Array:
    """Return the weights of rows, 1 where none are given."""
    return np.ones(n, dtype) if weights is None else weights


def softmax_cross_entropy(
    scores: Array,
    labels: Array,
    class_weights: Array | None = None,
    weights: Array | None = None,
    *,
    label_smoothing: float = 0.0,
) -> tuple[Array, Array, Array]:
    """Return loss, number of correct rows and dscores.

    With ``q = (1 - label_smoothing) * onehot + label_smoothing / c`` a row has the loss ``sum(q * class_weights * -log(softmax))``;
    the loss is their mean, weighted by ``weights`` and divided by the sum of ``weights * class_weights[label]``, 0 when that is 0. A
    row whose largest score is not finite has loss and gradient NaN; one of weight 0 takes no part. A row is correct if its first
    maximum, by NumPy's argmax, is its label. No row: loss 0.
    """
    n, c = scores.shape
    if n == 0:
        return np.zeros(1, scores.dtype), np.zeros(1, scores.dtype), np.zeros_like(scores)
    w = row_weights(weights, n, scores.dtype)
    u = row_weights(class_weights, c, scores.dtype)
    largest = scores.max(axis=1, keepdims=True)
    relative = np.where(np.isfinite(largest), scores - largest, np.nan)
    logsum = np.logaddexp.reduce(relative, axis=1, keepdims=True)
    log_p = relative - logsum
    own = u[labels]
    losses = (1 - label_smoothing) * own * -log_p[np.arange(n), labels]
    total = (1 - label_smoothing) * own
    onehot = labels[:, None] == np.arange(c)
    target = (1 - label_smoothing) * onehot * u
    if label_smoothing:
        losses = losses + label_smoothing / c * np.sum(u * -log_p, axis=1)
        total = total + label_smoothing / c * u.sum()
        target = target + label_smoothing / c * u
    divisor = np.where(w == 0, 0, w * own).sum()
    used = (w != 0) & (divisor != 0)
    loss = np.where(used, w * losses, 0).sum() / divisor if divisor != 0 else 0.0
    dscores = np.where(used[:, None], (w / divisor)[:, None] * (np.exp(log_p) * total[:, None] - target), 0)
    correct = np.sum((scores.argmax(axis=1) == labels) & (w != 0))
    return np.full(1, loss, scores.dtype), np.full(1, correct, scores.dtype), dscores


def multiclass_hinge(
    scores: Array, labels: Array, weights: Array | None = None, *, margin: float = 1.0
) -> tuple[Array, Array, Array]:
    """Return loss, number of correct rows and dscores.

    The loss of a row is the sum of ``max(0, scores - scores[label] + margin)`` over the other classes; the loss is their mean,
    weighted by ``weights``, 0 when they sum to 0. A row of weight 0 takes no part.
    """
    n, c = scores.shape
    if n == 0:
        return np.zeros(1, scores.dtype), np.zeros(1, scores.dtype), np.zeros_like(scores)
    w = row_weights(weights, n, scores.dtype)
    onehot = labels[:, None] == np.arange(c)
    margins = np.where(onehot, 0, scores - scores[np.arange(n), labels][:, None] + margin)
    slope = np.where(np.isnan(margins), margins, (margins > 0).astype(scores.dtype))
    slope = np.where(onehot, -slope.sum(axis=1, keepdims=True), slope)
    divisor = w.sum()
    used = (w != 0) & (divisor != 0)
    loss = np.where(used, w * np.maximum(margins, 0).sum(axis=1), 0).sum() / divisor if divisor != 0 else 0.0
    correct = np.sum((scores.argmax(axis=1) == labels) & (w != 0))
    dscores = np.where(used[:, None], (w / divisor)[:, None] * slope, 0)
    return np.full(1, loss, scores.dtype), np.full(1, correct, scores.dtype), dscores


def _mean_bound(errors: Array, losses: Array, w: Array, divisor: Any) -> Any:
    """Return the error of the weighted mean of row losses that are off by ``errors``; the mean is made in float64."""
    if divisor == 0:
        return 0.0
    size, used = np.abs(w) / abs(divisor), w != 0
    rounding = (2 * len(w) + 30) * _U64 * np.abs(losses)
    bound = np.where(used, size * (errors + rounding), 0).sum()
    return bound if np.isfinite(bound) else np.nan


def _softmax_bound(
    r: Rounding,
    scores: Array,
    labels: Array,
    class_weights: Array | None = None,
    weights: Array | None = None,
    *,
    label_smoothing: float = 0.0,
) -> tuple[Any, ...]:
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
    d_slope = p * (d_exp + d_total + 4 * r.u) + 3 * r.u * onehot + 4 * r.tiny
    if class_weights is None and weights is None and label_smoothing == 0:
        finite = np.isfinite(losses).all()
        d_mean = d_loss.mean() + (n + 2) * _U64 * np.abs(losses).mean() if finite else np.nan
        return d_mean, 0.0, d_slope / n + r.tiny
    w, u = row_weights(weights, n, scores.dtype), np.abs(row_weights(class_weights, c, scores.dtype))
    own, smooth = u[labels], label_smoothing / c
    keep = abs(1 - label_smoothing)
    divisor = np.where(w == 0, 0, w * own).sum()
    spread = (u * np.abs(scores - row_max)).sum(axis=1)
    d_row, row = keep * own * d_loss[:, 0], keep * own * np.abs(losses[:, 0])
    all_of_row = keep * own
    if label_smoothing:
        d_row = d_row + smooth * (u.sum() * d_loss[:, 0] + (c + 6) * r.u * spread)
        row = row + smooth * (u.sum() * np.log(total[:, 0]) + spread)
        all_of_row = all_of_row + smooth * u.sum()
    d_mean = _mean_bound(d_row, row, w, divisor)
    if divisor == 0:
        return d_mean, 0.0, 0.0
    share = (np.abs(w) / abs(divisor))[:, None]
    parts = all_of_row[:, None] * np.abs(p - onehot) + smooth * (u + onehot * u.sum())
    d_scores = share * (all_of_row[:, None] * d_slope + (5 * r.u + (n + 20) * _U64) * parts) + 4 * r.tiny
    return d_mean, 0.0, np.where(w[:, None] == 0, 0, d_scores)


def _hinge_bound(
    r: Rounding, scores: Array, labels: Array, weights: Array | None = None, *, margin: float = 1.0
) -> tuple[Any, ...]:
    """Bound each margin by three roundings; where one may have either sign, its whole share is the bound."""
    n, c = scores.shape
    if n == 0:
        return 0.0, 0.0, 0.0
    w = row_weights(weights, n, scores.dtype)
    onehot = labels[:, None] == np.arange(c)
    gap = scores - scores[np.arange(n), labels][:, None]
    margins = np.where(onehot, 0, gap + margin)
    d_margin = np.where(onehot, 0, 1.001 * r.u * (np.abs(gap) + abs(margin) + np.abs(margins)) + r.tiny)
    slack = np.maximum(margins, 0).sum(axis=1)
    d_row = np.where(margins > -d_margin, d_margin, 0).sum(axis=1) + (c + 2) * r.u * slack
    divisor = w.sum()
    d_mean = _mean_bound(d_row, slack, w, divisor)
    if divisor == 0:
        return d_mean, 0.0, 0.0
    rounding = 3 * r.u + (n + 4) * _U64
    either = ~onehot & np.isfinite(margins) & (margins != 0) & (np.abs(margins) <= d_margin)
    unsure = either.astype(scores.dtype)
    count = (margins > 0).sum(axis=1, keepdims=True)
    d_slope = np.where(onehot, unsure.sum(axis=1, keepdims=True) + rounding * count, unsure + rounding * (margins > 0))
    d_scores = (np.abs(w) / abs(divisor))[:, None] * d_slope + 2 * r.tiny
    return d_mean, 0.0, np.where(w[:, None] == 0, 0, d_scores)


def _class_case(rng: Rng, dtype: DTypeLike, n: int, c: int) -> dict[str, Array | None]:
    scores, labels = 3 * normal(rng, dtype, n, c), rng.integers(0, c, n)
    return {"scores": scores, "labels": labels}


def _some_weights(rng: Rng, dtype: DTypeLike, n: int) -> Array:
    """Return weights of which every fifth or so is 0, the first one never."""
    weights = rng.uniform(0.1, 3, n) * (rng.random(n) > 0.2)
    weights[:1] = 1.5
    return weights.astype(dtype)


def _softmax_case(rng: Rng, dtype: DTypeLike, n: int, c: int, weighted: int = 0) -> Sample:
    inputs, attrs = {**_class_case(rng, dtype, n, c), "class_weights": None, "weights": None}, {}
    if weighted:
        inputs["weights"] = _some_weights(rng, dtype, n)
        inputs["class_weights"] = rng.uniform(0.2, 4, c).astype(dtype)
        attrs = {"label_smoothing": 0.1}
    sizes = {"n": n, "c": c, "weighted": weighted} if weighted else {"n": n, "c": c}
    return Sample(label_of(**sizes), inputs, attrs)


def _hinge_case(rng: Rng, dtype: DTypeLike, n: int, c: int, weighted: int = 0) -> Sample:
    inputs, attrs = {**_class_case(rng, dtype, n, c), "weights": None}, {}
    if weighted:
        inputs["weights"] = _some_weights(rng, dtype, n)
        attrs = {"margin": 0.5}
    sizes = {"n": n, "c": c, "weighted": weighted} if weighted else {"n": n, "c": c}
    return Sample(label_of(**sizes), inputs, attrs)


def _awkward_rows(rng: Rng, dtype: DTypeLike, n: int, c: int) -> list[tuple[str, Array, Array]]:
    """Return names, scores and labels: far apart, tied, not finite, and labels without a chance."""
    base = _class_case(rng, dtype, n=n, c=c)
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
    impossible = scores.copy()
    impossible[np.arange(n), labels] = -np.inf
    return [
        ("wide", wide, labels),
        ("ties", ties, ties.argmax(axis=1)),
        ("nonfinite", bad, labels_bad),
        ("impossible", impossible, labels),
    ]


def _special(extra: dict[str, None], attrs: dict[str, float]) -> Any:
    """Return the function that makes the special samples of a loss over classes."""

    def special(rng: Rng, dtype: DTypeLike) -> list[Sample]:
        samples = []
        for n, c in ((19, 10), (6, 21)):
            shape = label_of(n=n, c=c)
            none = rng.integers(0, 2, n).astype(dtype)
            none[5] = 1
            rows: dict[str, dict[str, Array | None]] = {}
            for name, scores, labels in _awkward_rows(rng, dtype, n, c):
                rows[name] = inputs = {"scores": scores, "labels": labels, **extra, "weights": None}
                samples.append(Sample(f"{name}_{shape}", inputs))
                samples.append(Sample(f"{name}_weighted_{shape}", {**inputs, "weights": none}))
                samples.append(Sample(f"{name}_attributes_{shape}", inputs, attrs))
            left_out = np.array([0, 0, 0, 0, 0] + [2] * (n - 5), dtype)  # the rows that are not finite
            nan = np.ones(n, dtype)
            nan[2] = np.nan
            samples += [
                Sample(f"left_out_{shape}", {**rows["nonfinite"], "weights": left_out}, attrs),
                Sample(f"no_weight_{shape}", {**rows["nonfinite"], "weights": np.zeros(n, dtype)}, attrs),
                Sample(f"nan_weight_{shape}", {**rows["ties"], "weights": nan}),
            ]
        return samples

    return special


def _softmax_special(rng: Rng, dtype: DTypeLike) -> list[Sample]:
    samples: list[Sample] = _special({"class_weights": None}, {"label_smoothing": 0.3})(rng, dtype)
    for n, c in ((37, 10), (5, 33)):
        inputs = _softmax_case(rng, dtype, n, c).inputs
        labels, one = inputs["labels"], rng.uniform(0.5, 2, c).astype(dtype)
        assert labels is not None
        absent, none = one.copy(), one.copy()
        absent[labels[0]] = 0
        none[labels] = 0
        shape = label_of(n=n, c=c)
        samples += [
            Sample(f"smoothed_{shape}", inputs, {"label_smoothing": 0.1}),
            Sample(f"all_smoothed_{shape}", inputs, {"label_smoothing": 1.0}),
            Sample(f"class_weights_{shape}", {**inputs, "class_weights": one}),
            Sample(f"absent_class_{shape}", {**inputs, "class_weights": absent}, {"label_smoothing": 0.2}),
            Sample(f"no_class_{shape}", {**inputs, "class_weights": none}, {"label_smoothing": 0.2}),
        ]
    return samples


def _errors(op: str, extra: dict[str, None]) -> Any:
    """Return the function that makes the error cases of a loss over classes."""

    def errors(rng: Rng, dtype: DTypeLike) -> list[ErrorCase]:
        good = {**_class_case(rng, dtype, n=3, c=4), **extra, "weights": None}
        labels = np.array([0, 4, 1])
        match = rf"{op}: 'labels' has shape \(4,\), expected \(3,\) because 'scores' has shape \(3, 4\)"
        cases = [
            ErrorCase(Sample("label_high", {**good, "labels": labels}), ValueError, f"{op}: 'labels'.*4"),
            ErrorCase(Sample("label_negative", {**good, "labels": labels - 1}), ValueError, f"{op}: 'labels'.*-1"),
            ErrorCase(Sample("label_float", {**good, "labels": labels * 1.0}), TypeError, f"{op}: 'labels'.*float64"),
            ErrorCase(Sample("label_count", {**good, "labels": np.zeros(4, np.int64)}), ValueError, match),
            ErrorCase(
                Sample("weight_count", {**good, "weights": np.ones(4, dtype)}),
                ValueError,
                rf"{op}: 'weights' has shape \(4,\), expected \(3,\)",
            ),
        ]
        if "class_weights" in extra:
            cases.append(
                ErrorCase(
                    Sample("class_weight_count", {**good, "class_weights": np.ones(3, dtype)}),
                    ValueError,
                    rf"{op}: 'class_weights' has shape \(3,\), expected \(4,\)",
                )
            )
        return cases

    return errors


register(
    OpSpec(
        name="softmax_cross_entropy",
        reference=softmax_cross_entropy,
        bound=_softmax_bound,
        case=_softmax_case,
        shapes=SHAPES,
        bench=BENCH,
        special=_softmax_special,
        errors=_errors("softmax_cross_entropy", {"class_weights": None}),
        cost=lambda itemsize, n, c, weighted=0: Cost(16 * n * c, 2 * itemsize * n * c + 8 * n),
        source="Bridle 1990; log-sum-exp form; label smoothing Szegedy et al. 2016",
        backward={"scores": "softmax_cross_entropy.dscores"},
    )
)
register(
    OpSpec(
        name="multiclass_hinge",
        reference=multiclass_hinge,
        bound=_hinge_bound,
        case=_hinge_case,
        shapes=SHAPES,
        bench=BENCH,
        special=_special({}, {"margin": 0.25}),
        errors=_errors("multiclass_hinge", {}),
        cost=lambda itemsize, n, c, weighted=0: Cost(5 * n * c, 2 * itemsize * n * c + 8 * n),
        source="Weston, Watkins 1999; CS231n, Linear classification",
        backward={"scores": "multiclass_hinge.dscores"},
    )
)
