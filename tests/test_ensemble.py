"""Ensembles vote and average as written out by hand; averaged weights; what does not fit is refused."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import pyfastnn as fnn
from pyfastnn import nn, optim
from pyfastnn.testing import assert_same_bits, rng_of


def blobs(rows: int = 90):
    rng = rng_of("ensemble", rows)
    codes = rng.integers(0, 3, rows)
    X = (rng.standard_normal((rows, 4)) + 1.2 * np.eye(4)[codes]).astype("f4")
    return X, np.array(["cat", "dog", "owl"])[codes]


def classifier(seed: int, hidden: int = 6, y=None, dtype: str = "float32") -> nn.Model:
    X, labels = blobs()
    model = nn.Sequential(nn.Linear(hidden), nn.BatchNorm(), nn.Tanh(), nn.Linear(3), dtype=dtype)
    trainer = fnn.Trainer(model, optimizer=optim.Adam(0.02), seed=seed)
    trainer.fit(X, labels if y is None else y, epochs=2, verbose=0)
    return model


def regressor(seed: int, outputs: int = 1) -> nn.Model:
    X, _ = blobs()
    model = nn.Sequential(nn.Linear(5), nn.ReLU(), nn.Linear(outputs))
    fnn.Trainer(model, "mean_squared_error", seed=seed).fit(X, X[:, :outputs], epochs=2, verbose=0)
    return model


@pytest.fixture(scope="module")
def three() -> list[nn.Model]:
    return [classifier(0), classifier(1, hidden=9), classifier(2, dtype="float64")]


@pytest.mark.parametrize("weights", [None, [3, 1, 0.5]], ids=["equal", "weighted"])
def test_soft_voting(three, weights):
    X, y = blobs()
    ensemble = fnn.Ensemble(three, weights=weights)
    share = np.array(weights or [1, 1, 1]) / np.sum(weights or [1, 1, 1])
    want = sum(w * m.predict_proba(X).astype("f8") for w, m in zip(share, three, strict=True))
    proba = ensemble.predict_proba(X)
    np.testing.assert_allclose(proba, want, rtol=1e-14)
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-6)
    assert ensemble.predict(X).tolist() == three[0].classes_[want.argmax(axis=1)].tolist()
    assert ensemble.classes_.tolist() == ["cat", "dog", "owl"]
    assert np.mean(ensemble.predict(X) == y) > 0.5


@pytest.mark.parametrize("weights", [None, [1, 1, 1.5], [0.2, 0.2, 1]], ids=["equal", "tie breaker", "one decides"])
def test_hard_voting(three, weights):
    X, _ = blobs()
    votes = [m.predict(X) for m in three]
    got = fnn.Ensemble(three, weights=weights, voting="hard").predict(X)
    assert len({tuple(v) for v in zip(*votes, strict=True)}) > 3  # they do disagree
    for row, voted in enumerate(zip(*votes, strict=True)):
        counts = dict.fromkeys(("cat", "dog", "owl"), 0.0)
        for label, weight in zip(voted, weights or [1, 1, 1], strict=True):
            counts[str(label)] += weight
        assert got[row] == max(counts, key=counts.get), voted  # the first of equals


def test_whole_number_labels_with_gaps():
    X, y = blobs()
    numbers = np.searchsorted(["cat", "dog", "owl"], y) * 10 + 7
    for voting in ("soft", "hard"):
        ensemble = fnn.Ensemble([classifier(0, y=numbers), classifier(1, y=numbers)], voting=voting)
        assert set(ensemble.predict(X).tolist()) <= {7, 17, 27}


@pytest.mark.parametrize("outputs", [1, 2])
def test_regression(outputs):
    X, _ = blobs()
    models = [regressor(0, outputs), regressor(1, outputs)]
    got = fnn.Ensemble(models, weights=[1, 3]).predict(X)
    want = 0.25 * models[0].predict(X).astype("f8") + 0.75 * models[1].predict(X).astype("f8")
    np.testing.assert_allclose(got, want, rtol=1e-14)
    assert got.shape == ((90,) if outputs == 1 else (90, 2))
    with pytest.raises(RuntimeError, match="predicts values, not classes"):
        fnn.Ensemble(models).predict_proba(X)


@pytest.mark.parametrize("voting", ["soft", "hard"])
def test_independent_labels(voting):
    """Multi-label models: the mean of the sigmoids, or of the answers, against one half."""
    X, _ = blobs()
    models = [regressor(k, 2) for k in range(3)]
    for model in models:
        model.task = "multilabel"
    got = fnn.Ensemble(models, voting=voting).predict(X)
    scores = [m(X).astype("f8") for m in models]
    parts = [1 / (1 + np.exp(-s)) if voting == "soft" else s > 0 for s in scores]
    mean = sum(parts) / 3
    assert got.dtype == bool
    sure = abs(mean - 0.5) > 1e-6
    assert sure.mean() > 0.95
    np.testing.assert_array_equal(got[sure], mean[sure] > 0.5)


def test_files_and_models_mix(three, tmp_path):
    X, _ = blobs()
    three[1].save(tmp_path / "b.safetensors")
    ensemble = fnn.Ensemble([three[0], tmp_path / "b.safetensors", three[2]])
    np.testing.assert_array_equal(ensemble.predict_proba(X), fnn.Ensemble(three).predict_proba(X))
    assert len(ensemble) == 3
    assert repr(ensemble) == "<Ensemble of 3 models for classification, voting='soft'>"


def test_a_model_of_weight_zero_does_not_count(three):
    X, _ = blobs()
    broken = copy.deepcopy(three[0])
    broken.parameters["linear_1.w"][...] = np.nan
    got = fnn.Ensemble([broken, three[1]], weights=[0, 2]).predict_proba(X)
    np.testing.assert_array_equal(got, three[1].predict_proba(X))


def test_average_weights_of_snapshots(tmp_path):
    """Means in float64, running statistics too; files, checkpoints and models mix; the averaged model predicts with them."""
    X, y = blobs()
    trainer = fnn.Trainer(nn.Sequential(nn.Linear(6), nn.BatchNorm(), nn.Tanh(), nn.Linear(3)), seed=4)
    snapshots = []
    for k in range(3):
        trainer.fit(X, y, epochs=1, verbose=0)
        snapshots.append(copy.deepcopy(trainer.model))
        trainer.checkpoint(tmp_path / f"{k}.ckpt")
    snapshots[1].save(tmp_path / "1.safetensors")
    model = fnn.average_weights([snapshots[0], tmp_path / "1.safetensors", str(tmp_path / "2.ckpt")])
    for name, array in model.arrays().items():
        states = [s.arrays()[name].astype("f8") for s in snapshots]
        assert_same_bits(array, ((states[0] / 3 + states[1] / 3) + states[2] / 3).astype("f4"), name)
    assert "batch_norm_1.running_mean" in model.arrays()
    assert not np.array_equal(
        model.arrays()["batch_norm_1.running_var"], snapshots[0].arrays()["batch_norm_1.running_var"]
    )
    assert model.predict(X).tolist() != []
    assert model.classes_.tolist() == ["cat", "dog", "owl"]
    assert model.arrays()["linear_1.w"].ctypes.data != snapshots[0].arrays()["linear_1.w"].ctypes.data
    weighted = fnn.average_weights(snapshots, weights=[0, 0, 5])
    for name, array in weighted.arrays().items():
        assert_same_bits(array, snapshots[2].arrays()[name], name)


def test_an_average_can_be_trained_on():
    X, y = blobs()
    model = fnn.average_weights([classifier(0), classifier(1)])
    before = model.state_dict()
    fnn.Trainer(model).fit(X, y, epochs=1, verbose=0)
    assert not np.array_equal(model.state_dict()["linear_1.w"], before["linear_1.w"])


def other_classes():
    _, y = blobs()
    return classifier(0, y=np.char.upper(y))


def two_outputs() -> nn.Model:
    x = nn.Input((4,))
    return nn.Model(x, {"a": nn.Linear(2)(x), "b": nn.Linear(3)(x)})


def fitted_on(shift: float) -> nn.Model:
    X, y = blobs()
    model = nn.Sequential(nn.Linear(3), preprocess=fnn.data.Standardize())
    fnn.Trainer(model).fit(X + np.float32(shift), y, epochs=1, verbose=0)
    return model


ERRORS = [
    (lambda: fnn.Ensemble([]), ValueError, "Ensemble: 'models' is empty"),
    (lambda: fnn.Ensemble(classifier(0)), TypeError, "expected a list of models or files"),
    (lambda: fnn.Ensemble([two_outputs()]), ValueError, r"models\[0\] has the outputs a, b, expected one"),
    (lambda: fnn.Ensemble([classifier(0), 3]), TypeError, r"models\[1\] is 3, expected a model or a file"),
    (lambda: fnn.Ensemble([nn.Sequential(nn.Linear(3))]), RuntimeError, "call model.build"),
    (lambda: fnn.Ensemble([nn.Sequential(nn.Linear(3)).build((4,))]), ValueError, r"models\[0\] is not trained yet"),
    (
        lambda: fnn.Ensemble([classifier(0), regressor(0)]),
        ValueError,
        r"models\[0\] is for classification, models\[1\] for",
    ),
    (
        lambda: fnn.Ensemble([classifier(0), other_classes()]),
        ValueError,
        r"classes \['cat', 'dog', 'owl'\], models\[1\] has \['CAT'",
    ),
    (
        lambda: fnn.Ensemble([regressor(0), regressor(0, 2)]),
        ValueError,
        r"models\[0\] gives rows of shape \(1,\), models\[1\] of \(2,\)",
    ),
    (lambda: fnn.Ensemble([classifier(0)], voting="sofd"), ValueError, "unknown voting 'sofd', did you mean 'soft'"),
    (lambda: fnn.Ensemble([classifier(0)], voteing="soft"), TypeError, "did you mean 'voting'"),
    (lambda: fnn.Ensemble([classifier(0)], weights=[1, 2]), ValueError, r"'weights' has shape \(2,\), expected \(1,\)"),
    (lambda: fnn.Ensemble([classifier(0)], weights=[0]), ValueError, "not all 0"),
    (lambda: fnn.Ensemble([classifier(0)], weights=[np.nan]), ValueError, "expected numbers of 0 or more"),
    (lambda: fnn.Ensemble([classifier(0)], voting="hard").predict_proba(blobs()[0]), RuntimeError, "hard voting"),
    (
        lambda: fnn.average_weights([classifier(0), classifier(0, hidden=7)]),
        ValueError,
        r"models\[1\] has other arrays",
    ),
    (lambda: fnn.average_weights([classifier(0), classifier(0, dtype="float64")]), ValueError, "other dtype"),
    (lambda: fnn.average_weights([classifier(0), other_classes()]), ValueError, "has the classes"),
    (lambda: fnn.average_weights([classifier(0), regressor(0)]), ValueError, "other layers"),
    (lambda: fnn.average_weights([fitted_on(0), fitted_on(1)]), ValueError, "fitted on other rows"),
    (lambda: fnn.average_weights([classifier(0)], weights=[-1]), ValueError, "average_weights: 'weights'"),
    (lambda: fnn.average_weights([nn.Sequential(nn.Linear(3))]), RuntimeError, "call model.build"),
    (lambda: fnn.average_weights("a.safetensors"), TypeError, "expected a list"),
]


@pytest.mark.parametrize("case", range(len(ERRORS)))
def test_errors(case):
    call, exception, message = ERRORS[case]
    with pytest.raises(exception, match=message):
        call()


def test_settings_that_change_the_function_count():
    def model(slope: float) -> nn.Model:
        return nn.Sequential(nn.Linear(3), nn.LeakyReLU(slope)).build((4,))

    fnn.average_weights([model(0.1), model(0.1)])
    with pytest.raises(ValueError, match="other settings"):
        fnn.average_weights([model(0.1), model(0.2)])
