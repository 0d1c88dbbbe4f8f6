"""Reference of what is looked at while a network trains: the size of an update, and a summary of a layer's answers."""

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

SHAPES = tuple({"size": size} for size in SIZES)
BENCH = tuple({"size": size} for size in (2400, 150000, 1 << 20))
_GRIDS = (
    (0, 3), (3, 0), (1, 1), (1, 17), (17, 1), (2, 2), (5, 7), (13, 16), (16, 15), (9, 33), (65, 31), (127, 63),
    (500, 65), (3, 5000), (5000, 9),
)  # fmt: skip
GRID_SHAPES = tuple({"n": n, "c": c} for n, c in _GRIDS)
GRID_BENCH = tuple({"n": n, "c": c} for n, c in ((64, 128), (1024, 512)))
_U64 = 2.0**-53  # sums are made and returned in float64
_BINS = 24


def sum_of_squared_differences(a: Array, b: Array) -> tuple[Array]:
    """Return the sum of ``(a - b)**2``."""
    return (np.full(1, np.square(a - b).sum()),)


def activation_summary(x: Array, *, low: float = 0.0, high: float = 0.0) -> tuple[Array]:
    """Return mean, deviation, least, largest, share of dead units, share of items beyond the borders, and a histogram."""
    size = x.dtype.type(x.size)
    mean = np.divide(x.sum(), size)
    deviation = np.sqrt(np.divide(np.square(x - mean).sum(), size))
    least, largest = np.fmin.reduce(x, None, initial=np.inf), np.fmax.reduce(x, None, initial=-np.inf)
    units = x.reshape(-1, x.shape[-1]) if x.size else x
    dead = np.mean((units == 0).all(axis=0)) if x.size else 0.0
    beyond = np.mean((x <= low) | (x >= high)) if x.size and low < high else 0.0
    counts = np.histogram(_places(x, least, largest), _BINS, (0, _BINS))[0]
    return (np.array([mean, deviation, least, largest, dead, beyond, *counts], x.dtype),)


def _places(x: Array, least: Any, largest: Any) -> Array:
    """Return where items lie between the least and the largest in widths of a bin; nothing if those are no borders."""
    width = (largest - least) / _BINS
    known = x[~np.isnan(x)]
    if not np.isfinite(np.float64(largest) - np.float64(least)):
        return known[:0]
    return np.minimum((known - least) / width, _BINS) if width > 0 else 0 * known


def _differences_bound(r: Rounding, a: Array, b: Array) -> tuple[Any]:
    """Differences are rounded once before they are squared."""
    total = np.square(a - b).sum()
    return ((a.size + 8) * _U64 * total + (a.size + 1) * np.finfo(np.float64).smallest_subnormal,)


def _summary_bound(r: Rounding, x: Array, *, low: float = 0.0, high: float = 0.0) -> tuple[Any]:
    """Bound sums as far as roundings reach; a count by the items so close to a border of its bin that rounding may move it."""
    (value,) = activation_summary(x, low=low, high=high)
    n, tiny = max(x.size, 1), np.finfo(np.float64).smallest_subnormal
    u = (n + 8) * _U64
    mean = u * np.abs(x).sum() / n + tiny
    spread = np.abs(x - value[0])
    variance = u * np.square(spread).mean() + 2 * mean * spread.mean() + mean**2 + tiny if x.size else 0.0
    exact = np.square(value[1])
    deviation = np.sqrt(exact + variance) - np.sqrt(np.maximum(exact - variance, 0)) + 4 * _U64 * value[1]
    places = _places(x, value[2], value[3])
    near = np.abs(places - np.rint(places)) <= 64 * _BINS * _U64
    border = np.rint(places[near]).astype(int)
    border = border[(border > 0) & (border < _BINS)]  # nothing leaves the histogram by its ends
    count = [np.sum((border == k) | (border == k + 1)) for k in range(_BINS)]
    return (np.array([mean, deviation, 0, 0, 2 * _U64, 2 * _U64, *count]),)


def _differences_case(rng: Rng, dtype: DTypeLike, size: int) -> Sample:
    a = normal(rng, dtype, size)
    return Sample(label_of(size=size), {"a": a, "b": (a + normal(rng, dtype, size)).astype(dtype)})


def _summary_case(rng: Rng, dtype: DTypeLike, n: int, c: int) -> Sample:
    """Return outputs of a ReLU, some units of which are dead."""
    x = np.maximum(normal(rng, dtype, n, c), 0)
    x[:, ::3] = 0
    return Sample(label_of(n=n, c=c), {"x": x})


def _differences_special(rng: Rng, dtype: DTypeLike) -> list[Sample]:
    good = _differences_case(rng, dtype, 37).inputs
    a = good["a"]
    assert a is not None
    bad, infinite = a.copy(), a.copy()
    bad[11], infinite[3] = np.nan, -np.inf
    return [
        Sample("same", {"a": a, "b": a.copy()}),
        Sample("four_dimensions", {"a": normal(rng, dtype, 2, 3, 4, 5), "b": normal(rng, dtype, 2, 3, 4, 5)}),
        Sample("nan", {"a": bad, "b": a}),
        Sample("infinite", {"a": a, "b": infinite}),
        Sample("infinite_both", {"a": infinite, "b": infinite.copy()}),
        Sample("small", {"a": a * 1e-15, "b": a * 2e-15}),
    ]


def _summary_special(rng: Rng, dtype: DTypeLike) -> list[Sample]:
    x = normal(rng, dtype, 33, 21)
    bad, infinite, negative = x.copy(), x.copy(), x.copy()
    bad[3, 4], infinite[5, 17], negative[6, 18] = np.nan, np.inf, -np.inf
    zeros = np.zeros((19, 6), dtype)
    zeros[::2] *= -1
    return [
        Sample("tanh", {"x": np.tanh(3 * x)}, {"low": -0.99, "high": 0.99}),
        Sample("four_dimensions", {"x": np.maximum(normal(rng, dtype, 3, 5, 7, 11), 0)}, {"low": -1.0, "high": 0.5}),
        Sample("one_dimension", {"x": normal(rng, dtype, 21)}),
        Sample("zeros", {"x": zeros}),
        Sample("equal", {"x": np.full((9, 5), 2.5, dtype)}, {"low": 0.0, "high": 2.5}),
        Sample("grid", {"x": np.arange(25, dtype=dtype).repeat(15).reshape(75, 5)}),
        Sample("far_from_zero", {"x": (1000 + x).astype(dtype)}),
        Sample("nan", {"x": bad}, {"low": -1.0, "high": 1.0}),
        Sample("all_nan", {"x": np.full((5, 3), np.nan, dtype)}),
        Sample("infinite", {"x": infinite}, {"low": -1.0, "high": 1.0}),
        Sample("negative_infinite", {"x": negative}),
    ]


def _differences_errors(rng: Rng, dtype: DTypeLike) -> list[ErrorCase]:
    good = _differences_case(rng, dtype, 5)
    op = "sum_of_squared_differences"
    return [
        ErrorCase(Sample("dtype", different_dtype(good.inputs, "a")), TypeError, f"{op}: 'a'.*int32"),
        ErrorCase(
            Sample("shape", {**good.inputs, "b": normal(rng, dtype, 4)}),
            ValueError,
            rf"{op}: 'b' has shape \(4,\), expected \(5,\) because 'a' has shape \(5,\)",
        ),
    ]


def _summary_errors(rng: Rng, dtype: DTypeLike) -> list[ErrorCase]:
    good = _summary_case(rng, dtype, 5, 3)
    return [ErrorCase(Sample("dtype", different_dtype(good.inputs, "x")), TypeError, "activation_summary: 'x'.*int32")]


register(
    OpSpec(
        name="sum_of_squared_differences",
        reference=sum_of_squared_differences,
        bound=_differences_bound,
        case=_differences_case,
        shapes=SHAPES,
        bench=BENCH,
        special=_differences_special,
        errors=_differences_errors,
        cost=lambda itemsize, size: Cost(3 * size, 2 * itemsize * size),
        source="the square of the Euclidean distance",
    )
)
register(
    OpSpec(
        name="activation_summary",
        reference=activation_summary,
        bound=_summary_bound,
        case=_summary_case,
        shapes=GRID_SHAPES,
        bench=GRID_BENCH,
        special=_summary_special,
        errors=_summary_errors,
        cost=lambda itemsize, n, c: Cost(8 * n * c, itemsize * n * c),
        source="Glorot and Bengio 2010, figures 2 and 4; CS231n, Training Neural Networks, Part I",
    )
)
