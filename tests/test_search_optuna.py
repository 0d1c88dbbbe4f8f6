"""Searches by Optuna: the seed fixes them, whatever runs beside what, before or elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import pyfastnn as fnn
from pyfastnn import nn, optim, search
from pyfastnn.search import ledger, with_optuna

optuna = pytest.importorskip("optuna", reason="the extra 'search' is not installed")

RNG = np.random.default_rng(11)
CENTERS = 2 * RNG.standard_normal((3, 8))
Y = RNG.integers(0, 3, 240)
X = (CENTERS[Y] + RNG.standard_normal((240, 8))).astype(np.float32)
SPACE = {
    "learning_rate": search.log_uniform(1e-5, 1e-1),
    "width": search.integers(4, 32, log=True),
    "act": [nn.ReLU, nn.Tanh],
}
HELD = {"X_val": X[180:], "y_val": Y[180:], "epochs": 3, "verbose": 0, "round_size": 4}


def build(learning_rate=1e-2, width=8, act=nn.ReLU):
    model = nn.Sequential(nn.Linear(width), act(), nn.Dropout(0.1), nn.Linear(3))
    return fnn.Trainer(model, optimizer=optim.SGD(learning_rate, momentum=0.9))


def facts(study):
    """What must be the same bits."""
    return [
        (
            t.number,
            t.params,
            t.seed,
            t.score,
            t.scores,
            t.stop_reason,
            t.error,
            [h["loss"] for h in t.histories if h.rows],
        )
        for t in study
    ]


def found(**given):
    return search.optuna(build, SPACE, X[:180], Y[:180], **{**HELD, "trials": 12, **given})


@pytest.fixture(scope="module")
def plain():
    return found()


def test_results_do_not_depend_on_how_many_run_at_once(plain):
    assert len(plain) == 12 and plain.stop_reason == "finished"
    assert facts(found(threads=1)) == facts(plain) == facts(found(threads=5))
    assert len({t.seed for t in plain}) == 12
    assert {t.params["act"] for t in plain} == {nn.ReLU, nn.Tanh}
    assert all(t.params["width"] in range(4, 33) and 1e-5 <= t.params["learning_rate"] <= 1e-1 for t in plain)


def test_the_study_is_that_of_every_search(plain):
    assert (plain.scoring, plain.maximize) == ("accuracy", True)
    assert plain.best.trainer.evaluate(X[180:], Y[180:])["accuracy"] == plain.best.score
    assert len(search.ensemble(plain, build, X, Y, k=2, epochs=1).models) == 2
    assert plain.spaces == [search.spaces.checked_space("", SPACE)]


def test_a_longer_search_begins_with_the_trials_of_a_shorter_one(plain):
    assert facts(found(trials=6)) == facts(plain)[:6]
    assert facts(found(seed=1))[0] != facts(plain)[0]


def test_a_trial_is_the_fit_of_its_parameters_and_seed(plain):
    trial = plain.trials[7]
    alone = build(**trial.params)
    alone.seed, alone.guard = trial.seed, "lecture"
    alone.fit(X[:180], Y[:180], X_val=X[180:], y_val=Y[180:], epochs=3, verbose=0)
    assert alone.history["loss"] == trial.history["loss"]
    assert alone.evaluate(X[180:], Y[180:])["accuracy"] == trial.score


def test_later_rounds_follow_from_the_scores():
    """The same seed and other scores: the startup trials of TPE are the same, those after them are not."""

    def study(sign):
        def score(trainer, X, y):
            return sign * np.log(trainer.optimizer.learning_rate)

        space = {"learning_rate": SPACE["learning_rate"], "width": [8]}
        given = {**HELD, "epochs": 1, "trials": 40}
        return [
            t.params["learning_rate"] for t in search.optuna(build, space, X[:180], Y[:180], scoring=score, **given)
        ]

    high, low = study(1), study(-1)
    assert high[:12] == low[:12]
    assert np.median(high[28:]) > 10 * np.median(high[:12]) and np.median(low[28:]) < np.median(low[:12]) / 10


def test_quasi_random_points_are_spread_evenly():
    pytest.importorskip("scipy", reason="the extra 'search' is not installed")
    space = {"learning_rate": search.log_uniform(1e-4, 1e-2), "width": [8]}
    study = search.optuna(build, space, X[:180], Y[:180], **{**HELD, "sampler": "qmc", "trials": 16, "epochs": 1})
    places = np.array([space["learning_rate"].position(t.params["learning_rate"]) for t in study])
    for count in (4, 8, 16):  # one of the first 2**k points of a Sobol sequence in each interval of width 2**-k
        assert sorted(np.floor(places[:count] * count)) == list(range(count))


def test_any_sampler_of_optuna():
    seeds = []

    def sampler(seed):
        seeds.append(seed)
        return optuna.samplers.RandomSampler(seed)

    study = found(sampler=sampler, trials=5)
    assert len(seeds) == 1 and 0 < seeds[0] < 2**32
    assert facts(found(sampler=sampler, trials=5)) == facts(study)


# Pruning


@pytest.mark.parametrize("pruner", ["median", "successive_halving", "hyperband"])
def test_pruned_trials_are_shorter_and_follow_from_the_seed(pruner, tmp_path):
    given = {"pruner": pruner, "trials": 20, "epochs": 4}
    study = found(**given)
    pruned = [t for t in study if t.stop_reason == "pruned"]
    assert all(len(t.history) < 4 and t.ranked for t in pruned)
    assert all(t.score == t.history["val_accuracy"][-1] for t in study if t.history.rows)
    assert pruned or pruner == "hyperband"
    assert not any(t.stop_reason == "pruned" for t in study.trials[:4]) or pruner != "median"
    for threads in (1, 7):
        assert facts(found(**given, threads=threads)) == facts(study)
    path = tmp_path / "journal"
    found(**{**given, "trials": 9}, storage=path)
    assert facts(found(**given, storage=path)) == facts(study)


def test_a_pruner_of_optuna_and_a_function_that_judges():
    def share(trainer, X, y):
        return trainer.evaluate(X, y)["accuracy"]

    pruner = optuna.pruners.ThresholdPruner(lower=2.0)
    study = found(pruner=pruner, scoring=share, trials=4)
    assert [t.stop_reason for t in study] == ["pruned"] * 4
    assert all(t.history["val_share"] == [t.score] for t in study)


# Storages


def test_a_search_goes_on_from_its_journal(plain, tmp_path):
    path = tmp_path / "deep" / "search.log"
    assert facts(found(storage=path, trials=5)) == facts(plain)[:5]
    calls = []

    def counted(**params):
        calls.append(params)
        return build(**params)

    given = {**HELD, "trials": 12, "storage": str(path)}
    study = search.optuna(counted, SPACE, X[:180], Y[:180], **given)
    assert facts(study) == facts(plain)
    assert len(calls) == 7 + 1
    assert all(trial.trainer is not None for trial in study.trials[5:] if trial in study.top(10))
    assert [t.trainer is None for t in study.trials[:5]] == [True] * 5
    assert study.trials[0].history["val_loss"] == plain.trials[0].history["val_loss"]
    again = search.optuna(counted, SPACE, X[:180], Y[:180], **given)
    assert facts(again) == facts(plain) and len(calls) == 9
    assert all(trial.trainer is None for trial in again)


def test_optuna_reads_the_study(plain, tmp_path):
    path = tmp_path / "search.log"
    found(storage=path, name="small")
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
    study = optuna.load_study(study_name="small", storage=storage)
    assert study.best_value == plain.best.score
    assert study.direction.name == "MAXIMIZE"
    for trial, known in zip(study.trials, plain, strict=True):
        assert trial.params["learning_rate"] == known.params["learning_rate"]
        assert list(trial.intermediate_values.values()) == known.history["val_accuracy"]


def test_a_database(plain, tmp_path):
    url = f"sqlite:///{tmp_path / 'search.db'}"
    found(storage=url, trials=3)
    assert facts(found(storage=url)) == facts(plain)


def test_failed_trials_and_folds_are_kept(tmp_path):
    def sometimes(learning_rate, width, act):
        if width < 8:
            raise OSError("too narrow")
        return build(learning_rate, width, act)

    given = {"trials": 8, "verbose": 0, "epochs": 1, "cv": 3, "round_size": 4}
    alone = search.optuna(sometimes, SPACE, X, Y, **given)
    assert {t.stop_reason for t in alone} == {"failed", "finished"}
    for _ in range(2):
        study = search.optuna(sometimes, SPACE, X, Y, **given, storage=tmp_path / "journal")
        assert repr(facts(study)) == repr(facts(alone))  # NaN is not NaN
    assert {t.error for t in study} == {"", "OSError: too narrow"}


def test_values_that_look_alike_stay_apart():
    space = {"learning_rate": search.choice([1, "1", 1.0]), "width": [8, None]}
    seen = []

    def named(learning_rate, width):
        seen.append((learning_rate, width))
        return build()

    search.optuna(named, space, X[:180], Y[:180], **HELD, trials=20)
    assert {type(a) for a, _ in seen} == {int, str, float}
    assert {b for _, b in seen} == {8, None}


DIES = """
import os, sys
sys.path.insert(0, {folder!r})
from test_search_optuna import build, SPACE, X, Y, HELD, search
count = 0
def score(trainer, X, y):
    global count
    count += 1
    if count == {at}:
        os._exit(7)
    return trainer.evaluate(X, y)["accuracy"]
search.optuna(build, SPACE, X[:180], Y[:180], **{{**HELD, "trials": 12, "threads": 1}}, scoring=score, storage={path!r})
"""


@pytest.mark.parametrize("at", [2, 7])
def test_a_search_that_was_killed_goes_on(at, tmp_path):
    def score(trainer, X, y):
        return trainer.evaluate(X, y)["accuracy"]

    path = str(tmp_path / "journal")
    script = DIES.format(folder=os.path.dirname(__file__), at=at, path=path)
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=300).returncode == 7
    assert facts(found(scoring=score, storage=path)) == facts(found(scoring=score))


HOLDS = """
import os, sys
sys.path.insert(0, {folder!r})
from test_search_optuna import found
os.fsync = lambda descriptor: os._exit(7)  # while the journal is locked
os.chdir({cwd!r})
found(storage={path!r})
"""


def test_the_lock_of_a_process_that_was_killed_is_broken(plain, tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    path = os.path.join("runs", "search.log")  # relative, in a folder below: a link of this name leads nowhere
    script = HOLDS.format(folder=os.path.dirname(os.path.abspath(__file__)), path=path, cwd=str(tmp_path))
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=300).returncode == 7
    monkeypatch.chdir(tmp_path)
    assert os.path.lexists(path + ".lock")
    monkeypatch.setattr(ledger, "STALE", 3)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        assert facts(found(storage=path)) == facts(plain)
    finally:
        optuna.logging.set_verbosity(optuna.logging.INFO)


def test_one_look_into_the_storage_serves_all_trials(monkeypatch):
    class Storage:
        looks, done = 0, ()

        def look(self):
            self.looks, self.done = self.looks + 1, (3, 4)

        def ended(self, number):
            return number in self.done

    class Never:
        prunes = False

    storage, now = Storage(), [100.0]
    monkeypatch.setattr(with_optuna.time, "monotonic", lambda: now[0])
    judge = with_optuna._Judge(None, None, Never(), storage, 0, 9, True)
    trials = [search.Trial(number, 0, {}, 0) for number in (3, 4, 5)]
    assert [judge.epoch(trial, None, {"epoch": 1}) for trial in trials] == [True, True, False]
    assert storage.looks == 1
    now[0] += 1
    assert not judge.epoch(trials[2], None, {"epoch": 2}) and storage.looks == 2
    assert not judge.epoch(trials[0], None, {"epoch": 9})  # the last one: it has ended here too


SHARES = """
import json, sys
sys.path.insert(0, {folder!r})
from test_search_optuna import found
study = found(storage={path!r}, trials=24, epochs=20, keep=24, pruner={pruner!r}, threads=2)
print(json.dumps([[t.number, t.seed, t.score, t.stop_reason, t.trainer is not None] for t in study]))
"""


@pytest.mark.parametrize("pruner", [None, "median"])
def test_processes_share_a_study(pruner, tmp_path):
    script = SHARES.format(folder=os.path.dirname(__file__), path=str(tmp_path / "journal"), pruner=pruner)
    processes = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    ended = [process.communicate(timeout=300) for process in processes]
    assert [err for _, err in ended] == ["", ""]
    one, other = (json.loads(out) for out, _ in ended)
    alone = [[t.number, t.seed, t.score, t.stop_reason] for t in found(trials=24, epochs=20, pruner=pruner)]
    assert [row[:4] for row in one] == [row[:4] for row in other] == alone
    assert all(a[4] or b[4] for a, b in zip(one, other, strict=True))


# Edges, and what does not fit


def test_a_range_that_ends_too_early_is_reported():
    space = {"learning_rate": search.log_uniform(1e-6, 1e-3), "width": [32]}
    given = {**HELD, "epochs": 10, "scoring": "loss", "trials": 32, "sampler": "qmc"}
    pytest.importorskip("scipy", reason="the extra 'search' is not installed")
    study = search.optuna(build, space, X[:180], Y[:180], **given)
    assert not study.maximize
    best = study.best.params["learning_rate"]
    wider = "log_uniform(1e-06, 0.01)"
    assert study.warnings == [f"best learning_rate {best:.3g} lies at the upper edge 0.001: widen it to {wider}"]


def test_lines_count_through_the_rounds(capsys):
    study = found(trials=5, verbose=1, threads=3)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" (")[1] for line in lines[:5]] == [f"{k} / 5)" for k in range(1, 6)]
    assert lines[5:] == [f"warning: {text}" for text in study.warnings]


def test_time_is_limited_and_the_rest_is_done_later(plain, tmp_path):
    path = tmp_path / "journal"
    cut = found(storage=path, max_seconds=1e-9)
    assert cut.stop_reason == "max_seconds" and len(cut) == 1
    assert facts(found(storage=path)) == facts(plain)


def test_optuna_says_nothing_of_its_own(capfd):
    found(trials=2)
    assert capfd.readouterr() == ("", "")
    assert optuna.logging.get_verbosity() == optuna.logging.INFO


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"sampler": "tpee"}, ValueError, "did you mean 'tpe'"),
        ({"sampler": 3}, TypeError, "'sampler' is 3"),
        ({"sampler": lambda seed: seed}, TypeError, "'sampler' returned"),
        ({"pruner": "medium"}, ValueError, "did you mean 'median'"),
        ({"pruner": 3}, TypeError, "'pruner' is 3"),
        ({"pruner": "median", "cv": 3, "X_val": None, "y_val": None}, ValueError, "not for cv="),
        ({"round_size": 0}, ValueError, "'round_size' is 0"),
        ({"trials": 0}, ValueError, "'trials' is 0"),
        ({"storage": 3}, TypeError, "'storage' is 3"),
        ({"storage": "x", "name": 3}, TypeError, "'name' is 3"),
        ({"scoring": "acuracy"}, ValueError, "did you mean 'accuracy'"),
        ({"samplr": "tpe"}, TypeError, "did you mean 'sampler'"),
    ],
)
def test_bad_arguments_are_named(change, error, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=words):
        found(**change)


def test_a_study_of_other_settings_is_refused(tmp_path):
    path = tmp_path / "journal"
    found(storage=path, trials=2)
    for change, words in (({"epochs": 2}, "epochs 3, now it is 2"), ({"seed": 5}, "seed 0, now it is 5")):
        with pytest.raises(ValueError, match=words):
            found(storage=path, trials=2, **change)
    with pytest.raises(ValueError, match="is to maximize its value"):
        found(storage=path, trials=2, scoring="loss")
    found(storage=path, trials=2, scoring="loss", name="other")


def test_a_study_of_other_rows_is_refused(tmp_path):
    path = tmp_path / "journal"
    found(storage=path, trials=2)
    held = {"storage": path, **HELD, "trials": 2}
    folds = {**held, "X_val": None, "y_val": None}
    flipped = Y[:180].copy()
    flipped[7] = (flipped[7] + 1) % 3
    for x, y, given, words in (
        (X[:170], Y[:170], held, "made with rows '180x8"),
        (3 * X[:180], Y[:180], held, "made with rows"),
        (X[:180], flipped, held, "made with rows"),
        (
            X[:180],
            Y[:180],
            {**held, "X_val": X[190:], "y_val": Y[190:]},
            "made with validation_rows '60x8 .* now it is '50x8",
        ),
        (X[:180], Y[:180], {**folds, "cv": 3}, "made with cv None, now it is '3'"),
        (X[:180], Y[:180], {**folds, "cv": [(np.arange(90), np.arange(90, 180))]}, "now it is 'pairs of rows"),
    ):
        with pytest.raises(ValueError, match=words):
            search.optuna(build, SPACE, x, y, **given)
    # The same numbers in other hands are the same rows.
    again = search.optuna(build, SPACE, X[:180].tolist(), Y[:180].astype(np.int16), **held)
    assert len(again) == 2


def test_what_is_no_journal_is_named(tmp_path):
    (tmp_path / "notes.log").write_text("these are\nmy notes\n")
    with pytest.raises(ValueError, match="notes.log', which is no journal of Optuna"):
        found(storage=tmp_path / "notes.log")
    with pytest.raises(ValueError, match="'storage' is .*, which is a folder"):
        found(storage=tmp_path)


def test_a_study_of_others_is_refused(tmp_path):
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(tmp_path / "journal")))
    study = optuna.create_study(study_name="search", storage=storage, direction="maximize")
    study.tell(study.ask(), 1.0)
    with pytest.raises(ValueError, match="not made by search.optuna"):
        found(storage=storage, trials=2)
