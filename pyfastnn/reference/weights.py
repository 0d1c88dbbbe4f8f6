"""Reference of what stands around an update rule: the L1 penalty, the bound on norms, the running mean of weights."""

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
_GRIDS = (
    (0, 3), (3, 0), (1, 1), (1, 17), (17, 1), (2, 2), (5, 7), (7, 5), (13, 16), (16, 15), (9, 33), (31, 10),
    (65, 31), (127, 63), (500, 65), (40, 1025), (5000, 9),
)  # fmt: skip
GRID_SHAPES = tuple({"rows": rows, "o": o} for rows, o in _GRIDS)
GRID_BENCH = tuple({"rows": rows, "o": o} for rows, o in ((64, 32), (784, 128), (1024, 1024)))
_U64 = 2.0**-53  # sums are made in float64


def l1_penalty(w: Array, *, l1: float) -> tuple[Array]:
    """Return ``l1 * sum(abs(w))``."""
    return (np.full(1, np.abs(w).sum() * l1),)


def l1_gradient(dp: Array, p: Array, *, l1: float) -> tuple[Array]:
    """Return dp with the gradient of the penalty added, ``l1 * sign(p)``."""
    return (dp + l1 * np.sign(p),)


def max_norm(w: Array, *, max_norm: float) -> tuple[Array]:
    """Return w with every column longer than max_norm scaled to that length."""
    norms = np.sqrt(np.square(w).sum(axis=tuple(range(w.ndim - 1))))
    return (np.where(norms > max_norm, w * (max_norm / norms), w),)


def ema_step(ema: Array, p: Array, *, ema_decay: float) -> tuple[Array]:
    """Return the mean moved towards p by the share ``1 - ema_decay``."""
    return (ema + (1 - ema_decay) * (p - ema),)


def _penalty_bound(r: Rounding, w: Array, *, l1: float) -> tuple[Any]:
    return ((w.size + 4) * _U64 * np.abs(w).sum() * abs(l1) + np.finfo(np.float64).smallest_subnormal,)


def _gradient_bound(r: Rounding, dp: Array, p: Array, *, l1: float) -> tuple[Any]:
    return (r.relative(2, np.abs(dp) + abs(l1)) + r.tiny,)


def _max_norm_bound(r: Rounding, w: Array, *, max_norm: float) -> tuple[Any]:
    """Bound the product and its factor, a quotient in float64 rounded once.

    A column within the error of its norm from the bound may be scaled or not: the factor is 1 either way, up to that error.
    """
    rows = w.size // max(w.shape[-1], 1)
    return (r.relative(3, w) + 2 * (rows + 4) * _U64 * np.abs(w) + r.tiny * (np.abs(w) + 1),)


def _ema_bound(r: Rounding, ema: Array, p: Array, *, ema_decay: float) -> tuple[Any]:
    share = abs(1 - ema_decay)
    return (r.relative(1, ema) + r.u * share * 4.01 * (np.abs(p) + np.abs(ema)) + 2 * r.tiny,)


def _penalty_case(rng: Rng, dtype: DTypeLike, size: int) -> Sample:
    return Sample(label_of(size=size), {"w": normal(rng, dtype, size)}, {}, {"l1": 0.01})


def _gradient_case(rng: Rng, dtype: DTypeLike, size: int) -> Sample:
    inputs = {"dp": normal(rng, dtype, size), "p": normal(rng, dtype, size)}
    return Sample(label_of(size=size), inputs, {}, {"l1": 0.3})


def _max_norm_case(rng: Rng, dtype: DTypeLike, rows: int, o: int) -> Sample:
    """About half of the columns are longer than the bound."""
    bound = max(float(np.sqrt(rows)), 0.5)
    return Sample(label_of(rows=rows, o=o), {"w": normal(rng, dtype, rows, o)}, {}, {"max_norm": bound})


def _ema_case(rng: Rng, dtype: DTypeLike, size: int) -> Sample:
    inputs = {"ema": normal(rng, dtype, size), "p": normal(rng, dtype, size)}
    return Sample(label_of(size=size), inputs, {}, {"ema_decay": 0.9})


def _penalty_special(rng: Rng, dtype: DTypeLike) -> list[Sample]:
    bad = normal(rng, dtype, 17)
    bad[9] = np.nan
    infinite = normal(rng, dtype, 17)
    infinite[4] = -np.inf
    return [
        Sample("two_dimensions", {"w": normal(rng, dtype, 7, 5)}, {}, {"l1": 0.3}),
        Sample("no_penalty", {"w": normal(rng, dtype, 7)}, {}, {"l1": 0.0}),
        Sample("negative", {"w": -np.abs(normal(rng, dtype, 29))}, {}, {"l1": 0.3}),
        Sample("nan", {"w": bad}, {}, {"l1": 0.3}),
        Sample("infinite", {"w": infinite}, {}, {"l1": 0.3}),
    ]


def _gradient_special(rng: Rng, dtype: DTypeLike) -> list[Sample]:
    values = awkward(dtype)
    zeros = np.zeros(19, dtype)
    zeros[::2] *= -1
    return [
        Sample("two_dimensions", {"dp": normal(rng, dtype, 9, 7), "p": normal(rng, dtype, 9, 7)}, {}, {"l1": 0.01}),
        Sample("awkward_gradients", {"dp": values, "p": normal(rng, dtype, values.size)}, {}, {"l1": 0.5}),
        Sample("awkward_weights", {"dp": normal(rng, dtype, values.size), "p": values}, {}, {"l1": 0.5}),
        Sample("zero_weights", {"dp": normal(rng, dtype, 19), "p": zeros}, {}, {"l1": 0.5}),
        Sample("no_penalty", {"dp": normal(rng, dtype, 7), "p": normal(rng, dtype, 7)}, {}, {"l1": 0.0}),
    ]


def _max_norm_special(rng: Rng, dtype: DTypeLike) -> list[Sample]:
    bad = normal(rng, dtype, 9, 21)
    bad[3, 4], bad[5, 17], bad[6, 18] = np.nan, np.inf, -np.inf
    spread = normal(rng, dtype, 12, 19) * np.logspace(-6, 6, 19).astype(dtype)
    return [
        Sample("nothing_to_do", {"w": normal(rng, dtype, 8, 19)}, {}, {"max_norm": 1e3}),
        Sample("all_long", {"w": normal(rng, dtype, 8, 19)}, {}, {"max_norm": 1e-3}),
        Sample("four_dimensions", {"w": normal(rng, dtype, 3, 3, 4, 11)}, {}, {"max_norm": 5.0}),
        Sample("one_dimension", {"w": normal(rng, dtype, 21)}, {}, {"max_norm": 0.5}),
        Sample("zeros", {"w": np.zeros((5, 9), dtype)}, {}, {"max_norm": 1.0}),
        Sample("spread", {"w": spread}, {}, {"max_norm": 2.0}),
        Sample("nonfinite", {"w": bad}, {}, {"max_norm": 2.0}),
    ]


def _ema_special(rng: Rng, dtype: DTypeLike) -> list[Sample]:
    values = awkward(dtype)
    same = normal(rng, dtype, 33)
    return [
        Sample(
            "two_dimensions", {"ema": normal(rng, dtype, 9, 7), "p": normal(rng, dtype, 9, 7)}, {}, {"ema_decay": 0.5}
        ),
        Sample("same", {"ema": same, "p": same.copy()}, {}, {"ema_decay": 0.999}),
        Sample("no_memory", {"ema": normal(rng, dtype, 33), "p": normal(rng, dtype, 33)}, {}, {"ema_decay": 0.0}),
        Sample("awkward_weights", {"ema": normal(rng, dtype, values.size), "p": values}, {}, {"ema_decay": 0.999}),
        Sample("long_memory", {"ema": normal(rng, dtype, 33), "p": normal(rng, dtype, 33)}, {}, {"ema_decay": 0.9999}),
    ]


def _errors(op: str, good: Any, first: str, second: str, rng: Rng, dtype: DTypeLike) -> list[ErrorCase]:
    sample = good(rng, dtype, 5) if op != "max_norm" else good(rng, dtype, 5, 4)
    bad = Sample("dtype", different_dtype(sample.inputs, first), {}, sample.hyper)
    cases = [ErrorCase(bad, TypeError, f"{op}: '{first}'.*int32")]
    if second:
        match = rf"{op}: '{second}' has shape \(4,\), expected \(5,\) because '{first}' has shape \(5,\)"
        shape = Sample("shape", {**sample.inputs, second: normal(rng, dtype, 4)}, {}, sample.hyper)
        cases.append(ErrorCase(shape, ValueError, match))
    return cases


register(
    OpSpec(
        name="l1_penalty",
        reference=l1_penalty,
        bound=_penalty_bound,
        case=_penalty_case,
        shapes=SHAPES,
        bench=BENCH,
        special=_penalty_special,
        errors=partial(_errors, "l1_penalty", _penalty_case, "w", ""),
        cost=lambda itemsize, size: Cost(2 * size, itemsize * size),
        source="Tibshirani 1996",
    )
)
register(
    OpSpec(
        name="l1_gradient",
        reference=l1_gradient,
        bound=_gradient_bound,
        case=_gradient_case,
        shapes=SHAPES,
        bench=BENCH,
        special=_gradient_special,
        errors=partial(_errors, "l1_gradient", _gradient_case, "dp", "p"),
        cost=lambda itemsize, size: Cost(2 * size, 3 * itemsize * size),
        source="Tibshirani 1996",
    )
)
register(
    OpSpec(
        name="max_norm",
        reference=max_norm,
        bound=_max_norm_bound,
        case=_max_norm_case,
        shapes=GRID_SHAPES,
        bench=GRID_BENCH,
        special=_max_norm_special,
        errors=partial(_errors, "max_norm", _max_norm_case, "w", ""),
        cost=lambda itemsize, rows, o: Cost(3 * rows * o, 2 * itemsize * rows * o),
        source="Srivastava et al. 2014, section 5.1",
    )
)
register(
    OpSpec(
        name="ema_step",
        reference=ema_step,
        bound=_ema_bound,
        case=_ema_case,
        shapes=SHAPES,
        bench=BENCH,
        special=_ema_special,
        errors=partial(_errors, "ema_step", _ema_case, "ema", "p"),
        cost=lambda itemsize, size: Cost(3 * size, 3 * itemsize * size),
        source="Polyak, Juditsky 1992; Tarvainen, Valpola 2017",
    )
)
