"""Dense minibatches of a sparse matrix, inside a plan and by the function."""

from __future__ import annotations

import re

import numpy as np
import pytest

from pyfastnn import functional as F
from pyfastnn.backends.cpu import CpuPlan
from pyfastnn.graph import BATCH, Builder
from pyfastnn.testing import assert_same_bits, rng_of

RNG = rng_of("csr")
DENSE = np.where(RNG.random((30, 17)) < 0.2, RNG.standard_normal((30, 17)), 0.0)


def compressed(dense: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rows, columns = np.nonzero(dense)
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(dense)))]).astype(np.int64)
    return dense[rows, columns], columns.astype(np.int64), starts


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_of_a_sparse_matrix(dtype):
    data, columns, starts = compressed(DENSE.astype(dtype))
    index = RNG.integers(0, 30, 50)
    assert_same_bits(F.gather_csr(data, columns, starts, index, features=17), DENSE.astype(dtype)[index])
    out = np.full((50, 20), np.nan, dtype)
    assert F.gather_csr(data, columns, starts, index, None, 20, out=out) is out
    assert_same_bits(out[:, :17].copy(), DENSE.astype(dtype)[index])
    assert (out[:, 17:] == 0).all()
    scale = RNG.uniform(0.1, 3, 17).astype(dtype)
    assert_same_bits(F.gather_csr(data, columns, starts, index, scale, 17), DENSE.astype(dtype)[index] * scale)
    assert F.gather_csr(data, columns, starts, index, scale=scale).shape == (50, 17)


def test_a_plan_trains_on_them():
    """All sizes are known only when the arrays are bound; the rows advance with the batch."""
    builder = Builder()
    data, columns, starts = (
        builder.value(n, (size,), d)
        for n, size, d in (("data", "z", "T"), ("columns", "z", "i64"), ("starts", "r", "i64"))
    )
    index = builder.value("index", (BATCH,), "i64")
    builder.emit("gather_csr", (data, columns, starts, index, None), {"features": 17}, outputs=("x",))
    plan = CpuPlan({"run": builder.graph}, {"x": "row"}, max_batch=8, dtype="float64")
    for dense in (DENSE, DENSE[:5], np.zeros((3, 17))):
        arrays = dict(zip(("data", "columns", "starts"), compressed(dense), strict=True))
        rows = RNG.integers(0, len(dense), 29)
        x = np.full((29, 17), np.nan)
        plan.run("run", 29, 8, {**arrays, "index": rows, "x": x})
        assert_same_bits(x, dense[rows])


def test_arrays_of_a_plan_that_do_not_fit_are_safe():
    """Lengths and contents are the caller's: what is out of range is left out, rows that do not exist are NaN."""
    builder = Builder()
    for n, size, d in (("data", "z", "T"), ("columns", "z", "i64"), ("starts", "r", "i64"), ("index", BATCH, "i64")):
        builder.value(n, (size,), d)
    builder.emit("gather_csr", ("data", "columns", "starts", "index", None), {"features": 3}, outputs=("x",))
    plan = CpuPlan({"run": builder.graph}, {"x": "row"}, max_batch=4, dtype="float64")
    arrays = {
        "data": np.array([1.0, 2.0, 3.0, 4.0]),
        "columns": np.array([0, 3, -1]),
        "starts": np.array([-7, 2, 2**62, 1]),
        "index": np.array([0, 1, 2, 3]),
        "x": np.zeros((4, 3)),
    }
    plan.run("run", 4, 4, arrays)
    np.testing.assert_array_equal(arrays["x"], [[1, 0, 0], [0, 0, 0], [0, 0, 0], [np.nan] * 3])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"index": np.array([3])}, "gather_csr: 'index' holds 3, expected whole numbers from 0 to 1"),
        ({"index": np.array([-1])}, "gather_csr: 'index' holds -1"),
        ({"columns": np.array([0, 5, 1])}, "gather_csr: 'columns' holds 5, expected whole numbers from 0 to 2"),
        ({"starts": np.array([0, 4, 3])}, "gather_csr: 'starts' must rise from 0 to at most 3"),
        ({"starts": np.array([0, 2, 4])}, "gather_csr: 'starts' must rise"),
        ({"starts": np.array([], np.int64)}, "gather_csr: 'starts' has shape (0,)"),
        ({"features": -1}, "gather_csr"),
        ({"scale": np.ones(4)}, "gather_csr: 'scale' has shape (4,), expected 3"),
    ],
)
def test_bad_arrays(change, message):
    good = {
        "data": np.array([1.0, 2.0, 3.0]),
        "columns": np.array([0, 2, 1]),
        "starts": np.array([0, 2, 3]),
        "index": np.array([0]),
        "features": 3,
    }
    with pytest.raises(ValueError, match=re.escape(message)):
        F.gather_csr(**{**good, **change})
    assert F.gather_csr(**{**good, "features": 0}).shape == (1, 3)
