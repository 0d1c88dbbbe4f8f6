"""Reference of the gradient of convolution weights: a contraction of all windows with the upstream gradient."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import DTypeLike

from pyfastnn.reference.spec import (
    Array,
    Cost,
    ErrorCase,
    OpSpec,
    Rng,
    Rounding,
    Sample,
    different_dtype,
    label_of,
    normal,
    register,
)

SOURCE = (
    "LeCun et al. 1989, Backpropagation applied to handwritten zip code recognition; NHWC, filters (kh, kw, in, out)"
)

# n, h, w, c, o, kh, kw, sh, sw, padding, dilation, groups. Every form of the kernel on every instruction set: filters in
# the lanes (1 to 5 vectors, whole and partial), taps taken together, runs in the lanes, depthwise; bands of large images.
_SHAPES = (
    (0, 4, 4, 2, 3, 2, 2, 1, 1, 0, 1, 1), (2, 1, 1, 1, 1, 1, 1, 1, 1, 0, 1, 1), (1, 2, 5, 3, 4, 3, 3, 1, 1, 0, 1, 1),
    (2, 4, 4, 1, 2, 2, 2, 1, 1, 0, 1, 1), (2, 5, 4, 2, 3, 3, 2, 1, 1, 1, 1, 1), (1, 6, 5, 3, 2, 2, 3, 2, 1, 0, 1, 1),
    (1, 5, 7, 2, 2, 2, 2, 1, 2, 1, 2, 2), (1, 5, 5, 4, 4, 3, 3, 1, 1, 1, 1, 4), (3, 8, 9, 3, 6, 5, 5, 1, 1, 2, 1, 1),
    (2, 9, 7, 6, 16, 5, 5, 1, 1, 0, 1, 1), (2, 6, 6, 3, 16, 3, 3, 1, 1, 1, 1, 1), (2, 6, 5, 4, 33, 3, 3, 1, 1, 1, 1, 1),
    (2, 5, 6, 7, 50, 3, 3, 1, 1, 1, 1, 1), (1, 4, 4, 17, 64, 3, 3, 1, 1, 1, 1, 1), (1, 4, 5, 16, 10, 3, 3, 1, 1, 1, 1, 1),
    (2, 9, 9, 1, 16, 3, 3, 1, 1, 1, 1, 1), (2, 9, 8, 1, 8, 5, 5, 1, 1, 3, 1, 1), (1, 11, 9, 1, 32, 7, 7, 2, 2, 3, 1, 1),
    (1, 9, 9, 2, 20, 4, 3, 1, 1, 1, 1, 1), (2, 7, 7, 5, 9, 3, 3, 2, 3, 1, 2, 1), (2, 6, 7, 8, 24, 1, 1, 1, 1, 0, 1, 1),
    (2, 6, 7, 8, 12, 1, 1, 2, 2, 0, 1, 1), (1, 6, 6, 6, 9, 3, 2, 1, 1, 1, 1, 3), (2, 5, 5, 18, 34, 3, 3, 1, 1, 1, 1, 2),
    (2, 7, 6, 19, 19, 3, 3, 1, 1, 1, 1, 19), (1, 7, 9, 37, 37, 5, 5, 2, 1, 3, 1, 37), (2, 5, 5, 3, 6, 3, 3, 1, 1, 1, 1, 3),
    (20, 3, 3, 4, 5, 3, 3, 1, 1, 1, 1, 1), (2, 66, 40, 17, 8, 3, 3, 1, 1, 1, 1, 1), (1, 70, 37, 16, 17, 3, 3, 2, 1, 1, 1, 1),
)  # fmt: skip
_NAMES = ("n", "h", "w", "c", "o", "kh", "kw", "sh", "sw", "p", "d", "g")
SHAPES = tuple(dict(zip(_NAMES, sizes, strict=True)) for sizes in _SHAPES)
_BENCH = (
    (64, 32, 32, 3, 6, 5, 5, 1, 1, 2, 1, 1), (64, 32, 32, 3, 16, 3, 3, 1, 1, 1, 1, 1), (64, 16, 16, 6, 16, 3, 3, 1, 1, 1, 1, 1),
    (64, 32, 32, 16, 16, 3, 3, 1, 1, 1, 1, 1), (64, 16, 16, 32, 64, 3, 3, 1, 1, 1, 1, 1), (64, 8, 8, 64, 64, 3, 3, 1, 1, 1, 1, 1),
    (64, 28, 28, 1, 32, 3, 3, 1, 1, 1, 1, 1), (64, 32, 32, 32, 32, 3, 3, 1, 1, 1, 1, 32), (64, 16, 16, 64, 64, 3, 3, 1, 1, 1, 1, 64),
    (64, 16, 16, 64, 64, 5, 5, 1, 1, 2, 1, 64),
)  # fmt: skip
BENCH = tuple(dict(zip(_NAMES, sizes, strict=True)) for sizes in _BENCH)


def conv2d_dw(
    x: Array,
    dy: Array,
    *,
    stride_h: int = 1,
    stride_w: int = 1,
    top: int = 0,
    bottom: int = 0,
    left: int = 0,
    right: int = 0,
    dilation_h: int = 1,
    dilation_w: int = 1,
    groups: int = 1,
    kernel_h: int = 1,
    kernel_w: int = 1,
) -> tuple[Array]:
    """Return the sum over images and output pixels of (window of x) times (gradient of the pixel), group by group."""
    stride_h, stride_w, top, bottom, left, right, dilation_h, dilation_w, groups, kernel_h, kernel_w = map(
        int,
        (stride_h, stride_w, top, bottom, left, right, dilation_h, dilation_w, groups, kernel_h, kernel_w),
    )
    n, out_h, out_w, filters = dy.shape
    channels = x.shape[3]
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    reach = (dilation_h * (kernel_h - 1) + 1, dilation_w * (kernel_w - 1) + 1)
    dw = np.zeros((kernel_h, kernel_w, channels // groups, filters), x.dtype)
    if dy.size == 0 or x.size == 0:
        return (dw,)
    windows = sliding_window_view(padded, reach, axis=(1, 2))
    windows = windows[:, ::stride_h, ::stride_w, :, ::dilation_h, ::dilation_w][:, :out_h, :out_w]
    windows = windows.reshape(n, out_h, out_w, groups, channels // groups, kernel_h, kernel_w)
    upstream = dy.reshape(n, out_h, out_w, groups, filters // groups)
    for g in range(groups):
        part = np.tensordot(windows[:, :, :, g], upstream[:, :, :, g], axes=((0, 1, 2), (0, 1, 2)))
        dw[..., g * (filters // groups) : (g + 1) * (filters // groups)] = part.transpose(1, 2, 0, 3)
    return (dw,)


def bound(r: Rounding, x: Array, dy: Array, **attrs: int) -> tuple[Array]:
    """Bound a sum over the output pixels of all images by the sum of its absolute terms."""
    terms = int(np.prod(dy.shape[:3], dtype=np.int64))
    (gauge,) = conv2d_dw(np.abs(x), np.abs(dy), **attrs)
    return (2 * (terms + 1) * (r.u * gauge + r.tiny),)


def _other(p: int) -> int:
    """Return the padding of the other side: 3 rows go with 1, up to 2 with as many."""
    return p if p < 3 else p - 2


def attributes(kh: int, kw: int, sh: int, sw: int, p: int, d: int, g: int) -> dict[str, float]:
    """Return the attributes of a case; padding of 3 differs from side to side."""
    return {
        "stride_h": sh,
        "stride_w": sw,
        "top": p,
        "bottom": _other(p),
        "left": _other(p),
        "right": p,
        "dilation_h": d,
        "dilation_w": d,
        "groups": g,
        "kernel_h": kh,
        "kernel_w": kw,
    }


def case(
    rng: Rng, dtype: DTypeLike, *, n: int, h: int, w: int, c: int, o: int, kh: int, kw: int, sh: int, sw: int, p: int, d: int, g: int
) -> Sample:  # fmt: skip
    """Return random arguments."""
    attrs = attributes(kh, kw, sh, sw, p, d, g)
    pads = p + _other(p)
    out_h = (h + pads - d * (kh - 1) - 1) // sh + 1
    out_w = (w + pads - d * (kw - 1) - 1) // sw + 1
    arrays = {"x": normal(rng, dtype, n, h, w, c), "dy": normal(rng, dtype, n, out_h, out_w, o)}
    return Sample(label_of(n=n, h=h, w=w, c=c, o=o, kh=kh, kw=kw, sh=sh, sw=sw, p=p, d=d, g=g), arrays, attrs)


def special(rng: Rng, dtype: DTypeLike) -> list[Sample]:
    """Return values that are not finite, where no padding meets them, and tiny ones; in three forms of the kernel."""
    samples = []
    for o, g in ((16, 1), (2, 1), (3, 3)):
        sizes = {"n": 2, "h": 5, "w": 5, "c": 3, "o": o, "kh": 2, "kw": 3, "sh": 1, "sw": 1, "p": 0, "d": 1, "g": g}
        sample = case(rng, dtype, **sizes)
        arrays = {k: a.copy() for k, a in sample.inputs.items() if a is not None}
        arrays["x"][0, 4, 4, 0] = np.nan
        arrays["x"][1, 0, 0, 1] = np.inf
        arrays["dy"][0, 1, 2, o - 1] = np.inf
        samples.append(Sample(f"nonfinite_o{o}", arrays, sample.attrs))
    sample = case(rng, dtype, **sizes)
    tiny = float(np.finfo(np.dtype(dtype)).tiny) ** 0.5
    small = {k: (a * tiny).astype(dtype) for k, a in sample.inputs.items() if a is not None}
    return [*samples, Sample("subnormal", small, sample.attrs)]


def errors(rng: Rng, dtype: DTypeLike) -> list[ErrorCase]:
    """Return calls the op must refuse."""
    good: dict[str, Array | None] = {"x": normal(rng, dtype, 2, 3, 4, 2), "dy": normal(rng, dtype, 2, 3, 4, 5)}
    shape = {**good, "dy": normal(rng, dtype, 2, 3, 3, 5)}
    batch = {**good, "dy": normal(rng, dtype, 3, 3, 4, 5)}
    rank = {**good, "dy": normal(rng, dtype, 5)}
    return [
        ErrorCase(Sample("dtype", different_dtype(good, "dy")), TypeError, "conv2d_dw: 'dy'.*int32"),
        ErrorCase(Sample("shape", shape), ValueError, r"conv2d_dw: 'dy' has shape \(2, 3, 3, 5\), expected 4 "),
        ErrorCase(Sample("batch", batch), ValueError, r"conv2d_dw: 'dy' has shape \(3, 3, 4, 5\)"),
        ErrorCase(Sample("rank", rank), ValueError, "conv2d_dw: 'dy'"),
    ]


def cost(
    itemsize: int, *, n: int, h: int, w: int, c: int, o: int, kh: int, kw: int, sh: int, sw: int, p: int, d: int, g: int
) -> Cost:
    """Return the dense arithmetic, and each array once."""
    pads = p + _other(p)
    pixels = ((h + pads - d * (kh - 1) - 1) // sh + 1) * ((w + pads - d * (kw - 1) - 1) // sw + 1)
    weights = kh * kw * (c // g) * o
    return Cost(2.0 * n * pixels * weights, itemsize * (n * (h * w * c + pixels * o) + weights))


register(
    OpSpec(
        name="conv2d_dw",
        reference=conv2d_dw,
        bound=bound,
        case=case,
        shapes=SHAPES,
        bench=BENCH,
        special=special,
        errors=errors,
        cost=cost,
        source=SOURCE,
    )
)
