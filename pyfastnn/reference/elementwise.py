"""What the specs of elementwise ops share: sizes, samples, error cases."""

from __future__ import annotations

from collections.abc import Callable
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

SHAPES = tuple({"size": size} for size in SIZES)
BENCH = tuple({"size": size} for size in (320, 32768, 1 << 20))


def ulps(r: Rounding, y: Array, float32: float, float64: float) -> Array:
    """Return so many units of the last place of y, by the float type that is judged."""
    return (float32 if r.dtype == np.float32 else float64) * r.ulp(y)


def is_exact(r: Rounding, number: float) -> bool:
    """Return whether a number is one of the float type."""
    return float(np.asarray(number, dtype=r.dtype)) == number


def _special(inputs: tuple[str, ...], attrs: dict[str, float]) -> Callable[[Rng, DTypeLike], list[Sample]]:
    def special(rng: Rng, dtype: DTypeLike) -> list[Sample]:
        values = awkward(dtype)
        samples = []
        if len(inputs) == 1:
            samples.append(Sample("awkward", {inputs[0]: values}))
        else:  # every awkward value meets an ordinary one, then each other
            ordinary = normal(rng, dtype, len(values))
            if inputs[1] == "y":
                ordinary = np.tanh(ordinary)
            ordinary[0] = 0.5  # so that a NaN in the gradient meets a y that lets it pass
            samples.append(Sample("awkward_first", {inputs[0]: values, inputs[1]: ordinary}))
            bounded = np.clip(values, -1, 1) if inputs[1] == "y" else values
            samples.append(Sample("awkward_second", {inputs[0]: ordinary, inputs[1]: bounded}))
        shaped: dict[str, Array | None] = {name: normal(rng, dtype, 3, 5, 7) for name in inputs}
        samples.append(Sample("three_dimensions", shaped))
        if attrs:
            other: dict[str, Array | None] = {name: normal(rng, dtype, 37) for name in inputs}
            samples.append(Sample("attributes", other, attrs))
        return samples

    return special


def elementwise(
    name: str,
    reference: Callable[..., tuple[Array]],
    bound: Callable[..., tuple[Any]],
    inputs: tuple[str, ...],
    source: str,
    flop: int,
    attrs: dict[str, float] | None = None,
    backward: dict[str, str] | None = None,
) -> None:
    """Register an op of one or two arrays of one shape."""

    def case(rng: Rng, dtype: DTypeLike, size: int) -> Sample:
        arrays: dict[str, Array | None] = {arg: 3 * normal(rng, dtype, size) for arg in inputs}
        if inputs[-1] == "y":  # the backward of a bounded activation gets outputs such as the forward makes
            arrays["y"] = np.tanh(normal(rng, dtype, size))
        return Sample(label_of(size=size), arrays)

    def errors(rng: Rng, dtype: DTypeLike) -> list[ErrorCase]:
        good = case(rng, dtype, size=5).inputs
        cases = [
            ErrorCase(
                Sample("dtype", different_dtype(good, inputs[0])),
                TypeError,
                f"{name}: '{inputs[0]}'.*int32",
            )
        ]
        if len(inputs) == 2:
            bad = Sample("shape", {**good, inputs[1]: normal(rng, dtype, 4)})
            match = (
                rf"{name}: '{inputs[1]}' has shape \(4,\), expected \(5,\) "
                rf"because '{inputs[0]}' has shape \(5,\)"
            )
            cases.append(ErrorCase(bad, ValueError, match))
        return cases

    register(
        OpSpec(
            name=name,
            reference=reference,
            bound=bound,
            case=case,
            shapes=SHAPES,
            bench=BENCH,
            special=_special(inputs, attrs or {}),
            errors=errors,
            cost=lambda itemsize, size: Cost(flop * size, itemsize * size * (len(inputs) + 1)),
            source=source,
            backward=backward or {},
        )
    )
