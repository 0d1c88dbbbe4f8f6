"""A search that is written down: a folder for each trial."""

from __future__ import annotations

import json

import pytest
from test_search import HELD, SPACE, X, Y, build, facts

from pyfastnn import search
from pyfastnn.report import read_run


def config(folder):
    return json.loads((folder / "config.json").read_text())


def test_every_trial_has_a_folder(tmp_path):
    base = tmp_path / "runs" / "coarse"
    study = search.random(build, SPACE, X[:180], Y[:180], trials=4, seed=3, run_dir=base, **HELD)
    assert facts(study) == facts(search.random(build, SPACE, X[:180], Y[:180], trials=4, seed=3, **HELD))
    assert sorted(p.name for p in base.iterdir()) == [f"trial_{k:04d}" for k in range(4)]
    for trial in study:
        folder = base / f"trial_{trial.number:04d}"
        assert trial.run_dir == str(folder)
        found = config(folder)
        assert found["params"] == trial.params
        assert found["space"] == {name: str(part) for name, part in SPACE.items()}
        assert found["seed"] == trial.seed
        assert len(read_run(folder).rows) == len(trial.history)
    study.save(tmp_path / "study.json")
    saved = json.loads((tmp_path / "study.json").read_text())
    assert [t["run_dir"] for t in saved["trials"]] == [t.run_dir for t in study]


def test_folds_and_stages_count_on(tmp_path):
    study = search.coarse_to_fine(build, SPACE, X, Y, cv=2, stages=[(5, 1), (2, 1)], verbose=0, run_dir=tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"trial_{k:04d}" for k in range(7)]
    assert all(
        (tmp_path / f"trial_{k:04d}" / f"fold_{f}" / "history.jsonl").is_file() for k in range(7) for f in (0, 1)
    )
    last = config(tmp_path / "trial_0006" / "fold_1")
    assert last["space"] == {name: str(part) for name, part in study.spaces[1].items()}


def test_a_folder_of_another_search_is_refused(tmp_path):
    given = {"trials": 1, "run_dir": tmp_path, **HELD}
    search.random(build, SPACE, X[:180], Y[:180], **given)
    with pytest.raises(ValueError, match="has 'trial_0000' already"):
        search.random(build, SPACE, X[:180], Y[:180], **given)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="which is a file"):
        search.random(build, SPACE, X[:180], Y[:180], **{**given, "run_dir": tmp_path / "file"})
    with pytest.raises(TypeError, match="'run_dir' is 3"):
        search.random(build, SPACE, X[:180], Y[:180], **{**given, "run_dir": 3})


@pytest.mark.parametrize("threads", [1, 3])
def test_a_folder_that_cannot_be_made_ends_the_search(tmp_path, threads):
    (tmp_path / "file").write_text("")
    given = {**HELD, "trials": 6, "run_dir": tmp_path / "file" / "runs", "threads": threads}
    with pytest.raises(OSError, match="file"):
        search.random(build, SPACE, X[:180], Y[:180], **given)


def test_trials_in_other_processes_are_written_down(tmp_path):
    pytest.importorskip("joblib", reason="the extra 'cluster' is not installed")
    study = search.random(
        build, SPACE, X[:180], Y[:180], trials=3, run_dir=tmp_path, parallel="joblib", threads=1, **HELD
    )
    assert [len(read_run(t.run_dir).rows) for t in study] == [len(t.history) for t in study]


def test_what_never_began_leaves_no_folder(tmp_path):
    given = {**HELD, "epochs": 10**6}
    study = search.random(
        build, SPACE, X[:180], Y[:180], trials=6, max_seconds=0.2, threads=1, run_dir=tmp_path / "late", **given
    )
    assert len(study) < 6
    assert len(list((tmp_path / "late").iterdir())) == len(study)


def test_a_resumed_search_keeps_its_folders(tmp_path):
    pytest.importorskip("optuna", reason="the extra 'search' is not installed")
    given = {**HELD, "run_dir": tmp_path / "runs", "storage": tmp_path / "journal"}
    first = search.optuna(build, SPACE, X[:180], Y[:180], trials=2, **given)
    both = search.optuna(build, SPACE, X[:180], Y[:180], trials=4, **given)
    assert [t.run_dir for t in both.trials[:2]] == [t.run_dir for t in first]
    assert len(list((tmp_path / "runs").iterdir())) == 4
    assert config(tmp_path / "runs" / "trial_0003")["params"] == both.trials[3].params
