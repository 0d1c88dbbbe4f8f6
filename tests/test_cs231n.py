"""The lectures' two-layer net and trainer: native steps against a NumPy net, prints, rows, guards, and the published numbers."""

from __future__ import annotations

import _thread
import doctest
import importlib
import pkgutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

import pyfastnn as fnn
from pyfastnn import cs231n
from pyfastnn.cs231n import ClassifierTrainer, init_two_layer_model, two_layer_net
from pyfastnn.cs231n.rules import UPDATES
from pyfastnn.testing import rng_of

U = 2.0**-53
NUDGE = 2.0**-36
NAMES = ("W1", "b1", "W2", "b2")


def numpy_net(X, model, y=None, reg=0.0):
    """The net in NumPy alone, from the chain rule."""
    before = X @ model["W1"] + model["b1"]
    hidden = np.where(before > 0, before, 0)
    scores = hidden @ model["W2"] + model["b2"]
    if y is None:
        return scores
    n = len(X)
    log_p = scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)
    loss = -log_p[np.arange(n), y].mean() + reg / 2 * (np.square(model["W1"]).sum() + np.square(model["W2"]).sum())
    d = (np.exp(log_p) - np.eye(scores.shape[1])[y]) / n
    dh = (d @ model["W2"].T) * (before > 0)
    grads = {
        "W1": X.T @ dh + reg * model["W1"],
        "b1": dh.sum(0),
        "W2": hidden.T @ d + reg * model["W2"],
        "b2": d.sum(0),
    }
    return loss, grads


def case(name, n=60, inputs=7, hidden=9, classes=4, dtype="float64"):
    """Rows in clusters by class, and a net whose units are not all alike."""
    rng = rng_of(name)
    y = rng.integers(0, classes, n)
    X = (2.0 * rng.standard_normal((classes, inputs))[y] + rng.standard_normal((n, inputs))).astype(dtype)
    model = init_two_layer_model(inputs, hidden, classes, dtype=dtype, seed=1)
    for key in model:
        model[key][...] = 0.3 * rng.standard_normal(model[key].shape)
    return X, y, model


def copied(model):
    return {name: array.copy() for name, array in model.items()}


def nudged(model, rng):
    return {name: array * (1 + NUDGE * rng.standard_normal(array.shape)) for name, array in model.items()}


def assert_agrees(native, python, moved, roundings):
    """Hold arrays against each other: the bound is what relative errors of the weights do to them, for so many roundings."""
    for key, found in native.items():
        spread = max(np.abs(np.asarray(other[key]) - python[key]).max() for other in moved)
        size = np.abs(python[key]).max()
        assert np.abs(np.asarray(found) - python[key]).max() <= roundings * U * (spread / NUDGE + size), key


def flat(result):
    loss, grads = result
    return {"loss": np.array([loss]), **grads}


@pytest.mark.parametrize(
    "module", [m.name for m in pkgutil.iter_modules(cs231n.__path__, "pyfastnn.cs231n.")] + ["pyfastnn.cs231n"]
)
def test_examples_print_what_they_show(module):
    results = doctest.testmod(importlib.import_module(module))
    assert results.failed == 0
    if module.rpartition(".")[2] in ("cs231n", "two_layer", "trainer"):
        assert results.attempted > 3


def test_the_module_is_reached_from_the_package():
    assert fnn.cs231n is cs231n


# --- the net ------------------------------------------------------------------------------------


@pytest.mark.parametrize("reg", [0.0, 0.7])
def test_loss_and_gradients(reg):
    X, y, model = case("net")
    rng = rng_of("net nudge")
    want = flat(numpy_net(X, model, y, reg))
    moved = [flat(numpy_net(X, nudged(model, rng), y, reg)) for _ in range(5)]
    found = flat(two_layer_net(X, model, y, reg))
    assert list(found) == ["loss", *NAMES]
    assert_agrees(found, want, moved, 60 + 7 + 9 + 4)
    scores = [numpy_net(X, nudged(model, rng)) for _ in range(5)]
    assert_agrees({"s": two_layer_net(X, model)}, {"s": numpy_net(X, model)}, [{"s": s} for s in scores], 7 + 9 + 4)


def test_kinds_of_rows_and_models():
    X, y, model = case("kinds")
    whole = np.clip(10 * X + 100, 0, 255).astype(np.uint8)
    want = two_layer_net(whole.astype("f8"), model, y, 0.1)
    for rows in (whole, whole.astype("i4"), whole.tolist(), whole.reshape(60, 7, 1)):
        loss, grads = two_layer_net(rows, model, y.tolist(), 0.1)
        assert loss == want[0]
        assert all(np.array_equal(grads[k], want[1][k]) for k in NAMES)
    single = {k: v.astype("f4") for k, v in model.items()}
    assert two_layer_net(X, single).dtype == np.float32
    assert two_layer_net(X, {**single, "W2": model["W2"]}).dtype == np.float64


def test_first_model():
    np.random.seed(5)
    model = init_two_layer_model(3072, 50, 10)
    np.random.seed(5)
    assert np.array_equal(model["W1"], 0.0001 * np.random.randn(3072, 50))
    assert np.array_equal(model["W2"], 0.0001 * np.random.randn(50, 10))
    assert not model["b1"].any()
    assert not model["b2"].any()
    again = [init_two_layer_model(4, 3, 2, seed=s, dtype="float32")["W1"] for s in (7, 7, 8)]
    assert again[0].dtype == np.float32
    assert np.array_equal(again[0], again[1])
    assert not np.array_equal(again[0], again[2])


def test_the_loss_is_finite_where_the_plain_formula_is_not():
    model = {"W1": np.eye(2), "b1": np.zeros(2), "W2": np.eye(2), "b2": np.zeros(2)}
    loss, grads = two_layer_net(np.array([[2000.0, 0.0]]), model, [1])
    assert loss == 2000.0
    assert np.isfinite(grads["W1"]).all()


# --- the trainer --------------------------------------------------------------------------------

RATES = {"sgd": 0.1, "momentum": 0.05, "nesterov": 0.05, "adagrad": 0.05, "rmsprop": 0.01, "adam": 0.01}


def trained(model, loss_function, data, **settings):
    X, y = data
    model = copied(model)
    best, stats = ClassifierTrainer(seed=3).train(X[:50], y[:50], X[50:], y[50:], model, loss_function, **settings)
    return model, best, stats


@pytest.mark.parametrize("reg", [0.0, 0.01])
@pytest.mark.parametrize("update", UPDATES)
def test_native_steps_agree_with_numpy(update, reg):
    """Ten epochs of five batches with a rate that decays: costs, accuracies and weights, for every rule."""
    X, y, start = case("rules")
    settings = {
        "update": update,
        "reg": reg,
        "learning_rate": RATES[update],
        "momentum": 0.9,
        "learning_rate_decay": 0.9,
        "num_epochs": 10,
        "batch_size": 10,
    }
    native, native_best, native_stats = trained(start, two_layer_net, (X, y), **settings)
    python, python_best, python_stats = trained(start, numpy_net, (X, y), **settings)
    assert native_stats["native"] and not python_stats["native"]
    assert len(native_stats["loss_history"]) == 50
    assert native_stats["loss_history"][-1] < 0.8 * native_stats["loss_history"][0], "it learns"
    rng = rng_of("rules nudge")
    moved, moved_costs = [], []
    for _ in range(4):
        weights, _, stats = trained(nudged(start, rng), numpy_net, (X, y), **settings)
        moved.append(weights)
        moved_costs.append({"cost": np.array(stats["loss_history"])})
    roundings = 50 * (7 + 9 + 4 + 10)
    assert_agrees(native, python, moved, roundings)
    costs = [{"cost": np.array(s["loss_history"])} for s in (native_stats, python_stats)]
    assert_agrees(costs[0], costs[1], moved_costs, roundings)
    for key in ("train_acc_history", "val_acc_history", "best_val_acc", "stop_reason"):
        assert native_stats[key] == python_stats[key]
    assert len(native_stats["val_acc_history"]) == 10
    assert_agrees(native_best, python_best, moved, roundings)


@pytest.mark.parametrize("update", ["momentum", "nesterov"])
def test_without_momentum_these_are_sgd(update):
    X, y, start = case("rules")
    found = [trained(start, two_layer_net, (X, y), update=k, num_epochs=3, batch_size=10) for k in (update, "sgd")]
    assert found[0][2] == found[1][2]
    assert all(np.array_equal(found[0][0][k], found[1][0][k]) for k in NAMES)


def test_a_rate_that_falls_to_nothing_is_followed_in_python():
    X, y, start = case("rules")
    for update, native in (("momentum", False), ("sgd", True)):
        settings = {"update": update, "momentum": 0.9, "learning_rate_decay": 1e-4, "num_epochs": 6}
        model, _, stats = trained(start, two_layer_net, (X, y), **settings)
        assert stats["native"] is native
        assert all(np.isfinite(array).all() for array in model.values())


def test_whole_epochs_as_one_step():
    X, y, start = case("whole")
    settings = {
        "update": "sgd",
        "learning_rate": 0.1,
        "learning_rate_decay": 1,
        "num_epochs": 30,
        "sample_batches": False,
    }
    native, _, stats = trained(start, two_layer_net, (X, y), **settings)
    assert len(stats["loss_history"]) == len(stats["val_acc_history"]) == 30
    by_hand = copied(start)
    costs = []
    for _ in range(30):
        cost, grads = numpy_net(X[:50], by_hand, y[:50])
        costs.append(cost)
        for name in NAMES:
            by_hand[name] -= 0.1 * grads[name]
    np.testing.assert_allclose(stats["loss_history"], costs, rtol=1e-9)
    assert all(np.allclose(native[k], by_hand[k], rtol=1e-9, atol=1e-12) for k in NAMES)


def test_rows_are_those_of_the_lectures_code():
    """Each step draws with replacement from NumPy's global generator, and the training accuracy its 1000 rows after an epoch."""
    X = np.arange(1500.0)[:, None]
    seen = []

    def loss_function(X, model, y=None, reg=0.0):
        seen.append(X[:, 0].astype(int))
        return np.zeros((len(X), 2)) if y is None else (0.0, {"w": np.zeros(1)})

    y = np.zeros(1500, int)
    np.random.seed(11)
    settings = {"num_epochs": 2, "batch_size": 400}
    ClassifierTrainer().train(X, y, X[:7], y[:7], {"w": np.zeros(1)}, loss_function, **settings)
    np.random.seed(11)
    want = []
    for _ in range(2):
        want += [np.random.choice(1500, 400) for _ in range(3)]
        want += [np.random.choice(1500, 1000), np.arange(7)]
    assert len(seen) == len(want) == 10
    assert all(np.array_equal(a, b) for a, b in zip(seen, want, strict=True))
    state = np.random.get_state()[1].copy()
    ClassifierTrainer(seed=0).train(X, y, X[:7], y[:7], {"w": np.zeros(1)}, loss_function, **settings)
    assert np.array_equal(np.random.get_state()[1], state), "a seed leaves the global generator alone"


def test_many_rows_natively():
    """Over 1000 rows the accuracy is of a sample: the same one natively and in Python."""
    X, y, start = case("many", n=1300)
    found = []
    for function in (two_layer_net, numpy_net):
        np.random.seed(4)
        settings = {"num_epochs": 3, "learning_rate": 0.01, "batch_size": 64}
        found.append(ClassifierTrainer().train(X, y, X[:300], y[:300], copied(start), function, **settings)[1])
    assert found[0]["train_acc_history"] == found[1]["train_acc_history"]
    assert all(round(1000 * a, 6) % 1 == 0 for a in found[0]["train_acc_history"])
    assert len(found[0]["loss_history"]) == 3 * (1300 // 64)


@pytest.mark.parametrize("function", [two_layer_net, numpy_net], ids=["native", "python"])
def test_what_is_printed(function, capsys):
    X, y, start = case("printed")
    settings = {"num_epochs": 2, "learning_rate": 1e-3, "update": "sgd", "batch_size": 10, "verbose": True}
    _, _, stats = trained(start, function, (X, y), **settings)
    rows = zip((0.95e-3, 0.95e-3 * 0.95), (4, 9), stats["train_acc_history"], stats["val_acc_history"], strict=True)
    want = [
        f"Finished epoch {k} / 2: cost {stats['loss_history'][at]:.6f}, train: {a:.6f}, val {b:.6f}, lr {rate:.6e}"
        for k, (rate, at, a, b) in enumerate(rows, start=1)
    ]
    want.append(f"finished optimization. best validation accuracy: {max(stats['val_acc_history']):.6f}")
    assert capsys.readouterr().out.splitlines() == want
    trained(start, function, (X, y), **{**settings, "verbose": False})
    assert not capsys.readouterr().out


def test_accuracies_within_an_epoch(capsys):
    X, y, start = case("frequency")
    settings = {"num_epochs": 2, "learning_rate": 0.01, "batch_size": 10, "acc_frequency": 3, "verbose": True}
    runs = [trained(start, function, (X, y), **settings) for function in (two_layer_net, numpy_net)]
    lines = capsys.readouterr().out.splitlines()
    # After steps 1, 4 and 5 (the epoch), then 7 and 10, which ends the epoch itself.
    assert [line.split()[2] for line in lines[:5]] == ["0", "0", "1", "1", "2"]
    assert lines[:6] == lines[6:]
    assert all(len(stats["val_acc_history"]) == 5 for _, _, stats in runs)


def test_the_best_model_is_the_earliest_of_the_best():
    X, y, start = case("best")
    settings = {"num_epochs": 12, "learning_rate": 0.2, "batch_size": 5}
    model, best, stats = trained(start, two_layer_net, (X, y), **settings)
    val = stats["val_acc_history"]
    first = int(np.argmax(val))
    again, _, _ = trained(start, two_layer_net, (X, y), **{**settings, "num_epochs": first + 1})
    assert stats["best_val_acc"] == max(val)
    assert all(np.array_equal(best[k], again[k]) for k in NAMES)
    assert np.mean(two_layer_net(X[50:], best).argmax(1) == y[50:]) == max(val)
    assert all(not np.shares_memory(best[k], model[k]) for k in NAMES)


def test_any_model_of_any_function():
    """A linear classifier, whose dict has other names."""
    X, y, _ = case("linear")

    def softmax(X, model, y=None, reg=0.0):
        scores = X @ model["W"]
        if y is None:
            return scores
        p = np.exp(scores - scores.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        d = (p - np.eye(4)[y]) / len(X)
        return -np.log(p[np.arange(len(X)), y]).mean(), {"W": X.T @ d + reg * model["W"]}

    model = {"W": np.zeros((7, 4))}
    best, stats = ClassifierTrainer(seed=0).train(
        X, y, X, y, model, softmax, num_epochs=20, learning_rate=0.1, batch_size=20
    )
    assert stats["best_val_acc"] > 0.8
    assert set(best) == {"W"}
    with pytest.raises(ValueError, match="gradients of 'loss_function' have no 'V'"):
        ClassifierTrainer().train(X, y, X, y, {**model, "V": np.zeros(1)}, softmax)


def test_float32_and_other_layouts():
    X, y, start = case("float32", dtype="float32")
    settings = {"num_epochs": 5, "learning_rate": 0.05, "batch_size": 10, "momentum": 0.9, "reg": 0.01}
    single, best, stats = trained(start, two_layer_net, (X, y), **settings)
    assert all(a.dtype == np.float32 for a in (*single.values(), *best.values()))
    double, _, _ = trained({k: v.astype("f8") for k, v in start.items()}, two_layer_net, (X, y), **settings)
    assert all(np.allclose(single[k], double[k], rtol=1e-3, atol=1e-4) for k in NAMES)
    mixed = {**start, "W1": np.asfortranarray(start["W1"], "f8")}
    X = np.asfortranarray(X)
    best, _ = ClassifierTrainer(seed=3).train(X[:50], y[:50], X[50:], y[50:], mixed, two_layer_net, **settings)
    assert mixed["W1"].dtype == np.float64
    assert np.allclose(mixed["W1"], double["W1"], rtol=1e-6, atol=1e-6)
    assert best["W2"].dtype == np.float32


# --- guards -------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [two_layer_net, numpy_net], ids=["native", "python"])
def test_guards(function):
    X, y, start = case("guard")
    settings = {"update": "sgd", "learning_rate": 1e6, "learning_rate_decay": 1, "num_epochs": 40, "batch_size": 10}
    with pytest.warns(RuntimeWarning, match="more than 3 times the first cost"):
        _, best, stats = trained(start, function, (X, y), guard="lecture", **settings)
    costs = stats["loss_history"]
    assert stats["stop_reason"] == "limit"
    assert 1 < len(costs) <= 3
    assert max(costs[:-1]) <= 3 * costs[0] < costs[-1]
    assert np.isnan(stats["best_val_acc"])
    assert all(np.array_equal(best[k], start[k]) for k in NAMES), "no accuracy was taken yet"
    explosive = {**settings, "reg": 1.0}  # the penalty multiplies the weights by -1e6 each step
    with np.errstate(all="ignore"):
        with pytest.warns(RuntimeWarning, match="the cost is"):
            _, _, stats = trained(start, function, (X, y), guard="nonfinite", **explosive)
        assert stats["stop_reason"] == "nonfinite"
        assert np.isfinite(stats["loss_history"][:-1]).all()
        assert not np.isfinite(stats["loss_history"][-1])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            _, _, stats = trained(start, function, (X, y), **explosive)
    assert stats["stop_reason"] == "finished"
    assert len(stats["loss_history"]) == 200
    assert np.isnan(stats["loss_history"][-1])


def test_the_guard_counts_from_the_first_epoch():
    """The rate grows after each epoch: the first cost stays the measure."""
    X, y, start = case("guard late")
    settings = {
        "update": "sgd",
        "learning_rate": 1e-3,
        "learning_rate_decay": 8,
        "num_epochs": 12,
        "batch_size": 10,
        "reg": 0.1,
    }
    found = []
    for function in (two_layer_net, numpy_net):
        with pytest.warns(RuntimeWarning, match="training stopped at step"):
            found.append(trained(start, function, (X, y), guard="lecture", **settings)[2])
    assert found[0]["stop_reason"] == found[1]["stop_reason"] == "limit"
    assert len(found[0]["loss_history"]) == len(found[1]["loss_history"]) > 10
    assert len(found[0]["val_acc_history"]) == (len(found[0]["loss_history"]) - 1) // 5


def test_ctrl_c_leaves_the_model_at_a_finished_step():
    """Pressed during a native call of thousands of steps: the weights are then those of some step of it."""
    rng = rng_of("interrupt")
    X, y = rng.standard_normal((400_000, 16)), rng.integers(0, 4, 400_000)
    model = init_two_layer_model(16, 50, 4, seed=0)
    before = copied(model)
    timer = threading.Timer(0.2, _thread.interrupt_main)
    # A process that a shell started in the background ignores Ctrl-C unless it is told otherwise.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        timer.start()
        begun = time.perf_counter()
        with pytest.raises(KeyboardInterrupt):
            ClassifierTrainer(seed=0).train(X, y, X[:10], y[:10], model, two_layer_net, num_epochs=100, batch_size=10)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert time.perf_counter() - begun < 30
    assert any(not np.array_equal(model[k], before[k]) for k in NAMES)
    assert all(np.isfinite(array).all() for array in model.values())


# --- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"update": "adm"}, ValueError, "did you mean 'adam'"),
        ({"guard": "always"}, ValueError, "'guard' is 'always'"),
        ({"reg": -1}, ValueError, "'reg' is -1"),
        ({"learning_rate": 0}, ValueError, "'learning_rate' is 0, expected above 0"),
        ({"learning_rate_decay": "a"}, TypeError, "'learning_rate_decay' is 'a'"),
        ({"momentum": 1}, ValueError, "'momentum' is 1"),
        ({"num_epochs": 0}, ValueError, "'num_epochs' is 0"),
        ({"batch_size": 2.5}, TypeError, "'batch_size' is 2.5"),
        ({"acc_frequency": 0}, ValueError, "'acc_frequency' is 0"),
        ({"learning_rates": 1}, TypeError, "did you mean 'learning_rate'"),
        ({"X": np.zeros((0, 7))}, ValueError, "'X' has no rows"),
        ({"X": np.zeros((60, 8))}, ValueError, "'X' has shape .60, 8.*expected 7"),
        ({"X_val": np.zeros((60, 8))}, ValueError, "'X_val' has shape"),
        ({"y": np.zeros(59, int)}, ValueError, "'y' has shape .59,., expected one label for each of the 60 rows"),
        ({"y_val": np.full(60, 4)}, ValueError, "'y_val' holds the label 4, expected 0 to 3"),
        ({"y": np.full(60, -1)}, ValueError, "'y' holds the label -1"),
        ({"y": np.zeros(60)}, TypeError, "'y' has dtype float64, expected whole numbers"),
        ({"model": [1]}, TypeError, "'model' is list"),
        ({"loss_function": "net"}, TypeError, "'loss_function' is 'net'"),
    ],
)
def test_errors_of_the_trainer(change, error, message):
    X, y, model = case("errors")
    given = {"X": X, "y": y, "X_val": X, "y_val": y, "model": model, "loss_function": two_layer_net, **change}
    before = copied(model)
    with pytest.raises(error, match=message):
        ClassifierTrainer().train(**given)
    assert all(np.array_equal(model[k], before[k]) for k in NAMES)


def test_errors_of_the_model():
    X, y, model = case("errors")
    for change, error, message in (
        ({"W3": model["W1"]}, ValueError, "unknown array 'W3'"),
        ({"W1": [[1.0]]}, TypeError, r"model\['W1'\] is list"),
        ({"W1": model["W1"].astype(int)}, TypeError, r"model\['W1'\] is int64"),
        ({"b2": np.zeros(5)}, ValueError, r"model\['b2'\] has shape \(5,\), expected \(4,\)"),
        ({"W2": np.zeros((9, 0))}, ValueError, r"model\['W2'\] has shape \(9, 0\)"),
    ):
        with pytest.raises(error, match=message):
            two_layer_net(X, {**model, **change})
        with pytest.raises(error, match=message):
            ClassifierTrainer().train(X, y, X, y, {**model, **change}, two_layer_net)
    with pytest.raises(ValueError, match="has no 'b1'"):
        two_layer_net(X, {k: model[k] for k in ("W1", "W2", "b2")})
    with pytest.raises(TypeError, match="'model' is list"):
        two_layer_net(X, [1])
    with pytest.raises(ValueError, match="'reg' is -1"):
        two_layer_net(X, model, y, -1)
    with pytest.raises(ValueError, match="'dtype' is 'int8'"):
        init_two_layer_model(1, 1, 1, dtype="int8")
    with pytest.raises(ValueError, match="'hidden_size' is 0"):
        init_two_layer_model(1, 0, 1)
    model["b1"].flags.writeable = False
    with pytest.raises(ValueError, match=r"model\['b1'\] is read-only"):
        ClassifierTrainer().train(X, y, X, y, model, two_layer_net)


# --- CIFAR-10, JPEG version ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def cifar(real_data: Path, tmp_path_factory):
    """The first 5000 images as rows of float pixels minus the mean image of the first 49000, and their labels."""
    pytest.importorskip("PIL", reason="the JPEG version of CIFAR-10 needs Pillow")
    folder = tmp_path_factory.mktemp("cifar10")
    script = str(real_data / "unpack_cifar10.py")
    subprocess.run([sys.executable, script, "jpeg", str(folder)], check=True, timeout=300)
    data = fnn.data.load(folder)
    pixels = data.X_train.reshape(50000, -1)
    return pixels[:5000] - pixels[:49000].mean(axis=0), data.y_train[:5000]


def test_first_losses_of_cifar(cifar):
    """The lecture shows 2.30261216167 without regularization and 3.06859716482 at 1e3; log(10) is 2.302585."""
    X, y = cifar
    model = init_two_layer_model(32 * 32 * 3, 50, 10, seed=0)
    plain, _ = two_layer_net(X, model, y, 0.0)
    assert abs(plain - 2.3026) <= 0.0005
    penalized, _ = two_layer_net(X, model, y, 1e3)
    # Half of 1e3 times 154100 squares of mean 1e-8 and relative standard deviation sqrt(2 / 154100): 0.7705 +- 0.0028.
    expected, deviation = 500 * 154100e-8, 500 * 1e-8 * np.sqrt(2 * 154100)
    assert abs(penalized - plain - expected) <= 4 * deviation
    assert abs(penalized - 3.0686) <= 4 * deviation + 0.0005


@pytest.mark.parametrize("seed", range(3))
def test_twenty_examples_of_cifar_are_overfitted(cifar, seed):
    """200 epochs of plain gradient descent at 1e-3: the lecture shows a cost of 0.002597."""
    X, y = cifar[0][:20], cifar[1][:20]
    model = init_two_layer_model(32 * 32 * 3, 50, 10, seed=seed)
    best_model, stats = ClassifierTrainer().train(
        X, y, X, y, model, two_layer_net, num_epochs=200, reg=0.0, update="sgd", learning_rate_decay=1,
        sample_batches=False, learning_rate=1e-3
    )  # fmt: skip
    assert abs(stats["loss_history"][0] - 2.3026) <= 0.0005
    assert len(stats["loss_history"]) == 200
    assert stats["loss_history"][-1] < 0.01
    assert stats["train_acc_history"][-1] == stats["best_val_acc"] == 1.0


def test_a_rate_of_a_million_explodes(cifar):
    X, y = cifar[0][:1000], cifar[1][:1000]
    settings = {"num_epochs": 10, "reg": 1e-6, "update": "sgd", "learning_rate_decay": 1, "learning_rate": 1e6}
    model = init_two_layer_model(32 * 32 * 3, 50, 10, seed=0)
    with pytest.warns(RuntimeWarning, match="training stopped"):
        _, stats = ClassifierTrainer(seed=0).train(X, y, X, y, model, two_layer_net, guard="lecture", **settings)
    assert len(stats["loss_history"]) <= 3
