"""Reference of what joins arrays and takes them apart along the last axis, and of the product of two arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from pyfastnn.reference.spec import (
    SIZES,
    Array,
    Cost,
    ErrorCase,
    OpSpec,
    Rng,
    Rounding,
    Sample,
    awkward,
    different_dtype,
    label_of,
    normal,
    register,
)

_PAIRS = (
    (2, 1, 3),
    (0, 2, 3),
    (1, 5, 0),
    (3, 0, 4),
    (1, 1, 1),
    (5, 7, 9),
    (4, 16, 17),
    (7, 31, 33),
    (3, 65, 63),
    (31, 4, 3),
    (2, 127, 130),
)
SHAPES = tuple({"n": n, "p": p, "q": q} for n, p, q in _PAIRS)
BENCH = tuple({"n": n, "p": p, "q": q} for n, p, q in ((128, 64, 64), (128, 256, 10), (8192, 48, 16)))
PARTS = tuple({"n": n, "start": p, "kept": q, "end": q // 2} for n, p, q in _PAIRS)
PART_BENCH = ({"n": 128, "start": 64, "kept": 64, "end": 0}, {"n": 8192, "start": 0, "kept": 48, "end": 16})


def multiply(a: Array, b: Array) -> tuple[Array]:
    """Return ``a * b``."""
    return (a * b,)


def concat(a: Array, b: Array) -> tuple[Array]:
    """Return ``a`` and ``b`` side by side along the last axis."""
    return (np.concatenate([a, b], axis=-1),)


def slice(x: Array, *, start: float = 0, after: float = 0) -> tuple[Array]:
    """Return x without its first ``start`` and its last ``after`` columns."""
    return (np.split(x, [int(start), x.shape[-1] - int(after)], axis=-1)[1].copy(),)


def slice_backward(dy: Array, *, start: float = 0, after: float = 0) -> tuple[Array]:
    """Return dy with ``start`` zeros before and ``after`` zeros after each row."""
    width = [(0, 0)] * (dy.ndim - 1) + [(int(start), int(after))]
    return (np.pad(dy, width),)


def _multiply_case(rng: Rng, dtype: DTypeLike, size: int) -> Sample:
    return Sample(label_of(size=size), {"a": 3 * normal(rng, dtype, size), "b": normal(rng, dtype, size)})


def _multiply_special(rng: Rng, dtype: DTypeLike) -> list[Sample]:
    values, ordinary = awkward(dtype), normal(rng, dtype, len(awkward(dtype)))
    return [
        Sample("awkward_first", {"a": values, "b": ordinary}),
        Sample("awkward_second", {"a": ordinary, "b": values}),
        Sample("awkward_both", {"a": values, "b": values[::-1].copy()}),
        Sample("three_dimensions", {"a": normal(rng, dtype, 3, 5, 7), "b": normal(rng, dtype, 3, 5, 7)}),
    ]


def _pair_errors(op: str, rng: Rng, dtype: DTypeLike) -> list[ErrorCase]:
    a, b = normal(rng, dtype, 3, 5), normal(rng, dtype, 4, 5)
    good = {"a": a, "b": a}
    return [
        ErrorCase(Sample("dtype", different_dtype(good, "b")), TypeError, f"{op}: 'b'.*int32"),
        ErrorCase(
            Sample("rows", {"a": a, "b": b}), ValueError, rf"{op}: 'b' has shape \(4, 5\).*'a' has shape \(3, 5\)"
        ),
        ErrorCase(Sample("dimensions", {"a": a, "b": b[0]}), ValueError, rf"{op}: 'b' has shape \(5,\)"),
    ]


def _concat_case(rng: Rng, dtype: DTypeLike, n: int, p: int, q: int) -> Sample:
    return Sample(label_of(n=n, p=p, q=q), {"a": normal(rng, dtype, n, p), "b": normal(rng, dtype, n, q)})


def _concat_special(rng: Rng, dtype: DTypeLike) -> list[Sample]:
    values = awkward(dtype)
    return [
        Sample("awkward", {"a": np.tile(values, (3, 1)), "b": np.tile(values[::-1], (3, 1)).copy()}),
        Sample("vectors", {"a": normal(rng, dtype, 9), "b": normal(rng, dtype, 20)}),
        Sample("images", {"a": normal(rng, dtype, 2, 3, 4, 5), "b": normal(rng, dtype, 2, 3, 4, 3)}),
    ]


def _part_case(op: str, rng: Rng, dtype: DTypeLike, n: int, start: int, kept: int, end: int) -> Sample:
    label, attrs = label_of(n=n, start=start, kept=kept, end=end), {"start": start, "after": end}
    if op == "slice":
        return Sample(label, {"x": normal(rng, dtype, n, start + kept + end)}, attrs)
    return Sample(label, {"dy": normal(rng, dtype, n, kept)}, attrs)


def _part_special(op: str, rng: Rng, dtype: DTypeLike) -> list[Sample]:
    name, attrs = "x" if op == "slice" else "dy", {"start": 3, "after": 2}
    return [
        Sample("awkward", {name: np.tile(awkward(dtype), (3, 1))}, {"start": 0, "after": 1}),
        Sample("whole", {name: normal(rng, dtype, 4, 19)}),
        Sample("vector", {name: normal(rng, dtype, 37)}, attrs),
        Sample("images", {name: normal(rng, dtype, 2, 3, 4, 9)}, attrs),
    ]


def _part_errors(op: str, rng: Rng, dtype: DTypeLike) -> list[ErrorCase]:
    name = "x" if op == "slice" else "dy"
    good = {name: normal(rng, dtype, 3, 5)}
    return [ErrorCase(Sample("dtype", different_dtype(good, name)), TypeError, f"{op}: '{name}'.*int32")]


def _exact(r: Rounding, *_: Array, **__: float) -> tuple[Any]:
    return (0.0,)


register(
    OpSpec(
        name="multiply",
        reference=multiply,
        bound=lambda r, a, b: (r.relative(1, a * b),),
        case=_multiply_case,
        shapes=tuple({"size": size} for size in SIZES),
        bench=tuple({"size": size} for size in (320, 32768, 1 << 20)),
        special=_multiply_special,
        errors=lambda rng, dtype: _pair_errors("multiply", rng, dtype),
        cost=lambda itemsize, size: Cost(size, 3 * itemsize * size),
        source="elementary",
        backward={"a": "multiply.y", "b": "multiply.y"},
    )
)
register(
    OpSpec(
        name="concat",
        reference=concat,
        bound=_exact,
        case=_concat_case,
        shapes=SHAPES,
        bench=BENCH,
        special=_concat_special,
        errors=lambda rng, dtype: _pair_errors("concat", rng, dtype)[:2],
        cost=lambda itemsize, n, p, q: Cost(0, 2 * itemsize * n * (p + q)),
        source="elementary",
        backward={"a": "slice.y", "b": "slice.y"},
    )
)
register(
    OpSpec(
        name="slice",
        reference=slice,
        bound=_exact,
        case=lambda rng, dtype, **sizes: _part_case("slice", rng, dtype, **sizes),
        shapes=PARTS,
        bench=PART_BENCH,
        special=lambda rng, dtype: _part_special("slice", rng, dtype),
        errors=lambda rng, dtype: _part_errors("slice", rng, dtype),
        cost=lambda itemsize, n, start, kept, end: Cost(0, 2 * itemsize * n * kept),
        source="elementary",
        backward={"x": "slice_backward.dx"},
    )
)
register(
    OpSpec(
        name="slice_backward",
        reference=slice_backward,
        bound=_exact,
        case=lambda rng, dtype, **sizes: _part_case("slice_backward", rng, dtype, **sizes),
        shapes=PARTS,
        bench=PART_BENCH,
        special=lambda rng, dtype: _part_special("slice_backward", rng, dtype),
        errors=lambda rng, dtype: _part_errors("slice_backward", rng, dtype),
        cost=lambda itemsize, n, start, kept, end: Cost(0, itemsize * n * (2 * kept + start + end)),
        source="elementary",
    )
)
