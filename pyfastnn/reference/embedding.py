"""Reference of a table of vectors looked up by whole numbers, and of the gradient of the table."""

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

_SHAPES = (
    (3, 4, 2), (1, 1, 1), (5, 0, 3), (4, 3, 0), (7, 9, 5), (2, 33, 16), (11, 5, 17), (13, 31, 31), (9, 17, 65), (101, 63, 33), (30, 65, 7),
)  # fmt: skip
SHAPES = tuple({"v": v, "n": n, "d": d} for v, n, d in _SHAPES)
BENCH = tuple({"v": v, "n": n, "d": d} for v, n, d in ((1000, 2048, 64), (10000, 8192, 128), (50000, 4096, 64)))
SOURCE = "Bengio, Ducharme, Vincent, Jauvin 2003, equation 1"


def embedding_forward(table: Array, index: Array) -> tuple[Array]:
    """Return the row of ``table`` for each number; NaN where there is no such row."""
    known = (index >= 0) & (index < len(table))
    return (np.where(known[..., None], table[np.where(known, index, 0)], np.nan),)


def embedding_dw(dy: Array, index: Array, *, rows: float = 1) -> tuple[Array]:
    """Return for each row of the table the sum of the ``dy`` of its lookups."""
    found = np.zeros((int(rows), dy.shape[-1]), dy.dtype)
    for k in range(int(rows)):
        found[k] = dy[index == k].sum(axis=0)
    return (found,)


def _dw_bound(r: Rounding, dy: Array, index: Array, *, rows: float = 1) -> tuple[Any]:
    (total,) = embedding_dw(np.abs(dy), index, rows=rows)
    count = np.array([np.count_nonzero(index == k) for k in range(int(rows))])
    return (1.001 * r.u * np.maximum(count - 1, 0)[:, None] * total,)


def _sample(op: str, label: str, rng: Rng, dtype: DTypeLike, v: int, d: int, *shape: int) -> Sample:
    index = rng.integers(0, v, shape)
    if op == "embedding_forward":
        return Sample(label, {"table": normal(rng, dtype, v, d), "index": index})
    return Sample(label, {"dy": normal(rng, dtype, *shape, d), "index": index}, {"rows": v})


def _case(op: str, rng: Rng, dtype: DTypeLike, v: int, n: int, d: int) -> Sample:
    return _sample(op, label_of(v=v, n=n, d=d), rng, dtype, v, d, n)


def _special(op: str, rng: Rng, dtype: DTypeLike) -> list[Sample]:
    values = awkward(dtype)
    one = _sample(op, "awkward", rng, dtype, 4, len(values), 3)
    float_name = "table" if op == "embedding_forward" else "dy"
    spoiled = one.inputs[float_name]
    assert spoiled is not None
    spoiled[:] = 1
    spoiled[1] = values
    index = np.array([1, 3, 1] if op == "embedding_forward" else [2, 0, 3])
    return [
        Sample("awkward", {float_name: spoiled, "index": index}, one.attrs),
        _sample(op, "sentences", rng, dtype, 12, 10, 5, 3),
        _sample(op, "three_dimensions", rng, dtype, 9, 3, 2, 3, 4),
        _sample(op, "one_row_often", rng, dtype, 1, 9, 200),
    ]


def _errors(op: str, rng: Rng, dtype: DTypeLike) -> list[ErrorCase]:
    good = _sample(op, "good", rng, dtype, 1 if op == "embedding_dw" else 4, 5, 3).inputs
    first = next(iter(good))
    index = np.array([0, 4, 1])
    return [
        ErrorCase(Sample("dtype", different_dtype(good, first)), TypeError, f"{op}: '{first}'.*int32"),
        ErrorCase(Sample("index_high", {**good, "index": index}), ValueError, f"{op}: 'index' holds 4, expected whole"),
        ErrorCase(Sample("index_negative", {**good, "index": index - 1}), ValueError, f"{op}: 'index' holds -1"),
        ErrorCase(Sample("index_int32", {**good, "index": index.astype(np.int32)}), TypeError, f"{op}: 'index'.*int32"),
    ]


register(
    OpSpec(
        name="embedding_forward",
        reference=embedding_forward,
        bound=lambda r, table, index: (0.0,),
        case=lambda rng, dtype, **sizes: _case("embedding_forward", rng, dtype, **sizes),
        shapes=SHAPES,
        bench=BENCH,
        special=lambda rng, dtype: _special("embedding_forward", rng, dtype),
        errors=lambda rng, dtype: _errors("embedding_forward", rng, dtype),
        cost=lambda itemsize, v, n, d: Cost(0, 2 * itemsize * n * d + 8 * n),
        source=SOURCE,
        backward={"table": "embedding_dw.dtable"},
    )
)
register(
    OpSpec(
        name="embedding_dw",
        reference=embedding_dw,
        bound=_dw_bound,
        case=lambda rng, dtype, **sizes: _case("embedding_dw", rng, dtype, **sizes),
        shapes=SHAPES,
        bench=BENCH,
        special=lambda rng, dtype: _special("embedding_dw", rng, dtype),
        errors=lambda rng, dtype: _errors("embedding_dw", rng, dtype),
        cost=lambda itemsize, v, n, d: Cost(n * d, itemsize * (n + v) * d + 8 * n),
        source=SOURCE,
    )
)
