"""Reference of the minibatch gather from a sparse matrix in compressed rows (CSR)."""

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
    label_of,
    register,
)

_SHAPES = (
    (1, 1, 1), (3, 0, 5), (4, 3, 0), (5, 2, 1), (7, 9, 3), (11, 5, 15), (13, 17, 17), (9, 4, 31), (6, 8, 65), (31, 64, 127),
)  # fmt: skip
SHAPES = tuple({"m": m, "n": n, "f": f} for m, n, f in _SHAPES)
BENCH = ({"m": 5000, "n": 128, "f": 2000}, {"m": 20000, "n": 128, "f": 20000})
SHARE = 0.05
"""Of the items of a test matrix that are stored, at least one a row."""


def gather_csr(
    data: Array, columns: Array, starts: Array, index: Array, scale: Array | None = None, *, features: float = 0
) -> tuple[Array]:
    """Return rows ``index`` of the matrix, dense, each column times its scale; see `terms` for what is left out."""
    x, _, _ = terms(data, columns, starts, index, int(features))
    # After the sum, where the kernel scales each item: the same in exact numbers.
    return (x if scale is None else np.where(x == 0, x, x * scale),)


def terms(data: Array, columns: Array, starts: Array, index: Array, features: int) -> tuple[Array, Array, Array]:
    """Return the dense rows, the sums of absolute values, and how many items each of them has.

    Items of one column are added up; columns outside [0, features) are left out, rows that do not exist are NaN.
    """
    stored = min(data.size, columns.size)
    x = np.zeros((len(index), features), np.result_type(data.dtype, np.float64))
    size, count = np.zeros_like(x), np.zeros(x.shape)
    for i, row in enumerate(index.tolist()):
        if not 0 <= row < len(starts) - 1:
            x[i] = np.nan
            continue
        first, last = (min(max(int(p), 0), stored) for p in starts[row : row + 2])
        column, value = columns[first:last], data[first:last]
        known = (column >= 0) & (column < features)
        np.add.at(x[i], column[known], value[known])
        np.add.at(size[i], column[known], np.abs(value[known]))
        np.add.at(count[i], column[known], 1)
    return x, size, count


def _bound(
    r: Rounding,
    data: Array,
    columns: Array,
    starts: Array,
    index: Array,
    scale: Array | None = None,
    *,
    features: float = 0,
) -> tuple[Any]:
    _, size, count = terms(data, columns, starts, index, int(features))
    # k items of a column need k - 1 roundings, the first is added to an exact zero; and one more for each product.
    each = count - 1 if scale is None else count
    size = size if scale is None else size * np.abs(scale)
    return (np.where(each > 0, r.relative(1, size) * np.maximum(each, 0), 0),)


def _matrix(rng: Rng, dtype: DTypeLike, m: int, f: int, each: int) -> dict[str, Array | None]:
    """Return m rows of ``each`` items in different columns, a third of the rows with fewer."""
    lengths = np.where(rng.random(m) < 0.3, rng.integers(0, each + 1, m), each)
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    columns = np.empty(int(starts[-1]), np.int64)
    for row in range(m):
        first, last = starts[row : row + 2]
        # Distinct columns in rising order without drawing a permutation of all of them.
        columns[first:last] = np.sort(rng.permutation(min(f, 4 * each))[: last - first]) * max(1, f // max(1, 4 * each))
    data = rng.standard_normal(len(columns)).astype(dtype)
    return {"data": data, "columns": columns, "starts": starts}


def _case(rng: Rng, dtype: DTypeLike, m: int, n: int, f: int) -> Sample:
    each = min(f, max(1, int(SHARE * f)))
    inputs = {**_matrix(rng, dtype, m, f, each), "index": rng.integers(0, m, n), "scale": None}
    return Sample(label_of(m=m, n=n, f=f), inputs, {"features": float(f)})


def _special(rng: Rng, dtype: DTypeLike) -> list[Sample]:
    inputs = _matrix(rng, dtype, 9, 40, 20)
    inputs |= {"index": np.array([3, 0, 8, 3, 5]), "scale": None}
    columns, starts = inputs["columns"], inputs["starts"]
    assert columns is not None and starts is not None
    rough = awkward(dtype)
    whole = {"features": 40.0}
    torn = starts.copy()
    torn[3], torn[4], torn[9] = -5, 2**62, 7
    alien = columns.copy()
    alien[::3], alien[1::7] = 40, -1
    return [
        Sample("half_full", inputs, whole),
        Sample("twice_the_same_column", {**inputs, "columns": columns // 4}, whole),
        Sample("columns_outside", {**inputs, "columns": alien}, whole),
        Sample("starts_outside", {**inputs, "starts": torn}, whole),
        Sample("scaled", {**inputs, "scale": rng.uniform(0.01, 2, 40).astype(dtype)}, whole),
        Sample("scaled_twice_the_same_column", {
            **inputs, "columns": columns // 4, "scale": rng.standard_normal(40).astype(dtype)
        }, whole),
        Sample("rows_outside", {**inputs, "index": np.array([9, -1, 2, 2**62, 0])}, whole),
        Sample("no_rows", {**inputs, "starts": starts[:1], "index": np.array([0, 1])}, whole),
        Sample("one_row_of_awkward_values", {
            "data": rough,
            "columns": np.arange(len(rough)),
            "starts": np.array([0, len(rough)]),
            "index": np.array([0, 0]),
            "scale": None,
        }, {"features": float(len(rough))}),
    ]  # fmt: skip


def _errors(rng: Rng, dtype: DTypeLike) -> list[ErrorCase]:
    good = _case(rng, dtype, m=4, n=3, f=50).inputs
    columns, index = good["columns"], good["index"]
    assert columns is not None and index is not None
    other = np.float64 if np.dtype(dtype) == np.float32 else np.float32
    return [
        ErrorCase(Sample("columns_short", {**good, "columns": columns[:-1]}), ValueError, "gather_csr: 'columns' has shape"),
        ErrorCase(Sample("columns_int32", {**good, "columns": columns.astype(np.int32)}), TypeError, "'columns'.*int32"),
        ErrorCase(
            Sample("scale_short", {**good, "scale": np.ones(49, dtype)}),
            ValueError,
            r"gather_csr: 'scale' has shape \(49,\), expected 0 \(features\)",
        ),
        ErrorCase(Sample("index_float", {**good, "index": index.astype(other)}), TypeError, "gather_csr: 'index'.*float"),
    ]  # fmt: skip


register(
    OpSpec(
        name="gather_csr",
        reference=gather_csr,
        bound=_bound,
        case=_case,
        shapes=SHAPES,
        bench=BENCH,
        special=_special,
        errors=_errors,
        cost=lambda itemsize, m, n, f: Cost(
            max(1, int(SHARE * f)) * n, itemsize * n * f + n * max(1, int(SHARE * f)) * (itemsize + 8)
        ),
        source="elementary",
    )
)
