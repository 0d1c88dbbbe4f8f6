"""Reference of the losses that are means over rows and outputs, value and gradient in one op."""

from __future__ import annotations

import math
from collections.abc import Callable
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
    label_of,
    normal,
    register,
)

_WEIGHTED = ((0, 2), (1, 1), (7, 1), (65, 1), (4099, 1), (5, 3), (33, 17), (3, 129), (9, 4100))
SHAPES = tuple({"size": size} for size in SIZES) + tuple({"n": n, "outputs": k} for n, k in _WEIGHTED)
BENCH = tuple({"size": size} for size in (320, 32768, 1 << 20))
LABEL_SHAPES = tuple({"n": n, "c": c} for n, c in _WEIGHTED) + tuple(
    {"n": n, "c": c, "weighted": 1} for n, c in _WEIGHTED
)
LABEL_BENCH = tuple({"n": n, "c": c} for n, c in ((128, 10), (1024, 32), (1024, 1024)))
_U64 = 2.0**-53  # losses are accumulated and returned in float64


def _weighted_mean(terms: Array, slopes: Array, weights: Array | None) -> tuple[Array, Array]:
    """Return the mean over rows and outputs, weighted by row, and its gradient; 0 where the weights sum to 0."""
    n = len(terms)
    part, used = _parts(terms, weights)
    if n == 0 or not part.any():
        return np.zeros(1, terms.dtype), np.zeros_like(slopes)
    return np.full(1, np.where(used, part * terms, 0).sum()), np.where(used, part * slopes, 0)


def _parts(terms: Array, weights: Array | None) -> tuple[Array, Array]:
    """Return what each element counts in the mean, and whether it takes part."""
    n = len(terms)
    each = terms.size // max(n, 1)
    w = np.ones(n, terms.dtype) if weights is None else weights
    divisor = w.sum() * each
    part = np.zeros_like(w) if divisor == 0 else w / divisor
    shape = (n, *[1] * (terms.ndim - 1))
    return part.reshape(shape), (w != 0).reshape(shape)


def binary_cross_entropy(
    scores: Array, targets: Array, pos_weight: Array | None = None, weights: Array | None = None
) -> tuple[Array, Array]:
    """Return the mean of ``-(pos_weight * t * log(p) + (1 - t) * log(1 - p))`` with ``p = sigmoid(scores)``, and its gradient."""
    a = np.ones(scores.shape[-1], scores.dtype) if pos_weight is None else pos_weight
    no, yes = np.logaddexp(0, scores), np.logaddexp(0, -scores)
    terms = (1 - targets) * no + a * targets * yes
    return _weighted_mean(terms, (1 - targets) * np.exp(-yes) - a * targets * np.exp(-no), weights)


def mean_squared_error(y_pred: Array, y_true: Array, weights: Array | None = None) -> tuple[Array, Array]:
    """Return the mean of ``(y_pred - y_true)**2`` and its gradient; no element: 0."""
    difference = y_pred - y_true
    return _weighted_mean(np.square(difference), 2 * difference, weights)


def mean_absolute_error(y_pred: Array, y_true: Array, weights: Array | None = None) -> tuple[Array, Array]:
    """Return the mean of ``abs(y_pred - y_true)`` and its gradient, which is 0 where they are equal."""
    difference = y_pred - y_true
    return _weighted_mean(np.abs(difference), np.sign(difference), weights)


def huber(y_pred: Array, y_true: Array, weights: Array | None = None, *, delta: float = 1.0) -> tuple[Array, Array]:
    """Return the mean of ``d**2 / 2`` where ``abs(d) <= delta``, else ``delta * (abs(d) - delta / 2)``, and its gradient."""
    difference = y_pred - y_true
    size = np.abs(difference)
    terms = np.where(size <= delta, np.square(difference) / 2, delta * (size - delta / 2))
    return _weighted_mean(terms, np.clip(difference, -delta, delta), weights)


def poisson(y_pred: Array, y_true: Array, weights: Array | None = None) -> tuple[Array, Array]:
    """Return the mean of ``exp(y_pred) - y_true * y_pred`` and its gradient."""
    rate = np.exp(y_pred)
    return _weighted_mean(rate - y_true * y_pred, rate - y_true, weights)


def _bound(r: Rounding, errors: Array, sizes: Array, d_slopes: Array, slopes: Array, weights: Array | None) -> Any:
    """Return the bounds of loss and gradient.

    Parameters
    ----------
    r : Rounding
        Of the float type.
    errors, sizes : ndarray
        Error of each term, and the sizes of what is summed.
    d_slopes, slopes : ndarray
        Error of each slope, and the slopes.
    weights : ndarray or None
        Of rows.
    """
    part, used = _parts(sizes, weights)
    part = np.abs(part)
    n, count = len(sizes), sizes.size
    d_loss = np.where(used, part * (errors + (count + n + 10) * _U64 * sizes), 0).sum()
    d_slope = part * (d_slopes + (3 * r.u + (n + 6) * _U64) * np.abs(slopes)) + 2 * r.tiny
    return d_loss if np.isfinite(d_loss) else np.nan, np.where(used & (part > 0), d_slope, 0)


def _bce_bound(
    r: Rounding, scores: Array, targets: Array, pos_weight: Array | None = None, weights: Array | None = None
) -> tuple[Any, ...]:
    """Take exp within 2 ULP, log1p within 1.5, and a rounding for each sum and product that follows."""
    a = np.abs(np.ones(scores.shape[-1], scores.dtype) if pos_weight is None else pos_weight)
    no, yes = np.logaddexp(0, scores), np.logaddexp(0, -scores)
    one, other = np.abs(1 - targets), a * np.abs(targets)
    terms, slopes = one * no + other * yes, one * np.exp(-yes) + other * np.exp(-no)
    loss, slope = _bound(
        r, 12 * r.u * terms + 4 * r.tiny * (one + other), terms, 12 * r.u * slopes + 4 * r.tiny * (1 + one + other),
        slopes, weights,
    )  # fmt: skip
    return loss, slope


def _mse_bound(r: Rounding, y_pred: Array, y_true: Array, weights: Array | None = None) -> tuple[Any, ...]:
    d = y_pred - y_true
    errors = 4 * r.u * np.square(d) + np.finfo(np.float64).smallest_subnormal
    loss, slope = _bound(r, errors, np.square(d), r.u * np.abs(2 * d), 2 * d, weights)
    return loss + r.tiny, slope


def _mae_bound(r: Rounding, y_pred: Array, y_true: Array, weights: Array | None = None) -> tuple[Any, ...]:
    d = y_pred - y_true
    loss, slope = _bound(r, r.u * np.abs(d), np.abs(d), np.zeros_like(d), np.sign(d), weights)
    return loss, slope


def _huber_bound(
    r: Rounding, y_pred: Array, y_true: Array, weights: Array | None = None, *, delta: float = 1.0
) -> tuple[Any, ...]:
    d = y_pred - y_true
    h = np.clip(d, -delta, delta)
    size = np.abs(h * d)
    loss, slope = _bound(r, 6 * r.u * size + 2 * r.tiny, size, 2 * r.u * np.abs(h), h, weights)
    return loss, slope


def _poisson_bound(r: Rounding, y_pred: Array, y_true: Array, weights: Array | None = None) -> tuple[Any, ...]:
    rate, product = np.exp(y_pred), np.abs(y_true * y_pred)
    d_rate = (2 if r.dtype == np.float32 else 4) * r.u * rate + r.tiny
    errors = d_rate + r.u * (rate + 2 * product) + 2 * r.tiny
    loss, slope = _bound(r, errors, rate + product, d_rate + r.u * np.abs(rate - y_true), rate - y_true, weights)
    return loss, slope


def _some_weights(rng: Rng, dtype: DTypeLike, n: int) -> Array:
    """Return weights of which every fifth or so is 0, the first one never."""
    weights = rng.uniform(0.1, 3, n) * (rng.random(n) > 0.2)
    weights[:1] = 1.5
    return weights.astype(dtype)


def _case_of(counts: bool) -> Callable[..., Sample]:
    """Return the function that makes samples of ``size`` rows of one output, or of (n, outputs) with weights."""

    def case(rng: Rng, dtype: DTypeLike, size: int = 0, n: int = 0, outputs: int = 0) -> Sample:
        shape = (n, outputs) if outputs else (size,)
        y_true = rng.poisson(2.0, shape).astype(dtype) if counts else normal(rng, dtype, *shape)
        weights = _some_weights(rng, dtype, n) if outputs else None
        sizes = {"n": n, "outputs": outputs} if outputs else {"size": size}
        return Sample(label_of(**sizes), {"y_pred": normal(rng, dtype, *shape), "y_true": y_true, "weights": weights})

    return case


def _special_of(counts: bool, attrs: dict[str, float]) -> Callable[[Rng, DTypeLike], list[Sample]]:
    def special(rng: Rng, dtype: DTypeLike) -> list[Sample]:
        y_true = np.abs(np.round(normal(rng, dtype, 7, 5))) if counts else normal(rng, dtype, 7, 5)
        good: dict[str, Array | None] = {"y_pred": normal(rng, dtype, 7, 5), "y_true": y_true, "weights": None}
        bad = normal(rng, dtype, 7, 5)
        bad[2, 1], bad[3, 3] = np.nan, np.inf
        skips = np.array([1, 2, 0, 0, 1, 1, 3], dtype)
        nan_weight = skips.copy()
        nan_weight[4] = np.nan
        column = {name: None if a is None else np.ascontiguousarray(a[:, :1]) for name, a in good.items()}
        bad_column = np.ascontiguousarray(bad[:, 1:2])
        samples = [
            Sample("two_dimensions", dict(good)),
            Sample(
                "four_dimensions",
                {**good, "y_pred": normal(rng, dtype, 3, 2, 5, 3), "y_true": np.abs(normal(rng, dtype, 3, 2, 5, 3))},
            ),
            Sample("nonfinite", {**good, "y_pred": bad}),
            Sample("nan_target", {**good, "y_true": np.where(np.isnan(bad), bad, y_true)}),
            Sample("left_out", {**good, "y_pred": bad, "weights": skips}),
            Sample("left_out_column", {**column, "y_pred": bad_column, "weights": skips}),
            Sample("no_weight", {**good, "y_pred": bad, "weights": np.zeros(7, dtype)}),
            Sample("no_weight_column", {**column, "y_pred": bad_column, "weights": np.zeros(7, dtype)}),
            Sample("nan_weight", {**good, "weights": nan_weight}),
            Sample("nan_weight_column", {**column, "weights": nan_weight}),
            Sample("equal", {**good, "y_pred": y_true.copy()}),
            Sample("nearly_equal", {**good, "y_pred": y_true * np.array(1.001, dtype)}),
        ]
        if attrs:
            samples.append(Sample("attributes", dict(good), attrs))
            samples.append(Sample("attributes_weighted", {**good, "weights": skips}, attrs))
        return samples

    return special


def _errors_of(op: str) -> Callable[[Rng, DTypeLike], list[ErrorCase]]:
    def errors(rng: Rng, dtype: DTypeLike) -> list[ErrorCase]:
        inputs: dict[str, Array | None] = {"y_pred": normal(rng, dtype, 3, 1), "y_true": normal(rng, dtype, 3)}
        inputs["weights"] = None
        good = {**inputs, "y_true": normal(rng, dtype, 3, 1)}
        return [
            ErrorCase(Sample("shape", inputs), ValueError, rf"{op}: 'y_true' has shape \(3,\), expected \(3, 1\)"),
            ErrorCase(
                Sample("weight_count", {**good, "weights": np.ones(4, dtype)}),
                ValueError,
                rf"{op}: 'weights' has shape \(4,\), expected \(3,\)",
            ),
        ]

    return errors


def _bce_case(rng: Rng, dtype: DTypeLike, n: int, c: int, weighted: int = 0) -> Sample:
    inputs: dict[str, Array | None] = {
        "scores": 3 * normal(rng, dtype, n, c),
        "targets": rng.integers(0, 2, (n, c)).astype(dtype),
        "pos_weight": None,
        "weights": None,
    }
    if weighted:
        inputs["pos_weight"] = rng.uniform(0.2, 5, c).astype(dtype)
        inputs["weights"] = _some_weights(rng, dtype, n)
        inputs["targets"] = rng.random((n, c)).astype(dtype)
    sizes = {"n": n, "c": c, "weighted": weighted} if weighted else {"n": n, "c": c}
    return Sample(label_of(**sizes), inputs)


def _bce_special(rng: Rng, dtype: DTypeLike) -> list[Sample]:
    inputs = _bce_case(rng, dtype, 7, 5).inputs
    scores, targets = inputs["scores"], inputs["targets"]
    assert scores is not None and targets is not None
    limit = 80 if np.dtype(dtype) == np.float32 else 700
    wide = np.linspace(-limit, limit, 35).reshape(7, 5).astype(dtype)
    bad = scores.copy()
    bad[2, 1], bad[3, 3], bad[3, 4] = np.nan, np.inf, -np.inf
    skips = np.array([1, 2, 0, 0, 1, 1, 3], dtype)
    pos = rng.uniform(0.2, 5, 5).astype(dtype)
    images = _bce_case(rng, dtype, 6, 20, 1).inputs
    four = {k: None if a is None else a.reshape(3, 2, 4, 5) if a.ndim == 2 else a for k, a in images.items()}
    column = {k: None if a is None else np.ascontiguousarray(a[:, :1]) for k, a in inputs.items()}
    return [
        Sample("wide", {**inputs, "scores": wide}),
        Sample("zero", {**inputs, "scores": wide * 0}),
        Sample("probabilities", {**inputs, "targets": rng.random((7, 5)).astype(dtype)}),
        Sample("nonfinite", {**inputs, "scores": bad}),
        Sample("nan_target", {**inputs, "targets": np.where(np.isnan(bad), bad, targets)}),
        Sample("left_out", {**inputs, "scores": bad, "weights": skips}),
        Sample("no_weight", {**inputs, "scores": bad, "weights": np.zeros(7, dtype)}),
        Sample("weighted_column", {**column, "weights": skips}),
        Sample("pos_weight", {**inputs, "pos_weight": pos}),
        Sample("pos_weight_column", {**column, "pos_weight": pos[:1]}),
        Sample("four_dimensions", {**four, "pos_weight": pos, "weights": skips[:3]}),
    ]


def _bce_errors(rng: Rng, dtype: DTypeLike) -> list[ErrorCase]:
    op, good = "binary_cross_entropy", _bce_case(rng, dtype, 3, 2, 1).inputs
    return [
        ErrorCase(
            Sample("shape", {**good, "targets": np.zeros(3, dtype)}),
            ValueError,
            rf"{op}: 'targets' has shape \(3,\), expected \(3, 2\)",
        ),
        ErrorCase(
            Sample("pos_weight_count", {**good, "pos_weight": np.ones(3, dtype)}),
            ValueError,
            rf"{op}: 'pos_weight' has shape \(3,\), expected \(2,\)",
        ),
        ErrorCase(
            Sample("label", {**good, "targets": np.zeros((3, 2), np.int64)}), TypeError, f"{op}: 'targets'.*int64"
        ),
    ]


def _cost(flop: int) -> Callable[..., Cost]:
    def cost(itemsize: int, **sizes: int) -> Cost:
        sizes = {k: v for k, v in sizes.items() if k != "weighted"}
        return Cost(flop * math.prod(sizes.values()), 3 * itemsize * math.prod(sizes.values()))

    return cost


register(
    OpSpec(
        name="binary_cross_entropy",
        reference=binary_cross_entropy,
        bound=_bce_bound,
        case=_bce_case,
        shapes=LABEL_SHAPES,
        bench=LABEL_BENCH,
        special=_bce_special,
        errors=_bce_errors,
        cost=_cost(40),
        source="Cox 1958; stable form by log1p(exp(-abs(s)))",
        backward={"scores": "binary_cross_entropy.dscores"},
    )
)


def _regression(
    op: str,
    reference: Callable[..., tuple[Array, Array]],
    bound: Callable[..., tuple[Any, ...]],
    flop: int,
    source: str,
    counts: bool = False,
    attrs: dict[str, float] | None = None,
) -> None:
    register(
        OpSpec(
            name=op,
            reference=reference,
            bound=bound,
            case=_case_of(counts),
            shapes=SHAPES,
            bench=BENCH,
            special=_special_of(counts, attrs or {}),
            errors=_errors_of(op),
            cost=_cost(flop),
            source=source,
            backward={"y_pred": f"{op}.dy_pred"},
        )
    )


_regression("mean_squared_error", mean_squared_error, _mse_bound, 4, "Legendre 1805, Gauss 1809")
_regression("mean_absolute_error", mean_absolute_error, _mae_bound, 4, "Boscovich 1757, Laplace 1774")
_regression("huber", huber, _huber_bound, 7, "Huber 1964", attrs={"delta": 0.4})
_regression("poisson", poisson, _poisson_bound, 15, "McCullagh, Nelder 1989, chapter 6", counts=True)
