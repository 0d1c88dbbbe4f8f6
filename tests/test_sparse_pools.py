"""The rewrite that keeps gradients pooled: what it changes, what it leaves, and that the numbers stay."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from pyfastnn import functional as F
from pyfastnn.graph import BATCH, Builder, Graph
from pyfastnn.graph.rewrites import pool_before_relu, sparse_pool_gradients
from pyfastnn.reference import HYPER_FIELDS, interpret
from pyfastnn.testing import DTYPES, assert_same_bits, assert_within, rng_of

SPREAD = ("max_pool_backward", "relu_backward", "linear_db", "conv2d_dw", "conv2d_dx")


def network(
    size: int = 8,
    channels: int = 4,
    *,
    relu: bool = True,
    dense: bool = False,
    below: int = 0,
    pool: dict[str, int] | None = None,
    conv: dict[str, int] | None = None,
) -> Graph:
    """Return the gradients of weights (`dw`) and bias (`db`) of a convolution after which ReLU and a max pool stand.

    With `below`, also that of its input (`dx`), which then has so many channels.
    """
    builder = Builder(training=True)
    window = {"kernel_h": 2, "kernel_w": 2, "stride_h": 2, "stride_w": 2, **(pool or {})}
    x = builder.value("x", (BATCH, size, size, channels))
    seen = builder.value("z", (BATCH, size, size, 5))
    if relu:
        (seen,) = builder.emit("relu_forward", (seen,), outputs=("y",))
    pooled, index = builder.emit("max_pool_forward", (seen,), window, ("pooled", "index"))
    up = builder.value("up", builder.graph.values[pooled].shape)
    (gradient,) = builder.emit("max_pool_backward", (up, index), {**window, "height": size, "width": size})
    if relu:
        (gradient,) = builder.emit("relu_backward", (gradient, seen))
    if dense:
        builder.emit("tanh_forward", (gradient,), outputs=("dense",))
    pads = dict.fromkeys(("top", "bottom", "left", "right"), 1)
    builder.emit("conv2d_dw", (x, gradient), {**pads, "kernel_h": 3, "kernel_w": 3, **(conv or {})}, ("dw",))
    builder.emit("linear_db", (gradient,), outputs=("db",))
    if below:
        w = builder.value("w", (3, 3, below, 5))
        builder.emit("conv2d_dx", (gradient, w), {**pads, "height": size, "width": size, **(conv or {})}, ("dx",))
    return builder.graph


def results(graph: Graph, size: int = 8, channels: int = 4, pooled: int = 4) -> dict[str, np.ndarray]:
    rng = rng_of("sparse pools")
    w = graph.values.get("w")
    values = {"x": rng.standard_normal((3, size, size, channels)), "z": rng.standard_normal((3, size, size, 5))}
    values["z"][0, :2, :2] = -1  # a dead window
    values["up"] = rng.standard_normal((3, pooled, pooled, 5))
    if w is not None:
        values["w"] = rng.standard_normal([int(n) for n in w.shape])
    return interpret(graph, values, np.zeros((2, len(HYPER_FIELDS))))


def count(graph: Graph) -> dict[str, int]:
    found = Counter(n.op for n in graph.nodes)
    return {op: found[op] for op in (*SPREAD, "conv2d_dw_pooled", "conv2d_dx_pooled") if found[op]}


@pytest.mark.parametrize("relu", [True, False])
def test_the_spread_gradient_is_not_made(relu):
    before = network(relu=relu)
    printed = str(before)
    after = sparse_pool_gradients(before)
    assert str(before) == printed
    left = {"linear_db": 1, "conv2d_dw_pooled": 1}
    assert count(after) == ({"relu_backward": 1, **left} if relu else left)
    assert not [v for v in after.values if v not in before.values and not v.startswith("pooled(")]
    want, got = results(before), results(after)
    for name in ("dw", "db"):
        np.testing.assert_allclose(got[name], want[name], rtol=0, atol=1e-13)


@pytest.mark.parametrize("relu", [True, False])
def test_the_gradient_of_the_input_is_sparse_too(relu):
    before = network(relu=relu, below=4)
    after = sparse_pool_gradients(before)
    left = {"linear_db": 1, "conv2d_dw_pooled": 1, "conv2d_dx_pooled": 1}
    assert count(after) == ({"relu_backward": 1, **left} if relu else left)
    want, got = results(before), results(after)
    for name in ("dw", "db", "dx"):
        np.testing.assert_allclose(got[name], want[name], rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("below", "conv"),
    [(1000, {}), (4, {"dilation_h": 2, "dilation_w": 2, "top": 2, "bottom": 2, "left": 2, "right": 2})],
)
def test_the_gradient_of_the_input_stays_dense(below, conv):
    """Where the patches would be large, or the op cannot do it."""
    before = network(below=below, conv=conv)
    after = sparse_pool_gradients(before)
    assert count(after)["conv2d_dx"] == count(after)["max_pool_backward"] == 1
    np.testing.assert_array_equal(results(after)["dx"], results(before)["dx"])


def test_a_spread_gradient_that_others_read_stays_with_every_bit():
    before = network(dense=True)
    after = sparse_pool_gradients(before)
    assert count(after) == {"max_pool_backward": 1, "relu_backward": 1, "linear_db": 1, "conv2d_dw_pooled": 1}
    order = [n.op for n in after.nodes]
    assert order.index("relu_backward") < order.index("max_pool_backward")
    assert_same_bits(results(after)["dense"], results(before)["dense"])


@pytest.mark.parametrize(
    ("settings", "left"),
    [
        ({"pool": {"stride_h": 1}}, {"max_pool_backward": 1, "relu_backward": 1, "linear_db": 1, "conv2d_dw": 1}),
        ({"pool": {"kernel_h": 3, "kernel_w": 3}}, {"max_pool_backward": 1, "relu_backward": 1, "linear_db": 1, "conv2d_dw": 1}),
        ({"conv": {"groups": 2}}, {"max_pool_backward": 1, "relu_backward": 1, "linear_db": 1, "conv2d_dw": 1}),
        ({"channels": 3}, {"max_pool_backward": 1, "relu_backward": 1, "linear_db": 1, "conv2d_dw": 1}),
    ],
    ids=["overlapping", "larger", "groups", "short_runs"],
)  # fmt: skip
def test_what_it_leaves(settings, left):
    before = network(**settings)
    after = sparse_pool_gradients(before)
    assert count(after) == left
    if "pool" in settings:
        assert str(after) == str(before)


def test_a_relu_elsewhere_stays_where_it_is():
    """The mask of another value than the pool's input may not move."""
    builder = Builder(training=True)
    z, y = (builder.value(k, (BATCH, 4, 4, 5)) for k in ("z", "y"))
    _, index = builder.emit("max_pool_forward", (z,))
    up = builder.value("up", (BATCH, 2, 2, 5))
    (spread,) = builder.emit("max_pool_backward", (up, index), {"height": 4, "width": 4})
    builder.emit("relu_backward", (spread, y), outputs=("g",))
    assert str(sparse_pool_gradients(builder.graph)) == str(builder.graph)


def test_a_relu_moves_behind_the_pool_that_alone_reads_it():
    before = sparse_pool_gradients(network())
    printed = str(before)
    after = pool_before_relu(before)
    assert str(before) == printed
    assert [n.op for n in after.nodes[:2]] == ["max_pool_forward", "relu_forward"]
    assert "y" not in after.values
    want, got = results(before), results(after)
    for name in ("pooled", "dw", "db"):
        np.testing.assert_array_equal(got[name], want[name])
    assert got["pooled"].min() == 0  # the dead window


def test_a_relu_that_others_read_stays():
    """The backward pass of the plain graph masks by the output of the ReLU; windows in the padding have no value to rectify."""
    for graph in (network(), network(relu=False)):
        assert str(pool_before_relu(graph)) == str(graph)
    builder = Builder()
    (y,) = builder.emit("relu_forward", (builder.value("z", (BATCH, 4, 4, 2)),))
    builder.emit("max_pool_forward", (y,), {"top": 2})
    assert str(pool_before_relu(builder.graph)) == str(builder.graph)


@pytest.mark.parametrize("dtype", DTYPES)
def test_pooled_sums_equal_spread_sums_on_whole_numbers(dtype):
    """Every width of a run and every number of kernel rows; sums of whole numbers are exact in any order."""
    for channels in (1, 2, 3, 5, 6, 8, 11, 16, 22, 32, 43, 64):
        for kernel_h, kernel_w in ((1, 1), (2, 3), (3, 3), (4, 2), (5, 5), (7, 3), (9, 1)):
            rng = rng_of("pooled", dtype, channels, kernel_h, kernel_w)
            height, width = 8 + kernel_h, 9 + kernel_w
            pads = {"top": kernel_h // 2, "bottom": 1, "left": 0, "right": kernel_w - 1}
            kernel = {"kernel_h": kernel_h, "kernel_w": kernel_w}
            out = (height + pads["top"] + 1 - kernel_h + 1, width + pads["right"] - kernel_w + 1)
            x = rng.integers(-5, 6, (3, height, width, channels)).astype(dtype)
            z = rng.integers(-5, 6, (3, *out, 5)).astype(dtype)
            _, index = F.max_pool(z)
            dy = rng.integers(-5, 6, index.shape).astype(dtype)
            spread = F.max_pool_backward(dy, index, height=out[0], width=out[1])
            want = F.conv2d_dw(x, spread, **pads, **kernel)
            got = F.conv2d_dw_pooled(x, dy, index, **pads, **kernel)
            assert_within(got, want.astype(np.float64), 0.0, f"{channels} channels {kernel} {dtype}")


@pytest.mark.parametrize("dtype", DTYPES)
def test_pooled_gradients_equal_spread_gradients_on_whole_numbers(dtype):
    """Every number of patch rows and every width of them; sums of whole numbers are exact in any order."""
    for channels in (1, 2, 3, 5, 6, 8, 11, 16, 22, 32, 43, 64):
        for kernel_h, kernel_w in ((1, 1), (2, 3), (3, 3), (4, 2), (5, 5), (7, 3), (9, 1)):
            rng = rng_of("pooled dx", dtype, channels, kernel_h, kernel_w)
            size = {"height": 8 + kernel_h, "width": 9 + kernel_w}
            pads = {"top": kernel_h // 2, "bottom": 1, "left": kernel_w - 1, "right": 0}
            out = (8 + pads["top"] + 1 + 1, 9 + pads["left"] + 1)
            filters = 5 + 40 * (channels == 16)
            z = rng.integers(-5, 6, (2, *out, filters)).astype(dtype)
            w = rng.integers(-5, 6, (kernel_h, kernel_w, channels, filters)).astype(dtype)
            _, index = F.max_pool(z)
            dy = rng.integers(-5, 6, index.shape).astype(dtype)
            spread = F.max_pool_backward(dy, index, height=out[0], width=out[1])
            want = F.conv2d_dx(spread, w, **pads, **size)
            got = F.conv2d_dx_pooled(dy, index, w, **pads, **size)
            assert_within(got, want.astype(np.float64), 0.0, f"{channels} channels {kernel_h} x {kernel_w} {dtype}")
            assert_same_bits(F.conv2d_dx_pooled(dy[1:], index[1:], w, **pads, **size), got[1:])


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_image_alone_equals_the_image_of_a_batch_and_a_gradient_not_finite_spoils_only_its_window(dtype):
    rng = rng_of("pooled dx alone", dtype)
    dy = rng.standard_normal((20, 6, 5, 16)).astype(dtype)
    index = rng.integers(0, 4, dy.shape).astype(np.uint8)
    w = rng.standard_normal((3, 3, 6, 16)).astype(dtype)
    size = {"top": 1, "bottom": 1, "left": 1, "right": 1, "height": 12, "width": 11}
    index[4, 2, 3, 7] = 1  # row 4, column 7 of the convolution's output
    dx = F.conv2d_dx_pooled(dy, index, w, **size)
    for part in (slice(0, 1), slice(7, 8), slice(3, 19)):
        assert_same_bits(F.conv2d_dx_pooled(dy[part], index[part], w, **size), dx[part])
    dy[4, 2, 3, 7] = np.nan
    spoilt = F.conv2d_dx_pooled(dy, index, w, **size)
    there = np.zeros(dx.shape, bool)
    there[4, 3:6, 6:9] = True
    np.testing.assert_array_equal(np.isnan(spoilt), there)
    assert_same_bits(spoilt[~there], dx[~there])
