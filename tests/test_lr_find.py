"""The range test: what it suggests trains well, explosions end it, and the trainer stays as it was to the bit."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest

import pyfastnn as fnn
from pyfastnn import _core, nn, optim
from pyfastnn.diagnose import lr_find


def digits_trainer(optimizer: str | optim.Optimizer = "adam") -> fnn.Trainer:
    layers = nn.Linear(32), nn.BatchNorm(), nn.ReLU(), nn.Dropout(0.1), nn.Linear(10)
    return fnn.Trainer(nn.Sequential(*layers, preprocess=fnn.data.Standardize()), optimizer=optimizer)


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "momentum"])
def test_the_suggestion_trains(optimizer):
    X, y = fnn.data.load_digits()
    trainer = digits_trainer(optimizer)
    found = lr_find(trainer, X, y)
    assert found.rates[0] == 1e-7
    assert np.allclose(np.diff(np.log(found.rates)), np.log(1e8) / 199)
    assert len(found.rates) == len(found.losses) == len(found.smoothed)
    assert found.suggestion < found.best
    trainer.optimizer.learning_rate = found.suggestion
    assert trainer.fit(X, y, epochs=5, verbose=0)["accuracy"][-1] > 0.9
    assert f"learning_rate={found.suggestion:.1e}" in str(found)


def test_the_losses_are_those_of_steps():
    """The same rows, one step after the other with the rate set by hand, give the same losses bit for bit."""
    X, y = fnn.data.load_digits()
    found = lr_find(digits_trainer(), X, y, steps=20, high=1e-2, batch_size=64)
    again = digits_trainer()
    again.model.preprocess.fit(X)
    index = np.arange(len(X))
    _core.permutation(index, 0, 0)
    for k, rate in enumerate(found.rates):
        again.optimizer.learning_rate = float(rate)
        rows = index[k * 64 : (k + 1) * 64]
        assert again.step(X[rows], y[rows]) == found.losses[k]


def test_nothing_changes():
    """Model, optimizer, history, random stream: a fit after the test gives the bits of one without it, before training and within."""
    X, y = fnn.data.load_digits()
    tested, other = digits_trainer(), digits_trainer()
    state = np.random.get_state()[1].copy()  # noqa: NPY002 - what must not move
    for _ in range(2):
        kept = copy.deepcopy(tested.model.state_dict()) if tested.model.built else None
        lr_find(tested, X, y, steps=60)
        assert tested.model.built == (kept is not None)
        for name, array in (kept or {}).items():
            np.testing.assert_array_equal(tested.model.state_dict()[name], array)
        assert (tested.step_count, tested.epoch) == (other.step_count, other.epoch)
        for trainer in (tested, other):
            trainer.fit(X, y, epochs=2, verbose=0)
        assert tested.history["loss"] == other.history["loss"]
        for name, array in tested.model.state_dict().items():
            np.testing.assert_array_equal(array, other.model.state_dict()[name])
        for name, array in tested.slots.items():
            np.testing.assert_array_equal(array, other.slots[name])
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002 - what must not move


def test_the_first_block_of_a_stream_is_trained_on():
    X, y = fnn.data.load_digits()
    stream = fnn.data.Stream(X, y, block_rows=500, chunk_rows=50)
    trainer = digits_trainer()
    found = lr_find(trainer, stream)
    assert 1e-4 < found.suggestion < 1
    assert not trainer.model.built
    rows, labels = next(iter(stream.blocks()))
    same = digits_trainer()
    same.model.preprocess.fit(X)
    alone = lr_find(same, rows.copy(), labels.copy())
    np.testing.assert_allclose(found.losses, alone.losses, rtol=1e-4)
    with pytest.raises(ValueError, match="lr_find: 'y' was given, but 'X' is a Stream"):
        lr_find(trainer, stream, y)


def test_it_stops():
    X, y = fnn.data.load_digits()
    found = lr_find(digits_trainer("sgd"), X, y, high=1e6)
    assert found.stop_reason in ("limit", "nonfinite")
    assert found.rates[-1] < 1e6
    steep = fnn.Trainer(nn.Sequential(nn.Linear(1)), "mean_squared_error", "sgd")
    found = lr_find(steep, X.astype("f4"), y.astype("f4"), high=1e30, stop_factor=1e300)
    assert found.stop_reason == "nonfinite"
    assert np.isfinite(found.losses[:-1]).all()
    assert lr_find(digits_trainer(), X, y, high=1e-3).stop_reason == "finished"


def test_nothing_to_suggest():
    """Rates far too small move nothing; a loss that only grows has no descent."""
    X, y = fnn.data.load_digits()
    found = lr_find(digits_trainer("sgd"), X, y, low=1e-12, high=1e-10, batch_size=len(X))
    assert math.isnan(found.suggestion)
    assert "no rate to suggest" in str(found)


def test_rows_that_are_not_finite_are_named():
    X, y = fnn.data.load_digits()
    X = X.astype("f4")
    X[7, 3] = np.nan
    trainer = fnn.Trainer(nn.Sequential(nn.Linear(10)))
    with pytest.raises(ValueError, match="'X' holds 1 NaN or infinite values, 1 of them in column 3"):
        lr_find(trainer, X[:20], y[:20])


def test_it_shows_as_its_line():
    X, y = fnn.data.load_digits()
    found = lr_find(digits_trainer(), X, y)
    assert repr(found) == str(found) and "array" not in repr(found)


def test_small_data_rate_factors_and_schedules():
    """Fewer rows than a batch, layers with factors of their own, and a schedule that has no say."""
    X, y = fnn.data.load_digits()
    rule = optim.SGD(learning_rate=optim.Cosine(0.1, epochs=3), rate_factors={"linear_1": 0.0})
    trainer = digits_trainer(rule)
    found = lr_find(trainer, X[:20], y[:20], steps=50)
    assert len(found.losses) >= 10
    assert isinstance(trainer.optimizer.learning_rate, optim.Cosine)


def test_bad_input():
    X, y = fnn.data.load_digits()
    trainer = digits_trainer()
    for error, match, settings in (
        (ValueError, "'high' is 1e-08", {"high": 1e-8}),
        (ValueError, "'low' is 0", {"low": 0}),
        (ValueError, "'steps' is 5", {"steps": 5}),
        (ValueError, "'smoothing' is 1", {"smoothing": 1}),
        (ValueError, "'stop_factor' is 1", {"stop_factor": 1}),
        (TypeError, "batch_size", {"batch_size": "x"}),
        (TypeError, "steps", {"step": 50}),
    ):
        with pytest.raises(error, match=match):
            lr_find(trainer, X, y, **settings)
    with pytest.raises(TypeError, match="no Trainer"):
        lr_find(trainer.model, X, y)
    with pytest.raises(ValueError, match="'y'"):
        lr_find(trainer, X, y[:5])


def test_plot(tmp_path):
    pytest.importorskip("matplotlib")
    X, y = fnn.data.load_digits()
    path = tmp_path / "rates.png"
    figure = lr_find(digits_trainer(), X, y, steps=60).plot(path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert figure.axes[0].get_xscale() == "log"
