"""Reference of add and of the activations, forward and backward; NaN propagates."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyfastnn.reference.elementwise import elementwise, is_exact, ulps
from pyfastnn.reference.spec import Array, Rounding

SELU_SCALE = 1.0507009873554805
SELU_ALPHA = 1.6732632423543772


def add(a: Array, b: Array) -> tuple[Array]:
    """Return ``a + b``; where the gradients of a value used twice meet."""
    return (a + b,)


def relu_forward(x: Array) -> tuple[Array]:
    """Return max(x, 0), and 0 for -0."""
    return (np.maximum(x, 0) + 0.0,)


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


def selu_forward(x: Array) -> tuple[Array]:
    """Return 1.0507 times x where positive, else times 1.6733 * (exp(x) - 1)."""
    return (SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * np.expm1(np.minimum(x, 0))),)


def selu_backward(dy: Array, y: Array) -> tuple[Array]:
    """Return dy times the slope: the scale for y > 0, and scale * alpha * exp(x) = y + scale * alpha otherwise."""
    alpha = y.dtype.type(SELU_SCALE) * SELU_ALPHA
    return (dy * np.where(y > 0, SELU_SCALE, y + alpha),)


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
    return (np.where(x > 0, 0, ulps(r, y, 2, 4) + scaled),)


def _elu_backward_bound(r: Rounding, dy: Array, y: Array, *, alpha: float = 1.0) -> tuple[Any]:
    inexact = 0.0 if is_exact(r, alpha) else r.u * abs(alpha)
    return (np.where(y > 0, 0, np.abs(dy) * (r.relative(2, y + alpha) + inexact) + r.tiny),)


def _selu_bound(r: Rounding, x: Array) -> tuple[Any, ...]:
    (y,) = selu_forward(x)
    return (np.where(x > 0, 0, ulps(r, y, 2, 4)) + r.relative(2, y),)


def _selu_backward_bound(r: Rounding, dy: Array, y: Array) -> tuple[Any, ...]:
    # The constant and the sum are rounded, then the product.
    slope = np.where(y > 0, SELU_SCALE, np.abs(y + SELU_SCALE * SELU_ALPHA) + SELU_SCALE * SELU_ALPHA)
    return (r.relative(2, dy * slope),)


def _exp_bound(r: Rounding, x: Array) -> tuple[Any]:
    return (ulps(r, np.exp(x), 1, 2),)


def _exp_backward_bound(r: Rounding, dy: Array, y: Array) -> tuple[Any]:
    return (r.relative(1, dy * y),)


def _sigmoid_bound(r: Rounding, x: Array) -> tuple[Any]:
    return (ulps(r, sigmoid_forward(x)[0], 3, 4),)


def _sigmoid_backward_bound(r: Rounding, dy: Array, y: Array) -> tuple[Any]:
    return (np.abs(dy) * r.relative(3, y * (1 - y)) + r.tiny * (1 + np.abs(y * (1 - y))),)


def _tanh_bound(r: Rounding, x: Array) -> tuple[Any]:
    return (ulps(r, np.tanh(x), 2, 4),)


def _tanh_backward_bound(r: Rounding, dy: Array, y: Array) -> tuple[Any]:
    # (1 - y) * (1 + y) keeps its digits where 1 - y * y would cancel.
    return (np.abs(dy) * r.relative(4, (1 - y) * (1 + y)) + r.tiny,)


_RELU, _LEAKY, _ELU = (
    "Nair, Hinton 2010",
    "Maas, Hannun, Ng 2013",
    "Clevert, Unterthiner, Hochreiter 2016",
)
_LECUN = "LeCun, Bottou, Orr, Mueller 1998, Efficient BackProp"
_SELU = "Klambauer, Unterthiner, Mayr, Hochreiter 2017"
_SLOPE = {"negative_slope": 0.3}
_ALPHA = {"alpha": 0.7}

elementwise("add", add, _add_bound, ("a", "b"), "elementary", 1, backward={"a": "dy", "b": "dy"})
elementwise("relu_forward", relu_forward, _exact, ("x",), _RELU, 1, backward={"x": "relu_backward.dx"})
elementwise("relu_backward", relu_backward, _exact, ("dy", "y"), _RELU, 1)
elementwise(
    "leaky_relu_forward",
    leaky_relu_forward,
    _leaky_bound,
    ("x",),
    _LEAKY,
    2,
    _SLOPE,
    {"x": "leaky_relu_backward.dx"},
)
elementwise(
    "leaky_relu_backward",
    leaky_relu_backward,
    _leaky_backward_bound,
    ("dy", "x"),
    _LEAKY,
    2,
    _SLOPE,
)
elementwise("exp_forward", exp_forward, _exp_bound, ("x",), "elementary", 10, backward={"x": "exp_backward.dx"})
elementwise("exp_backward", exp_backward, _exp_backward_bound, ("dy", "y"), "elementary", 1)
elementwise("elu_forward", elu_forward, _elu_bound, ("x",), _ELU, 12, _ALPHA, {"x": "elu_backward.dx"})
elementwise("elu_backward", elu_backward, _elu_backward_bound, ("dy", "y"), _ELU, 3, _ALPHA)
elementwise("selu_forward", selu_forward, _selu_bound, ("x",), _SELU, 13, backward={"x": "selu_backward.dx"})
elementwise("selu_backward", selu_backward, _selu_backward_bound, ("dy", "y"), _SELU, 3)
elementwise(
    "sigmoid_forward",
    sigmoid_forward,
    _sigmoid_bound,
    ("x",),
    _LECUN,
    12,
    backward={"x": "sigmoid_backward.dx"},
)
elementwise("sigmoid_backward", sigmoid_backward, _sigmoid_backward_bound, ("dy", "y"), _LECUN, 3)
elementwise(
    "tanh_forward",
    tanh_forward,
    _tanh_bound,
    ("x",),
    _LECUN,
    12,
    backward={"x": "tanh_backward.dx"},
)
elementwise("tanh_backward", tanh_backward, _tanh_backward_bound, ("dy", "y"), _LECUN, 3)
