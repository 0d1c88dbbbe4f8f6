"""Train on the 1797 handwritten digits inside the package, hold the speed against pure NumPy, and draw the curves."""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

# For matrices as small as the demonstration's, NumPy is faster with one BLAS thread than with threads that wait for each other.
# The variables count only before NumPy is loaded; whoever has set them is left alone.
for _name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np
from numpy.typing import NDArray

from pyfastnn import data, nn, optim
from pyfastnn.cli.files import check_writable
from pyfastnn.cli.network import decaying, describe
from pyfastnn.train.trainer import Trainer

SEED = 0
EPOCHS = 20
BATCH = 64
DECAY = 0.85
COMPARED_STEPS = 50


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--output",
        default="pyfastnn-demo.png",
        metavar="FILE",
        help="picture with the curves (default pyfastnn-demo.png)",
    )


def make_trainer() -> Trainer:
    """Return the demonstration's network and training settings."""
    model = nn.Sequential(
        nn.Linear(256),
        nn.BatchNorm(),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(10),
        preprocess=data.Standardize(per="all"),
    )
    return Trainer(model, optimizer=optim.Adam(learning_rate=3e-3), seed=SEED)


def run(options: argparse.Namespace) -> int:
    """Train, compare, draw."""
    check_writable("--output", options.output)
    X, y = data.load_digits()
    Xt, Xv, yt, yv = data.split(X, y, validation=0.2, seed=SEED, stratify=y)
    trainer = make_trainer()
    print(f"digits: {len(Xt)} training and {len(Xv)} validation images of 8 x 8 pixels, 10 classes")
    print(describe(trainer, BATCH), flush=True)
    history = trainer.fit(
        Xt, yt, X_val=Xv, y_val=yv, epochs=EPOCHS, batch_size=BATCH, callbacks=[decaying(DECAY)], verbose=1
    )
    if history.stop_reason == "interrupted":
        raise KeyboardInterrupt
    rates = sorted(history["samples_per_second"])
    ours = rates[len(rates) // 2]
    print(f"\nvalidation accuracy {history['val_accuracy'][-1]:.1%} on {len(Xv)} images the training never saw")
    print(f"training speed {ours:,.0f} samples/s (the median epoch)")
    theirs, error = numpy_speed(Xt, yt)
    print(
        f"the same steps in pure NumPy on one thread: {theirs:,.0f} samples/s, pyfastnn is {ours / theirs:.1f} times as fast"
    )
    print(
        f"(both took {COMPARED_STEPS} steps from the same weights; the losses differ by at most {error:.0e} of their value)"
    )
    try:
        history.plot(options.output)
    except ImportError as missing:
        print(f"no picture: {missing}")
    else:
        print(f"loss and accuracy curves written to {options.output}")
    return 0


def numpy_speed(X: NDArray[Any], y: NDArray[Any]) -> tuple[float, float]:
    """Take the same training steps natively and with the NumPy reference in float32.

    Parameters
    ----------
    X, y : ndarray
        Training rows and labels.

    Returns
    -------
    samples_per_second : float
        Of the reference, by its median step.
    error : float
        Largest relative difference of the losses.
    """
    from pyfastnn.reference.interpreter import interpret
    from pyfastnn.train.compiled import training_graph
    from pyfastnn.train.hyper import hyper_rows
    from pyfastnn.train.updates import slot_shapes

    trainer = make_trainer()
    trainer.step(X[:1], y[:1])  # compiles, and fits the preprocessing to one image
    for preprocess in trainer.model.preprocessors.values():
        preprocess.fit(X)
    trainer.model.refresh()
    trainer.reset()
    model, optimizer = trainer.model, trainer.optimizer
    graph = training_graph(model, trainer.heads, optimizer)
    values: dict[str, NDArray[Any]] = {**model.state_dict(), **model.folded(), "X": X, "y": y}
    values.update({name: np.zeros(shape, np.float32) for name, shape in slot_shapes(model, optimizer).items()})
    carried = [name for name in values if name not in ("X", "y")]
    order = np.random.default_rng(SEED).permutation(len(X))
    batches = [np.take(order, range(i * BATCH, (i + 1) * BATCH), mode="wrap") for i in range(COMPARED_STEPS)]
    seconds, losses = [], []
    for step, rows in enumerate(batches, start=1):
        hyper = hyper_rows(optimizer, step, 1, trainer.seed)[0]
        start = time.perf_counter()
        found = interpret(graph, {**values, "index": rows}, hyper, np.float32)
        seconds.append(time.perf_counter() - start)
        losses.append(float(found["loss"][0]))
        values.update({name: found[name] for name in carried})
    # Only now ours: its threads, still awake between steps, would slow NumPy down.
    error = max(abs(trainer.step(X[rows], y[rows]) / loss - 1) for rows, loss in zip(batches, losses, strict=True))
    return BATCH / float(np.median(seconds)), error
