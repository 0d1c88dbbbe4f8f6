"""Reference of layer and group normalization: statistics of one sample, none of the batch.

Both are one formula over *units*: a row of the last axis (layer norm), or some neighbouring channels of a sample at all its
positions (group norm).
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
    (0, 3), (1, 1), (1, 5), (2, 1), (3, 0), (3, 13), (5, 17), (7, 31), (8, 33), (13, 65), (17, 4), (31, 6),
    (33, 15), (35, 24), (65, 3), (5, 127), (9, 257), (2, 1021), (1, 4099),
)  # fmt: skip
SHAPES = tuple({"n": n, "c": c} for n, c in _SHAPES)
BENCH = tuple({"n": n, "c": c} for n, c in ((128, 256), (1000, 512), (8192, 1024)))
_GROUP_SHAPES = (
    (2, 3, 2, 3), (0, 2, 1, 2), (2, 0, 1, 3), (3, 2, 4, 0), (1, 1, 1, 1), (5, 1, 3, 4), (4, 7, 3, 1), (3, 6, 1, 7), (5, 4, 2, 16),
    (2, 9, 5, 3), (2, 65, 2, 5), (3, 4, 33, 2), (5, 5, 9, 8), (2, 131, 1, 17), (1, 4, 2, 130),
)  # fmt: skip
GROUP_SHAPES = tuple({"n": n, "s": s, "g": g, "k": k} for n, s, g, k in _GROUP_SHAPES)
GROUP_BENCH = tuple(
    {"n": n, "s": s, "g": g, "k": k} for n, s, g, k in ((32, 64, 8, 8), (32, 1024, 8, 4), (16, 784, 32, 8))
)
LAYER_SOURCE = "Ba, Kiros, Hinton 2016, equations 3 and 4"
GROUP_SOURCE = "Wu, He 2018, equations 1 to 7"


def _split(x: Array, groups: int) -> Array:
    """Return the units of ``x`` as rows; ``groups`` is 0 for layer norm."""
    c = x.shape[-1]
    if not groups:
        return x.reshape(int(np.prod(x.shape[:-1], dtype=np.int64)), c)
    n, positions = x.shape[0], int(np.prod(x.shape[1:-1], dtype=np.int64))
    return x.reshape(n, positions, groups, c // groups).swapaxes(1, 2).reshape(n * groups, positions * (c // groups))


def _join(units: Array, shape: tuple[int, ...], groups: int) -> Array:
    """Return units in the shape ``_split`` got them from."""
    if not groups:
        return units.reshape(shape)
    positions, width = int(np.prod(shape[1:-1], dtype=np.int64)), shape[-1] // groups
    return units.reshape(shape[0], groups, positions, width).swapaxes(1, 2).reshape(shape)


def _statistics_shape(x: Array, groups: int) -> tuple[int, ...]:
    return (x.shape[0], groups) if groups else x.shape[:-1]


def _moments(units: Array) -> tuple[Array, Array]:
    """Return mean and biased variance of each unit, in two passes."""
    if units.shape[1] == 0:
        return np.zeros(len(units), units.dtype), np.zeros(len(units), units.dtype)
    mean = units.mean(axis=1)
    return mean, np.square(units - mean[:, None]).mean(axis=1)


def _forward(x: Array, gamma: Array, beta: Array, eps: float, groups: int) -> tuple[Array, Array, Array]:
    units = _split(x, groups)
    mean, var = _moments(units)
    rstd = 1 / np.sqrt(var + eps) if units.shape[1] else np.zeros_like(var)
    normalized = _join((units - mean[:, None]) * rstd[:, None], x.shape, groups)
    shape = _statistics_shape(x, groups)
    return normalized * gamma + beta, mean.reshape(shape), rstd.reshape(shape)


def _backward(dy: Array, x: Array, gamma: Array, mean: Array, rstd: Array, groups: int) -> tuple[Array, Array, Array]:
    scale = rstd.reshape(-1, 1)
    h = (_split(x, groups) - mean.reshape(-1, 1)) * scale
    g = _split(dy * gamma, groups)
    axes = tuple(range(x.ndim - 1))
    dgamma, dbeta = (dy * _join(h, x.shape, groups)).sum(axis=axes), dy.sum(axis=axes)
    if x.size == 0:
        return np.zeros_like(x), dgamma, dbeta
    dx = scale * (g - g.mean(axis=1, keepdims=True) - h * (g * h).mean(axis=1, keepdims=True))
    return _join(dx, x.shape, groups), dgamma, dbeta


def layer_norm_forward(x: Array, gamma: Array, beta: Array, *, eps: float = 1e-5) -> tuple[Array, Array, Array]:
    """Return y, mean and rstd.

    ``y = (x - mean) * rstd * gamma + beta`` with mean and ``rstd = 1 / sqrt(biased variance + eps)`` of each row of the last
    axis. No columns: mean = rstd = 0.
    """
    return _forward(x, gamma, beta, eps, 0)


def layer_norm_backward(dy: Array, x: Array, gamma: Array, mean: Array, rstd: Array) -> tuple[Array, Array, Array]:
    """Return dx, dgamma, dbeta.

    With ``h = (x - mean) * rstd`` and ``g = dy * gamma``, dx is ``rstd`` times g less its projections on the constant and on h:
    adding either to x does not change y.
    """
    return _backward(dy, x, gamma, mean, rstd, 0)


def group_norm_forward(
    x: Array, gamma: Array, beta: Array, *, groups: float = 1, eps: float = 1e-5
) -> tuple[Array, Array, Array]:
    """Return y, mean and rstd: as layer norm, over the channels of a group at all positions of a sample."""
    return _forward(x, gamma, beta, eps, int(groups))


def group_norm_backward(
    dy: Array, x: Array, gamma: Array, mean: Array, rstd: Array, *, groups: float = 1
) -> tuple[Array, Array, Array]:
    """Return dx, dgamma, dbeta: as layer norm, over the channels of a group at all positions of a sample."""
    return _backward(dy, x, gamma, mean, rstd, int(groups))


def _forward_bound(
    r: Rounding, x: Array, gamma: Array, beta: Array, *, groups: float = 0, eps: float = 1e-5
) -> tuple[Any, ...]:
    """Follow the rounding errors of shifted two-pass statistics through the formulas.

    Differences to an element of the unit (or of its channel) are at most the spread of the unit, and so is all that is summed;
    only the mean itself is rounded at its own size.
    """
    parts = int(groups)
    units = _split(x, parts)
    size = units.shape[1]
    if units.size == 0:
        return 0.0, 0.0, 0.0
    mean, var = _moments(units)
    spread = units.max(axis=1) - units.min(axis=1)
    d_center = 2 * r.u * (size + 8) * spread + 4 * r.tiny
    d_mean = d_center + 2 * r.u * np.abs(mean)
    d_var = 2 * r.u * (size + 8) * var + 2 * d_center**2 + r.tiny
    rstd = 1 / np.sqrt(var + eps)
    d_rstd = 1 / np.sqrt(np.maximum(var - d_var, 0) + eps) - rstd + 4 * r.u * rstd

    def wide(unit: Array) -> Array:
        return _join(np.broadcast_to(unit[:, None], units.shape), x.shape, parts)

    deviation = _join(np.abs(units - mean[:, None]), x.shape, parts)
    scale = np.abs(gamma) * wide(rstd + d_rstd)
    d_y = (
        scale * wide(d_center)
        + np.abs(gamma) * wide(d_rstd) * deviation
        + r.u * (6 * scale * wide(spread) + 2 * np.abs(beta))
        + 2 * r.tiny * (1 + np.abs(gamma))
    )
    shape = _statistics_shape(x, parts)
    return d_y, d_mean.reshape(shape), d_rstd.reshape(shape)


def _backward_bound(
    r: Rounding, dy: Array, x: Array, gamma: Array, mean: Array, rstd: Array, *, groups: float = 0
) -> tuple[Any, ...]:
    if x.size == 0:
        return 0.0, 0.0, 0.0
    parts, axes = int(groups), tuple(range(x.ndim - 1))
    scale = rstd.reshape(-1, 1)
    h = np.abs((_split(x, parts) - mean.reshape(-1, 1)) * scale)
    g = np.abs(_split(dy * gamma, parts))
    size, count = g.shape[1], x.size // x.shape[-1]
    terms = (np.abs(dy) * _join(h, x.shape, parts)).sum(axis=axes)
    sums = np.abs(dy).sum(axis=axes)
    d_gamma = 2 * (count + 6) * r.u * terms + (count + 1) * r.tiny * (1 + float(np.abs(rstd).max()))
    d_beta = 2 * (count + 1) * r.u * sums + r.tiny
    means = g.mean(axis=1, keepdims=True) + h * (g * h).mean(axis=1, keepdims=True)
    d_inner = 2 * (size + 8) * r.u * means + 8 * r.u * (g + means)
    d_x = np.abs(scale) * (d_inner + 4 * r.tiny * (1 + h)) + 2 * r.tiny
    return _join(d_x, x.shape, parts), d_gamma, d_beta


_INPUTS = {
    "layer_norm_forward": ("x", "gamma", "beta"),
    "layer_norm_backward": ("dy", "x", "gamma", "mean", "rstd"),
    "group_norm_forward": ("x", "gamma", "beta"),
    "group_norm_backward": ("dy", "x", "gamma", "mean", "rstd"),
}


def _arrays(rng: Rng, dtype: DTypeLike, *shape: int, groups: int = 0, offset: float = 1.0) -> dict[str, Array]:
    c = shape[-1]
    x = (
        2 * normal(rng, dtype, *shape) + offset * (1 + rng.random(shape[0])).reshape(-1, *[1] * (len(shape) - 1))
    ).astype(dtype)
    arrays = {
        "x": x,
        "dy": normal(rng, dtype, *shape),
        "gamma": 1 + normal(rng, dtype, c) / 4,
        "beta": normal(rng, dtype, c),
    }
    statistics = _forward(x.astype(np.float64), np.ones(c), np.zeros(c), 1e-5, groups)
    arrays["mean"], arrays["rstd"] = statistics[1].astype(dtype), statistics[2].astype(dtype)
    return arrays


def _sample(op: str, label: str, arrays: dict[str, Array], attrs: dict[str, float] | None = None) -> Sample:
    return Sample(label, {name: arrays[name] for name in _INPUTS[op]}, attrs or {})


def _case(op: str, rng: Rng, dtype: DTypeLike, n: int, c: int) -> Sample:
    return _sample(op, label_of(n=n, c=c), _arrays(rng, dtype, n, c))


def _group_case(op: str, rng: Rng, dtype: DTypeLike, n: int, s: int, g: int, k: int) -> Sample:
    arrays = _arrays(rng, dtype, n, s, g * k, groups=g)
    return _sample(op, label_of(n=n, s=s, g=g, k=k), arrays, {"groups": g})


def _spoiled(arrays: dict[str, Array], dtype: DTypeLike) -> dict[str, Array]:
    """Put awkward numbers into some of seven samples of 21 columns."""
    x = arrays["x"]
    x[2, ..., 4] = np.nan
    x[3, ..., 6] = np.inf
    x[4] = 0
    x[5] *= np.finfo(np.dtype(dtype)).smallest_subnormal
    arrays["dy"][1, ..., 7] = np.nan
    return arrays


def _special(op: str, rng: Rng, dtype: DTypeLike) -> list[Sample]:
    constant = _arrays(rng, dtype, 9, 11)
    constant["x"][::2] = 0.1  # the variance of these rows is 0
    samples = [
        _sample(op, "images", _arrays(rng, dtype, 2, 3, 4, 5)),
        _sample(op, "constant_rows", constant),
        _sample(op, "awkward", _spoiled(_arrays(rng, dtype, 7, 21), dtype)),
        _sample(op, "offset1e4", _arrays(rng, dtype, 20, 35, offset=1e4)),
    ]
    if op == "layer_norm_forward":
        samples.append(_sample(op, "attributes", _arrays(rng, dtype, 12, 10), {"eps": 0.1}))
    return samples


def _group_special(op: str, rng: Rng, dtype: DTypeLike) -> list[Sample]:
    constant = _arrays(rng, dtype, 3, 4, 12, groups=3)
    constant["x"][:, :, 4:8] = 0.1  # the variance of this group is 0
    samples = [
        _sample(op, "features", _arrays(rng, dtype, 6, 12, groups=3), {"groups": 3}),
        _sample(op, "images", _arrays(rng, dtype, 2, 3, 4, 10, groups=2), {"groups": 2}),
        _sample(op, "instance", _arrays(rng, dtype, 2, 3, 3, 9, groups=9), {"groups": 9}),
        _sample(op, "constant_group", constant, {"groups": 3}),
        _sample(op, "awkward", _spoiled(_arrays(rng, dtype, 7, 2, 21, groups=3), dtype), {"groups": 3}),
        _sample(op, "offset1e4", _arrays(rng, dtype, 4, 40, 6, groups=2, offset=1e4), {"groups": 2}),
    ]
    if op == "group_norm_forward":
        samples.append(_sample(op, "attributes", _arrays(rng, dtype, 3, 5, 8, groups=4), {"groups": 4, "eps": 0.1}))
    return samples


def _errors(op: str, rng: Rng, dtype: DTypeLike) -> list[ErrorCase]:
    arrays = _arrays(rng, dtype, 4, 5, groups=int(op.startswith("group")))
    good = _sample(op, "good", arrays).inputs
    first, *_, last = good
    bad = normal(rng, dtype, 6)
    return [
        ErrorCase(Sample("dtype", different_dtype(good, last)), TypeError, f"{op}: '{last}'.*int32"),
        ErrorCase(
            Sample("shape", {**good, last: bad}),
            ValueError,
            rf"{op}: '{last}' has shape \(6,\), expected .*'{first}' has shape",
        ),
        ErrorCase(Sample("gamma", {**good, "gamma": bad}), ValueError, rf"{op}: 'gamma' has shape \(6,\), expected"),
    ]


def _register(name: str, reference: Any, bound: Any, passes: int, flop: int) -> None:
    family, direction = name.rsplit("_", 1)
    grouped = family == "group_norm"

    def cost(itemsize: int, n: int, c: int = 0, s: int = 1, g: int = 0, k: int = 0) -> Cost:
        size = n * s * g * k if grouped else n * c
        return Cost(flop * size, itemsize * passes * size)

    register(
        OpSpec(
            name=name,
            reference=reference,
            bound=bound,
            case=partial(_group_case if grouped else _case, name),
            shapes=GROUP_SHAPES if grouped else SHAPES,
            bench=GROUP_BENCH if grouped else BENCH,
            special=partial(_group_special if grouped else _special, name),
            errors=partial(_errors, name),
            cost=cost,
            source=GROUP_SOURCE if grouped else LAYER_SOURCE,
            backward={x: f"{family}_backward.d{x}" for x in ("x", "gamma", "beta")} if direction == "forward" else {},
        )
    )


_register("layer_norm_forward", layer_norm_forward, _forward_bound, 2, 8)
_register("layer_norm_backward", layer_norm_backward, _backward_bound, 3, 11)
_register("group_norm_forward", group_norm_forward, _forward_bound, 2, 8)
_register("group_norm_backward", group_norm_backward, _backward_bound, 3, 11)
