"""Reference of add and of the activations, forward and backward; NaN propagates."""

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


def add(a: Array, b: Array) -> tuple[Array]:
    """Return ``a + b``; where the gradients of a value used twice meet."""
    return (a + b,)


def relu_forward(x: Array) -> tuple[Array]:
    """Return max(x, 0)."""
    return (np.maximum(x, 0),)


def relu_backward(dy: Array, y: Array) -> tuple[Array]:
    """Return dy where the output was positive (or NaN), else 0."""
    return (np.where(y <= 0, 0, dy),)


def leaky_relu_forward(x: Array, *, negative_slope: float = 0.01) -> tuple[Array]:
    """Return max(x, 0) + negative_slope * min(x, 0)."""
    return (np.where(x > 0, x, negative_slope * x),)


def leaky_relu_backward(dy: Array, x: Array, *, negative_slope: float = 0.01) -> tuple[Array]:
    """Return dy where x > 0, else negative_slope * dy (at 0 and at NaN too)."""
    return (np.where(x > 0, dy, negative_slope * dy),)


def exp_forward(x: Array) -> tuple[Array]:
    """Return exp(x)."""
    return (np.exp(x),)


def exp_backward(dy: Array, y: Array) -> tuple[Array]:
    """Return dy * exp(x), from the output."""
    return (dy * y,)


def elu_forward(x: Array, *, alpha: float = 1.0) -> tuple[Array]:
    """Return x where positive, else alpha * (exp(x) - 1)."""
    return (np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))),)


def elu_backward(dy: Array, y: Array, *, alpha: float = 1.0) -> tuple[Array]:
    """Return dy times the slope, which is 1 for y > 0 and alpha * exp(x) = y + alpha otherwise."""
    return (dy * np.where(y > 0, 1, y + alpha),)


def sigmoid_forward(x: Array) -> tuple[Array]:
    """Return 1 / (1 + exp(-x)), as exp(-log(1 + exp(-x))): accurate in both tails."""
    return (np.exp(-np.logaddexp(0, -x)),)


def sigmoid_backward(dy: Array, y: Array) -> tuple[Array]:
    """Return dy * y * (1 - y)."""
    return (dy * y * (1 - y),)


def tanh_forward(x: Array) -> tuple[Array]:
    """Return tanh(x)."""
    return (np.tanh(x),)


def tanh_backward(dy: Array, y: Array) -> tuple[Array]:
    """Return dy / cosh(x)**2, from the output: dy * (1 - y) * (1 + y)."""
    return (dy * (1 - y) * (1 + y),)


def _ulps(r: Rounding, y: Array, float32: float, float64: float) -> Array:
    return (float32 if r.dtype == np.float32 else float64) * r.ulp(y)


def _is_exact(r: Rounding, number: float) -> bool:
    return float(np.asarray(number, dtype=r.dtype)) == number


def _add_bound(r: Rounding, a: Array, b: Array) -> tuple[Any]:
    return (r.relative(1, a + b),)


def _exact(r: Rounding, *_: Array, **__: Array) -> tuple[Any]:
    return (0.0,)


def _leaky_bound(r: Rounding, x: Array, *, negative_slope: float = 0.01) -> tuple[Any]:
    return (np.where(x > 0, 0, r.relative(2, negative_slope * x)),)


def _leaky_backward_bound(r: Rounding, dy: Array, x: Array, *, negative_slope: float = 0.01) -> tuple[Any]:
    return (np.where(x > 0, 0, r.relative(2, negative_slope * dy)),)


def _elu_bound(r: Rounding, x: Array, *, alpha: float = 1.0) -> tuple[Any]:
    (y,) = elu_forward(x, alpha=alpha)
    scaled = 0 if alpha == 1 else r.relative(2, y)
    return (np.where(x > 0, 0, _ulps(r, y, 2, 4) + scaled),)


def _elu_backward_bound(r: Rounding, dy: Array, y: Array, *, alpha: float = 1.0) -> tuple[Any]:
    inexact = 0.0 if _is_exact(r, alpha) else r.u * abs(alpha)
    return (np.where(y > 0, 0, np.abs(dy) * (r.relative(2, y + alpha) + inexact) + r.tiny),)


def _exp_bound(r: Rounding, x: Array) -> tuple[Any]:
    return (_ulps(r, np.exp(x), 1, 2),)


def _exp_backward_bound(r: Rounding, dy: Array, y: Array) -> tuple[Any]:
    return (r.relative(1, dy * y),)


def _sigmoid_bound(r: Rounding, x: Array) -> tuple[Any]:
    return (_ulps(r, sigmoid_forward(x)[0], 3, 4),)


def _sigmoid_backward_bound(r: Rounding, dy: Array, y: Array) -> tuple[Any]:
    return (np.abs(dy) * r.relative(3, y * (1 - y)) + r.tiny * (1 + np.abs(y * (1 - y))),)


def _tanh_bound(r: Rounding, x: Array) -> tuple[Any]:
    return (_ulps(r, np.tanh(x), 2, 4),)


def _tanh_backward_bound(r: Rounding, dy: Array, y: Array) -> tuple[Any]:
    # (1 - y) * (1 + y) keeps its digits where 1 - y * y would cancel.
    return (np.abs(dy) * r.relative(4, (1 - y) * (1 + y)) + r.tiny,)


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


def _add(
    name: str,
    reference: Callable[..., tuple[Array]],
    bound: Callable[..., tuple[Any]],
    inputs: tuple[str, ...],
    source: str,
    flop: int,
    attrs: dict[str, float] | None = None,
    backward: dict[str, str] | None = None,
) -> None:
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


_RELU, _LEAKY, _ELU = (
    "Nair, Hinton 2010",
    "Maas, Hannun, Ng 2013",
    "Clevert, Unterthiner, Hochreiter 2016",
)
_LECUN = "LeCun, Bottou, Orr, Mueller 1998, Efficient BackProp"
_SLOPE = {"negative_slope": 0.3}
_ALPHA = {"alpha": 0.7}

_add("add", add, _add_bound, ("a", "b"), "elementary", 1, backward={"a": "dy", "b": "dy"})
_add("relu_forward", relu_forward, _exact, ("x",), _RELU, 1, backward={"x": "relu_backward.dx"})
_add("relu_backward", relu_backward, _exact, ("dy", "y"), _RELU, 1)
_add(
    "leaky_relu_forward",
    leaky_relu_forward,
    _leaky_bound,
    ("x",),
    _LEAKY,
    2,
    _SLOPE,
    {"x": "leaky_relu_backward.dx"},
)
_add(
    "leaky_relu_backward",
    leaky_relu_backward,
    _leaky_backward_bound,
    ("dy", "x"),
    _LEAKY,
    2,
    _SLOPE,
)
_add("exp_forward", exp_forward, _exp_bound, ("x",), "elementary", 10, backward={"x": "exp_backward.dx"})
_add("exp_backward", exp_backward, _exp_backward_bound, ("dy", "y"), "elementary", 1)
_add("elu_forward", elu_forward, _elu_bound, ("x",), _ELU, 12, _ALPHA, {"x": "elu_backward.dx"})
_add("elu_backward", elu_backward, _elu_backward_bound, ("dy", "y"), _ELU, 3, _ALPHA)
_add(
    "sigmoid_forward",
    sigmoid_forward,
    _sigmoid_bound,
    ("x",),
    _LECUN,
    12,
    backward={"x": "sigmoid_backward.dx"},
)
_add("sigmoid_backward", sigmoid_backward, _sigmoid_backward_bound, ("dy", "y"), _LECUN, 3)
_add(
    "tanh_forward",
    tanh_forward,
    _tanh_bound,
    ("x",),
    _LECUN,
    12,
    backward={"x": "tanh_backward.dx"},
)
_add("tanh_backward", tanh_backward, _tanh_backward_bound, ("dy", "y"), _LECUN, 3)
