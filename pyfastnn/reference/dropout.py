"""Reference of inverted dropout: masks from Philox4x32-10 keyed by (seed, step, node, element)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from pyfastnn.reference.philox import element_words
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

SHAPES = tuple({"size": size} for size in SIZES)
BENCH = tuple({"size": size} for size in (32768, 1 << 20))
SOURCE = "Srivastava et al. 2014 (inverted form); Salmon et al. 2011"


def dropout_forward(x: Array, *, p: float = 0.5, node: float = 0, seed: float, step: float) -> tuple[Array, Array]:
    """Return y and the mask (1 kept, 0 dropped).

    ``y = x / (1 - p)`` where the element's random word is at least ``p * 2**32``, else 0.
    """
    words = element_words(x.size, seed=int(seed), node=int(node), step=int(step)).reshape(x.shape)
    kept = words.astype(np.float64) >= p * 2.0**32
    return np.where(kept, x / (1 - p), 0), kept.astype(np.uint8)


def dropout_backward(dy: Array, mask: Array, *, p: float = 0.5) -> tuple[Array]:
    """Return ``dy / (1 - p)`` where kept, else 0."""
    return (np.where(mask != 0, dy / (1 - p), 0),)


def _forward_bound(
    r: Rounding, x: Array, *, p: float = 0.5, node: float = 0, seed: float, step: float
) -> tuple[Any, Any]:
    y, mask = dropout_forward(x, p=p, node=node, seed=seed, step=step)
    return _kept_bound(r, y, mask, p), 0.0


def _backward_bound(r: Rounding, dy: Array, mask: Array, *, p: float = 0.5) -> tuple[Any]:
    return (_kept_bound(r, dy / (1 - p), mask, p),)


def _kept_bound(r: Rounding, y: Array, mask: Array, p: float) -> Any:
    """Bound two roundings, of the factor and of the product, where an element is kept."""
    return 0.0 if p == 0 else np.where(mask != 0, r.relative(2, y), 0)


_HYPER = {"seed": 5.0, "step": 3.0}


def _forward_case(rng: Rng, dtype: DTypeLike, size: int) -> Sample:
    return Sample(label_of(size=size), {"x": normal(rng, dtype, size)}, {}, _HYPER)


def _backward_case(rng: Rng, dtype: DTypeLike, size: int) -> Sample:
    inputs = {"dy": normal(rng, dtype, size), "mask": (rng.random(size) < 0.7).astype(np.uint8)}
    return Sample(label_of(size=size), inputs)


def _forward_special(rng: Rng, dtype: DTypeLike) -> list[Sample]:
    x = normal(rng, dtype, 203)
    node, big = 7.0, {"seed": float(2**53 - 1), "step": float(2**32 + 9)}
    word = element_words(203, seed=2**53 - 1, node=7, step=2**32 + 9)[100]  # the knife's edge of this element
    samples = [
        Sample("awkward", {"x": awkward(dtype)}, {"p": 0.25}, _HYPER),
        Sample("p0", {"x": np.concatenate([x, awkward(dtype)])}, {"p": 0.0}, _HYPER),
        Sample("p_near_one", {"x": x}, {"p": 0.99}, _HYPER),
        Sample("shape3", {"x": normal(rng, dtype, 3, 5, 7)}, {"p": 0.3}, _HYPER),
        Sample("large_seed_and_step", {"x": x}, {"p": 0.4, "node": node}, big),
        Sample("p_just_keeps", {"x": x}, {"p": float(word) / 2**32, "node": node}, big),
        Sample("p_just_drops", {"x": x}, {"p": (float(word) + 0.5) / 2**32, "node": node}, big),
    ]
    samples += [Sample(f"other_{key}", {"x": x}, {}, {**_HYPER, key: 4.0}) for key in _HYPER]
    return samples


def _backward_special(rng: Rng, dtype: DTypeLike) -> list[Sample]:
    values = awkward(dtype)
    mask = (np.arange(len(values)) % 3 > 0).astype(np.uint8)
    return [
        Sample("awkward", {"dy": values, "mask": mask}, {"p": 0.25}),
        Sample("awkward_other", {"dy": values, "mask": 1 - mask}, {"p": 0.1}),
        Sample("p0", {"dy": values, "mask": np.ones(len(values), np.uint8)}, {"p": 0.0}),
    ]


def _forward_errors(rng: Rng, dtype: DTypeLike) -> list[ErrorCase]:
    good = _forward_case(rng, dtype, size=5)
    bad = Sample("dtype", different_dtype(good.inputs, "x"), {}, _HYPER)
    return [ErrorCase(bad, TypeError, "dropout_forward: 'x'.*int32")]


def _backward_errors(rng: Rng, dtype: DTypeLike) -> list[ErrorCase]:
    good = _backward_case(rng, dtype, size=5).inputs
    mask = good["mask"]
    assert mask is not None
    match = r"dropout_backward: 'mask' has shape \(4,\), expected \(5,\) because 'dy' has shape \(5,\)"
    return [
        ErrorCase(
            Sample("mask_dtype", {**good, "mask": mask.astype(bool)}),
            TypeError,
            "dropout_backward: 'mask'.*bool",
        ),
        ErrorCase(Sample("mask_shape", {**good, "mask": mask[:4]}), ValueError, match),
    ]


register(
    OpSpec(
        name="dropout_forward",
        reference=dropout_forward,
        bound=_forward_bound,
        case=_forward_case,
        shapes=SHAPES,
        bench=BENCH,
        special=_forward_special,
        errors=_forward_errors,
        cost=lambda itemsize, size: Cost(20 * size, (2 * itemsize + 1) * size),
        source=SOURCE,
        backward={"x": "dropout_backward.dx"},
    )
)
register(
    OpSpec(
        name="dropout_backward",
        reference=dropout_backward,
        bound=_backward_bound,
        case=_backward_case,
        shapes=SHAPES,
        bench=BENCH,
        special=_backward_special,
        errors=_backward_errors,
        cost=lambda itemsize, size: Cost(size, (2 * itemsize + 1) * size),
        source=SOURCE,
    )
)
