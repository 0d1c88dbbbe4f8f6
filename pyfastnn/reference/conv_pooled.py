"""Reference of the convolution that pools as it goes: the references of the two ops, one after the other.

Samples hold whole numbers: sums of them are exact, so it is certain which cell of a window is the first of the largest.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from pyfastnn.reference import conv, pool
from pyfastnn.reference.spec import Array, Cost, ErrorCase, OpSpec, Rng, Rounding, Sample, register

OP = "conv2d_max_pool_forward"

# Beyond the shapes of the convolution: several bands of planes and of rows, one window, a last row and column without
# one; 1 x 1 filters as a product; and the first layers of small nets.
_SHAPES = (
    (2, 4, 4, 3, 6, 5, 5, 1, 1, 1, 2, 2, 1, 1), (1, 67, 64, 3, 6, 5, 5, 1, 1, 1, 2, 2, 1, 1),
    (1, 150, 130, 2, 3, 3, 3, 1, 1, 1, 1, 1, 1, 1), (2, 2, 2, 3, 5, 1, 1, 1, 1, 1, 0, 0, 1, 1),
    (1, 33, 41, 1, 1, 5, 5, 1, 1, 1, 0, 0, 1, 1), (2, 17, 16, 6, 16, 3, 3, 1, 1, 1, 1, 1, 1, 1),
    (1, 40, 33, 5, 35, 3, 3, 1, 1, 1, 1, 1, 1, 1), (3, 7, 9, 4, 17, 1, 1, 1, 1, 1, 0, 0, 1, 1),
)  # fmt: skip
SHAPES = conv.SHAPES + tuple(dict(zip(conv.SHAPES[0], shape, strict=True)) for shape in _SHAPES)
BENCH = conv.BENCH


def conv2d_max_pool_forward(
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
) -> tuple[Array, Array]:
    """Return the largest value of each window of the convolution, and its cell."""
    attrs = {k: v for k, v in locals().items() if k not in ("x", "w", "b")}
    return pool.max_pool_forward(_even(conv.conv2d_forward(x, w, b, **attrs)[0]))


def _even(y: Array) -> Array:
    """Return at least two rows and columns, or none: the pool's reference wants an image its windows fit in."""
    rows, columns = (size // 2 * 2 for size in y.shape[1:3])
    if rows and columns:
        return y[:, :rows, :columns]
    return np.zeros((y.shape[0], max(rows, 2), max(columns, 2), y.shape[3]), y.dtype)[:, :rows, :columns]


def bound(r: Rounding, x: Array, w: Array, b: Array | None = None, **attrs: float) -> tuple[Array, float]:
    """Bound the error: that of the worst cell of the window. The index is that of exact sums."""
    worst, _ = pool.max_pool_forward(_even(conv.forward_bound(r, x, w, b, **attrs)[0]))
    return worst, 0.0


def case(rng: Rng, dtype: DTypeLike, **sizes: int) -> Sample:
    """Return random whole numbers; sizes as in the convolution."""
    return _whole(conv.case("conv2d_forward", rng, dtype, **sizes))


def special(rng: Rng, dtype: DTypeLike) -> list[Sample]:
    """Return what the convolution is tried with, but for small numbers, whose sums are rounded."""
    samples = conv.special("conv2d_forward", rng, dtype)
    return [_whole(s) for s in samples if not s.label.startswith("subnormal")]


def _whole(sample: Sample) -> Sample:
    inputs = {k: None if a is None else np.rint(2 * a).astype(a.dtype) for k, a in sample.inputs.items()}
    return Sample(sample.label, inputs, sample.attrs)


def errors(rng: Rng, dtype: DTypeLike) -> list[ErrorCase]:
    """Return calls the op must refuse: those of the convolution."""
    cases = conv.errors("conv2d_forward", rng, dtype)
    return [ErrorCase(c.sample, c.exception, c.match.replace("conv2d_forward", OP)) for c in cases]


def cost(itemsize: int, *, n: int, h: int, w: int, g: int, o: int, kh: int, kw: int, **more: int) -> Cost:
    """Return the arithmetic of the convolution, three comparisons a window, and each array moved once."""
    dense = conv.cost(itemsize, n=n, h=h, w=w, g=g, o=o, kh=kh, kw=kw, **more)
    attrs = conv.attributes(h, w, kh, kw, **more)
    oh = conv.out_size(h, attrs["top"], attrs["bottom"], kh, attrs["stride_h"], attrs["dilation_h"])
    ow = conv.out_size(w, attrs["left"], attrs["right"], kw, attrs["stride_w"], attrs["dilation_w"])
    channels = o * attrs["groups"]
    cells = n * (oh // 2) * (ow // 2) * channels
    return Cost(dense.flop + 3 * cells, dense.byte - itemsize * n * oh * ow * channels + (itemsize + 1) * cells)


register(
    OpSpec(
        name=OP,
        reference=conv2d_max_pool_forward,
        bound=bound,
        case=case,
        shapes=SHAPES,
        bench=BENCH,
        special=special,
        errors=errors,
        cost=cost,
        source="LeCun, Bottou, Bengio, Haffner 1998 (convolution); Zhou, Chellappa 1988 (maximum)",
    )
)
