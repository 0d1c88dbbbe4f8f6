"""Reference of the maximum over the pieces of maxout units, forward and backward; the first NaN is the maximum."""

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
    awkward,
    different_dtype,
    label_of,
    normal,
    register,
)

SOURCE = "Goodfellow, Warde-Farley, Mirza, Courville, Bengio 2013"
SHAPES = tuple(
    {"n": n, "m": m, "k": k}
    for n, m, k in (
        (0, 5, 2), (1, 1, 1), (1, 7, 2), (2, 8, 2), (3, 33, 2), (5, 13, 3), (2, 17, 4), (7, 5, 5), (3, 9, 8),
        (2, 7, 16), (3, 5, 17), (2, 3, 40), (9, 131, 2), (4, 67, 3),
    )
)  # fmt: skip
BENCH = (
    {"n": 16, "m": 10, "k": 2},
    {"n": 128, "m": 128, "k": 2},
    {"n": 128, "m": 64, "k": 4},
    {"n": 4096, "m": 128, "k": 2},
)


def maxout_forward(x: Array) -> tuple[Array]:
    """Return the maximum over the last dimension."""
    return (x.max(axis=-1, initial=-np.inf),)


def maxout_backward(dy: Array, x: Array) -> tuple[Array]:
    """Return dy at the first maximum of each unit, else 0."""
    first = np.arange(x.shape[-1]) == x.argmax(axis=-1)[..., None] if x.size else np.zeros(x.shape, bool)
    return (np.where(first, dy[..., None], 0),)


def _exact(r: Rounding, *_: Array, **__: Array) -> tuple[Any, ...]:
    return (0.0,)


def _forward(rng: Rng, dtype: DTypeLike, n: int, m: int, k: int) -> Sample:
    return Sample(label_of(n=n, m=m, k=k), {"x": normal(rng, dtype, n, m, k)})


def _backward(rng: Rng, dtype: DTypeLike, n: int, m: int, k: int) -> Sample:
    arrays: dict[str, Array | None] = {"dy": normal(rng, dtype, n, m), "x": normal(rng, dtype, n, m, k)}
    return Sample(label_of(n=n, m=m, k=k), arrays)


def _samples(rng: Rng, dtype: DTypeLike, *, gradient: bool) -> list[Sample]:
    odd = awkward(dtype)
    samples = []
    for k in (2, 3, 19):
        units = 2 * len(odd)
        x = rng.choice(odd, (units, k))
        x[:6] = np.arange(6)[:, None]  # equal pieces
        x[6] = -np.inf
        x[7], x[8] = 0, np.where(np.arange(k) % 2, 0.0, -0.0)
        x[9, -1], x[10] = np.nan, np.nan
        dy = normal(rng, dtype, units)
        dy[3] = np.nan
        arrays: dict[str, Array | None] = {"dy": dy, "x": x} if gradient else {"x": x}
        samples.append(Sample(f"awkward_k{k}", arrays))
    shaped: dict[str, Array | None] = {"dy": normal(rng, dtype, 2, 3, 5)} if gradient else {}
    samples.append(Sample("four_dimensions", {**shaped, "x": normal(rng, dtype, 2, 3, 5, 4)}))
    return samples


def _errors(rng: Rng, dtype: DTypeLike, *, gradient: bool) -> list[ErrorCase]:
    op = "maxout_backward" if gradient else "maxout_forward"
    good = (_backward if gradient else _forward)(rng, dtype, n=4, m=5, k=2).inputs
    cases = [ErrorCase(Sample("dtype", different_dtype(good, "x")), TypeError, f"{op}: 'x'.*int32")]
    flat = Sample("shape", {**good, "x": normal(rng, dtype, 6)})
    cases.append(ErrorCase(flat, ValueError, rf"{op}: 'x' has shape \(6,\), expected"))
    if gradient:
        other = Sample("units", {**good, "x": normal(rng, dtype, 4, 6, 2)})
        match = rf"{op}: 'x' has shape \(4, 6, 2\), expected \(4, 5, \*\) because 'dy' has shape \(4, 5\)"
        cases.append(ErrorCase(other, ValueError, match))
    return cases


register(
    OpSpec(
        name="maxout_forward",
        reference=maxout_forward,
        bound=_exact,
        case=_forward,
        shapes=SHAPES,
        bench=BENCH,
        special=lambda rng, dtype: _samples(rng, dtype, gradient=False),
        errors=lambda rng, dtype: _errors(rng, dtype, gradient=False),
        cost=lambda itemsize, n, m, k: Cost(n * m * k, itemsize * n * m * (k + 1)),
        source=SOURCE,
        backward={"x": "maxout_backward.dx"},
    )
)
register(
    OpSpec(
        name="maxout_backward",
        reference=maxout_backward,
        bound=_exact,
        case=_backward,
        shapes=SHAPES,
        bench=BENCH,
        special=lambda rng, dtype: _samples(rng, dtype, gradient=True),
        errors=lambda rng, dtype: _errors(rng, dtype, gradient=True),
        cost=lambda itemsize, n, m, k: Cost(n * m * k, itemsize * n * m * (2 * k + 1)),
        source=SOURCE,
    )
)
