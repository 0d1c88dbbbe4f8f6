"""Settings set anew: noticed, checked, or refused with the way out; never passed over in silence."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import pyfastnn as fnn
from pyfastnn import nn, optim
from pyfastnn.io.model_file import LAYERS
from pyfastnn.nn import losses
from pyfastnn.nn.layer import from_config
from pyfastnn.testing import assert_same_bits, rng_of

RNG = rng_of("settings")
X = RNG.standard_normal((40, 6))
Y = np.arange(40) % 3


def net(**settings):
    return nn.Sequential(nn.Linear(5), nn.Dropout(0.2), nn.Linear(3), dtype="float64", **settings)


def trained(loss="softmax_cross_entropy", optimizer=None, steps=2):
    trainer = fnn.Trainer(net(), loss, optimizer or optim.SGD(0.1), seed=4)
    for _ in range(steps):
        trainer.step(X, Y)
    return trainer


# Layers and losses

MADE = {
    "linear": {"out_features": 3},
    "maxout": {"out_features": 3},
    "embedding": {"vocabulary": 5, "dim": 2},
    "conv2d": {"out_channels": 3, "kernel_size": 2},
    "max_pool2d": {"kernel_size": 2},
    "avg_pool2d": {"kernel_size": 2},
    "group_norm": {"groups": 2},
}


def parts():
    """Return one object of every kind of layer and loss that has settings."""
    layers = [from_config(LAYERS, kind, dict(MADE.get(kind, {}))) for kind in LAYERS]
    return [part for part in (*layers, *map(losses.get, losses.LOSSES)) if part.config()]


@pytest.mark.parametrize("part", parts(), ids=lambda part: part.kind)
def test_settings_of_layers_and_losses_are_fixed(part):
    before = repr(part)
    for name, value in part.config().items():
        with pytest.raises(AttributeError, match=f"{type(part).__name__}: '{name}' is fixed, because plans"):
            setattr(part, name, value)
    with pytest.raises(AttributeError, match=f"{type(part).__name__}: unknown setting 'no_such'"):
        part.no_such = 1
    assert repr(part) == before


def test_the_error_says_what_to_do_and_that_works():
    trainer = trained()
    with pytest.raises(AttributeError, match=r"trainer.loss = nn.SoftmaxCrossEntropy\(label_smoothing=0.1\)"):
        trained(nn.SoftmaxCrossEntropy()).loss.label_smoothing = 0.1
    trainer.loss = nn.SoftmaxCrossEntropy(label_smoothing=0.1)
    scores = trainer.model(X)
    log_p = scores - np.logaddexp.reduce(scores, axis=1)[:, None]
    want = -np.mean(0.9 * log_p[np.arange(40), Y] + 0.1 * log_p.mean(axis=1))
    assert trainer.evaluate(X, Y)["loss"] == pytest.approx(want, rel=1e-12)

    model = trainer.model
    with pytest.raises(AttributeError, match=r"the model anew with Dropout\(p=0.0\) .* new.load_state_dict"):
        model.layers["dropout_1"].p = 0.0
    new = nn.Sequential(nn.Linear(5), nn.Dropout(0.0), nn.Linear(3), dtype="float64").build(6)
    new.load_state_dict(model.state_dict())
    assert_same_bits(new(X), model(X))


def test_a_loss_set_anew_is_trained_with():
    """Against a trainer that had the loss from the first step on: the steps before are the same, as the first loss is."""
    for first, second in (
        ("softmax_cross_entropy", "multiclass_hinge"),
        (nn.MulticlassHinge(), nn.MulticlassHinge(3.0)),
    ):
        changed, anew = trained(first), trained(first)
        changed.loss = second
        anew = fnn.Trainer(anew.model, second, anew.optimizer, seed=4)
        anew.step_count = 2  # dropout counts them
        for each in (changed, anew):
            each.step(X, Y)
        for name, array in anew.model.arrays().items():
            assert_same_bits(changed.model.arrays()[name], array, name)


def test_class_weights_changed_in_place_are_noticed():
    weights = {0: 1.0, 1: 2.0}
    changed = trained(nn.SoftmaxCrossEntropy(class_weight=weights))
    weights[1] = 50.0  # the loss has a copy
    same = trained(nn.SoftmaxCrossEntropy(class_weight={0: 1.0, 1: 2.0}))
    other = trained(nn.SoftmaxCrossEntropy(class_weight={0: 1.0, 1: 2.0}))
    changed.step(X, Y)
    same.step(X, Y)
    for name, array in same.model.arrays().items():
        assert_same_bits(changed.model.arrays()[name], array, name)
    changed.loss.class_weight[1] = 7.0
    other.step(X, Y)
    other.loss = nn.SoftmaxCrossEntropy(class_weight={0: 1.0, 1: 7.0})
    for each in (changed, other):
        each.step(X, Y)
    for name, array in other.model.arrays().items():
        assert_same_bits(changed.model.arrays()[name], array, name)
    with pytest.raises(TypeError):
        nn.SoftmaxCrossEntropy(class_weight=[1.0, 2.0]).class_weight[0] = 3.0


def test_parts_can_be_copied_and_subclassed():
    loss = nn.SoftmaxCrossEntropy(0.1, {"a": 2.0})
    for again in (copy.copy(loss), copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert repr(again) == repr(loss)
        with pytest.raises(AttributeError, match="'label_smoothing' is fixed"):
            again.label_smoothing = 0.2

    class Half(nn.Dropout):
        def __init__(self):
            super().__init__(0.1)
            self.p = 0.5
            self.note = "a setting of its own"

    half = Half()
    assert half.p == 0.5
    half._cache = 3  # nobody's setting
    with pytest.raises(AttributeError, match="Half: 'note' is fixed"):
        half.note = ""


# What a trainer is made with


def two_outputs():
    x = nn.Input((6,))
    h = nn.Linear(4)(x)
    model = nn.Model(x, {"a": nn.Linear(1)(h), "b": nn.Linear(1)(h)}, dtype="float64")
    return fnn.Trainer(model, {"a": "mean_squared_error", "b": "huber"}, optim.SGD(0.1), seed=1)


def test_loss_weights_set_anew_count():
    y = {"a": X[:, 0], "b": X[:, 1]}
    trainer = two_outputs()
    trainer.step(X, y)
    parts = trainer.evaluate(X, y)
    trainer.loss_weights = {"b": 0.25}
    assert trainer.evaluate(X, y)["loss"] == pytest.approx(parts["loss.a"] + 0.25 * parts["loss.b"], rel=1e-12)
    with pytest.raises(ValueError, match="'loss_weights': unknown output 'c'"):
        trainer.loss_weights = {"c": 1.0}
    with pytest.raises(ValueError, match="'loss_weights' has a part of output 'b', which has no loss"):
        trainer.loss = {"a": "huber"}
    assert set(trainer.loss) == {"a", "b"}
    with pytest.raises(TypeError):
        trainer.loss_weights["b"] = 3.0
    with pytest.raises(TypeError):
        trainer.loss["b"] = "poisson"
    trainer.loss = {**trainer.loss, "b": "mean_absolute_error"}
    assert trainer.evaluate(X, y)["loss.b"] == pytest.approx(
        np.abs(trainer.model(X)["b"][:, 0] - X[:, 1]).mean(), rel=1e-12
    )


def test_what_is_set_anew_is_checked():
    trainer = trained()
    trainer.loss = "multiclass_hinge"
    trainer.optimizer = "adam"
    assert repr(trainer.loss) == "MulticlassHinge()"
    assert isinstance(trainer.optimizer, optim.Adam)
    trainer.step(X, Y)
    cases = [
        ("loss", "multiclas_hinge", ValueError, "unknown loss 'multiclas_hinge', did you mean 'multiclass_hinge'"),
        ("loss", 3, TypeError, "loss is 3, expected a name"),
        ("optimizer", "adm", ValueError, "unknown optimizer 'adm', did you mean 'adam'"),
        ("loss_weights", {"y": 2.0}, ValueError, "'loss_weights' is for models with several outputs"),
        ("precision", "float16", ValueError, "unknown precision 'float16'"),
    ]
    for name, value, kind, message in cases:
        with pytest.raises(kind, match=message):
            setattr(trainer, name, value)
    assert repr(trainer.loss) == "MulticlassHinge()"


# Update rules


@pytest.mark.parametrize(
    ("make", "name", "value"),
    [
        (optim.SGD, "momentum", 0.9),
        (optim.SGD, "l1", 0.1),
        (optim.SGD, "weight_decay", 0.3),
        (optim.RMSProp, "momentum", 0.5),
        (optim.RMSProp, "rho", 0.5),
        (optim.AdaGrad, "eps", 1e-3),
        (optim.Adam, "beta2", 0.5),
        (optim.Adam, "clip_norm", 0.01),
        (optim.AdamW, "max_norm", 0.5),
        (optim.AdamW, "learning_rate", optim.Exponential(0.05)),
        (optim.Adam, "rate_factors", {"linear_1": 0.0}),
    ],
    ids=lambda v: getattr(v, "__name__", str(v)),
)
def test_any_setting_of_a_rule_counts_from_the_next_step(make, name, value):
    """Numbers, what is on or off, and the op itself: as a rule that is made with the setting."""
    changed, anew = trained(optimizer=make(0.02)), trained(optimizer=make(0.02))
    setattr(changed.optimizer, name, value)
    anew.optimizer = make(**{"learning_rate": 0.02, name: value})
    for each in (changed, anew):
        each.step(X, Y)
        each.fit(X, Y, epochs=1, batch_size=16, verbose=0)
    assert changed.history["loss"] == anew.history["loss"]
    for key, array in {**anew.model.arrays(), **anew.slots}.items():
        assert_same_bits({**changed.model.arrays(), **changed.slots}[key], array, key)


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("lr", 0.1, AttributeError, "Adam: unknown setting 'lr', did you mean 'learning_rate'"),
        ("betas", (0.9, 0.99), AttributeError, "did you mean 'beta1'"),
        ("op", "sgd_step", AttributeError, "unknown setting 'op'"),
        ("version", 3, AttributeError, "unknown setting 'version'"),
        ("learning_rate", -1, ValueError, "Adam: 'learning_rate' is -1"),
        ("learning_rate", -0.5, ValueError, "Adam: 'learning_rate' is -0.5"),
        ("learning_rate", float("nan"), ValueError, "Adam: 'learning_rate' is nan"),
        ("learning_rate", float("inf"), ValueError, "Adam: 'learning_rate' is inf"),
        ("learning_rate", True, TypeError, "Adam: 'learning_rate' is True"),
        ("learning_rate", None, TypeError, "Adam: 'learning_rate' is None"),
        ("learning_rate", "cosin", ValueError, "did you mean 'cosine'"),
        ("beta1", 1.0, ValueError, "Adam: 'beta1' is 1"),
        ("clip_norm", 0, ValueError, "Adam: 'clip_norm' is 0"),
        ("rate_factors", 3, TypeError, "Adam: 'rate_factors' is 3"),
    ],
)
def test_a_rule_refuses_what_its_constructor_does(name, value, error, message):
    rule = optim.Adam(0.1, clip_norm=1.0)
    before = rule.config(), rule.version
    with pytest.raises(error, match=message):
        setattr(rule, name, value)
    assert (rule.config(), rule.version) == before
    for number in (np.float32(0.5), np.float64(0.5)):
        rule.learning_rate = number
        assert type(rule.learning_rate) is float


def test_a_rule_of_the_users_own_can_be_changed():
    class Slow(optim.SGD):
        def __init__(self, divisor):
            super().__init__(0.1 / divisor)
            self.divisor = divisor

    rule = Slow(10)
    rule.learning_rate = 0.5
    rule.divisor = 2
    assert (rule.learning_rate, rule.divisor) == (0.5, 2)
    with pytest.raises(AttributeError, match="Slow: unknown setting 'lr'"):
        rule.lr = 1.0
