"""A row of a batch has the same bits as that row alone and in any other batch."""

from __future__ import annotations

import numpy as np
import pytest

from pyfastnn import _core
from pyfastnn.testing import DTYPES, assert_same_bits, rng_of

# (rows, in, out): narrow and wide outputs, tails, one block of k and several, packed or not.
SIZES = (
    (7, 3, 1), (13, 64, 10), (33, 784, 10), (29, 500, 50), (25, 129, 16), (17, 130, 17),
    (9, 77, 33), (31, 1024, 64), (10, 1025, 65), (200, 1100, 37), (193, 1030, 1031),
    (50, 3072, 50), (300, 65, 257), (40, 300, 600),
)  # fmt: skip


def check_rows(sizes: tuple[int, int, int], dtype: str) -> None:
    n, i, o = sizes
    rng = rng_of("rows", dtype, *sizes)
    x, w, b, dy = (rng.standard_normal(s).astype(dtype) for s in ((n, i), (i, o), (o,), (n, o)))
    for form in ("", "_bf16"):
        forward, backward = f"linear_forward{form}", f"linear_dx{form}"
        y = _core.call(forward, (x, w, b))[0]
        plain = _core.call(forward, (x, w, None))[0]
        dx = _core.call(backward, (dy, w))[0]
        rows = range(n) if n <= 20 else [*range(0, n, max(7, n // 8)), n - 1]
        for row in rows:
            one = slice(row, row + 1)
            what = f"n{n}_i{i}_o{o} {dtype} row {row}"
            assert_same_bits(_core.call(forward, (x[one], w, b))[0], y[one], f"{forward} {what}")
            assert_same_bits(_core.call(forward, (x[one], w, None))[0], plain[one], f"{forward} no bias {what}")
            assert_same_bits(_core.call(backward, (dy[one], w))[0], dx[one], f"{backward} {what}")
        for first, last in ((0, 2), (1, 6), (n // 3, n // 3 + 5), (n // 2, n)):
            part, what = slice(first, last), f"n{n}_i{i}_o{o} {dtype} rows {first}:{last}"
            assert_same_bits(_core.call(forward, (x[part], w, b))[0], y[part], f"{forward} {what}")
            assert_same_bits(_core.call(backward, (dy[part], w))[0], dx[part], f"{backward} {what}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", SIZES, ids=["n{}_i{}_o{}".format(*s) for s in SIZES])
def test_row_alone_equals_row_of_a_batch(sizes, dtype):
    check_rows(sizes, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_prediction_layers_work_row_by_row(dtype):
    """Activations and batch_norm_predict too, so that a whole prediction has the property."""
    rng = rng_of("layers", dtype)
    x = rng.standard_normal((23, 37)).astype(dtype)
    gamma, beta, mean = (rng.standard_normal(37).astype(dtype) for _ in range(3))
    var = rng.uniform(0.5, 2, 37).astype(dtype)
    calls = {
        op: lambda x, op=op: _core.call(op, (x,))[0]
        for op in (
            "relu_forward",
            "leaky_relu_forward",
            "elu_forward",
            "sigmoid_forward",
            "exp_forward",
            "tanh_forward",
            "selu_forward",
            "gelu_forward",
            "gelu_tanh_forward",
            "silu_forward",
            "softplus_forward",
            "softmax_forward",
            "log_softmax_forward",
        )
    }
    calls["batch_norm_predict"] = lambda x: _core.call("batch_norm_predict", (x, gamma, beta, mean, var))[0]
    calls["prelu_forward"] = lambda x: _core.call("prelu_forward", (x, gamma))[0]
    calls["maxout_forward"] = lambda x: _core.call(
        "maxout_forward", (np.ascontiguousarray(x[:, :36]).reshape(len(x), 12, 3),)
    )[0]
    # Few columns stand in the lanes, ten in a kernel of their own.
    for width in (10, 16):
        for op in ("softmax_forward", "log_softmax_forward"):
            calls[f"{op} {width}"] = lambda x, op=op, width=width: _core.call(op, (x[:, :width].copy(),))[0]
    for op, call in calls.items():
        whole = call(x)
        for row in range(len(x)):
            assert_same_bits(
                call(np.ascontiguousarray(x[row : row + 1])),
                whole[row : row + 1],
                f"{op} row {row}",
            )
