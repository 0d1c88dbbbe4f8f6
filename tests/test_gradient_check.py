"""The gradient check accepts right gradients, finds wrong ones, and tells kinks from errors."""

from __future__ import annotations

import numpy as np
import pytest

import pyfastnn as fnn
from pyfastnn import nn
from pyfastnn.diagnose import GradientCheck, gradient_check
from pyfastnn.graph import gradients
from pyfastnn.testing import rng_of

LAYERS = {
    "linear": [],
    "relu": [nn.Linear(6), nn.ReLU()],
    "leaky_relu": [nn.Linear(6), nn.LeakyReLU(0.2)],
    "batch_norm": [nn.Linear(6), nn.BatchNorm(), nn.Tanh()],
    "dropout": [nn.Linear(6), nn.Dropout(0.4), nn.Sigmoid()],
    "deep": [nn.Linear(8), nn.ELU(), nn.Linear(8, bias=False), nn.BatchNorm(), nn.ReLU(), nn.Dropout(0.2)],
}


def data(rows: int = 12, features: int = 5):
    rng = rng_of("gradient check", rows, features)
    return rng.standard_normal((rows, features)).astype("f4"), rng.integers(0, 3, rows)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS)
def test_models_pass(layers, dtype):
    X, y = data()
    model = nn.Sequential(*layers, nn.Linear(3), dtype=dtype)
    found = gradient_check(model, X, y, samples=None)
    assert found.passed, str(found)
    assert not model.built  # a copy was
    total = sum(p.size for p in model.build((5,)).parameters.values())
    assert sum(p.checked for p in found.parameters) == total
    assert [p.name for p in found.parameters] == list(model.parameters)
    assert found.worst.error <= found.tolerance


def test_regression_labels_and_preprocessing():
    X, _ = data()
    model = nn.Sequential(nn.Linear(4), nn.Tanh(), nn.Linear(2), preprocess=fnn.data.Standardize())
    assert gradient_check(model, X, X[:, :2], loss="mean_squared_error")
    assert not hasattr(model.preprocess, "shift_")
    labels = np.array(["a", "b", "c"])[data()[1]]
    images = X.reshape(12, 1, 5)
    assert gradient_check(nn.Sequential(nn.Flatten(), nn.Linear(3)), images, labels)


def test_a_trained_model_is_not_changed():
    X, y = data(40)
    model = nn.Sequential(nn.Linear(6), nn.BatchNorm(), nn.ReLU(), nn.Linear(3))
    fnn.Trainer(model).fit(X, y, epochs=2, verbose=0)
    before, version = model.state_dict(), model.version
    assert gradient_check(model, X[:8], y[:8])
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    assert model.version == version


def test_samples_and_seed():
    X, y = data()
    model = nn.Sequential(nn.Linear(30), nn.Tanh(), nn.Linear(3)).build((5,))
    found = gradient_check(model, X, y, samples=7)
    assert [p.checked for p in found.parameters] == [7, 7, 7, 3]
    assert gradient_check(model, X, y, samples=7) == found
    assert gradient_check(model, X, y, samples=7, seed=1) != found


@pytest.mark.parametrize("op", ["tanh_forward", "linear_forward", "batch_norm_forward", "softmax_cross_entropy"])
def test_a_wrong_rule_is_found(op, monkeypatch):
    """A rule that doubles its gradients fails the check in the arrays after it, and only there."""
    right = gradients.RULES[op]

    def doubled(node, dy, emit, needs):
        found = right(node, dy, emit, needs)
        return {
            k: emit("add", (g, g))[0] if k.startswith(("linear_1", "x")) or "." in k else g for k, g in found.items()
        }

    monkeypatch.setitem(gradients.RULES, op, doubled)
    X, y = data()
    found = gradient_check(nn.Sequential(nn.Linear(6), nn.BatchNorm(), nn.Tanh(), nn.Linear(3)), X, y)
    assert not found
    assert "FAILED" in str(found)
    assert found.worst.error == pytest.approx(0.5, abs=0.26)  # 2a against a, 4a against a


def test_a_forgotten_parameter_is_found(monkeypatch):
    """Autodiff that returns nothing for a bias counts as a gradient of 0."""
    right = gradients.RULES["linear_forward"]
    monkeypatch.setitem(
        gradients.RULES,
        "linear_forward",
        lambda node, dy, emit, needs: right(node, dy, emit, lambda v: needs(v) and v != "linear_1.b"),
    )
    X, y = data()
    found = gradient_check(nn.Sequential(nn.Linear(6), nn.Tanh(), nn.Linear(3)), X, y)
    assert [p.name for p in found.parameters if not p.passed] == ["linear_1.b"]
    assert found.worst.error == 1.0
    assert found.worst.analytic == 0.0


def test_gradients_written_by_the_user():
    """A layer and a loss in NumPy: right ones pass, wrong ones are found in the arrays after them."""
    X, _ = data()

    def check(factor: float, slope: float):
        sine = nn.Lambda(np.sin, lambda dy, y, x: factor * dy * np.cos(x))
        loss = nn.CustomLoss(lambda s, t: (np.mean((s - t) ** 4), slope * (s - t) ** 3 / s.size))
        return gradient_check(nn.Sequential(nn.Linear(4), sine, nn.Linear(2)), X, X[:, :2], loss=loss)

    assert check(1.0, 4.0)
    found = check(1.1, 4.0)
    assert [p.name for p in found.parameters if not p.passed] == ["linear_1.w", "linear_1.b"]
    assert found.worst.error == pytest.approx(0.1 / 1.1, rel=1e-4)
    assert [p.passed for p in check(1.0, 2.0).parameters] == [False] * 4


class Join(nn.Layer):
    """Adds two values."""

    kind = "join"

    def parameters(self, *shapes):
        return []

    def output_shape(self, *shapes):
        return shapes[0]

    def forward(self, builder, name, *xs):
        return builder.emit("add", xs, name=name)[0]


def test_graphs_with_several_inputs_and_shared_weights():
    X, y = data()
    a, b = nn.Input((5,), name="a"), nn.Input((5,), name="b")
    shared = nn.Linear(6)
    h = nn.Tanh()(Join()(shared(a), nn.Tanh()(shared(b))))
    model = nn.Model([a, b], nn.Linear(3)(h))
    found = gradient_check(model, {"a": X, "b": X[::-1]}, y, samples=None)
    assert found.passed, str(found)
    assert [p.name for p in found.parameters] == ["linear_1.w", "linear_1.b", "linear_2.w", "linear_2.b"]


def test_frozen_layers_are_left_out():
    X, y = data()
    model = nn.Sequential(nn.Linear(6), nn.BatchNorm(), nn.Tanh(), nn.Linear(3)).build((5,))
    model.freeze("linear_1", "batch_norm_1")
    found = gradient_check(model, X, y)
    assert found.passed, str(found)
    assert [p.name for p in found.parameters] == ["linear_2.w", "linear_2.b"]


def test_kinks_are_reported():
    """Rows of zeros leave the first units at the kink of ReLU: their biases have two slopes, and 0 lies between."""
    _, y = data()
    model = nn.Sequential(nn.Linear(6), nn.ReLU(), nn.Linear(3)).build((5,))
    found = gradient_check(model, np.zeros((12, 5), "f4"), y, samples=None)
    assert found.passed, str(found)
    by_name = {p.name: p for p in found.parameters}
    assert by_name["linear_1.b"].kinks == 6
    assert by_name["linear_1.w"].kinks == 0
    assert "6 at kinks" in found.verdict


@pytest.mark.parametrize("x", [0.0, 1e-9, 3e-8, 4e-7, 3e-6, 9e-6, -3e-6])
def test_kinks_of_a_function(x):
    """Wherever the kink lies within the step, the right slope passes, and one that is outside both does not."""

    def absolute(v, factor=1.0):
        return float(np.abs(v).sum() + (v**2).sum()), factor * np.sign(v) + 2 * v

    found = gradient_check(absolute, np.array([x]))
    assert found.passed, str(found)
    assert found.parameters[0].kinks == 1
    assert not gradient_check(lambda v: absolute(v, 1.5), np.array([x or 1e-12]))


def test_curvature_is_no_kink():
    """Right gradients pass however strong the curvature, without being called kinks; wrong ones fail there too."""

    def steep(v):
        return float(np.cos(3000 * v[0])), np.array([-3000 * np.sin(3000 * v[0])])

    for x in (1e-4, 0.3, 0.7):
        found = gradient_check(steep, np.array([x]))
        assert found.passed, str(found)
        assert found.parameters[0].kinks == 0
        assert not gradient_check(lambda v: (steep(v)[0], 1.01 * steep(v)[1]), np.array([x]))


def test_gradients_too_small_to_judge():
    """A gradient below what rounding of a value of 1e6 leaves is counted, not judged; one well above is judged."""

    def small(v, slope, said):
        return 1e6 + slope * float(v[0]), np.array([said])

    found = gradient_check(lambda v: small(v, 0.0, 1e-7), np.array([0.5]))
    assert found.passed
    assert found.parameters[0].unresolved == 1
    assert "1 too small to judge" in found.verdict
    assert not gradient_check(lambda v: small(v, 1.0, 0.99), np.array([0.5]))


def test_functions_of_mappings_and_numbers():
    def f(p):
        return p["a"] @ p["b"], {"a": p["b"], "b": p["a"]}

    found = gradient_check(f, {"a": np.arange(3.0), "b": np.array([2.0, -1.0, 0.5])})
    assert found.passed
    assert [p.name for p in found.parameters] == ["a", "b"]
    assert gradient_check(lambda x: (np.sin(x), np.cos(x)), 0.7)
    assert not gradient_check(lambda x: (np.sin(x), -np.cos(x)), 0.7)
    assert gradient_check(lambda x: (0.0, x), np.zeros(0))


def test_the_function_cannot_change_the_point():
    def f(x):
        value = float((x**2).sum())
        gradient = 2 * x
        x[...] = 99
        return value, gradient

    x = np.array([1.0, 2.0])
    assert gradient_check(f, x)
    assert x.tolist() == [1.0, 2.0]


def test_nan_gradients_fail():
    found = gradient_check(lambda x: (float(x[0]), np.array([np.nan])), np.array([1.0]))
    assert not found
    assert found.worst.error == np.inf


def test_the_report():
    found = gradient_check(lambda x: (float((x**2).sum()), 2 * x), np.ones((2, 3)))
    assert isinstance(found, GradientCheck)
    assert found.loss == 6.0
    lines = str(found).splitlines()
    assert len(lines) == 3
    assert lines[0].split() == ["parameter", "shape", "checked", "error", "kinks", "too", "small"]
    assert lines[1].startswith("x          (2, 3)        6")
    assert lines[2].startswith("passed: 6 elements, largest relative error")


ERRORS = [
    (lambda: gradient_check(3, 1.0), TypeError, "3 is neither a model nor a function"),
    (lambda: gradient_check(nn.Sequential(nn.Linear(3)), data()[0]), ValueError, "'X' was given without 'y'"),
    (lambda: gradient_check(lambda x: (1.0, x), 1.0, 2.0), TypeError, "'y' was given with a function"),
    (lambda: gradient_check(lambda x: 1.0, 1.0), TypeError, "expected .value, gradient."),
    (lambda: gradient_check(lambda x: (x, x), np.ones(2)), ValueError, r"the value has shape \(2,\)"),
    (
        lambda: gradient_check(lambda x: (1.0, 1.0), np.ones(2)),
        ValueError,
        r"gradient of 'x' has shape \(\), expected \(2,\)",
    ),
    (lambda: gradient_check(lambda x: (1.0, x["a"]), {"a": 1.0}), TypeError, "expected a mapping with a"),
    (lambda: gradient_check(lambda x: (np.inf, x), 1.0), ValueError, "the value is inf"),
    (lambda: gradient_check(lambda x: (1.0, x), 1.0, eps=0), ValueError, "'eps' is 0"),
    (lambda: gradient_check(lambda x: (1.0, x), 1.0, tolerance=-1), ValueError, "'tolerance' is -1"),
    (lambda: gradient_check(lambda x: (1.0, x), 1.0, samples=0), ValueError, "'samples' is 0"),
    (
        lambda: gradient_check(lambda x: (1.0, x), 1.0, epsilon=1),
        TypeError,
        "unknown keyword 'epsilon', did you mean 'eps'",
    ),
    (lambda: gradient_check(nn.Sequential(nn.Linear(2)), *data()), ValueError, "3 different labels"),
]


@pytest.mark.parametrize("case", range(len(ERRORS)))
def test_errors(case):
    call, exception, message = ERRORS[case]
    with pytest.raises(exception, match=message):
        call()
