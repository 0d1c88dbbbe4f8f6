"""Reference of the rectifier with learned slopes; NaN propagates."""

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
    awkward,
    different_dtype,
    label_of,
    normal,
    register,
)

SOURCE = "He, Zhang, Ren, Sun 2015, Delving Deep into Rectifiers"
SHAPES = tuple(
    {"n": n, "c": c}
    for n, c in (
        (0, 5), (1, 1), (1, 7), (2, 16), (3, 3), (5, 31), (4, 33), (17, 2), (7, 65), (130, 4), (300, 1),
        (40, 15), (9, 129), (1100, 17),
    )
)  # fmt: skip
BENCH = ({"n": 64, "c": 5}, {"n": 256, "c": 128}, {"n": 8192, "c": 128})


def prelu_forward(x: Array, slope: Array) -> tuple[Array]:
    """Return x where positive, else slope * x; a slope for each item of the last dimension."""
    return (np.where(x > 0, x, slope * x),)


def prelu_backward(dy: Array, x: Array, slope: Array) -> tuple[Array, Array]:
    """Return the gradients of x and of the slopes, dy * x summed over the rows where x <= 0."""
    dx = np.where(x > 0, dy, slope * dy)
    terms = np.where(x > 0, 0, dy * x)
    return dx, terms.reshape(-1, terms.shape[-1]).sum(axis=0)


def _forward_bound(r: Rounding, x: Array, slope: Array) -> tuple[Any, ...]:
    return (np.where(x > 0, 0, r.relative(1, slope * x)),)


def _backward_bound(r: Rounding, dy: Array, x: Array, slope: Array) -> tuple[Any, ...]:
    terms = np.abs(np.where(x > 0, 0, dy * x)).reshape(-1, x.shape[-1])
    n = len(terms)
    sums = 1.001 * (n + 1) * r.u * terms.sum(axis=0) + n * r.tiny
    return np.where(x > 0, 0, r.relative(1, slope * dy)), sums


_INPUTS = {"prelu_forward": ("x", "slope"), "prelu_backward": ("dy", "x", "slope")}


def _sample(op: str, label: str, **arrays: Array) -> Sample:
    return Sample(label, {name: arrays[name] for name in _INPUTS[op]})


def _arrays(rng: Rng, dtype: DTypeLike, *shape: int) -> dict[str, Array]:
    slope = (0.25 + 0.5 * normal(rng, dtype, shape[-1])).astype(dtype)
    return {"x": normal(rng, dtype, *shape), "dy": normal(rng, dtype, *shape), "slope": slope}


def _case(op: str, rng: Rng, dtype: DTypeLike, n: int, c: int) -> Sample:
    return _sample(op, label_of(n=n, c=c), **_arrays(rng, dtype, n, c))


def _special(op: str, rng: Rng, dtype: DTypeLike) -> list[Sample]:
    odd = awkward(dtype)
    rows = _arrays(rng, dtype, 3, len(odd))
    gradients = {**_arrays(rng, dtype, 3, len(odd)), "dy": np.stack([odd, odd, odd])}
    rows["x"][1] = odd
    # No overflow by accident of the random numbers: the largest numbers meet slopes and gradients up to 1.
    rows["slope"] = np.clip(rows["slope"], -1, 1)
    rows["dy"] = np.clip(rows["dy"], -1, 1)
    gradients["slope"] = np.clip(gradients["slope"], -1, 1)
    gradients["x"] = np.clip(gradients["x"], -0.3, 0.3)
    slopes = {**_arrays(rng, dtype, 2, len(odd)), "slope": odd}
    return [
        _sample(op, "awkward_x", **rows),
        _sample(op, "awkward_gradient", **gradients),
        _sample(op, "awkward_slope", **slopes),
        _sample(op, "images", **_arrays(rng, dtype, 2, 3, 4, 5)),
        _sample(op, "vector", **_arrays(rng, dtype, 11)),
    ]


def _errors(op: str, rng: Rng, dtype: DTypeLike) -> list[ErrorCase]:
    good = _case(op, rng, dtype, n=4, c=5).inputs
    first = next(iter(good))
    match = rf"{op}: 'slope' has shape \(6,\), expected \(5,\) because '{first}' has shape \(4, 5\)"
    return [
        ErrorCase(Sample("dtype", different_dtype(good, "slope")), TypeError, f"{op}: 'slope'.*int32"),
        ErrorCase(Sample("shape", {**good, "slope": normal(rng, dtype, 6)}), ValueError, match),
    ]


for _name, _reference, _bound, _passes, _flop in (
    ("prelu_forward", prelu_forward, _forward_bound, 2, 2),
    ("prelu_backward", prelu_backward, _backward_bound, 3, 5),
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
            backward={"x": "prelu_backward.dx", "slope": "prelu_backward.dslope"} if _name == "prelu_forward" else {},
        )
    )
