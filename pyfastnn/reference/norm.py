"""Reference of batch normalization over the last axis; rows are all other axes.

The last axis holds features, or the channels of NHWC images.
"""

from __future__ import annotations

from functools import partial
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
    different_dtype,
    label_of,
    normal,
    register,
)

_SHAPES = (
    (0, 3), (1, 1), (1, 5), (2, 1), (2, 7), (3, 0), (3, 13), (5, 17), (7, 31), (8, 33), (13, 65),
    (17, 4), (31, 6), (33, 63), (65, 15), (127, 24), (257, 67), (1021, 5),
)  # fmt: skip
SHAPES = tuple({"n": n, "c": c} for n, c in _SHAPES)
BENCH = tuple({"n": n, "c": c} for n, c in ((128, 256), (1000, 500), (8192, 1024)))
SOURCE = "Ioffe, Szegedy 2015, Algorithm 1; running variance unbiased as in PyTorch"


def _rows(x: Array) -> Array:
    return x.reshape(-1, x.shape[-1]) if x.size else np.zeros((_count(x), x.shape[-1]), x.dtype)


def _count(x: Array) -> int:
    return int(np.prod(x.shape[:-1], dtype=np.int64))


def _moments(rows: Array) -> tuple[Array, Array]:
    """Return mean and biased variance of the columns, in two passes."""
    mean = rows.mean(axis=0)
    return mean, np.square(rows - mean).mean(axis=0)


def batch_norm_forward(
    x: Array,
    gamma: Array,
    beta: Array,
    running_mean: Array,
    running_var: Array,
    *,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Array, Array, Array, Array, Array]:
    """Return y, mean, rstd and the new running statistics.

    ``y = (x - mean) * rstd * gamma + beta`` with ``rstd = 1 / sqrt(biased variance + eps)``;
    running statistics move by ``momentum`` towards the batch mean and the unbiased variance. One
    row: y = beta, rstd = 0, running statistics stay. No row: mean = rstd = 0.
    """
    rows = _rows(x)
    n = len(rows)
    if n == 0:
        zeros = np.zeros_like(gamma)
        return x.copy(), zeros, zeros.copy(), running_mean.copy(), running_var.copy()
    if n == 1:
        y = np.broadcast_to(beta, x.shape).copy()
        return y, rows[0].copy(), np.zeros_like(gamma), running_mean.copy(), running_var.copy()
    mean, var = _moments(rows)
    rstd = 1 / np.sqrt(var + eps)
    new_mean = running_mean + momentum * (mean - running_mean)
    new_var = running_var + momentum * (var * n / (n - 1) - running_var)
    return (x - mean) * rstd * gamma + beta, mean, rstd, new_mean, new_var


def batch_norm_predict(
    x: Array,
    gamma: Array,
    beta: Array,
    running_mean: Array,
    running_var: Array,
    *,
    eps: float = 1e-5,
) -> tuple[Array]:
    """Return ``gamma * (x - running_mean) / sqrt(running_var + eps) + beta``."""
    return (gamma * (x - running_mean) / np.sqrt(running_var + eps) + beta,)


def batch_norm_backward(dy: Array, x: Array, gamma: Array, mean: Array, rstd: Array) -> tuple[Array, Array, Array]:
    """Return dx, dgamma, dbeta.

    Written with the gradient of the normalized values, ``g = dy * gamma``: ``dx`` is ``rstd`` times
    ``g`` less its projections on the constant and on the normalized column, because adding either
    to x does not change y.
    """
    normalized = (x - mean) * rstd
    g, h = _rows(dy * gamma), _rows(normalized)
    dgamma, dbeta = (_rows(dy) * h).sum(axis=0), _rows(dy).sum(axis=0)
    if len(g) == 0:
        return np.zeros_like(x), dgamma, dbeta
    dx = rstd * (g - g.mean(axis=0) - h * (g * h).mean(axis=0))
    return dx.reshape(x.shape), dgamma, dbeta


def _forward_bound(
    r: Rounding,
    x: Array,
    gamma: Array,
    beta: Array,
    running_mean: Array,
    running_var: Array,
    *,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Any, ...]:
    """Follow the rounding errors of shifted two-pass statistics through the formulas.

    The mean is a shift of the size of the data plus a sum of n differences; the variance is a sum
    of n squares, corrected by or erring by the square of the mean's error; y inherits both.
    """
    rows = _rows(x)
    n = len(rows)
    if n < 2:
        return 0.0, 0.0, 0.0, 0.0, 0.0
    mean, var = _moments(rows)
    spread = 2 * np.abs(rows - mean).max(axis=0)
    d_mean = 2 * r.u * (np.abs(mean) + (n + 3) * spread) + r.tiny
    d_var = 2 * r.u * (n + 6) * var + 2 * d_mean**2 + r.tiny
    rstd = 1 / np.sqrt(var + eps)
    d_rstd = 1 / np.sqrt(np.maximum(var - d_var, 0) + eps) - rstd + 4 * r.u * rstd
    deviation = np.abs(x - mean)
    scale = np.abs(gamma) * (rstd + d_rstd)
    d_y = (
        scale * d_mean
        + np.abs(gamma) * d_rstd * deviation
        + r.u * (5 * scale * deviation + 2 * np.abs(beta))
        + 2 * r.tiny
    )
    d_running_mean = momentum * d_mean + 4 * r.u * (np.abs(running_mean) + momentum * np.abs(mean)) + r.tiny
    unbiased = n / (n - 1)
    d_running_var = momentum * unbiased * d_var + 6 * r.u * (running_var + momentum * unbiased * var) + r.tiny
    return d_y, d_mean, d_rstd, d_running_mean, d_running_var


def _predict_bound(
    r: Rounding,
    x: Array,
    gamma: Array,
    beta: Array,
    running_mean: Array,
    running_var: Array,
    *,
    eps: float = 1e-5,
) -> tuple[Any, ...]:
    # The column's scale and offset may be folded first: then x * scale and running_mean * scale
    # cancel after rounding.
    scale = np.abs(gamma) / np.sqrt(running_var + eps)
    return (6 * r.u * ((np.abs(x) + np.abs(running_mean)) * scale + np.abs(beta)) + 2 * r.tiny,)


def _backward_bound(r: Rounding, dy: Array, x: Array, gamma: Array, mean: Array, rstd: Array) -> tuple[Any, ...]:
    n = _count(x)
    if n == 0:
        return 0.0, 0.0, 0.0
    normalized = np.abs((x - mean) * rstd)
    terms = (_rows(np.abs(dy)) * _rows(normalized)).sum(axis=0)
    sums = np.abs(_rows(dy)).sum(axis=0)
    d_gamma, d_beta = 2 * (n + 5) * r.u * terms + r.tiny, 2 * (n + 1) * r.u * sums + r.tiny
    inner = np.abs(dy) + (sums + normalized * terms) / n
    d_inner = (d_beta + normalized * d_gamma) / n + 8 * r.u * inner
    return np.abs(gamma) * rstd * (d_inner + 4 * r.u * inner) + 2 * r.tiny, d_gamma, d_beta


def _arrays(rng: Rng, dtype: DTypeLike, *shape: int, offset: float = 1.0) -> dict[str, Array]:
    c = shape[-1]
    x = (normal(rng, dtype, *shape) * 2 + offset * normal(rng, dtype, c)).astype(dtype)
    arrays = {"x": x, "dy": normal(rng, dtype, *shape)}
    arrays["gamma"] = 1 + normal(rng, dtype, c) / 4
    arrays["beta"], arrays["running_mean"] = normal(rng, dtype, c), normal(rng, dtype, c)
    arrays["running_var"] = rng.uniform(0.2, 2, c).astype(dtype)
    zeros = np.zeros(c)
    statistics = batch_norm_forward(x.astype(np.float64), zeros, zeros, zeros, zeros)
    arrays["mean"], arrays["rstd"] = statistics[1].astype(dtype), statistics[2].astype(dtype)
    return arrays


_INPUTS = {
    "batch_norm_forward": ("x", "gamma", "beta", "running_mean", "running_var"),
    "batch_norm_predict": ("x", "gamma", "beta", "running_mean", "running_var"),
    "batch_norm_backward": ("dy", "x", "gamma", "mean", "rstd"),
}


def _sample(op: str, label: str, arrays: dict[str, Array], attrs: dict[str, float] | None = None) -> Sample:
    return Sample(label, {name: arrays[name] for name in _INPUTS[op]}, attrs or {})


def _case(op: str, rng: Rng, dtype: DTypeLike, n: int, c: int) -> Sample:
    return _sample(op, label_of(n=n, c=c), _arrays(rng, dtype, n, c))


def _special(op: str, rng: Rng, dtype: DTypeLike) -> list[Sample]:
    constant = _arrays(rng, dtype, 6, 9)
    constant["x"][:, ::2] = 0.1  # the variance of these columns is 0
    awkward = _arrays(rng, dtype, 7, 21)
    awkward["x"][2, 4] = np.nan
    awkward["x"][:, 5] = 0
    awkward["x"][:, 6] *= np.finfo(np.dtype(dtype)).smallest_subnormal
    awkward["dy"][3, 7] = np.nan
    samples = [
        _sample(op, "images", _arrays(rng, dtype, 2, 3, 4, 5)),
        _sample(op, "vector", _arrays(rng, dtype, 11)),
        _sample(op, "constant_columns", constant),
        _sample(op, "awkward", awkward),
        _sample(op, "offset1e4", _arrays(rng, dtype, 200, 35, offset=1e4)),
    ]
    attrs = {
        "batch_norm_forward": {"momentum": 0.25, "eps": 1e-3},
        "batch_norm_predict": {"eps": 1e-3},
    }
    if op in attrs:
        samples.append(_sample(op, "attributes", _arrays(rng, dtype, 12, 10), attrs[op]))
    return samples


def _errors(op: str, rng: Rng, dtype: DTypeLike) -> list[ErrorCase]:
    good = _case(op, rng, dtype, n=4, c=5).inputs
    first, *_, last = good
    dtype_case = ErrorCase(Sample("dtype", different_dtype(good, last)), TypeError, f"{op}: '{last}'.*int32")
    match = rf"{op}: '{last}' has shape \(6,\), expected \(5,\) because '{first}' has shape \(4, 5\)"
    return [
        dtype_case,
        ErrorCase(Sample("shape", {**good, last: normal(rng, dtype, 6)}), ValueError, match),
    ]


_GRADIENTS = {
    "batch_norm_forward": {name: f"batch_norm_backward.d{name}" for name in ("x", "gamma", "beta")},
    "batch_norm_predict": {"x": "batch_norm_predict.y"},
}

for _name, _reference, _bound, _passes, _flop in (
    ("batch_norm_forward", batch_norm_forward, _forward_bound, 2, 8),
    ("batch_norm_predict", batch_norm_predict, _predict_bound, 2, 2),
    ("batch_norm_backward", batch_norm_backward, _backward_bound, 3, 10),
):
    register(
        OpSpec(
            name=_name,
            reference=_reference,
            bound=_bound,
            case=partial(_case, _name),
            shapes=SHAPES,
            bench=BENCH,
            special=partial(_special, _name),
            errors=partial(_errors, _name),
            cost=lambda itemsize, n, c, flop=_flop, passes=_passes: Cost(flop * n * c, itemsize * passes * n * c),
            source=SOURCE,
            backward=_GRADIENTS.get(_name, {}),
        )
    )
