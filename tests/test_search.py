"""Searches: spaces, what is drawn, how trials run, what is recorded."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from test_interrupts import interrupt

import pyfastnn as fnn
from pyfastnn import nn, optim, search
from pyfastnn.search.setting import derived
from pyfastnn.search.stages import narrowed
from pyfastnn.search.study import Study, Trial

RNG = np.random.default_rng(11)
CENTERS = 2 * RNG.standard_normal((3, 8))
Y = RNG.integers(0, 3, 240)
X = (CENTERS[Y] + RNG.standard_normal((240, 8))).astype(np.float32)
SPACE = {"learning_rate": search.log_uniform(1e-5, 1e-1), "width": search.integers(4, 32, log=True)}
HELD = {"X_val": X[180:], "y_val": Y[180:], "epochs": 3, "verbose": 0}


def build(learning_rate=1e-2, width=8, weight_decay=0.0):
    layers = nn.Linear(width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(3)
    return fnn.Trainer(
        nn.Sequential(*layers), optimizer=optim.SGD(learning_rate, momentum=0.9, weight_decay=weight_decay)
    )


def facts(study):
    return [(t.params, t.seed, t.score, t.scores, t.stop_reason, t.error) for t in study]


# Spaces


@pytest.mark.parametrize(
    "space",
    [
        search.uniform(-2, 3),
        search.log_uniform(1e-6, 1e-3),
        search.integers(-3, 4),
        search.integers(1, 1000, log=True),
    ],
    ids=str,
)
def test_draws_lie_in_the_range_and_positions_go_back(space):
    rng = np.random.default_rng(0)
    drawn = [space.draw(rng) for _ in range(2000)]
    assert all(space.low <= v <= space.high for v in drawn)
    assert all(type(v) is (int if space.whole else float) for v in drawn)
    assert all(0 <= space.position(v) <= 1 for v in drawn)
    assert all(math.isclose(space.value(space.position(v)), v, rel_tol=1e-12, abs_tol=1e-12) for v in drawn)
    # Kolmogorov-Smirnov at 1e-6: the positions are uniform (whole numbers: up to half a step).
    step = 0.5 if space.whole and not space.log else 0.0
    if not (space.whole and space.log):
        places = np.sort([space.position(v) for v in drawn])
        slack = step / (space.high - space.low + 1)
        assert np.abs(places - (np.arange(2000) + 0.5) / 2000).max() < math.sqrt(math.log(2e6) / 4000) + slack + 1e-3
    assert space.value(0.0) == space.low
    assert space.value(1.0) == space.high


def test_whole_numbers_are_equally_likely():
    rng = np.random.default_rng(0)
    counts = np.bincount([search.integers(0, 3).draw(rng) for _ in range(4000)])
    assert len(counts) == 4
    assert np.abs(counts - 1000).max() < 5 * math.sqrt(4000 * 0.25 * 0.75)


def test_points_hold_both_ends():
    assert search.log_uniform(1e-3, 1e1).points(5) == pytest.approx([1e-3, 1e-2, 1e-1, 1, 10])
    assert search.uniform(0, 1).points(3) == [0, 0.5, 1]
    assert search.integers(1, 3).points(5) == [1, 2, 3]
    assert search.integers(1, 9).points(3) == [1, 5, 9]
    assert search.choice(["abc"] + [None]).points(1) == ["abc", None]
    assert search.uniform(0, 1).points(1) == [0.5]


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: search.uniform(1, 1), ValueError, "uniform: 'low' is 1 and 'high' is 1"),
        (lambda: search.uniform("a", 1), TypeError, "uniform: 'low' is 'a'"),
        (lambda: search.uniform(0, math.inf), ValueError, "'high' is inf, expected a finite"),
        (lambda: search.log_uniform(0, 1), ValueError, "log_uniform: 'low' is 0, expected above 0"),
        (lambda: search.integers(0.5, 1), TypeError, "integers: 'low' is 0.5"),
        (lambda: search.integers(0, 4, log=True), ValueError, "1 or more with log=True"),
        (lambda: search.integers(4, 4), ValueError, "low < high"),
        (lambda: search.choice("sgd"), TypeError, "choice: 'values' is 'sgd'"),
        (lambda: search.choice([]), ValueError, "empty"),
        (lambda: search.randm, AttributeError, "did you mean 'random'"),
    ],
)
def test_bad_spaces_are_named(call, error, words):
    with pytest.raises(error, match=words):
        call()


# Random search


def test_results_do_not_depend_on_how_many_run_at_once():
    studies = [search.random(build, SPACE, X[:180], Y[:180], trials=9, threads=t, seed=4, **HELD) for t in (1, 2, 5)]
    assert facts(studies[0]) == facts(studies[1]) == facts(studies[2])
    assert len({t.seed for t in studies[0]}) == 9
    assert studies[0].stop_reason == "finished"
    assert [t.number for t in studies[0]] == list(range(9))


@pytest.mark.filterwarnings("ignore:training stopped at step:RuntimeWarning")  # of the fits alone
def test_a_trial_is_the_fit_of_its_parameters_and_seed():
    study = search.random(build, SPACE, X[:180], Y[:180], trials=4, seed=1, batch_size=20, **HELD)
    for trial in study:
        alone = build(**trial.params)
        alone.seed, alone.guard = trial.seed, "lecture"
        alone.fit(X[:180], Y[:180], X_val=X[180:], y_val=Y[180:], epochs=3, batch_size=20, verbose=0)
        assert alone.evaluate(X[180:], Y[180:])["accuracy"] == trial.score
        assert alone.history.stop_reason == trial.stop_reason
        assert len(alone.history) == len(trial.history)
        assert trial.scores == [trial.score]
    best = study.best
    assert best.trainer.evaluate(X[180:], Y[180:])["accuracy"] == best.score == max(t.score for t in study)
    assert best.trainer.threads == 0
    best.trainer.fit(X[:180], Y[:180], epochs=1, verbose=0)
    assert best.stop_reason == "finished" and len(best.history) == 4


def test_a_longer_search_begins_with_the_trials_of_a_shorter_one():
    short, long = (search.random(build, SPACE, X[:180], Y[:180], trials=n, seed=2, **HELD) for n in (3, 6))
    assert facts(long)[:3] == facts(short)
    other = search.random(build, SPACE, X[:180], Y[:180], trials=3, seed=3, **HELD)
    assert not {t.seed for t in other} & {t.seed for t in short}


def test_seeds_are_those_of_a_trainer():
    seeds = {derived(seed, stage, place)[0] for seed in range(5) for stage in range(3) for place in range(40)}
    assert len(seeds) == 600
    assert min(seeds) >= 0 and max(seeds) < 2**53 and max(seeds) > 2**50


def test_lines_are_those_of_the_lectures(capsys):
    space = {"learning_rate": search.log_uniform(1e-4, 1e-2), "weight_decay": search.log_uniform(1e-4, 1), "width": [8]}
    study = search.random(build, space, X[:180], Y[:180], trials=5, threads=3, **{**HELD, "verbose": 1})
    lines = capsys.readouterr().out.splitlines()
    assert lines[:5] == [
        f"val_acc: {t.score:f}, lr: {t.params['learning_rate']:e}, reg: {t.params['weight_decay']:e}, width: 8, ({k} / 5)"
        for k, t in enumerate(study, start=1)
    ]
    assert lines[5:] == [f"warning: {text}" for text in study.warnings]
    assert Trial(0, 0, {"learning_rate": 1.405206e-4, "weight_decay": 4.793564e-1}, 0, 0.412).line(
        "val_acc", 0, 100
    ) == ("val_acc: 0.412000, lr: 1.405206e-04, reg: 4.793564e-01, (1 / 100)")


def test_failed_and_diverged_trials_are_recorded(capsys):
    def sometimes(learning_rate, kind):
        if kind == "build":
            raise OSError("no such network")
        trainer = build(1e6 if kind == "diverges" else learning_rate)
        if kind == "fit":
            trainer.loss = "mean_squared_error"
        return trainer

    space = {"learning_rate": search.log_uniform(1e-3, 1e-2), "kind": ["good", "build", "fit", "diverges"]}
    study = search.grid(
        sometimes, space, X[:180], Y[:180], points=2, scoring="accuracy", threads=2, **{**HELD, "verbose": 1}
    )
    good, built, fitted, diverged = study.trials[:4]
    assert good.ranked and good.stop_reason == "finished" and not good.error
    assert math.isnan(built.score) and built.error == "OSError: no such network" and built.stop_reason == "failed"
    assert math.isnan(fitted.score) and fitted.error.startswith(("ValueError", "TypeError", "KeyError"))
    assert diverged.stop_reason in ("limit", "nonfinite") and diverged.ranked and diverged.history is not None
    assert study.best.params["kind"] in ("good", "diverges")
    lines = capsys.readouterr().out.splitlines()
    assert [line.startswith("val_acc: ") for line in lines[:8]] == [True] * 8
    assert lines[8:] == [f"warning: {text}" for text in study.warnings]
    assert lines[1].startswith("val_acc: nan, lr: 1.000000e-03, kind: build, (2 / 8) failed: OSError: no such network")


def test_a_study_of_failures_says_why():
    def never(width):
        raise ZeroDivisionError("here")

    study = search.random(never, {"width": [1, 2]}, X, Y, trials=3, **HELD)
    assert len(study) == 3 and study.warnings == []
    assert repr(study).endswith("3 without a score; trial 0 raised ZeroDivisionError: here")
    with pytest.raises(RuntimeError, match="3 trials and none has a score; trial 0 raised ZeroDivisionError: here"):
        study.best  # noqa: B018
    study = search.random(build, SPACE, X, Y, cv=3, trials=2, epochs=1, scoring=lambda *_: math.nan, verbose=0)
    assert repr(study).endswith("2 without a score; trial 0 has the score nan")


def test_the_guard_of_the_lectures_ends_trials_early():
    space = {"learning_rate": [1e4, 1e-3]}
    study = search.grid(build, space, X[:180], Y[:180], **HELD)
    assert [t.stop_reason for t in study] == ["limit", "finished"] or study.trials[0].stop_reason == "nonfinite"
    assert len(study.trials[0].history) == 0
    off = search.grid(build, space, X[:180], Y[:180], guard=None, **HELD)
    assert [t.stop_reason for t in off] == ["finished", "finished"]
    assert len(off.trials[0].history) == 3


def test_regression_is_judged_by_loss():
    def line(learning_rate):
        return fnn.Trainer(nn.Sequential(nn.Linear(1)), "mean_squared_error", optim.SGD(learning_rate))

    y = X @ np.arange(8.0)
    study = search.random(
        line, {"learning_rate": search.log_uniform(1e-5, 1e-2)}, X, y, X_val=X, y_val=y, verbose=0, trials=5
    )
    assert (study.scoring, study.maximize) == ("loss", False)
    assert study.best.score == min(t.score for t in study)
    assert [t.score for t in study.top(5)] == sorted(t.score for t in study)
    with pytest.raises(ValueError, match="scoring='accuracy' is for classifiers"):
        search.random(line, {"learning_rate": [1e-3]}, X, y, X_val=X, y_val=y, scoring="accuracy", trials=1, verbose=0)


def test_folds():
    study = search.random(build, SPACE, X, Y, cv=4, trials=3, seed=7, epochs=2, verbose=0, threads=3)
    folds = fnn.data.folds(len(Y), 4, seed=7, stratify=Y)
    for trial in study:
        want = []
        for train, held in folds:
            alone = build(**trial.params)
            alone.seed = trial.seed
            alone.fit(X, Y, rows=train, epochs=2, verbose=0)
            want.append(alone.evaluate(X[held], Y[held])["accuracy"])
        assert trial.scores == want
        assert trial.score == np.mean(want)
        assert len(trial.histories) == 4 and trial.trainer is None
    again = search.random(build, SPACE, X, Y, cv=folds, trials=3, seed=7, epochs=2, verbose=0)
    assert facts(again) == facts(study)


def test_a_splitter_of_folds():
    class Halves:
        def split(self, X, y):
            rows = np.arange(len(y))
            yield rows[::2], rows[1::2]
            yield rows[1::2], rows[::2]

    study = search.random(build, SPACE, X, Y, cv=Halves(), trials=2, epochs=1, verbose=0)
    assert [len(t.scores) for t in study] == [2, 2]


def test_folds_that_can_be_gone_through_once_serve_all_stages():
    given = {"stages": [(6, 1), (2, 1)], "verbose": 0, "seed": 7}
    folds = fnn.data.folds(len(Y), 3, seed=7, stratify=Y)
    study = search.coarse_to_fine(build, SPACE, X, Y, cv=iter(folds), **given)
    assert len(study) == 8
    assert facts(study) == facts(search.coarse_to_fine(build, SPACE, X, Y, cv=3, **given))


@pytest.mark.parametrize("classes", [2, 3])
def test_roc_auc(classes):
    def small(learning_rate):
        return fnn.Trainer(nn.Sequential(nn.Linear(classes)), optimizer=optim.SGD(learning_rate))

    keep = classes > Y
    study = search.random(
        small,
        {"learning_rate": [1e-2]},
        X[keep],
        Y[keep],
        X_val=X[keep],
        y_val=Y[keep],
        scoring="roc_auc",
        trials=1,
        verbose=0,
    )
    p = study.best.trainer.model.predict_proba(X[keep])
    pairs = []
    for c in (1,) if classes == 2 else range(3):
        a, b = p[Y[keep] == c, c], p[Y[keep] != c, c]
        pairs.append(np.mean((a[:, None] > b) + 0.5 * (a[:, None] == b)))
    assert study.best.score == pytest.approx(np.mean(pairs), abs=1e-12)
    assert study.scoring == "roc_auc"


def test_roc_auc_is_that_of_metrics():
    assert search.roc_auc is fnn.metrics.roc_auc


def test_a_function_judges():
    def errors_of_the_first(trainer, X, y):
        return -float(np.sum(trainer.model.predict(X[:10]) != y[:10]))

    study = search.random(build, SPACE, X[:180], Y[:180], scoring=errors_of_the_first, trials=3, **HELD)
    assert study.scoring == "errors_of_the_first" and study.maximize
    assert all(-10 <= t.score <= 0 and t.score == int(t.score) for t in study)


def test_time_is_limited():
    begun = time.perf_counter()
    study = search.random(
        build, SPACE, X[:180], Y[:180], trials=8, max_seconds=0.5, **{**HELD, "epochs": 10**7}, threads=2
    )
    assert time.perf_counter() - begun < 20
    assert study.stop_reason == "max_seconds"
    assert 1 <= len(study) <= 8 and study.trials[0].stop_reason == "max_seconds"
    assert study.best.ranked


@pytest.mark.parametrize("parallel", ["threads", "joblib"])
def test_the_first_trial_has_all_its_folds_however_late_it_is(parallel):
    if parallel == "joblib":
        pytest.importorskip("joblib", reason="the extra 'cluster' is not installed")
    given = {
        "cv": 3,
        "trials": 4,
        "epochs": 10**6,
        "max_seconds": 1e-9,
        "verbose": 0,
        "parallel": parallel,
        "threads": 1,
    }
    study = search.random(build, SPACE, X, Y, **given)
    assert len(study) == 1 and study.stop_reason == "max_seconds"
    assert len(study.best.scores) == 3 and study.best.stop_reason == "max_seconds"


def test_an_output_that_is_closed_ends_the_search(monkeypatch):
    class Closed:
        def write(self, text):
            raise BrokenPipeError

    def narrow_or_not(outputs):
        return fnn.Trainer(nn.Sequential(nn.Linear(outputs)), guard=None)

    given = {**HELD, "epochs": 10**8, "verbose": 1, "threads": 2}
    begun = time.perf_counter()
    with monkeypatch.context() as patch, pytest.raises(BrokenPipeError):
        patch.setattr("sys.stdout", Closed())
        # The first trial fails at once, and its line too; the second would take hours.
        search.grid(narrow_or_not, {"outputs": [2, 3]}, X[:180], Y[:180], **given)
    assert time.perf_counter() - begun < 20


INTERRUPTED = r"""
import json, time
import numpy as np
import pyfastnn as fnn
from pyfastnn import nn, optim, search

X = np.random.default_rng(0).standard_normal((400, 16), dtype=np.float32)
y = np.arange(400) % 3


def build(learning_rate):
    return fnn.Trainer(nn.Sequential(nn.Linear(24), nn.ReLU(), nn.Linear(3)), optimizer=optim.SGD(learning_rate))


space = {"learning_rate": search.log_uniform(1e-4, 1e-2)}
given = {"X_val": X[:50], "y_val": y[:50], "verbose": 0, "threads": 2}
search.random(build, space, X, y, trials=2, epochs=1, **given)
print("ready", flush=True)
study = search.coarse_to_fine(build, space, X, y, stages=[(6, 10**8), (6, 10**8)], **given)
print(json.dumps({
    "ended": time.time(),
    "reason": study.stop_reason,
    "trials": [(t.stage, t.stop_reason, t.ranked) for t in study],
    "handler": __import__("signal").getsignal(2) is __import__("signal").default_int_handler,
}))
"""


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_ctrl_c_ends_a_search_with_the_trials_so_far():
    pressed, ran = interrupt(INTERRUPTED, 0.5)
    assert (ran.returncode, ran.stderr) == (0, "")
    found = json.loads(ran.stdout.splitlines()[-1])
    assert found["ended"] - pressed < 5
    assert found["reason"] == "interrupted"
    assert found["trials"] == [[0, "interrupted", True]] * 2
    assert found["handler"]


def test_only_the_best_trainers_are_kept():
    study = search.random(build, SPACE, X[:180], Y[:180], trials=6, keep=2, **HELD)
    kept = [t.number for t in study if t.trainer is not None]
    assert sorted(kept) == sorted(t.number for t in study.top(2))


# Grid, and coarse to fine


def test_a_grid_tries_all_combinations():
    space = {"learning_rate": search.log_uniform(1e-4, 1e-2), "width": [4, 8]}
    study = search.grid(build, space, X[:180], Y[:180], points=3, **HELD)
    assert [(t.params["learning_rate"], t.params["width"]) for t in study] == [
        (pytest.approx(r), w) for r in (1e-4, 1e-3, 1e-2) for w in (4, 8)
    ]
    with pytest.raises(ValueError, match="1000000 combinations"):
        search.grid(build, dict.fromkeys("ab", search.uniform(0, 1)), X, Y, points=1000, **HELD)


def test_the_finer_range_spans_the_best_and_a_margin():
    space = {
        "a": search.log_uniform(1e-4, 1),
        "b": search.uniform(0, 10),
        "c": search.choice(["x", "y", "z"]),
        "n": search.integers(1, 9),
    }
    best = [
        Trial(0, 0, {"a": 1e-3, "b": 0.1, "c": "z", "n": 3}, 0),
        Trial(1, 0, {"a": 1e-2, "b": 6.0, "c": "x", "n": 5}, 0),
    ]
    found = narrowed(space, best)
    assert found["a"].low == pytest.approx(10**-3.2) and found["a"].high == pytest.approx(10**-1.8) and found["a"].log
    assert found["b"].low == 0 and found["b"].high == pytest.approx(6.5)
    assert found["c"].values == ("x", "z")
    assert (found["n"].low, found["n"].high) == (3, 5)
    one = narrowed({"n": search.integers(1, 3)}, [Trial(0, 0, {"n": 2}, 0)])["n"]
    assert one.low <= 2 <= one.high


def test_coarse_to_fine():
    study = search.coarse_to_fine(
        build, SPACE, X[:180], Y[:180], X_val=X[180:], y_val=Y[180:], stages=[(12, 2), (6, 4)], verbose=0
    )
    assert [t.stage for t in study] == [0] * 12 + [1] * 6
    assert [len(t.history) for t in study][-1] == 4
    coarse, fine = study.spaces
    assert coarse == SPACE
    best = [t.params["learning_rate"] for t in study.top(5, stage=0)]
    assert fine["learning_rate"].low <= min(best) <= max(best) <= fine["learning_rate"].high
    for trial in study.trials[12:]:
        assert all(fine[k].low <= v <= fine[k].high for k, v in trial.params.items())
    first = search.random(build, SPACE, X[:180], Y[:180], trials=12, **{**HELD, "epochs": 2})
    assert facts(first) == facts(study)[:12]
    again = search.coarse_to_fine(
        build, SPACE, X[:180], Y[:180], X_val=X[180:], y_val=Y[180:], stages=[(12, 2), (6, 4)], verbose=0, threads=1
    )
    assert facts(again) == facts(study)


def test_a_range_that_ends_too_early_is_reported():
    """All rates are far too small, and the best lies at the upper end."""
    given = {**HELD, "epochs": 10, "scoring": "loss", "trials": 30}
    space = {"learning_rate": search.log_uniform(1e-6, 1e-3), "width": [32]}
    study = search.random(build, space, X[:180], Y[:180], **given)
    best = study.best.params["learning_rate"]
    wider = "log_uniform(1e-06, 0.01)"
    assert study.warnings == [f"best learning_rate {best:.3g} lies at the upper edge 0.001: widen it to {wider}"]
    wide = search.random(build, {"learning_rate": search.log_uniform(1e-6, 10)}, X[:180], Y[:180], **given)
    assert wide.warnings == []


# What a study keeps


def test_rows_file_and_table(tmp_path):
    study = search.random(build, SPACE, X[:180], Y[:180], trials=3, **HELD)
    study.trials[1].score = math.nan
    rows = study.rows()
    assert rows[0]["param.width"] == study.trials[0].params["width"] and rows[2]["number"] == 2
    study.save(tmp_path / "study.json")
    read = json.loads((tmp_path / "study.json").read_text())
    assert read["format"] == 1 and read["scoring"] == "accuracy" and len(read["trials"]) == 3
    assert read["trials"][1]["score"] is None
    assert read["trials"][0]["params"] == study.trials[0].params
    assert read["trials"][0]["history"][0][0]["epoch"] == 1
    assert read["spaces"][0]["width"] == "integers(4, 32, log=True)"
    shown = repr(study).splitlines()
    assert shown[0].startswith("3 trials in") and "1 without a score" in shown[0]
    assert shown[1].split() == ["trial", "accuracy", "learning_rate", "width"]
    assert len(shown) == 4


def test_the_best_are_trained_anew_and_vote():
    study = search.random(build, SPACE, X, Y, cv=3, trials=5, epochs=2, verbose=0)
    found = search.ensemble(study, build, X, Y, k=3, epochs=2, batch_size=16)
    assert len(found.models) == 3
    for trial, model in zip(study.top(3), found.models, strict=True):
        alone = build(**trial.params)
        alone.seed = trial.seed
        alone.fit(X, Y, epochs=2, batch_size=16, verbose=0)
        assert np.array_equal(alone.model.predict_proba(X), model.predict_proba(X))
    with pytest.raises(ValueError, match="ensemble: 'k' is 0"):
        search.ensemble(study, build, X, Y, k=0)
    with pytest.raises(TypeError, match="ensemble: 'study' is 3"):
        search.ensemble(3, build, X, Y)
    with pytest.raises(RuntimeError, match="0 trials and none has a score"):
        search.ensemble(Study({}), build, X, Y)


def test_a_frame(monkeypatch):
    """Pandas is not needed to test what it is given."""
    study = search.random(build, SPACE, X[:180], Y[:180], trials=2, **HELD)
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=tuple))
    assert study.to_frame() == tuple(study.rows())
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        study.to_frame()


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"build": 3}, TypeError, "'build' is 3"),
        ({"build": lambda: None}, TypeError, "'build' cannot be called with learning_rate, width"),
        ({"build": lambda **p: "net"}, TypeError, "'build' returned 'net', expected a Trainer"),
        ({"space": {}}, ValueError, "'space' is empty"),
        ({"space": [1]}, TypeError, r"'space' is \[1\]"),
        ({"space": {"width": 3}}, TypeError, r"space\['width'\] is 3"),
        ({"trials": 0}, ValueError, "'trials' is 0"),
        ({"epochs": 1.5}, ValueError, "'epochs' is 1.5"),
        ({"keep": 0}, ValueError, "'keep' is 0"),
        ({"threads": 0}, ValueError, "'threads' is 0"),
        ({"seed": -1}, ValueError, "'seed' is -1"),
        ({"max_seconds": 0}, ValueError, "'max_seconds' is 0"),
        ({"guard": "lectur"}, ValueError, "'guard' is 'lectur'"),
        ({"verbose": 2}, ValueError, "'verbose' is 2"),
        ({"cv": 3}, ValueError, "both of 'X_val' and 'cv'"),
        ({"X_val": None, "y_val": None}, ValueError, "neither of 'X_val' and 'cv'"),
        ({"y_val": None}, ValueError, "'X_val' was given without 'y_val'"),
        ({"X_val": None, "y_val": None, "cv": "five"}, TypeError, "'cv' is 'five'"),
        ({"X_val": None, "y_val": None, "cv": 1}, ValueError, "random: 'cv' is 1 for 180 rows, expected from 2 to 180"),
        (
            {"X_val": None, "y_val": None, "cv": 90},
            ValueError,
            "random: 'cv' is 90, and 'y' has .* one for each of 90 folds",
        ),
        ({"scoring": "acuracy"}, ValueError, "did you mean 'accuracy'"),
        ({"scoring": 3}, TypeError, "'scoring' is 3"),
        ({"trial": 3}, TypeError, "unknown keyword 'trial', did you mean 'trials'"),
    ],
)
def test_bad_arguments_are_named_before_anything_is_trained(change, error, words):
    arguments = {"build": build, "space": SPACE, "X": X[:180], "y": Y[:180], "trials": 2, **HELD, **change}
    with pytest.raises(error, match=words):
        search.random(**arguments)


def test_a_model_may_be_used_once():
    trainer = build()
    with pytest.raises(ValueError, match="'build' returned the same model twice, for the trials 0 and 1"):
        search.random(lambda width: trainer, {"width": [4]}, X, Y, trials=2, **HELD)


@pytest.mark.parametrize("stages", [3, [3], [(3, 0)], [], [(1.5, 2)]])
def test_bad_stages_are_named(stages):
    with pytest.raises((TypeError, ValueError), match="coarse_to_fine: '?stages"):
        search.coarse_to_fine(build, SPACE, X, Y, X_val=X, y_val=Y, stages=stages, verbose=0)


def test_top_wants_a_number():
    with pytest.raises(ValueError, match="top: 'k' is 0"):
        Study({}).top(0)
