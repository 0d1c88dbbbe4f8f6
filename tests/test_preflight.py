"""The report before training: for every check a planted bad case that it finds, clean cases that get only ok, and that nothing changes."""

from __future__ import annotations

import copy
import math
import warnings

import numpy as np
import pytest

import pyfastnn as fnn
from pyfastnn import nn, optim
from pyfastnn.cli import main
from pyfastnn.diagnose import Check, Preflight, preflight
from pyfastnn.graph import gradients
from pyfastnn.testing import rng_of


def data(rows: int = 200, features: int = 8, classes: int = 3):
    rng = rng_of("preflight", rows, features, classes)
    return rng.standard_normal((rows, features)).astype("f4"), rng.permutation(np.arange(rows) % classes)


def net(*layers: nn.Layer, outputs: int = 3, **settings) -> nn.Sequential:
    return nn.Sequential(*(layers or (nn.Linear(32), nn.ReLU())), nn.Linear(outputs), **settings)


def only(report: Preflight, name: str, verdict: str) -> Check:
    """Return the check of this name, which must have this verdict."""
    assert report[name].verdict == verdict, str(report)
    assert report[name].advice
    assert report.passed == (not report.having("failed")) == bool(report)
    return report[name]


# Clean cases


def test_digits_are_all_ok():
    X, y = fnn.data.load_digits()
    report = preflight(net(outputs=10, preprocess=fnn.data.Standardize()), X, y)
    assert {check.verdict for check in report.checks} == {"ok"}, str(report)
    names = [check.name for check in report.checks]
    assert names == [
        "inputs",
        "labels",
        "initial loss",
        "loss with regularisation",
        "first weights",
        "activation relu_1",
        "gradient check",
        "overfits 20 rows",
    ]
    assert report["initial loss"].expected == "2.3026 (log 10)"
    assert report.verdict == "passed: 8 ok"
    assert all(not check.advice for check in report.checks)


CLEAN = {
    "deep": lambda: net(*(layer for _ in range(6) for layer in (nn.Linear(64), nn.ReLU()))),
    "tanh": lambda: net(nn.Linear(32, init="xavier_normal"), nn.Tanh(), nn.Linear(32, init="xavier_normal"), nn.Tanh()),
    "sigmoid": lambda: net(nn.Linear(32, init="xavier_normal"), nn.Sigmoid()),
    "batch norm": lambda: net(nn.Linear(32, bias=False), nn.BatchNorm(), nn.ReLU(), nn.Dropout(0.3)),
    "elu": lambda: net(nn.Linear(32), nn.ELU(), nn.Linear(16), nn.GELU()),
    "zero head": lambda: nn.Sequential(nn.Linear(3, init="zeros")),
}


@pytest.mark.parametrize("name", CLEAN)
@pytest.mark.parametrize("seed", range(3))
def test_clean_nets_are_all_ok(name, seed):
    """No check cries wolf; the one net whose weights begin at 0 has no penalty yet."""
    report = preflight(CLEAN[name](), *data(), seed=seed)
    wrong = [check.name for check in report.checks if check.verdict != "ok"]
    assert wrong == (["loss with regularisation"] if name == "zero head" else []), str(report)


@pytest.mark.parametrize(
    "loss",
    [
        nn.MulticlassHinge(),
        nn.SoftmaxCrossEntropy(label_smoothing=0.2),
        nn.SoftmaxCrossEntropy(class_weight="balanced"),
    ],
)
def test_other_losses_of_classes(loss):
    report = preflight(net(), *data(), loss=loss)
    assert {check.verdict for check in report.checks} == {"ok"}, str(report)
    # Two wrong classes, each one margin short.
    chance = 2.0 if loss.kind == "multiclass_hinge" else math.log(3)
    assert float(report["initial loss"].expected.split()[0]) == pytest.approx(chance, abs=1e-4)


def test_losses_of_numbers():
    X, _ = data()
    y = X[:, :2] - X[:, 2:4]
    for loss, targets in (
        ("mean_squared_error", y),
        ("mean_absolute_error", y),
        ("huber", y),
        ("binary_cross_entropy", (y > 0).astype("f4")),
        ("binary_cross_entropy", 1 / (1 + np.exp(-y))),
        ("poisson", np.exp(y / 4)),
    ):
        report = preflight(net(outputs=2), X, targets, loss=loss)
        assert {check.verdict for check in report.checks} == {"ok"}, f"{loss}\n{report}"


def test_the_lectures_figures():
    """Loss 2.3026 without regularisation and 3.07 at 1e3 with 3072 inputs, 50 hidden units and weights of 0.0001."""
    rng = rng_of("lecture")
    X = (60 * rng.standard_normal((100, 3072))).astype("f4")
    small = nn.initializers.Normal(1e-4)
    model = nn.Sequential(nn.Linear(50, init=small), nn.ReLU(), nn.Linear(10, init=small))
    report = preflight(model, X, np.arange(100) % 10)
    assert report["initial loss"].number == pytest.approx(2.3026, abs=5e-4)
    # 1000 / 2 * 154100 weights of variance 1e-8 is 0.77, known to a part of sqrt(2 / 154100).
    assert report["loss with regularisation"].number == pytest.approx(2.3026 + 0.7705, abs=0.02)


def test_images_several_inputs_and_outputs():
    rng = rng_of("several")
    images, rows = rng.standard_normal((60, 8, 8, 1)).astype("f4"), rng.standard_normal((60, 4)).astype("f4")
    labels, values = np.arange(60) % 3, rng.standard_normal((60, 1)).astype("f4")
    a, b = nn.Input((8, 8, 1), name="a"), nn.Input((4,), name="b")
    h = nn.Concat()(nn.Flatten()(nn.ReLU()(nn.Conv2d(4, 3)(a))), nn.Tanh()(nn.Linear(8, init="xavier_normal")(b)))
    h = nn.ReLU()(nn.Linear(32)(h))
    model = nn.Model([a, b], {"kind": nn.Linear(3)(h), "size": nn.Linear(1)(h)})
    losses = {"kind": "softmax_cross_entropy", "size": "mean_squared_error"}
    trainer = fnn.Trainer(model, losses, loss_weights={"size": 0.5})
    report = preflight(trainer, {"a": images, "b": rows}, {"kind": labels, "size": values})
    assert {check.verdict for check in report.checks} == {"ok"}, str(report)
    names = [check.name for check in report.checks]
    assert names[:4] == ["inputs of a", "inputs of b", "labels of kind", "targets of size"]
    chance = math.log(3) + 0.5 * float(np.mean(values.astype("f8") ** 2))
    assert report["initial loss"].expected == f"{chance:.4f} (scores of 0)"


# Planted bad cases


def test_inputs_that_are_not_numbers():
    X, y = data()
    X[3, 2] = np.nan
    report = preflight(net(), X, y)
    assert only(report, "inputs", "failed").value == "1 NaN or infinite"
    assert len(report.having("skipped")) == len(report.checks) - 1


def test_inputs_off_centre():
    X, y = fnn.data.load_digits()
    assert "Standardize" in only(preflight(net(outputs=10), X, y), "inputs", "warning").advice
    X, y = data()
    X += np.where(np.arange(8) % 2, 5, -5)  # whose means cancel
    assert "times their deviations" in only(preflight(net(), X, y), "inputs", "warning").value


def test_inputs_of_other_scales():
    X, y = data()
    X[:, 0] *= 1e4
    assert "scale" in only(preflight(net(), X, y), "inputs", "warning").advice


def test_images_with_channels_first():
    rng = rng_of("preflight", "channels")
    X, y = rng.standard_normal((60, 3, 16, 16)).astype("f4"), np.arange(60) % 3
    layers = nn.Conv2d(4, 3, padding="same"), nn.ReLU(), nn.Flatten()
    check = only(preflight(net(*layers), X, y), "inputs", "warning")
    assert check.value == "images of 3 x 16 pixels with 16 channels"
    assert "if these are 3 channels of 16 x 16 pixels: X.transpose(0, 2, 3, 1)" in check.advice
    assert preflight(net(*layers), X.transpose(0, 2, 3, 1), y)["inputs"].verdict == "ok"
    assert preflight(net(nn.Flatten(), nn.Linear(8), nn.ReLU()), X, y)["inputs"].verdict == "ok"  # any order will do
    with pytest.raises(ValueError, match=r"images of 1 x 8 pixels are .* \(height x width; channels come last"):
        preflight(net(*layers[:2], nn.MaxPool2d(2), nn.MaxPool2d(2), nn.Flatten()), X, y)


def test_inputs_all_the_same():
    X, y = data()
    only(preflight(net(), np.ones_like(X), y), "inputs", "failed")


def test_labels_out_of_range():
    X, y = data()
    report = preflight(net(), X, y + 1)  # 1, 2, 3: three other labels, which are fine
    assert report["labels"].verdict == "ok"
    y[5] = 7
    assert "4 different labels" in only(preflight(net(), X, y), "labels", "failed").advice
    report = preflight(net(), X, (y % 3) + 0.5)
    only(report, "labels", "failed")
    assert preflight(net(outputs=1), X, np.full(200, np.nan), loss="mean_squared_error")["targets"].verdict == "failed"


def test_labels_unbalanced_missing_or_all_the_same():
    X, y = data()
    rare = np.where(np.arange(200) < 195, y % 2, 2)
    assert "balanced" in only(preflight(net(), X, rare), "labels", "warning").advice
    weighted = preflight(net(), X, rare, loss=nn.SoftmaxCrossEntropy(class_weight="balanced"))
    assert weighted["labels"].verdict == "ok"
    assert "label 2" in only(preflight(net(), X, y % 2), "labels", "warning").advice
    only(preflight(net(), X, np.zeros(200, int)), "labels", "failed")


def test_targets_of_bad_scale():
    X, _ = data()
    y = X[:, 0]
    for targets, verdict in ((1e4 * y, "warning"), (y + 1e3, "warning"), (1e-4 * y, "warning"), (0 * y + 3, "failed")):
        only(preflight(net(outputs=1), X, targets, loss="mean_squared_error"), "targets", verdict)
    same = np.zeros((200, 2))
    only(preflight(net(outputs=2), X, same, loss="binary_cross_entropy"), "targets", "failed")
    same[:, 0] = np.arange(200) % 2
    only(preflight(net(outputs=2), X, same, loss="binary_cross_entropy"), "targets", "warning")


def test_initial_loss_too_high_or_too_low():
    X, y = data()
    large = nn.Sequential(nn.Linear(32), nn.ReLU(), nn.Linear(3, init=nn.initializers.Normal(5.0)))
    assert "too large" in only(preflight(large, X, y), "initial loss", "warning").advice
    larger = nn.Sequential(nn.Linear(32), nn.ReLU(), nn.Linear(3, init=nn.initializers.Normal(500.0)))
    only(preflight(larger, X, y), "initial loss", "failed")
    told = nn.Sequential(nn.Linear(3)).build((3,))  # sees the labels, and is set to give them back
    told.parameters["linear_1.w"][...] = 10 * np.eye(3)
    assert "hold the labels" in only(preflight(told, np.eye(3, dtype="f4")[y], y), "initial loss", "warning").advice


def test_initial_loss_of_a_trained_network_is_not_judged():
    X, y = data()
    trainer = fnn.Trainer(net())
    trainer.fit(X, y, epochs=1, verbose=0)
    only(preflight(trainer, X, y), "initial loss", "skipped")
    only(preflight(trainer.model, X, y), "initial loss", "skipped")


def test_regularisation_that_adds_nothing():
    X, y = data()
    only(preflight(nn.Sequential(nn.Linear(3, init="zeros")), X, y), "loss with regularisation", "warning")
    huge = nn.initializers.Normal(1e30)
    infinite = net(nn.Linear(32, init=huge), nn.ReLU(), nn.Linear(32, init=huge), nn.ReLU())
    only(preflight(infinite, X, y), "loss with regularisation", "failed")


@pytest.mark.parametrize("init", ["zeros", "ones", nn.initializers.Constant(0.1)])
def test_constant_initialisation(init):
    X, y = data()
    report = preflight(net(nn.Linear(32, init=init), nn.ReLU()), X, y)
    assert "linear_1.w" in only(report, "first weights", "failed").value
    images = rng_of("images").standard_normal((60, 8, 8, 1)).astype("f4")
    conv = net(nn.Conv2d(4, 3, init=init), nn.ReLU(), nn.Flatten())
    only(preflight(conv, images, y[:60]), "first weights", "failed")


def ten(init: nn.initializers.Initializer, activation: type[nn.Layer]) -> nn.Sequential:
    return net(*(layer for _ in range(10) for layer in (nn.Linear(50, init=init), activation())))


def test_activations():
    """Signals that fade, vanish, grow or saturate; units that are dead; values that are not finite; gradients that vanish."""
    X, y = data()
    normal = nn.initializers.Normal
    fades = preflight(ten(normal(50**-0.5), nn.ReLU), X, y)  # Xavier under ReLU: a factor of 0.7 a layer
    assert "fades" in only(fades, "activation relu_10", "warning").advice
    lost = preflight(ten(normal(0.01), nn.Tanh), X, y)
    assert "lost" in only(lost, "activation tanh_10", "failed").advice
    grows = preflight(ten(normal(0.5), nn.ReLU), X, y)
    assert "grows" in only(grows, "activation relu_10", "warning").advice
    assert "saturated" in only(preflight(ten(normal(20.0), nn.Tanh), X, y), "activation tanh_5", "failed").advice
    assert "saturated" in only(preflight(ten(normal(0.6), nn.Tanh), X, y), "activation tanh_5", "warning").advice
    faint = preflight(net(nn.Linear(32, init=normal(1e-5)), nn.ReLU()), X, y)
    assert "faint" in only(faint, "activation relu_1", "warning").advice
    model = net().build((8,))
    model.parameters["linear_1.b"][:8] = -1e3
    assert "dead" in only(preflight(model, X, y), "activation relu_1", "warning").advice
    model.parameters["linear_1.b"][...] = -1e3
    assert "never fire" in only(preflight(model, X, y), "activation relu_1", "failed").advice
    huge = net(nn.Linear(32, init=normal(1e30)), nn.ReLU(), nn.Linear(32, init=normal(1e30)), nn.ReLU())
    assert "not finite" in only(preflight(huge, X, y), "activation relu_2", "failed").advice
    squashed = ten(normal(50**-0.5), nn.Sigmoid)  # slopes of at most 1/4
    assert "vanish" in only(preflight(squashed, X, y), "activation sigmoid_1", "warning").advice


def test_wrong_gradients(monkeypatch):
    X, y = data()
    right = gradients.RULES["relu_forward"]

    def doubled(node, dy, emit, needs):
        return {k: emit("add", (g, g))[0] for k, g in right(node, dy, emit, needs).items()}

    monkeypatch.setitem(gradients.RULES, "relu_forward", doubled)
    assert "disagree" in only(preflight(net(), X, y), "gradient check", "failed").advice
    monkeypatch.undo()
    loss = nn.CustomLoss(lambda s, t: (float(np.mean((s - t) ** 2)), (s - t) / s.size))
    only(preflight(net(outputs=2), X, X[:, :2], loss=loss), "gradient check", "failed")


def test_rows_that_cannot_be_learned():
    """Rows that are all the same with different labels, a network whose units are all dead, one without any choice."""
    X, y = data()
    only(preflight(net(), np.ones_like(X) + 0 * X, y), "overfits 20 rows", "failed")
    dead = net().build((8,))
    dead.parameters["linear_1.b"][...] = -1e3
    only(preflight(dead, X, y), "overfits 20 rows", "failed")
    frozen = net().build((8,))
    frozen.freeze("linear_1")
    frozen.parameters["linear_1.w"][...] = 0
    only(preflight(frozen, X, y), "overfits 20 rows", "failed")
    trainer = fnn.Trainer(net(outputs=1), "mean_squared_error")
    found = only(preflight(trainer, X, 1e6 * X[:, 0]), "overfits 20 rows", "failed")
    assert "targets and their scale" in found.advice


# What it leaves behind, and how it shows


def everything(trainer: fnn.Trainer) -> dict[str, object]:
    """Return all that a fit depends on, as copies."""
    model = trainer.model
    found: dict[str, object] = {"version": model.version, "tasks": dict(model.tasks), "classes": dict(model.classes)}
    found |= {"step": trainer.step_count, "epoch": trainer.epoch, "rows": copy.deepcopy(trainer.history.rows)}
    found |= {"optimizer": repr(vars(trainer.optimizer)), "drawn": dict(model.drawn)}
    if model.built:
        found |= {k: v.tobytes() for k, v in {**model.arrays(), **trainer.slots}.items()}
    return found


def test_nothing_changes():
    X, y = data()
    layers = nn.Linear(16), nn.BatchNorm(), nn.ReLU(), nn.Dropout(0.2)
    checked, other = (
        fnn.Trainer(net(*layers, preprocess=fnn.data.Standardize()), optimizer=optim.Adam(weight_decay=0.01))
        for _ in range(2)
    )
    state = np.random.get_state()[1].copy()  # noqa: NPY002 - what must not move
    for _ in range(2):
        before = everything(checked)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert preflight(checked, X, y)
            assert preflight(checked.model, X, y)
        assert everything(checked) == before
        for trainer in (checked, other):
            trainer.fit(X, y, epochs=2, verbose=0)
        for name, array in checked.model.state_dict().items():
            np.testing.assert_array_equal(array, other.model.state_dict()[name])
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002 - what must not move
    assert preflight(checked, X, y) == preflight(checked, X, y)


@pytest.mark.parametrize("labels", [("a", "b", "c"), (0, 1, 2)])
def test_the_first_block_of_a_stream_is_looked_at(labels):
    """Classes and preprocessing are those of the whole stream: one class is not in the block."""
    X, y = data(600)
    y = np.array(labels)[np.sort(y)]
    stream = fnn.data.Stream(X + 50, y, block_rows=400, chunk_rows=10, shuffle=False)
    report = preflight(net(preprocess=fnn.data.Standardize()), stream)
    wrong = [check for check in report.checks if check.verdict != "ok"]
    assert [check.name for check in wrong] == ["labels"], str(report)
    assert f"no row has the label {labels[2]}" in wrong[0].advice
    assert report["initial loss"].expected == "1.0986 (log 3)"
    assert len(list(stream.blocks())) == 2, "the stream can be read on"


def test_streams_that_are_bad():
    X, y = data()
    with pytest.raises(ValueError, match="preflight: 'y' was given, but 'X' is a Stream, which holds the targets"):
        preflight(net(), fnn.data.Stream(X, y), y)
    assert only(preflight(net(outputs=2), fnn.data.Stream(X, y)), "labels", "failed").value == "refused"
    X[0, 0] = np.inf
    assert only(preflight(net(), fnn.data.Stream(X, y)), "inputs", "failed").value == "1 NaN or infinite"


def test_the_report():
    report = Preflight((Check("a <b>", "1", "2", "failed", "do & undo"), Check("c", "3", "3", "ok")))
    lines = str(report).splitlines()
    assert lines[0].split() == ["check", "value", "expected", "verdict", "what", "to", "do"]
    assert lines[1].endswith("failed   do & undo")
    assert lines[-1] == "FAILED: 1 ok, 1 failed"
    assert repr(report) == str(report)
    page = report._repr_html_()
    assert "a &lt;b&gt;" in page
    assert "do &amp; undo" in page
    assert "<b>" not in page
    with pytest.raises(KeyError, match="did you mean"):
        Preflight((Check("inputs", "", "", "ok"),))["input"]
    with pytest.raises(ValueError, match="verdict"):
        report.having("fine")


def test_bad_input():
    X, y = data()
    with pytest.raises(TypeError, match="neither a model nor a trainer"):
        preflight("model", X, y)
    with pytest.raises(ValueError, match="'rows' is 0"):
        preflight(net(), X, y, rows=0)
    with pytest.raises(ValueError, match="no rows"):
        preflight(net(), X[:0], y[:0])
    with pytest.raises(ValueError, match="'X'"):
        preflight(net().build((9,)), X, y)
    with pytest.raises(RuntimeError, match="frozen"):
        model = net()
        model.freeze()
        preflight(model, X, y)


# The command


def test_the_command(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["check", "digits", "--hidden", "32", "--html", "r.html"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "initial loss" in out
    assert "passed: 8 ok" in out
    page = (tmp_path / "r.html").read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert "<td>overfits 20 rows</td>" in page
    assert page.count('<tr class="ok">') == 8
    assert "<p>Dataset digits: " in page
    np.savez("bad.npz", X=np.ones((50, 4)), y=np.arange(50) % 2)
    assert main(["check", "bad.npz"]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    assert "every feature is the same in all rows" in out
    assert "FAILED: " in out
    np.savez("nan.npz", X=np.full((50, 4), np.nan), y=np.arange(50) % 2)
    assert main(["check", "nan.npz"]) == 2
    assert "NaN" in capsys.readouterr().err
    for arguments in (
        ["check", "missing.npz"],
        ["check"],
        ["check", "digits", "--hiden", "3"],
        ["check", "digits", "--rows", "0"],
    ):
        assert main(arguments) == 2
        assert capsys.readouterr().err.startswith("pyfastnn: error: ")
