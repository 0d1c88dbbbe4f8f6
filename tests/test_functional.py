"""The functional API: its examples, `out=`, and that its functions give what the op gives."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import numpy as np
import pytest

from pyfastnn import functional as F
from pyfastnn import reference
from pyfastnn.reference import specs
from pyfastnn.testing import (
    assert_same_bits,
    assert_within,
    make_call,
    op_table,
    rng_of,
    run,
    samples_of,
)

MODULES = [
    f"{package.__name__}.{module.name}"
    for package in (F, reference)
    for module in pkgutil.iter_modules(package.__path__)
]


@pytest.mark.parametrize("module", MODULES)
def test_examples_print_what_they_show(module):
    results = doctest.testmod(importlib.import_module(module))
    assert results.failed == 0
    if module.startswith("pyfastnn.functional.") and not module.endswith("._hyper"):
        assert results.attempted > 0


# Functions of one output: the op's inputs, then `out`.
ONE_OUTPUT = [
    "linear_forward", "linear_dx", "linear_dw", "linear_db", "linear_forward_bf16",
    "linear_dx_bf16", "linear_dw_bf16", "conv2d_forward", "conv2d_dx", "add", "relu_forward", "relu_backward",
    "leaky_relu_forward", "leaky_relu_backward", "elu_forward", "elu_backward", "sigmoid_forward",
    "sigmoid_backward", "tanh_forward", "tanh_backward",
    "exp_forward", "exp_backward", "batch_norm_predict", "dropout_backward",
    "gather_rows", "gather_labels", "multiply", "concat", "slice", "slice_backward", "embedding_forward",
    "embedding_dw", "dropout_channels_backward",
    "conv2d_dw", "conv2d_dw_pooled", "conv2d_dx_pooled", "max_pool_backward", "avg_pool_forward",
    "avg_pool_backward", "global_avg_pool_forward", "global_avg_pool_backward",
    "selu_forward", "selu_backward", "gelu_forward", "gelu_backward", "gelu_tanh_forward",
    "gelu_tanh_backward", "silu_forward", "silu_backward", "softplus_forward",
    "softplus_backward", "prelu_forward", "softmax_forward", "softmax_backward",
    "log_softmax_forward", "log_softmax_backward", "maxout_forward", "maxout_backward",
]  # fmt: skip


@pytest.mark.parametrize("op", ONE_OUTPUT)
def test_function_gives_the_op_and_fills_out(op):
    function = getattr(F, op.removesuffix("_forward"))
    samples = [s for s in samples_of(op, "float32").values() if not s.label.startswith("float64")]
    for sample in samples:
        (want,) = run(make_call(op, sample, "float32"))
        arrays = [sample.inputs[a["name"]] for a in op_table()[op]["inputs"]]
        assert_same_bits(function(*arrays, **sample.attrs), want, f"{op} {sample.label}")
        out = np.full_like(want, 7)
        assert function(*arrays, **sample.attrs, out=out) is out
        assert_same_bits(out, want, f"{op} {sample.label} out")


def test_gather_rows_takes_the_dtype_asked_for():
    data, index = np.arange(6, dtype=np.uint8).reshape(3, 2), np.array([2, 0])
    assert F.gather_rows(data, index).dtype == np.float32
    assert F.gather_rows(data, index, dtype=np.float64).dtype == np.float64
    shift = np.ones(2)
    assert F.gather_rows(data, index, shift).dtype == np.float64
    assert F.gather_rows(data, index, None, shift.astype(np.float32)).dtype == np.float32
    out = np.empty((2, 2))
    assert F.gather_rows(data, index, out=out) is out
    assert out.tolist() == [[4.0, 5.0], [0.0, 1.0]]


def test_linear_backward_gives_all_three():
    rng = rng_of("linear backward")
    dy, x, w = (rng.standard_normal(s) for s in ((5, 3), (5, 4), (4, 3)))
    dx, dw, db = F.linear_backward(dy, x, w)
    np.testing.assert_allclose(dx, dy @ w.T)
    np.testing.assert_allclose(dw, x.T @ dy)
    np.testing.assert_allclose(db, dy.sum(axis=0))


def test_batch_norm_updates_running_statistics_in_place():
    x = rng_of("batch norm").standard_normal((9, 4))
    running_mean, running_var = np.zeros(4), np.ones(4)
    out = np.empty_like(x)
    y, mean, rstd = F.batch_norm(x, np.ones(4), np.zeros(4), running_mean, running_var, momentum=1.0, out=out)
    assert y is out
    np.testing.assert_allclose(running_mean, x.mean(axis=0))
    np.testing.assert_allclose(running_var, x.var(axis=0, ddof=1))
    np.testing.assert_allclose(mean, x.mean(axis=0))
    np.testing.assert_allclose(rstd, (x.var(axis=0) + 1e-5) ** -0.5)
    np.testing.assert_allclose(F.batch_norm_predict(x, np.ones(4), np.zeros(4), mean, x.var(axis=0)), y)
    dx, dgamma, dbeta = F.batch_norm_backward(np.ones_like(x), x, np.ones(4), mean, rstd, out=out)
    assert dx is out
    np.testing.assert_allclose(dx, 0, atol=1e-12)
    np.testing.assert_allclose(dbeta, 9)
    np.testing.assert_allclose(dgamma, 0, atol=1e-12)


def test_softmax_cross_entropy_returns_plain_numbers():
    scores, labels = np.array([[0.0, 2.0], [3.0, 1.0]]), np.array([1, 1])
    loss, dscores = F.softmax_cross_entropy(scores, labels)
    again, out, correct = F.softmax_cross_entropy(scores, labels, with_correct=True, out=np.empty((2, 2)))
    assert type(loss) is float
    assert loss == again
    assert (type(correct), correct) == (int, 1)
    assert_same_bits(out, dscores)
    assert loss == pytest.approx((np.log1p(np.exp(-2.0)) * 2 + 2) / 2)


def test_loss_at_chance():
    """The first check of the lectures: scores near 0 give a loss of log(classes)."""
    loss, _ = F.softmax_cross_entropy(np.zeros((50, 10), np.float32), np.arange(50) % 10)
    assert loss == pytest.approx(np.log(10), rel=1e-6)


def test_dropout_in_place():
    x = np.ones(100)
    y, mask = F.dropout(x, 0.25, seed=1, out=x)
    assert y is x
    assert set(np.unique(y)) == {0.0, 1 / 0.75}
    assert ((y > 0) == mask.astype(bool)).all()


def test_gelu_has_its_other_form_by_name_too():
    rng = rng_of("gelu forms")
    dy, x, out = (rng.standard_normal((5, 3)) for _ in range(3))
    assert_same_bits(F.gelu(x, approximate="tanh"), F.gelu_tanh(x))
    assert_same_bits(F.gelu(x, approximate="none"), F.gelu(x))
    assert F.gelu(x, approximate="tanh", out=out) is out
    assert_same_bits(F.gelu_backward(dy, x, approximate="tanh"), F.gelu_tanh_backward(dy, x))
    assert F.gelu_backward(dy, x, approximate="tanh", out=out) is out


def test_prelu_backward_gives_both_and_fills_out():
    rng = rng_of("prelu backward")
    dy, x, slope = (rng.standard_normal(s) for s in ((9, 4), (9, 4), (4,)))
    out = np.empty_like(x)
    dx, dslope = F.prelu_backward(dy, x, slope, out=out)
    assert dx is out
    np.testing.assert_array_equal(dx, np.where(x > 0, dy, slope * dy))
    np.testing.assert_allclose(dslope, (dy * np.minimum(x, 0)).sum(axis=0), rtol=1e-12)


def test_mean_squared_error_fills_out():
    out = np.empty(2)
    loss, dy = F.mean_squared_error(np.array([1.0, 4.0]), np.array([1.0, 2.0]), out=out)
    assert (loss, dy.tolist()) == (2.0, [0.0, 2.0])
    assert dy is out


def test_gradient_of_the_penalty_is_the_decay():
    w = rng_of("penalty").standard_normal(7)
    high, low = w.copy(), w.copy()
    high[3] += 1e-4
    low[3] -= 1e-4
    slope = (F.l2_penalty(high, weight_decay=0.3) - F.l2_penalty(low, weight_decay=0.3)) / 2e-4
    assert slope == pytest.approx(0.3 * w[3])


def test_update_rules_take_numpy_scalars():
    p = np.ones(3, np.float32)
    F.sgd_step(p, np.ones(3, np.float32), learning_rate=np.float64(0.5), weight_decay=np.float32(0.0))
    assert_within(
        p,
        specs()["sgd_step"].reference(np.ones(3), np.ones(3), learning_rate=0.5, weight_decay=0.0)[0],
        0.0,
    )
