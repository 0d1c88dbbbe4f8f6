"""Every verdict has a planted bad run that gets it; clean runs get none."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import pyfastnn as fnn
from pyfastnn import nn, optim
from pyfastnn.diagnose import Monitor, TrainingWarning, Verdict
from pyfastnn.diagnose.monitor import KINDS
from pyfastnn.testing import rng_of


def blobs(rows: int = 600, noise: float = 1.0, name: str = "blobs"):
    """Three classes that a line parts well."""
    rng = rng_of(name)
    y = rng.integers(0, 3, rows)
    centres = rng_of("centres").standard_normal((3, 10)) * 2
    return (centres[y] + noise * rng.standard_normal((rows, 10))).astype("f4"), y


def fit(model, X, y, optimizer, monitor, **settings):
    """Train and return the trainer, and what it warned of."""
    trainer = fnn.Trainer(model, optimizer=optimizer, monitor=monitor, preflight=False, **settings.pop("trainer", {}))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(X, y, verbose=0, **{"epochs": 8, "batch_size": 20, **settings})
    assert all(issubclass(warning.category, TrainingWarning) for warning in caught)
    return trainer, [str(warning.message) for warning in caught]


def built(*layers, rows, scale=None, **arrays):
    """Return a model for these rows with some arrays filled or scaled."""
    model = nn.Sequential(*layers)
    model.build(rows.shape[1:], seed=0)
    for name, array in model.arrays().items():
        if scale is not None and name.endswith(".w"):
            array *= scale
        if name.replace(".", "_") in arrays:
            array[...] = arrays[name.replace(".", "_")]
    return model


def exploding(monitor):
    X, y = blobs()
    return fit(nn.Sequential(nn.Linear(20), nn.ReLU(), nn.Linear(3)), X, y, optim.SGD(1e6), monitor)


def exploding_unguarded(monitor):
    X, y = blobs()
    model = nn.Sequential(nn.Linear(20), nn.ReLU(), nn.Linear(3))
    return fit(model, X, y, optim.SGD(1e6), monitor, trainer={"guard": None}, epochs=2)


def slow(monitor):
    X, y = blobs()
    return fit(nn.Sequential(nn.Linear(20), nn.ReLU(), nn.Linear(3)), X, y, optim.SGD(1e-7), monitor)


def accuracy_without_loss(monitor):
    X, y = blobs()
    model = built(nn.Linear(3), rows=X, scale=1e-3)
    return fit(model, X, y, optim.SGD(2e-6), monitor)


def overfitting(monitor):
    rng = rng_of("overfitting")
    X, y = rng.standard_normal((120, 20)).astype("f4"), rng.integers(0, 3, 120)
    V, v = rng.standard_normal((300, 20)).astype("f4"), rng.integers(0, 3, 300)
    model = nn.Sequential(nn.Linear(100), nn.ReLU(), nn.Linear(3))
    return fit(model, X, y, optim.Adam(3e-3), monitor, X_val=V, y_val=v, epochs=40)


def crossed(rows: int = 2000):
    """Two classes that no line parts."""
    X = rng_of("crossed").standard_normal((rows, 2)).astype("f4")
    return X, (X[:, 0] * X[:, 1] > 0).astype(int)


def underfitting(monitor):
    X, y = crossed()
    return fit(nn.Sequential(nn.Linear(2)), X, y, optim.SGD(0.01), monitor, X_val=X, y_val=y, epochs=30)


def plateau(monitor):
    X, y = crossed()
    return fit(nn.Sequential(nn.Linear(2)), X, y, optim.SGD(0.01), monitor, epochs=30)


def ratio_high(monitor):
    rng = rng_of("ratio")
    X, y = rng.standard_normal((600, 10)).astype("f4"), rng.integers(0, 3, 600)
    return fit(nn.Sequential(nn.Linear(3)), X, y, optim.SGD(0.5), monitor, epochs=12)


def ratio_low(monitor):
    X, y = blobs()
    return fit(nn.Sequential(nn.Linear(20), nn.ReLU(), nn.Linear(3)), X, y, optim.SGD(2e-5), monitor, epochs=5)


def dead(monitor):
    X, y = blobs()
    model = built(nn.Linear(20), nn.ReLU(), nn.Linear(3), rows=X, linear_1_b=np.where(np.arange(20) < 15, -1000, 0))
    return fit(model, X, y, optim.SGD(0.01), monitor)


def saturated(monitor):
    X, y = blobs()
    model = built(nn.Linear(20), nn.Tanh(), nn.Linear(3), rows=X, scale=50)
    return fit(model, X, y, optim.SGD(1e-3), monitor)


PLANTED = {
    "exploding": (exploding, exploding_unguarded),
    "slow": (slow, accuracy_without_loss),
    "accuracy_without_loss": (accuracy_without_loss,),
    "overfitting": (overfitting,),
    "underfitting": (underfitting,),
    "plateau": (plateau,),
    "update_ratio": (ratio_high, ratio_low),
    "dead": (dead,),
    "saturated": (saturated,),
}
CASES = [(kind, run) for kind, runs in PLANTED.items() for run in runs]


def test_every_kind_is_planted():
    assert set(PLANTED) == set(KINDS)


@pytest.mark.parametrize(("kind", "run"), CASES, ids=[f"{kind}-{run.__name__}" for kind, run in CASES])
def test_a_planted_run_gets_its_verdict_once(kind, run):
    trainer, said = run(Monitor(every=5))
    found = [verdict for verdict in trainer.history.verdicts if verdict.kind == kind]
    assert len(found) == 1, trainer.history.verdicts
    (verdict,) = found
    assert isinstance(verdict, Verdict)
    assert verdict.text
    assert verdict.remedy
    assert 0 < verdict.step <= max(trainer.step_count, 30)
    assert str(verdict).startswith(f"step {verdict.step}")
    if trainer.history.stop_reason != "nonfinite":
        assert str(verdict) in said
    else:
        assert any(verdict.text in text and verdict.remedy in text for text in said)
    if kind == "dead":
        assert verdict.layer == "relu_1"
        assert verdict.value >= 0.75
    if kind == "saturated":
        assert verdict.layer == "tanh_1"


@pytest.mark.parametrize(("kind", "run"), CASES, ids=[f"{kind}-{run.__name__}" for kind, run in CASES])
def test_a_verdict_can_be_silenced(kind, run):
    trainer, _ = run(Monitor(every=5, silence=kind))
    assert kind not in {verdict.kind for verdict in trainer.history.verdicts}


def test_nothing_is_said_without_a_monitor():
    for run in (slow, dead, plateau):
        trainer, said = run(None)
        assert not said
        assert not trainer.history.verdicts
        assert not trainer.history.statistics


CLEAN = {
    "relu_adam": (lambda: [nn.Linear(32), nn.ReLU(), nn.Linear(3)], lambda: optim.Adam()),
    "relu_sgd": (lambda: [nn.Linear(32), nn.ReLU(), nn.Linear(3)], lambda: optim.SGD(0.05, momentum=0.9)),
    "tanh": (lambda: [nn.Linear(32), nn.Tanh(), nn.Linear(3)], lambda: optim.Adam(3e-3)),
    "sigmoid": (lambda: [nn.Linear(32), nn.Sigmoid(), nn.Linear(3)], lambda: optim.Adam(3e-3)),
    "deep": (lambda: [nn.Linear(32), nn.BatchNorm(), nn.ReLU(), nn.Linear(32), nn.ReLU(), nn.Linear(3)], optim.Adam),
    "dropout": (lambda: [nn.Linear(64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(3)], optim.AdamW),
}


@pytest.mark.parametrize("every", [5, 50])
@pytest.mark.parametrize("name", CLEAN)
def test_a_clean_run_gets_no_verdict(name, every):
    layers, optimizer = CLEAN[name]
    (X, y), (V, v) = blobs(2000, 2.0), blobs(1000, 2.0, "more blobs")
    trainer, said = fit(nn.Sequential(*layers()), X, y, optimizer(), Monitor(every=every), X_val=V, y_val=v, epochs=15)
    assert not said
    assert not trainer.history.verdicts
    assert len(trainer.history.statistics) == 15 * 100 // every


def test_a_long_clean_run_gets_no_verdict():
    """Longer than a plateau is judged over: the loss goes on falling."""
    (X, y), (V, v) = blobs(1000), blobs(1000, name="more blobs")
    model = nn.Sequential(nn.Linear(32), nn.ReLU(), nn.Linear(3))
    trainer, said = fit(model, X, y, optim.Adam(), Monitor(every=5), X_val=V, y_val=v, epochs=30)
    assert not said
    assert not trainer.history.verdicts


def test_a_clean_regression_gets_no_verdict():
    rng = rng_of("regression")
    X = rng.standard_normal((1000, 8)).astype("f4")
    y = np.sin(X[:, 0]) + X[:, 1] * X[:, 2] + 0.1 * rng.standard_normal(1000)
    model = nn.Sequential(nn.Linear(64), nn.ReLU(), nn.Linear(1))
    settings = {"trainer": {"loss": "mean_squared_error"}, "X_val": X[:300], "y_val": y[:300], "epochs": 20}
    trainer, said = fit(model, X, y, optim.Adam(3e-3), Monitor(every=5), **settings)
    assert not said
    assert not trainer.history.verdicts


def test_settings_are_checked():
    with pytest.raises(TypeError, match="Monitor: unknown keyword 'deadd', did you mean 'dead'"):
        Monitor(deadd=0.5)
    with pytest.raises(ValueError, match="did you mean 'plateau'"):
        Monitor(silence=("plateaus",))
    with pytest.raises(ValueError, match="'every' is 0"):
        Monitor(every=0)
    with pytest.raises(TypeError, match="'gap' is '1'"):
        Monitor(gap="1")
    with pytest.raises(TypeError, match="'monitor' is 3"):
        fnn.Trainer(nn.Sequential(nn.Linear(2)), monitor=3)
    assert fnn.Trainer(nn.Sequential(nn.Linear(2)), monitor=False).monitor is None
    assert fnn.Trainer(nn.Sequential(nn.Linear(2))).monitor == Monitor()
