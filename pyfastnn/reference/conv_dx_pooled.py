"""Reference of the gradient of a convolution's input after a max pool: each tap's products, added where the maxima came from."""

from __future__ import annotations

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

# n, h, w, c, o, kh, kw, padding: patches of 1 to 12 rows and all widths, rows and vectors in groups, filters in blocks, pixels
# beyond the pooled cells, rows without a cell, images in many bands.
_SHAPES = (
    (0, 4, 4, 2, 3, 3, 3, 1), (1, 2, 2, 1, 1, 1, 1, 0), (2, 4, 4, 2, 3, 3, 3, 1), (2, 5, 4, 1, 3, 2, 3, 1), (1, 4, 6, 3, 2, 3, 2, 1),
    (2, 6, 5, 2, 2, 5, 5, 2), (3, 8, 8, 3, 6, 5, 5, 2), (2, 8, 6, 6, 16, 3, 3, 1), (2, 9, 9, 16, 7, 3, 3, 1), (1, 8, 7, 33, 5, 3, 3, 1),
    (1, 6, 6, 64, 3, 3, 3, 1), (2, 10, 12, 1, 4, 7, 7, 3), (1, 9, 8, 5, 3, 4, 4, 0), (1, 12, 11, 3, 2, 11, 6, 3), (18, 4, 4, 3, 5, 3, 3, 1),
    (1, 40, 34, 4, 2, 3, 3, 1), (1, 4, 6, 16, 40, 3, 3, 1), (1, 3, 3, 2, 3, 3, 3, 0), (1, 2, 2, 3, 2, 2, 2, 0), (1, 24, 3, 1, 2, 21, 1, 0),
)  # fmt: skip
_NAMES = ("n", "h", "w", "c", "o", "kh", "kw", "p")
SHAPES = tuple(dict(zip(_NAMES, sizes, strict=True)) for sizes in _SHAPES)
_BENCH = ((64, 16, 16, 6, 16, 3, 3, 1), (64, 14, 14, 16, 16, 3, 3, 1))
BENCH = tuple(dict(zip(_NAMES, sizes, strict=True)) for sizes in _BENCH)


def conv2d_dx_pooled(
    dy: Array,
    index: Array,
    w: Array,
    *,
    top: int = 0,
    bottom: int = 0,
    left: int = 0,
    right: int = 0,
    height: int = 1,
    width: int = 1,
) -> tuple[Array]:
    """Return the sum over pooled pixels of their gradient times the filter, at the window of the maximum."""
    top, bottom, left, right, height, width = map(int, (top, bottom, left, right, height, width))
    n, p, q, _ = dy.shape
    kernel_h, kernel_w, channels, _ = w.shape
    dx = np.zeros((n, height + top + bottom + kernel_h, width + left + right + kernel_w, channels), dy.dtype)
    for place in range(4):
        here = ((index & 3) == place)[..., None]
        for i in range(kernel_h):
            for j in range(kernel_w):
                # Products of other places are not merely 0: they are left out, for they might be NaN.
                with np.errstate(invalid="ignore"):
                    share = np.where(here, dy[..., None] * w[i, j].T, 0).sum(axis=3)
                row, column = place // 2 + i, place % 2 + j
                dx[:, row : row + 2 * p : 2, column : column + 2 * q : 2] += share
    return (dx[:, top : top + height, left : left + width].copy(),)


def bound(r: Rounding, dy: Array, index: Array, w: Array, **attrs: int) -> tuple[Array]:
    """Bound a sum over the filter's taps and the output channels by the sum of its absolute terms."""
    terms = w.shape[0] * w.shape[1] * w.shape[3]
    (gauge,) = conv2d_dx_pooled(np.abs(dy), index, np.abs(w), **attrs)
    return (2 * (terms + 1) * (r.u * gauge + r.tiny),)


def _pooled(size: int, kernel: int, p: int) -> int:
    return (size + 2 * p - kernel + 1) // 2


def case(rng: Rng, dtype: DTypeLike, *, n: int, h: int, w: int, c: int, o: int, kh: int, kw: int, p: int) -> Sample:
    """Return random arguments; padding goes where the kernel reaches."""
    shape = (n, _pooled(h, kh, p), _pooled(w, kw, p), o)
    arrays = {
        "dy": normal(rng, dtype, *shape),
        "index": rng.integers(0, 4, shape).astype(np.uint8),
        "w": normal(rng, dtype, kh, kw, c, o),
    }
    attrs = {"top": p - p // 2, "bottom": p + p // 2, "left": p, "right": p, "height": h, "width": w}
    return Sample(label_of(n=n, h=h, w=w, c=c, o=o, kh=kh, kw=kw, p=p), arrays, attrs)


def special(rng: Rng, dtype: DTypeLike) -> list[Sample]:
    """Return values that are not finite, which spread to the pixels of the window that counts only, and any index."""
    sizes = {"n": 2, "h": 8, "w": 6, "c": 3, "o": 4, "kh": 3, "kw": 2, "p": 1}
    samples = []
    for label, name, at, value in (
        ("nan_gradient", "dy", (0, 1, 1, 2), np.nan),
        ("inf_gradient", "dy", (1, 0, 0, 1), np.inf),
        ("nan_weight", "w", (0, 1, 2, 3), np.nan),
        ("inf_weight", "w", (2, 0, 0, 0), -np.inf),
    ):
        sample = case(rng, dtype, **sizes)
        arrays = {k: a.copy() for k, a in sample.inputs.items() if a is not None}
        arrays[name][at] = value
        samples.append(Sample(label, arrays, sample.attrs))
    strange = case(rng, dtype, **sizes)
    index = rng.integers(0, 256, arrays["index"].shape).astype(np.uint8)
    samples.append(Sample("any_index", {**strange.inputs, "index": index}, strange.attrs))
    return samples


def errors(rng: Rng, dtype: DTypeLike) -> list[ErrorCase]:
    """Return calls the op must refuse; attributes have their defaults: images of one pixel, in which no window of 2 x 2 fits."""
    good = dict(case(rng, dtype, n=2, h=1, w=1, c=2, o=3, kh=1, kw=1, p=0).inputs)
    shape = {**good, "dy": normal(rng, dtype, 2, 3, 3, 3)}
    other = {**good, "index": np.zeros((2, 0, 0, 4), np.uint8)}
    return [
        ErrorCase(Sample("dtype", different_dtype(good, "w")), TypeError, "conv2d_dx_pooled: 'w'.*int32"),
        ErrorCase(Sample("shape", shape), ValueError, r"conv2d_dx_pooled: 'dy' has shape \(2, 3, 3, 3\), expected 0 "),
        ErrorCase(Sample("index", other), ValueError, r"conv2d_dx_pooled: 'index' has shape \(2, 0, 0, 4\)"),
    ]


def cost(itemsize: int, *, n: int, h: int, w: int, c: int, o: int, kh: int, kw: int, p: int) -> Cost:
    """Return the arithmetic of the windows that count, and each array once."""
    cells = n * _pooled(h, kh, p) * _pooled(w, kw, p) * o
    return Cost(2.0 * cells * kh * kw * c, itemsize * (n * h * w * c + cells + kh * kw * c * o) + cells)


register(
    OpSpec(
        name="conv2d_dx_pooled",
        reference=conv2d_dx_pooled,
        bound=bound,
        case=case,
        shapes=SHAPES,
        bench=BENCH,
        special=special,
        errors=errors,
        cost=cost,
        source="LeCun et al. 1989 (convolution); the pool's gradient has one value of four",
    )
)
