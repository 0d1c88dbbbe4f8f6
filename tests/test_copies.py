"""Copies, pickles and other processes: models, trainers and predictors go on there with the bits they would have had here."""

from __future__ import annotations

import copy
import importlib.util
import multiprocessing
import pickle

import numpy as np
import pytest

import pyfastnn as fnn
from pyfastnn import nn, optim, search
from pyfastnn.testing import assert_same_bits

RNG = np.random.default_rng(8)
Y = RNG.integers(0, 3, 240)
X = (RNG.standard_normal((3, 12))[Y] + RNG.standard_normal((240, 12))).astype(np.float32)
NO_JOBLIB = importlib.util.find_spec("joblib") is None


def pickled(thing):
    return pickle.loads(pickle.dumps(thing))


def shared(thing):
    """Return what a process gets that reads arrays where another one wrote them: they are read-only."""
    buffers: list[pickle.PickleBuffer] = []
    text = pickle.dumps(thing, protocol=5, buffer_callback=buffers.append)
    return pickle.loads(text, buffers=[bytes(buffer) for buffer in buffers])


WAYS = pytest.mark.parametrize("way", [copy.deepcopy, pickled, shared], ids=["deepcopy", "pickle", "shared memory"])

OPTIMIZERS = {
    "sgd": lambda: optim.SGD(0.05, momentum=0.9),
    "adam": lambda: optim.Adam(0.01, ema=0.9, clip_norm=1.0),
    "adagrad": lambda: optim.AdaGrad(0.05),
    "rmsprop": lambda: optim.RMSProp(0.01),
    "adamw": lambda: optim.AdamW(0.01, weight_decay=0.1, rate_factors={"linear_1": 0.5}),
    "cosine": lambda: optim.SGD(optim.Cosine(0.1, epochs=6)),
    "plateau": lambda: optim.SGD(optim.ReduceOnPlateau(0.5, monitor="loss", patience=1, threshold=0.5)),
}


def trainer_of(optimizer="adam", **more):
    layers = (nn.Linear(16), nn.BatchNorm(), nn.PReLU(), nn.Dropout(0.2), nn.Linear(3))
    model = nn.Sequential(*layers, preprocess=more.pop("preprocess", fnn.data.Standardize()))
    return fnn.Trainer(model, optimizer=OPTIMIZERS[optimizer](), seed=4, **more)


def fitted(optimizer="adam", **more):
    trainer = trainer_of(optimizer, **more)
    trainer.fit(X[:200], Y[:200], X_val=X[200:], y_val=Y[200:], epochs=3, verbose=0)
    return trainer


def facts(trainer):
    """Return everything of a trainer that training reads or writes."""
    arrays = {**trainer.model.state_dict(), **{f"slot {k}": v.copy() for k, v in trainer.slots.items()}}
    rows = [{k: v for k, v in row.items() if not k.startswith(("seconds", "samples"))} for row in trainer.history]
    return arrays, (rows, trainer.epoch, trainer.step_count, trainer.first_loss)


def assert_same(found, wanted):
    assert found[1] == wanted[1]
    assert found[0].keys() == wanted[0].keys()
    for name, array in wanted[0].items():
        assert_same_bits(found[0][name], array, name)


def more_training(trainer):
    """Train on by steps, by parts of steps and by epochs."""
    for k in range(3):
        trainer.step(X[32 * k : 32 * k + 32], Y[32 * k : 32 * k + 32])
    scores = trainer.forward(X[:8])
    trainer.backward(scores / 8)
    trainer.update()
    trainer.fit(X[:200], Y[:200], X_val=X[200:], y_val=Y[200:], epochs=2, verbose=0)
    return facts(trainer)


@WAYS
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_trainer_goes_on_as_it_would_have(optimizer, way):
    trainer = fitted(optimizer)
    trainer.step(X[:32], Y[:32])
    before = facts(trainer)
    twin = way(trainer)
    assert_same(facts(twin), before)
    after = more_training(twin)
    assert_same(facts(trainer), before)
    assert_same(more_training(trainer), after)


@WAYS
def test_a_trainer_that_has_not_begun(way):
    trainer = trainer_of()
    assert_same(more_training(way(trainer)), more_training(trainer))


@WAYS
@pytest.mark.parametrize("preprocess", ["PCA", "Whiten", "MinMax"])
def test_models_with_their_preprocessing(preprocess, way):
    trainer = fitted(preprocess=getattr(fnn.data, preprocess)())
    model = way(trainer.model)
    assert_same_bits(model(X), trainer.model(X))
    assert model.predict(X).tolist() == trainer.model.predict(X).tolist()
    again = fnn.Trainer(model)
    again.fit(X, Y, epochs=1, verbose=0)
    assert not np.array_equal(model(X), trainer.model(X))


def test_a_shallow_copy_of_a_model_has_the_same_arrays():
    model = fitted().model
    twin = copy.copy(model)
    assert all(twin.arrays()[name] is array for name, array in model.arrays().items())


@WAYS
def test_a_copied_predictor_reads_the_weights_of_its_own_model(way):
    model = fitted().model
    predictor = model.predictor(max_batch=4)
    twin = way(predictor)
    assert (twin.max_batch, twin.threads) == (4, 1)
    assert twin.model is not model
    want = model(X[:4])
    assert_same_bits(twin(X[:4]), want)
    for array in twin.model.parameters.values():
        array *= 2
    assert_same_bits(twin(X[:4]), twin.model(X[:4]))
    assert not np.array_equal(twin(X[:4]), want)
    assert_same_bits(predictor(X[:4]), want)


def test_a_predictor_beside_another_of_the_same_model():
    model = fitted().model
    twin = copy.copy(model.predictor())
    assert twin.model is model
    both = copy.deepcopy((model, model.predictor()))
    assert both[1].model is both[0]


@WAYS
def test_studies_ensembles_and_histories(way):
    def build(rate):
        return fnn.Trainer(nn.Sequential(nn.Linear(3)), optimizer=optim.Adam(rate))

    held = {"X_val": X[200:], "y_val": Y[200:], "epochs": 1, "verbose": 0}
    study = search.random(build, {"rate": search.log_uniform(1e-3, 1e-1)}, X[:200], Y[:200], trials=4, **held)
    twin = way(study)
    assert repr(twin) == repr(study)
    assert twin.rows() == study.rows()
    assert_same_bits(twin.best.trainer.model(X), study.best.trainer.model(X))
    models = [fitted().model, study.best.trainer.model]
    ensemble = fnn.Ensemble(models)
    assert way(ensemble).predict(X).tolist() == ensemble.predict(X).tolist()
    history = fitted().history
    again = way(history)
    assert again.rows == history.rows
    assert list(again.statistics) == list(history.statistics)
    assert again.stop_reason == "finished"


def test_rows_for_the_executor_are_not_copied():
    """They are as long as an epoch has steps, and follow from the optimizer."""
    short, long = trainer_of(), trainer_of()
    short.fit(X, Y, epochs=1, batch_size=240, verbose=0)
    long.fit(X, Y, epochs=1, batch_size=1, verbose=0)
    lengths = [len(pickle.dumps(trainer.hyper)) - trainer.hyper.rates.nbytes for trainer in (short, long)]
    assert abs(lengths[0] - lengths[1]) < 100


# Other processes


def trained_there(trainer):
    more_training(trainer)
    return trainer


def test_spawned_processes_train_with_the_same_bits():
    trainer = fitted()
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        found = pool.map(trained_there, [trainer, trainer_of()])
    assert_same(facts(found[0]), more_training(trainer))
    assert_same(facts(found[1]), more_training(trainer_of()))


@pytest.mark.skipif(NO_JOBLIB, reason="the extra 'cluster' is not installed: no joblib")
def test_joblib_maps_large_arrays_read_only():
    import joblib

    trainer = fitted()
    found = joblib.Parallel(n_jobs=2, max_nbytes=100)(joblib.delayed(trained_there)(t) for t in (trainer, trainer))
    want = more_training(trainer)
    for twin in found:
        assert_same(facts(twin), want)
