"""No step of a training or evaluation plan is a function of Python, whichever layer, loss or update rule it is made of."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

import pyfastnn as fnn
from pyfastnn import nn, optim
from pyfastnn.io.model_file import LAYERS
from pyfastnn.nn.layer import Layer
from pyfastnn.nn.losses import LOSSES
from pyfastnn.optim.rules import OPTIMIZERS
from pyfastnn.testing import rng_of
from pyfastnn.train.compiled import evaluation_graph

ROWS = 6
IMAGE = (8, 6, 4)


def chain(*layers, shape=(5,)):
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(3)).build(shape)


def joined(layer):
    x = nn.Input((5,))
    return nn.Model(x, nn.Linear(3)(layer(nn.Linear(4)(x), nn.Linear(4)(x), nn.Linear(4)(x))))


def words():
    x = nn.Input((5,), dtype="int64")
    return nn.Model(x, nn.Linear(3)(nn.Flatten()(nn.Embedding(7, 4)(x))))


def behind(layer):
    """After a layer with weights, so that its gradient is needed."""
    return chain(nn.Linear(4), layer)


def on_images(layer):
    return chain(nn.Conv2d(4, 3, padding="same"), layer, shape=IMAGE)


MODELS = {
    "add": lambda: joined(nn.Add()),
    "avg_pool2d": lambda: on_images(nn.AvgPool2d(2)),
    "batch_norm": lambda: on_images(nn.BatchNorm()),
    "concat": lambda: joined(nn.Concat()),
    "conv2d": lambda: on_images(nn.Conv2d(6, (3, 2), stride=(2, 1), padding=1, dilation=(1, 2), groups=2)),
    "cutout": lambda: chain(nn.Cutout(3), shape=IMAGE),
    "dropout": lambda: behind(nn.Dropout(0.3)),
    "dropout2d": lambda: on_images(nn.Dropout2d(0.3)),
    "elu": lambda: behind(nn.ELU()),
    "embedding": words,
    "exp": lambda: behind(nn.Exp()),
    "flatten": lambda: on_images(nn.Flatten()),
    "gelu": lambda: behind(nn.GELU()),
    "global_avg_pool2d": lambda: on_images(nn.GlobalAvgPool2d()),
    "group_norm": lambda: on_images(nn.GroupNorm(2)),
    "layer_norm": lambda: behind(nn.LayerNorm()),
    "leaky_relu": lambda: behind(nn.LeakyReLU(0.1)),
    "linear": lambda: behind(nn.Linear(4)),
    "log_softmax": lambda: behind(nn.LogSoftmax()),
    "max_pool2d": lambda: on_images(nn.MaxPool2d(3, stride=2)),
    "maxout": lambda: behind(nn.Maxout(4, pieces=3)),
    "prelu": lambda: on_images(nn.PReLU()),
    "random_crop": lambda: chain(nn.RandomCrop(padding=2), shape=IMAGE),
    "random_flip": lambda: chain(nn.RandomFlip(vertical=True), shape=IMAGE),
    "relu": lambda: behind(nn.ReLU()),
    "selu": lambda: behind(nn.SELU()),
    "sigmoid": lambda: behind(nn.Sigmoid()),
    "silu": lambda: behind(nn.SiLU()),
    "softmax": lambda: behind(nn.Softmax()),
    "softplus": lambda: behind(nn.Softplus()),
    "tanh": lambda: behind(nn.Tanh()),
}
"""A model with each layer, by kind."""

FORMS = {
    "sgd": [
        optim.SGD(),
        optim.SGD(momentum=0.9),
        optim.SGD(momentum=0.9, nesterov=True),
    ],
    "adagrad": [optim.AdaGrad()],
    "rmsprop": [optim.RMSProp(), optim.RMSProp(momentum=0.5)],
    "adam": [optim.Adam(), optim.Adam(optim.Cosine(epochs=3))],
    "adamw": [optim.AdamW()],
}
"""Forms of each update rule, by kind."""


def around(rule):
    """Return the settings of a rule with all that may stand around it."""
    return type(rule)(
        **{
            **rule.config(),
            "learning_rate": 0.01,
            "weight_decay": 0.01,
            "l1": 1e-3,
            "clip_norm": 1.0,
            "clip_value": 0.5,
            "max_norm": 2.0,
            "ema": 0.9,
            "rate_factors": {"linear_1": 0.5},
        }
    )


RULES = [form for forms in FORMS.values() for rule in forms for form in (rule, around(rule))]


def targets(task, rng):
    if task == "classification":
        return np.arange(ROWS) % 3
    found = rng.integers(0, 2, (ROWS, 3)) if task == "multilabel" else rng.poisson(2.0, (ROWS, 3))
    return found.astype(np.float64)


def ops_of(model, loss="softmax_cross_entropy", rule="adam", weighted=False):
    """Take one step, and count the ops of the steps of its plan and of the evaluation."""
    rng = rng_of("no python")
    trainer = fnn.Trainer(model, loss, rule, monitor=None)
    words = next(iter(model.network.inputs.values())).dtype == "int64"
    shape = (ROWS, *model.input_shape)
    X = rng.integers(0, 7, shape) if words else rng.standard_normal(shape)
    y = targets(trainer.loss.task, rng)
    trainer.step(X, y, sample_weight=np.arange(1.0, ROWS + 1) if weighted else None)
    plan = trainer._compiled.train
    found = Counter(row["op"] for name in plan.graphs for row in plan.native.layout(name))
    found.update(node.op for node in evaluation_graph(model, trainer.heads).nodes)
    assert found.total() > 5
    return found


def test_every_layer_that_a_file_may_name_has_a_model_here():
    assert set(MODELS) == set(LAYERS)
    for kind, make in MODELS.items():
        assert any(layer.kind == kind for layer in make().layers.values())


def test_every_public_layer_is_one_a_file_may_name_but_the_one_of_python():
    public = {c for c in (getattr(nn, name) for name in nn.__all__) if isinstance(c, type) and issubclass(c, Layer)}
    assert public - {Layer} - set(LAYERS.values()) == {nn.Lambda}


def test_every_update_rule_stands_here():
    assert set(FORMS) == set(OPTIMIZERS)
    assert all(rule.kind == kind for kind, forms in FORMS.items() for rule in forms)


@pytest.mark.parametrize("kind", MODELS)
def test_no_layer_calls_python(kind):
    assert ops_of(MODELS[kind]())["python"] == 0


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_no_loss_calls_python(kind, weighted):
    found = ops_of(behind(nn.ReLU()), kind, weighted=weighted)
    assert found["python"] == 0
    assert found[kind] == 2  # of the training step and of the evaluation


@pytest.mark.parametrize(
    "loss",
    [
        nn.SoftmaxCrossEntropy(label_smoothing=0.1, class_weight=[1.0, 2.0, 3.0], ignore_index=2),
        nn.SoftmaxCrossEntropy(class_weight="balanced"),
        nn.MulticlassHinge(margin=2.0, ignore_index=0),
        nn.BinaryCrossEntropy(pos_weight=[1.0, 2.0, 3.0]),
        nn.Huber(delta=0.5),
    ],
    ids=repr,
)
def test_no_setting_of_a_loss_calls_python(loss):
    assert ops_of(behind(nn.ReLU()), loss)["python"] == 0


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.op}-{len(rule.config())}")
def test_no_update_rule_calls_python(rule):
    found = ops_of(behind(nn.ReLU()), rule=rule)
    assert found["python"] == 0
    assert found[rule.op] == 4  # two layers of weights and biases


def test_preprocessing_and_several_outputs_call_no_python():
    x = nn.Input((5,))
    h = nn.ReLU()(nn.Linear(4)(x))
    model = nn.Model(x, {"a": nn.Linear(3)(h), "b": nn.Linear(1)(h)}, preprocess=fnn.data.Whiten())
    losses = {"a": "softmax_cross_entropy", "b": "huber"}
    trainer = fnn.Trainer(model, losses, loss_weights={"b": 0.5})
    X = rng_of("no python").standard_normal((40, 5))
    trainer.step(X, {"a": np.arange(40) % 3, "b": X[:, 0]})
    ops = [row["op"] for row in trainer._compiled.train.native.layout("train")]
    assert "python" not in ops
    assert ops.count("linear_forward") == 4  # one is the whitening


def test_a_function_of_ones_own_is_seen_here():
    """What all the others count to be 0 is not 0 where Python is called."""
    own = nn.Lambda(lambda x: 2 * x, lambda dy, y, x: 2 * dy)
    assert ops_of(behind(own))["python"] == 3  # forward twice, backward once
    loss = nn.CustomLoss(lambda s, t: (float(np.mean((s - t) ** 2)), 2 * (s - t) / s.size))
    assert ops_of(behind(nn.ReLU()), loss)["python"] == 2
