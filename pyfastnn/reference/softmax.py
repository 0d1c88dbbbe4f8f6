"""Reference of softmax and log_softmax over the last dimension, forward and backward; NaN propagates within a row."""

from __future__ import annotations

from collections.abc import Callable
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

SOURCE = "Blanchard, Higham, Higham 2021; Bridle 1990"
SHAPES = tuple(
    {"n": n, "c": c}
    for n, c in (
        (0, 5), (1, 1), (1, 10), (2, 2), (3, 7), (16, 10), (17, 10), (35, 3), (5, 15), (18, 16), (7, 17), (33, 9),
        (4, 31), (3, 65), (2, 129), (6, 1003),
    )
)  # fmt: skip
BENCH = ({"n": 32, "c": 10}, {"n": 3277, "c": 10}, {"n": 128, "c": 256}, {"n": 1024, "c": 1000})


def _relative(x: Array) -> Array:
    """Return x minus the maximum of its row."""
    relative: Array = x - x.max(axis=-1, keepdims=True, initial=-np.inf)
    return relative


def _sum(x: Array) -> Array:
    total: Array = x.sum(axis=-1, keepdims=True)
    return total


def softmax_forward(x: Array) -> tuple[Array]:
    """Return exp(x) over its sum over the last dimension."""
    e = np.exp(_relative(x))
    return (e / _sum(e),)


def softmax_backward(dy: Array, y: Array) -> tuple[Array]:
    """Return y * (dy - sum of dy * y)."""
    return (y * (dy - _sum(dy * y)),)


def log_softmax_forward(x: Array) -> tuple[Array]:
    """Return x minus the logarithm of the sum of exp(x) over the last dimension."""
    d = _relative(x)
    return (d - np.log(_sum(np.exp(d))),)


def log_softmax_backward(dy: Array, y: Array) -> tuple[Array]:
    """Return dy - exp(y) * sum of dy."""
    return (dy - np.exp(y) * _sum(dy),)


def _exp_error(r: Rounding) -> float:
    """Return the relative error of exp over u: 1 ULP in float32, 2 in float64."""
    return 2 if r.dtype == np.float32 else 4


def _sum_error(r: Rounding, x: Array) -> tuple[Array, Array]:
    """Return x minus the row's maximum, in magnitude, and the relative error of the row's sum of exponentials."""
    d = np.abs(_relative(x))
    e = np.exp(-d)
    weighted = _sum(np.where(e > 0, e * d, 0)) / _sum(e)  # d is rounded before exp
    return d, r.u * (weighted + _exp_error(r) + x.shape[-1])


def _softmax_bound(r: Rounding, x: Array) -> tuple[Any, ...]:
    d, error = _sum_error(r, x)
    (y,) = softmax_forward(x)
    return (1.01 * y * np.where(y > 0, error + r.u * (d + _exp_error(r) + 3), 0) + 3 * r.tiny,)


def _log_softmax_bound(r: Rounding, x: Array) -> tuple[Any, ...]:
    d, error = _sum_error(r, x)
    (y,) = log_softmax_forward(x)
    logarithm = np.log(_sum(np.exp(-d)))
    return (1.01 * (error + r.u * (d + 3 * logarithm + np.abs(y))) + r.tiny,)


def _softmax_backward_bound(r: Rounding, dy: Array, y: Array) -> tuple[Any, ...]:
    terms = dy * y
    total, scale = _sum(terms), _sum(np.abs(terms))
    error = r.u * (y.shape[-1] + 1) * scale + y.shape[-1] * r.tiny
    return (1.01 * np.abs(y) * (error + 2 * r.u * np.abs(dy - total)) + 2 * r.tiny,)


def _log_softmax_backward_bound(r: Rounding, dy: Array, y: Array) -> tuple[Any, ...]:
    e, total, scale = np.exp(y), np.abs(_sum(dy)), _sum(np.abs(dy))
    error = r.u * y.shape[-1] * scale + r.u * (_exp_error(r) + 1) * total
    return (1.01 * (e * error + r.u * np.abs(log_softmax_backward(dy, y)[0])) + r.tiny * (2 + total),)


def _sample(op: str, label: str, x: Array, dy: Array, y: Array | None = None) -> Sample:
    if op.endswith("forward"):
        return Sample(label, {"x": x})
    if y is None:
        wide = x.astype(np.float64)
        y = (log_softmax_forward(wide) if op.startswith("log") else softmax_forward(wide))[0].astype(x.dtype)
    return Sample(label, {"dy": dy, "y": y})


def _case(op: str, rng: Rng, dtype: DTypeLike, n: int, c: int) -> Sample:
    return _sample(op, label_of(n=n, c=c), (3 * normal(rng, dtype, n, c)).astype(dtype), normal(rng, dtype, n, c))


def _special(op: str, rng: Rng, dtype: DTypeLike) -> list[Sample]:
    samples = []
    for c in (5, 21):  # narrow rows and wide ones have kernels of their own
        x, dy = normal(rng, dtype, 9, c), normal(rng, dtype, 9, c)
        odd = x.copy()
        odd[1, 2], odd[2, 1], odd[3, 3], odd[4] = np.nan, np.inf, -np.inf, -np.inf
        odd[5], odd[6, 0] = 0, 300  # equal scores, and one so large that the others underflow
        odd[7] *= 30
        slopes = dy.copy()
        slopes[2, 3], slopes[3, 0] = np.nan, 0
        with np.errstate(all="ignore"):
            samples.append(_sample(op, f"awkward_c{c}", odd, slopes))
        if op.endswith("backward"):
            y = _sample(op, "", x, dy).inputs["y"]
            assert y is not None
            y = y.copy()
            y[4, 1] = np.nan
            samples.append(_sample(op, f"awkward_output_c{c}", x, dy, y))
        samples.append(_sample(op, f"far_c{c}", (x + 1e4).astype(dtype), dy))
    samples.append(_sample(op, "four_dimensions", normal(rng, dtype, 2, 3, 4, 5), normal(rng, dtype, 2, 3, 4, 5)))
    samples.append(_sample(op, "vector", normal(rng, dtype, 11), normal(rng, dtype, 11)))
    return samples


def _errors(op: str, rng: Rng, dtype: DTypeLike) -> list[ErrorCase]:
    good = _case(op, rng, dtype, n=4, c=5).inputs
    first, last = next(iter(good)), list(good)[-1]
    cases = [ErrorCase(Sample("dtype", different_dtype(good, first)), TypeError, f"{op}: '{first}'.*int32")]
    if first != last:
        match = rf"{op}: '{last}' has shape \(4, 6\), expected \(4, 5\) because '{first}' has shape \(4, 5\)"
        cases.append(ErrorCase(Sample("shape", {**good, last: normal(rng, dtype, 4, 6)}), ValueError, match))
    return cases


def _add(op: str, reference: Callable[..., Any], bound: Callable[..., Any], flop: int, passes: int) -> None:
    register(
        OpSpec(
            name=op,
            reference=reference,
            bound=bound,
            case=partial(_case, op),
            shapes=SHAPES,
            bench=BENCH,
            special=partial(_special, op),
            errors=partial(_errors, op),
            cost=lambda itemsize, n, c: Cost(flop * n * c, itemsize * passes * n * c),
            source=SOURCE,
            backward={"x": f"{op.removesuffix('_forward')}_backward.dx"} if op.endswith("forward") else {},
        )
    )


_add("softmax_forward", softmax_forward, _softmax_bound, 13, 2)
_add("softmax_backward", softmax_backward, _softmax_backward_bound, 4, 3)
_add("log_softmax_forward", log_softmax_forward, _log_softmax_bound, 13, 2)
_add("log_softmax_backward", log_softmax_backward, _log_softmax_backward_bound, 13, 3)
