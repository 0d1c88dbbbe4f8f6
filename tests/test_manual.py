"""Steps taken apart: forward, a gradient from outside, backward, update; and gradients alone."""

from __future__ import annotations

import numpy as np
import pytest

import pyfastnn as fnn
from pyfastnn import nn, optim
from pyfastnn.testing import rng_of


def data(rows=40):
    rng = rng_of("manual")
    return rng.standard_normal((rows, 5)), rng.integers(0, 3, rows)


EVERYTHING = {
    "l1": 1e-3,
    "clip_norm": 0.2,
    "clip_value": 0.1,
    "max_norm": 1.5,
    "ema": 0.9,
    "rate_factors": {"linear_1": 0.5},
}


def trainer_of(extras=None, **settings) -> fnn.Trainer:
    layers = (nn.Linear(7), nn.ReLU(), nn.BatchNorm(), nn.Dropout(0.3), nn.Linear(3))
    model = nn.Sequential(*layers, dtype="float64", preprocess=fnn.data.Standardize())
    return fnn.Trainer(
        model, optimizer=optim.SGD(0.1, momentum=0.9, weight_decay=0.01, **extras or {}), seed=3, **settings
    )


def softmax_gradient(scores, y):
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(len(y)), y] -= 1
    return p / len(y)


@pytest.mark.parametrize("extras", [{}, EVERYTHING], ids=["plain", "everything"])
@pytest.mark.parametrize("threads", [1, 3])
def test_parts_make_the_step(threads, extras):
    X, y = data()
    whole, parts = trainer_of(extras, threads=threads), trainer_of(extras, threads=threads)
    for rows in (40, 25, 40, 7):
        whole.step(X[:rows], y[:rows])
        scores = parts.forward(X[:rows])
        parts.backward(softmax_gradient(scores, y[:rows]))
        parts.update()
    assert parts.step_count == whole.step_count == 4
    found = {**parts.model.arrays(), **parts.slots}
    for name, array in {**whole.model.arrays(), **whole.slots}.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-10, atol=1e-12, err_msg=name)


def test_input_gradient_against_differences():
    X, y = data(12)
    trainer = fnn.Trainer(
        nn.Sequential(nn.Linear(4), nn.Tanh(), nn.Linear(3), dtype="float64", preprocess=fnn.data.Standardize())
    )
    weights = rng_of("upstream").standard_normal((12, 3))
    trainer.forward(X)
    dx = trainer.backward(weights, input_gradient=True)
    assert dx.shape == X.shape
    for i, j in ((0, 0), (3, 4), (11, 2)):
        values = []
        for step in (1e-6, -1e-6):
            moved = X.copy()
            moved[i, j] += step
            values.append(float((trainer.model(moved) * weights).sum()))
        assert dx[i, j] == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-6, abs=1e-9)


def test_gradients_change_nothing_and_are_those_of_the_step():
    X, y = data()
    trainer = trainer_of()
    trainer.step(X, y)
    before = trainer.model.state_dict()
    found = trainer.gradients(X, y)
    for name, array in trainer.model.arrays().items():
        assert (array == before[name]).all(), name
    assert set(found) == set(trainer.model.parameters)
    values, _ = trainer.trace(X, y)
    for name, gradient in found.items():
        matches = [v for k, v in values.items() if k.startswith("d(") and v.shape == gradient.shape]
        assert any((m == gradient).all() for m in matches), name


def test_mistakes_with_parts():
    X, y = data()
    trainer = trainer_of()
    for call in (lambda: trainer.backward(np.zeros((40, 3))), trainer.update):
        with pytest.raises(RuntimeError, match=r"call trainer.forward"):
            call()
    trainer.forward(X)
    with pytest.raises(ValueError, match=r"'dscores' has shape \(40, 2\), expected \(40, 3\)"):
        trainer.backward(np.zeros((40, 2)))
    trainer.model.freeze("linear_1")
    with pytest.raises(RuntimeError, match=r"call trainer.forward"):
        trainer.update()
    with pytest.raises(ValueError, match="has no rows"):
        trainer.forward(X[:0])
    assert y.shape == (40,)
