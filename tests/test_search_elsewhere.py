"""Trials in other processes: joblib's backends, a cluster of dask among them, give the bits of a search here."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

import pytest
from test_interrupts import interrupt
from test_search import HELD, SPACE, X, Y, build, facts

from pyfastnn import data, search

NO_JOBLIB = importlib.util.find_spec("joblib") is None
NO_CLUSTER = NO_JOBLIB or importlib.util.find_spec("distributed") is None
needs_joblib = pytest.mark.skipif(NO_JOBLIB, reason="the extra 'cluster' is not installed: no joblib")
needs_cluster = pytest.mark.skipif(NO_CLUSTER, reason="the extra 'cluster' is not installed: no distributed")

SCRIPT = r"""
import json, sys
import numpy as np
import joblib
import pyfastnn as fnn
from pyfastnn import data, nn, optim, search

RNG = np.random.default_rng(3)
Y = RNG.integers(0, 3, 500)
X = (2 * RNG.standard_normal((3, 40))[Y] + RNG.standard_normal((500, 40))).astype(np.float32)
SHARED = data.Standardize()
SPACE = {"learning_rate": search.log_uniform(1e-4, 1e-1), "width": [8, 24]}


def build(learning_rate, width):
    if width == 24 and learning_rate < 1e-3:
        raise OSError("no such network")
    model = nn.Sequential(nn.Linear(width), nn.ReLU(), nn.Dropout(0.2), nn.Linear(3), preprocess=SHARED)
    return fnn.Trainer(model, optimizer=optim.Adam(learning_rate))


def score(trainer, X, y):
    return -trainer.evaluate(X, y)["loss"]


def searches(**more):
    held = {"X_val": X[400:], "y_val": Y[400:], "epochs": 2, "verbose": 0, "seed": 5, **more}
    yield search.random(build, SPACE, X[:400], Y[:400], trials=8, **held)
    yield search.coarse_to_fine(build, SPACE, X[:400], Y[:400], stages=[(6, 1), (4, 2)], scoring=score,
                                **{k: v for k, v in held.items() if k != "epochs"})


def facts(studies):
    return [
        [[t.params, t.seed, repr(t.score), t.stop_reason, t.error, [h["loss"] for h in t.histories if h.rows]] for t in study]
        for study in studies
    ]


if __name__ == "__main__":
    if sys.argv[1] == "dask":
        from distributed import Client, LocalCluster

        with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster):
            with joblib.parallel_config("dask"):
                there = list(searches(parallel="joblib"))
    else:
        with joblib.parallel_config(sys.argv[1], n_jobs=2):
            there = list(searches(parallel="joblib"))
    here = list(searches())
    best = there[0].best.trainer
    print(json.dumps({
        "same": facts(there) == facts(here),
        "trials": [len(study) for study in there],
        "failed": sum(t.stop_reason == "failed" for t in there[0]),
        "weights": np.array_equal(best.model.predict_proba(X), here[0].best.trainer.model.predict_proba(X)),
        "threads": best.threads,
        "warnings": there[0].warnings == here[0].warnings,
    }))
"""


@pytest.mark.parametrize(
    "backend",
    [
        pytest.param("loky", marks=needs_joblib),
        pytest.param("dask", marks=needs_cluster),
    ],
)
def test_other_processes_give_the_same_bits(backend, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    ran = subprocess.run(
        [sys.executable, str(tmp_path / "script.py"), backend], capture_output=True, text=True, timeout=600, check=False
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    assert 0 < found.pop("failed") < 8
    assert found == {"same": True, "trials": [8, 10], "weights": True, "threads": 0, "warnings": True}


@needs_joblib
def test_folds_lines_and_kept_trainers(capsys):
    import joblib

    given = {"cv": 3, "trials": 5, "epochs": 1, "seed": 2, "verbose": 1}
    here = search.random(build, SPACE, X, Y, **given)
    lines = capsys.readouterr().out
    with joblib.parallel_config("threading", n_jobs=3):
        there = search.random(build, SPACE, X, Y, **given, parallel="joblib")
    assert capsys.readouterr().out == lines
    assert facts(there) == facts(here)
    study = search.random(build, SPACE, X[:180], Y[:180], trials=4, keep=2, parallel="joblib", threads=1, **HELD)
    assert sum(t.trainer is not None for t in study) == 2
    study.best.trainer.fit(X[:180], Y[:180], epochs=1, verbose=0)


@needs_joblib
def test_a_shared_preprocessing_is_fitted_once():
    import pyfastnn as fnn
    from pyfastnn import nn

    def make(shared):
        def build(width):
            return fnn.Trainer(nn.Sequential(nn.Linear(width), nn.ReLU(), nn.Linear(3), preprocess=shared))

        return build

    one, other = data.Standardize(), data.Standardize()
    space = {"width": [4, 8, 16]}
    here = search.random(make(one), space, X, Y, cv=2, trials=3, epochs=1, verbose=0)
    there = search.random(make(other), space, X, Y, cv=2, trials=3, epochs=1, verbose=0, parallel="joblib", threads=1)
    assert facts(here) == facts(there)


INTERRUPTED = r"""
import json, time
import joblib
import numpy as np
import pyfastnn as fnn
from pyfastnn import nn, optim, search

X = np.random.default_rng(0).standard_normal((400, 16), dtype=np.float32)
y = np.arange(400) % 3


def build(learning_rate):
    return fnn.Trainer(nn.Sequential(nn.Linear(24), nn.ReLU(), nn.Linear(3)), optimizer=optim.SGD(learning_rate))


def searched(epochs):
    space = {"learning_rate": search.log_uniform(1e-4, 1e-2)}
    given = {"X_val": X[:50], "y_val": y[:50], "verbose": 0, "parallel": "joblib"}
    return search.random(build, space, X, y, trials=6, epochs=epochs, **given)


if __name__ == "__main__":
    with joblib.parallel_config("loky", n_jobs=2):
        searched(1)
        print("ready", flush=True)
        study = searched(10**8)
    print(json.dumps([time.time(), study.stop_reason, len(study)]))
"""


@needs_joblib
@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_ctrl_c_ends_a_search_with_the_trials_that_came_back():
    pressed, ran = interrupt(INTERRUPTED, 0.5)
    assert ran.returncode == 0, ran.stderr
    ended, reason, count = json.loads(ran.stdout.splitlines()[-1])
    assert ended - pressed < 30
    assert (reason, count) == ("interrupted", 0)


@needs_joblib
def test_time_is_limited():
    study = search.random(
        build,
        SPACE,
        X[:180],
        Y[:180],
        trials=4,
        max_seconds=0.5,
        parallel="joblib",
        threads=1,
        **{**HELD, "epochs": 10**7},
    )
    assert study.stop_reason == "max_seconds"
    assert 1 <= len(study) <= 4 and study.trials[0].stop_reason == "max_seconds"


def test_what_is_missing_is_named(monkeypatch):
    for name, call, words in (
        (
            "joblib",
            lambda: search.random(build, SPACE, X, Y, X_val=X, y_val=Y, parallel="joblib"),
            r"pyfastnn\[cluster\]",
        ),
        ("optuna", lambda: search.optuna(build, SPACE, X, Y, X_val=X, y_val=Y), r"pyfastnn\[search\]"),
    ):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, name, None)
            with pytest.raises(ImportError, match=words):
                call()


@pytest.mark.parametrize(("parallel", "error"), [("jobib", ValueError), (3, TypeError)])
def test_bad_places_are_named(parallel, error):
    with pytest.raises(error, match="'?parallel'?"):
        search.random(build, SPACE, X, Y, X_val=X, y_val=Y, parallel=parallel)
