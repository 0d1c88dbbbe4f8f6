"""Train a network on a data set.

DATA is a folder with the files of MNIST or Fashion-MNIST, a folder with the binary batches of CIFAR-10, a .npz or .npy file, a folder
of .npy files, a CSV file (label in the last column), or the word digits. Rows for validation are held out of the training rows; a test
part, where the source has one, is only looked at once, after the last epoch.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from pyfastnn import data
from pyfastnn._inputs import encode_labels
from pyfastnn.cli import network
from pyfastnn.cli.files import check_writable, named
from pyfastnn.cli.options import CommandError, choice, held_out, real, several, sizes, whole
from pyfastnn.data import Dataset
from pyfastnn.optim import Schedule
from pyfastnn.train.history import Row
from pyfastnn.train.trainer import Trainer

EPOCHS, MOST_EPOCHS = 10, 100
TOTAL_STEPS = 2000
"""The default number of epochs grows until a run has so many steps."""
BATCH = 128
LEAST_STEPS = 20
"""The default batch is made smaller until an epoch has so many steps."""
LAST_RATE = 0.05
"""By default the learning rate of the last epoch is this times that of the first."""
CHECKPOINT_SECONDS = 30.0

FIXED_BY_CHECKPOINT = (
    "arch",
    "augment",
    "hidden",
    "batch_norm",
    "dropout",
    "activation",
    "preprocess",
    "optimizer",
    "momentum",
    "weight_decay",
    "clip_norm",
    "ema",
    "label_smoothing",
    "schedule",
    "precision",
    "seed",
    "task",
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("data", metavar="DATA", help="what to train on")
    add_network_options(parser)
    _add_training_options(parser)
    add_data_options(parser)
    _add_file_options(parser)


def add_network_options(parser: argparse.ArgumentParser) -> None:
    """Add what says how the network looks."""
    add = parser.add_argument_group("network").add_argument
    add(
        "--arch",
        type=choice("architecture", network.ARCHITECTURES),
        metavar="NAME",
        help=", ".join(network.ARCHITECTURES)
        + " (default mlp; cnn-small: two convolutions before the hidden layers, for images)",
    )
    add(
        "--augment",
        type=several("augmentation", network.AUGMENTATIONS),
        metavar="NAME,..",
        help="change images while training: " + ", ".join(network.AUGMENTATIONS),
    )
    add("--hidden", type=sizes, metavar="N,N", help="widths of the hidden layers (default 128; 0: none)")
    add(
        "--activation",
        type=choice("activation", network.ACTIVATIONS),
        metavar="NAME",
        help=", ".join(network.ACTIVATIONS) + " (default relu)",
    )
    add("--batch-norm", action="store_true", default=None, help="batch normalization after every hidden layer")
    add(
        "--dropout",
        type=real(0, 1, open_high=True),
        metavar="P",
        help="drop hidden values with this probability (default 0)",
    )
    add(
        "--preprocess",
        type=choice("preprocessing", network.PREPROCESS),
        metavar="NAME",
        help=", ".join(network.PREPROCESS) + " (default standardize: columns of tables, channels of images)",
    )


def _add_training_options(parser: argparse.ArgumentParser) -> None:
    inf = math.inf
    add = parser.add_argument_group("training").add_argument
    add(
        "--optimizer",
        type=choice("optimizer", network.OPTIMIZERS),
        metavar="NAME",
        help=", ".join(network.OPTIMIZERS) + " (default adam)",
    )
    add(
        "--learning-rate",
        type=real(0, inf),
        metavar="X",
        help="of the first epoch (default 0.001 for adam and adamw, 0.01 for the others)",
    )
    add(
        "--learning-rate-decay",
        type=real(0, 1, open_low=True),
        metavar="F",
        help="multiply the rate by F after every epoch (default: the last epoch runs at 1/20 of the first)",
    )
    add(
        "--schedule",
        type=choice("schedule", network.SCHEDULES),
        metavar="NAME",
        help="how the learning rate goes: " + ", ".join(network.SCHEDULES) + " (default exponential, as above)",
    )
    add(
        "--label-smoothing",
        type=real(0, 1, open_high=True),
        metavar="X",
        help="share of a label spread over all classes (default 0)",
    )
    add("--clip-norm", type=real(0, inf, open_low=True), metavar="X", help="largest norm of a gradient (default: any)")
    add(
        "--ema",
        type=real(0, 1, open_high=True),
        metavar="X",
        help="evaluate and save running means of the weights that keep X of themselves at every step, such as 0.999",
    )
    add(
        "--precision",
        type=choice("precision", ("float32", "bf16")),
        metavar="NAME",
        help="float32 (default), or bf16 for the large products of the training steps where the processor has AVX512-BF16",
    )
    add("--weight-decay", type=real(0, inf), metavar="X", help="L2 coefficient (default 0; adamw 0.01)")
    add(
        "--momentum",
        type=real(0, 1, open_high=True),
        metavar="X",
        help="for sgd, momentum and nesterov (default 0, 0.9, 0.9)",
    )
    add("--epochs", type=whole(1), metavar="N", help=f"(default {EPOCHS}; up to {MOST_EPOCHS} for small data)")
    add("--batch-size", type=whole(1), metavar="N", help=f"rows a step (default {BATCH}; less for small data)")
    add("--seed", type=whole(0), metavar="N", help="fixes weights, order, dropout and held-out rows (default 0)")
    add("--threads", type=whole(0, 4096), default=0, metavar="N", help="(default: OMP_NUM_THREADS, or all cores)")


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Add what says how the data are read."""
    add = parser.add_argument_group("data").add_argument
    add(
        "--validation",
        type=held_out,
        metavar="N",
        help="training rows to hold out, a number or a share (default 0 with a test part, else 0.2)",
    )
    add("--target", metavar="NAME", help="name or number of the label column of a table (default the last)")
    add(
        "--task",
        type=choice("task", ("classification", "regression")),
        metavar="NAME",
        help="classification or regression (default: what the labels suggest)",
    )


def _add_file_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("files and output").add_argument
    add("--save", metavar="FILE", help="write the trained model: for predict and pyfastnn.load")
    add(
        "--checkpoint",
        metavar="FILE",
        help="write the state of the training now and then, and at the end: for --resume",
    )
    add("--resume", metavar="FILE", help="continue the training of a checkpoint for --epochs more")
    add("--run-dir", metavar="FOLDER", help="write the run down after every epoch: for pyfastnn report")
    add("--profile", action="store_true", help="say where the time of a training step goes, before training")
    add(
        "--verbose",
        type=whole(0, 2),
        default=1,
        metavar="N",
        help="0 the result alone, 1 a line per epoch (default), 2 a moving bar",
    )


def run(options: argparse.Namespace) -> int:
    """Train, evaluate, save."""
    check_writable("--save", options.save)
    check_writable("--checkpoint", options.checkpoint)
    resumed = _resumed(options)
    dataset = read_data(options, resumed)
    trainer = resumed or network.make_trainer(options, dataset)
    _check_fit(trainer, dataset, options)
    batch = options.batch_size or default_batch(dataset)
    if options.epochs is None:
        steps = -(-len(dataset.X_train) // batch)
        options.epochs = max(EPOCHS, min(MOST_EPOCHS, -(-TOTAL_STEPS // steps)))
    decay = _scheduled(trainer, dataset, options)
    if options.verbose:
        print(dataset)
        print(network.describe(trainer, batch), flush=True)
    if options.profile:
        print(trainer.profile(dataset.X_train, dataset.y_train, batch_size=batch), flush=True)
    callbacks: list[Callable[[Trainer, Row], object]] = [network.decaying(decay)]
    if options.checkpoint is not None:
        callbacks.append(_checkpoints(options.checkpoint))
    goal = trainer.epoch + options.epochs
    try:
        reason = _fit(trainer, dataset, options, batch, callbacks)
    except KeyboardInterrupt:
        reason = "interrupted"
    if trainer.step_count:
        _write(trainer, options)
    if reason == "interrupted":
        if options.checkpoint is not None and goal > trainer.epoch:
            falling = (
                "" if isinstance(trainer.optimizer.learning_rate, Schedule) else f" --learning-rate-decay {decay!r}"
            )
            print(
                f"continue with --resume {options.checkpoint} --epochs {goal - trainer.epoch} --batch-size {batch}"
                f"{falling}, and what was said about data and files"
            )
        raise KeyboardInterrupt
    for line in results(_result(trainer), dataset):
        print(line)
    return 0 if reason == "finished" else 1


def default_batch(dataset: Dataset) -> int:
    """Return how many rows a step has if nobody says."""
    return max(8, min(BATCH, len(dataset.X_train) // LEAST_STEPS))


def _scheduled(trainer: Trainer, dataset: Dataset, options: argparse.Namespace) -> float:
    """Give the optimizer its schedule; return the factor of the learning rate after every epoch, for runs without one."""
    decay: float | None = options.learning_rate_decay
    rate = trainer.optimizer.learning_rate
    if options.schedule not in (None, "exponential") and not isinstance(rate, Schedule):
        if decay is not None:
            raise CommandError(f"--learning-rate-decay has no meaning with --schedule {options.schedule}")
        validated = dataset.X_val is not None
        trainer.optimizer.learning_rate = network.schedule(options.schedule, rate, options.epochs, validated)
    elif decay is not None and isinstance(rate, Schedule):
        raise CommandError("--learning-rate-decay: the learning rate of the checkpoint follows a schedule")
    if decay is None:
        return 1.0 if options.resume or options.epochs == 1 else float(LAST_RATE ** (1 / (options.epochs - 1)))
    return decay


def _result(trainer: Trainer) -> Trainer:
    """Return a trainer of the model that is evaluated and saved: the running means of the weights, where there are some."""
    if trainer.optimizer.ema is None:
        return trainer
    return Trainer(trainer.ema_model(), trainer.loss, threads=trainer.threads)


def read_data(options: argparse.Namespace, resumed: Trainer | None) -> Dataset:
    """Load the data set and hold out what is asked for, or a fifth if there is no test part."""
    task = options.task
    if resumed is not None:
        task = "classification" if resumed.heads[0].counts else "regression"
    dataset = data.load(options.data, target=options.target, task=task)
    count = options.validation
    if count is None:
        count = 0 if dataset.X_test is not None else 0.2
    if count == 0:
        return dataset
    seed = resumed.seed if resumed is not None else options.seed or 0
    stratify = dataset.y_train if dataset.task == "classification" else None
    try:
        Xt, Xv, yt, yv = data.split(dataset.X_train, dataset.y_train, validation=count, seed=seed, stratify=stratify)
    except ValueError as error:
        raise CommandError(f"'{options.data}', --validation {count}: {error}") from None
    return replace(dataset, X_train=Xt, y_train=yt, X_val=Xv, y_val=yv)


def results(trainer: Trainer, dataset: Dataset) -> list[str]:
    """Return what the trained model reaches, one line for each part that training did not see."""
    lines = []
    for name, X, y in (("validation", dataset.X_val, dataset.y_val), ("test", dataset.X_test, dataset.y_test)):
        if X is None:
            continue
        found = trainer.evaluate(X, y)
        if "accuracy" in found:
            lines.append(f"{name} accuracy {found['accuracy']:.4f}, loss {found['loss']:.4f} ({len(X)} rows)")
        else:
            root = math.sqrt(found["loss"])
            lines.append(f"{name} mean squared error {found['loss']:.6g}, its root {root:.6g} ({len(X)} rows)")
    return lines


def _resumed(options: argparse.Namespace) -> Trainer | None:
    """Return the trainer of the checkpoint to continue, if one is named."""
    if options.resume is None:
        return None
    for name in FIXED_BY_CHECKPOINT:
        if getattr(options, name) is not None:
            raise CommandError(f"--{name.replace('_', '-')} cannot be changed with --resume: the checkpoint has it")
    with named(options.resume):
        trainer = Trainer.resume(options.resume)
    trainer.threads = options.threads
    if options.learning_rate is not None:
        trainer.optimizer.learning_rate = options.learning_rate
    return trainer


def _check_fit(trainer: Trainer, dataset: Dataset, options: argparse.Namespace) -> None:
    """Refuse data that do not fit the network, before anything is trained."""
    model = trainer.model
    assert model.input_shape is not None
    expected, found = math.prod(model.input_shape), math.prod(dataset.feature_shape)
    if expected != found:
        raise CommandError(
            f"'{options.data}' has rows of {found} values, the network of '{options.resume}' takes {expected}"
        )
    if model.classes_ is not None:
        for part in (dataset.y_train, dataset.y_val, dataset.y_test):
            if part is not None:
                encode_labels(part, model.classes_, f"{options.data}: labels")


def _fit(
    trainer: Trainer,
    dataset: Dataset,
    options: argparse.Namespace,
    batch: int,
    callbacks: Sequence[Callable[[Trainer, Row], object]],
) -> str:
    """Train and say why it ended."""
    history = trainer.fit(
        dataset.X_train,
        dataset.y_train,
        X_val=dataset.X_val,
        y_val=dataset.y_val,
        epochs=options.epochs,
        batch_size=batch,
        callbacks=callbacks,
        verbose=options.verbose,
        run_dir=options.run_dir,
    )
    return history.stop_reason


def _checkpoints(path: str) -> Callable[[Trainer, Row], None]:
    """Return a callback that writes a checkpoint when the last one is old enough."""
    written = time.monotonic()

    def callback(trainer: Trainer, row: Row) -> None:
        nonlocal written
        if time.monotonic() - written >= CHECKPOINT_SECONDS:
            trainer.checkpoint(path)
            written = time.monotonic()

    return callback


def _write(trainer: Trainer, options: argparse.Namespace) -> None:
    """Write the files that were asked for and say so."""
    if options.checkpoint is not None:
        trainer.checkpoint(options.checkpoint)
        print(f"checkpoint written to {options.checkpoint} (epoch {trainer.epoch}, step {trainer.step_count})")
    if options.save is not None:
        _result(trainer).model.save(options.save)
        print(f"model written to {options.save}")
