"""Reference of the clipping of gradients, by the norm of all of them and by value."""

from __future__ import annotations

from functools import partial
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
    awkward,
    different_dtype,
    label_of,
    normal,
    register,
)

SHAPES = tuple({"size": size} for size in SIZES)
BENCH = tuple({"size": size} for size in (2400, 150000, 1 << 20))
_U64 = 2.0**-53  # sums are made and returned in float64
_NORM_EPS = 1e-6


def sum_of_squares(x: Array, before: Array | None = None) -> tuple[Array]:
    """Return the sum of the squares of x, added to the sum before."""
    total = np.full(1, np.square(x).sum())
    return (total if before is None else total + before,)


def clip_by_norm(dp: Array, total: Array, *, clip_norm: float) -> tuple[Array]:
    """Return dp, scaled down if the norm ``sqrt(total)`` exceeds the bound; as PyTorch, with 1e-6 added to the norm."""
    return (dp * np.minimum(clip_norm / (np.sqrt(total) + _NORM_EPS), 1),)


def clip_by_value(dp: Array, *, clip_value: float) -> tuple[Array]:
    """Return dp cut to ``[-clip_value, clip_value]``."""
    return (np.clip(dp, -clip_value, clip_value),)


def _sum_bound(r: Rounding, x: Array, before: Array | None = None) -> tuple[Any]:
    own = np.square(x).sum()
    total = own if before is None else own + np.abs(before)
    return ((x.size + 4) * _U64 * own + 2 * _U64 * total + np.finfo(np.float64).smallest_subnormal,)


def _norm_bound(r: Rounding, dp: Array, total: Array, *, clip_norm: float) -> tuple[Any]:
    """Bound the product and its factor, made in float64 and rounded once; the factor may underflow."""
    (y,) = clip_by_norm(dp, total, clip_norm=clip_norm)
    return (r.relative(3, y) + r.tiny * (np.abs(dp) + 1),)


def _value_bound(r: Rounding, dp: Array, *, clip_value: float) -> tuple[Any]:
    """Bound the limit alone, which the kernel rounds to its float type; a gradient next to it may be cut at either."""
    return (np.where(np.abs(dp) < 0.999 * clip_value, 0, 1.01 * r.u * clip_value + r.tiny),)


def _sum_case(rng: Rng, dtype: DTypeLike, size: int) -> Sample:
    return Sample(label_of(size=size), {"x": normal(rng, dtype, size), "before": np.array([3.25])})


def _norm_case(rng: Rng, dtype: DTypeLike, size: int, bound: float = 0.5) -> Sample:
    dp = normal(rng, dtype, size)
    total = np.array([np.square(dp, dtype=np.float64).sum() + 1])
    return Sample(label_of(size=size), {"dp": dp, "total": total}, {}, {"clip_norm": bound})


def _value_case(rng: Rng, dtype: DTypeLike, size: int) -> Sample:
    return Sample(label_of(size=size), {"dp": normal(rng, dtype, size)}, {}, {"clip_value": 0.7})


def _sum_special(rng: Rng, dtype: DTypeLike) -> list[Sample]:
    bad = normal(rng, dtype, 23)
    bad[11] = np.nan
    infinite = normal(rng, dtype, 23)
    infinite[3] = -np.inf
    return [
        Sample("first", {"x": normal(rng, dtype, 41), "before": None}),
        Sample("two_dimensions", {"x": normal(rng, dtype, 9, 7), "before": np.array([1e-9])}),
        Sample("nothing_before", {"x": np.zeros(19, dtype), "before": np.zeros(1)}),
        Sample("different_sizes", {"x": normal(rng, dtype, 67) * 1e-6, "before": np.array([1e12])}),
        Sample("nan", {"x": bad, "before": None}),
        Sample("nan_before", {"x": normal(rng, dtype, 5), "before": np.array([np.nan])}),
        Sample("infinite", {"x": infinite, "before": None}),
    ]


def _norm_special(rng: Rng, dtype: DTypeLike) -> list[Sample]:
    bad = normal(rng, dtype, 23)
    bad[7], bad[11] = np.nan, np.inf
    good = _norm_case(rng, dtype, 33).inputs
    wide = {"dp": awkward(dtype), "total": np.array([9.0])}
    totals = {"nan": np.nan, "infinite": np.inf, "zero": 0.0, "tiny": 1e-300, "at_the_bound": 0.25}
    return [
        Sample("inside", dict(good), {}, {"clip_norm": 1e6}),
        Sample("two_dimensions", {"dp": normal(rng, dtype, 9, 7), "total": np.array([64.0])}, {}, {"clip_norm": 1.0}),
        Sample("awkward", dict(wide), {}, {"clip_norm": 1.0}),
        Sample("awkward_inside", dict(wide), {}, {"clip_norm": 3.5}),
        Sample("nonfinite", {"dp": bad, "total": np.array([np.inf])}, {}, {"clip_norm": 1.0}),
        *(Sample(f"total_{k}", {**good, "total": np.array([v])}, {}, {"clip_norm": 0.5}) for k, v in totals.items()),
    ]


def _value_special(rng: Rng, dtype: DTypeLike) -> list[Sample]:
    return [
        Sample("awkward", {"dp": awkward(dtype)}, {}, {"clip_value": 2.0}),
        Sample("awkward_small", {"dp": awkward(dtype)}, {}, {"clip_value": 1e-6}),
        Sample("two_dimensions", {"dp": normal(rng, dtype, 9, 7)}, {}, {"clip_value": 0.1}),
        Sample("inside", {"dp": normal(rng, dtype, 37)}, {}, {"clip_value": 100.0}),
    ]


def _sum_errors(rng: Rng, dtype: DTypeLike) -> list[ErrorCase]:
    good = _sum_case(rng, dtype, 5)
    return [
        ErrorCase(Sample("dtype", different_dtype(good.inputs, "x")), TypeError, "sum_of_squares: 'x'.*int32"),
        ErrorCase(
            Sample("before_dtype", {**good.inputs, "before": np.ones(1, np.float32)}),
            TypeError,
            "sum_of_squares: 'before'.*float32",
        ),
        ErrorCase(
            Sample("before_shape", {**good.inputs, "before": np.ones(2)}),
            ValueError,
            r"sum_of_squares: 'before' has shape \(2,\), expected \(1,\)",
        ),
    ]


def _clip_errors(op: str, rng: Rng, dtype: DTypeLike) -> list[ErrorCase]:
    good = (_norm_case if op == "clip_by_norm" else _value_case)(rng, dtype, 5)
    bad = Sample("dtype", different_dtype(good.inputs, "dp"), {}, good.hyper)
    cases = [ErrorCase(bad, TypeError, f"{op}: 'dp'.*int32")]
    if op == "clip_by_norm":
        two = Sample("total_shape", {**good.inputs, "total": np.ones(2)}, {}, good.hyper)
        cases.append(ErrorCase(two, ValueError, r"clip_by_norm: 'total' has shape \(2,\), expected \(1,\)"))
    return cases


register(
    OpSpec(
        name="sum_of_squares",
        reference=sum_of_squares,
        bound=_sum_bound,
        case=_sum_case,
        shapes=SHAPES,
        bench=BENCH,
        special=_sum_special,
        errors=_sum_errors,
        cost=lambda itemsize, size: Cost(2 * size, itemsize * size),
        source="Pascanu, Mikolov, Bengio 2013",
    )
)
register(
    OpSpec(
        name="clip_by_norm",
        reference=clip_by_norm,
        bound=_norm_bound,
        case=_norm_case,
        shapes=SHAPES,
        bench=BENCH,
        special=_norm_special,
        errors=partial(_clip_errors, "clip_by_norm"),
        cost=lambda itemsize, size: Cost(size, 2 * itemsize * size),
        source="Pascanu, Mikolov, Bengio 2013, Algorithm 1; torch.nn.utils.clip_grad_norm_",
    )
)
register(
    OpSpec(
        name="clip_by_value",
        reference=clip_by_value,
        bound=_value_bound,
        case=_value_case,
        shapes=SHAPES,
        bench=BENCH,
        special=_value_special,
        errors=partial(_clip_errors, "clip_by_value"),
        cost=lambda itemsize, size: Cost(2 * size, 2 * itemsize * size),
        source="Mikolov 2012; torch.nn.utils.clip_grad_value_",
    )
)
