"""Reference of the pools over NHWC images: maxima and averages over all windows at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

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

NO_CELL = 255
"""Index of a window that holds no cell of the image."""

_MAX = "Zhou, Chellappa 1988; ties and NaN as in PyTorch"
_MEAN = "LeCun et al. 1989; Lin, Chen, Yan 2014 (global)"

# n, h, w, c, kh, kw, sh, sw, padding. The first are small; windows that touch, overlap and leave gaps; rows and columns
# left over; channels around every vector length.
_SHAPES = (
    (2, 2, 4, 3, 2, 2, 2, 2, 0), (2, 4, 4, 2, 2, 2, 2, 2, 0), (1, 5, 5, 3, 3, 3, 1, 1, 1), (2, 4, 5, 1, 2, 3, 1, 2, 1),
    (1, 6, 4, 4, 2, 2, 2, 2, 1), (0, 4, 4, 3, 2, 2, 2, 2, 0), (2, 5, 7, 5, 2, 2, 2, 2, 0), (1, 1, 1, 2, 1, 1, 1, 1, 0),
    (1, 1, 3, 2, 2, 2, 2, 2, 0), (3, 8, 6, 6, 2, 2, 2, 2, 0), (2, 6, 6, 15, 2, 2, 2, 2, 0), (2, 4, 6, 16, 2, 2, 2, 2, 0),
    (2, 7, 5, 17, 3, 3, 2, 2, 1), (1, 9, 8, 33, 3, 2, 2, 3, 1), (2, 6, 8, 37, 2, 2, 2, 2, 0), (1, 10, 9, 8, 2, 2, 3, 4, 0),
    (1, 17, 16, 4, 15, 16, 1, 1, 0), (2, 9, 9, 7, 5, 4, 3, 1, 2),
)  # fmt: skip
_NAMES = ("n", "h", "w", "c", "kh", "kw", "sh", "sw", "p")
SHAPES = tuple(dict(zip(_NAMES, sizes, strict=True)) for sizes in _SHAPES)
_BENCH = (
    (64, 32, 32, 6, 2, 2, 2, 2, 0), (64, 32, 32, 16, 2, 2, 2, 2, 0), (64, 32, 32, 64, 2, 2, 2, 2, 0), (64, 16, 16, 16, 3, 3, 2, 2, 1),
)  # fmt: skip
BENCH = tuple(dict(zip(_NAMES, sizes, strict=True)) for sizes in _BENCH)
_GLOBAL = (
    (2, 2, 2, 3), (0, 2, 3, 4), (1, 1, 1, 1), (3, 1, 4, 2), (2, 3, 5, 7), (4, 7, 7, 5), (2, 9, 8, 16), (1, 13, 11, 17), (2, 3, 3, 65),
)  # fmt: skip
GLOBAL = tuple(dict(zip(("n", "h", "w", "c"), sizes, strict=True)) for sizes in _GLOBAL)
GLOBAL_BENCH = ({"n": 64, "h": 8, "w": 8, "c": 64}, {"n": 64, "h": 28, "w": 28, "c": 32})


def _windows(x: Array, fill: float, attrs: dict[str, int]) -> Array:
    """Return all windows of the padded images, shape (n, out_h, out_w, c, kernel_h * kernel_w)."""
    pads = ((0, 0), (attrs["top"], attrs["bottom"]), (attrs["left"], attrs["right"]), (0, 0))
    padded = np.pad(x, pads, constant_values=fill)
    reach = (attrs["kernel_h"], attrs["kernel_w"])
    n, c = x.shape[0], x.shape[3]
    out = [(padded.shape[1 + k] - reach[k]) // attrs[f"stride_{'hw'[k]}"] + 1 for k in range(2)]
    if min(n, c, *out) == 0:
        return np.zeros((n, *out, c, reach[0] * reach[1]), x.dtype)
    seen = sliding_window_view(padded, reach, axis=(1, 2))
    seen = seen[:, :: attrs["stride_h"], :: attrs["stride_w"]]
    return np.ascontiguousarray(seen).reshape(n, *out, c, -1)


def _scatter(parts: Array, height: int, width: int, attrs: dict[str, int]) -> Array:
    """Add the cells of all windows, shape (n, out_h, out_w, c, cells), into images."""
    n, out_h, out_w, c = parts.shape[:4]
    kernel_w, stride_h, stride_w = attrs["kernel_w"], attrs["stride_h"], attrs["stride_w"]
    shape = (n, height + attrs["top"] + attrs["bottom"], width + attrs["left"] + attrs["right"], c)
    padded = np.zeros(shape, parts.dtype)
    for cell in range(parts.shape[4]):
        i, j = divmod(cell, kernel_w)
        padded[:, i : i + stride_h * out_h : stride_h, j : j + stride_w * out_w : stride_w] += parts[..., cell]
    return padded[:, attrs["top"] : attrs["top"] + height, attrs["left"] : attrs["left"] + width].copy()


def max_pool_forward(
    x: Array,
    *,
    kernel_h: int = 2,
    kernel_w: int = 2,
    stride_h: int = 2,
    stride_w: int = 2,
    top: int = 0,
    bottom: int = 0,
    left: int = 0,
    right: int = 0,
) -> tuple[Array, Array]:
    """Return the largest value of each window and its cell: the first of equal ones, the last NaN."""
    attrs = {k: int(v) for k, v in locals().items() if k != "x"}
    cells = _windows(x, -np.inf, attrs)
    inside = _windows(np.ones_like(x), 0, attrs) > 0
    nan = np.isnan(cells)
    rank = np.where(nan, np.inf, cells)
    first = np.argmax(np.where(inside, rank == rank.max(axis=-1, keepdims=True), False), axis=-1)
    last = cells.shape[-1] - 1 - np.argmax(nan[..., ::-1], axis=-1)
    index = np.where(nan.any(axis=-1), last, np.where(inside.any(axis=-1), first, NO_CELL))
    y = np.where(nan.any(axis=-1), np.nan, rank.max(axis=-1)).astype(x.dtype)
    return y, index.astype(np.uint8)


def max_pool_backward(
    dy: Array,
    index: Array,
    *,
    kernel_h: int = 2,
    kernel_w: int = 2,
    stride_h: int = 2,
    stride_w: int = 2,
    top: int = 0,
    bottom: int = 0,
    left: int = 0,
    right: int = 0,
    height: int = 1,
    width: int = 1,
) -> tuple[Array]:
    """Return dx: each dy added to the cell its index names."""
    attrs = {k: int(v) for k, v in locals().items() if k not in ("dy", "index")}
    chosen = index[..., None] == np.arange(attrs["kernel_h"] * attrs["kernel_w"])
    return (_scatter(np.where(chosen, dy[..., None], 0), attrs["height"], attrs["width"], attrs),)


def _counts(shape: tuple[int, ...], attrs: dict[str, int], include_pad: int) -> Array:
    """Return what the sum of each window is divided by, shape (1, out_h, out_w, 1)."""
    inside: Array = _windows(np.ones((1, *shape, 1)), 0, attrs).sum(axis=-1)
    if include_pad:
        return np.full_like(inside, attrs["kernel_h"] * attrs["kernel_w"])
    counts: Array = np.maximum(inside, 1)
    return counts


def avg_pool_forward(
    x: Array,
    *,
    kernel_h: int = 2,
    kernel_w: int = 2,
    stride_h: int = 2,
    stride_w: int = 2,
    top: int = 0,
    bottom: int = 0,
    left: int = 0,
    right: int = 0,
    count_include_pad: int = 1,
) -> tuple[Array]:
    """Return the sum of each window over kernel_h * kernel_w, or over its cells inside the image."""
    attrs = {k: int(v) for k, v in locals().items() if k != "x"}
    return (_windows(x, 0, attrs).sum(axis=-1) / _counts(x.shape[1:3], attrs, count_include_pad).astype(x.dtype),)


def avg_pool_backward(
    dy: Array,
    *,
    kernel_h: int = 2,
    kernel_w: int = 2,
    stride_h: int = 2,
    stride_w: int = 2,
    top: int = 0,
    bottom: int = 0,
    left: int = 0,
    right: int = 0,
    count_include_pad: int = 1,
    height: int = 1,
    width: int = 1,
) -> tuple[Array]:
    """Return dx: each dy shared out over the cells of its window."""
    attrs = {k: int(v) for k, v in locals().items() if k != "dy"}
    size = attrs["height"], attrs["width"]
    share = dy / _counts(size, attrs, count_include_pad).astype(dy.dtype)
    cells = np.broadcast_to(share[..., None], (*share.shape, attrs["kernel_h"] * attrs["kernel_w"]))
    return (_scatter(cells, *size, attrs),)


def global_avg_pool_forward(x: Array) -> tuple[Array]:
    """Return the mean over height and width; NaN if there are no pixels."""
    pixels = x.shape[1] * x.shape[2]
    return (x.sum(axis=(1, 2)) / np.asarray(pixels, x.dtype),)


def global_avg_pool_backward(dy: Array, *, height: int = 1, width: int = 1) -> tuple[Array]:
    """Return dx: dy over the number of pixels, at every pixel."""
    dx = np.broadcast_to(dy[:, None, None] / (height * width), (len(dy), int(height), int(width), dy.shape[1]))
    return (dx.copy(),)


def _exact(r: Rounding, *_: Any, **__: Any) -> tuple[Any, ...]:
    return 0.0, 0.0


def _covering(attrs: dict[str, int]) -> int:
    """Return how many windows may hold one cell."""
    across = -(-attrs["kernel_w"] // attrs["stride_w"])
    return -(-attrs["kernel_h"] // attrs["stride_h"]) * across


_WINDOW = dict.fromkeys(("kernel_h", "kernel_w", "stride_h", "stride_w"), 2) | dict.fromkeys(
    ("top", "bottom", "left", "right"), 0
)


def _max_backward_bound(r: Rounding, dy: Array, index: Array, **attrs: int) -> tuple[Any]:
    windows = _covering({**_WINDOW, **attrs})
    if windows == 1:
        return (0.0,)
    return ((windows + 1) * r.u * max_pool_backward(np.abs(dy), index, **attrs)[0],)


def _avg_bound(r: Rounding, x: Array, **attrs: int) -> tuple[Any]:
    cells = attrs.get("kernel_h", 2) * attrs.get("kernel_w", 2)
    return ((cells + 3) * (r.u * avg_pool_forward(np.abs(x), **attrs)[0] + r.tiny),)


def _avg_backward_bound(r: Rounding, dy: Array, **attrs: int) -> tuple[Any]:
    windows = _covering({**_WINDOW, **attrs})
    return ((windows + 3) * (r.u * avg_pool_backward(np.abs(dy), **attrs)[0] + r.tiny),)


def _global_bound(r: Rounding, x: Array) -> tuple[Any]:
    terms = x.shape[1] * x.shape[2] + 3
    return (terms * (r.u * global_avg_pool_forward(np.abs(x))[0] + r.tiny),)


def _global_backward_bound(r: Rounding, dy: Array, **attrs: int) -> tuple[Any]:
    return (r.relative(2, global_avg_pool_backward(dy, **attrs)[0]),)


def _window_attrs(h: int, w: int, kh: int, kw: int, sh: int, sw: int, p: int) -> dict[str, float]:
    """Return attributes whose windows fit the image and hold a cell each; padding differs from side to side."""
    top, right = min(p, kh // 2), min(p, kw // 2)
    bottom, left = top // 2, right // 2
    return {
        "kernel_h": min(kh, h + top + bottom),
        "kernel_w": min(kw, w + left + right),
        "stride_h": sh,
        "stride_w": sw,
        "top": top,
        "bottom": bottom,
        "left": left,
        "right": right,
    }


def _case(
    op: str, rng: Rng, dtype: DTypeLike, n: int, h: int, w: int, c: int, kh: int, kw: int, sh: int, sw: int, p: int
) -> Sample:
    label = label_of(n=n, h=h, w=w, c=c, kh=kh, kw=kw, sh=sh, sw=sw, p=p)
    return _sample(op, label, normal(rng, dtype, n, h, w, c), _window_attrs(h, w, kh, kw, sh, sw, p), rng)


def _sample(op: str, label: str, x: Array, attrs: dict[str, float], rng: Rng) -> Sample:
    """Return the arguments of an op for images ``x``; gradients are as if the forward op had run."""
    if op.endswith("_forward"):
        return Sample(label, {"x": x}, attrs)
    window = {k: int(v) for k, v in attrs.items() if k != "count_include_pad"}
    _, index = max_pool_forward(x, **window)
    inputs = {"dy": normal(rng, x.dtype, *index.shape)}
    if op == "max_pool_backward":
        inputs["index"] = index
    return Sample(label, inputs, {**attrs, "height": x.shape[1], "width": x.shape[2]})


def _special(op: str, rng: Rng, dtype: DTypeLike) -> list[Sample]:
    """Return ties, NaN, infinities, windows in the padding, and indices that name no cell."""
    samples = []
    for label, (kernel, stride, p, c) in {"touching": (2, 2, 0, 19), "overlapping": (3, 1, 1, 5)}.items():
        x = np.round(normal(rng, dtype, 2, 6, 6, c))
        x[0, 1, 2, 0] = x[0, 1, 3, 0] = x[1, 4, 4, 1] = np.nan
        x[0, 2, 2] = np.inf
        x[1, :2, :2, 2:] = -np.inf
        attrs = _window_attrs(6, 6, kernel, kernel, stride, stride, p)
        sample = _sample(op, f"awkward_{label}", x, attrs, rng)
        if "dy" in sample.inputs:
            dy = sample.inputs["dy"]
            assert dy is not None
            dy[0, 0, 0, 0], dy[1, 1, 1, 1], dy[1, 0, 1, 2] = np.nan, np.inf, -np.inf
        samples.append(sample)
    wide: dict[str, float] = {**_window_attrs(4, 4, 2, 2, 2, 2, 0), "top": 3, "left": 2, "right": 4}
    samples.append(_sample(op, "windows_without_cells", normal(rng, dtype, 2, 4, 4, 3), wide, rng))
    if op.startswith("avg"):
        attrs = {**_window_attrs(5, 5, 3, 3, 2, 2, 1), "count_include_pad": 0}
        samples.append(_sample(op, "count_inside", normal(rng, dtype, 2, 5, 5, 4), attrs, rng))
        samples.append(
            _sample(op, "count_no_cells", normal(rng, dtype, 2, 4, 4, 3), {**wide, "count_include_pad": 0}, rng)
        )
    if op == "max_pool_backward":
        sample = _case(op, rng, dtype, n=2, h=6, w=6, c=5, kh=3, kw=3, sh=2, sw=2, p=1)
        index = sample.inputs["index"]
        assert index is not None
        strange = rng.integers(0, 256, index.shape).astype(np.uint8)
        samples.append(Sample("any_index", {**sample.inputs, "index": strange}, sample.attrs))
    return samples


def _global_case(op: str, rng: Rng, dtype: DTypeLike, n: int, h: int, w: int, c: int) -> Sample:
    label = label_of(n=n, h=h, w=w, c=c)
    if op.endswith("_forward"):
        return Sample(label, {"x": normal(rng, dtype, n, h, w, c)})
    return Sample(label, {"dy": normal(rng, dtype, n, c)}, {"height": h, "width": w})


def _global_special(op: str, rng: Rng, dtype: DTypeLike) -> list[Sample]:
    sample = _global_case(op, rng, dtype, n=3, h=4, w=5, c=19)
    (name,) = sample.inputs
    array = sample.inputs[name]
    assert array is not None
    array.flat[3], array.flat[-1], array.flat[array.size // 2] = np.nan, np.inf, -np.inf
    return [Sample("nonfinite", {name: array}, sample.attrs)]


def _errors(op: str, rng: Rng, dtype: DTypeLike) -> list[ErrorCase]:
    good: dict[str, Array | None] = {"x": normal(rng, dtype, 2, 3, 4, 2)}
    if op == "global_avg_pool_backward":
        good = {"dy": normal(rng, dtype, 2, 3)}
    elif op.endswith("_backward"):  # the attributes left out say one pixel, so no window fits
        good = {"dy": normal(rng, dtype, 2, 0, 0, 3)}
        if op == "max_pool_backward":
            good["index"] = np.zeros((2, 0, 0, 3), np.uint8)
    first = next(iter(good))
    rank = {**good, first: normal(rng, dtype, 5)}
    cases = [
        ErrorCase(Sample("dtype", different_dtype(good, first)), TypeError, f"{op}: '{first}'.*int32"),
        ErrorCase(Sample("rank", rank), ValueError, rf"{op}: '{first}' has shape \(5,\)"),
    ]
    if op in ("max_pool_backward", "avg_pool_backward"):
        shape = {**good, "dy": normal(rng, dtype, 2, 1, 0, 3)}
        match = rf"{op}: 'dy' has shape \(2, 1, 0, 3\), expected 0 "
        cases.append(ErrorCase(Sample("shape", shape), ValueError, match))
    return cases


def _cost(itemsize: int, n: int, h: int, w: int, c: int, kh: int, kw: int, sh: int, sw: int, p: int) -> Cost:
    attrs = {k: int(v) for k, v in _window_attrs(h, w, kh, kw, sh, sw, p).items()}
    out_h = (h + attrs["top"] + attrs["bottom"] - attrs["kernel_h"]) // sh + 1
    out_w = (w + attrs["left"] + attrs["right"] - attrs["kernel_w"]) // sw + 1
    return Cost(n * out_h * out_w * c * kh * kw, n * c * (itemsize * (h * w + out_h * out_w)))


def _max_cost(itemsize: int, **sizes: int) -> Cost:
    both = _cost(itemsize, **sizes)
    index = _cost(1, **sizes).byte - sizes["n"] * sizes["h"] * sizes["w"] * sizes["c"]
    return Cost(both.flop, both.byte + index)


def _global_cost(itemsize: int, n: int, h: int, w: int, c: int) -> Cost:
    return Cost(n * h * w * c, itemsize * (n * h * w * c + n * c))


def _register(
    name: str,
    reference: Callable[..., tuple[Array, ...]],
    bound: Callable[..., tuple[Any, ...]],
    cost: Callable[..., Cost],
    source: str,
    gradient: str = "",
) -> None:
    everywhere = name.startswith("global")
    register(
        OpSpec(
            name=name,
            reference=reference,
            bound=bound,
            case=partial(_global_case if everywhere else _case, name),
            shapes=GLOBAL if everywhere else SHAPES,
            bench=GLOBAL_BENCH if everywhere else BENCH,
            special=partial(_global_special if everywhere else _special, name),
            errors=partial(_errors, name),
            cost=cost,
            source=source,
            backward={"x": gradient} if gradient else {},
        )
    )


_register("max_pool_forward", max_pool_forward, _exact, _max_cost, _MAX, "max_pool_backward.dx")
_register("max_pool_backward", max_pool_backward, _max_backward_bound, _max_cost, _MAX)
_register("avg_pool_forward", avg_pool_forward, _avg_bound, _cost, _MEAN, "avg_pool_backward.dx")
_register("avg_pool_backward", avg_pool_backward, _avg_backward_bound, _cost, _MEAN)
_register(
    "global_avg_pool_forward",
    global_avg_pool_forward,
    _global_bound,
    _global_cost,
    _MEAN,
    "global_avg_pool_backward.dx",
)
_register("global_avg_pool_backward", global_avg_pool_backward, _global_backward_bound, _global_cost, _MEAN)
