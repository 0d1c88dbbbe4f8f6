"""The training API: against hand-written NumPy loops, and every meaning users rely on."""

from __future__ import annotations

import copy
import pickle
import sys
import time

import numpy as np
import pytest

import pyfastnn as fnn
from pyfastnn import _core, nn, optim
from pyfastnn.testing import assert_same_bits, rng_of

USUAL_COST = 8000.0


@pytest.fixture
def threads_for_all_shapes():
    """Let threads share work that is too small to be worth it."""
    _core.set_parallel_cost(0.0)
    yield
    _core.set_parallel_cost(USUAL_COST)


def toy(rows: int = 61, features: int = 7, classes: int = 3, dtype: str = "float32"):
    """Return rows and labels that a small network learns in a few epochs."""
    rng = rng_of("toy", rows, features, classes)
    y = rng.integers(0, classes, rows)
    centers = 2.0 * rng.standard_normal((classes, features))
    return (centers[y] + rng.standard_normal((rows, features))).astype(dtype), y


def small(*layers: nn.Layer, dtype: str = "float32", preprocess=None, **settings) -> fnn.Trainer:
    layers = layers or (nn.Linear(9), nn.ReLU(), nn.Linear(3))
    return fnn.Trainer(nn.Sequential(*layers, dtype=dtype, preprocess=preprocess), **settings)


def busy(**settings) -> fnn.Trainer:
    """Return a trainer whose network uses everything that has a state or draws random numbers."""
    layers = (nn.Linear(12), nn.BatchNorm(), nn.ReLU(), nn.Dropout(0.3), nn.Linear(3))
    return small(*layers, preprocess=fnn.data.Standardize(), optimizer=optim.AdamW(0.01), **settings)


def state_of(trainer: fnn.Trainer) -> dict[str, np.ndarray]:
    """Return everything of a run that must have equal bits."""
    columns = ("loss", "accuracy", "val_loss")
    seen = {c: np.array(trainer.history[c]) for c in columns if c in trainer.history.columns}
    slots = {f"slot {k}": a.copy() for k, a in trainer.slots.items()}
    return {**trainer.model.state_dict(), **slots, **seen, "steps": np.array(trainer.step_count)}


def assert_same_state(got: dict[str, np.ndarray], want: dict[str, np.ndarray]) -> None:
    assert list(got) == list(want)
    for name, array in want.items():
        assert_same_bits(got[name], array, name)


# Hand-written loops: no graph, no layers, no reference functions


def softmax_gradient(scores: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    n = len(labels)
    loss = float(-np.log(p[np.arange(n), labels]).mean())
    p[np.arange(n), labels] -= 1
    return loss, p / n


def loop_mlp_momentum(X, y, start, *, rate, momentum, decay, batch, steps):
    """Train 7-9-3 with ReLU by momentum and L2 on the weights; return losses, penalties and weights."""
    w1, b1, w2, b2 = (start[k].astype("f8") for k in ("linear_1.w", "linear_1.b", "linear_2.w", "linear_2.b"))
    v = [np.zeros_like(a) for a in (w1, b1, w2, b2)]
    losses = []
    for k in range(steps):
        rows = slice(k * batch % len(X), min(len(X), k * batch % len(X) + batch))
        x, t = X[rows].astype("f8"), y[rows]
        h = x @ w1 + b1
        a = np.maximum(h, 0)
        loss, ds = softmax_gradient(a @ w2 + b2, t)
        losses.append(loss)
        dw2 = a.T @ ds + decay * w2
        db2 = ds.sum(axis=0)
        dh = (ds @ w2.T) * (h > 0)
        dw1 = x.T @ dh + decay * w1
        db1 = dh.sum(axis=0)
        for i, (p, g) in enumerate([(w1, dw1), (b1, db1), (w2, dw2), (b2, db2)]):
            v[i] = momentum * v[i] + g
            p -= rate * v[i]
    penalty = 0.5 * decay * ((w1**2).sum() + (w2**2).sum())
    return losses, penalty, {"linear_1.w": w1, "linear_1.b": b1, "linear_2.w": w2, "linear_2.b": b2}


def loop_norm_adam(X, y, start, *, rate, batch, steps, beta1=0.9, beta2=0.999, small=1e-8, eps=1e-5, weight=0.1):
    """Train linear, batch norm, tanh, linear by Adam; return losses and weights with running statistics."""
    names = ("linear_1.w", "batch_norm_1.gamma", "batch_norm_1.beta", "linear_2.w", "linear_2.b")
    p = {k: start[k].astype("f8") for k in names}
    mean, var = np.zeros(9), np.ones(9)
    m, v = ({k: np.zeros_like(a) for k, a in p.items()} for _ in range(2))
    losses = []
    for k in range(steps):
        rows = slice(k * batch % len(X), min(len(X), k * batch % len(X) + batch))
        x, t = X[rows].astype("f8"), y[rows]
        n = len(x)
        h = x @ p["linear_1.w"]
        mu, sigma2 = h.mean(axis=0), h.var(axis=0)
        z = (h - mu) / np.sqrt(sigma2 + eps)
        mean = (1 - weight) * mean + weight * mu
        var = (1 - weight) * var + weight * sigma2 * n / (n - 1)
        a = np.tanh(p["batch_norm_1.gamma"] * z + p["batch_norm_1.beta"])
        loss, ds = softmax_gradient(a @ p["linear_2.w"] + p["linear_2.b"], t)
        losses.append(loss)
        dy = (ds @ p["linear_2.w"].T) * (1 - a * a)
        dz = dy * p["batch_norm_1.gamma"]
        dh = (dz - dz.mean(axis=0) - z * (dz * z).mean(axis=0)) / np.sqrt(sigma2 + eps)
        g = {
            "linear_1.w": x.T @ dh,
            "batch_norm_1.gamma": (dy * z).sum(axis=0),
            "batch_norm_1.beta": dy.sum(axis=0),
            "linear_2.w": a.T @ ds,
            "linear_2.b": ds.sum(axis=0),
        }
        for name, gradient in g.items():
            m[name] = beta1 * m[name] + (1 - beta1) * gradient
            v[name] = beta2 * v[name] + (1 - beta2) * gradient**2
            step = (m[name] / (1 - beta1 ** (k + 1))) / (np.sqrt(v[name] / (1 - beta2 ** (k + 1))) + small)
            p[name] = p[name] - rate * step
    return losses, {**p, "batch_norm_1.running_mean": mean, "batch_norm_1.running_var": var}


def assert_weights(got: dict[str, np.ndarray], want: dict[str, np.ndarray], bound: float) -> None:
    for name, array in want.items():
        error = np.abs(got[name] - array).max() / np.abs(array).max()
        assert error <= bound, f"{name}: {error:.3g}"


LOOP_BOUND = {"float32": 1e-4, "float64": 1e-11}  # ten chained steps of some hundred roundings of 2**-24 and 2**-53


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("door", ["fit", "step"])
def test_ten_steps_of_momentum_with_l2_as_a_numpy_loop(door, dtype):
    X, y = toy(dtype=dtype)
    trainer = small(dtype=dtype, optimizer=optim.SGD(0.1, momentum=0.9, weight_decay=0.02))
    trainer.model.build((7,), seed=5)
    start = trainer.model.state_dict()
    batch = 13  # five steps an epoch, the last of 9 rows
    losses, penalty, want = loop_mlp_momentum(
        X[:61], y[:61], start, rate=0.1, momentum=0.9, decay=0.02, batch=batch, steps=5
    )
    if door == "fit":
        history = trainer.fit(X, y, epochs=1, batch_size=batch, shuffle=False, verbose=0)
        sizes = np.array([13, 13, 13, 13, 9])
        np.testing.assert_allclose(history["loss"], [(sizes * losses).sum() / 61], rtol=LOOP_BOUND[dtype])
        np.testing.assert_allclose(history["penalty"], [penalty], rtol=LOOP_BOUND[dtype])
    else:
        found = [trainer.step(X[k : k + batch], y[k : k + batch]) for k in range(0, 61, batch)]
        np.testing.assert_allclose(found, losses, rtol=LOOP_BOUND[dtype])
    assert_weights(trainer.model.state_dict(), want, LOOP_BOUND[dtype])
    assert trainer.step_count == 5


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ten_steps_of_batch_norm_with_adam_as_a_numpy_loop(dtype):
    X, y = toy(60, dtype=dtype)
    layers = (nn.Linear(9, bias=False), nn.BatchNorm(), nn.Tanh(), nn.Linear(3))
    trainer = small(*layers, dtype=dtype, optimizer=optim.Adam(0.02))
    trainer.model.build((7,), seed=5)
    losses, want = loop_norm_adam(X, y, trainer.model.state_dict(), rate=0.02, batch=12, steps=10)
    trainer.fit(X, y, epochs=2, batch_size=12, shuffle=False, verbose=0)
    bound = 10 * LOOP_BOUND[dtype]  # Adam divides by the root of small second moments
    np.testing.assert_allclose(trainer.history["loss"], [np.mean(losses[:5]), np.mean(losses[5:])], rtol=bound)
    assert_weights(trainer.model.state_dict(), want, bound)


def test_ten_steps_of_momentum_in_the_shuffled_order():
    """Each epoch goes through a permutation of the rows fixed by seed and epoch."""
    X, y = toy(60, dtype="float64")
    trainer = small(dtype="float64", optimizer=optim.SGD(0.1, momentum=0.9), seed=17)
    trainer.model.build((7,), seed=5)
    orders = [np.empty(60, np.int64) for _ in range(2)]
    for epoch, order in enumerate(orders):
        _core.permutation(order, 17, epoch)
        assert sorted(order) == list(range(60))
    assert (orders[0] != orders[1]).any()
    both = np.concatenate(orders)
    start = trainer.model.state_dict()
    losses, _, want = loop_mlp_momentum(X[both], y[both], start, rate=0.1, momentum=0.9, decay=0.0, batch=12, steps=10)
    trainer.fit(X, y, epochs=2, batch_size=12, verbose=0)
    np.testing.assert_allclose(trainer.history["loss"], [np.mean(losses[:5]), np.mean(losses[5:])], rtol=1e-11)
    assert_weights(trainer.model.state_dict(), want, 1e-11)


def test_a_loop_with_another_rate_is_told_apart():
    """The comparison above rejects a learning rate that is a thousandth too large."""
    X, y = toy(dtype="float64")
    trainer = small(dtype="float64", optimizer=optim.SGD(0.1, momentum=0.9))
    trainer.model.build((7,), seed=5)
    start = trainer.model.state_dict()
    _, _, want = loop_mlp_momentum(X, y, start, rate=0.1001, momentum=0.9, decay=0.0, batch=13, steps=5)
    trainer.fit(X, y, epochs=1, batch_size=13, shuffle=False, verbose=0)
    with pytest.raises(AssertionError):
        assert_weights(trainer.model.state_dict(), want, LOOP_BOUND["float32"])


# Equal bits


def run_busy(threads: int = 0, seed: int = 4, epochs: int = 4) -> dict[str, np.ndarray]:
    X, y = toy(300)
    trainer = busy(seed=seed, threads=threads)
    trainer.fit(X, y, X_val=X[:50], y_val=y[:50], epochs=epochs, batch_size=64, verbose=0)
    return {**state_of(trainer), "proba": trainer.model.predict_proba(X)}


def test_same_seed_same_bits():
    want = run_busy()
    assert_same_state(run_busy(), want)
    other = run_busy(seed=5)
    assert (other["linear_1.w"] != want["linear_1.w"]).any()


@pytest.mark.usefixtures("threads_for_all_shapes")
@pytest.mark.parametrize("threads", [2, 7])
def test_number_of_threads_changes_no_bit(threads):
    assert_same_state(run_busy(threads), run_busy(1))


def test_checkpoint_in_the_middle_continues_bit_for_bit(tmp_path):
    X, y = toy(300)
    whole, first = busy(seed=9), busy(seed=9)
    settings = {"X_val": X[:40], "y_val": y[:40], "batch_size": 32, "verbose": 0}
    whole.fit(X, y, epochs=5, **settings)
    first.fit(X, y, epochs=2, **settings)
    first.checkpoint(tmp_path / "run.ckpt")
    second = fnn.Trainer.resume(tmp_path / "run.ckpt")
    assert_same_state(state_of(second), state_of(first))
    second.fit(X, y, epochs=3, **settings)
    assert_same_state(state_of(second), state_of(whole))
    assert (second.epoch, second.step_count) == (5, 50)
    for name in ("epoch", "learning_rate"):
        assert second.history[name] == whole.history[name]
    assert_same_bits(second.model(X), whole.model(X))


def test_checkpoint_within_an_epoch(tmp_path):
    """After max_steps the next fit begins another epoch, whether the trainer is the same or a resumed one."""
    X, y = toy(300)
    trainer = busy(seed=9)
    trainer.fit(X, y, epochs=3, max_steps=7, batch_size=64, verbose=0)
    trainer.checkpoint(tmp_path / "a")
    resumed = fnn.Trainer.resume(tmp_path / "a")
    for each in (trainer, resumed):
        each.fit(X, y, epochs=1, batch_size=64, verbose=0)
    assert_same_state(state_of(resumed), state_of(trainer))


def test_checkpoint_before_any_step(tmp_path):
    X, y = toy()
    trainer = small(optimizer="momentum", seed=3)
    trainer.model.build((7,), seed=3)
    trainer.checkpoint(tmp_path / "a")
    resumed = fnn.Trainer.resume(tmp_path / "a")
    for each in (trainer, resumed):
        each.fit(X, y, epochs=1, verbose=0)
    assert_same_state(state_of(resumed), state_of(trainer))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_row_alone_has_the_bits_it_has_in_a_batch(dtype):
    X, y = toy(600, dtype=dtype)
    layers = (nn.Linear(33), nn.BatchNorm(), nn.ELU(), nn.Linear(70), nn.Tanh(), nn.Linear(3))
    trainer = small(*layers, dtype=dtype, preprocess=fnn.data.Standardize())
    trainer.fit(X, y, epochs=2, verbose=0)
    scores, labels = trainer.model(X), trainer.model.predict(X)
    for i in (0, 1, 255, 256, 257, 511, 512, 599):
        assert_same_bits(trainer.model(X[i : i + 1])[0], scores[i], f"row {i}")
        assert trainer.model.predict(X[i : i + 1])[0] == labels[i]
    for lot in (2, 7, 31, 300):
        assert_same_bits(trainer.model(X[5 : 5 + lot]), scores[5 : 5 + lot], f"{lot} rows")


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))], ids=["deepcopy", "pickle"])
def test_copies_go_their_own_way(copied):
    X, y = toy(200)
    trainer = busy(seed=2)
    trainer.fit(X, y, epochs=1, verbose=0)
    trainer.model.predict(X)
    before, twin = state_of(trainer), copied(trainer)
    assert_same_state(state_of(twin), before)
    twin.fit(X, y, epochs=2, verbose=0)
    assert_same_state(state_of(trainer), before)
    trainer.fit(X, y, epochs=2, verbose=0)
    assert_same_state(state_of(twin), state_of(trainer))
    assert_same_bits(copied(trainer.model)(X), trainer.model(X))


# Guards


def test_nonfinite_guard_restores_the_weights():
    X, y = toy(100)
    trainer = busy(seed=1)
    trainer.fit(X, y, epochs=2, batch_size=32, verbose=0)
    before = state_of(trainer)
    trainer.optimizer.learning_rate = 1e30
    with pytest.warns(RuntimeWarning, match=r"training stopped at step \d of epoch 3: the loss is (nan|inf)"):
        history = trainer.fit(X, y, epochs=5, batch_size=32, verbose=0)
    assert history.stop_reason == "nonfinite"
    assert_same_state(state_of(trainer), before)
    assert trainer.epoch == len(history) == 2


def test_nonfinite_guard_sees_weights_spoiled_by_the_last_step():
    """The loss of an epoch of one step is fine, its update is not: the next epoch could restore ruins only."""
    X, y = toy(40)
    trainer = small(optimizer=optim.SGD(3e38))
    trainer.model.build((7,))
    before = trainer.model.state_dict()
    with pytest.warns(
        RuntimeWarning, match=r"step 1 of epoch 1: the loss is \S+ and the update after it made weights NaN"
    ):
        trainer.fit(100 * X, y, epochs=5, batch_size=40, verbose=0)
    assert trainer.history.stop_reason == "nonfinite"
    assert (trainer.epoch, trainer.step_count, len(trainer.history)) == (0, 0, 0)
    for name, array in trainer.model.state_dict().items():
        assert_same_bits(array, before[name], name)


def test_no_guard_lets_everything_pass():
    X, y = toy(40)
    trainer = small(optimizer=optim.SGD(1e30), guard=None)
    trainer.fit(X, y, epochs=3, verbose=0)
    assert trainer.history.stop_reason == "finished"
    assert np.isnan(trainer.history["loss"][-1])


def test_lecture_guard_stops_above_three_times_the_first_loss():
    X, y = toy(200)
    trainer = small(optimizer=optim.SGD(0.01), guard="lecture")
    trainer.fit(X, y, epochs=1, batch_size=20, verbose=0)
    before = state_of(trainer)
    trainer.optimizer.learning_rate = 30.0
    with pytest.warns(RuntimeWarning, match="more than three times the first loss"):
        trainer.fit(X, y, epochs=5, batch_size=20, verbose=0)
    assert trainer.history.stop_reason == "limit"
    assert_same_state(state_of(trainer), before)


def test_lecture_guard_within_the_first_epoch():
    X, y = toy(200)
    trainer = small(optimizer=optim.SGD(30.0), guard="lecture")
    with pytest.warns(RuntimeWarning, match="step [2-9] of epoch 1"):
        trainer.fit(X, y, epochs=5, batch_size=20, verbose=0)
    assert len(trainer.history) == 0


# Fit, its ends and its record


def test_fit_continues():
    X, y = toy(200)
    once, twice = busy(seed=6), busy(seed=6)
    once.fit(X, y, epochs=5, verbose=0)
    twice.fit(X, y, epochs=2, verbose=0)
    twice.fit(X, y, epochs=3, verbose=0)
    assert_same_state(state_of(twice), state_of(once))
    assert twice.history["epoch"] == [1, 2, 3, 4, 5]


def test_fit_says_once_that_it_continues(capsys):
    X, y = toy()
    trainer = small()
    trainer.fit(X, y, epochs=2, verbose=1)
    first = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in first] == [["epoch", "1"], ["epoch", "2"]]
    assert all(" loss " in line and " accuracy " in line and line.endswith("samples/s") for line in first)
    trainer.fit(X, y, epochs=1, verbose=1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "continuing from epoch 2; trainer.reset() starts over"
    assert len(lines) == 2
    trainer.fit(X, y, epochs=1, verbose=0)
    trainer.fit(X, y, epochs=1)  # no terminal here
    assert capsys.readouterr() == ("", "")


def test_bar_without_tqdm_is_a_line(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    X, y = toy()
    small().fit(X, y, epochs=2, verbose=2)
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.startswith("\r 50% epoch 2/2 ")
    assert written.err.rstrip("\n").rsplit("\r", 1)[1].startswith("100% epoch 2/2 ")


def test_preprocessing_is_not_fitted_again():
    X, y = toy(200)
    trainer = busy()
    trainer.fit(X, y, epochs=1, verbose=0)
    shift = trainer.model.preprocess.shift_.copy()
    trainer.fit(X + 5, y, epochs=1, verbose=0)
    assert_same_bits(trainer.model.preprocess.shift_, shift)


def test_reset_starts_over():
    X, y = toy(200)
    trainer = busy(seed=8)
    trainer.fit(X, y, epochs=3, verbose=0)
    want = state_of(trainer)
    trainer.reset()
    assert (trainer.epoch, trainer.step_count, len(trainer.history)) == (0, 0, 0)
    trainer.fit(X, y, epochs=3, verbose=0)
    assert_same_state(state_of(trainer), want)


@pytest.mark.parametrize(("steps", "rows"), [(1, [1]), (3, [3]), (4, [4]), (6, [4, 2]), (9, [4, 4, 1])])
def test_max_steps(steps, rows):
    """Sixty-one rows are four steps of 16 an epoch."""
    X, y = toy()
    trainer = small(seed=2)
    history = trainer.fit(X, y, epochs=50, max_steps=steps, batch_size=16, verbose=0)
    assert history.stop_reason == "max_steps"
    assert trainer.step_count == steps
    assert len(history) == len(rows)
    assert all(np.isfinite(row["loss"]) and 0 <= row["accuracy"] <= 1 for row in history)


def test_max_steps_takes_the_steps_of_a_whole_fit():
    X, y = toy()
    whole, cut = small(seed=2), small(seed=2)
    whole.fit(X, y, epochs=2, batch_size=16, verbose=0)
    cut.fit(X, y, epochs=9, max_steps=8, batch_size=16, verbose=0)
    assert_same_state(state_of(cut), state_of(whole))


def test_max_seconds():
    X, y = toy(300)
    started = time.perf_counter()
    history = small().fit(X, y, epochs=10**7, max_seconds=0.3, verbose=0)
    assert 0.3 <= time.perf_counter() - started < 3.0
    assert history.stop_reason == "max_seconds"


def test_max_seconds_within_an_epoch():
    X = np.zeros((1_000_000, 4), np.float32)
    trainer = small(preflight=False)
    history = trainer.fit(X, np.arange(len(X)) % 3, max_seconds=0.15, batch_size=1, verbose=0)
    assert history.stop_reason == "max_seconds"
    assert 0 < trainer.step_count < len(X)
    assert len(history) == 1


def test_callbacks_see_trainer_and_row_and_may_stop():
    X, y = toy()
    seen = []

    def note(trainer, row):
        seen.append((trainer.epoch, row["epoch"], row is trainer.history.rows[-1]))

    def stop(trainer, row):
        return row["epoch"] == 3

    trainer = small()
    history = trainer.fit(X, y, epochs=10, callbacks=[stop, note], verbose=0)
    assert history.stop_reason == "callback"
    assert seen == [(1, 1, True), (2, 2, True), (3, 3, True)]


def test_error_in_a_callback_comes_through_and_leaves_a_whole_trainer():
    X, y = toy()

    def fail(trainer, row):
        raise LookupError("mine")

    trainer, plain = small(seed=4), small(seed=4)
    with pytest.raises(LookupError, match="mine"):
        trainer.fit(X, y, epochs=3, callbacks=[fail], verbose=0)
    assert (trainer.epoch, len(trainer.history)) == (1, 1)
    trainer.fit(X, y, epochs=1, verbose=0)
    plain.fit(X, y, epochs=2, verbose=0)
    assert_same_state(state_of(trainer), state_of(plain))


def test_callbacks_may_use_the_trainer():
    """Evaluation, prediction and a checkpoint between epochs change no bit of the run."""
    X, y = toy(200)
    folder = []

    def look(trainer, row):
        trainer.evaluate(X, y)
        trainer.model.predict(X)
        folder.append(copy.deepcopy(trainer))

    plain, watched = busy(seed=3), busy(seed=3)
    plain.fit(X, y, epochs=3, verbose=0)
    watched.fit(X, y, epochs=3, callbacks=[look], verbose=0)
    assert_same_state(state_of(watched), state_of(plain))
    assert [t.epoch for t in folder] == [1, 2, 3]


def test_history_holds_what_was_measured(tmp_path):
    X, y = toy(200)
    trainer = small(optimizer=optim.SGD(0.1, weight_decay=0.01))
    history = trainer.fit(X, y, X_val=X[:60], y_val=y[:60], epochs=3, verbose=0)
    columns = ["epoch", "loss", "penalty", "accuracy", "val_loss", "val_accuracy"]
    assert history.columns == [*columns, "learning_rate", "seconds", "samples_per_second"]
    assert history["epoch"] == [1, 2, 3]
    found = trainer.evaluate(X[:60], y[:60])
    assert (history["val_loss"][-1], history["val_accuracy"][-1]) == (found["loss"], found["accuracy"])
    weights = trainer.model.parameters
    penalty = 0.005 * sum(float((weights[k].astype("f8") ** 2).sum()) for k in ("linear_1.w", "linear_2.w"))
    assert history["penalty"][-1] == pytest.approx(penalty, rel=1e-5)
    assert all(row["samples_per_second"] == pytest.approx(200 / row["seconds"]) for row in history)
    history.to_csv(tmp_path / "h.csv")
    lines = (tmp_path / "h.csv").read_text().splitlines()
    assert lines[0].split(",") == history.columns
    assert [float(v) for v in lines[2].split(",")] == [history.rows[1][c] for c in history.columns]
    shown = repr(history).splitlines()
    assert len(shown) == 4
    assert shown[0].split() == history.columns
    with pytest.raises(KeyError, match="did you mean 'val_loss'"):
        history["valloss"]


def test_decoupled_decay_is_no_penalty():
    X, y = toy()
    trainer = small(optimizer=optim.AdamW(0.01, weight_decay=0.1))
    assert "penalty" not in trainer.fit(X, y, epochs=1, verbose=0).columns


def test_weight_decay_spares_biases_and_norms():
    """Where all inputs are 0 the gradients of the first weight and of gamma are: only the one that decays moves."""
    layers = (nn.Linear(4, bias=False), nn.BatchNorm(), nn.Linear(3, bias=False))
    trainer = small(*layers, optimizer=optim.AdamW(0.5, weight_decay=0.5))
    trainer.model.build((5,))
    start = trainer.model.state_dict()
    trainer.step(np.zeros((3, 5), np.float32), np.array([0, 1, 2]))
    now = trainer.model.state_dict()
    np.testing.assert_allclose(now["linear_1.w"], 0.75 * start["linear_1.w"], rtol=1e-6)
    assert_same_bits(now["batch_norm_1.gamma"], start["batch_norm_1.gamma"])


def test_validation_is_the_prediction_form_on_raw_rows():
    X, y = toy(200)
    trainer = busy()
    trainer.fit(X, y, epochs=2, verbose=0)
    found = trainer.evaluate(X, y)
    proba = trainer.model.predict_proba(X).astype("f8")
    assert found["loss"] == pytest.approx(-np.log(proba[np.arange(200), y]).mean(), rel=1e-5)
    assert found["accuracy"] == (trainer.model.predict(X) == y).mean()
    np.testing.assert_allclose(proba.sum(axis=1), 1, atol=1e-6)


def test_evaluation_after_the_arrays_were_replaced():
    X, y = toy(200)
    trainer = small()
    trainer.fit(X, y, epochs=3, verbose=0)
    trainer.model.build((7,), seed=99)
    fresh = small(seed=0)
    fresh.model.build((7,), seed=99)
    fresh.model.classes_, fresh.model.task = trainer.model.classes_, trainer.model.task
    assert trainer.evaluate(X, y) == fresh.evaluate(X, y)


def test_trainer_sees_preprocessing_that_was_fitted_again():
    X, y = toy(200)
    trainer = busy()
    trainer.fit(X, y, epochs=1, verbose=0)
    before = trainer.evaluate(X, y)
    trainer.model.preprocess.fit(X + 3)
    trainer.model.refresh()
    assert trainer.evaluate(X + 3, y)["accuracy"] == before["accuracy"]
    assert trainer.evaluate(X, y)["loss"] != before["loss"]


def test_digits_are_learned():
    X, y = fnn.data.load_digits()
    Xt, Xv, yt, yv = fnn.data.split(X, y, validation=0.2, seed=0, stratify=y)
    model = nn.Sequential(
        nn.Linear(128),
        nn.BatchNorm(),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(10),
        preprocess=fnn.data.Standardize(),
    )
    trainer = fnn.Trainer(model, loss="softmax_cross_entropy", optimizer=optim.Adam(1e-3), metrics=["accuracy"], seed=0)
    history = trainer.fit(Xt, yt, X_val=Xv, y_val=yv, epochs=20, batch_size=128, verbose=0)
    assert history["val_accuracy"][-1] >= 0.96
