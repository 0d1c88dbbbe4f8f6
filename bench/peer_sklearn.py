"""scikit-learn's MLPClassifier: an epoch a call of ``partial_fit``, from the weights given.

It has no batch norm and no convolution.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import sklearn
from sklearn.neural_network import MLPClassifier

from pyfastnn.bench import search, tasks
from pyfastnn.bench.timing import Case, Subject

VARIANTS = {"gemm": (), "step": ("",), "op": (), "search": ("", "side by side")}


def version() -> str:
    """Return scikit-learn's version."""
    return str(sklearn.__version__)


def subject(bench: str, case: Case, variant: str) -> Subject:
    """Make the subject of a case.

    Raises
    ------
    NotImplementedError
        If scikit-learn has no such layer.
    """
    if bench == "search":
        return search.PeerSearch(case, Net, at_once=search.at_once(case, variant))
    task = tasks.get(case["task"])
    tasks.only_float32(task)
    tasks.no_images(task)
    if any(layer[0] == "batch_norm" for layer in task.layers):
        raise NotImplementedError("scikit-learn has no batch norm")
    return Net(task)


class Net(Subject):
    """A training task."""

    def __init__(self, task: tasks.Task) -> None:
        self.task = task
        self.X, self.y, self.order = tasks.data(task)
        self.first = tasks.first_weights(task)
        linear = [layer for layer in task.layers if layer[0] == "linear"]
        self.names = [f"linear_{k + 1}" for k in range(len(linear))]
        # The library divides the L2 term by the batch, so alpha is multiplied by it; and it adds the penalty to the loss, so
        # `check` subtracts it.
        self.model = MLPClassifier(
            tuple(o for _, _, o in linear[:-1]),
            activation="tanh" if ("tanh",) in task.layers else "relu",
            solver="adam" if task.optimizer == "adam" else "sgd",
            alpha=task.weight_decay * task.batch,
            batch_size=task.batch,
            learning_rate_init=task.learning_rate,
            momentum=0.9 if task.optimizer == "momentum" else 0.0,
            nesterovs_momentum=False,
            random_state=0,
        )
        self.reset()

    def reset(self) -> None:
        """Put back the first weights; the next call makes a new optimizer."""
        model = self.model
        if not hasattr(model, "coefs_"):
            # The first call makes the arrays and the optimizer.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model.partial_fit(
                    self.X[: self.task.batch], self.y[: self.task.batch], classes=np.arange(tasks.CLASSES)
                )
        for k, name in enumerate(self.names):
            model.coefs_[k][...] = self.first[f"{name}.w"]
            model.intercepts_[k][...] = self.first[f"{name}.b"]
        optimizer = model._optimizer
        for slots in ("velocities", "ms", "vs"):
            for slot in getattr(optimizer, slots, ()):
                slot[...] = 0
        optimizer.t = 0

    def check(self) -> dict[str, Any]:
        """Train some steps, a batch a call, and return their losses without the penalty."""
        self.reset()
        losses, n = [], self.task.batch
        for k in range(tasks.CHECK_STEPS):
            j = k % self.task.steps
            rows = self.order[j * n : (j + 1) * n]
            squares = sum(float(np.vdot(w, w)) for w in self.model.coefs_)
            self.model.partial_fit(self.X[rows], self.y[rows])
            losses.append(float(self.model.loss_) - 0.5 * self.task.weight_decay * squares)
        return {"losses": losses}

    def run(self, calls: int) -> None:
        """Train ``calls`` steps, an epoch a call; it shuffles and gathers itself."""
        steps, n = self.task.steps, self.task.batch
        while calls > 0:
            rows = min(calls, steps) * n
            self.model.partial_fit(self.X[:rows], self.y[:rows])
            calls -= steps
