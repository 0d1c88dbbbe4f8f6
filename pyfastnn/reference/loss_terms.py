"""Reference of what makes a total of losses: the L2 penalty, their sum, and the factor of a gradient."""

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
    awkward,
    different_dtype,
    label_of,
    normal,
    register,
)

SHAPES = tuple({"size": size} for size in SIZES)
BENCH = tuple({"size": size} for size in (320, 32768, 1 << 20))
_U64 = 2.0**-53  # losses are accumulated and returned in float64


def l2_penalty(w: Array, *, weight_decay: float) -> tuple[Array]:
    """Return ``0.5 * weight_decay * sum(w * w)``, the penalty of the lectures."""
    return (np.full(1, np.square(w).sum() * (weight_decay / 2)),)


def add_losses(a: Array, b: Array, *, a_weight: float = 1.0, b_weight: float = 1.0) -> tuple[Array]:
    """Return ``a_weight * a + b_weight * b``."""
    return (a_weight * a + b_weight * b,)


def scale(x: Array, *, factor: float = 1.0) -> tuple[Array]:
    """Return ``factor * x``."""
    return (factor * x,)


def _l2_bound(r: Rounding, w: Array, *, weight_decay: float) -> tuple[Any]:
    return ((w.size + 4) * _U64 * np.square(w).sum() * abs(weight_decay) + np.finfo(np.float64).smallest_subnormal,)


def _add_losses_bound(r: Rounding, a: Array, b: Array, *, a_weight: float = 1.0, b_weight: float = 1.0) -> tuple[Any]:
    size = np.abs(a_weight * a) + np.abs(b_weight * b)
    return (3 * _U64 * size + 3 * np.finfo(np.float64).smallest_subnormal,)


def _scale_bound(r: Rounding, x: Array, *, factor: float = 1.0) -> tuple[Any]:
    return (r.relative(2, factor * x) + r.tiny * np.abs(x),)


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


def _losses_case(rng: Rng, dtype: DTypeLike, pair: int) -> Sample:
    return Sample(
        label_of(pair=pair),
        {"a": rng.exponential(size=1), "b": rng.exponential(size=1)},
        {"a_weight": float(rng.normal()), "b_weight": float(rng.normal())},
    )


def _losses_special(rng: Rng, dtype: DTypeLike) -> list[Sample]:
    one = np.ones(1)
    return [
        Sample("plain", {"a": 2 * one, "b": 3 * one}),
        Sample("nan", {"a": one * np.nan, "b": one}),
        Sample("infinite", {"a": one, "b": one * np.inf}, {"b_weight": -2.0}),
        Sample("opposite", {"a": one * np.inf, "b": one * np.inf}, {"b_weight": -1.0}),
    ]


def _losses_errors(rng: Rng, dtype: DTypeLike) -> list[ErrorCase]:
    one = np.ones(1)
    return [
        ErrorCase(Sample("dtype", {"a": one.astype(np.float32), "b": one}), TypeError, "add_losses: 'a'.*float32"),
        ErrorCase(
            Sample("shape", {"a": one, "b": np.ones(2)}),
            ValueError,
            r"add_losses: 'b' has shape \(2,\), expected \(1,\)",
        ),
    ]


def _scale_case(rng: Rng, dtype: DTypeLike, size: int) -> Sample:
    return Sample(label_of(size=size), {"x": normal(rng, dtype, size)}, {"factor": 0.3})


def _scale_special(rng: Rng, dtype: DTypeLike) -> list[Sample]:
    return [
        Sample("awkward", {"x": awkward(dtype)}, {"factor": -1.7}),
        Sample("one", {"x": awkward(dtype)}),
        Sample("zero", {"x": normal(rng, dtype, 9)}, {"factor": 0.0}),
        Sample("three_dimensions", {"x": normal(rng, dtype, 3, 5, 7)}, {"factor": 2.5}),
    ]


def _scale_errors(rng: Rng, dtype: DTypeLike) -> list[ErrorCase]:
    good = _scale_case(rng, dtype, size=5)
    return [ErrorCase(Sample("dtype", different_dtype(good.inputs, "x")), TypeError, "scale: 'x'.*int32")]


register(
    OpSpec(
        name="l2_penalty",
        reference=l2_penalty,
        bound=_l2_bound,
        case=_l2_case,
        shapes=SHAPES,
        bench=BENCH,
        special=_l2_special,
        errors=_l2_errors,
        cost=lambda itemsize, size: Cost(2 * size, itemsize * size),
        source="CS231n, Regularization: 0.5 * reg * sum(w * w)",
    )
)
register(
    OpSpec(
        name="add_losses",
        reference=add_losses,
        bound=_add_losses_bound,
        case=_losses_case,
        shapes=tuple({"pair": k} for k in range(5)),
        bench=({"pair": 0},),
        special=_losses_special,
        errors=_losses_errors,
        cost=lambda itemsize, pair: Cost(3, 24),
        source="elementary",
        backward={"a": "dy", "b": "dy"},
    )
)
register(
    OpSpec(
        name="scale",
        reference=scale,
        bound=_scale_bound,
        case=_scale_case,
        shapes=SHAPES,
        bench=BENCH,
        special=_scale_special,
        errors=_scale_errors,
        cost=lambda itemsize, size: Cost(size, 2 * itemsize * size),
        source="elementary",
        backward={"x": "scale.y"},
    )
)
