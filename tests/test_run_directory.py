"""Run folders: what a fit writes, what is read back, and who may go on where."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

import pyfastnn as fnn
from pyfastnn import nn, optim
from pyfastnn.diagnose import Monitor, TrainingWarning
from pyfastnn.report import find_runs, read_run
from pyfastnn.testing import rng_of
from pyfastnn.train import run_directory
from pyfastnn.train.run_directory import RunDirectory


def data(rows: int = 120):
    rng = rng_of("run_directory")
    X = rng.standard_normal((rows, 6)).astype("f4")
    return X, (X[:, 0] + X[:, 1] > 0).astype(int)


def make(seed: int = 0, **settings) -> fnn.Trainer:
    model = nn.Sequential(nn.Linear(8), nn.ReLU(), nn.Linear(2))
    return fnn.Trainer(model, seed=seed, **{"monitor": Monitor(every=4), **settings})


def fit(trainer: fnn.Trainer, folder, epochs: int = 3, **settings) -> fnn.Trainer:
    X, y = data()
    trainer.fit(X, y, X_val=X[:40], y_val=y[:40], epochs=epochs, verbose=0, run_dir=folder, **settings)
    return trainer


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


def kinds(folder: Path) -> list[str]:
    return [line["kind"] for line in lines(folder)]


def test_what_is_written(tmp_path):
    """The folders on the way are made; the configuration says what the run is made of, in words of JSON alone."""
    folder = tmp_path / "runs" / "a"
    trainer = fit(make(optimizer=optim.Adam(optim.Cosine(0.01, epochs=3), weight_decay=0.1), seed=7), folder)
    config = json.loads((folder / "config.json").read_text())
    assert config["format"] == run_directory.FORMAT
    assert config["model"][0] == {
        "layer": "linear_1",
        "settings": repr(trainer.model.layers["linear_1"]),
        "output": [8],
        "parameters": 56,
        "frozen": False,
    }
    (head,) = trainer.heads
    assert config["loss"] == {head.output: {"kind": "softmax_cross_entropy", **head.loss.config()}}
    assert config["optimizer"]["kind"] == "adam"
    assert config["optimizer"]["weight_decay"] == 0.1
    assert config["optimizer"]["learning_rate"] == trainer.optimizer.config()["learning_rate"]
    assert config["seed"] == 7
    wanted = {"after_epoch": 0, "epochs": 3, "batch_size": 32, "rows": 120, "steps_per_epoch": 4, "validation_rows": 40}
    assert wanted.items() <= config["fit"].items()
    assert config["versions"]["pyfastnn"] == fnn.__version__
    assert config["params"] == {}
    assert kinds(folder) == ["statistics", "epoch"] * 3 + ["end"]
    last = lines(folder)[-1]
    assert (last["reason"], last["epoch"], last["step"]) == ("finished", 3, 12)
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "history.jsonl"]


def test_read_back(tmp_path):
    trainer = fit(make(), tmp_path / "a")
    run = read_run(tmp_path / "a")
    assert run.rows == trainer.history.rows
    assert run.statistics == list(trainer.history.statistics)
    assert run.verdicts == trainer.history.verdicts
    assert (run.status, run.running, run.error, run.params) == ("finished", False, "", {})
    assert "3 epochs, finished" in repr(run)


def test_training_is_the_same_with_and_without(tmp_path):
    with_folder, without = fit(make(), tmp_path / "a"), fit(make(), None)
    for name, array in with_folder.model.arrays().items():
        assert array.tobytes() == without.model.arrays()[name].tobytes()


def test_flushed_behind_every_epoch(tmp_path):
    """A callback finds its own epoch on the disk, and the run running."""
    seen = []

    def look(trainer, row):
        run = read_run(tmp_path / "a")
        seen.append((len(run.rows), run.status))
        assert run.rows[-1] == row

    fit(make(), tmp_path / "a", callbacks=[look])
    assert seen == [(1, "running"), (2, "running"), (3, "running")]


def test_a_run_goes_on_in_its_folder(tmp_path):
    """Two fits leave what one does: one end, all rows once."""
    trainer = fit(fit(make(), tmp_path / "a", epochs=2), tmp_path / "a", epochs=2)
    assert kinds(tmp_path / "a") == ["statistics", "epoch"] * 4 + ["end"]
    run = read_run(tmp_path / "a")
    assert run.rows == trainer.history.rows
    assert run.config["fit"]["after_epoch"] == 2
    assert [row["loss"] for row in run.rows] == fit(make(), None, epochs=4).history["loss"]


def test_a_resumed_trainer_goes_on(tmp_path):
    """What was written after the checkpoint is written anew, and is the same but for times."""
    first = fit(make(), tmp_path / "a", epochs=2)
    first.checkpoint(tmp_path / "c")
    fit(first, tmp_path / "a", epochs=2)
    before = read_run(tmp_path / "a")
    begun = before.config["begun"]
    fit(fnn.Trainer.resume(tmp_path / "c"), tmp_path / "a", epochs=3)
    run = read_run(tmp_path / "a")
    assert [row["epoch"] for row in run.rows] == [1, 2, 3, 4, 5]
    assert [row["loss"] for row in run.rows[:4]] == [row["loss"] for row in before.rows]
    assert run.rows[:2] == before.rows[:2]
    assert [row["step"] for row in run.statistics] == [4, 8, 12, 16, 20]
    assert run.config["begun"] == begun
    assert kinds(tmp_path / "a").count("end") == 1


def test_a_trainer_brings_what_it_did_before(tmp_path):
    trainer = fit(make(), None, epochs=2)
    fit(trainer, tmp_path / "a", epochs=1)
    run = read_run(tmp_path / "a")
    assert run.rows == trainer.history.rows
    assert run.statistics == list(trainer.history.statistics)


@pytest.mark.parametrize("other", ["fresh", "trained", "reset"])
def test_another_run_is_refused(tmp_path, other):
    """Nothing is written, and nothing trained."""
    trainer = fit(make(), tmp_path / "a", epochs=2)
    content = {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir()}
    if other == "reset":
        trainer.reset()
    else:
        trainer = make(seed=1)
        if other == "trained":
            fit(trainer, None, epochs=2)
    epoch = trainer.epoch
    with pytest.raises(ValueError, match="holds another run: that one goes on with the trainer that made it"):
        fit(trainer, tmp_path / "a")
    assert trainer.epoch == epoch
    assert {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir()} == content


def test_a_run_without_epochs_is_in_nobodys_way(tmp_path):
    """Data that are refused after the first look leave a folder without epochs; the same command mended may use it."""
    X, y = data()
    X[5, 2] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        make().fit(X, y, run_dir=tmp_path / "a", verbose=0)
    run = read_run(tmp_path / "a")
    assert run.status == "failed"
    assert run.error.startswith("ValueError: 'X' holds 1 NaN")
    fit(make(seed=3), tmp_path / "a")
    run = read_run(tmp_path / "a")
    assert (run.status, len(run.rows), run.config["seed"]) == ("finished", 3, 3)


def test_other_files_stay(tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    fit(make(), tmp_path)
    assert (tmp_path / "note.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"config.json": "{}"}, "is not that of a run of pyfastnn"),
        ({"config.json": "[1]"}, "is not that of a run of pyfastnn"),
        ({"config.json": "{"}, "is damaged"),
        ({"config.json": '{"format": 99}'}, "format 99, written by a later version"),
        ({"history.jsonl": '{"kind": "epoch", "epoch": 1}\n'}, "has a history.jsonl and no config.json"),
        ({"config.json": '{"format": 1}', "history.jsonl": 'x\n{"kind": "end"}\n'}, "line 1, is damaged"),
    ],
)
def test_what_is_no_run_is_refused(tmp_path, files, message):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        fit(make(), tmp_path)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == files


def test_wrong_arguments(tmp_path):
    with pytest.raises(TypeError, match="'run_dir' is 3, expected the path of a folder"):
        fit(make(), 3)
    with pytest.raises(TypeError, match="RunDirectory: 'params' is 3, expected a dict"):
        RunDirectory("a", params=3)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="which is a file, expected a folder"):
        fit(make(), tmp_path / "file")


def test_params_of_a_trial(tmp_path):
    """A search says what it has drawn, and from what; a later fit that does not say keeps it."""
    space = {"learning_rate": fnn.search.log_uniform(1e-5, 0.1)}
    directory = RunDirectory(tmp_path / "a", params={"learning_rate": np.float32(0.5), "act": nn.ReLU}, space=space)
    trainer = fit(make(), directory)
    run = read_run(tmp_path / "a")
    assert run.params == {"learning_rate": 0.5, "act": str(nn.ReLU)}
    assert run.config["space"] == {"learning_rate": "log_uniform(1e-05, 0.1)"}
    fit(trainer, tmp_path / "a")
    assert read_run(tmp_path / "a").params == run.params


def test_numbers_that_are_not_finite(tmp_path):
    """They are null in the file, which any reader of JSON takes, and NaN after it."""
    trainer = make(guard=None, optimizer=optim.SGD(1e30), monitor=Monitor(every=1, silence="exploding"))
    with np.errstate(all="ignore"):
        fit(trainer, tmp_path / "a")

    def refuse(name: str) -> None:
        raise AssertionError(name)

    for line in (tmp_path / "a" / "history.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=refuse)
    run = read_run(tmp_path / "a")
    assert math.isnan(run.rows[-1]["loss"])
    assert len(run.statistics) == 12
    assert any(
        math.isnan(layer["weight_norm"]) for layer in run.statistics[-1]["layers"].values() if "weight_norm" in layer
    )
    fit(trainer, tmp_path / "a")
    assert len(read_run(tmp_path / "a").rows) == 6


def test_verdicts_and_a_stop_of_the_guard(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrainingWarning)
        trainer = fit(make(optimizer=optim.SGD(1e30)), tmp_path / "a")
    run = read_run(tmp_path / "a")
    assert run.status == "nonfinite"
    assert [verdict.kind for verdict in run.verdicts] == ["exploding"]
    assert str(run.verdicts[0]) == str(trainer.history.verdicts[0])


def test_a_callback_that_raises(tmp_path):
    def fail(trainer, row):
        raise KeyError("lost")

    with pytest.raises(KeyError):
        fit(make(), tmp_path / "a", callbacks=[fail])
    run = read_run(tmp_path / "a")
    assert (run.status, run.error, len(run.rows)) == ("failed", "KeyError: 'lost'", 1)


def test_two_fits_in_one_folder(tmp_path, monkeypatch):
    """The second is refused while the first one runs."""
    monkeypatch.setattr(run_directory, "_PATIENCE", 0.05)
    refused = []

    def second(trainer, row):
        if trainer.epoch == 1:
            other = make()
            other.history.rows, other.epoch, other.step_count = list(trainer.history.rows), 1, 4
            with pytest.raises(ValueError, match="where another fit is writing"):
                fit(other, tmp_path / "a")
            refused.append(True)

    fit(make(), tmp_path / "a", callbacks=[second])
    assert refused == [True]
    assert read_run(tmp_path / "a").status == "finished"


KILLED = """
import os, signal, sys, numpy as np, pyfastnn as fnn
from pyfastnn import nn
rng = np.random.default_rng(0)
X = rng.standard_normal((64, 4)).astype("f4")
def stop(trainer, row):
    if trainer.epoch == 2:
        trainer.checkpoint(sys.argv[2])
    if trainer.epoch == 3:
        os.kill(os.getpid(), signal.SIGKILL)
model = nn.Sequential(nn.Linear(4), nn.ReLU(), nn.Linear(2))
fnn.Trainer(model).fit(X, X[:, 0] > 0, epochs=9, run_dir=sys.argv[1], callbacks=[stop], verbose=0)
"""


def test_a_killed_run(tmp_path):
    """It is read as far as it came, also where it was cut in the midst of a line, and goes on from its checkpoint."""
    folder, checkpoint = tmp_path / "a", tmp_path / "c"
    done = subprocess.run([sys.executable, "-c", KILLED, str(folder), str(checkpoint)], check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL
    run = read_run(folder)
    assert (run.status, run.running, len(run.rows)) == ("killed", False, 3)
    with open(folder / "history.jsonl", "ab") as file:
        file.write(b'{"kind":"epoch","epoch":4,"lo')
    assert len(read_run(folder).rows) == 3
    X = np.random.default_rng(0).standard_normal((64, 4)).astype("f4")
    trainer = fnn.Trainer.resume(checkpoint)
    trainer.fit(X, X[:, 0] > 0, epochs=2, run_dir=folder, verbose=0)
    run = read_run(folder)
    assert [row["epoch"] for row in run.rows] == [1, 2, 3, 4]
    assert run.status == "finished"


def test_every_prefix_of_a_history_is_read(tmp_path):
    """Wherever a power cut ends the file, no more than its last line is lost."""
    fit(make(), tmp_path / "a", epochs=1)
    path = tmp_path / "a" / "history.jsonl"
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        run = read_run(tmp_path / "a")
        before = whole[:size].count(b"\n")
        assert len(run.rows) + len(run.statistics) + (run.status == "finished") == before
    path.write_bytes(whole + b"\0" * 100)
    assert read_run(tmp_path / "a").status == "finished"
    path.write_bytes(whole + b"\0" * 100 + b"\n")
    assert read_run(tmp_path / "a").status == "finished"


def test_lines_of_later_versions_are_left_out(tmp_path):
    fit(make(), tmp_path / "a")
    path = tmp_path / "a" / "history.jsonl"
    path.write_text('{"kind": "picture", "of": 3}\n' + path.read_text())
    assert len(read_run(tmp_path / "a").rows) == 3


def test_interrupted(tmp_path):
    def press(trainer, row):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        fit(make(), tmp_path / "a", callbacks=[press])
    finally:
        signal.signal(signal.SIGINT, before)
    assert read_run(tmp_path / "a").status == "interrupted"


def test_find_runs(tmp_path):
    trainer = make()
    for name in ("trial-10", "trial-2", "deep/er/x", "b"):
        fit(make(), tmp_path / name, epochs=1)
    (tmp_path / "none").mkdir()
    os.symlink(tmp_path, tmp_path / "none" / "loop")
    found = [str(path.relative_to(tmp_path)) for path in find_runs(tmp_path)]
    assert found == ["b", "deep/er/x", "trial-2", "trial-10"]
    assert find_runs(tmp_path / "b", tmp_path / "b", tmp_path / "trial-2") == [tmp_path / "b", tmp_path / "trial-2"]
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        find_runs(tmp_path / "nowhere")
    with pytest.raises(TypeError, match="read_run: 3 is no path"):
        read_run(3)
    with pytest.raises(TypeError, match="find_runs: None is no path"):
        find_runs(None)
    with pytest.raises(FileNotFoundError, match=r"there is no run in .*it has no config\.json"):
        read_run(tmp_path / "none")
    assert trainer.epoch == 0


def test_trainers_side_by_side_in_folders_of_their_own(tmp_path):
    """Several outputs, a stream of blocks and a full disk are fits like any other; here: several threads."""
    import threading

    trainers = [make(seed=k) for k in range(4)]
    workers = [threading.Thread(target=fit, args=(t, tmp_path / str(k))) for k, t in enumerate(trainers)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for k, trainer in enumerate(trainers):
        assert read_run(tmp_path / str(k)).rows == trainer.history.rows


def test_a_full_disk(tmp_path, monkeypatch):
    """The fit says so; the model stands at the epoch that could not be written."""

    def full(self, found):
        raise OSError(28, "No space left on device", "history.jsonl")

    trainer = make()
    with monkeypatch.context() as patch:
        fit(trainer, tmp_path / "a", epochs=1)
        patch.setattr(run_directory.RunWriter, "_append", full)
        with pytest.raises(OSError, match="No space left"):
            fit(trainer, tmp_path / "a", epochs=3)
    fit(trainer, tmp_path / "a", epochs=1)
    assert read_run(tmp_path / "a").rows == trainer.history.rows
