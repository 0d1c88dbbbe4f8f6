"""How often Python enters the core, and that the core allocates nothing once it runs."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pyfastnn as fnn
from pyfastnn import _core, cs231n, nn, optim
from pyfastnn.testing import rng_of


@pytest.fixture
def entries(monkeypatch):
    """Count every call of a function of the core and of a method of its plans, by name."""
    counts: dict[str, int] = {}

    def counted(name, function):
        def call(*args, **kwargs):
            counts[name] = counts.get(name, 0) + 1
            return function(*args, **kwargs)

        return call

    for name, function in list(vars(_core).items()):
        if callable(function) and not name.startswith("_") and not isinstance(function, type):
            monkeypatch.setattr(_core, name, counted(name, function))
    for name, function in list(vars(_core.Plan).items()):
        if callable(function) and (name == "__init__" or not name.startswith("_")):
            monkeypatch.setattr(_core.Plan, name, counted(f"Plan.{name}", function))
    return counts


def fit(epochs: int, validation: bool, guard: str | None = "nonfinite") -> None:
    rng = rng_of("entries")
    X, y = rng.standard_normal((100, 6)).astype("f4"), rng.integers(0, 3, 100)
    model = nn.Sequential(nn.Linear(8), nn.BatchNorm(), nn.ReLU(), nn.Dropout(0.1), nn.Linear(3))
    trainer = fnn.Trainer(model, optimizer=optim.Adam(weight_decay=0.01), guard=guard)
    val = {"X_val": X, "y_val": y} if validation else {}
    trainer.fit(X, y, epochs=epochs, verbose=0, callbacks=[lambda trainer, row: None], **val)


def test_every_way_into_the_core_is_counted(entries):
    """The counters see what they should: a fit builds two plans, and binds and runs them."""
    fit(1, validation=True)
    assert {"Plan.__init__": 2, "Plan.run": 2, "permutation": 1}.items() <= entries.items()
    assert entries["Plan.bind"] > 10


@pytest.mark.parametrize("guard", ["nonfinite", None])
@pytest.mark.parametrize("validation", [False, True], ids=["alone", "validation"])
def test_entries_per_epoch(entries, validation, guard):
    """One permutation, one run with the penalty in it, one run of the validation set: three epochs more are nine entries more."""
    fit(2, validation, guard)
    two = dict(entries)
    entries.clear()
    fit(5, validation, guard)
    more = {k: n - two.get(k, 0) for k, n in entries.items() if n != two.get(k, 0)}
    assert more == {"permutation": 3, "Plan.run": 6 if validation else 3}


@pytest.mark.parametrize("sample_batches", [True, False])
def test_entries_per_epoch_of_the_lectures_trainer(entries, sample_batches):
    """One run of all steps, and one each for the training and validation accuracy."""
    rng = rng_of("lectures")
    X, y = rng.standard_normal((1200, 6)), rng.integers(0, 3, 1200)

    def train(epochs: int) -> None:
        model = cs231n.init_two_layer_model(6, 8, 3)
        settings = {"num_epochs": epochs, "reg": 0.1, "momentum": 0.9, "sample_batches": sample_batches}
        cs231n.ClassifierTrainer().train(X, y, X[:100], y[:100], model, cs231n.two_layer_net, **settings)

    train(2)
    two = dict(entries)
    entries.clear()
    train(5)
    assert {k: n - two.get(k, 0) for k, n in entries.items() if n != two.get(k, 0)} == {"Plan.run": 9}


COUNT = r"""
import ctypes, json, sys
import numpy as np
import pyfastnn as fnn
from pyfastnn import _core, nn, optim
from pyfastnn.train.compiled import compile_plans
from pyfastnn.train.hyper import hyper_rows

allocations = ctypes.CDLL(None).allocations
allocations.restype = ctypes.c_long
rng = np.random.default_rng(0)
layers = nn.Linear(37), nn.BatchNorm(), nn.ELU(), nn.Dropout(0.2), nn.Linear(21), nn.Tanh(), nn.Linear(3)
trainer = fnn.Trainer(nn.Sequential(*layers, preprocess=fnn.data.Standardize()), optimizer=optim.Adam(weight_decay=0.01))
X, y = rng.integers(0, 256, (16000, 30)).astype(np.uint8), rng.integers(0, 3, 16000)
trainer.fit(X[:160], y[:160], epochs=1, batch_size=16, verbose=0)
plan = trainer._compiled.train
index, loss, correct = rng.permutation(16000), np.empty(1000), np.empty(1000)
hyper = hyper_rows(trainer.optimizer, 1, 1000, 0)
plan.bind({"X": X, "y": y, "index": index, "loss": loss, "correct": correct})
_core.set_parallel_cost(0.0)
found = {}
for threads in (1, 2):
    def run(steps):
        before = allocations()
        done, reason = plan.run("train", 16 * steps, 16, hyper=hyper, watch="loss", snapshot=True, threads=threads, then="penalty")
        after = allocations()
        assert (done, reason) == (steps, "finished")
        return after - before

    for _ in range(3):
        run(10), run(1000)
    found[threads] = [run(steps) for steps in (10, 1000, 10, 1000)]
before = allocations()
np.empty(10**6)
found["array"] = allocations() - before
print(json.dumps(found))
"""

COMPILER = shutil.which(os.environ.get("CC", "cc"))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the counter replaces functions of glibc")
@pytest.mark.skipif(COMPILER is None, reason="needs a C compiler")
def test_a_thousand_steps_allocate_as_often_as_ten(tmp_path):
    source = Path(__file__).parent / "cpp" / "count_malloc.c"
    library = tmp_path / "count_malloc.so"
    subprocess.run([COMPILER, "-shared", "-fPIC", "-O1", str(source), "-o", str(library)], check=True, timeout=60)
    ran = subprocess.run(
        [sys.executable, "-c", COUNT],
        env={**os.environ, "LD_PRELOAD": str(library)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["array"] > 0, "the counter counts"
    for threads in ("1", "2"):
        assert len(set(found[threads])) == 1, found


def test_compiled_plans_are_kept_between_fits(entries):
    rng = rng_of("kept")
    X, y = rng.standard_normal((100, 6)).astype("f4"), rng.integers(0, 3, 100)
    trainer = fnn.Trainer(nn.Sequential(nn.Linear(3)))
    trainer.fit(X, y, epochs=1, verbose=0)
    trainer.evaluate(X, y)
    built = entries["Plan.__init__"]
    for _ in range(3):
        trainer.fit(X, y, epochs=1, verbose=0)
        trainer.step(X[:10], y[:10])
        trainer.evaluate(X, y)
    assert entries["Plan.__init__"] == built
    assert np.isfinite(trainer.history["loss"]).all()
