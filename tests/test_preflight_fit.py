"""The cheap half of the preflight, which a fit begins with: planted bad cases that it finds, clean ones without a word, no bit changed."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest

import pyfastnn as fnn
from pyfastnn import nn, optim, search
from pyfastnn.diagnose import PreflightWarning, fit_checks
from pyfastnn.testing import rng_of
from pyfastnn.train import preflight


@pytest.fixture(autouse=True)
def all_the_time(monkeypatch):
    """Let no check be left out because the machine is busy."""
    monkeypatch.setattr(preflight, "SECONDS", math.inf)


def data(rows: int = 600, features: int = 12, classes: int = 3):
    rng = rng_of("preflight of a fit", rows, features)
    return rng.standard_normal((rows, features)).astype("f4"), rng.integers(0, classes, rows)


def net(*layers: nn.Layer, outputs: int = 3, **settings) -> nn.Sequential:
    return nn.Sequential(*(layers or (nn.Linear(16), nn.ReLU())), nn.Linear(outputs), **settings)


def said(model, X, y=None, *, trainer=None, fit=None, **settings) -> list[str]:
    """Return what the preflight says in a fit of one epoch."""
    trainer = trainer or fnn.Trainer(model, **settings)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(X, y, verbose=0, **{"epochs": 1, **(fit or {})})
    return [str(w.message) for w in caught if w.category is PreflightWarning]


def only(found: list[str], *words: str) -> None:
    """There is one finding, with these words in it."""
    assert len(found) == 1, found
    for word in words:
        assert word in found[0]


# Clean cases


def pixels(rows: int = 300):
    """Return images like photographs: pixels from 0 to 255 whose neighbours are alike."""
    rng = rng_of("pixels")
    colours = rng.uniform(0, 255, (rows, 1, 3)) + 40 * rng.standard_normal((rows, 64, 3))
    return np.clip(colours, 0, 255).astype(np.uint8).reshape(rows, -1), rng.integers(0, 10, rows)


def lecture():
    X, y = pixels()
    small = nn.initializers.Normal(1e-4)
    X = X.astype("f4") - X.astype("f4").mean(axis=0)
    return net(nn.Linear(50, init=small), nn.ReLU(), nn.Linear(10, init=small), outputs=10), X, y, {}


def he_pixels():
    return net(nn.Linear(50), nn.ReLU(), outputs=10)


def digits(raw: bool):
    X, y = fnn.data.load_digits()
    return net(outputs=10, preprocess=None if raw else fnn.data.Standardize()), X, y, {}


def unbalanced():
    X, y = data()
    return net(outputs=2), X, (np.arange(600) % 100 < 76).astype(int), {}


def residual():
    x = nn.Input((12,))
    h = nn.ReLU()(nn.Linear(16)(x))
    branch = nn.Linear(16, init="zeros")(nn.ReLU()(nn.Linear(16)(h)))
    return nn.Model(x, nn.Linear(3)(nn.ReLU()(nn.Add()(h, branch)))), *data(), {}


def images():
    rng = rng_of("images")
    layers = (nn.Conv2d(8, 3, padding="same"), nn.BatchNorm(), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    return net(*layers), rng.uniform(0, 1, (200, 8, 8, 3)).astype("f4"), rng.integers(0, 3, 200), {}


def regression(targets):
    X, _ = data()
    return net(outputs=1), X, targets(X), {"loss": "mean_squared_error"}


def several():
    X, y = data()
    numbers, words = nn.Input((12,), name="numbers"), nn.Input((), name="words", dtype="int64")
    h = nn.ReLU()(nn.Linear(16)(nn.Concat()(numbers, nn.Embedding(50, 4)(words))))
    model = nn.Model([numbers, words], {"kind": nn.Linear(3)(h), "size": nn.Linear(1)(h)})
    rows = {"numbers": X, "words": np.arange(600) % 50}
    losses = {"kind": "softmax_cross_entropy", "size": "huber"}
    return model, rows, {"kind": y, "size": X[:, :1]}, {"loss": losses}


def one_hot():
    """Wide rows with a single 1: a sample of their features may hold zeros alone."""
    X = np.zeros((400, 3000), "f4")
    X[np.arange(400), rng_of("one hot").integers(0, 3000, 400)] = 1
    return net(), X, np.arange(400) % 3, {}


CLEAN = {
    "plain": lambda: (net(), *data(), {}),
    "digits": lambda: digits(raw=False),
    "raw digits": lambda: digits(raw=True),
    "pixels less the mean image": lecture,
    "pixels less the mean image, He's weights": lambda: (he_pixels(), *lecture()[1:]),
    "24 % against 76 %": unbalanced,
    "zeros at the end of a branch": residual,
    "zero head": lambda: (nn.Sequential(nn.Linear(3, init="zeros")), *data(), {}),
    "images": images,
    "regression": lambda: regression(lambda X: X[:, :1] - X[:, 1:2]),
    "regression on a scale": lambda: regression(lambda X: 20 + 5 * X[:, :1]),
    "counts": lambda: (net(outputs=1), data()[0], np.floor(np.exp(2 + data()[0][:, :1])), {"loss": "poisson"}),
    "hinge": lambda: (net(), *data(), {"loss": "multiclass_hinge"}),
    "several questions": lambda: (net(), data()[0], data()[0][:, :3] > 0, {"loss": "binary_cross_entropy"}),
    "several inputs and outputs": several,
    "one hot": one_hot,
    "tanh": lambda: (net(nn.Linear(16, init="xavier_normal"), nn.Tanh()), *data(), {}),
    "norm first": lambda: (net(nn.BatchNorm(), nn.Linear(16), nn.ReLU()), 1000 + data()[0], data()[1], {}),
    "few rows": lambda: (net(), np.ones((5, 12), "f4"), np.zeros(5, int), {}),
    "float64": lambda: (net(dtype="float64"), data()[0].astype("f8"), data()[1], {}),
    "labels in order": lambda: (net(), data()[0], np.sort(data()[1]), {}),
    "labels in turn": lambda: (net(), np.tile(data()[0], (20, 1)), np.arange(12000) % 3, {}),
}


@pytest.mark.parametrize("name", CLEAN)
def test_nothing_is_said_when_all_is_well(name):
    model, X, y, settings = CLEAN[name]()
    assert said(model, X, y, fit={"epochs": 4}, **settings) == []


def test_sparse_rows_and_rows_by_number():
    sparse = pytest.importorskip("scipy.sparse")
    X, y = data()
    assert said(net(), sparse.csr_matrix(np.where(X > 1, X, 0)), y) == []
    y[300:] = 0
    assert said(net(), X, y, fit={"rows": np.arange(300)}) == []


# Planted bad cases


def test_inputs_that_are_all_the_same():
    X, y = data()
    only(said(net(), np.full_like(X, 0.25), y), "inputs are the same in all of 128 rows", "nothing can be learned")


@pytest.mark.parametrize("rows", [300, 5000])
def test_pixels_that_are_not_centred(rows):
    X, y = pixels(rows)
    small = nn.initializers.Normal(1e-4)
    found = said(net(nn.Linear(20, init=small), nn.ReLU(), outputs=10), X, y, fit={"max_steps": 5})
    only(found, "the inputs are far from 0 (mean 1", "Standardize()")


def test_pixels_that_are_mostly_black():
    """As in handwritten digits the mean is less than a deviation from 0, but nothing is below it."""
    rng = rng_of("black")
    X = np.where(rng.uniform(size=(300, 784)) < 0.15, rng.integers(1, 256, (300, 784)), 0).astype(np.uint8)
    only(said(net(), X, np.arange(300) % 3, fit={"max_steps": 5}), "far from 0", "Standardize()")
    assert said(net(preprocess=fnn.data.Rescale()), X, np.arange(300) % 3) == []


def test_inputs_far_from_zero_beside_their_deviations():
    X, y = data()
    only(said(net(nn.Linear(16, init="lecun_normal"), nn.Tanh()), X / 100 + 1, y), "far from 0 (mean 1,")


def test_an_input_by_name_and_what_preprocessing_makes_of_it():
    X, y = data()
    a, b = nn.Input((12,), name="a"), nn.Input((12,), name="b")
    model = nn.Model([a, b], nn.Linear(3, init="zeros")(nn.Concat()(nn.Linear(8)(a), nn.Linear(8)(b))))
    only(said(model, {"a": X, "b": X + 30}, y), "the inputs 'b' are far from 0")
    model = net(preprocess=fnn.data.Standardize())
    assert said(model, X + 30, y) == []
    assert len(said(net(preprocess=fnn.data.Rescale(29, 31)), X + 30, y)) == 0
    only(said(net(preprocess=fnn.data.Rescale(100, 120)), X, y), "far from 0 (mean -5")


def test_features_of_different_scales():
    X, y = data()
    X[:, 3] *= 1e5
    found = said(net(nn.Linear(16, init=nn.initializers.Normal(1e-6)), nn.ReLU()), X, y)
    only(found, "differ in scale", "per='feature'")


@pytest.mark.parametrize("label", [2, "cat"])
def test_labels_that_are_all_the_same(label):
    X, _ = data()
    outputs = 3 if label == 2 else 1
    only(
        said(net(outputs=outputs), X, np.array([label] * 600)),
        f"the labels are {label!r} in all of 600 rows",
        "nothing to learn",
    )


def test_a_label_that_nearly_all_rows_have():
    X, _ = data()
    y = np.where(np.arange(600) % 60 == 7, 1, 0)
    only(said(net(outputs=2), X, y), "98.3% of the labels are 0", "accuracy of 0.983", "class_weight='balanced'")
    weighted = nn.SoftmaxCrossEntropy(class_weight="balanced")
    assert said(net(outputs=2), X, y, loss=weighted) == []
    assert said(net(outputs=2), X, y, fit={"sample_weight": np.where(y == 1, 59.0, 1.0)}) == []
    assert said(net(outputs=2), X[:400], y[:400]) == [], "too few rows to tell"


def test_ignored_labels_and_rows_of_no_weight_take_no_part():
    X, y = data()
    y[100:] = -1
    assert said(net(), X, y, loss=nn.SoftmaxCrossEntropy(ignore_index=-1)) == []
    y[y > 0] = 0
    found = said(net(), X, y, loss=nn.SoftmaxCrossEntropy(ignore_index=-1))
    only(found, "the labels are 0 in all of 100 rows")


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        (lambda x: 0 * x + 3, ("targets are the same in all of 600 rows: there is nothing to learn",)),
        (lambda x: 1998 + 5 * x, ("the targets have mean 2e+03 and", "undo it after predict")),
        (lambda x: 1e6 * x, ("the targets have mean", "standard deviation")),
    ],
)
@pytest.mark.parametrize("loss", ["mean_squared_error", "mean_absolute_error", "huber"])
def test_targets_that_are_hard_to_learn(targets, words, loss):
    X, _ = data()
    only(said(net(outputs=1), X, targets(X[:, :1].astype("f8")), loss=loss), *words)


@pytest.mark.parametrize("value", ["zeros", "ones", nn.initializers.Constant(0.01)])
def test_first_weights_that_are_all_the_same(value):
    X, y = data()
    model = net(nn.Linear(16, init=value), nn.ReLU(), nn.Linear(8, init=value), nn.ReLU())
    model.build((12,))
    model.arrays()["linear_3.w"][...] = 0.1
    only(said(model, X, y), "the units of linear_1, linear_2 begin equal")


def test_first_weights_of_a_network_with_convolutions():
    rng = rng_of("equal filters")
    X, y = rng.standard_normal((60, 6, 6, 2)).astype("f4"), np.arange(60) % 3
    layers = (nn.Conv2d(4, 3, init="ones"), nn.BatchNorm(), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten())
    only(said(nn.Sequential(*layers, nn.Linear(3, init="zeros")), X, y), "the units of conv2d_1 begin equal")
    assert said(nn.Sequential(*layers, nn.Linear(3)), X, y) == [], "what reads the filters tells them apart"
    assert said(nn.Sequential(*layers, nn.Dropout(0.5), nn.Linear(3, init="zeros")), X, y) == [], "so does dropout"


@pytest.mark.parametrize(
    ("loss", "targets", "chance"),
    [
        ("softmax_cross_entropy", lambda x, y: y, math.log(3)),
        (nn.MulticlassHinge(2.0), lambda x, y: y, 4.0),
        ("binary_cross_entropy", lambda x, y: (x[:, :3] > 0).astype("f4"), math.log(2)),
        (nn.BinaryCrossEntropy(pos_weight=3.0), lambda x, y: np.ones((600, 3)) * [1, 0, 1] + 0 * x[:, :3], None),
        ("mean_squared_error", lambda x, y: x[:, :3], None),
        ("mean_absolute_error", lambda x, y: x[:, :3], None),
        (nn.Huber(0.5), lambda x, y: x[:, :3], None),
        ("poisson", lambda x, y: np.abs(x[:, :3]), None),
    ],
)
def test_a_first_loss_far_above_chance(loss, targets, chance):
    X, y = data()
    y = targets(X, y)
    large = nn.initializers.Normal(300.0 if loss != "poisson" else 3.0)
    trainer = fnn.Trainer(net(nn.Linear(16), nn.ReLU(), nn.Linear(3, init=large)), loss, optim.SGD(1e-9), guard=None)
    found = [text for text in said(None, X, y, trainer=trainer) if "same" not in text]
    only(found, f"the loss of the first step was {trainer.first_loss:.4g}", "the first scores are too large")
    if chance is None and loss != "poisson":
        # The same batches, scores of 0.
        zero = fnn.Trainer(net(nn.Linear(16), nn.ReLU(), nn.Linear(3, init="zeros")), loss, guard=None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PreflightWarning)
            zero.fit(X, y, epochs=1, verbose=0)
        chance = zero.first_loss
    if chance is not None:
        assert f"that of scores of 0 is {chance:.4g}" in found[0]


def test_the_first_loss_of_several_outputs():
    model, X, y, settings = several()
    model.build({"numbers": (12,), "words": ()})
    model.arrays()["linear_2.w"][...] *= 1e4
    trainer = fnn.Trainer(model, optimizer=optim.SGD(1e-9), loss_weights={"size": 0.5}, **settings)
    only(said(None, X, y, trainer=trainer), "the loss of the first step was")


def test_a_trained_network_may_begin_where_it_likes():
    X, y = data()
    model = net()
    assert said(model, X, y) == []
    model.arrays()["linear_2.w"][...] *= 1e4
    assert said(model, X, y, optimizer=optim.SGD(1e-9)) == []


def test_units_that_are_dead_at_the_first_watched_step():
    X, y = data()
    model = net(nn.Linear(64), nn.ReLU())
    model.build((12,))
    model.arrays()["linear_1.b"][...] = -100
    found = said(model, X, y, fit={"epochs": 4})
    only(found, "100% of the units of relu_1 answer 0", "at step 50", "nn.LeakyReLU")
    again = net(nn.Linear(64), nn.ReLU())
    again.build((12,))
    again.arrays()["linear_1.b"][...] = -100
    assert said(again, X, y, fit={"epochs": 4}, monitor=None) == [], "nothing watches"


def test_units_that_are_saturated_at_the_first_watched_step():
    X, y = data()
    wide = nn.initializers.Normal(100.0)
    found = said(net(nn.Linear(16, init=wide), nn.Tanh()), X, y, fit={"epochs": 4})
    only(found, "of the answers of tanh_1 lie at the ends", "at step 50", "xavier_normal")


@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1e30, 1e200])
def test_numbers_that_overflow_are_no_trouble(scale):
    X, y = data()
    said(net(dtype="float64"), X.astype("f8") * scale, y, guard=None)
    said(net(outputs=1, dtype="float64"), X.astype("f8"), X[:, :1].astype("f8") * scale, loss="huber", guard=None)


# How it is said


def bad():
    X, y = data()
    return X + 1000, y


def small() -> nn.Sequential:
    """Return a network whose first loss is not worth a word even so."""
    return net(nn.Linear(16, init=nn.initializers.Normal(1e-4)), nn.Tanh())


def test_it_is_said_once_per_trainer_and_where_fit_was_called():
    X, y = bad()
    trainer = fnn.Trainer(small())
    with pytest.warns(PreflightWarning) as caught:
        trainer.fit(X, y, epochs=1, verbose=0)
    assert [w.filename for w in caught] == [__file__]
    trainer.fit(X, y, epochs=1, verbose=0)
    trainer.reset()
    trainer.fit(X, y, epochs=1, verbose=0)


def test_it_can_be_turned_off():
    X, y = bad()
    fnn.Trainer(small(), preflight=False).fit(X, y, epochs=1, verbose=0)
    trainer = fnn.Trainer(small())
    trainer.preflight = False
    trainer.fit(X, y, epochs=1, verbose=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", PreflightWarning)
        fnn.Trainer(small()).fit(X, y, epochs=1, verbose=0)
    with pytest.raises(TypeError, match="Trainer: 'preflight' is 'off', expected True or False"):
        fnn.Trainer(small(), preflight="off")


def test_a_resumed_run_says_nothing(tmp_path):
    X, y = bad()
    trainer = fnn.Trainer(small(), preflight=False)
    trainer.fit(X, y, epochs=1, verbose=0)
    trainer.checkpoint(tmp_path / "run")
    resumed = fnn.Trainer.resume(tmp_path / "run")
    assert resumed.preflight is False
    resumed.preflight = True
    resumed.fit(X, y, epochs=1, verbose=0)


def test_nothing_is_looked_at_when_there_is_no_time(monkeypatch):
    monkeypatch.setattr(preflight, "SECONDS", 0.0)
    fnn.Trainer(small()).fit(*bad(), epochs=1, verbose=0)


def test_many_trainers_say_it_once():
    X, y = bad()
    trainers = [fnn.Trainer(small(), seed=seed) for seed in range(3)]
    with pytest.warns(PreflightWarning) as caught:
        fnn.train_many(trainers, X, y, epochs=1, threads=2)
    assert len(caught) == 1
    assert caught[0].filename.endswith("many.py"), "not the module that starts threads"
    assert all(trainer.preflight for trainer in trainers)


def test_a_search_says_nothing():
    """What a trial begins with is what is searched; many trials would say the same of the data."""
    X, y = bad()
    space = {"rate": search.log_uniform(1e-4, 1e-2)}

    def build(rate):
        return fnn.Trainer(small(), optimizer=optim.Adam(rate))

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = search.coarse_to_fine(build, space, X, y, X_val=X, y_val=y, stages=((4, 1), (3, 1)), verbose=0)
    assert [w for w in caught if w.category is PreflightWarning] == []
    assert not any(trial.error for trial in found.trials)


def test_the_first_block_of_a_stream_is_looked_at():
    X, y = data(1200)
    stream = fnn.data.Stream(X + 1000, y, block_rows=200, chunk_rows=10)
    only(said(small(), stream), "far from 0")
    in_order = fnn.data.Stream(X, np.sort(y), block_rows=200, chunk_rows=10, shuffle=False)
    assert said(small(), in_order) == [], "a block need not have all labels"


# What it leaves alone


@pytest.mark.parametrize("kind", ["arrays", "stream"])
def test_no_bit_and_no_random_stream_changes(kind):
    X, y = data()
    found = []
    for on in (True, False):
        model = net(nn.Linear(16), nn.BatchNorm(), nn.ReLU(), nn.Dropout(0.2), preprocess=fnn.data.Standardize())
        trainer = fnn.Trainer(model, optimizer=optim.Adam(weight_decay=0.01), seed=3, preflight=on)
        given = (X, y) if kind == "arrays" else (fnn.data.Stream(X, y, block_rows=200, chunk_rows=10),)
        np.random.seed(5)  # noqa: NPY002 - it is the global stream that must not move
        before = np.random.get_state()[1].copy()  # noqa: NPY002
        trainer.fit(*given, epochs=3, verbose=0)
        assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
        arrays = {**model.arrays(), **trainer.slots}
        rows = [{k: v for k, v in row.items() if "second" not in k} for row in trainer.history.rows]
        found.append(({k: v.tobytes() for k, v in arrays.items()}, rows, list(trainer.history.statistics)))
    assert found[0] == found[1]


@pytest.mark.parametrize(("count", "most"), [(1, 5), (7, 7), (1000, 128), (129, 128), (12000, 4096)])
def test_rows_are_picked_all_over_the_data(count, most):
    rows = fit_checks.spread(count, most)
    assert len(rows) == min(count, most)
    assert rows.min() >= 0
    assert rows.max() < count
    if count >= 8 * most:
        assert len(set(rows)) == most
        assert np.diff(np.sort(rows)).max() <= 3 * count / most
        for period in (2, 3, 10):  # labels in turn all occur
            assert len(set(rows % period)) == period


@pytest.mark.parametrize("features", [1, 64, 784, 3072, 150528])
def test_a_sample_of_features_is_small_and_in_step_with_nothing(features):
    step = fit_checks._stride(features, 256)
    assert -(-features // step) <= 256
    assert step == 1 or all(step % k for k in (2, 3, 5, 7))
