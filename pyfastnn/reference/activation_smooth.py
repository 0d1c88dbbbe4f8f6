"""Reference of gelu (both forms), silu and softplus, forward and backward; NaN propagates."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyfastnn.reference.elementwise import elementwise, ulps
from pyfastnn.reference.spec import Array, Rounding

_PI = 4 * np.arctan(np.longdouble(1))
CUBIC = 0.044715


def normal_density(x: Array) -> Array:
    """Return the density of the normal distribution."""
    density: Array = np.exp(-x * x / 2) / np.sqrt(2 * _PI).astype(x.dtype)
    return density


def normal_tail(t: Array) -> Array:
    """Return the probability of a normal number above t >= 0, to nearly full relative accuracy.

    Below 2 one half minus the series ``t + t**3 / 3 + t**5 / 15 ...`` times the density, above it the continued fraction
    ``1 / (t + 1 / (t + 2 / (t + 3 / ...)))`` times the density.
    """
    near = np.minimum(t, 2)
    term, total = near, near
    for n in range(1, 60):
        term = term * near * near / (2 * n + 1)
        total = total + term
    fraction = np.maximum(t, 2)
    far = fraction
    for n in range(200, 0, -1):
        fraction = far + n / fraction
    tail: Array = np.where(t < 2, 0.5 - normal_density(near) * total, normal_density(far) / fraction)
    return tail


def normal_distribution(x: Array) -> Array:
    """Return the probability of a normal number up to x."""
    tail = normal_tail(np.abs(x))
    probability: Array = np.where(x < 0, tail, 1 - tail)
    return probability


def _sigmoid(x: Array) -> Array:
    probability: Array = np.exp(-np.logaddexp(0, -x))
    return probability


def _argument(x: Array) -> tuple[Array, Array]:
    """Return 2 z of the tanh form and its derivative."""
    factor = np.sqrt(8 / _PI).astype(x.dtype)
    return factor * (x + CUBIC * x * x * x), factor * (1 + 3 * CUBIC * x * x)


def gelu_forward(x: Array) -> tuple[Array]:
    """Return x times the probability of a normal number up to x."""
    return (np.where(np.isinf(x), np.maximum(x, 0), x * normal_distribution(x)),)


def gelu_backward(dy: Array, x: Array) -> tuple[Array]:
    """Return dy * (distribution(x) + x * density(x))."""
    slope = normal_distribution(x) + x * normal_density(x)
    return (dy * np.where(np.isinf(x), x > 0, slope),)


def gelu_tanh_forward(x: Array) -> tuple[Array]:
    """Return x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))."""
    return (np.where(np.isinf(x), np.maximum(x, 0), x * _sigmoid(_argument(x)[0])),)


def gelu_tanh_backward(dy: Array, x: Array) -> tuple[Array]:
    """Return dy times the derivative of `gelu_tanh_forward`."""
    z, slope = _argument(x)
    s, rest = _sigmoid(z), _sigmoid(-z)
    return (dy * np.where(np.isinf(x), x > 0, s * (1 + x * slope * rest)),)


def silu_forward(x: Array) -> tuple[Array]:
    """Return x / (1 + exp(-x))."""
    return (np.where(np.isinf(x), np.maximum(x, 0), x * _sigmoid(x)),)


def silu_backward(dy: Array, x: Array) -> tuple[Array]:
    """Return dy * sigmoid(x) * (1 + x * (1 - sigmoid(x)))."""
    return (dy * np.where(np.isinf(x), x > 0, _sigmoid(x) * (1 + x * _sigmoid(-x))),)


def softplus_forward(x: Array) -> tuple[Array]:
    """Return log(1 + exp(x))."""
    return (np.logaddexp(0, x),)


def softplus_backward(dy: Array, x: Array) -> tuple[Array]:
    """Return dy * sigmoid(x)."""
    return (dy * _sigmoid(x),)


# The forward kernels compute max(x, 0) - t * tail, t = |x|, the backward ones the slope of t * tail. float32 on AVX-512 has
# tables, whose fits are off by no more than this, and which end at 7.625.
_TABLE = 2e-12


def _fit(r: Rounding) -> float:
    return _TABLE if r.dtype == np.float32 else 0.0


def _gelu_bound(r: Rounding, x: Array) -> tuple[Any, ...]:
    t = np.minimum(np.abs(x), 1e3)
    error = t * (8 * r.u * normal_tail(t) + _fit(r))
    return (r.relative(1, gelu_forward(x)[0]) + error + r.tiny * (2 + t),)


def _gelu_backward_bound(r: Rounding, dy: Array, x: Array) -> tuple[Any, ...]:
    t = np.minimum(np.abs(x), 1e3)
    error = 16 * r.u * (normal_tail(t) + t * normal_density(t)) + _fit(r)
    return (np.abs(dy) * (error + r.u + r.tiny * (2 + t)) + r.relative(1, gelu_backward(dy, x)[0]),)


def _tanh_tail_error(r: Rounding, t: Array) -> tuple[Array, Array, Array]:
    """Return the tail of the tanh form, its relative error and t times its derivative."""
    z, slope = _argument(t)
    tail = _sigmoid(-z)
    return tail, (6 + 4 * z) * r.u, t * slope * tail * (1 - tail)


def _gelu_tanh_bound(r: Rounding, x: Array) -> tuple[Any, ...]:
    t = np.minimum(np.abs(x), 1e3)
    tail, error, _ = _tanh_tail_error(r, t)
    return (r.relative(1, gelu_tanh_forward(x)[0]) + t * (tail * error + _fit(r)) + r.tiny * (2 + t),)


def _gelu_tanh_backward_bound(r: Rounding, dy: Array, x: Array) -> tuple[Any, ...]:
    t = np.minimum(np.abs(x), 1e3)
    tail, error, steep = _tanh_tail_error(r, t)
    error = (tail + steep) * (error + 10 * r.u) + _fit(r)
    return (np.abs(dy) * (error + r.u + r.tiny * (2 + t)) + r.relative(1, gelu_tanh_backward(dy, x)[0]),)


def _silu_bound(r: Rounding, x: Array) -> tuple[Any, ...]:
    # Results are 0 where exp(-x) is infinite.
    lost = 3e-37 if r.dtype == np.float32 else 4e-306
    return (ulps(r, silu_forward(x)[0], 3, 4) + np.where(x < 0, lost, 0),)


def _silu_backward_bound(r: Rounding, dy: Array, x: Array) -> tuple[Any, ...]:
    t = np.minimum(np.abs(x), 1e3)
    terms = _sigmoid(x) * (1 + t * _sigmoid(-x))
    return (np.abs(dy) * (12 * r.u * terms + r.tiny * (2 + t)) + r.tiny,)


def _softplus_bound(r: Rounding, x: Array) -> tuple[Any, ...]:
    return (ulps(r, softplus_forward(x)[0], 3, 4),)


def _softplus_backward_bound(r: Rounding, dy: Array, x: Array) -> tuple[Any, ...]:
    s = _sigmoid(x)
    return (np.abs(dy) * ulps(r, s, 3, 4) + r.relative(2, dy * s),)


_HENDRYCKS = "Hendrycks, Gimpel 2016"
_SILU = "Elfwing, Uchibe, Doya 2018"
_SOFTPLUS = "Dugas, Bengio, Belisle, Nadeau, Garcia 2000"

for _name, _forward, _bound, _backward, _slope_bound, _source, _flop in (
    ("gelu", gelu_forward, _gelu_bound, gelu_backward, _gelu_backward_bound, _HENDRYCKS, 16),
    ("gelu_tanh", gelu_tanh_forward, _gelu_tanh_bound, gelu_tanh_backward, _gelu_tanh_backward_bound, _HENDRYCKS, 16),
    ("silu", silu_forward, _silu_bound, silu_backward, _silu_backward_bound, _SILU, 13),
    ("softplus", softplus_forward, _softplus_bound, softplus_backward, _softplus_backward_bound, _SOFTPLUS, 18),
):
    elementwise(f"{_name}_forward", _forward, _bound, ("x",), _source, _flop, backward={"x": f"{_name}_backward.dx"})
    elementwise(f"{_name}_backward", _backward, _slope_bound, ("dy", "x"), _source, _flop + 4)
