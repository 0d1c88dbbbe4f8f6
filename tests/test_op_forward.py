"""Every kernel of the table against the reference in a wider float type.

The bound is computed from the data. Outputs are filled with NaN before the call, so an element
that is not written shows.
"""

from __future__ import annotations

import numpy as np
import pytest

from pyfastnn import _core
from pyfastnn.testing import DTYPES, assert_within, check_op, op_table, rng_of, samples_of

CASES = [(op, label, dtype) for op in op_table() for dtype in DTYPES for label in samples_of(op, dtype)]

# Tile edges of all instruction sets, panels, more than one block of k.
EXACT_N = (1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 14, 15, 24, 25, 33)
EXACT_O = (1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 23, 31, 32, 33, 47, 48, 49, 50, 63, 64, 65, 97)
EXACT_I = (1, 2, 3, 7, 8, 17, 64, 129)


@pytest.mark.parametrize(("op", "label", "dtype"), CASES, ids=["-".join(case) for case in CASES])
def test_kernel_agrees_with_reference(op, label, dtype):
    check_op(op, samples_of(op, dtype)[label], dtype)


def whole_numbers(rng: np.random.Generator, dtype: str, *shape: int) -> np.ndarray:
    """Return small whole numbers: all sums of their products are exact in any order."""
    return rng.integers(-8, 9, shape).astype(dtype)


def check_exact(dtype: str, n: int, i: int, o: int) -> None:
    rng = rng_of("exact", dtype, n, i, o)
    x, w, b, dy = (whole_numbers(rng, dtype, *s) for s in ((n, i), (i, o), (o,), (n, o)))
    wide = {k: v.astype(np.float64) for k, v in {"x": x, "w": w, "b": b, "dy": dy}.items()}
    at = f"n{n}_i{i}_o{o} {dtype}"
    results = {
        "forward": (_core.call("linear_forward", (x, w, b))[0], wide["x"] @ wide["w"] + wide["b"]),
        "nobias": (_core.call("linear_forward", (x, w, None))[0], wide["x"] @ wide["w"]),
        "dx": (_core.call("linear_dx", (dy, w))[0], wide["dy"] @ wide["w"].T),
        "dw": (_core.call("linear_dw", (x, dy))[0], wide["x"].T @ wide["dy"]),
        "db": (_core.call("linear_db", (dy,))[0], wide["dy"].sum(axis=0)),
    }
    for name, (got, want) in results.items():
        assert_within(got, want, 0.0, f"linear {name} {at}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", EXACT_N)
def test_linear_is_exact_on_whole_numbers(n, dtype):
    for o in EXACT_O:
        for i in EXACT_I:
            check_exact(dtype, n, i, o)


LARGE = [(100, 3072, 50), (193, 1031, 1025), (65, 2053, 129), (256, 784, 128), (1031, 70, 300)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", LARGE, ids=["n{}_i{}_o{}".format(*s) for s in LARGE])
def test_linear_is_exact_on_large_whole_numbers(sizes, dtype):
    check_exact(dtype, *sizes)


SIGNED_ZERO_OPS = ("leaky_relu_forward", "elu_forward", "tanh_forward")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", SIGNED_ZERO_OPS)
def test_odd_activations_keep_the_sign_of_zero(op, dtype):
    (y,) = _core.call(op, (np.array([0.0, -0.0] * 11, dtype=dtype),))
    assert (y == 0).all()
    assert (np.signbit(y) == ([False, True] * 11)).all()


ULP_LIMITS = {
    "sigmoid_forward": 3,
    "tanh_forward": 2,
    "elu_forward": 2,
    "selu_forward": 3,
    "exp_forward": 1,
    "silu_forward": 3,
    "softplus_forward": 3,
    "gelu_forward": 3,
    "gelu_tanh_forward": 3,
}
# Where the limit holds: elsewhere the bound of the spec is in absolute numbers.
ULP_FROM = {"silu_forward": -87.0, "gelu_forward": 0.0, "gelu_tanh_forward": 0.0}


@pytest.mark.parametrize("op", ULP_LIMITS)
def test_float32_activation_on_every_exponent(op):
    """200,000 bit patterns over all float32 numbers, subnormal ones included."""
    bits = rng_of(op).integers(0, 2**32, 200_000, dtype=np.uint32)
    x = bits.view(np.float32)
    x = x[~np.isnan(x) & (x >= ULP_FROM.get(op, -np.inf))]
    from pyfastnn.reference import specs

    with np.errstate(all="ignore"):
        (want,) = specs()[op].reference(x.astype(np.float64))
        ulp = np.spacing(np.abs(want).astype(np.float32)).astype(np.float64)
    (got,) = _core.call(op, (x,))
    assert_within(got, want, ULP_LIMITS[op] * ulp, op)


@pytest.mark.parametrize("dtype", DTYPES)
def test_batch_norm_statistics_keep_accuracy_under_an_offset(dtype):
    """Mean 1e4, deviation 1: the relative error of the variance is at most 1e-5 in float32."""
    rng = rng_of("offset", dtype)
    x = (1e4 + rng.standard_normal((4096, 37))).astype(dtype)
    c = np.zeros(37, dtype)
    running_var = np.zeros(37, dtype)
    _core.call("batch_norm_forward", (x, c + 1, c, c.copy(), running_var), None, (1.0, 1e-5))
    want = x.astype(np.float64).var(axis=0, ddof=1)
    assert np.abs(running_var / want - 1).max() <= (1e-5 if dtype == "float32" else 1e-10)
