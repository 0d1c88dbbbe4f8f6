"""Reference of the update rules, each with the meaning PyTorch gives it.

`weight_decay` is added to the gradient (coupled) in all rules but AdamW, which shrinks the
parameters instead. `eps` stands outside the square root; `correction1` and `correction2` are
``1 - beta**step``, counted from step 1.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
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
    label_of,
    normal,
    register,
)

SHAPES = tuple({"size": size} for size in SIZES)
BENCH = tuple({"size": size} for size in (2400, 150000, 1 << 20))


def sgd_step(p: Array, dp: Array, *, learning_rate: float, weight_decay: float) -> tuple[Array]:
    """Return p after a step of gradient descent."""
    return (p - learning_rate * (dp + weight_decay * p),)


def momentum_step(
    p: Array,
    dp: Array,
    velocity: Array,
    *,
    learning_rate: float,
    momentum: float,
    weight_decay: float,
) -> tuple[Array, Array]:
    """Return p and velocity; the velocity sums gradients, the rate is applied to the sum."""
    velocity = momentum * velocity + dp + weight_decay * p
    return p - learning_rate * velocity, velocity


def nesterov_step(
    p: Array,
    dp: Array,
    velocity: Array,
    *,
    learning_rate: float,
    momentum: float,
    weight_decay: float,
) -> tuple[Array, Array]:
    """Return p and velocity; the step looks one velocity ahead."""
    gradient = dp + weight_decay * p
    velocity = momentum * velocity + gradient
    return p - learning_rate * (gradient + momentum * velocity), velocity


def adam_step(
    p: Array,
    dp: Array,
    m: Array,
    v: Array,
    *,
    learning_rate: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    correction1: float,
    correction2: float,
) -> tuple[Array, Array, Array]:
    """Return p and the moments m, v; Algorithm 1 of the paper with coupled weight decay."""
    gradient = dp + weight_decay * p
    m = beta1 * m + (1 - beta1) * gradient
    v = beta2 * v + (1 - beta2) * gradient**2
    return p - learning_rate * (m / correction1) / (np.sqrt(v / correction2) + eps), m, v


def adamw_step(
    p: Array,
    dp: Array,
    m: Array,
    v: Array,
    *,
    learning_rate: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    correction1: float,
    correction2: float,
) -> tuple[Array, Array, Array]:
    """Return p and the moments; p shrinks first, then makes an Adam step without decay."""
    shrunk = p - learning_rate * weight_decay * p
    rest = {
        "beta1": beta1,
        "beta2": beta2,
        "eps": eps,
        "correction1": correction1,
        "correction2": correction2,
    }
    return adam_step(shrunk, dp, m, v, learning_rate=learning_rate, weight_decay=0.0, **rest)


def adagrad_step(
    p: Array, dp: Array, v: Array, *, learning_rate: float, eps: float, weight_decay: float
) -> tuple[Array, Array]:
    """Return p and v, the sum of the squared gradients; each weight has a rate of its own, which only falls."""
    gradient = dp + weight_decay * p
    v = v + gradient**2
    return p - learning_rate * gradient / (np.sqrt(v) + eps), v


def rmsprop_step(
    p: Array, dp: Array, v: Array, *, learning_rate: float, rho: float, eps: float, weight_decay: float
) -> tuple[Array, Array]:
    """Return p and v, the running mean of the squared gradients."""
    gradient = dp + weight_decay * p
    v = rho * v + (1 - rho) * gradient**2
    return p - learning_rate * gradient / (np.sqrt(v) + eps), v


def rmsprop_momentum_step(
    p: Array,
    dp: Array,
    v: Array,
    velocity: Array,
    *,
    learning_rate: float,
    rho: float,
    momentum: float,
    eps: float,
    weight_decay: float,
) -> tuple[Array, Array, Array]:
    """Return p, v and velocity; the velocity sums scaled gradients, the rate is applied to the sum."""
    gradient = dp + weight_decay * p
    v = rho * v + (1 - rho) * gradient**2
    velocity = momentum * velocity + gradient / (np.sqrt(v) + eps)
    return p - learning_rate * velocity, v, velocity


def _gradient(r: Rounding, p: Array, dp: Array, weight_decay: float) -> tuple[Array, Array]:
    """Return the largest size of the decayed gradient and its error."""
    size = np.abs(dp) + abs(weight_decay) * np.abs(p)
    return size, (3 * r.u * size + 2 * r.tiny) if weight_decay else np.zeros_like(size)


def _moved(r: Rounding, p: Array, distance: Array, d_distance: Array) -> Array:
    """Bound ``p - distance``; the distance has error d_distance and two roundings of its own."""
    bound: Array = d_distance + r.u * (1.001 * np.abs(p) + 4 * distance) + 2 * r.tiny
    return bound


def _sgd_bound(r: Rounding, p: Array, dp: Array, *, learning_rate: float, weight_decay: float) -> tuple[Any]:
    size, d = _gradient(r, p, dp, weight_decay)
    return (_moved(r, p, learning_rate * size, learning_rate * d),)


def _momentum_bound(
    r: Rounding,
    p: Array,
    dp: Array,
    velocity: Array,
    *,
    learning_rate: float,
    momentum: float,
    weight_decay: float,
) -> tuple[Any, Any]:
    size, d = _gradient(r, p, dp, weight_decay)
    new, d_new = _velocity(r, velocity, momentum, size, d)
    return _moved(r, p, learning_rate * new, learning_rate * d_new), d_new


def _velocity(r: Rounding, velocity: Array, momentum: float, size: Array, d: Array) -> tuple[Array, Array]:
    new = momentum * np.abs(velocity) + size
    return new, d + 3.01 * r.u * momentum * np.abs(velocity) + 1.01 * r.u * size + 2 * r.tiny


def _nesterov_bound(
    r: Rounding,
    p: Array,
    dp: Array,
    velocity: Array,
    *,
    learning_rate: float,
    momentum: float,
    weight_decay: float,
) -> tuple[Any, Any]:
    size, d = _gradient(r, p, dp, weight_decay)
    new, d_new = _velocity(r, velocity, momentum, size, d)
    ahead, d_ahead = (
        size + momentum * new,
        d + momentum * d_new + 3.01 * r.u * (size + momentum * new) + 2 * r.tiny,
    )
    return _moved(r, p, learning_rate * ahead, learning_rate * d_ahead), d_new


def _adam_bound(
    r: Rounding,
    p: Array,
    dp: Array,
    m: Array,
    v: Array,
    *,
    learning_rate: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    correction1: float,
    correction2: float,
) -> tuple[Any, ...]:
    size, d = _gradient(r, p, dp, weight_decay)
    m_size = beta1 * np.abs(m) + (1 - beta1) * size
    d_m = (1 - beta1) * d + 3.01 * r.u * m_size + 2 * r.tiny
    new_v = beta2 * v + (1 - beta2) * size**2  # an upper bound where decay and gradient have different signs
    d_v = (1 - beta2) * (2 * size * d + d * d) + 4.01 * r.u * new_v + 4 * r.tiny
    exact_v = beta2 * v + (1 - beta2) * (dp + weight_decay * p) ** 2
    root = np.sqrt(exact_v)
    d_root = np.maximum(np.sqrt(exact_v + d_v) - root, root - np.sqrt(np.maximum(exact_v - d_v, 0))) + 1.01 * r.u * root
    denominator = root / np.sqrt(correction2) + eps
    d_denominator = 1.01 * d_root / np.sqrt(correction2) + 4 * r.u * denominator
    least = np.maximum(denominator - d_denominator, eps / 2)
    rate = learning_rate / correction1
    distance = rate * m_size / denominator
    d_distance = rate * (d_m / least + m_size * d_denominator / (denominator * least)) + 4 * r.u * distance
    return _moved(r, p, distance, d_distance), d_m, d_v


def _adamw_bound(
    r: Rounding,
    p: Array,
    dp: Array,
    m: Array,
    v: Array,
    *,
    weight_decay: float,
    learning_rate: float,
    **rest: float,
) -> tuple[Any, ...]:
    d_p, d_m, d_v = _adam_bound(r, p, dp, m, v, weight_decay=0.0, learning_rate=learning_rate, **rest)
    return d_p + 2 * r.u * np.abs(p) + r.tiny, d_m, d_v


def _quotient(r: Rounding, size: Array, d: Array, v: Array, d_v: Array, eps: float) -> tuple[Array, Array]:
    """Bound ``gradient / (sqrt(v) + eps)`` for a gradient of at most ``size``: its largest size and its error."""
    root = np.sqrt(v)
    d_root = np.maximum(np.sqrt(v + d_v) - root, root - np.sqrt(np.maximum(v - d_v, 0))) + 1.01 * r.u * root
    denominator = root + eps
    d_denominator = d_root + 3 * r.u * denominator
    least = np.maximum(denominator - d_denominator, eps / 2)
    distance = size / denominator
    return distance, d / least + size * d_denominator / (denominator * least) + 4 * r.u * distance


def _adagrad_bound(
    r: Rounding, p: Array, dp: Array, v: Array, *, learning_rate: float, eps: float, weight_decay: float
) -> tuple[Any, Any]:
    size, d = _gradient(r, p, dp, weight_decay)
    exact_v = v + (dp + weight_decay * p) ** 2
    d_v = 2 * size * d + d * d + 2.01 * r.u * (v + size**2) + 2 * r.tiny
    distance, d_distance = _quotient(r, size, d, exact_v, d_v, eps)
    return _moved(r, p, learning_rate * distance, learning_rate * d_distance), d_v


def _mean_of_squares(
    r: Rounding, p: Array, dp: Array, v: Array, rho: float, size: Array, d: Array, weight_decay: float
) -> tuple[Array, Array]:
    """Return the running mean of the squared gradients and its error."""
    exact = rho * v + (1 - rho) * (dp + weight_decay * p) ** 2
    largest = rho * v + (1 - rho) * size**2
    return exact, (1 - rho) * (2 * size * d + d * d) + 4.01 * r.u * largest + 4 * r.tiny


def _rmsprop_bound(
    r: Rounding, p: Array, dp: Array, v: Array, *, learning_rate: float, rho: float, eps: float, weight_decay: float
) -> tuple[Any, Any]:
    size, d = _gradient(r, p, dp, weight_decay)
    exact_v, d_v = _mean_of_squares(r, p, dp, v, rho, size, d, weight_decay)
    distance, d_distance = _quotient(r, size, d, exact_v, d_v, eps)
    return _moved(r, p, learning_rate * distance, learning_rate * d_distance), d_v


def _rmsprop_momentum_bound(
    r: Rounding,
    p: Array,
    dp: Array,
    v: Array,
    velocity: Array,
    *,
    learning_rate: float,
    rho: float,
    momentum: float,
    eps: float,
    weight_decay: float,
) -> tuple[Any, Any, Any]:
    size, d = _gradient(r, p, dp, weight_decay)
    exact_v, d_v = _mean_of_squares(r, p, dp, v, rho, size, d, weight_decay)
    new, d_new = _velocity(r, velocity, momentum, *_quotient(r, size, d, exact_v, d_v, eps))
    return _moved(r, p, learning_rate * new, learning_rate * d_new), d_v, d_new


_STATES = {
    "sgd_step": (),
    "momentum_step": ("velocity",),
    "nesterov_step": ("velocity",),
    "adam_step": ("m", "v"),
    "adagrad_step": ("v",),
    "rmsprop_step": ("v",),
    "rmsprop_momentum_step": ("v", "velocity"),
}
_STATES["adamw_step"] = _STATES["adam_step"]


def _hyper(op: str, step: float = 3, **changes: float) -> dict[str, float]:
    """Return the hyper fields an op reads; Adam's corrections belong to the step number."""
    hyper = {"learning_rate": 0.05, "weight_decay": 0.02}
    if op in ("momentum_step", "nesterov_step", "rmsprop_momentum_step"):
        hyper["momentum"] = 0.9
    if op in ("adagrad_step", "rmsprop_step", "rmsprop_momentum_step"):
        hyper["eps"] = 1e-8
    if op in ("rmsprop_step", "rmsprop_momentum_step"):
        hyper["rho"] = 0.9
    if op in ("adam_step", "adamw_step"):
        hyper |= {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
    hyper |= changes
    if "beta1" in hyper:
        hyper["correction1"], hyper["correction2"] = (
            1 - hyper["beta1"] ** step,
            1 - hyper["beta2"] ** step,
        )
    return hyper


def _arrays(op: str, rng: Rng, dtype: DTypeLike, *shape: int) -> dict[str, Array | None]:
    arrays: dict[str, Array | None] = {
        "p": normal(rng, dtype, *shape),
        "dp": normal(rng, dtype, *shape),
    }
    for state in _STATES[op]:
        array = normal(rng, dtype, *shape)
        arrays[state] = array * array if state == "v" else array
    return arrays


def _case(op: str, rng: Rng, dtype: DTypeLike, size: int) -> Sample:
    return Sample(label_of(size=size), _arrays(op, rng, dtype, size), {}, _hyper(op))


def _special(op: str, rng: Rng, dtype: DTypeLike) -> list[Sample]:
    subnormal = float(np.finfo(np.dtype(dtype)).smallest_subnormal)
    gradients = [
        0.0,
        -0.0,
        subnormal,
        -3 * subnormal,
        1e-30,
        -1e-20,
        1e-10,
        -1e-4,
        1e4,
        -1e15,
        np.nan,
        np.inf,
        -np.inf,
    ]
    dp = np.array(gradients).astype(dtype)
    zeros = np.zeros_like(dp)
    fresh: dict[str, Array | None] = {"p": normal(rng, dtype, len(dp)), "dp": dp}
    fresh |= dict.fromkeys(_STATES[op], zeros)
    used = {**_arrays(op, rng, dtype, len(dp)), "dp": dp}
    still: dict[str, Array | None] = {**_arrays(op, rng, dtype, 9), "dp": np.zeros(9, dtype)}
    samples = [
        Sample("first_step", fresh, {}, _hyper(op, step=1, weight_decay=0.0)),
        Sample("awkward_gradients", used, {}, _hyper(op, step=2, weight_decay=0.0)),
        Sample("awkward_gradients_decay", used, {}, _hyper(op, step=2)),
        Sample("zero_gradient", still, {}, _hyper(op)),
        Sample("two_dimensions", _arrays(op, rng, dtype, 5, 13), {}, _hyper(op)),
        Sample("no_rate", _arrays(op, rng, dtype, 21), {}, _hyper(op, learning_rate=0.0)),
        Sample(
            "late_step",
            _arrays(op, rng, dtype, 37),
            {},
            _hyper(op, step=100000, learning_rate=1e-3),
        ),
    ]
    if "momentum" in samples[0].hyper:
        samples.append(Sample("other_momentum", _arrays(op, rng, dtype, 11), {}, _hyper(op, momentum=0.5)))
    if "beta1" in samples[0].hyper:
        changes = {"beta1": 0.8, "beta2": 0.99, "eps": 1e-3}
        samples.append(Sample("other_betas", _arrays(op, rng, dtype, 11), {}, _hyper(op, **changes)))
    if "rho" in samples[0].hyper:
        samples.append(Sample("other_rho", _arrays(op, rng, dtype, 11), {}, _hyper(op, rho=0.5, eps=1e-3)))
    if "eps" in samples[0].hyper:
        samples.append(Sample("tiny_eps", _arrays(op, rng, dtype, 37), {}, _hyper(op, eps=1e-35)))
    return samples


def _errors(op: str, rng: Rng, dtype: DTypeLike) -> list[ErrorCase]:
    good = _arrays(op, rng, dtype, 5)
    cases = []
    for name in list(good)[1:]:
        match = rf"{op}: '{name}' has shape \(4,\), expected \(5,\) because 'p' has shape \(5,\)"
        bad = Sample(f"{name}_shape", {**good, name: normal(rng, dtype, 4)}, {}, _hyper(op))
        cases.append(ErrorCase(bad, ValueError, match))
    other = np.float64 if np.dtype(dtype) == np.float32 else np.float32
    mixed = Sample("dp_dtype", {**good, "dp": normal(rng, other, 5)}, {}, _hyper(op))
    cases.append(ErrorCase(mixed, TypeError, f"{op}: 'dp'.*{np.dtype(other)}"))
    return cases


_RULES: tuple[tuple[str, Callable[..., Any], Callable[..., Any], int, int, str], ...] = (
    ("sgd_step", sgd_step, _sgd_bound, 3, 4, "Robbins, Monro 1951"),
    ("momentum_step", momentum_step, _momentum_bound, 5, 6, "Polyak 1964; Sutskever et al. 2013"),
    ("nesterov_step", nesterov_step, _nesterov_bound, 5, 8, "Nesterov 1983; Sutskever et al. 2013"),
    ("adam_step", adam_step, _adam_bound, 7, 14, "Kingma, Ba 2015, Algorithm 1"),
    ("adamw_step", adamw_step, _adamw_bound, 7, 14, "Loshchilov, Hutter 2019, Algorithm 2"),
    ("adagrad_step", adagrad_step, _adagrad_bound, 5, 8, "Duchi, Hazan, Singer 2011"),
    ("rmsprop_step", rmsprop_step, _rmsprop_bound, 5, 10, "Tieleman, Hinton 2012, lecture 6.5"),
    ("rmsprop_momentum_step", rmsprop_momentum_step, _rmsprop_momentum_bound, 7, 12, "Tieleman, Hinton 2012; PyTorch"),
)
for _name, _reference, _bound, _arrays_moved, _flop, _source in _RULES:
    register(
        OpSpec(
            name=_name,
            reference=_reference,
            bound=_bound,
            case=partial(_case, _name),
            shapes=SHAPES,
            bench=BENCH,
            special=partial(_special, _name),
            errors=partial(_errors, _name),
            cost=lambda itemsize, size, flop=_flop, moved=_arrays_moved: Cost(flop * size, moved * itemsize * size),
            source=_source,
        )
    )
