"""Reference of the minibatch gather: rows of a data set, standardized on the way, and labels or rows of whole numbers."""

from __future__ import annotations

from typing import Any

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
    label_of,
    normal,
    register,
)

_SHAPES = (
    (1, 1, 1), (3, 0, 5), (4, 3, 0), (5, 2, 1), (7, 9, 3), (11, 5, 15), (13, 17, 17), (9, 4, 31),
    (6, 8, 33), (5, 3, 63), (8, 2, 65), (31, 64, 127),
)  # fmt: skip
SHAPES = tuple({"m": m, "n": n, "f": f} for m, n, f in _SHAPES)
BENCH = tuple({"m": m, "n": n, "f": f} for m, n, f in ((5000, 100, 3072), (60000, 128, 784), (10000, 32, 64)))
LABEL_SHAPES = tuple({"m": m, "n": n} for m, n in ((1, 1), (3, 0), (5, 7), (7, 2), (31, 65), (100, 33), (9, 127)))
LABEL_BENCH = ({"m": 60000, "n": 128},)


def gather_rows(data: Array, index: Array, shift: Array | None = None, scale: Array | None = None) -> tuple[Array]:
    """Return ``(data[index] - shift) * scale``; a missing shift is 0, a missing scale is 1."""
    x = data[index]
    x = x.astype(np.result_type(x.dtype, np.float64))
    if shift is not None:
        x = x - shift
    if scale is not None:
        x = x * scale
    return (x,)


def gather_labels(data: Array, index: Array) -> tuple[Array]:
    """Return ``data[index]``."""
    return (data[index],)


def _bound(
    r: Rounding, data: Array, index: Array, shift: Array | None = None, scale: Array | None = None
) -> tuple[Any]:
    x = data[index]
    x = x.astype(np.result_type(x.dtype, np.float64))
    bound = np.abs(
        x - x.astype(r.dtype)
    )  # of a data set wider than the result; then comes the difference, then the product
    if shift is not None:
        x = x - shift
        bound = bound + r.relative(1, x)
    if scale is not None:
        bound = bound * np.abs(scale) + r.relative(1, x * scale)
    return (bound,)


def _case(
    rng: Rng,
    dtype: DTypeLike,
    m: int,
    n: int,
    f: int,
    source: DTypeLike | None = None,
    parts: str = "shift scale",
) -> Sample:
    kind = np.dtype(dtype if source is None else source)
    if kind == np.uint8:
        data = rng.integers(0, 256, (m, f), dtype=np.uint8)
    else:
        data = rng.standard_normal((m, f)).astype(kind)
    inputs: dict[str, Array | None] = {
        "data": data,
        "index": rng.integers(0, m, n),
        "shift": None,
        "scale": None,
    }
    if "shift" in parts:
        inputs["shift"] = normal(rng, dtype, f) + (100 if kind == np.uint8 else 0)
    if "scale" in parts:
        inputs["scale"] = rng.uniform(0.01, 2, f).astype(dtype)
    return Sample(label_of(m=m, n=n, f=f), inputs)


def _special(rng: Rng, dtype: DTypeLike) -> list[Sample]:
    samples = []
    for source in (np.float32, np.float64, np.uint8):
        for parts in ("shift scale", "shift", "scale", ""):
            for n, f in ((5, 37), (3, 130)):
                inputs = _case(rng, dtype, m=11, n=n, f=f, source=source, parts=parts).inputs
                label = f"{np.dtype(source)}_{parts.replace(' ', '_') or 'plain'}_f{f}"
                samples.append(Sample(label, inputs))
    awkward = _case(rng, dtype, m=5, n=5, f=19).inputs
    data = awkward["data"]
    assert data is not None
    data[:, 2], data[:, 5], data[:, 11] = np.nan, np.inf, -np.inf
    samples.append(Sample("awkward", {**awkward, "index": np.array([4, 0, 0, 2, 1])}))
    return samples


def _errors(rng: Rng, dtype: DTypeLike) -> list[ErrorCase]:
    good = _case(rng, dtype, m=4, n=3, f=5).inputs
    index = np.array([0, 4, 1])
    bad_shift = {**good, "shift": normal(rng, dtype, 6)}
    match = r"gather_rows: 'shift' has shape \(6,\), expected \(5,\) because 'data' has shape \(4, 5\)"
    return [
        ErrorCase(Sample("index_high", {**good, "index": index}), ValueError, "gather_rows: 'index'.*4"),
        ErrorCase(
            Sample("index_negative", {**good, "index": index - 1}),
            ValueError,
            "gather_rows: 'index'.*-1",
        ),
        ErrorCase(
            Sample("index_int32", {**good, "index": index.astype(np.int32)}),
            TypeError,
            "gather_rows: 'index'.*int32",
        ),
        ErrorCase(Sample("shift", bad_shift), ValueError, match),
    ]


def _label_case(rng: Rng, dtype: DTypeLike, m: int, n: int) -> Sample:
    inputs: dict[str, Array | None] = {
        "data": rng.integers(-9, 9, m),
        "index": rng.integers(0, m, n),
    }
    return Sample(label_of(m=m, n=n), inputs)


def _label_special(rng: Rng, dtype: DTypeLike) -> list[Sample]:
    limits = np.iinfo(np.int64)
    return [
        Sample(
            "limits",
            {"data": np.array([limits.min, 0, limits.max]), "index": np.array([2, 0, 1, 2])},
        ),
        Sample("rows", {"data": rng.integers(0, 99, (11, 7)), "index": rng.integers(0, 11, 9)}),
        Sample("no_rows", {"data": rng.integers(0, 99, (3, 4)), "index": rng.integers(0, 3, 0)}),
        Sample("no_columns", {"data": rng.integers(0, 99, (3, 0)), "index": rng.integers(0, 3, 5)}),
        Sample("three_dimensions", {"data": rng.integers(0, 99, (13, 3, 2)), "index": rng.integers(0, 13, 17)}),
    ]


def _label_errors(rng: Rng, dtype: DTypeLike) -> list[ErrorCase]:
    data, index = np.arange(4), np.array([0, -1])
    return [
        ErrorCase(
            Sample("negative", {"data": data, "index": index}),
            ValueError,
            "gather_labels: 'index'.*-1",
        ),
        ErrorCase(
            Sample("high", {"data": data, "index": index + 4}),
            ValueError,
            "gather_labels: 'index'.*4",
        ),
        ErrorCase(
            Sample("float", {"data": data, "index": index * 1.0}),
            TypeError,
            "gather_labels: 'index'.*float64",
        ),
    ]


register(
    OpSpec(
        name="gather_rows",
        reference=gather_rows,
        bound=_bound,
        case=_case,
        shapes=SHAPES,
        bench=BENCH,
        special=_special,
        errors=_errors,
        cost=lambda itemsize, m, n, f: Cost(2 * n * f, 2 * itemsize * n * f + 8 * n),
        source="elementary",
    )
)
register(
    OpSpec(
        name="gather_labels",
        reference=gather_labels,
        bound=lambda r, data, index: (0.0,),
        case=_label_case,
        shapes=LABEL_SHAPES,
        bench=LABEL_BENCH,
        special=_label_special,
        errors=_label_errors,
        cost=lambda itemsize, m, n: Cost(0, 24 * n),
        source="elementary",
    )
)
