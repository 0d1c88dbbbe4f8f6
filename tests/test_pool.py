"""Pools: meanings beyond the values of random images, and the layers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pyfastnn import functional as F
from pyfastnn import nn
from pyfastnn.graph import BATCH, Builder
from pyfastnn.graph.autodiff import backward
from pyfastnn.nn.layer import from_config
from pyfastnn.reference import HYPER_FIELDS, interpret
from pyfastnn.testing import DTYPES, assert_same_bits, rng_of

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("cells", "y", "index"),
    [
        ([1, 2, 3, 4], 4, 3),
        ([4, 4, 4, 4], 4, 0),
        ([0, 4, 1, 4], 4, 1),
        ([0.0, -0.0, -0.0, 0.0], 0, 0),
        ([NAN, 4, 1, 4], NAN, 0),
        ([5, 4, NAN, 9], NAN, 2),
        ([NAN, 4, NAN, 4], NAN, 2),
        ([1, NAN, NAN, INF], NAN, 2),
        ([-INF, -INF, -INF, -INF], -INF, 0),
        ([-INF, -INF, -3, -INF], -3, 2),
        ([INF, 1, INF, NAN], NAN, 3),
    ],
)
def test_ties_and_nan(cells, y, index, dtype):
    """The same whether the windows touch (whole rows at once) or overlap, in every lane of a vector."""
    for channels in (1, 5, 16, 33):
        x = np.repeat(np.array(cells, dtype).reshape(1, 2, 2, 1), channels, axis=3)
        for settings in ({}, {"stride_h": 1, "stride_w": 3}):
            got, where = F.max_pool(x, **settings)
            assert_same_bits(got, np.full((1, 1, 1, channels), y, dtype))
            assert (where == index).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_touching_windows_equal_windows_of_the_general_kernel(dtype):
    """An image with a row and a column of padding goes the general way, and has the windows of the image without inside."""
    x = np.round(3 * rng_of("pool", dtype).standard_normal((3, 10, 14, 21))).astype(dtype)
    y, index = F.max_pool(x)
    framed = np.full((3, 12, 16, 21), -np.inf, dtype)
    framed[:, 2:, 2:] = x
    other, where = F.max_pool(framed[:, 1:, 1:].copy(), top=1, left=1)
    assert_same_bits(other[:, 1:, 1:].copy(), y)
    assert (where[:, 1:, 1:] == index).all()
    dy = rng_of("upstream", dtype).standard_normal(y.shape).astype(dtype)
    dx = F.max_pool_backward(dy, index, height=10, width=14)
    again = F.max_pool_backward(np.pad(dy, ((0, 0), (1, 0), (1, 0), (0, 0))), where, top=1, left=1, height=11, width=15)
    assert_same_bits(again[:, 1:, 1:].copy(), dx)


def test_rows_and_columns_left_over_get_no_gradient():
    dx = F.max_pool_backward(np.ones((2, 2, 3, 5)), np.full((2, 2, 3, 5), 3, np.uint8), height=5, width=7)
    assert dx.sum() == 2 * 2 * 3 * 5
    assert not dx[:, 4].any()
    assert not dx[:, :, 6].any()


def test_overlapping_windows_add_up():
    x = np.zeros((1, 3, 3, 1))
    x[0, 1, 1] = 1
    _, index = F.max_pool(x, stride_h=1, stride_w=1)
    dx = F.max_pool_backward(np.arange(1.0, 5).reshape(1, 2, 2, 1), index, stride_h=1, stride_w=1, height=3, width=3)
    assert dx[0, 1, 1, 0] == 10
    assert dx.sum() == 10


def test_windows_that_cannot_be_are_refused():
    x = np.ones((1, 40, 40, 1), np.float32)
    with pytest.raises(ValueError, match=r"max_pool: windows have 16 x 16 cells, expected at most 255"):
        F.max_pool(x, kernel_h=16, kernel_w=16)
    with pytest.raises(ValueError, match=r"max_pool: 'left' is 2, expected less than 'kernel_w' \(2\)"):
        F.max_pool(x, left=2)
    with pytest.raises(ValueError, match="kernel_h"):
        F.max_pool(x, kernel_h=0)
    with pytest.raises(ValueError, match="would have a dimension of -4"):
        F.max_pool(x, kernel_h=50)


LAYERS = {
    "max": nn.MaxPool2d(2),
    "max_wide": nn.MaxPool2d((3, 2), stride=(1, 2), padding=1),
    "avg": nn.AvgPool2d(2),
    "avg_inside": nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False),
    "global": nn.GlobalAvgPool2d(),
}
SHAPES = {"max": (3, 2, 4), "max_wide": (6, 3, 4), "avg": (3, 2, 4), "avg_inside": (3, 3, 4), "global": (4,)}


@pytest.mark.parametrize("kind", LAYERS)
def test_layer_in_a_graph(kind):
    """Shapes as promised, and the gradient through two layers that of central differences."""
    layer = LAYERS[kind]
    assert layer.output_shape((6, 5, 4)) == SHAPES[kind]
    builder = Builder(training=True)
    x = builder.value("x", (BATCH, 6, 5, 4), kind="parameter")
    y = layer.forward(builder, "pool_1", builder.emit("tanh_forward", (x,))[0])
    assert builder.graph.values[y].shape == (BATCH, *SHAPES[kind])
    numbers = math.prod(SHAPES[kind])
    target = builder.value("target", (BATCH, numbers))
    flat = builder.view(y, (BATCH, numbers))
    loss = builder.emit("mean_squared_error", (flat, target, None), outputs=("loss", "dy"))[0]
    name = backward(builder, loss, ["x"])["x"]
    rng = rng_of("layer", kind)
    values = {
        "x": (rng.permutation(2 * 120) / 100 - 1).reshape(2, 6, 5, 4),
        "target": rng.standard_normal((2, numbers)),
    }
    hyper = np.zeros((2, len(HYPER_FIELDS)))
    gradient = interpret(builder.graph, values, hyper)[name]
    for at in [tuple(rng.integers(0, s) for s in (2, 6, 5, 4)) for _ in range(25)]:
        losses = []
        for step in (1e-6, -1e-6):
            moved = values["x"].copy()
            moved[at] += step
            losses.append(interpret(builder.graph, {**values, "x": moved}, hyper)["loss"][0])
        assert gradient[at] == pytest.approx((losses[0] - losses[1]) / 2e-6, abs=1e-8)


@pytest.mark.parametrize("kind", LAYERS)
def test_layer_comes_back_from_its_settings(kind):
    layer = LAYERS[kind]
    again = from_config({layer.kind: type(layer)}, layer.kind, layer.config())
    assert repr(again) == repr(layer)
    assert again.config() == layer.config()


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: nn.MaxPool2d(), TypeError, r"takes one size: write MaxPool2d\(2\)"),
        (lambda: nn.MaxPool2d(2, 2), TypeError, r"write MaxPool2d\(2, stride=2\), not MaxPool2d\(2, 2\)"),
        (lambda: nn.AvgPool2d(2.0), TypeError, "kernel_size is 2.0, expected a whole number or two"),
        (lambda: nn.AvgPool2d((1, 2, 3)), TypeError, "expected a whole number or two"),
        (lambda: nn.MaxPool2d(0), ValueError, "kernel_size is 0, expected 1 or more"),
        (lambda: nn.MaxPool2d(2, stride=0), ValueError, "stride is 0, expected 1 or more"),
        (lambda: nn.MaxPool2d(2, padding=-1), ValueError, "padding is -1, expected 0 or more"),
        (lambda: nn.MaxPool2d(3, padding=2), ValueError, "at most half of kernel_size, 3"),
        (lambda: nn.MaxPool2d(16), ValueError, "256 cells, expected at most 255"),
        (lambda: nn.MaxPool2d(2, strides=2), TypeError, "stride"),
        (
            lambda: nn.MaxPool2d(4).output_shape((3, 9, 1)),
            ValueError,
            "3 x 9 pixels are smaller than the windows, 4 x 4",
        ),
        (lambda: nn.MaxPool2d(2).output_shape((9,)), ValueError, "expected an image"),
        (lambda: nn.GlobalAvgPool2d().output_shape((9, 3)), ValueError, "expected an image"),
    ],
)
def test_settings_that_are_refused(make, error, match):
    with pytest.raises(error, match=match):
        make()
