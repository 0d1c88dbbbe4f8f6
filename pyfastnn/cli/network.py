"""From options to a network with its training settings."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from pyfastnn import nn, optim
from pyfastnn.cli.options import CommandError
from pyfastnn.data import PCA, Center, Compose, Dataset, MinMax, Preprocessor, Rescale, Standardize, Whiten
from pyfastnn.nn.layer import Layer
from pyfastnn.train.history import Row
from pyfastnn.train.trainer import Trainer

ACTIVATIONS: dict[str, type[Layer]] = {
    c.kind: c
    for c in (
        nn.ReLU,
        nn.LeakyReLU,
        nn.PReLU,
        nn.ELU,
        nn.SELU,
        nn.GELU,
        nn.SiLU,
        nn.Softplus,
        nn.Sigmoid,
        nn.Tanh,
    )
}
OPTIMIZERS = ("adam", "adamw", "sgd", "momentum", "nesterov", "rmsprop", "adagrad")
_RULES: dict[str, Callable[..., optim.Optimizer]] = {
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "rmsprop": optim.RMSProp,
    "adagrad": optim.AdaGrad,
}
_WITHOUT_MOMENTUM = ("adam", "adamw", "adagrad")
ARCHITECTURES = ("mlp", "cnn-small")
"""``cnn-small``: two blocks of 3x3 convolutions with 32 and 64 filters and a pool each, then the hidden layers."""

AUGMENTATIONS: dict[str, Callable[[], Layer]] = {
    "flip": nn.RandomFlip,
    "shift": nn.RandomCrop,
    "cutout": nn.Cutout,
}
"""Changes of images by name."""

PREPROCESS = ("standardize", "center", "minmax", "rescale", "pca", "whiten", "none")
SCHEDULES = ("exponential", "constant", "cosine", "one_cycle", "step", "reduce_on_plateau")
KEPT_VARIANCE = 0.99
"""Share of the variance that the axes hold which pca and whiten keep."""

_FIRST_WEIGHTS = {"sigmoid": "xavier_normal", "tanh": "xavier_normal", "selu": "lecun_normal"}
"""First weights of the layers before activations for which He's are not made."""


def preprocessing(name: str, dataset: Dataset) -> Preprocessor | None:
    """Return the preprocessing that a name means for this data.

    Tables get one mean and deviation per column. Images get one per colour channel: a pixel that is nearly always 0 would be blown
    up by its own deviation. Bytes that are no images share one. Axes of variance (pca, whiten) are those of the standardized rows.
    """
    if name == "none":
        return None
    if name == "rescale":
        low, high = float(dataset.X_train.min()), float(dataset.X_train.max())
        return Rescale(low, high) if low < high else None
    if len(dataset.feature_shape) == 3:
        per = "channel"
    elif len(dataset.feature_shape) == 2 or dataset.X_train.dtype == np.uint8:
        per = "all"
    else:
        per = "feature"
    first = {"center": Center, "minmax": MinMax}.get(name, Standardize)(per=per)
    if name == "pca":
        return Compose([first, PCA(components=KEPT_VARIANCE)])
    if name == "whiten":
        return Compose([first, Whiten(method="pca", components=KEPT_VARIANCE)])
    return first


def schedule(name: str, rate: float, epochs: int, validated: bool) -> optim.Schedule:
    """Return the schedule of a name for a run of some epochs.

    Parameters
    ----------
    name : str
        One of `SCHEDULES` but the first, which is the fall by a factor after every epoch (`decaying`).
    rate : float
        The learning rate that it scales.
    epochs : int
        Epochs of the run.
    validated : bool
        Whether there are validation rows to watch.
    """
    if name == "constant":
        return optim.Constant(rate)
    if name == "step":
        return optim.Step(rate, epochs=max(1, epochs // 3))
    if name == "reduce_on_plateau":
        return optim.ReduceOnPlateau(rate, monitor="val_loss" if validated else "loss")
    return (optim.Cosine if name == "cosine" else optim.OneCycle)(rate, epochs=epochs)


def make_trainer(options: argparse.Namespace, dataset: Dataset) -> Trainer:
    """Build the network the options describe for a data set, ready to fit.

    Raises
    ------
    CommandError
        If options contradict each other.
    """
    outputs = len(dataset.classes) if dataset.classes is not None else math.prod(dataset.y_train.shape[1:])
    if dataset.task == "classification" and outputs < 2:
        raise CommandError(f"'{options.data}': all labels are {dataset.classes}, expected two classes or more")
    activation = options.activation or "relu"
    init = _FIRST_WEIGHTS.get(activation, "he_normal")
    shape = tuple(dataset.feature_shape)
    layers: list[Layer] = []
    for given, wanted in (("--arch cnn-small", options.arch == "cnn-small"), ("--augment", bool(options.augment))):
        if wanted and len(shape) not in (2, 3):
            raise CommandError(f"{given} is for images, '{options.data}' has rows of shape {shape}")
    layers += [AUGMENTATIONS[name]() for name in options.augment or ()]
    if options.arch == "cnn-small":
        if options.preprocess in ("pca", "whiten"):
            raise CommandError(
                f"--preprocess {options.preprocess} makes other values of pixels, --arch cnn-small needs images"
            )
        shape = (*shape, 1) if len(shape) == 2 else shape
        for filters in (32, 64):
            layers += [nn.Conv2d(filters, 3, padding="same", bias=False), nn.BatchNorm(), ACTIVATIONS[activation]()]
            layers += [nn.MaxPool2d(2)]
    if len(shape) > 1:
        layers.append(nn.Flatten())
    for width in options.hidden if options.hidden is not None else (128,):
        layers.append(nn.Linear(width, init=init))
        if options.batch_norm:
            layers.append(nn.BatchNorm())
        layers.append(ACTIVATIONS[activation]())
        if options.dropout:
            layers.append(nn.Dropout(options.dropout))
    layers.append(nn.Linear(outputs, init="xavier_normal"))
    preprocess = preprocessing(options.preprocess or "standardize", dataset)
    if preprocess is not None and preprocess.needs_fit_for_shape:
        preprocess.fit(dataset.X_train)
    model = nn.Sequential(*layers, preprocess=preprocess)
    if dataset.classes is not None:
        model.classes_ = np.array(dataset.classes)
    loss: nn.Loss = nn.MeanSquaredError()
    if dataset.task == "classification":
        loss = nn.SoftmaxCrossEntropy(label_smoothing=options.label_smoothing or 0.0)
    elif options.label_smoothing is not None:
        raise CommandError("--label-smoothing is for classification, this task is regression")
    seed = options.seed if options.seed is not None else 0
    precision = options.precision or "float32"
    trainer = Trainer(model, loss, make_optimizer(options), seed=seed, precision=precision, threads=options.threads)
    model.build(shape, seed=seed)
    return trainer


def make_optimizer(options: argparse.Namespace) -> optim.Optimizer:
    """Return the optimizer with the numbers that were given."""
    name = options.optimizer or "adam"
    numbers = {k: getattr(options, k) for k in ("learning_rate", "weight_decay", "momentum", "clip_norm", "ema")}
    given: dict[str, Any] = {k: v for k, v in numbers.items() if v is not None}
    if name in _WITHOUT_MOMENTUM and "momentum" in given:
        raise CommandError(
            f"--momentum has no meaning for {name}; use it with --optimizer sgd, momentum, nesterov or rmsprop"
        )
    if name in _RULES:
        return _RULES[name](**given)
    if name != "sgd":
        given.setdefault("momentum", 0.9)
    return optim.SGD(nesterov=name == "nesterov", **given)


def decaying(factor: float) -> Callable[[Trainer, Row], None]:
    """Return a callback that multiplies the learning rate after every epoch; a schedule goes its own way."""

    def callback(trainer: Trainer, row: Row) -> None:
        if not isinstance(trainer.optimizer.learning_rate, optim.Schedule):
            trainer.optimizer.learning_rate *= factor

    return callback


def describe(trainer: Trainer, batch: int) -> str:
    """Return network and training settings in one line."""
    words = []
    for layer in trainer.model.layers.values():
        shown = {"linear": "out_features", "conv2d": "out_channels", "dropout": "p"}.get(layer.kind)
        words.append(type(layer).__name__ + (f"({layer.config()[shown]})" if shown else ""))
    optimizer = trainer.optimizer
    rate = optimizer.learning_rate
    speed = repr(rate) if isinstance(rate, optim.Schedule) else f"{rate:g}"
    settings = [f"{type(optimizer).__name__} at learning rate {speed}"]
    if optimizer.weight_decay:
        settings.append(f"weight decay {optimizer.weight_decay:g}")
    if isinstance(optimizer, optim.SGD) and optimizer.momentum:
        settings.append(f"{'Nesterov ' if optimizer.nesterov else ''}momentum {optimizer.momentum:g}")
    if optimizer.clip_norm is not None:
        settings.append(f"gradients clipped to norm {optimizer.clip_norm:g}")
    if optimizer.ema is not None:
        settings.append(f"running means of the weights {optimizer.ema:g}")
    smoothing = trainer.heads[0].loss.config().get("label_smoothing")
    if smoothing:
        settings.append(f"label smoothing {smoothing:g}")
    if trainer.precision != "float32":
        settings.append(f"products in {trainer.precision}")
    return f"{' - '.join(words)}; {', '.join(settings)}; batches of {batch}"
