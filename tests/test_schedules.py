"""Schedules of the learning rate: closed forms, PyTorch's where it has them, chains, files, and what the trainer makes of them."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

import pyfastnn as fnn
from pyfastnn import nn, optim
from pyfastnn.optim.plateau import Watch
from pyfastnn.optim.schedules import SCHEDULES, from_config
from pyfastnn.testing import assert_same_bits, rng_of

EXAMPLES = {
    "constant": optim.Constant(0.2),
    "step": optim.Step(0.5, epochs=3, factor=0.3),
    "milestones": optim.Step(0.5, epochs=[2, 5, 6], factor=0.3),
    "exponential": optim.Exponential(0.5, epochs=2, factor=0.7),
    "inverse_time": optim.InverseTime(0.5, epochs=4),
    "cosine": optim.Cosine(0.5, epochs=7, min_rate=0.01),
    "restarts": optim.Cosine(0.5, epochs=2, cycles=3, growth=2, min_rate=0.01),
    "linear_warmup": optim.LinearWarmup(0.5, epochs=4, start_factor=0.25),
    "one_cycle": optim.OneCycle(0.5, epochs=9, warmup=0.4),
    "reduce_on_plateau": optim.ReduceOnPlateau(0.5, monitor="loss", patience=1, cooldown=1, min_rate=1e-3),
    "chain": optim.LinearWarmup(epochs=2) + optim.Cosine(0.5, epochs=4) + 0.01,
    "chain_of_defaults": optim.LinearWarmup(epochs=2) + optim.Exponential(),
    "in_steps": optim.LinearWarmup(steps=7) + optim.Step(0.5, steps=5),
}


def rates(schedule: optim.Schedule, times: object, default: float = 0.25, reductions: int = 0) -> np.ndarray:
    at = np.asarray(times, np.float64)
    return schedule.rates(at, at, default, reductions)


def test_closed_forms():
    times = np.array([0.0, 0.5, 1, 1.75, 2, 4, 6, 11])
    np.testing.assert_allclose(rates(optim.Constant(0.3), times), 0.3, rtol=0)
    np.testing.assert_allclose(
        rates(optim.Step(1.0, epochs=2, factor=0.5), times), [1, 1, 1, 1, 0.5, 0.25, 0.125, 0.5**5]
    )
    np.testing.assert_allclose(
        rates(optim.Step(1.0, epochs=[1, 4], factor=0.5), times), [1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25]
    )
    np.testing.assert_allclose(rates(optim.Exponential(2.0, epochs=2, factor=0.25), times), 2 * 0.5**times, rtol=1e-14)
    np.testing.assert_allclose(rates(optim.InverseTime(3.0, epochs=2), times), 3 / (1 + times / 2), rtol=1e-15)
    np.testing.assert_allclose(rates(optim.LinearWarmup(2.0, epochs=4), times), np.minimum(times / 2, 2), rtol=1e-15)


def test_cosine_ends_at_its_least_rate_and_restarts_warm():
    schedule = optim.Cosine(1.0, epochs=2, cycles=3, growth=2, min_rate=0.1)
    assert schedule.length == 2 + 4 + 8
    found = rates(schedule, [0, 1, 2 - 1e-9, 2, 4, 6 - 1e-9, 6, 10, 14, 20])
    np.testing.assert_allclose(found, [1, 0.55, 0.1, 1, 0.55, 0.1, 1, 0.55, 0.1, 0.1], atol=1e-12)


def test_one_cycle_goes_up_and_down():
    schedule = optim.OneCycle(1.0, epochs=10, warmup=0.25, div_factor=10, final_div_factor=100)
    np.testing.assert_allclose(
        rates(schedule, [0, 1.25, 2.5, 6.25, 10, 99]), [0.1, 0.55, 1, 0.5005, 1e-3, 1e-3], atol=1e-12
    )


def test_a_warmup_rises_to_the_first_rate_of_what_follows():
    schedule = optim.LinearWarmup(epochs=4) + optim.OneCycle(1.0, epochs=10, div_factor=4)
    np.testing.assert_allclose(rates(schedule, [0, 1, 2, 4]), [0, 0.0625, 0.125, 0.25])
    default = optim.LinearWarmup(epochs=4, start_factor=0.5) + optim.Cosine(epochs=10)
    np.testing.assert_allclose(rates(default, [0, 2, 4, 9, 14, 99], 0.2), [0.1, 0.15, 0.2, 0.1, 0, 0], atol=1e-15)
    constant = optim.LinearWarmup(steps=10) + 0.3
    np.testing.assert_allclose(rates(constant, [0, 5, 10, 1000]), [0, 0.15, 0.3, 0.3])


def test_a_chain_is_flat_whichever_way_it_is_added():
    a, b, c = optim.LinearWarmup(epochs=2), optim.Cosine(0.5, epochs=4), optim.Constant(0.1)
    assert (a + b) + c == a + (b + c) == optim.Chain([a, b, 0.1])
    assert (a + b) != (a + b + c)
    assert repr(a + 0.1) == "LinearWarmup(epochs=2.0, start_factor=0.0) + Constant(rate=0.1)"


TORCH = {
    "step": (lambda s, o: s.StepLR(o, 3, 0.3), optim.Step(0.5, epochs=3, factor=0.3)),
    "milestones": (lambda s, o: s.MultiStepLR(o, [2, 5, 6], 0.3), optim.Step(0.5, epochs=[2, 5, 6], factor=0.3)),
    "exponential": (lambda s, o: s.ExponentialLR(o, 0.7), optim.Exponential(0.5, factor=0.7)),
    "linear": (lambda s, o: s.LinearLR(o, 0.25, 1.0, 6), optim.LinearWarmup(0.5, epochs=6, start_factor=0.25)),
    "cosine": (lambda s, o: s.CosineAnnealingLR(o, 25, 0.01), optim.Cosine(0.5, epochs=25, min_rate=0.01)),
    "restarts": (
        lambda s, o: s.CosineAnnealingWarmRestarts(o, 3, 2, 0.01),
        optim.Cosine(0.5, epochs=3, cycles=4, growth=2, min_rate=0.01),
    ),
    "chain": (
        lambda s, o: s.SequentialLR(o, [s.LinearLR(o, 0.25, 1.0, 6), s.ExponentialLR(o, 0.7)], [6]),
        optim.LinearWarmup(epochs=6, start_factor=0.25) + optim.Exponential(0.5, factor=0.7),
    ),
}


@pytest.mark.parametrize("name", TORCH)
def test_epochs_as_in_pytorch(name):
    torch = pytest.importorskip("torch", reason="compares with torch.optim.lr_scheduler")
    make, schedule = TORCH[name]
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.5)
    scheduler = make(torch.optim.lr_scheduler, optimizer)
    want = []
    for _ in range(20):
        want.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    np.testing.assert_allclose(rates(schedule, np.arange(20.0)), want, rtol=1e-12)


@pytest.mark.parametrize("cooldown", [0, 3])
@pytest.mark.parametrize("patience", [0, 2])
@pytest.mark.parametrize("monitor", ["val_loss", "accuracy"])
def test_plateau_as_in_pytorch(monitor, patience, cooldown):
    torch = pytest.importorskip("torch", reason="compares with torch.optim.lr_scheduler")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.5)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer,
        mode="max" if monitor == "accuracy" else "min",
        factor=0.5,
        patience=patience,
        threshold=1e-3,
        cooldown=cooldown,
        min_lr=0.01,
    )
    schedule = optim.ReduceOnPlateau(
        0.5, monitor=monitor, factor=0.5, patience=patience, threshold=1e-3, cooldown=cooldown, min_rate=0.01
    )
    rows, watch, values = [], Watch(), 1 + rng_of("plateau").standard_normal(60).cumsum() * 0.05
    values[20:30] = values[19] * (1 + 1e-4 * np.arange(10))
    values[40] = np.nan
    for value in values:
        rows.append({"epoch": len(rows) + 1, monitor: float(value)})
        scheduler.step(float(value))
        found = rates(schedule, [len(rows)], reductions=watch.reductions(schedule, rows))
        assert found[0] == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
    assert Watch().reductions(schedule, rows) == watch.reductions(schedule, rows) > 0


@pytest.mark.parametrize("name", EXAMPLES)
def test_settings_survive_json(name):
    schedule = EXAMPLES[name]
    again = from_config(json.loads(json.dumps(schedule.config())))
    assert again == schedule
    assert hash(again) == hash(schedule)
    assert_same_bits(rates(again, np.linspace(0, 20, 41)), rates(schedule, np.linspace(0, 20, 41)), name)


def test_examples_hold_every_schedule():
    kinds = {
        k for s in EXAMPLES.values() for k in ([p.kind for p in s.parts] if isinstance(s, optim.Chain) else [s.kind])
    }
    assert kinds == set(SCHEDULES)


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_has_a_name(name):
    rule = optim.SGD(name)
    assert rule.learning_rate == SCHEDULES[name]()
    found = rule.rates(np.arange(50.0), np.arange(50.0) / 5, 0)
    assert (found >= 0).all()
    assert found.max() == pytest.approx(0.01, rel=0.05)


def blobs(rows: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = rng_of("blobs")
    y = rng.integers(0, 3, rows)
    return (rng.standard_normal((rows, 4)) + y[:, None]).astype(np.float32), y


def trainer(learning_rate: object, **settings: object) -> fnn.Trainer:
    return fnn.Trainer(
        nn.Sequential(nn.Linear(5), nn.ReLU(), nn.Linear(3)), optimizer=optim.SGD(learning_rate, **settings)
    )


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_scheduled_run_has_the_bits_of_single_rates(name, tmp_path):
    """Against a run whose rate is set by hand before every epoch, and through a checkpoint in the middle."""
    schedule, (X, y) = EXAMPLES[name], blobs()
    run = trainer(schedule)
    run.fit(X, y, epochs=3, batch_size=20, verbose=0)
    run.checkpoint(tmp_path / "half.pfnn")
    run.fit(X, y, epochs=5, batch_size=20, verbose=0)
    again = fnn.Trainer.resume(tmp_path / "half.pfnn")
    again.fit(X, y, epochs=5, batch_size=20, verbose=0)
    by_hand, watch = trainer(0.0), Watch()
    for epoch in range(8):
        reductions = watch.reductions(schedule, by_hand.history.rows)
        steps, epochs = 3.0 * epoch + np.arange(3), epoch + np.arange(3) / 3
        for rate in schedule.rates(steps, epochs, 0.01, reductions):
            by_hand.optimizer.learning_rate = float(rate)
            # One step of the epoch at a time: its rows are those that the shuffle of the epoch gives.
            index = np.arange(60)
            fnn._core.permutation(index, 0, epoch)
            k = by_hand.step_count % 3
            by_hand.step(X[index[20 * k : 20 * k + 20]], y[index[20 * k : 20 * k + 20]])
        by_hand.history.rows.append({"epoch": epoch + 1, "loss": run.history["loss"][epoch]})
        assert run.history["learning_rate"][epoch] == by_hand.optimizer.learning_rate
    for key, array in run.model.arrays().items():
        assert_same_bits(array, by_hand.model.arrays()[key], key)
        assert_same_bits(array, again.model.arrays()[key], key)
    assert run.history["learning_rate"] == again.history["learning_rate"]


def test_a_run_that_stands_still_gets_a_smaller_rate():
    X, y = blobs()
    run = trainer(optim.ReduceOnPlateau(0.5, patience=0, threshold=0.9, factor=0.5))
    history = run.fit(X, y, X_val=X, y_val=y, epochs=4, verbose=0)
    assert history["learning_rate"] == [0.5, 0.5, 0.25, 0.125]


def test_watching_what_is_not_recorded_says_so():
    X, y = blobs()
    run = trainer(optim.LinearWarmup(epochs=1) + optim.ReduceOnPlateau(0.5))
    with pytest.raises(ValueError, match="ReduceOnPlateau watches 'val_loss': give X_val and y_val, or watch 'loss'"):
        run.fit(X, y, epochs=2, verbose=0)
    assert len(run.history) == 0


def test_watching_a_column_that_never_comes_says_so():
    X, _ = blobs()
    schedule = optim.ReduceOnPlateau(monitor="accuracy")
    run = fnn.Trainer(nn.Sequential(nn.Linear(1)), "mean_squared_error", optim.SGD(schedule))
    with pytest.raises(ValueError, match="ReduceOnPlateau watches an unknown column 'accuracy'; known: loss"):
        run.fit(X, X[:, 0], verbose=0)
    run = trainer(optim.ReduceOnPlateau(monitor="loss"))
    run.history.rows.append({"epoch": 1})
    with pytest.raises(ValueError, match="watches 'loss', which epoch 1 of the history did not record"):
        run.fit(X, np.arange(60) % 3, verbose=0)


def test_single_steps_follow_schedules_in_steps():
    X, y = blobs()
    run, same = trainer(optim.Step(0.5, steps=2, factor=0.5)), trainer(0.5)
    for step in range(7):
        same.optimizer.learning_rate = 0.5 * 0.5 ** (step // 2)
        assert run.step(X, y) == same.step(X, y)


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: optim.Cosine(0.1, epochs=3, steps=4), ValueError, "Cosine: both 'epochs' and 'steps' are given"),
        (lambda: optim.Cosine(0.1, epochs=0), ValueError, "Cosine: 'epochs' is 0"),
        (lambda: optim.Cosine(0.1, cycles=1.5), ValueError, "'cycles' is 1.5, expected a whole number"),
        (lambda: optim.Cosine(0.1, cycle=2), TypeError, r"unknown keyword 'cycle', did you mean 'cycles'\?"),
        (lambda: optim.Cosine(-1), ValueError, "'rate' is -1"),
        (lambda: optim.Step(0.1, epochs=[3, 2]), ValueError, r"'epochs' is \[3, 2\], expected rising numbers"),
        (lambda: optim.Step(0.1, steps=[]), ValueError, r"'steps' is \[\], expected rising numbers"),
        (lambda: optim.Exponential(0.1) + 0.2, ValueError, "Exponential.* never ends"),
        (lambda: optim.LinearWarmup(0.1) + 0.2, ValueError, "leave out its 'rate'"),
        (lambda: optim.LinearWarmup(steps=3) + optim.Cosine(epochs=2), ValueError, "expected one unit"),
        (lambda: optim.LinearWarmup(epochs=3) + "cosine", TypeError, "unsupported operand"),
        (lambda: optim.Chain([]), ValueError, "no schedules"),
        (lambda: optim.ReduceOnPlateau(monitor="val_los"), ValueError, r"did you mean 'val_loss'\?"),
        (lambda: optim.ReduceOnPlateau(patience=-1), ValueError, "'patience' is -1"),
        (
            lambda: optim.SGD("cosin"),
            ValueError,
            r"SGD: 'learning_rate': unknown schedule 'cosin', did you mean 'cosine'\?",
        ),
        (lambda: from_config({"kind": "cosine", "rat": 1}), ValueError, "unknown setting of cosine 'rat'"),
        (lambda: from_config({"kind": "sine"}), ValueError, "unknown schedule 'sine'"),
    ],
)
def test_wrong_settings_are_refused(make, error, match):
    with pytest.raises(error, match=match):
        make()


@pytest.mark.parametrize("name", EXAMPLES)
def test_schedules_are_drawn(name, tmp_path):
    pytest.importorskip("matplotlib", reason="draws a picture")
    path = tmp_path / "rate.svg"
    figure = optim.plot_schedule(EXAMPLES[name], path=path)
    line = figure.axes[0].lines[0]
    assert path.stat().st_size > 1000
    assert len(line.get_xdata()) == 1000
    assert math.isfinite(line.get_ydata().max())
    assert figure.axes[0].get_xlabel() == ("steps" if name == "in_steps" else "epochs")


def test_drawing_the_wrong_thing_says_so():
    with pytest.raises(TypeError, match="'schedule' is 0.1"):
        optim.plot_schedule(0.1)
    with pytest.raises(ValueError, match="'steps' is given, but .* counts in epochs"):
        optim.plot_schedule(optim.Cosine(), steps=100)
