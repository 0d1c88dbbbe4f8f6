"""Statistics of activations: against NumPy, the lectures' ten layers, and that nothing of the model changes."""

from __future__ import annotations

import math

import numpy as np
import pytest

import pyfastnn as fnn
from pyfastnn import nn
from pyfastnn.diagnose import activation_statistics
from pyfastnn.testing import rng_of


def data(rows: int = 120, features: int = 6):
    rng = rng_of("activation statistics", rows, features)
    return rng.standard_normal((rows, features)).astype("f4"), rng.integers(0, 3, rows)


def test_against_numpy():
    """Two layers computed by hand in float64: every figure, and the gradient from the softmax."""
    X, y = data()
    model = nn.Sequential(nn.Linear(8), nn.ReLU(), nn.Linear(5), nn.Tanh(), nn.Linear(3), dtype="float64").build((6,))
    found = activation_statistics(model, X, y)
    p = model.parameters
    h = np.maximum(X @ p["linear_1.w"] + p["linear_1.b"], 0)
    t = np.tanh(h @ p["linear_2.w"] + p["linear_2.b"])
    s = t @ p["linear_3.w"] + p["linear_3.b"]
    e = np.exp(s - s.max(axis=1, keepdims=True))
    ds = e / e.sum(axis=1, keepdims=True) - np.eye(3)[y]
    dt = ds @ p["linear_3.w"].T
    dh = (dt * (1 - t**2)) @ p["linear_2.w"].T
    assert [s.layer for s in found.layers] == ["relu_1", "tanh_1"]
    for each, values, gradient in ((found["relu_1"], h, dh), (found["tanh_1"], t, dt)):
        assert each.mean == pytest.approx(values.mean(), rel=1e-6)
        assert each.std == pytest.approx(values.std(), rel=1e-6)
        assert (each.min, each.max) == pytest.approx((values.min(), values.max()), rel=1e-6)
        assert each.gradient_mean == pytest.approx(gradient.mean(), rel=1e-5, abs=1e-9)
        assert each.gradient_std == pytest.approx(gradient.std(), rel=1e-6)
        assert sum(each.histogram) == values.size
        assert len(each.histogram) == 24
        assert len(each.edges) == 25
    assert found["tanh_1"].saturated == np.mean(np.abs(t) > 0.99)
    assert found["relu_1"].dead == np.mean((h == 0).all(axis=0))
    assert found["X"].mean == pytest.approx(float(X.mean(dtype=np.float64)), rel=1e-6)


# What the lectures print for the deviations of layers 1 and 10, of one draw each; None is "about 0".
TEN_LAYERS = {
    "0.01 tanh": (nn.initializers.Normal(0.01), nn.Tanh, 0.213081, None),
    "1.0 tanh": (nn.initializers.Normal(1.0), nn.Tanh, 0.981879, 0.981736),
    "xavier tanh": (nn.initializers.Normal(500**-0.5), nn.Tanh, 0.627953, 0.228008),
    "xavier relu": (nn.initializers.Normal(500**-0.5), nn.ReLU, 0.582273, 0.026076),
    "he relu": (nn.initializers.Normal(250**-0.5), nn.ReLU, 0.825232, 0.844523),
}


@pytest.mark.parametrize("name", TEN_LAYERS)
def test_ten_layers(name):
    """One draw of ten layers of 500 units beside the published one.

    The deviation of the first layer is over 500,000 values, whose 250,000 weights are known to a part of 1/sqrt(500000): 3 % is wide.
    That of the last one multiplies ten draws: He's varies by 0.12 in 0.81 from draw to draw, so two draws differ by under 0.6 of it.
    """
    init, activation, first, last = TEN_LAYERS[name]
    X = rng_of("ten layers").standard_normal((1000, 500)).astype("f4")
    layers = [layer for _ in range(10) for layer in (nn.Linear(500, init=init), activation())]
    found = activation_statistics(nn.Sequential(*layers), X)
    assert len(found.layers) == 10
    assert found.layers[0].std == pytest.approx(first, rel=0.03)
    if last is None:
        assert found.layers[9].std < 1e-5
    else:
        assert found.layers[9].std == pytest.approx(last, rel=0.6)
    lines = str(found).splitlines()
    assert lines[0].startswith("input layer had mean ")
    assert lines[1].startswith(f"hidden layer 1 had mean {found.layers[0].mean:f} and std {found.layers[0].std:f}")
    assert (found.layers[0].saturated > 0.9) == (name == "1.0 tanh")


def test_nothing_changes():
    """An unbuilt model stays unbuilt; running statistics, weights and the global random stream keep their bits."""
    X, y = data()
    fresh = nn.Sequential(nn.Linear(4), nn.BatchNorm(), nn.ReLU(), nn.Linear(3), preprocess=fnn.data.Standardize())
    state = np.random.get_state()[1].copy()  # noqa: NPY002 - what must not move
    activation_statistics(fresh, X)
    activation_statistics(fresh, X, y)
    assert not fresh.built
    assert not hasattr(fresh.preprocess, "shift_")
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002 - what must not move
    trainer = fnn.Trainer(fresh)
    trainer.fit(X, y, epochs=2, verbose=0)
    before, version = fresh.state_dict(), fresh.version
    for training in (True, False):
        activation_statistics(trainer, X, training=training)
        activation_statistics(fresh, X, y, training=training)
    for name, array in fresh.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    assert fresh.version == version


def test_training_form_and_prediction_differ():
    """Batch statistics make deviation 1 before the ReLU; running statistics that are not trained do not."""
    X, _ = data()
    model = nn.Sequential(nn.Linear(8), nn.BatchNorm(), nn.Tanh(), nn.Linear(3)).build((6,))
    model.arrays()["batch_norm_1.running_var"][...] = 1e6
    assert activation_statistics(model, X).layers[0].std > 0.3
    assert activation_statistics(model, X, training=False).layers[0].std < 0.02


def test_dead_units_images_and_shared_layers():
    X, y = data()
    model = nn.Sequential(nn.Linear(8), nn.ReLU(), nn.Linear(3)).build((6,))
    model.parameters["linear_1.b"][:4] = -1e3
    found = activation_statistics(model, X)
    assert found["relu_1"].dead == 0.5
    assert "50.0% of its units dead" in str(found)
    images = rng_of("images").standard_normal((20, 8, 8, 2)).astype("f4")
    conv = nn.Sequential(nn.Conv2d(4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(3)).build((8, 8, 2))
    conv.parameters["conv2d_1.b"][1] = -1e3
    assert activation_statistics(conv, images, y[:20]).layers[0].dead == 0.25
    a = nn.Input((6,))
    tanh = nn.Tanh()
    twice = nn.Model(a, nn.Linear(3)(tanh(nn.Linear(4)(tanh(nn.Linear(5)(a))))))
    assert [s.layer for s in activation_statistics(twice, X, y).layers] == ["tanh_1", "tanh_1 (call 2)"]
    assert math.isnan(activation_statistics(twice, X).layers[0].gradient_std)


def test_rows_and_sparse_inputs():
    """A thousand rows at most unless told; the same ones every time. Sparse rows give what dense ones do."""
    sparse = pytest.importorskip("scipy.sparse")
    X, y = data(1500)
    model = nn.Sequential(nn.Linear(8), nn.ReLU(), nn.Linear(3)).build((6,))
    found = activation_statistics(model, X)
    assert found.rows == 1000
    assert found == activation_statistics(model, X)
    assert activation_statistics(model, X, rows=None).rows == 1500
    for targets in (None, y):
        dense, csr = (activation_statistics(model, each, targets) for each in (X, sparse.csr_matrix(X)))
        assert dense.layers[0] == csr.layers[0]


def test_bad_input():
    X, y = data()
    model = nn.Sequential(nn.Linear(3)).build((6,))
    assert "no activation layers" in str(activation_statistics(model, X))
    with pytest.raises(TypeError, match="neither a model nor a trainer"):
        activation_statistics("model", X)
    with pytest.raises(ValueError, match="'rows' is 0"):
        activation_statistics(model, X, rows=0)
    with pytest.raises(ValueError, match="no rows"):
        activation_statistics(model, X[:0])
    with pytest.raises(ValueError, match="no activation layers"):
        activation_statistics(model, X).plot()
    with pytest.raises(KeyError, match="relu_1"):
        activation_statistics(nn.Sequential(nn.Linear(3), nn.ReLU()), X)["relu_2"]


def test_plot(tmp_path):
    pytest.importorskip("matplotlib")
    X, y = data()
    layers = [layer for _ in range(12) for layer in (nn.Linear(20), nn.Tanh())]
    found = activation_statistics(nn.Sequential(*layers, nn.Linear(3)), X, y)
    path = tmp_path / "a.png"
    figure = found.plot(path)
    assert path.read_bytes().startswith(b"\x89PNG")
    panels = figure.subfigs
    assert [len(p.axes) for p in panels] == [3, 20]
    assert sum(axes.get_visible() for axes in panels[1].axes) == 12
