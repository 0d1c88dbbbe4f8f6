"""``pyfastnn search``: what it finds, what it writes, and one line for bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_cli import refused, run, write_table

import pyfastnn as fnn

assert run  # a fixture

SMALL = ("--hidden", "4", "--batch-size", "16", "--epochs", "2")


def test_search_finds_and_writes(run, tmp_path: Path):
    table = write_table(tmp_path / "t.csv", rows=200)
    status, out, err = run("search", table, *SMALL, "--trials", 6, "--save", "m.safetensors", "--study", "s.json")
    assert (status, err) == (0, "")
    lines = [line for line in out.splitlines() if line.startswith("val_acc: ")]
    assert [line.rpartition(", ")[2] for line in lines] == [f"({k} / 6)" for k in range(1, 7)]
    scores = [float(line.split()[1].rstrip(",")) for line in lines]
    assert f"validation accuracy {max(scores):.4f}" in out
    assert "best of 6 trials: learning_rate " in out
    assert len(json.loads(Path("s.json").read_text())["trials"]) == 6
    assert fnn.load("m.safetensors").predict([[0.0, 0.0, 0.0]]).shape == (1,)
    again = run("search", table, *SMALL, "--trials", 6, "--threads", 1)[1]
    assert [line for line in again.splitlines() if line.startswith("val_acc: ")] == lines


def test_search_in_stages_for_values(run, tmp_path: Path):
    table = write_table(tmp_path / "t.csv", rows=120)
    status, out, _ = run(
        "search", table, *SMALL, "--stages", "7x1,3x2", "--task", "regression", "--target", "a", "--verbose", 0
    )
    assert status == 0
    assert out.startswith("best of 10 trials: ") and "validation mean squared error" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--learning-rate", "1"), "'1' is no range such as 1e-5,1e-1"),
        (("--weight-decay", "0,1"), "'0,1' is no range"),
        (("--stages", "3,4"), "'3,4' is no list of trials and epochs"),
        (("--validation", "0"), "trials need rows to be judged by"),
        (("--trails", "3"), "did you mean --trials"),
        (("--save", "nowhere/m"), "there is no folder 'nowhere'"),
    ],
)
def test_bad_options(run, tmp_path: Path, arguments, words):
    table = write_table(tmp_path / "t.csv")
    assert words in refused(run("search", table, *arguments))


def test_trials_are_written_down(run, tmp_path: Path):
    table = write_table(tmp_path / "t.csv")
    arguments = ("search", table, *SMALL, "--trials", 2, "--verbose", 0, "--run-dir", "runs")
    assert run(*arguments)[0] == 0
    assert sorted(path.name for path in Path("runs").iterdir()) == ["trial_0000", "trial_0001"]
    assert "name another folder" in refused(run(*arguments))


def test_time_is_limited(run, tmp_path: Path):
    table = write_table(tmp_path / "t.csv")
    status, out, _ = run("search", table, *SMALL, "--trials", 4, "--max-seconds", "1e-9", "--verbose", 0)
    assert status == 0 and out.startswith("best of 1 of 4 trials (the time is over): learning_rate ")


def test_small_data_have_small_batches_as_in_train(run, tmp_path: Path):
    """A rate that was found with two steps an epoch would say nothing about training with twenty."""
    table = write_table(tmp_path / "t.csv", rows=300)  # a fifth of them held out
    arguments = ("search", table, "--hidden", "4", "--epochs", "1", "--trials", 1, "--verbose", 0)
    assert run(*arguments, "--run-dir", "runs")[0] == 0
    found = json.loads(Path("runs/trial_0000/config.json").read_text())["fit"]
    assert (found["batch_size"], found["steps_per_epoch"]) == (12, 20)
    assert run("train", table, "--epochs", 1, "--run-dir", "alone")[0] == 0
    assert json.loads(Path("alone/config.json").read_text())["fit"]["batch_size"] == 12
