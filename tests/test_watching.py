"""Watching changes no bit, and what it finds is what NumPy finds."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import pyfastnn as fnn
from pyfastnn import _core, nn, optim
from pyfastnn.diagnose import Monitor
from pyfastnn.testing import rng_of

LAYERS = {
    "dense": lambda: [nn.Linear(24), nn.ReLU(), nn.Linear(12), nn.Tanh(), nn.Linear(3)],
    "normalized": lambda: [nn.Linear(24), nn.BatchNorm(), nn.ReLU(), nn.Dropout(0.3), nn.Linear(3)],
    "convolutional": lambda: [nn.Conv2d(8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(3)],
}
OPTIMIZERS = {
    "sgd": lambda: optim.SGD(0.01),
    "adam": lambda: optim.Adam(weight_decay=0.01, clip_norm=1.0),
    "momentum": lambda: optim.SGD(0.01, momentum=0.9, max_norm=1.0, ema=0.9, clip_value=0.5, l1=1e-4),
}


def data(rows: int = 230):
    rng = rng_of("watching")
    return rng.standard_normal((rows, 72)).astype("f4"), rng.integers(0, 3, rows)


def trained(layers, optimizer, monitor, *, epochs: int = 3, **settings):
    trainer = fnn.Trainer(nn.Sequential(*layers()), optimizer=optimizer(), monitor=monitor, **settings)
    X, y = data()
    if layers is LAYERS["convolutional"]:
        X = X.reshape(-1, 6, 6, 2)
    trainer.fit(X, y, epochs=epochs, batch_size=32, verbose=0)
    return trainer


def same(a, b) -> None:
    """All arrays of two trainers are equal bit for bit."""
    for mine, other in ((a.model.arrays(), b.model.arrays()), (a.slots, b.slots)):
        assert mine.keys() == other.keys()
        for name, array in mine.items():
            assert array.tobytes() == other[name].tobytes(), name
    assert a.history["loss"] == b.history["loss"]


@pytest.mark.parametrize("every", [1, 3, 8])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("layers", LAYERS)
def test_watching_changes_no_bit(layers, optimizer, every):
    """Eight steps an epoch, the last one smaller: with 8 it is the one that is watched."""
    quiet = trained(LAYERS[layers], OPTIMIZERS[optimizer], None)
    watched = trained(LAYERS[layers], OPTIMIZERS[optimizer], Monitor(every=every))
    same(quiet, watched)
    assert [row["step"] for row in watched.history.statistics] == list(range(every, 25, every))


def test_threads_change_no_bit(monkeypatch):
    before = _core.parallel_cost()
    _core.set_parallel_cost(0.0)
    try:
        one, two = (trained(LAYERS["dense"], optim.Adam, Monitor(every=2), threads=n) for n in (1, 2))
    finally:
        _core.set_parallel_cost(before)
    same(one, two)
    assert list(one.history.statistics) == list(two.history.statistics)


def test_what_is_found_is_what_numpy_finds():
    X, y = data(40)
    model = nn.Sequential(nn.Linear(24), nn.ReLU(), nn.Linear(12), nn.Tanh(), nn.Linear(3))
    trainer = fnn.Trainer(model, optimizer=optim.SGD(0.1), monitor=Monitor(every=3))
    trainer.fit(X, y, epochs=2, batch_size=40, shuffle=False, verbose=0)
    before = {name: array.copy() for name, array in model.arrays().items()}
    gradients = trainer.gradients(X, y)
    trainer.fit(X, y, epochs=1, batch_size=40, shuffle=False, verbose=0)
    (row,) = trainer.history.statistics
    assert (row["step"], row["epoch"]) == (3, 3)
    assert row["loss"] == trainer.history["loss"][2]
    assert row["layers"].keys() == {"linear_1.w", "linear_2.w", "linear_3.w", "relu_1", "tanh_1"}
    for name in ("linear_1.w", "linear_2.w", "linear_3.w"):
        old, new = before[name].astype("f8"), model.arrays()[name].astype("f8")
        found = row["layers"][name]
        assert found["weight_norm"] == pytest.approx(np.linalg.norm(old), rel=1e-12)
        assert found["update_ratio"] == pytest.approx(np.linalg.norm(new - old) / np.linalg.norm(old), rel=1e-12)
        assert found["gradient_norm"] == pytest.approx(np.linalg.norm(gradients[name].astype("f8")), rel=1e-6)
    hidden = np.maximum(X.astype("f8") @ before["linear_1.w"] + before["linear_1.b"], 0)
    bounded = np.tanh(hidden @ before["linear_2.w"] + before["linear_2.b"])
    for name, answers in (("relu_1", hidden), ("tanh_1", bounded)):
        found = row["layers"][name]
        assert found["mean"] == pytest.approx(answers.mean(), abs=1e-5)
        assert found["std"] == pytest.approx(answers.std(), abs=1e-5)
        assert found["min"] == pytest.approx(answers.min(), abs=1e-5)
        assert found["max"] == pytest.approx(answers.max(), abs=1e-5)
        assert found["dead"] == (answers == 0).all(axis=0).mean()
        assert len(found["histogram"]) == 24
        assert sum(found["histogram"]) == answers.size
    assert row["layers"]["relu_1"]["saturated"] == 0
    assert row["layers"]["tanh_1"]["saturated"] == pytest.approx((np.abs(bounded) >= 0.99).mean(), abs=2 / bounded.size)


def test_statistics_read_like_a_list():
    trainer = trained(LAYERS["dense"], optim.Adam, Monitor(every=5), epochs=2)
    rows = trainer.history.statistics
    assert len(rows) == 3
    assert rows[-1] == rows[2] == list(rows)[2]
    assert rows[1:] == list(rows)[1:]
    assert [row["epoch"] for row in rows] == [1, 2, 2]
    with pytest.raises(IndexError, match="row 3 of 3"):
        rows[3]
    with pytest.raises(IndexError, match="row -4 of 3"):
        rows[-4]
    trainer.reset()
    assert not trainer.history.statistics


def test_a_resumed_run_goes_on_bit_for_bit(tmp_path):
    whole = trained(LAYERS["dense"], optim.Adam, Monitor(every=5, gap=0.3), epochs=6)
    part = trained(LAYERS["dense"], optim.Adam, Monitor(every=5, gap=0.3), epochs=2)
    part.checkpoint(tmp_path / "run")
    resumed = fnn.Trainer.resume(tmp_path / "run")
    assert resumed.monitor == part.monitor
    assert list(resumed.history.statistics) == list(part.history.statistics)
    X, y = data()
    resumed.fit(X, y, epochs=4, batch_size=32, verbose=0)
    same(whole, resumed)
    assert list(resumed.history.statistics) == list(whole.history.statistics)


def test_a_resumed_run_does_not_repeat_itself(tmp_path):
    X, y = data()
    trainer = fnn.Trainer(nn.Sequential(nn.Linear(3)), optimizer=optim.SGD(1e-9), monitor=Monitor(every=2))
    with pytest.warns(fnn.diagnose.TrainingWarning, match="barely moves") as caught:
        trainer.fit(X, y, epochs=4, verbose=0)
    assert {warning.filename for warning in caught} == {__file__}  # the line that the user wrote
    said = trainer.history.verdicts
    trainer.checkpoint(tmp_path / "run")
    resumed = fnn.Trainer.resume(tmp_path / "run")
    assert resumed.history.verdicts == said
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resumed.fit(X, y, epochs=4, verbose=0)
    assert resumed.history.verdicts == said


def test_a_monitor_may_be_set_anew():
    trainer = trained(LAYERS["dense"], optim.Adam, None, epochs=1)
    assert not trainer.history.statistics
    trainer.monitor = Monitor(every=1)
    X, y = data()
    trainer.fit(X, y, epochs=1, batch_size=32, verbose=0)
    assert [row["step"] for row in trainer.history.statistics] == list(range(9, 17))
    trainer.monitor = None
    trainer.fit(X, y, epochs=1, batch_size=32, verbose=0)
    assert len(trainer.history.statistics) == 8


def test_many_at_once_are_watched_like_one():
    X, y = data()
    trainers = [
        fnn.Trainer(nn.Sequential(nn.Linear(8), nn.ReLU(), nn.Linear(3)), monitor=Monitor(every=4)) for _ in "ab"
    ]
    fnn.train_many(trainers, X, y, epochs=2, batch_size=32)
    for trainer in trainers:
        assert [row["step"] for row in trainer.history.statistics] == [4, 8, 12, 16]


def test_the_blocks_of_a_stream_are_watched_as_one_epoch():
    X, y = data()
    found = []
    for monitor in (None, Monitor(every=3)):
        trainer = fnn.Trainer(nn.Sequential(nn.Linear(8), nn.ReLU(), nn.Linear(3)), monitor=monitor)
        stream = fnn.data.Stream(X, y, block_rows=100, chunk_rows=10, seed=7)
        trainer.fit(stream, epochs=2, batch_size=32, verbose=0)
        found.append(trainer)
    same(*found)
    assert [(row["step"], row["epoch"]) for row in found[1].history.statistics] == [
        (3, 1), (6, 1), (9, 1), (12, 2), (15, 2), (18, 2),
    ]  # fmt: skip


def test_what_a_stopped_epoch_found_is_forgotten():
    X, y = data()
    trainer = fnn.Trainer(
        nn.Sequential(nn.Linear(8), nn.ReLU(), nn.Linear(3)), optimizer=optim.SGD(1e30), monitor=Monitor(every=1)
    )
    with pytest.warns(RuntimeWarning, match="training stopped"):
        trainer.fit(X, y, epochs=2, verbose=0)
    assert not trainer.history.statistics
    assert [verdict.kind for verdict in trainer.history.verdicts] == ["exploding"]


def test_bad_requests_of_a_plan():
    trainer = trained(LAYERS["dense"], optim.Adam, Monitor(every=5), epochs=1)
    plan = trainer._compiled.train
    with pytest.raises(ValueError, match="'also' must be another list"):
        plan.run("train", 0, 32, also="train")
    with pytest.raises(ValueError, match="'every' at least 1"):
        plan.run("train", 0, 32, also="watched", every=0)
    with pytest.raises(ValueError, match="no step list is named 'wached'"):
        plan.run("train", 0, 32, also="wached")
