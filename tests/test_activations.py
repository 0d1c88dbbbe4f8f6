"""The activation layers: settings, shapes they take, and what they refuse. Their numbers are checked with the op table."""

from __future__ import annotations

import re

import numpy as np
import pytest

import pyfastnn as fnn
from pyfastnn import nn
from pyfastnn.graph import BATCH, Builder
from pyfastnn.reference import interpret
from pyfastnn.testing import assert_same_bits, rng_of


def output(layer: nn.Layer, x: np.ndarray, row_shape: tuple[int, ...], **arrays: np.ndarray) -> np.ndarray:
    """Return what a layer named ``l`` makes of rows that reach the graph in the shape of ``x``."""
    builder = Builder()
    builder.value("x", (BATCH, *x.shape[1:]))
    for parameter in layer.parameters(row_shape):
        builder.value(f"l.{parameter.name}", parameter.shape, kind="parameter")
        assert arrays[parameter.name].shape == parameter.shape
    y = layer.forward(builder, "l", "x")
    assert builder.graph.values[y].shape[0] == BATCH
    return interpret(builder.graph, {"x": x, **{f"l.{k}": a for k, a in arrays.items()}})[y]


@pytest.mark.parametrize("flat", [False, True], ids=["image", "flat"])
def test_prelu_has_a_slope_for_each_channel_of_an_image(flat):
    rng = rng_of("prelu", flat)
    x, slope = rng.standard_normal((5, 4, 4, 3)), np.array([0.1, 0.2, 0.3])
    rows = x.reshape(5, -1) if flat else x
    y = output(nn.PReLU(), rows, (4, 4, 3), slope=slope)
    assert y.shape == rows.shape
    np.testing.assert_array_equal(y.reshape(x.shape), np.where(x > 0, x, slope * x))


@pytest.mark.parametrize("shape", [(5, 7), (5, 4, 4, 3)])
def test_shared_prelu_has_one_slope(shape):
    x = rng_of("shared prelu", shape).standard_normal(shape)
    y = output(nn.PReLU(shared=True), x, shape[1:], slope=np.array([0.1]))
    np.testing.assert_array_equal(y, np.where(x > 0, x, 0.1 * x))


def test_prelu_starts_where_it_is_told():
    model = nn.Sequential(nn.Linear(4), nn.PReLU(init=0.5), nn.PReLU(shared=True)).build((3,))
    slopes = [a.tolist() for k, a in model.arrays().items() if k.endswith("slope")]
    assert slopes == [[0.5] * 4, [0.25]]
    assert [p.decay for k, p in model.declared.items() if k.endswith("slope")] == [False, False]


def test_slopes_are_learned():
    rng = rng_of("slopes")
    X = rng.standard_normal((200, 1)).astype(np.float32)
    model = nn.Sequential(nn.PReLU(init=0.0))
    trainer = fnn.Trainer(model, loss="mean_squared_error", optimizer=fnn.optim.SGD(0.1))
    trainer.fit(X, np.where(X > 0, X, 0.7 * X), epochs=30, batch_size=20, verbose=0)
    assert model.arrays()["prelu_1.slope"] == pytest.approx(0.7, abs=1e-3)


def test_maxout_is_the_largest_of_its_pieces():
    rng = rng_of("maxout layer")
    x, w, b = rng.standard_normal((6, 4)), rng.standard_normal((4, 15)), rng.standard_normal(15)
    y = output(nn.Maxout(5, pieces=3), x, (4,), w=w, b=b)
    np.testing.assert_allclose(y, (x @ w + b).reshape(6, 5, 3).max(axis=2), rtol=1e-12)
    np.testing.assert_allclose(output(nn.Maxout(5, pieces=1), x, (4,), w=w[:, :5], b=b[:5]), x @ w[:, :5] + b[:5])


def test_maxout_learns_the_absolute_value():
    X = np.linspace(-1, 1, 256, dtype=np.float32)[:, None]
    model = nn.Sequential(nn.Maxout(1, init="xavier_normal"))
    trainer = fnn.Trainer(model, loss="mean_squared_error", optimizer=fnn.optim.SGD(0.1, momentum=0.9), seed=1)
    trainer.fit(X, np.abs(X), epochs=60, batch_size=32, verbose=0)
    np.testing.assert_allclose(model(X), np.abs(X), atol=2e-2)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.GELU("tan"), ValueError, "GELU: .*'tan'.*'tanh'"),
        (lambda: nn.PReLU(init=np.inf), ValueError, "PReLU: 'init' is inf"),
        (lambda: nn.PReLU(init="he"), TypeError, "PReLU: 'init' is 'he'"),
        (lambda: nn.Maxout(3, 2), TypeError, r"write Maxout\(out_features\), not Maxout\(3, 2\)"),
        (lambda: nn.Maxout(3, pieces=0), ValueError, "Maxout: 'pieces' is 0, expected 1 or more"),
        (lambda: nn.Maxout(3, pieces=2.0), TypeError, "Maxout: 'pieces' is 2.0, expected a whole number"),
        (lambda: nn.Maxout(3, init="he_norml"), ValueError, "he_normal"),
        (lambda: nn.Maxout(3).output_shape((4, 4, 1)), ValueError, r"put nn.Flatten\(\) before it"),
        (lambda: nn.Maxout(3, in_features=5).output_shape((4,)), ValueError, "has 4 features, in_features is 5"),
    ],
)
def test_bad_settings_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("last", [nn.Softmax(), nn.LogSoftmax()], ids=["softmax", "log_softmax"])
def test_a_softmax_before_the_loss_that_has_one_is_refused(last):
    X, y = np.zeros((8, 3), np.float32), np.arange(8) % 2
    trainer = fnn.Trainer(nn.Sequential(nn.Linear(2), last))
    with pytest.raises(ValueError, match=re.escape(f"the model ends in '{last.kind}_1'") + ".*leave that layer out"):
        trainer.fit(X, y, epochs=1, verbose=0)
    inside = fnn.Trainer(nn.Sequential(nn.Linear(4), last, nn.Linear(2)))
    inside.fit(X, y, epochs=1, verbose=0)


def test_softmax_gives_the_probabilities_of_the_scores():
    x = rng_of("softmax").standard_normal((9, 4)).astype(np.float32)
    model = nn.Sequential(nn.Softmax()).build((4,))
    y = model(x)
    np.testing.assert_allclose(y.sum(axis=1), 1, rtol=1e-6)
    assert_same_bits(y, fnn.functional.softmax(x))
