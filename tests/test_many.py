"""Several fits at once, rows by number, and single steps: the bits of the plain way."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from test_interrupts import interrupt

import pyfastnn as fnn
from pyfastnn import nn, optim

RNG = np.random.default_rng(5)
X = RNG.standard_normal((301, 12), dtype=np.float32)
Y = RNG.integers(0, 4, len(X))


def make(seed: int = 0, **more) -> fnn.Trainer:
    model = nn.Sequential(nn.Linear(16), nn.BatchNorm(), nn.ReLU(), nn.Dropout(0.2), nn.Linear(4), **more)
    return fnn.Trainer(model, optimizer=optim.Adam(1e-2, weight_decay=1e-3), seed=seed)


def state(trainer: fnn.Trainer) -> dict[str, bytes]:
    arrays = {**trainer.model.arrays(), **trainer.slots}
    return {k: v.tobytes() for k, v in arrays.items()}


def figures(trainer: fnn.Trainer) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if "second" not in k} for row in trainer.history]


def same(a: fnn.Trainer, b: fnn.Trainer) -> bool:
    return state(a) == state(b) and figures(a) == figures(b) and (a.epoch, a.step_count) == (b.epoch, b.step_count)


@pytest.mark.parametrize("threads", [1, 3, 20])
@pytest.mark.parametrize("dtype", [np.float32, np.int16], ids=["read in place", "converted"])
def test_fits_side_by_side_have_the_bits_of_fits_alone(threads, dtype):
    data = (4 * X).astype(dtype)
    alone, together = [make(k) for k in range(7)], [make(k) for k in range(7)]
    settings = {"X_val": data[:50], "y_val": Y[:50], "epochs": 3, "batch_size": 32}
    for trainer in alone:
        trainer.fit(data, Y, verbose=0, **settings)
    histories = fnn.train_many(together, data, Y, threads=threads, **settings)
    assert all(map(same, alone, together))
    assert all(h is t.history and h.stop_reason == "finished" for h, t in zip(histories, together, strict=True))
    assert [(t.threads, t.shared_interrupts) for t in together] == [(0, None)] * 7


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("rows", [np.arange(0, 301, 2), [5, 5, 9, 300, 0], np.arange(300, -1, -1, np.uint16)])
def test_rows_by_number_have_the_bits_of_a_copy(rows, shuffle):
    """Also the preprocessing is fitted on those rows alone."""
    copied, chosen = (make(1, preprocess=fnn.data.Standardize()) for _ in range(2))
    copied.fit(X[rows], Y[rows], epochs=3, batch_size=16, shuffle=shuffle, verbose=0)
    chosen.fit(X, Y, rows=rows, epochs=3, batch_size=16, shuffle=shuffle, verbose=0)
    assert same(copied, chosen)


def test_labels_of_rows_left_out_may_be_anything():
    rows = np.flatnonzero(Y < 3)
    marked = np.where(Y < 3, Y, -1)
    chosen, copied = make(), make()
    chosen.fit(X, marked, rows=rows, epochs=1, verbose=0)
    copied.fit(X[rows], Y[rows], epochs=1, verbose=0)
    assert same(copied, chosen)


def test_folds_and_a_shared_preprocessing():
    folds = np.array_split(np.arange(len(X)), 3)
    shared, again = fnn.data.Standardize(), fnn.data.Standardize()
    alone = [make(k, preprocess=shared) for k in range(3)]
    together = [make(k, preprocess=again) for k in range(3)]
    for trainer, rows in zip(alone, folds, strict=True):
        trainer.fit(X, Y, rows=rows, epochs=2, verbose=0)
    fnn.train_many(together, X, Y, rows=folds, epochs=2, threads=3)
    assert all(map(same, alone, together))


@pytest.mark.parametrize(
    ("rows", "error", "words"),
    [
        ([0.5, 1.0], TypeError, "whole numbers"),
        (np.ones(301, bool), TypeError, "flatnonzero"),
        (np.zeros((2, 2), int), ValueError, "shape"),
        (np.zeros(0, int), ValueError, "shape"),
        ([0, 301], ValueError, "holds 301"),
        ([-1], ValueError, "holds -1"),
    ],
)
def test_bad_row_numbers_are_named(rows, error, words):
    with pytest.raises(error, match=f"'rows'.*{words}"):
        make().fit(X, Y, rows=rows, verbose=0)


def test_an_error_of_one_leaves_the_others_trained():
    bad = fnn.Trainer(nn.Sequential(nn.Linear(3)))
    trainers = [make(0), bad, make(1)]
    with pytest.raises(fnn.TrainManyError, match=r"1 of 3 trainers failed.*trainers\[1\]: ValueError") as raised:
        fnn.train_many(trainers, X, Y, epochs=2, threads=2)
    assert list(raised.value.errors) == [1]
    for k in (0, 2):
        alone = make(k // 2)
        alone.fit(X, Y, epochs=2, verbose=0)
        assert same(alone, trainers[k])
    assert bad.threads == 0


def test_what_cannot_run_side_by_side_is_refused_before_anything():
    a, b = make(), make()
    b.model = a.model
    cases = (
        (ValueError, "empty", [], {}),
        (TypeError, r"trainers\[1\]", [a, a.model], {}),
        (ValueError, "same model", [a, b], {}),
        (ValueError, "same model", [a, a], {}),
        (ValueError, "'threads'", [a], {"threads": 0}),
        (ValueError, "2 items", [a], {"rows": [[0], [1]]}),
        (ValueError, "one array of row numbers for each", [a], {"rows": np.arange(1)}),
    )
    for error, words, trainers, more in cases:
        with pytest.raises(error, match=words):
            fnn.train_many(trainers, X, Y, **more)
    assert a.epoch == 0


@pytest.mark.filterwarnings("ignore:training stopped:RuntimeWarning")
def test_the_guard_works_on_each():
    wild = fnn.Trainer(nn.Sequential(nn.Linear(16), nn.Linear(4)), optimizer=optim.SGD(1e30))
    histories = fnn.train_many([wild, make()], X, Y, epochs=2, threads=2)
    assert [h.stop_reason for h in histories] == ["nonfinite", "finished"]


NO_REGION = r"""
import os, time
import numpy as np
import pyfastnn as fnn
from pyfastnn import nn, _core

_core.set_num_threads(2)
_core.set_parallel_cost(0.0)  # every shape would go to the threads if it had them
X = np.zeros((3000, 64), np.float32)
y = np.arange(3000) % 10
made = [fnn.Trainer(nn.Sequential(nn.Linear(64), nn.ReLU(), nn.Linear(10)), seed=k) for k in range(4)]
fnn.train_many(made, X, y, epochs=2, X_val=X, y_val=y)
made[0].model.predictor(max_batch=3000)(X)
# A thread of Python that was joined is listed for another moment; those of a parallel region stay.
end = time.monotonic() + 5
while len(os.listdir("/proc/self/task")) > 1 and time.monotonic() < end:
    time.sleep(0.01)
print(len(os.listdir("/proc/self/task")), end=" ")
made[0].model(X)
print(len(os.listdir("/proc/self/task")))
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="counts threads where Linux lists them")
def test_no_parallel_region_is_entered():
    import subprocess
    import sys

    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    ran = subprocess.run([sys.executable, "-c", NO_REGION], capture_output=True, text=True, env=environment, check=True)
    assert ran.stdout.split() == ["1", "2"]


INTERRUPTED = r"""
import json, time
import numpy as np
import pyfastnn as fnn
from pyfastnn import nn, optim

X = np.zeros((100_000, 32), np.uint8)
y = np.arange(len(X)) % 3


def make(seed):
    model = nn.Sequential(nn.Linear(64), nn.ReLU(), nn.Linear(3))
    return fnn.Trainer(model, optimizer=optim.SGD(1e-3), seed=seed, monitor=None, preflight=False)


made = [make(k) for k in range(3)]
fnn.train_many([make(9)], X[:64], y[:64], epochs=1)
print("ready", flush=True)
histories = fnn.train_many(made, X, y, epochs=10**6, batch_size=16, threads=2)
ended = time.time()
again = make(0)
again.fit(X, y, epochs=10**6, batch_size=16, max_steps=made[0].step_count, verbose=0)
print(json.dumps({
    "ended": ended,
    "reasons": [h.stop_reason for h in histories],
    "steps": [t.step_count for t in made],
    "same": all(a.tobytes() == again.model.arrays()[k].tobytes() for k, a in made[0].model.arrays().items()),
    "handler": __import__("signal").getsignal(2) is __import__("signal").default_int_handler,
}))
"""


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_ctrl_c_stops_all_cleanly():
    pressed, ran = interrupt(INTERRUPTED, 0.4)
    assert (ran.returncode, ran.stderr) == (0, "")
    found = json.loads(ran.stdout)
    assert found["ended"] - pressed < 0.5
    assert found["reasons"] == ["interrupted"] * 3
    assert found["steps"][0] > 0
    assert found["steps"][2] == 0
    assert found["same"]
    assert found["handler"]


@pytest.mark.parametrize("labels", ["numbers", "names"])
def test_single_steps_have_the_bits_of_a_fit(labels):
    """Past the hyper rows made ahead, with numbers of the optimizer changed and fits in between."""
    y = Y if labels == "numbers" else np.array(list("abcd"))[Y]
    a, b = make(), make()
    a.fit(X, y, epochs=1, batch_size=32, shuffle=False, verbose=0)
    b.step(X[:32], y[:32])
    for k in range(1, 10):
        b.step(X[32 * k : 32 * (k + 1)], y[32 * k : 32 * (k + 1)])
    assert state(a) == state(b)
    for number in range(200):
        if number % 70 == 50:
            a.optimizer.learning_rate = b.optimizer.learning_rate = 1e-3 * number
        a.fit(X[:32], y[:32], epochs=1, batch_size=32, shuffle=False, verbose=0)
        losses = a.history["loss"][-1], b.step(X[:32], y[:32])
        assert losses[0] == losses[1]
    assert state(a) == state(b)


def test_a_step_turns_down_what_does_not_fit_however_many_went_before():
    trainer = make()
    for _ in range(3):
        trainer.step(X[:32], Y[:32])
    before = state(trainer)
    cases = (
        (ValueError, "label 4", X[:32], np.full(32, 4)),
        (ValueError, "label -1", X[:32], np.full(32, -1)),
        (ValueError, "'y'", X[:32], Y[:31]),
        (ValueError, "'X'", X[:32, :11], Y[:32]),
        (TypeError, "masked", np.ma.masked_array(X[:32]), Y[:32]),
    )
    for error, words, rows, labels in cases:
        with pytest.raises(error, match=words):
            trainer.step(rows, labels)
    assert state(trainer) == before
    other = make()
    for _ in range(3):
        other.step(X[:32], Y[:32])
    views = np.asfortranarray(X[:32]), Y[:32].astype(np.int32)
    assert trainer.step(*views) == other.step(X[:32], Y[:32])
    assert trainer.step(X[:20].astype(np.float64), Y[:20].tolist()) == other.step(X[:20].astype(np.float64), Y[:20])
    assert state(trainer) == state(other)


def test_steps_follow_a_model_that_starts_over():
    trainer, other = make(), make()
    trainer.step(X[:32], Y[:32])
    trainer.step(X[:32], Y[:32])
    trainer.reset()
    assert trainer.step(X[:32], Y[:32]) == other.step(X[:32], Y[:32])
    assert state(trainer) == state(other)
