"""Reference of the gradient of convolution weights after a max pool: the windows at the maxima, gathered by index."""

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

# n, h, w, c, o, kh, kw, padding: tiles of 1 to 5 rows and all widths of a run, rows of the kernel and vectors in groups,
# odd rows and columns left over, images larger than a cache.
_SHAPES = (
    (0, 4, 4, 2, 3, 3, 3, 1), (1, 2, 2, 1, 1, 1, 1, 0), (2, 4, 4, 2, 3, 3, 3, 1), (2, 5, 4, 1, 3, 2, 3, 1), (1, 4, 6, 3, 2, 3, 2, 1),
    (2, 6, 5, 2, 2, 5, 5, 2), (3, 8, 8, 3, 6, 5, 5, 2), (2, 8, 6, 6, 16, 3, 3, 1), (2, 9, 9, 16, 7, 3, 3, 1), (1, 8, 7, 33, 5, 3, 3, 1),
    (1, 6, 6, 64, 3, 3, 3, 1), (2, 10, 12, 1, 4, 7, 7, 3), (1, 9, 8, 5, 3, 4, 4, 0), (1, 12, 11, 3, 2, 11, 6, 3), (18, 4, 4, 3, 5, 3, 3, 1),
    (1, 70, 50, 20, 2, 3, 3, 1),
)  # fmt: skip
_NAMES = ("n", "h", "w", "c", "o", "kh", "kw", "p")
SHAPES = tuple(dict(zip(_NAMES, sizes, strict=True)) for sizes in _SHAPES)
_BENCH = ((64, 32, 32, 3, 6, 5, 5, 2), (64, 16, 16, 6, 16, 3, 3, 1), (64, 28, 28, 32, 32, 3, 3, 1))
BENCH = tuple(dict(zip(_NAMES, sizes, strict=True)) for sizes in _BENCH)


def conv2d_dw_pooled(
    x: Array,
    dy: Array,
    index: Array,
    *,
    top: int = 0,
    bottom: int = 0,
    left: int = 0,
    right: int = 0,
    kernel_h: int = 1,
    kernel_w: int = 1,
) -> tuple[Array]:
    """Return the sum over pooled pixels of (the window of x at the maximum) times (gradient of the pooled pixel)."""
    top, bottom, left, right, kernel_h, kernel_w = map(int, (top, bottom, left, right, kernel_h, kernel_w))
    dw = np.zeros((kernel_h, kernel_w, x.shape[3], dy.shape[3]), x.dtype)
    if dy.size == 0:
        return (dw,)
    n, p, q, _ = dy.shape
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    image = np.arange(n)[:, None, None, None]
    row = 2 * np.arange(p)[None, :, None, None] + (index >> 1 & 1)
    column = 2 * np.arange(q)[None, None, :, None] + (index & 1)
    for i in range(kernel_h):
        for j in range(kernel_w):
            cells = padded[image, row + i, column + j]  # (n, p, q, filters, channels)
            dw[i, j] = np.einsum("npqfc,npqf->cf", cells, dy)
    return (dw,)


def bound(r: Rounding, x: Array, dy: Array, index: Array, **attrs: int) -> tuple[Array]:
    """Bound a sum over the pooled pixels of all images by the sum of its absolute terms."""
    terms = int(np.prod(dy.shape[:3], dtype=np.int64))
    (gauge,) = conv2d_dw_pooled(np.abs(x), np.abs(dy), index, **attrs)
    return (2 * (terms + 1) * (r.u * gauge + r.tiny),)


def _pooled(size: int, kernel: int, p: int) -> int:
    return (size + 2 * p - kernel + 1) // 2


def case(rng: Rng, dtype: DTypeLike, *, n: int, h: int, w: int, c: int, o: int, kh: int, kw: int, p: int) -> Sample:
    """Return random arguments; padding goes where the kernel reaches."""
    shape = (n, _pooled(h, kh, p), _pooled(w, kw, p), o)
    arrays = {
        "x": normal(rng, dtype, n, h, w, c),
        "dy": normal(rng, dtype, *shape),
        "index": rng.integers(0, 4, shape).astype(np.uint8),
    }
    attrs = {"top": p - p // 2, "bottom": p + p // 2, "left": p, "right": p, "kernel_h": kh, "kernel_w": kw}
    return Sample(label_of(n=n, h=h, w=w, c=c, o=o, kh=kh, kw=kw, p=p), arrays, attrs)


def special(rng: Rng, dtype: DTypeLike) -> list[Sample]:
    """Return values that are not finite, which spread from the windows that count only, and any index."""
    sizes = {"n": 2, "h": 6, "w": 6, "c": 3, "o": 4, "kh": 3, "kw": 2, "p": 1}
    sample = case(rng, dtype, **sizes)
    arrays = {k: a.copy() for k, a in sample.inputs.items() if a is not None}
    arrays["x"][0, 3, 3, 0] = np.nan
    arrays["x"][1, 0, 0, 1] = np.inf
    arrays["dy"][0, 1, 1, 2] = np.nan
    strange = case(rng, dtype, **sizes)
    index = rng.integers(0, 256, arrays["index"].shape).astype(np.uint8)
    return [
        Sample("nonfinite", arrays, sample.attrs),
        Sample("any_index", {**strange.inputs, "index": index}, strange.attrs),
    ]


def errors(rng: Rng, dtype: DTypeLike) -> list[ErrorCase]:
    """Return calls the op must refuse."""
    good = dict(case(rng, dtype, n=2, h=4, w=6, c=2, o=3, kh=1, kw=1, p=0).inputs)
    shape = {**good, "dy": normal(rng, dtype, 2, 3, 3, 3)}
    other = {**good, "index": np.zeros((2, 2, 3, 4), np.uint8)}
    return [
        ErrorCase(Sample("dtype", different_dtype(good, "dy")), TypeError, "conv2d_dw_pooled: 'dy'.*int32"),
        ErrorCase(Sample("shape", shape), ValueError, r"conv2d_dw_pooled: 'dy' has shape \(2, 3, 3, 3\), expected 2 "),
        ErrorCase(Sample("index", other), ValueError, r"conv2d_dw_pooled: 'index' has shape \(2, 2, 3, 4\)"),
    ]


def cost(itemsize: int, *, n: int, h: int, w: int, c: int, o: int, kh: int, kw: int, p: int) -> Cost:
    """Return the arithmetic of the windows that count, and each array once."""
    cells = n * _pooled(h, kh, p) * _pooled(w, kw, p) * o
    return Cost(2.0 * cells * kh * kw * c, itemsize * (n * h * w * c + cells + kh * kw * c * o) + cells)


register(
    OpSpec(
        name="conv2d_dw_pooled",
        reference=conv2d_dw_pooled,
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
