"""Update rules against closed forms, and over several steps against the reference."""

from __future__ import annotations

import numpy as np
import pytest

from pyfastnn import functional as F
from pyfastnn.reference import specs
from pyfastnn.testing import DTYPES, assert_within, rng_of

STATES = {
    "sgd_step": (),
    "momentum_step": ("velocity",),
    "nesterov_step": ("velocity",),
    "adam_step": ("m", "v"),
    "adamw_step": ("m", "v"),
    "adagrad_step": ("v",),
    "rmsprop_step": ("v",),
    "rmsprop_momentum_step": ("v", "velocity"),
}
SETTINGS = [
    ("sgd_step", {}),
    ("sgd_step", {"weight_decay": 0.1}),
    ("momentum_step", {}),
    ("momentum_step", {"momentum": 0.5, "weight_decay": 0.1}),
    ("nesterov_step", {}),
    ("nesterov_step", {"momentum": 0.5, "weight_decay": 0.1}),
    ("adam_step", {}),
    ("adam_step", {"beta1": 0.5, "beta2": 0.9, "eps": 1e-3, "weight_decay": 0.1}),
    ("adamw_step", {}),
    ("adamw_step", {"beta1": 0.5, "beta2": 0.9, "eps": 1e-3, "weight_decay": 0.1}),
    ("adagrad_step", {}),
    ("adagrad_step", {"eps": 1e-3, "weight_decay": 0.1}),
    ("rmsprop_step", {}),
    ("rmsprop_step", {"rho": 0.5, "eps": 1e-3, "weight_decay": 0.1}),
    ("rmsprop_momentum_step", {}),
    ("rmsprop_momentum_step", {"rho": 0.5, "momentum": 0.5, "eps": 1e-3, "weight_decay": 0.1}),
]
RATES = (0.1, 0.02, 0.3, 0.0, 0.05)


def defaults(rule: str) -> dict[str, float]:
    found = {"learning_rate": 1e-3, "weight_decay": 0.01 if rule == "adamw_step" else 0.0}
    if "velocity" in STATES[rule]:
        found["momentum"] = 0.9
    if "m" in STATES[rule]:
        found |= {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
    elif "v" in STATES[rule]:
        found |= {"eps": 1e-10} if rule == "adagrad_step" else {"rho": 0.99, "eps": 1e-8}
    return found


def gradients(dtype: str, size: int, step: int) -> np.ndarray:
    """Return gradients of ordinary size, with zeros, tiny and large ones among them."""
    g = rng_of("gradients", size, step).standard_normal(size)
    g[::7] = 0
    g[1::11] *= 1e-6
    g[2::13] *= 1e5
    return g.astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1, 17, 301])
@pytest.mark.parametrize(("rule", "settings"), SETTINGS, ids=[f"{r}-{'_'.join(s) or 'defaults'}" for r, s in SETTINGS])
def test_steps_with_changing_rate(rule, settings, size, dtype):
    """Five steps from the kernel's own state: each within the bound of the reference."""
    function = getattr(F, rule)
    p = rng_of(rule, size).standard_normal(size).astype(dtype)
    states = [np.zeros(size, dtype) for _ in STATES[rule]]
    for step, rate in enumerate(RATES, 1):
        dp = gradients(dtype, size, step)
        names = ["p", "dp", *STATES[rule]]
        inputs = dict(zip(names, [p.copy(), dp, *(s.copy() for s in states)], strict=True))
        hyper = {**defaults(rule), **settings, "learning_rate": rate}
        keywords = dict(settings, learning_rate=rate)
        if "m" in STATES[rule]:
            keywords["step"] = step
            hyper["correction1"] = 1 - hyper["beta1"] ** step
            hyper["correction2"] = 1 - hyper["beta2"] ** step
        assert function(p, dp, *states, **keywords) is None
        spec = specs()[rule]
        wide = {k: a.astype(np.longdouble) for k, a in inputs.items()}
        wanted = spec.reference(**wide, **hyper)
        bounds = spec.error_bound(inputs, {}, hyper, dtype)
        for got, want, bound in zip([p, *states], wanted, bounds, strict=True):
            assert_within(got, want.astype(np.longdouble), bound, f"{rule} step {step}")


@pytest.mark.parametrize("rule", ["adam_step", "adamw_step"])
def test_first_adam_step_is_the_rate_times_the_sign(rule):
    dp = np.array([3.0, -1e-3, 1e3, -2.0])
    p, m, v = np.zeros(4), np.zeros(4), np.zeros(4)
    getattr(F, rule)(p, dp, m, v, step=1, learning_rate=0.1)
    np.testing.assert_allclose(p, -0.1 * np.sign(dp), rtol=2e-5)


@pytest.mark.parametrize("rule", ["adam_step", "adamw_step"])
def test_eps_stands_outside_the_root(rule):
    """A gradient far below eps moves by rate * g / eps; inside the root it would be sqrt(eps)."""
    p, m, v = np.zeros(1), np.zeros(1), np.zeros(1)
    getattr(F, rule)(p, np.array([1e-12]), m, v, step=1, learning_rate=1.0, eps=1e-8)
    assert p[0] == pytest.approx(-1e-12 / (1e-12 + 1e-8), rel=1e-12)


def test_adam_with_a_constant_gradient_moves_by_the_rate_every_step():
    p, m, v = np.zeros(3), np.zeros(3), np.zeros(3)
    dp = np.array([1.0, -5.0, 0.25])
    for step in range(1, 51):
        F.adam_step(p, dp, m, v, step=step, learning_rate=0.01, eps=0.0)
        np.testing.assert_allclose(p, -0.01 * step * np.sign(dp), rtol=1e-12)


def test_adamw_decays_decoupled():
    """Without a gradient p shrinks by 1 - rate * decay; coupled decay would move by the rate."""
    p, m, v = np.ones(2), np.zeros(2), np.zeros(2)
    for step in range(1, 11):
        F.adamw_step(p, np.zeros(2), m, v, step=step, learning_rate=0.1, weight_decay=0.5)
    np.testing.assert_allclose(p, 0.95**10, rtol=1e-14)
    q, m, v = np.ones(2), np.zeros(2), np.zeros(2)
    F.adam_step(q, np.zeros(2), m, v, step=1, learning_rate=0.1, weight_decay=0.5)
    np.testing.assert_allclose(q, 0.9, rtol=1e-7)


def test_sgd_with_decay_is_geometric():
    p = np.ones(3)
    for _ in range(20):
        F.sgd_step(p, np.zeros(3), learning_rate=0.1, weight_decay=0.5)
    np.testing.assert_allclose(p, 0.95**20, rtol=1e-13)


def test_momentum_with_a_constant_gradient_sums_a_geometric_series():
    rate, mu, steps = 0.1, 0.5, 12
    p, velocity = np.zeros(1), np.zeros(1)
    q, other = np.zeros(1), np.zeros(1)
    for _ in range(steps):
        F.momentum_step(p, np.ones(1), velocity, learning_rate=rate, momentum=mu)
        F.nesterov_step(q, np.ones(1), other, learning_rate=rate, momentum=mu)
    sums = [(1 - mu ** (k + 1)) / (1 - mu) for k in range(steps)]
    np.testing.assert_allclose(velocity, sums[-1], rtol=1e-14)
    np.testing.assert_allclose(p, -rate * sum(sums), rtol=1e-14)
    np.testing.assert_allclose(other, sums[-1], rtol=1e-14)
    np.testing.assert_allclose(q, -rate * sum(1 + mu * s for s in sums), rtol=1e-14)


def test_rate_changes_do_not_rescale_the_velocity():
    """The rate is applied to the velocity, not folded in: a new rate counts for the whole sum."""
    p, velocity = np.zeros(1), np.zeros(1)
    F.momentum_step(p, np.ones(1), velocity, learning_rate=1.0, momentum=0.9)
    F.momentum_step(p, np.zeros(1), velocity, learning_rate=0.1, momentum=0.9)
    np.testing.assert_allclose(p, -1.0 - 0.1 * 0.9, rtol=1e-15)


def test_adagrad_with_a_constant_gradient_moves_by_the_rate_over_a_root():
    p, v = np.zeros(3), np.zeros(3)
    dp = np.array([1.0, -5.0, 0.25])
    want = np.zeros(3)
    for step in range(1, 41):
        F.adagrad_step(p, dp, v, learning_rate=0.1, eps=0.0)
        want -= 0.1 * np.sign(dp) / np.sqrt(step)
        np.testing.assert_allclose(p, want, rtol=1e-13)


def test_rmsprop_with_a_constant_gradient_settles_at_the_rate():
    """The mean of squares is g**2 * (1 - rho**t), so steps shrink from rate / sqrt(1 - rho) to the rate."""
    p, v, q, u, velocity = (np.zeros(2) for _ in range(5))
    dp = np.array([3.0, -0.5])
    steps = 0.1 / np.sqrt(1 - 0.5 ** np.arange(1, 31))
    for step in range(30):
        F.rmsprop_step(p, dp, v, learning_rate=0.1, rho=0.5, eps=0.0)
        F.rmsprop_momentum_step(q, dp, u, velocity, learning_rate=0.1, rho=0.5, momentum=0.0, eps=0.0)
        np.testing.assert_allclose(p, -np.sign(dp) * steps[: step + 1].sum(), rtol=1e-13)
        np.testing.assert_array_equal(q, p)


@pytest.mark.parametrize("rule", ["adagrad_step", "rmsprop_step", "rmsprop_momentum_step"])
def test_eps_of_scaled_rules_stands_outside_the_root(rule):
    """A gradient far below eps moves by rate * g / eps; inside the root it would be sqrt(eps)."""
    p, states = np.zeros(1), [np.zeros(1) for _ in STATES[rule]]
    getattr(F, rule)(p, np.array([1e-12]), *states, learning_rate=1.0, eps=1e-8)
    root = 1e-12 * (1.0 if rule == "adagrad_step" else 0.1)
    assert p[0] == pytest.approx(-1e-12 / (root + 1e-8), rel=1e-12)
