"""Convolutions beyond what the op tables test: another formula, exact arithmetic, one image of a batch, the layer."""

from __future__ import annotations

import numpy as np
import pytest

from pyfastnn import functional as F
from pyfastnn import nn
from pyfastnn.graph import BATCH, Builder
from pyfastnn.reference import specs
from pyfastnn.reference.conv import attributes
from pyfastnn.testing import DTYPES, assert_same_bits, assert_within, rng_of

# (h, w, g, o, kh, kw, groups, stride_h, stride_w, top, left, dilation_h, dilation_w)
GEOMETRY = (
    (6, 7, 3, 4, 3, 3, 1, 1, 1, 1, 1, 1, 1), (9, 8, 2, 17, 3, 5, 1, 2, 1, 1, 2, 1, 1), (8, 9, 2, 3, 2, 3, 2, 1, 3, 0, 2, 2, 1),
    (11, 10, 1, 1, 3, 3, 6, 2, 2, 1, 1, 2, 3), (7, 7, 4, 6, 1, 1, 1, 2, 2, 0, 0, 1, 1), (10, 9, 5, 8, 4, 4, 1, 1, 1, 3, 3, 1, 1),
    (12, 11, 3, 20, 3, 2, 1, 4, 6, 2, 1, 2, 4), (5, 33, 7, 2, 3, 3, 1, 1, 1, 2, 2, 1, 1), (1, 1, 2, 40, 3, 3, 1, 1, 1, 1, 1, 1, 1),
)  # fmt: skip


def arguments(geometry: tuple[int, ...], dtype: str, n: int = 2) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
    """Return whole numbers: all sums of their products are exact in any order."""
    h, w, g, o, kh, kw, groups, *rest = geometry
    rng = rng_of("conv", dtype, *geometry)
    x = rng.integers(-4, 5, (n, h, w, g * groups)).astype(dtype)
    filters = rng.integers(-4, 5, (kh, kw, g, o * groups)).astype(dtype)
    names = ("stride_h", "stride_w", "top", "left", "dilation_h", "dilation_w")
    return x, filters, attributes(h, w, kh, kw, groups, **dict(zip(names, rest, strict=True)))


def by_windows(x: np.ndarray, w: np.ndarray, a: dict[str, float]) -> np.ndarray:
    """Convolve by an einsum over the windows of a padded image."""
    at = {k: int(v) for k, v in a.items()}
    padded = np.pad(x, ((0, 0), (at["top"], at["bottom"]), (at["left"], at["right"]), (0, 0)))
    reach = at["dilation_h"] * (w.shape[0] - 1) + 1, at["dilation_w"] * (w.shape[1] - 1) + 1
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, (1, 2))
    windows = windows[:, :: at["stride_h"], :: at["stride_w"], :, :: at["dilation_h"], :: at["dilation_w"]]
    n, oh, ow, c, kh, kw = windows.shape
    groups = at["groups"]
    split = windows.reshape(n, oh, ow, groups, c // groups, kh, kw)
    y = np.einsum("nijGckl,klcGo->nijGo", split, w.reshape(kh, kw, c // groups, groups, -1))
    return y.reshape(n, oh, ow, -1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("geometry", GEOMETRY, ids=["_".join(map(str, g)) for g in GEOMETRY])
def test_equals_the_sum_over_windows(geometry, dtype):
    x, w, a = arguments(geometry, dtype)
    assert_within(F.conv2d(x, w, **a), by_windows(x.astype("f8"), w.astype("f8"), a), 0.0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("geometry", GEOMETRY, ids=["_".join(map(str, g)) for g in GEOMETRY])
def test_dx_is_the_transpose(geometry, dtype):
    """<dy, conv(x)> = <dx, x>, exactly, for every unit vector x of one image."""
    x, w, a = arguments(geometry, dtype, n=1)
    h, width, c = x.shape[1:]
    unit = np.eye(h * width * c, dtype=dtype).reshape(-1, h, width, c)
    y = F.conv2d(unit, w, **a)
    dy = rng_of("transpose", *geometry).integers(-4, 5, y.shape[1:]).astype(dtype)
    want = (y.reshape(len(y), -1).astype("f8") @ dy.reshape(-1).astype("f8")).reshape(1, h, width, c)
    assert_within(F.conv2d_dx(dy[None], w, **a, height=h, width=width), want, 0.0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_is_exact_for_all_tails(k, dtype):
    """Row lengths and channels around the tiles and vectors of all instruction sets."""
    for o in (1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 48, 49, 65, 80, 97):
        for w in (1, 2, 3, 5, 7, 8, 9, 13, 14, 15, 16, 17, 29, 33):
            x, filters, a = arguments((k + 1, w, 1 + (o + w) % 3, o, k, k, 1, 1, 1, k // 2, k // 2, 1, 1), dtype, n=1)
            size = {"height": k + 1, "width": w}
            what = f"o{o} w{w} k{k}"
            got = F.conv2d(x, filters, **a)
            assert_within(
                got, specs()["conv2d_forward"].reference(x.astype("f8"), filters.astype("f8"), **a)[0], 0.0, what
            )
            (want,) = specs()["conv2d_dx"].reference(got.astype("f8"), filters.astype("f8"), **a, **size)
            assert_within(F.conv2d_dx(got, filters, **a, **size), want, 0.0, what)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", [1, 2, 3, 5, 7])
def test_depthwise_is_exact_for_all_tails(k, dtype):
    """Row lengths around the tiles, channels around the vectors, strides, dilation, and padding wider than the filter."""
    settings = ((1, 1, k // 2, 1), (1, 2, 0, 1), (2, 2, k // 2, 1), (3, 1, k - 1, 2), (1, 1, k + 1, 1), (2, 3, 1, 3))
    for channels in (2, 3, 7, 8, 9, 15, 16, 17, 33):
        for at, width in enumerate((1, 2, 3, 4, 7, 8, 9, 10, 16, 17, 19, 25, 34)):
            stride_h, stride_w, padding, dilation = settings[(at + channels) % len(settings)]
            geometry = (k + 3, width, 1, 1, k, k, channels, stride_h, stride_w, padding, padding, dilation, dilation)
            x, filters, a = arguments(geometry, dtype, n=2)
            size = {"height": k + 3, "width": width}
            got = F.conv2d(x, filters, **a)
            assert_within(got, by_windows(x.astype("f8"), filters.astype("f8"), a), 0.0, f"{geometry}")
            (want,) = specs()["conv2d_dx"].reference(got.astype("f8"), filters.astype("f8"), **a, **size)
            assert_within(F.conv2d_dx(got, filters, **a, **size), want, 0.0, f"dx {geometry}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("geometry", GEOMETRY, ids=["_".join(map(str, g)) for g in GEOMETRY])
def test_image_alone_equals_image_of_a_batch(geometry, dtype):
    x, w, a = arguments(geometry, dtype, n=7)
    rng = rng_of("alone", dtype, *geometry)
    x, w = (rng.standard_normal(v.shape).astype(dtype) for v in (x, w))
    b = rng.standard_normal(w.shape[3]).astype(dtype)
    y = F.conv2d(x, w, b, **a)
    dy = rng.standard_normal(y.shape).astype(dtype)
    size = {"height": x.shape[1], "width": x.shape[2]}
    dx = F.conv2d_dx(dy, w, **a, **size)
    for part in (slice(0, 1), slice(3, 4), slice(6, 7), slice(2, 5)):
        assert_same_bits(F.conv2d(x[part], w, b, **a), y[part], f"images {part}")
        assert_same_bits(F.conv2d_dx(dy[part], w, **a, **size), dx[part], f"images {part}")


def test_conv2d_backward_gives_all_three():
    x, w, a = arguments(GEOMETRY[1], "float64")
    dy = rng_of("backward").integers(-4, 5, F.conv2d(x, w, **a).shape).astype("float64")
    dx, dw, db = F.conv2d_backward(dy, x, w, **a)
    assert_same_bits(dx, F.conv2d_dx(dy, w, **a, height=x.shape[1], width=x.shape[2]))
    np.testing.assert_array_equal(db, dy.sum(axis=(0, 1, 2)))
    one = np.zeros_like(w)
    one[2, 3, 1, 7] = 1
    assert dw[2, 3, 1, 7] == (F.conv2d(x, one, **a) * dy).sum()


@pytest.mark.parametrize("function", ["conv2d", "conv2d_dx"])
def test_groups_must_divide_the_channels(function):
    a, w = np.ones((1, 4, 4, 6)), np.ones((1, 1, 3, 5))
    with pytest.raises(ValueError, match=f"{function}: 'w' has 5 output channels, expected a multiple of 'groups', 2"):
        getattr(F, function)(a, w, groups=2)


@pytest.mark.parametrize(
    ("attrs", "message"),
    [
        ({"stride_h": 0}, "'stride_h' is 0"),
        ({"left": -1}, "'left' is -1"),
        ({"dilation_w": 1.5}, "'dilation_w' is 1.5.*whole number"),
        ({"groups": 2}, "'x' has shape"),
    ],
)
def test_numbers_out_of_range(attrs, message):
    with pytest.raises(ValueError, match=f"conv2d_forward: {message}"):
        F.conv2d(np.ones((1, 4, 4, 3)), np.ones((2, 2, 3, 4)), **attrs)


# The layer


def built(layer: nn.Conv2d, shape: tuple[int, ...]) -> tuple[Builder, str]:
    builder = Builder()
    x = builder.value("x", (BATCH, *shape))
    for parameter in layer.parameters(shape):
        builder.value(f"conv.{parameter.name}", parameter.shape, kind="parameter")
    return builder, layer.forward(builder, "conv", x)


@pytest.mark.parametrize(
    ("layer", "shape", "wanted"),
    [
        (nn.Conv2d(6, 5), (32, 32, 3), (28, 28, 6)),
        (nn.Conv2d(6, 5, padding="same"), (32, 31, 3), (32, 31, 6)),
        (nn.Conv2d(6, 4, padding="same"), (32, 31, 3), (32, 31, 6)),
        (nn.Conv2d(6, 4, padding="valid"), (32, 31, 3), (29, 28, 6)),
        (nn.Conv2d(6, (3, 5), stride=(2, 3), padding="same"), (32, 31, 3), (16, 11, 6)),
        (nn.Conv2d(6, (3, 5), stride=2, padding=(1, 0), dilation=(2, 1)), (32, 31, 3), (15, 14, 6)),
        (nn.Conv2d(6, 3, groups=3, dilation=3, padding="same", bias=False), (9, 8, 3), (9, 8, 6)),
        (nn.Conv2d(out_channels=4, kernel_size=1), (9, 8, 3), (9, 8, 4)),
        (nn.Conv2d(4, kernel_size=[1, 2]), (9, 8, 3), (9, 7, 4)),
    ],
)
def test_layer_shapes(layer, shape, wanted):
    assert layer.output_shape(shape) == wanted
    builder, y = built(layer, shape)
    assert builder.graph.values[y].shape == (BATCH, *wanted)
    from pyfastnn.nn.layer import from_config

    again = from_config({"conv2d": nn.Conv2d}, "conv2d", layer.config())
    assert again.config() == layer.config()
    assert repr(again) == repr(layer)


def test_same_padding_of_even_filters_stands_behind():
    """As Keras and PyTorch have it: one more row below, one more column to the right."""
    attrs = nn.Conv2d(1, 4, padding="same").attributes((9, 9, 1))
    assert (attrs["top"], attrs["bottom"], attrs["left"], attrs["right"]) == (1, 2, 1, 2)


@pytest.mark.parametrize(
    ("make", "exception", "message"),
    [
        (lambda: nn.Conv2d(3, 16, 3), TypeError, r"write Conv2d\(out_channels, kernel_size\), not Conv2d\(3, 16, 3\)"),
        (lambda: nn.Conv2d(16), TypeError, r"not Conv2d\(16\)"),
        (lambda: nn.Conv2d(16, 2.5), TypeError, "kernel_size is 2.5"),
        (lambda: nn.Conv2d(16, 0), ValueError, "kernel_size is 0, expected 1 or more"),
        (lambda: nn.Conv2d(16, (3, 3, 3)), ValueError, "kernel_size is .* one whole number or two"),
        (lambda: nn.Conv2d(16, 3, padding=-1), ValueError, "padding is -1, expected 0 or more"),
        (lambda: nn.Conv2d(16, 3, padding="sane"), ValueError, "unknown padding 'sane', did you mean 'same'"),
        (lambda: nn.Conv2d(16, 3, groups=3), ValueError, "out_channels is 16, expected a multiple of groups, 3"),
        (lambda: nn.Conv2d(16, 3, strides=2), TypeError, "did you mean 'stride'"),
        (lambda: nn.Conv2d(16, 3, init="he_norm"), ValueError, "did you mean 'he_normal'"),
        (lambda: nn.Conv2d(16, 3).output_shape((27,)), ValueError, r"expected \(height, width, channels\)"),
        (lambda: nn.Conv2d(16, 3).output_shape((2, 9, 3)), ValueError, "have 2 rows with padding, fewer than the 3"),
        (
            lambda: nn.Conv2d(16, 3, in_channels=4).output_shape((9, 9, 3)),
            ValueError,
            "has 3 channels, in_channels is 4",
        ),
        (lambda: nn.Conv2d(16, 3, groups=2).output_shape((9, 9, 3)), ValueError, "expected a multiple of groups, 2"),
    ],
)
def test_layer_refuses(make, exception, message):
    with pytest.raises(exception, match=message):
        make()


def test_first_weights_count_the_terms_of_a_sum():
    from pyfastnn.nn import initializers

    shape = (3, 5, 8, 64)
    assert initializers.fans(shape) == (3 * 5 * 8, 3 * 5 * 64)
    assert initializers.fans((7, 9)) == (7, 9)
    w = initializers.draw("he_normal", rng_of("he"), shape)
    assert w.std() == pytest.approx((2 / (3 * 5 * 8)) ** 0.5, rel=0.03)


def test_padding_adds_nothing_to_weights_that_are_not_finite():
    """A border of zeros would make NaN of an infinite weight; inside it must still show."""
    for o in (2, 20):
        x, w = np.zeros((1, 5, 5, 1), np.float32), np.zeros((3, 3, 1, o), np.float32)
        w[0, 0] = np.inf
        y = F.conv2d(x + 1, w, top=1, bottom=1, left=1, right=1)[0, :, :, -1]
        assert (y[0] == 0).all()
        assert (y[:, 0] == 0).all()
        assert np.isposinf(y[1:, 1:]).all()
