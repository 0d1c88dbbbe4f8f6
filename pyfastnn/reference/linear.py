"""Reference of the linear layer, y = x @ w + b with row vectors, and of its three gradients."""

from __future__ import annotations

from functools import partial

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

# (n, i, o): empty dimensions, ones, primes, one off the row and column tiles, more than one k
# block, more than one panel.
_SHAPES = (
    (0, 3, 4), (3, 0, 4), (3, 4, 0), (1, 1, 1), (1, 7, 5), (2, 5, 3), (3, 13, 1), (4, 9, 15),
    (5, 17, 16), (7, 15, 17), (6, 16, 16), (9, 8, 23), (13, 31, 33), (14, 6, 25), (15, 33, 31),
    (17, 65, 63), (25, 23, 65), (31, 24, 10), (33, 63, 50), (63, 5, 64), (65, 127, 14),
    (2, 1031, 3), (23, 1030, 47),
)  # fmt: skip
SHAPES = tuple({"n": n, "i": i, "o": o} for n, i, o in _SHAPES)
_BENCH = ((1, 784, 128), (32, 64, 32), (100, 3072, 50), (128, 784, 256), (256, 1024, 1024))
BENCH = tuple({"n": n, "i": i, "o": o} for n, i, o in _BENCH)
SOURCE = "Rumelhart, Hinton, Williams 1986; row vectors, weights (in_features, out_features)"


def linear_forward(x: Array, w: Array, b: Array | None = None) -> tuple[Array]:
    """Return ``x @ w + b``."""
    y = x @ w
    return (y if b is None else y + b,)


def linear_dx(dy: Array, w: Array) -> tuple[Array]:
    """Return the gradient of the input, ``dy @ w.T``."""
    return (dy @ w.T,)


def linear_dw(x: Array, dy: Array) -> tuple[Array]:
    """Return the gradient of the weights, the sum over rows of outer products: ``x.T @ dy``."""
    return (x.T @ dy,)


def linear_db(dy: Array) -> tuple[Array]:
    """Return the gradient of the bias: column sums of ``dy``; all dimensions but the last are rows."""
    rows = int(np.prod(dy.shape[:-1], dtype=np.int64))
    return (np.ones(rows, dtype=dy.dtype) @ dy.reshape(rows, dy.shape[-1]),)


def _dot_bound(r: Rounding, length: int, gauge: Array) -> Array:
    """Bound a sum of ``length`` products and one more term; absolute values sum to ``gauge``."""
    bound: Array = np.asarray(2 * (length + 1) * (r.u * gauge + r.tiny))
    return bound


def forward_bound(r: Rounding, x: Array, w: Array, b: Array | None = None) -> tuple[Array]:
    """Bound the error of `linear_forward`."""
    gauge = np.abs(x) @ np.abs(w)
    return (_dot_bound(r, x.shape[1], gauge if b is None else gauge + np.abs(b)),)


def dx_bound(r: Rounding, dy: Array, w: Array) -> tuple[Array]:
    """Bound the error of `linear_dx`."""
    return (_dot_bound(r, w.shape[1], np.abs(dy) @ np.abs(w).T),)


def dw_bound(r: Rounding, x: Array, dy: Array) -> tuple[Array]:
    """Bound the error of `linear_dw`."""
    return (_dot_bound(r, len(x), np.abs(x).T @ np.abs(dy)),)


def _db_bound(r: Rounding, dy: Array) -> tuple[Array]:
    rows = int(np.prod(dy.shape[:-1], dtype=np.int64))
    return (_dot_bound(r, rows, np.abs(dy).sum(axis=tuple(range(dy.ndim - 1)))),)


def case(op: str, rng: Rng, dtype: DTypeLike, n: int, i: int, o: int) -> Sample:
    """Return random arguments of an op of this file."""
    arrays = {
        "x": normal(rng, dtype, n, i),
        "w": normal(rng, dtype, i, o),
        "b": normal(rng, dtype, o),
        "dy": normal(rng, dtype, n, o),
    }
    return Sample(label_of(n=n, i=i, o=o), {name: arrays[name] for name in _INPUTS[op]})


_INPUTS = {
    "linear_forward": ("x", "w", "b"),
    "linear_dx": ("dy", "w"),
    "linear_dw": ("x", "dy"),
    "linear_db": ("dy",),
}


def special(op: str, rng: Rng, dtype: DTypeLike) -> list[Sample]:
    """Return samples with values an op treats by rule."""
    nonfinite = dict(case(op, rng, dtype, n=9, i=11, o=19).inputs)
    for array in nonfinite.values():
        assert array is not None
        array.flat[:: array.size // 5 + 1] = 0
        array.flat[3] = np.nan
        array.flat[array.size // 2] = np.inf
    for name in ("w", "b"):  # keeps the whole result from becoming NaN
        if name in nonfinite:
            nonfinite[name] = normal(rng, dtype, *((11, 19) if name == "w" else (19,)))
    small = case(op, rng, dtype, n=5, i=6, o=7).inputs
    tiny = np.finfo(np.dtype(dtype)).tiny
    small = {name: None if a is None else (a * tiny**0.5).astype(dtype) for name, a in small.items()}
    samples = [Sample("nonfinite", nonfinite), Sample("subnormal", small)]
    if op == "linear_forward":
        for n, i, o in ((1, 5, 3), (13, 31, 33), (3, 0, 4)):
            inputs = {**case(op, rng, dtype, n=n, i=i, o=o).inputs, "b": None}
            samples.append(Sample("nobias_" + label_of(n=n, i=i, o=o), inputs))
    if op == "linear_db":  # the pixels of images; columns tall enough to be cut, of few and of many filters
        for shape in ((2, 3, 5, 7), (11,), (3, 40, 40, 3), (2, 50, 50, 17)):
            samples.append(Sample("images" + "x".join(map(str, shape)), {"dy": normal(rng, dtype, *shape)}))
    return samples


def errors(op: str, rng: Rng, dtype: DTypeLike) -> list[ErrorCase]:
    """Return calls an op must refuse."""
    good = case(op, rng, dtype, n=2, i=5, o=4).inputs
    last = [name for name in good if name != "b"][-1]
    cases = [ErrorCase(Sample("dtype", different_dtype(good, last)), TypeError, f"{op}: '{last}'.*int32")]
    rank = () if op == "linear_db" else (5,)
    cases.append(ErrorCase(Sample("rank", {**good, last: np.ones(rank, dtype)}), ValueError, f"{op}: '{last}'"))
    wrong = {
        "linear_forward": (
            "w",
            (3, 4),
            r"'w' has shape \(3, 4\), expected \(5, .*because 'x' has shape \(2, 5\)",
        ),
        "linear_dx": (
            "w",
            (5, 3),
            r"'w' has shape \(5, 3\), expected \(.*, 4\) because 'dy' has shape \(2, 4\)",
        ),
        "linear_dw": (
            "dy",
            (3, 4),
            r"'dy' has shape \(3, 4\), expected \(2, .*because 'x' has shape \(2, 5\)",
        ),
    }
    if op in wrong:
        name, shape, match = wrong[op]
        cases.append(
            ErrorCase(
                Sample("shape", {**good, name: normal(rng, dtype, *shape)}),
                ValueError,
                f"{op}: {match}",
            )
        )
    if op == "linear_forward":
        bad = {**good, "b": normal(rng, dtype, 3)}
        cases.append(
            ErrorCase(
                Sample("bias", bad),
                ValueError,
                r"linear_forward: 'b' has shape \(3,\), expected \(4,\)",
            )
        )
    return cases


def _product_cost(itemsize: int, n: int, i: int, o: int) -> Cost:
    return Cost(2.0 * n * i * o, itemsize * (n * i + i * o + n * o))


def _sum_cost(itemsize: int, n: int, i: int, o: int) -> Cost:
    return Cost(n * o, itemsize * (n * o + o))


for _name, _reference, _bound, _cost in (
    ("linear_forward", linear_forward, forward_bound, _product_cost),
    ("linear_dx", linear_dx, dx_bound, _product_cost),
    ("linear_dw", linear_dw, dw_bound, _product_cost),
    ("linear_db", linear_db, _db_bound, _sum_cost),
):
    register(
        OpSpec(
            name=_name,
            reference=_reference,
            bound=_bound,
            case=partial(case, _name),
            shapes=SHAPES,
            bench=BENCH,
            special=partial(special, _name),
            errors=partial(errors, _name),
            cost=_cost,
            source=SOURCE,
            backward={"x": "linear_dx.dx", "w": "linear_dw.dw", "b": "linear_db.db"}
            if _name == "linear_forward"
            else {},
        )
    )
