"""The gradient of convolution weights on whole numbers, where every order of the sums is exact.

The judge is a loop over taps and pixels' matrix products, which shares nothing with the kernel or its reference.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from pyfastnn import _core
from pyfastnn import functional as F
from pyfastnn.testing import DTYPES, assert_same_bits, assert_within, rng_of

# Every width of a panel on every instruction set, whole and partial.
FILTERS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 16, 17, 20, 24, 31, 32, 33, 48, 50, 64, 65, 80)
CHANNELS = (1, 2, 3, 4, 6, 16, 17)


def taps(x: np.ndarray, dy: np.ndarray, attrs: dict[str, int]) -> np.ndarray:
    """Return dw tap by tap in float64."""
    out_h, out_w, filters = dy.shape[1:]
    groups, kernel = attrs["groups"], (attrs["kernel_h"], attrs["kernel_w"])
    pads = ((0, 0), (attrs["top"], attrs["bottom"]), (attrs["left"], attrs["right"]), (0, 0))
    wide = np.pad(x.astype(np.float64), pads)
    part_c, part_f = x.shape[3] // groups, filters // groups
    dw = np.zeros((*kernel, part_c, filters))
    for i, j, g in itertools.product(range(kernel[0]), range(kernel[1]), range(groups)):
        rows = i * attrs["dilation_h"] + attrs["stride_h"] * np.arange(out_h)
        columns = j * attrs["dilation_w"] + attrs["stride_w"] * np.arange(out_w)
        seen = wide[:, rows][:, :, columns, g * part_c : (g + 1) * part_c].reshape(-1, part_c)
        upstream = dy[..., g * part_f : (g + 1) * part_f].reshape(-1, part_f).astype(np.float64)
        dw[i, j, :, g * part_f : (g + 1) * part_f] = seen.T @ upstream
    return dw


def check_exact(dtype: str, n: int, size: tuple[int, int], c: int, f: int, **given: int) -> None:
    attrs = {"kernel_h": 1, "kernel_w": 1, "stride_h": 1, "stride_w": 1, "dilation_h": 1, "dilation_w": 1, "groups": 1}
    attrs |= dict.fromkeys(("top", "bottom", "left", "right"), 0) | given
    out = [
        (size[k] + attrs[a] + attrs[b] - attrs[f"dilation_{s}"] * (attrs[f"kernel_{s}"] - 1) - 1)
        // attrs[f"stride_{s}"]
        + 1
        for k, (s, a, b) in enumerate((("h", "top", "bottom"), ("w", "left", "right")))
    ]
    rng = rng_of("dw", dtype, n, size, c, f, *given.values())
    x = rng.integers(-5, 6, (n, *size, c)).astype(dtype)
    dy = rng.integers(-5, 6, (n, *out, f)).astype(dtype)
    assert_within(F.conv2d_dw(x, dy, **attrs), taps(x, dy, attrs), 0.0, f"n{n} {size} {c}->{f} {given} {dtype}")


def square(kernel: int, padding: int) -> dict[str, int]:
    pads = dict.fromkeys(("top", "bottom", "left", "right"), padding)
    return {"kernel_h": kernel, "kernel_w": kernel, **pads}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("f", FILTERS)
def test_filters_and_channels(f, dtype):
    for c in CHANNELS:
        for kernel, padding in ((3, 1), (5, 2), (2, 0), (1, 0)):
            check_exact(dtype, 3, (6, 7), c, f, **square(kernel, padding))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kernel", [2, 3, 4, 5, 6, 7, 9, 11])
def test_taps_taken_together(kernel, dtype):
    """Short runs take several rows of the kernel at once, in groups of 5, 3, 2 and 1."""
    for c, f in ((1, 16), (1, 7), (2, 32), (1, 3), (3, 20)):
        check_exact(dtype, 2, (12, 13), c, f, kernel_h=kernel, kernel_w=2, top=kernel - 1, left=1)
        check_exact(dtype, 2, (13, 12), c, f, kernel_h=kernel, kernel_w=min(kernel, 3), right=2)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("stride_h", "stride_w", "dilation_h", "dilation_w"), [(2, 1, 1, 1), (1, 3, 2, 1), (2, 2, 1, 2), (3, 1, 2, 3)]
)
def test_strides_dilation_and_uneven_padding(stride_h, stride_w, dilation_h, dilation_w, dtype):
    for c, f, groups in ((3, 16, 1), (5, 6, 1), (1, 17, 1), (6, 4, 2), (9, 9, 9), (20, 40, 20)):
        for top, bottom, left, right in ((0, 0, 0, 0), (2, 0, 1, 3), (0, 5, 4, 0)):
            check_exact(
                dtype, 2, (11, 12), c, f, kernel_h=3, kernel_w=4, stride_h=stride_h, stride_w=stride_w, dilation_h=dilation_h,
                dilation_w=dilation_w, groups=groups, top=top, bottom=bottom, left=left, right=right,
            )  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("c", "f", "groups"), [(6, 6, 6), (16, 16, 16), (37, 37, 37), (64, 64, 64), (8, 16, 8), (12, 40, 4), (34, 34, 2)]
)
def test_groups(c, f, groups, dtype):
    for kernel, padding in ((3, 1), (5, 2), (1, 0)):
        check_exact(dtype, 3, (7, 6), c, f, groups=groups, **square(kernel, padding))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("c", "f"), [(40, 24), (33, 6), (64, 10), (3, 33)])
def test_images_cut_into_bands(c, f, dtype):
    check_exact(dtype, 2, (83, 61), c, f, **square(3, 1))
    check_exact(dtype, 1, (130, 70), c, f, stride_h=2, **square(5, 2))


@pytest.mark.parametrize("dtype", DTYPES)
def test_many_small_images(dtype):
    for n in (1, 15, 16, 17, 70, 257):
        for c, f in ((7, 16), (16, 5), (64, 64)):
            check_exact(dtype, n, (4, 3), c, f, **square(3, 1))


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_pixel_windows_are_a_matrix_product(dtype):
    rng = rng_of("1x1", dtype)
    x, dy = (rng.integers(-9, 10, (5, 6, 7, k)).astype(dtype) for k in (37, 29))
    (want,) = _core.call("linear_dw", (x.reshape(-1, 37), dy.reshape(-1, 29)))
    assert_same_bits(F.conv2d_dw(x, dy)[0, 0], want)


@pytest.mark.parametrize(
    ("x", "dy"), [((0, 4, 4, 2), (0, 3, 3, 5)), ((3, 1, 4, 2), (3, 0, 3, 5)), ((2, 4, 4, 2), (2, 3, 3, 0))]
)
def test_nothing_to_sum(x, dy):
    got = F.conv2d_dw(np.ones(x, np.float32), np.ones(dy, np.float32), kernel_h=2, kernel_w=2)
    assert got.shape == (2, 2, 2, dy[3])
    assert not got.any()


def test_groups_that_leave_a_remainder_are_refused():
    x, dy = np.ones((2, 3, 3, 6), np.float32), np.ones((2, 3, 3, 8), np.float32)
    with pytest.raises(ValueError, match=r"'x' has 6 channels, expected a multiple of 'groups' \(4\)"):
        F.conv2d_dw(x, dy, groups=4)
    with pytest.raises(ValueError, match=r"'dy' has 8 filters, expected a multiple of 'groups' \(3\)"):
        F.conv2d_dw(x, dy, groups=3)
    with pytest.raises(ValueError, match="'groups' is 0"):
        F.conv2d_dw(x, dy, groups=0)
