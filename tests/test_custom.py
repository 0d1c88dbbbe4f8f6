"""Losses and layers written in NumPy, through the plan."""

from __future__ import annotations

import numpy as np
import pytest

import pyfastnn as fnn
from pyfastnn import nn, optim
from pyfastnn.testing import assert_same_bits, rng_of


def data(rows=50):
    rng = rng_of("custom")
    X = rng.standard_normal((rows, 4))
    return X, X[:, :2] @ np.array([[1.0, 2.0], [0.5, -1.0]])


def squared(scores, targets):
    difference = scores - targets
    return (difference**2).mean(), 2 * difference / difference.size


def net(*between, dtype="float64"):
    return nn.Sequential(nn.Linear(6), *between, nn.Linear(2), dtype=dtype)


def cube():
    return nn.Lambda(lambda x: x**3, lambda dy, y, x: dy * 3 * x**2)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_loss_of_ones_own_trains_as_ours(threads):
    X, y = data()
    own = fnn.Trainer(net(nn.Tanh()), nn.CustomLoss(squared), optim.SGD(0.1), seed=1, threads=threads)
    ours = fnn.Trainer(net(nn.Tanh()), "mean_squared_error", optim.SGD(0.1), seed=1, threads=threads)
    for each in (own, ours):
        each.fit(X, y, X_val=X, y_val=y, epochs=3, batch_size=16, verbose=0)
    np.testing.assert_allclose(own.history["loss"], ours.history["loss"], rtol=1e-12)
    np.testing.assert_allclose(own.history["val_loss"], ours.history["val_loss"], rtol=1e-12)
    for name, array in ours.model.arrays().items():
        np.testing.assert_allclose(own.model.arrays()[name], array, rtol=1e-10, atol=1e-13)


def test_a_layer_of_ones_own_against_differences():
    X, y = data(10)
    trainer = fnn.Trainer(net(cube()), "mean_squared_error")
    assert trainer.compare(X, y) is None
    w = trainer.model.arrays()["linear_1.w"]
    found = trainer.gradients(X, y)["linear_1.w"][1, 2]
    values = []
    for step in (1e-6, -1e-6):
        w[1, 2] += step
        values.append(trainer.evaluate(X, y)["loss"])
        w[1, 2] -= step
    assert found == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-6)


def test_a_layer_with_two_inputs_and_another_shape():
    x = nn.Input((4,))
    a, b = nn.Linear(3)(x), nn.Linear(3)(x)
    outer = nn.Lambda(
        lambda p, q: p[:, :, None] * q[:, None, :],
        lambda dy, y, p, q: ((dy * q[:, None, :]).sum(axis=2), (dy * p[:, :, None]).sum(axis=1)),
        output_shape=lambda p, q: (p[0], q[0]),
    )
    model = nn.Model(x, nn.Linear(2)(nn.Flatten()(outer(a, b))), dtype="float64")
    X, y = data(10)
    trainer = fnn.Trainer(model, "mean_squared_error", optim.Adam(0.02))
    assert trainer.fit(X, y, epochs=40, verbose=0)["loss"][-1] < trainer.history["loss"][0]


def test_errors_in_a_function_come_through():
    def broken(scores, targets):
        raise KeyError("mine")

    X, y = data()
    trainer = fnn.Trainer(net(), nn.CustomLoss(broken))
    with pytest.raises(KeyError, match="mine"):
        trainer.fit(X, y, epochs=1, verbose=0)
    trainer.loss = nn.CustomLoss(lambda s, t: (0.0, s[:1]))
    trainer.model.refresh()
    with pytest.raises(ValueError, match=r"the gradient has shape \(1, 2\), expected \(32, 2\)"):
        trainer.fit(X, y, epochs=1, verbose=0)


def test_functions_get_read_only_inputs():
    def writing(scores, targets):
        scores[0] = 0
        return squared(scores, targets)

    X, y = data()
    with pytest.raises(ValueError, match="read-only"):
        fnn.Trainer(net(), nn.CustomLoss(writing)).fit(X, y, epochs=1, verbose=0)


def test_lambda_predicts_without_a_gradient_and_refuses_to_train():
    X, y = data()
    model = net(nn.Lambda(np.abs)).build(4)
    assert_same_bits(model(X)[3:4], model(X[3:4]), "row")
    with pytest.raises(ValueError, match=r"Lambda\(forward, backward\)"):
        fnn.Trainer(model, "mean_squared_error").fit(X, y, verbose=0)


def test_functions_are_not_saved(tmp_path):
    model = net(cube()).build(4)
    with pytest.raises(TypeError, match="cannot be saved"):
        model.save(tmp_path / "m")
    assert not list(tmp_path.iterdir())
