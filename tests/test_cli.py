"""The command line: what it reaches, what it writes, and one line for every kind of bad input."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import pyfastnn as fnn
from pyfastnn.cli import COMMANDS, main
from pyfastnn.cli.network import ACTIVATIONS, PREPROCESS, SCHEDULES, decaying
from pyfastnn.report.curves import plot_history

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Call the command line in an empty folder; gives status, output and errors."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, str, str]:
        status = main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return status, out, err

    return call


def refused(found: tuple[int, str, str]) -> str:
    """Return the one line of a refusal."""
    status, out, err = found
    assert status == 2, out + err
    assert err.startswith("pyfastnn: error: ")
    assert err.count("\n") == 1
    return err


def write_table(path: Path, rows: int = 60, classes: int = 2) -> Path:
    rng = np.random.default_rng(rows)
    X = rng.normal(size=(rows, 3))
    y = np.arange(rows) % classes
    X[:, 0] += 3 * y
    lines = ["a,b,c,label"] + [f"{r[0]:.4f},{r[1]:.4f},{r[2]:.4f},{k}" for r, k in zip(X, y, strict=True)]
    path.write_text("\n".join(lines) + "\n")
    return path


# What it does


def test_demo_learns_and_draws(run: Run) -> None:
    status, out, err = run("demo")
    assert (status, err) == (0, "")
    assert out.count("\nepoch ") == 20
    accuracy = float(out.partition("validation accuracy ")[2].partition("%")[0])
    assert accuracy >= 97.0
    assert "samples/s" in out
    assert "times as fast" in out
    assert float(out.partition("differ by at most ")[2].split()[0]) < 1e-2
    assert "written to pyfastnn-demo.png" in out
    assert Path("pyfastnn-demo.png").read_bytes().startswith(b"\x89PNG")


def test_demo_without_matplotlib_names_the_extra(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    status, out, _ = run("demo")
    assert status == 0
    assert "pip install pyfastnn[plot]" in out
    assert not Path("pyfastnn-demo.png").exists()


def test_train_save_predict(run: Run) -> None:
    options = [
        "--hidden",
        "32,16",
        "--batch-norm",
        "--dropout",
        "0.1",
        "--activation",
        "elu",
        "--epochs",
        "4",
        "--seed",
        "3",
    ]
    status, out, err = run("train", "digits", *options, "--save", "m.safetensors")
    assert (status, err) == (0, "")
    assert out.count("\nepoch ") == 4
    shown = float(out.partition("validation accuracy ")[2].partition(",")[0])
    model = fnn.load("m.safetensors")
    assert repr(model).count("Linear") == 3
    assert repr(model).count("BatchNorm") == repr(model).count("ELU") == repr(model).count("Dropout") == 2
    X, y = fnn.data.load_digits()
    _, Xv, _, yv = fnn.data.split(X, y, validation=0.2, seed=3, stratify=y)
    assert float(np.mean(model.predict(Xv) == yv)) == pytest.approx(shown, abs=5e-5)

    status, out, err = run("predict", "m.safetensors", "digits")
    assert status == 0
    assert [int(line) for line in out.split()] == model.predict(X).tolist()
    assert f"({np.count_nonzero(model.predict(X) == y)} of 1797 rows)" in err

    np.save("rows.npy", X[:5])
    status, out, err = run("predict", "m.safetensors", "rows.npy", "--output", "p.csv", "--probabilities")
    assert (status, out, err) == (0, "5 predictions written to p.csv\n", "")
    header, *rows = Path("p.csv").read_text().splitlines()
    assert header == ",".join(map(str, range(10)))
    assert np.array_equal(np.array([r.split(",") for r in rows], np.float32), model.predict_proba(X[:5]))


def test_same_seed_same_model(run: Run) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert run("train", "digits", "--epochs", "1", "--seed", seed, "--verbose", "0", "--save", name)[0] == 0
    a, b, c = (fnn.load(name).arrays() for name in "abc")
    assert all(np.array_equal(a[k], b[k]) for k in a)
    assert not np.array_equal(a["linear_1.w"], c["linear_1.w"])


def test_text_labels_and_regression(run: Run, tmp_path: Path) -> None:
    table = write_table(tmp_path / "t.csv", classes=3)
    table.write_text(table.read_text().replace(",0\n", ",red\n").replace(",1\n", ",green\n").replace(",2\n", ",blue\n"))
    assert run("train", "t.csv", "--save", "m")[0] == 0
    assert fnn.load("m").classes_ is not None
    status, out, err = run("predict", "m", "t.csv")
    assert set(out.split()) <= {"red", "green", "blue"}
    assert float(err.split()[1]) > 0.8

    status, out, _ = run("train", "t.csv", "--target", "b", "--task", "regression")
    assert status == 2  # the text column is a feature now
    numbers = write_table(tmp_path / "n.csv")
    status, out, _ = run("train", numbers, "--target", "a", "--save", "r")
    assert status == 0
    assert "validation mean squared error" in out
    status, out, err = run("predict", "r", numbers, "--target", "a")
    assert len(out.split()) == 60
    assert "mean squared error" in err
    assert "predicts values" in refused(run("predict", "r", numbers, "--target", "a", "--probabilities"))


@pytest.mark.parametrize("dtype", ["uint8", "float64"])
@pytest.mark.parametrize("preprocess", PREPROCESS)
def test_images_with_a_test_part(run: Run, dtype: str, preprocess: str) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(400) % 2
    X = (rng.integers(0, 10, (400, 4, 4, 3)) + 10 * y[:, None, None, None]).astype(dtype)
    np.savez("images.npz", x_train=X[:300], y_train=y[:300], x_test=X[300:], y_test=y[300:])
    status, out, err = run(
        "train", "images.npz", "--hidden", "8", "--preprocess", preprocess, "--learning-rate", "0.01"
    )
    assert (status, err) == (0, "")
    assert "val_" not in out
    assert float(out.partition("test accuracy ")[2].partition(",")[0]) > 0.9


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "nesterov", "adam", "adamw"])
@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_every_optimizer_and_activation_learns(run: Run, optimizer: str, activation: str) -> None:
    table = write_table(Path("t.csv"), rows=200)
    options = [
        "--optimizer",
        optimizer,
        "--activation",
        activation,
        "--hidden",
        "8",
        "--weight-decay",
        "1e-4",
        "--epochs",
        "40",
    ]
    options += ["--learning-rate", "0.01" if optimizer.startswith("adam") else "0.1", "--verbose", "0"]
    status, out, _ = run("train", table, *options)
    assert status == 0
    assert float(out.partition("validation accuracy ")[2].partition(",")[0]) > 0.8


def test_resume_continues_bit_for_bit(run: Run) -> None:
    common = ["--batch-size", "64", "--learning-rate-decay", "0.9", "--verbose", "0"]
    network = ["--hidden", "16", "--batch-norm", "--dropout", "0.2", "--seed", "5"]
    assert run("train", "digits", *network, *common, "--epochs", "4", "--save", "whole")[0] == 0
    assert run("train", "digits", *network, *common, "--epochs", "2", "--checkpoint", "half.ckpt")[0] == 0
    status, out, _ = run("train", "digits", *common, "--epochs", "2", "--resume", "half.ckpt", "--save", "joined")
    assert status == 0, out
    whole, joined = fnn.load("whole").arrays(), fnn.load("joined").arrays()
    assert all(np.array_equal(whole[k], joined[k]) for k in whole)
    assert "cannot be changed with --resume" in refused(
        run("train", "digits", "--resume", "half.ckpt", "--hidden", "3")
    )
    table = write_table(Path("t.csv"))
    assert "takes 64" in refused(run("train", table, "--resume", "half.ckpt"))


def test_learning_rate_falls_to_a_twentieth(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    factors = []
    monkeypatch.setattr("pyfastnn.cli.network.decaying", lambda factor: factors.append(factor) or decaying(factor))
    assert run("train", "digits", "--epochs", "5", "--verbose", "0")[0] == 0
    assert factors[0] ** 4 == pytest.approx(0.05)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_last_as_long_as_the_run(run: Run, name: str) -> None:
    """The rates of the last step of every epoch, from the history in the checkpoint; a resumed run goes on with it."""
    options = ["--schedule", name, "--learning-rate", "0.01", "--verbose", "0"]
    assert run("train", "digits", *options, "--epochs", "6", "--checkpoint", "c")[0] == 0
    trainer = fnn.Trainer.resume("c")
    rates = np.array(trainer.history["learning_rate"])
    steps = trainer.step_count / 6
    ends = np.arange(1, 7) - 1 / steps  # time in epochs of the last step of each
    want = {
        "exponential": 0.01 * 0.05 ** (np.arange(6) / 5),
        "constant": np.full(6, 0.01),
        "cosine": 0.01 * (1 + np.cos(np.pi * ends / 6)) / 2,
        "step": 0.01 * 0.1 ** np.floor(ends / 2),
        "reduce_on_plateau": np.full(6, 0.01),
    }.get(name)
    if want is None:
        assert rates.max() == rates[1:3].max() > 10 * rates[-1]
    else:
        np.testing.assert_allclose(rates, want, rtol=1e-9)
    assert run("train", "digits", "--resume", "c", "--epochs", "1", "--verbose", "0", "--checkpoint", "c")[0] == 0
    if name != "exponential":
        assert fnn.Trainer.resume("c").optimizer.learning_rate.kind == name
        assert "follows a schedule" in refused(run("train", "digits", "--resume", "c", "--learning-rate-decay", "0.9"))


def test_smoothing_clipping_and_running_means(run: Run) -> None:
    """What is saved and evaluated are the running means; the checkpoint has both."""
    options = ["--label-smoothing", "0.1", "--clip-norm", "0.5", "--ema", "0.9", "--epochs", "3", "--seed", "2"]
    status, out, err = run("train", "digits", *options, "--save", "m", "--checkpoint", "c")
    assert (status, err) == (0, "")
    assert "gradients clipped to norm 0.5, running means of the weights 0.9, label smoothing 0.1" in out
    trainer, saved = fnn.Trainer.resume("c"), fnn.load("m")
    assert (trainer.optimizer.clip_norm, trainer.optimizer.ema, trainer.loss.label_smoothing) == (0.5, 0.9, 0.1)
    means = trainer.ema_model().arrays()
    assert all(np.array_equal(saved.arrays()[k], means[k]) for k in means)
    assert not np.array_equal(means["linear_1.w"], trainer.model.arrays()["linear_1.w"])
    X, y = fnn.data.load_digits()
    _, Xv, _, yv = fnn.data.split(X, y, validation=0.2, seed=2, stratify=y)
    shown = float(out.rpartition("validation accuracy ")[2].partition(",")[0])
    assert float(np.mean(saved.predict(Xv) == yv)) == pytest.approx(shown, abs=5e-5)


def test_axes_of_variance_are_kept_with_the_model(run: Run) -> None:
    options = ["--learning-rate", "0.01", "--epochs", "10", "--verbose", "0"]
    for name in ("pca", "whiten"):
        assert run("train", "digits", *options, "--preprocess", name, "--save", name)[0] == 0
        model = fnn.load(name)
        assert model.arrays()["linear_1.w"].shape[0] < 64
        X, y = fnn.data.load_digits()
        assert (model.predict(X) == y).mean() > 0.9


def test_divergence_is_status_1(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pyfastnn",
        "train",
        "digits",
        "--optimizer",
        "sgd",
        "--learning-rate",
        "1e30",
        "--preprocess",
        "none",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stderr.startswith("pyfastnn: warning: training stopped")
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_ctrl_c_saves_and_says_so(tmp_path: Path) -> None:
    arguments = ["train", "digits", "--epochs", "1000000", "--save", "m", "--checkpoint", "c"]
    # A shell's background job starts with SIGINT ignored; what is tested is the answer of one that listens.
    program = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        f"from pyfastnn.cli import main; sys.exit(main({arguments}))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("epoch   3"):
                    break
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130, out + err
    assert err == "pyfastnn: interrupted\n"
    assert "model written to m" in out
    assert "continue with --resume c --epochs" in out
    X, _ = fnn.data.load_digits()
    assert np.array_equal(fnn.load(tmp_path / "m").predict(X), fnn.Trainer.resume(tmp_path / "c").model.predict(X))


def test_info(run: Run) -> None:
    status, out, _ = run("info")
    facts = dict(line.split(":", 1) for line in out.splitlines())
    assert status == 0
    assert facts["version"].strip() == fnn.__version__
    assert facts["active"].strip() in facts["compiled for"]
    assert int(facts["threads"]) == fnn.num_threads()
    assert all(value.strip() for value in facts.values())


def test_help_names_every_command_and_option(run: Run) -> None:
    status, out, _ = run("--help")
    assert status == 0
    assert all(name in out for name in COMMANDS)
    assert run("--version")[1] == f"pyfastnn {fnn.__version__}\n"
    status, out, _ = run("train", "--help")
    assert status == 0
    for option in (
        "--hidden",
        "--batch-norm",
        "--dropout",
        "--save",
        "--resume",
        "--checkpoint",
        "--preprocess",
        "--schedule",
        "--label-smoothing",
        "--clip-norm",
        "--ema",
        "--threads",
    ):
        assert option in out


def test_closed_pipe_is_no_error(tmp_path: Path) -> None:
    command = f"'{sys.executable}' -m pyfastnn info | true"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr == ""


# What it refuses

BAD_ARGUMENTS = [
    ("no command", [], "no command given"),
    ("command", ["trian"], "did you mean 'train'"),
    ("global option", ["--versoin"], "did you mean '--version'"),
    ("no data", ["train"], "DATA"),
    ("option", ["train", "digits", "--hiden", "3"], "did you mean --hidden"),
    ("abbreviated option", ["train", "digits", "--hid", "3"], "unknown option --hid"),
    ("option with =", ["train", "digits", "--learning-rat=3"], "did you mean --learning-rate"),
    ("short option", ["train", "digits", "-x"], "-x"),
    ("extra argument", ["train", "digits", "mnist"], "'mnist'"),
    ("value missing", ["train", "digits", "--epochs"], "--epochs"),
    ("hidden text", ["train", "digits", "--hidden", "abc"], "256,128"),
    ("hidden zero", ["train", "digits", "--hidden", "8,0"], "256,128"),
    ("hidden negative", ["train", "digits", "--hidden=-8"], "256,128"),
    ("activation", ["train", "digits", "--activation", "rleu"], "did you mean 'relu'"),
    ("optimizer", ["train", "digits", "--optimizer", "adm"], "did you mean 'adam'"),
    ("preprocess", ["train", "digits", "--preprocess", "standardise"], "did you mean 'standardize'"),
    ("task", ["train", "digits", "--task", "clasification"], "did you mean 'classification'"),
    ("epochs zero", ["train", "digits", "--epochs", "0"], "1 or more"),
    ("epochs fraction", ["train", "digits", "--epochs", "1.5"], "1 or more"),
    ("batch zero", ["train", "digits", "--batch-size", "0"], "1 or more"),
    ("dropout one", ["train", "digits", "--dropout", "1"], "below 1"),
    ("rate negative", ["train", "digits", "--learning-rate", "-1"], "--learning-rate"),
    ("rate nan", ["train", "digits", "--learning-rate", "nan"], "no number"),
    ("rate inf", ["train", "digits", "--learning-rate", "inf"], "finite"),
    ("decay zero", ["train", "digits", "--learning-rate-decay", "0"], "above 0"),
    ("schedule", ["train", "digits", "--schedule", "cosin"], "did you mean 'cosine'"),
    (
        "decay of a schedule",
        ["train", "digits", "--schedule", "cosine", "--learning-rate-decay", "0.9"],
        "--schedule cosine",
    ),
    ("label smoothing", ["train", "digits", "--label-smoothing", "1"], "below 1"),
    ("label smoothing of values", ["train", "good.csv", "--target", "a", "--label-smoothing", "0.1"], "classification"),
    ("clip norm", ["train", "digits", "--clip-norm", "0"], "above 0"),
    ("ema", ["train", "digits", "--ema", "1"], "below 1"),
    ("resume with ema", ["train", "digits", "--resume", "model", "--ema", "0.9"], "--ema cannot be changed"),
    ("pca of images", ["train", "digits", "--preprocess", "pca", "--arch", "cnn-small"], "--arch cnn-small"),
    ("seed", ["train", "digits", "--seed", "-1"], "--seed"),
    ("validation", ["train", "digits", "--validation", "1.5"], "share"),
    ("validation rows", ["train", "digits", "--validation", "1797"], "1797"),
    ("momentum of adam", ["train", "digits", "--momentum", "0.9"], "adam"),
    ("nesterov", ["train", "digits", "--optimizer", "nesterov", "--momentum", "0"], "momentum"),
    ("target of images", ["train", "digits", "--target", "x"], "digits"),
    ("save folder", ["train", "digits", "--save", "nowhere/m"], "nowhere"),
    ("save is a folder", ["train", "digits", "--save", "."], "folder"),
    ("checkpoint folder", ["train", "digits", "--checkpoint", "nowhere/c"], "nowhere"),
    ("missing data", ["train", "digitz"], "did you mean 'digits'"),
    ("empty folder", ["train", "empty"], "empty"),
    ("text file", ["train", "notes.doc"], "unknown kind"),
    ("cut gzip", ["train", "cut.csv.gz"], "cut off or damaged"),
    ("label column", ["train", "good.csv", "--target", "lable"], "did you mean 'label'"),
    ("value missing in table", ["train", "hole.csv"], "line 3"),
    ("one class", ["train", "one.csv"], "two classes"),
    ("no model", ["predict", "nothing", "digits"], "nothing"),
    ("model is a folder", ["predict", "empty", "digits"], "empty"),
    ("model is text", ["predict", "notes.doc", "digits"], "notes.doc"),
    ("model damaged", ["predict", "damaged", "digits"], "damaged"),
    ("feature count", ["predict", "model", "good.csv"], "64"),
    ("model is no checkpoint", ["train", "digits", "--resume", "model"], "model"),
    ("no checkpoint", ["train", "digits", "--resume", "nothing"], "nothing"),
    ("resume with network", ["train", "digits", "--resume", "model", "--batch-norm"], "--batch-norm"),
    ("demo argument", ["demo", "digits"], "'digits'"),
    ("demo folder", ["demo", "--output", "nowhere/x.png"], "nowhere"),
    ("info argument", ["info", "all"], "'all'"),
]


@pytest.fixture(scope="module")
def bad_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    (folder / "empty").mkdir()
    (folder / "notes.doc").write_text("no data at all\n" * 20)
    good = write_table(folder / "good.csv").read_text()
    packed = gzip.compress(good.encode())
    (folder / "cut.csv.gz").write_bytes(packed[: len(packed) // 2])
    lines = good.splitlines()
    (folder / "hole.csv").write_text("\n".join([*lines[:2], "1,,3,1", *lines[3:]]) + "\n")
    write_table(folder / "one.csv", classes=1)
    assert main(["train", "digits", "--epochs", "1", "--verbose", "0", "--save", str(folder / "model")]) == 0
    damaged = bytearray((folder / "model").read_bytes())
    (folder / "damaged").write_bytes(damaged[:-100])
    return folder


@pytest.mark.parametrize(
    ("arguments", "expected"), [row[1:] for row in BAD_ARGUMENTS], ids=[row[0] for row in BAD_ARGUMENTS]
)
def test_bad_input_gets_one_line(
    arguments: list[str],
    expected: str,
    bad_files: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(bad_files)
    before = sorted(p.name for p in bad_files.iterdir())
    status = main(arguments)
    out, err = capsys.readouterr()
    assert expected in refused((status, out, err))
    assert sorted(p.name for p in bad_files.iterdir()) == before


@pytest.mark.parametrize("position", [0, 7, 8, 60, 400, -1])
def test_a_flipped_byte_never_gives_a_traceback(
    bad_files: Path, tmp_path: Path, position: int, capsys: pytest.CaptureFixture[str]
) -> None:
    data = bytearray((bad_files / "model").read_bytes())
    data[position] ^= 0x55
    (tmp_path / "m").write_bytes(data)
    status = main(["predict", str(tmp_path / "m"), "digits"])
    out, err = capsys.readouterr()
    if status == 0:  # a weight with another value is still a weight
        assert len(out.split()) == 1797
    else:
        refused((status, out, err))


# Pictures


def test_plot_formats_and_content(tmp_path: Path) -> None:
    X, y = fnn.data.load_digits()
    trainer = fnn.Trainer(fnn.nn.Sequential(fnn.nn.Linear(10)), seed=0)
    history = trainer.fit(X[:500], y[:500], X_val=X[500:], y_val=y[500:], epochs=3)
    figure = history.plot(tmp_path / "curves.svg")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["loss", "accuracy"]
    drawn = {line.get_label().split(" (")[0]: line.get_ydata().tolist() for line in figure.axes[1].lines}
    assert drawn == {"training": history["accuracy"], "validation": history["val_accuracy"]}
    assert "<svg" in (tmp_path / "curves.svg").read_text()[:1000]
    with pytest.raises(ValueError, match="xyz"):
        history.plot(tmp_path / "curves.xyz")
    assert not (tmp_path / "curves.xyz").exists()
    with pytest.raises(ValueError, match="no epochs"):
        plot_history(fnn.History())


def test_plot_of_a_regression_has_one_panel() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 3))
    trainer = fnn.Trainer(fnn.nn.Sequential(fnn.nn.Linear(1)), loss="mean_squared_error")
    figure = trainer.fit(X, X[:, 0], epochs=2).plot()
    assert len(figure.axes) == 1


def test_small_convolutional_nets_and_augmentation(run: Run, tmp_path: Path) -> None:
    """Images of one channel and of three learn; what is for images alone is refused for tables."""
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    images = rng.integers(0, 90, (90, 8, 8, 3)).astype(np.uint8)
    images[np.arange(90), 2 * labels, :, :] += 120
    np.savez(tmp_path / "colour.npz", X=images, y=labels)
    np.savez(tmp_path / "gray.npz", X=images[..., 0], y=labels)
    for name in ("colour", "gray"):
        options = ("--arch", "cnn-small", "--hidden", "8", "--augment", "shift, flip", "--epochs", "2")
        status, out, err = run("train", f"{name}.npz", *options)
        assert status == 0, err
        assert "Conv2d(32) - BatchNorm - ReLU - MaxPool2d - Conv2d(64)" in out
    table = write_table(Path("t.csv"))
    for option in (("--arch", "cnn-small"), ("--augment", "flip")):
        status, _, err = run("train", table, *option)
        assert (status, err.count("\n")) == (2, 1)
        assert "is for images" in err
