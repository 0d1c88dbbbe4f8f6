"""Initializers: their moments, fans, orthogonality, settings in files, and LSUV."""

from __future__ import annotations

import math

import numpy as np
import pytest

import pyfastnn as fnn
from pyfastnn import nn
from pyfastnn.nn import initializers
from pyfastnn.nn.initializers import (
    BY_NAME,
    Constant,
    HeNormal,
    HeUniform,
    LeCunNormal,
    LeCunUniform,
    Normal,
    Ones,
    Orthogonal,
    Uniform,
    XavierNormal,
    XavierUniform,
    Zeros,
    fans,
    lsuv,
)
from pyfastnn.testing import assert_same_bits, rng_of

ALL = [
    Zeros(),
    Ones(),
    Constant(-0.5),
    Normal(0.01),
    Uniform(-0.25, 0.75),
    XavierNormal(),
    XavierUniform(gain=5 / 3),
    HeNormal(),
    HeNormal(mode="fan_out", negative_slope=0.2),
    HeUniform(negative_slope=1.0),
    LeCunNormal(),
    LeCunUniform(),
    Orthogonal(),
    Orthogonal(gain=math.sqrt(2)),
]
SHAPE = (3, 3, 64, 96)
IN, OUT = 9 * 64, 9 * 96
# The standard deviation that the papers give for this shape, and the limit where there is one.
VARIANCES = [
    (Normal(0.01), 1e-4, None),
    (Uniform(-0.25, 0.25), 0.25**2 / 3, 0.25),
    (XavierNormal(), 2 / (IN + OUT), None),
    (XavierUniform(), 2 / (IN + OUT), math.sqrt(6 / (IN + OUT))),
    (XavierNormal(gain=3.0), 18 / (IN + OUT), None),
    (HeNormal(), 2 / IN, None),
    (HeNormal(mode="fan_out"), 2 / OUT, None),
    (HeUniform(), 2 / IN, math.sqrt(6 / IN)),
    (HeUniform(mode="fan_out"), 2 / OUT, math.sqrt(6 / OUT)),
    (HeNormal(negative_slope=1.0), 1 / IN, None),
    (LeCunNormal(), 1 / IN, None),
    (LeCunUniform(), 1 / IN, math.sqrt(3 / IN)),
]


@pytest.mark.parametrize(
    ("shape", "want"),
    [((), (1, 1)), ((7,), (1, 7)), ((5, 3), (5, 3)), ((3, 2, 4, 8), (24, 48)), ((0, 3), (1, 3)), ((3, 0), (3, 1))],
    ids=str,
)
def test_fans(shape, want):
    assert fans(shape) == want


@pytest.mark.parametrize("case", VARIANCES, ids=lambda c: repr(c[0]))
def test_moments(case):
    """Mean and variance of N draws lie within five standard errors of theirs; that of a variance is at most var * sqrt(2 / N)."""
    init, variance, limit = case
    drawn = init(rng_of("moments", repr(init)), SHAPE)
    assert drawn.shape == SHAPE
    assert drawn.dtype == np.float64
    count = drawn.size
    assert abs(drawn.mean()) <= 5 * math.sqrt(variance / count)
    assert abs(np.mean(drawn**2) - variance) <= 5 * variance * math.sqrt(2 / count)
    if limit is not None:
        assert np.abs(drawn).max() <= limit
        assert np.abs(drawn).max() >= limit * (1 - 40 / count)  # all within fails once in e**40 draws
    else:
        assert np.abs(drawn).max() > 3.5 * math.sqrt(variance)  # not truncated


def test_constants():
    rng = rng_of("constants")
    for init, value in ((Zeros(), 0.0), (Ones(), 1.0), (Constant(0.25), 0.25)):
        assert (init(rng, (3, 4)) == value).all()


@pytest.mark.parametrize(
    "shape", [(5, 5), (40, 7), (7, 40), (3, 3, 4, 16), (1, 1, 3, 20), (1, 1), (4, 1), (200, 200)], ids=str
)
def test_orthogonal(shape):
    """Rows or columns are at right angles up to rounding of so many terms, and of length ``gain``."""
    gain = 1.5
    w = Orthogonal(gain)(rng_of("orthogonal", shape), shape)
    assert w.shape == shape
    m = w.reshape(-1, shape[-1])
    gram = m.T @ m if m.shape[0] >= m.shape[1] else m @ m.T
    np.testing.assert_allclose(gram, gain**2 * np.eye(len(gram)), atol=8 * max(m.shape) * 2.0**-53 * gain**2)


def test_orthogonal_is_uniform():
    """The first entry of a random rotation of the plane is the cosine of a uniform angle: mean 0, mean square 1/2."""
    rng = rng_of("haar")
    first = np.array([Orthogonal()(rng, (2, 2))[0, 0] for _ in range(4000)])
    assert abs(first.mean()) < 5 * math.sqrt(0.5 / 4000)
    assert abs(np.mean(first**2) - 0.5) < 5 * math.sqrt(0.125 / 4000)


@pytest.mark.parametrize("init", ALL, ids=repr)
def test_configs(init, tmp_path):
    """An initializer survives JSON, a model file, and the call its repr shows."""
    import json

    config = json.loads(json.dumps(initializers.to_config(init)))
    back = initializers.from_config(config)
    assert back == init
    assert hash(back) == hash(init)
    assert eval(repr(init), vars(initializers)) == init
    model = nn.Sequential(nn.Linear(4, init=init)).build((3,), seed=5)
    model.save(tmp_path / "m.safetensors")
    loaded = fnn.load(tmp_path / "m.safetensors")
    assert loaded.layers["linear_1"].init == init
    again = loaded.build((3,), seed=5)
    assert_same_bits(again.parameters["linear_1.w"], model.parameters["linear_1.w"])


def test_equality():
    assert Normal(0.1) != Normal(0.2)
    assert HeNormal() != LeCunNormal()
    assert HeNormal() != "he_normal"


def test_names_draw_like_objects():
    for name, init in BY_NAME.items():
        assert init.kind == name
        by_name = initializers.draw(name, rng_of(name), (6, 5))
        assert_same_bits(by_name, initializers.draw(type(init)(), rng_of(name), (6, 5)))
        nn.Linear(3, init=name)


def test_first_weights_have_not_changed():
    """He's formula written out, on the model's own stream: seed 0, array 0."""
    model = nn.Sequential(nn.Linear(4)).build((6,))
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([0, 0])))
    want = rng.standard_normal((6, 4)) * math.sqrt(2 / 6)
    assert_same_bits(model.parameters["linear_1.w"], want.astype("f4"))


def test_old_files_have_one_number():
    assert initializers.from_config({"normal": 0.5}) == Normal(0.5)


@pytest.mark.parametrize(
    ("call", "exception", "message"),
    [
        (lambda: Normal(-1), ValueError, "Normal: 'std' is -1, expected 0 or more"),
        (lambda: Normal(math.nan), ValueError, "'std' is nan"),
        (lambda: Normal("1"), TypeError, "'std' is '1', expected a number"),
        (lambda: Normal(sdt=1), TypeError, "did you mean 'std'"),
        (lambda: Uniform(1, 0), ValueError, "'high' is 0, expected 1 or more"),
        (lambda: Constant(math.inf), ValueError, "'value' is inf, expected a finite number"),
        (lambda: HeNormal(mode="fan_im"), ValueError, "unknown mode 'fan_im', did you mean 'fan_in'"),
        (lambda: XavierNormal(gain=True), TypeError, "'gain' is True"),
        (lambda: Orthogonal()(rng_of("o"), (5,)), ValueError, r"the shape is \(5,\), expected a matrix"),
        (
            lambda: nn.Linear(3, init="normal"),
            ValueError,
            r"'normal', which needs settings: write nn.initializers.Normal",
        ),
        (lambda: nn.Linear(3, init="he_norml"), ValueError, "unknown initializer 'he_norml', did you mean 'he_normal'"),
        (lambda: nn.Linear(3, init=0.1), TypeError, "init is 0.1, expected a name or an initializer"),
        (lambda: initializers.from_config({"normal": {"std": 1}, "ones": {}}), ValueError, "expected one name"),
        (lambda: initializers.from_config({"hormal": 1}), ValueError, "unknown initializer 'hormal'"),
        (lambda: initializers.nothing, AttributeError, "unknown name in pyfastnn.nn.initializers 'nothing'"),
    ],
)
def test_errors(call, exception, message):
    with pytest.raises(exception, match=message):
        call()


# LSUV


def deep(**settings) -> nn.Sequential:
    layers = [layer for _ in range(5) for layer in (nn.Linear(48, init=Normal(0.01)), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(4), **settings)


def variances(model, X) -> dict[str, float]:
    """Return the variance of the outputs of each linear layer, computed in float64 with plain NumPy."""
    h, found = X.astype("f8"), {}
    for name, layer in model.layers.items():
        if isinstance(layer, nn.Linear):
            h = h @ model.parameters[f"{name}.w"].astype("f8") + model.parameters[f"{name}.b"].astype("f8")
            found[f"{name}.w"] = float(h.var())
        else:
            h = np.maximum(h, 0)
    return found


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("orthogonal", [True, False])
def test_lsuv_gives_every_layer_variance_one(dtype, orthogonal):
    X = 7 * rng_of("lsuv").standard_normal((150, 20)) + 1
    model = deep(dtype=dtype)
    found = lsuv(model, X, tol=0.01, orthogonal=orthogonal, seed=3)
    want = variances(model, X)
    assert list(found) == list(want)
    assert len(found) == 6
    for name, value in want.items():
        assert abs(value - 1) < 0.011
        assert found[name] == pytest.approx(value, rel=1e-3)
    w = model.parameters["linear_2.w"].astype("f8")
    gram = w.T @ w
    assert np.allclose(gram, np.diag(np.diag(gram)), atol=1e-4 * gram.max()) == orthogonal


def test_lsuv_without_it_the_signal_dies():
    X = rng_of("lsuv").standard_normal((150, 20))
    assert variances(deep().build((20,)), X)["linear_5.w"] < 1e-8


def test_lsuv_with_biases_takes_several_rounds():
    """A bias does not scale with the weight: one division is not enough, and the rounds are limited."""
    X = rng_of("lsuv bias").standard_normal((100, 8))

    def model():
        made = nn.Sequential(nn.Linear(16)).build((8,))
        made.parameters["linear_1.b"][...] = np.linspace(-1, 1, 16)
        return made

    many, one = model(), model()
    assert abs(lsuv(many, X, tol=1e-3, max_iterations=40)["linear_1.w"] - 1) < 1e-3
    assert abs(lsuv(one, X, tol=1e-3, max_iterations=1)["linear_1.w"] - 1) > 1e-3


def test_lsuv_sees_preprocessing_and_keeps_the_rest():
    X = 100 * rng_of("lsuv pre").random((80, 6))
    preprocess = fnn.data.Standardize()
    preprocess.fit(X)
    model = nn.Sequential(nn.Linear(9), nn.BatchNorm(), nn.Tanh(), nn.Dropout(0.5), nn.Linear(3), preprocess=preprocess)
    model.build((6,))
    before = model.state_dict()
    found = lsuv(model, X)
    assert set(found) == {"linear_1.w", "linear_2.w"}
    for name, array in model.state_dict().items():
        assert np.array_equal(array, before[name]) == (name not in found)
    assert abs(float(model(X).var()) - 1) < 0.1
    again = nn.Sequential(
        *[nn.Linear(9), nn.BatchNorm(), nn.Tanh(), nn.Dropout(0.5), nn.Linear(3)], preprocess=preprocess
    )
    lsuv(again, X)
    assert_same_bits(again.parameters["linear_1.w"], model.parameters["linear_1.w"])


def test_lsuv_of_a_graph_with_a_shared_weight():
    """The weight is scaled where it is used first; NumPy layers run too."""
    X = 3 * rng_of("lsuv graph").standard_normal((90, 6))
    x = nn.Input((6,))
    shared = nn.Linear(6)
    h = shared(nn.Lambda(np.tanh)(shared(x)))
    model = nn.Model(x, nn.Linear(2)(h))
    found = lsuv(model, X, tol=0.01)
    assert set(found) == {"linear_1.w", "linear_2.w"}
    w = model.parameters["linear_1.w"].astype("f8")
    assert abs(float((X @ w).var()) - 1) < 0.011
    assert abs(float(model(X).var()) - 1) < 0.011


def test_a_model_trains_from_lsuv():
    X, y = fnn.data.load_digits()
    model = nn.Sequential(
        *[layer for _ in range(6) for layer in (nn.Linear(32, init=Normal(0.001)), nn.ReLU())], nn.Linear(10)
    )
    lsuv(model, X[:256] / 16.0)
    trainer = fnn.Trainer(model, optimizer=fnn.optim.Adam(1e-3))
    trainer.fit((X / 16.0).astype("f4"), y, epochs=3, verbose=0)
    assert trainer.history["accuracy"][-1] > 0.8


@pytest.mark.parametrize(
    ("call", "exception", "message"),
    [
        (lambda m, X: lsuv(m, X, tol=0), ValueError, "'tol' is 0, expected more"),
        (lambda m, X: lsuv(m, X, max_iterations=0), ValueError, "'max_iterations' is 0"),
        (lambda m, X: lsuv(m, X[:0]), ValueError, "'X' has no rows"),
        (lambda m, X: lsuv(m, 0 * X), ValueError, "outputs of 'linear_1' have variance 0"),
        (lambda m, X: lsuv(m, X * np.nan), ValueError, "outputs of 'linear_1' have variance nan"),
        (lambda m, X: lsuv(m.build((5,)), X), ValueError, "which is 20 values a row, expected 5"),
        (lambda m, X: lsuv(deep(preprocess=fnn.data.Standardize()), X), RuntimeError, "is not fitted yet"),
    ],
)
def test_lsuv_errors(call, exception, message):
    with pytest.raises(exception, match=message):
        call(deep(), rng_of("lsuv").standard_normal((50, 20)))
