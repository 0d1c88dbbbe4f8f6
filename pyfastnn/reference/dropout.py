"""Reference of inverted dropout, of elements and of channels: masks from Philox4x32-10 keyed by (seed, step, node, element)."""

from __future__ import annotations

from functools import partial
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
_CHANNELS = (
    (2, 3, 4), (0, 2, 3), (2, 0, 3), (2, 3, 0), (1, 1, 1), (3, 1, 7), (2, 70, 3), (3, 67, 5), (2, 131, 16), (2, 9, 17), (3, 5, 33),
    (3, 67, 63), (2, 7, 65), (5, 1, 127),
)  # fmt: skip
CHANNEL_SHAPES = tuple({"n": n, "s": s, "c": c} for n, s, c in _CHANNELS)
CHANNEL_BENCH = tuple({"n": n, "s": s, "c": c} for n, s, c in ((64, 196, 64), (64, 784, 16)))
CHANNEL_SOURCE = "Tompson, Goroshin, Jain, LeCun, Bregler 2015, section 3.2; Salmon et al. 2011"


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


def dropout_channels_forward(
    x: Array, *, p: float = 0.5, node: float = 0, seed: float, step: float
) -> tuple[Array, Array]:
    """Return y and the mask of samples and channels (1 kept, 0 dropped): one word of dropout's for each."""
    _, mask = dropout_forward(np.zeros((x.shape[0], x.shape[-1])), p=p, node=node, seed=seed, step=step)
    return dropout_channels_backward(x, mask, p=p)[0], mask


def dropout_channels_backward(dy: Array, mask: Array, *, p: float = 0.5) -> tuple[Array]:
    """Return ``dy / (1 - p)`` where the channel was kept, else 0."""
    return dropout_backward(dy, _everywhere(mask, dy), p=p)


def _everywhere(mask: Array, x: Array) -> Array:
    """Return the mask of samples and channels for every position of ``x``."""
    wide: Array = np.broadcast_to(mask.reshape(x.shape[0], *[1] * (x.ndim - 2), x.shape[-1]), x.shape)
    return wide


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


def _channels_forward_bound(
    r: Rounding, x: Array, *, p: float = 0.5, node: float = 0, seed: float, step: float
) -> tuple[Any, Any]:
    y, mask = dropout_channels_forward(x, p=p, node=node, seed=seed, step=step)
    return _kept_bound(r, y, _everywhere(mask, x), p), 0.0


def _channels_backward_bound(r: Rounding, dy: Array, mask: Array, *, p: float = 0.5) -> tuple[Any]:
    return (_kept_bound(r, dy / (1 - p), _everywhere(mask, dy), p),)


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


def _channels_sample(
    op: str, label: str, rng: Rng, dtype: DTypeLike, *shape: int, attrs: dict[str, float] | None = None
) -> Sample:
    array = normal(rng, dtype, *shape)
    if op == "dropout_channels_forward":
        return Sample(label, {"x": array}, attrs or {}, _HYPER)
    mask = (rng.random((shape[0], shape[-1])) < 0.7).astype(np.uint8)
    return Sample(label, {"dy": array, "mask": mask}, attrs or {})


def _channels_case(op: str, rng: Rng, dtype: DTypeLike, n: int, s: int, c: int) -> Sample:
    return _channels_sample(op, label_of(n=n, s=s, c=c), rng, dtype, n, s, c)


def _channels_special(op: str, rng: Rng, dtype: DTypeLike) -> list[Sample]:
    samples = [
        _channels_sample(op, "images", rng, dtype, 3, 8, 9, 6, attrs={"p": 0.3}),
        _channels_sample(op, "features", rng, dtype, 5, 19, attrs={"p": 0.25}),
        _channels_sample(op, "p0", rng, dtype, 3, 5, 7, attrs={"p": 0.0}),
        _channels_sample(op, "p_near_one", rng, dtype, 5, 3, 61, attrs={"p": 0.9}),
    ]
    values = awkward(dtype)
    spoiled = _channels_sample(op, "awkward", rng, dtype, len(values), 3, 9)
    array = next(iter(spoiled.inputs.values()))
    assert array is not None
    array[...] = values[:, None, None]
    samples.append(spoiled)
    if op == "dropout_channels_forward":
        x = samples[0].inputs
        samples += [Sample(f"other_{key}", x, {}, {**_HYPER, key: 4.0}) for key in _HYPER]
        samples.append(Sample("other_node", x, {"node": float(2**32 - 1)}, _HYPER))
    return samples


def _channels_errors(op: str, rng: Rng, dtype: DTypeLike) -> list[ErrorCase]:
    good = _channels_sample(op, "good", rng, dtype, 3, 4, 5)
    first = next(iter(good.inputs))
    cases = [
        ErrorCase(
            Sample("dtype", different_dtype(good.inputs, first), {}, good.hyper), TypeError, f"{op}: '{first}'.*int32"
        )
    ]
    if op == "dropout_channels_backward":
        mask = good.inputs["mask"]
        assert mask is not None
        match = rf"{op}: 'mask' has shape \(3, 4\), expected \(3, 5\) because 'dy' has shape \(3, 4, 5\)"
        bad = {**good.inputs, "mask": mask[:, :4].copy()}
        cases.append(ErrorCase(Sample("mask_shape", bad), ValueError, match))
    return cases


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
for _name, _reference, _bound in (
    ("dropout_channels_forward", dropout_channels_forward, _channels_forward_bound),
    ("dropout_channels_backward", dropout_channels_backward, _channels_backward_bound),
):
    register(
        OpSpec(
            name=_name,
            reference=_reference,
            bound=_bound,
            case=partial(_channels_case, _name),
            shapes=CHANNEL_SHAPES,
            bench=CHANNEL_BENCH,
            special=partial(_channels_special, _name),
            errors=partial(_channels_errors, _name),
            cost=lambda itemsize, n, s, c: Cost(n * s * c, 2 * itemsize * n * s * c + n * c),
            source=CHANNEL_SOURCE,
            backward={"x": "dropout_channels_backward.dx"} if _name.endswith("forward") else {},
        )
    )
