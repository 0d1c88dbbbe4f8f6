"""Reference of the two-dimensional convolution, channels last, and of the gradient of its input.

The kernels sum over the filter for each output; here each tap of the filter adds its share to all outputs it meets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

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
    different_dtype,
    label_of,
    normal,
    register,
)

SOURCE = "LeCun, Bottou, Bengio, Haffner 1998; cross-correlation, images (n, height, width, channels)"

_NAMES = (
    "n", "h", "w", "g", "o", "kh", "kw", "groups", "stride_h", "stride_w", "top", "left", "dilation_h", "dilation_w",
)  # fmt: skip
# One pixel; every remainder of a row by the tiles and vectors; strides with and without taps left over; dilation sharing
# a factor with the stride; paddings wider than the filter; groups; depthwise, in tiles within and across the edges; empty
# arrays; 1 x 1 filters, which are a product; few outputs, which go by planes, with one and many input channels.
_SHAPES = (
    (1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1), (2, 5, 4, 2, 9, 3, 3, 1, 1, 1, 1, 1, 1, 1),
    (0, 5, 5, 2, 3, 3, 3, 1, 1, 1, 1, 1, 1, 1), (2, 4, 5, 0, 3, 3, 3, 1, 1, 1, 1, 1, 1, 1),
    (2, 4, 5, 3, 0, 3, 3, 1, 1, 1, 1, 1, 1, 1), (2, 7, 9, 3, 6, 5, 5, 1, 1, 1, 2, 2, 1, 1),
    (1, 6, 37, 1, 2, 3, 3, 1, 1, 1, 1, 1, 1, 1), (2, 9, 16, 17, 3, 3, 3, 1, 1, 1, 1, 1, 1, 1),
    (1, 5, 33, 6, 1, 5, 3, 1, 1, 1, 0, 0, 1, 1), (1, 9, 11, 9, 8, 3, 2, 1, 1, 1, 2, 3, 2, 3),
    (2, 6, 5, 5, 7, 2, 2, 1, 1, 1, 3, 4, 1, 1), (1, 4, 19, 2, 5, 1, 4, 1, 1, 1, 0, 1, 1, 2),
    (2, 8, 8, 5, 16, 3, 3, 1, 1, 1, 1, 1, 1, 1), (1, 6, 17, 3, 17, 3, 3, 1, 1, 1, 1, 1, 1, 1),
    (1, 5, 15, 4, 33, 3, 3, 1, 1, 1, 0, 1, 1, 1), (1, 3, 31, 2, 49, 1, 3, 1, 1, 1, 0, 0, 1, 1),
    (1, 2, 9, 18, 70, 2, 2, 1, 1, 1, 0, 0, 1, 1), (2, 9, 10, 3, 18, 3, 3, 1, 2, 2, 1, 1, 1, 1),
    (1, 13, 11, 2, 4, 5, 3, 1, 3, 2, 2, 0, 1, 1), (1, 12, 13, 3, 10, 3, 3, 1, 2, 3, 0, 2, 2, 3),
    (1, 10, 15, 2, 5, 2, 3, 1, 4, 6, 1, 1, 2, 4), (2, 6, 7, 2, 3, 1, 1, 1, 3, 2, 0, 1, 1, 1),
    (1, 4, 3, 4, 12, 3, 3, 1, 9, 8, 1, 1, 1, 1), (3, 5, 6, 7, 11, 1, 1, 1, 1, 1, 0, 0, 1, 1),
    (2, 6, 8, 2, 9, 3, 3, 3, 1, 1, 1, 1, 1, 1), (1, 7, 6, 4, 17, 3, 3, 2, 2, 1, 1, 1, 1, 2),
    (2, 8, 7, 1, 1, 3, 3, 19, 1, 1, 1, 1, 1, 1), (1, 9, 7, 1, 2, 3, 5, 5, 2, 2, 1, 2, 1, 1),
    (1, 4, 5, 3, 4, 1, 1, 5, 1, 1, 0, 0, 1, 1), (1, 20, 70, 3, 4, 5, 5, 1, 1, 1, 2, 2, 1, 1),
    (1, 3, 21, 1, 1, 3, 5, 17, 1, 1, 1, 2, 1, 1), (1, 2, 3, 1, 1, 3, 3, 5, 1, 1, 4, 11, 1, 1),
    (2, 4, 16, 1, 1, 3, 3, 33, 1, 1, 1, 1, 1, 1), (1, 3, 15, 1, 1, 2, 5, 4, 1, 1, 0, 0, 1, 1),
    (1, 1, 1, 1, 1, 3, 5, 3, 1, 1, 2, 3, 1, 1), (1, 6, 13, 1, 1, 3, 3, 3, 1, 2, 1, 1, 1, 1),
)  # fmt: skip
SHAPES = tuple(dict(zip(_NAMES, shape, strict=True)) for shape in _SHAPES)
# (h = w, inputs, outputs, kernel, padding): the first layers of small nets, then wider ones; 64 images.
_BENCH = (
    (32, 3, 6, 5, 2), (32, 3, 16, 3, 1), (32, 3, 32, 5, 2), (16, 6, 16, 3, 1), (32, 16, 16, 3, 1), (16, 16, 32, 3, 1),
    (16, 32, 64, 3, 1), (8, 64, 64, 3, 1), (14, 6, 16, 5, 0), (28, 1, 16, 3, 1), (28, 1, 32, 3, 1), (28, 1, 8, 3, 1),
    (28, 1, 6, 5, 2), (8, 64, 128, 1, 0),
)  # fmt: skip
BENCH = tuple(
    {"n": 64, "h": s, "w": s, "g": g, "o": o, "kh": k, "kw": k, "top": p, "left": p} for s, g, o, k, p in _BENCH
)
# (h = w, channels, kernel, padding), a filter for each channel.
DEPTHWISE_BENCH = tuple(
    {"n": 64, "h": s, "w": s, "g": 1, "o": 1, "kh": k, "kw": k, "groups": c, "top": p, "left": p}
    for s, c, k, p in ((32, 32, 3, 1), (16, 64, 3, 1), (16, 64, 5, 2))
)

_INPUTS = {"conv2d_forward": ("x", "w", "b"), "conv2d_dx": ("dy", "w")}


def out_size(size: int, before: float, behind: float, kernel: int, stride: float, dilation: float) -> int:
    """Return how many positions a filter takes along one axis."""
    return int((size + before + behind - dilation * (kernel - 1) - 1) // stride + 1)


def met(tap: int, size: int, out: int, before: float, stride: float, dilation: float) -> tuple[slice, slice]:
    """Return the outputs that a tap of the filter serves from inside the image, and the pixels it finds there."""
    step = int(stride)
    start = int(tap * dilation - before)  # of output 0
    first = max(0, -(start // step))
    end = min(out, (size - 1 - start) // step + 1)
    count = max(0, end - first)
    low = start + first * step
    return slice(first, first + count), slice(low, low + (count - 1) * step + 1, step) if count else slice(0, 0)


def conv2d_forward(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    stride_h: float = 1,
    stride_w: float = 1,
    top: float = 0,
    bottom: float = 0,
    left: float = 0,
    right: float = 0,
    dilation_h: float = 1,
    dilation_w: float = 1,
    groups: float = 1,
) -> tuple[Array]:
    """Return ``y[n, i, j, o] = b[o] + sum(x[n, i * stride_h - top + ky * dilation_h, ..., c] * w[ky, kx, c, o])``."""
    n, height, width, _ = x.shape
    oh = out_size(height, top, bottom, w.shape[0], stride_h, dilation_h)
    ow = out_size(width, left, right, w.shape[1], stride_w, dilation_w)
    y = np.zeros((n, oh, ow, w.shape[3]), x.dtype)
    for ky in range(w.shape[0]):
        i, rows = met(ky, height, oh, top, stride_h, dilation_h)
        for kx in range(w.shape[1]):
            j, columns = met(kx, width, ow, left, stride_w, dilation_w)
            for source, target in _groups(w, groups):
                y[:, i, j, target] += x[:, rows, columns, source] @ w[ky, kx, :, target]
    return (y if b is None else y + b,)


def conv2d_dx(
    dy: Array,
    w: Array,
    *,
    stride_h: float = 1,
    stride_w: float = 1,
    top: float = 0,
    bottom: float = 0,
    left: float = 0,
    right: float = 0,
    dilation_h: float = 1,
    dilation_w: float = 1,
    groups: float = 1,
    height: float = 1,
    width: float = 1,
) -> tuple[Array]:
    """Return the gradient of the input: each output's gradient goes back to the pixels it was made from."""
    n, oh, ow, _ = dy.shape
    dx = np.zeros((n, int(height), int(width), w.shape[2] * int(groups)), dy.dtype)
    for ky in range(w.shape[0]):
        i, rows = met(ky, int(height), oh, top, stride_h, dilation_h)
        for kx in range(w.shape[1]):
            j, columns = met(kx, int(width), ow, left, stride_w, dilation_w)
            for source, target in _groups(w, groups):
                dx[:, rows, columns, source] += dy[:, i, j, target] @ w[ky, kx, :, target].T
    return (dx,)


def _groups(w: Array, groups: float) -> Iterator[tuple[slice, slice]]:
    """Yield the input and output channels of each group."""
    g, o = w.shape[2], w.shape[3] // int(groups)
    for k in range(int(groups)):
        yield slice(k * g, (k + 1) * g), slice(k * o, (k + 1) * o)


def _bound(r: Rounding, terms: int, gauge: Array) -> Array:
    """Bound a sum of ``terms`` products and a bias whose absolute values sum to ``gauge``."""
    bound: Array = np.asarray(2 * (terms + 1) * (r.u * gauge + r.tiny))
    return bound


def forward_bound(r: Rounding, x: Array, w: Array, b: Array | None = None, **attrs: float) -> tuple[Array]:
    """Bound the error of `conv2d_forward`."""
    (gauge,) = conv2d_forward(np.abs(x), np.abs(w), None if b is None else np.abs(b), **attrs)
    return (_bound(r, w.shape[0] * w.shape[1] * w.shape[2], gauge),)


def dx_bound(r: Rounding, dy: Array, w: Array, **attrs: float) -> tuple[Array]:
    """Bound the error of `conv2d_dx`."""
    (gauge,) = conv2d_dx(np.abs(dy), np.abs(w), **attrs)
    return (_bound(r, w.shape[0] * w.shape[1] * w.shape[3], gauge),)


def attributes(
    h: int,
    w: int,
    kh: int,
    kw: int,
    groups: int = 1,
    stride_h: int = 1,
    stride_w: int = 1,
    top: int = 0,
    left: int = 0,
    dilation_h: int = 1,
    dilation_w: int = 1,
) -> dict[str, float]:
    """Return attributes of a convolution; after the image as much padding as before, or what the filter needs."""
    bottom = max(top, dilation_h * (kh - 1) + 1 - h - top)
    right = max(left, dilation_w * (kw - 1) + 1 - w - left)
    return {
        "stride_h": stride_h, "stride_w": stride_w, "top": top, "bottom": bottom, "left": left, "right": right,
        "dilation_h": dilation_h, "dilation_w": dilation_w, "groups": groups,
    }  # fmt: skip


def case(
    op: str, rng: Rng, dtype: DTypeLike, n: int, h: int, w: int, g: int, o: int, kh: int, kw: int, **more: int
) -> Sample:
    """Return random arguments of an op of this file; ``g`` and ``o`` count channels of one group."""
    attrs = attributes(h, w, kh, kw, **more)
    groups = int(attrs["groups"])
    oh = out_size(h, attrs["top"], attrs["bottom"], kh, attrs["stride_h"], attrs["dilation_h"])
    ow = out_size(w, attrs["left"], attrs["right"], kw, attrs["stride_w"], attrs["dilation_w"])
    arrays = {
        "x": normal(rng, dtype, n, h, w, g * groups),
        "w": normal(rng, dtype, kh, kw, g, o * groups),
        "b": normal(rng, dtype, o * groups),
        "dy": normal(rng, dtype, n, oh, ow, o * groups),
    }
    if op == "conv2d_dx":
        attrs = {**attrs, "height": h, "width": w}
    label = label_of(n=n, h=h, w=w, g=g, o=o, kh=kh, kw=kw, **more)
    return Sample(label, {name: arrays[name] for name in _INPUTS[op]}, attrs)


def special(op: str, rng: Rng, dtype: DTypeLike) -> list[Sample]:
    """Return NaN and infinities in images and in filters, small numbers, uneven padding, no bias."""
    samples = []
    for label, sizes in (
        ("lanes", {"n": 2, "h": 6, "w": 7, "g": 4, "o": 18, "kh": 3, "kw": 3, "top": 1, "left": 1}),
        ("planes", {"n": 2, "h": 6, "w": 7, "g": 3, "o": 3, "kh": 3, "kw": 3, "top": 1, "left": 1}),
        ("stride", {"n": 1, "h": 6, "w": 7, "g": 2, "o": 18, "kh": 3, "kw": 3, "top": 1, "left": 1, "stride_h": 2}),
    ):
        sample = case(op, rng, dtype, **sizes)
        for spoiled in ("x" if op == "conv2d_forward" else "dy", "w"):
            array = sample.inputs[spoiled]
            assert array is not None
            bad = array.copy()
            bad[0, 0, 1, 0] = np.nan
            bad[-1, -1, 0, -1] = np.inf
            bad.flat[7::11] = 0
            samples.append(Sample(f"nonfinite_{spoiled}_{label}", {**sample.inputs, spoiled: bad}, sample.attrs))
        tiny = np.finfo(np.dtype(dtype)).tiny
        small = {k: None if a is None else (a * tiny**0.5).astype(dtype) for k, a in sample.inputs.items()}
        samples.append(Sample(f"subnormal_{label}", small, sample.attrs))
    for label, o, (top, bottom, left, right) in (
        ("uneven_lanes", 18, (0, 1, 1, 2)),
        ("uneven_planes", 3, (0, 1, 1, 2)),
        ("before_lanes", 18, (2, 0, 3, 0)),
        ("before_planes", 3, (3, 0, 2, 0)),
    ):
        base = case(op, rng, dtype, n=2, h=6, w=9, g=3, o=o, kh=4, kw=4)
        attrs = {**base.attrs, "top": top, "bottom": bottom, "left": left, "right": right}
        inputs = dict(base.inputs)
        if op == "conv2d_forward":
            inputs["b"] = None
        else:
            spatial = (out_size(6, top, bottom, 4, 1, 1), out_size(9, left, right, 4, 1, 1))
            inputs["dy"] = normal(rng, dtype, 2, *spatial, o)
        samples.append(Sample(label, inputs, attrs))
    return samples


def errors(op: str, rng: Rng, dtype: DTypeLike) -> list[ErrorCase]:
    """Return calls an op must refuse; attributes have their defaults."""
    good = case(op, rng, dtype, n=2, h=1, w=1, g=5, o=4, kh=1, kw=1).inputs
    first = _INPUTS[op][0]
    cases = [
        ErrorCase(Sample("dtype", different_dtype(good, "w")), TypeError, f"{op}: 'w'.*int32"),
        ErrorCase(Sample("rank", {**good, "w": normal(rng, dtype, 5, 4)}), ValueError, f"{op}: 'w'"),
        ErrorCase(Sample("flat", {**good, first: normal(rng, dtype, 2, 5)}), ValueError, f"{op}: '{first}'"),
    ]
    if op == "conv2d_forward":
        channels: Mapping[str, Array | None] = {**good, "x": normal(rng, dtype, 2, 1, 1, 3)}
        cases.append(ErrorCase(Sample("channels", channels), ValueError, rf"{op}: 'x' .*expected 5 \(g\*groups\)"))
        large: Mapping[str, Array | None] = {**good, "w": normal(rng, dtype, 3, 1, 5, 4)}
        cases.append(ErrorCase(Sample("large", large), ValueError, rf"{op}: 'y' would have a dimension of -1"))
        bias: Mapping[str, Array | None] = {**good, "b": normal(rng, dtype, 3)}
        cases.append(ErrorCase(Sample("bias", bias), ValueError, rf"{op}: 'b' has shape \(3,\), expected \(4,\)"))
    else:
        channels = {**good, "dy": normal(rng, dtype, 2, 1, 1, 3)}
        cases.append(ErrorCase(Sample("channels", channels), ValueError, rf"{op}: 'w' has shape \(1, 1, 5, 4\)"))
        size: Mapping[str, Array | None] = {**good, "dy": normal(rng, dtype, 2, 1, 3, 4)}
        cases.append(ErrorCase(Sample("size", size), ValueError, rf"{op}: 'dy' has shape \(2, 1, 3, 4\), expected 1"))
    return cases


def cost(itemsize: int, n: int, h: int, w: int, g: int, o: int, kh: int, kw: int, **more: int) -> Cost:
    """Return the dense arithmetic of a call, and each array moved once."""
    attrs = attributes(h, w, kh, kw, **more)
    groups = attrs["groups"]
    oh = out_size(h, attrs["top"], attrs["bottom"], kh, attrs["stride_h"], attrs["dilation_h"])
    ow = out_size(w, attrs["left"], attrs["right"], kw, attrs["stride_w"], attrs["dilation_w"])
    filters = kh * kw * g * o * groups
    return Cost(2.0 * n * oh * ow * filters, itemsize * (n * (h * w * g + oh * ow * o) * groups + filters))


for _name, _reference, _bound_of in (
    ("conv2d_forward", conv2d_forward, forward_bound),
    ("conv2d_dx", conv2d_dx, dx_bound),
):
    register(
        OpSpec(
            name=_name,
            reference=_reference,
            bound=_bound_of,
            case=partial(case, _name),
            shapes=SHAPES,
            bench=BENCH + DEPTHWISE_BENCH,
            special=partial(special, _name),
            errors=partial(errors, _name),
            cost=cost,
            source=SOURCE,
            backward={"x": "conv2d_dx.dx", "w": "conv2d_dw.dw", "b": "linear_db.db"}
            if _name == "conv2d_forward"
            else {},
        )
    )
