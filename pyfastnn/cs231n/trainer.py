"""The lectures' trainer of classifiers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn._names import helpful_keywords, unknown
from pyfastnn._warnings import warn
from pyfastnn.cs231n.native import NativeSteps, network_of
from pyfastnn.cs231n.rules import UPDATES, Rule
from pyfastnn.cs231n.steps import EXPLODED, PythonSteps, Steps
from pyfastnn.cs231n.two_layer import generator
from pyfastnn.nn.layer import number, whole

Array = NDArray[Any]

_SUBSET = 1000
"""Training rows that the accuracy is estimated on."""
_INF = float("inf")


class ClassifierTrainer:
    """Trains a dict of arrays by a loss function, as the lectures' code does.

    Parameters
    ----------
    seed : int, optional
        Fixes the rows of every call of `train`. Without it they come from NumPy's global generator (``np.random.seed``), as in the
        lectures' code.
    threads : int, default 0
        Threads of native steps; 0 is the process-wide setting (`pyfastnn.set_num_threads`).

    Raises
    ------
    TypeError, ValueError
        If an argument is no whole number of 0 or more.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn.cs231n import ClassifierTrainer, init_two_layer_model, two_layer_net
    >>> X, y = 10.0 * np.eye(2)[[0, 1, 0, 1]], np.array([0, 1, 0, 1])
    >>> model = init_two_layer_model(2, 20, 2, seed=0)
    >>> trainer = ClassifierTrainer()
    >>> best_model, stats = trainer.train(
    ...     X, y, X, y, model, two_layer_net, num_epochs=4, reg=0.0, update="sgd", learning_rate_decay=1,
    ...     sample_batches=False, learning_rate=1.0, verbose=True
    ... )
    Finished epoch 1 / 4: cost 0.693147, train: 1.000000, val 1.000000, lr 1.000000e+00
    Finished epoch 2 / 4: cost 0.693142, train: 1.000000, val 1.000000, lr 1.000000e+00
    Finished epoch 3 / 4: cost 0.693031, train: 1.000000, val 1.000000, lr 1.000000e+00
    Finished epoch 4 / 4: cost 0.690650, train: 1.000000, val 1.000000, lr 1.000000e+00
    finished optimization. best validation accuracy: 1.000000
    """

    def __init__(self, seed: int | None = None, threads: int = 0) -> None:
        self.seed = None if seed is None else whole("ClassifierTrainer", "seed", seed, 0)
        self.threads = whole("ClassifierTrainer", "threads", threads, 0)

    @helpful_keywords
    def train(
        self,
        X: Any,
        y: Any,
        X_val: Any,
        y_val: Any,
        model: dict[str, Array],
        loss_function: Callable[..., Any],
        reg: float = 0.0,
        learning_rate: float = 1e-2,
        momentum: float = 0.0,
        learning_rate_decay: float = 0.95,
        update: str = "momentum",
        sample_batches: bool = True,
        num_epochs: int = 30,
        batch_size: int = 100,
        acc_frequency: int | None = None,
        verbose: bool = False,
        *,
        guard: str | None = None,
    ) -> tuple[dict[str, Array], dict[str, Any]]:
        """Train a model and return the best one on the way.

        Parameters
        ----------
        X, y : array_like, shapes (n, input_size) and (n,)
            Training rows and labels from 0.
        X_val, y_val : array_like
            Validation rows and labels.
        model : dict of str to ndarray
            Parameters; trained in place.
        loss_function : callable
            `two_layer_net`, which is trained natively, or any function: ``loss_function(X, model, y, reg)`` gives the loss and a dict of
            gradients, ``loss_function(X, model)`` the scores.
        reg : float, default 0
            Passed to the loss function: ``0.5 * reg * sum(W * W)`` is added to the loss.
        learning_rate : float, default 1e-2
            Above 0.
        momentum : float, default 0
            Of ``update="momentum"`` and ``"nesterov"``, in [0, 1). At the default both are plain SGD, as in the lectures' code.
        learning_rate_decay : float, default 0.95
            The rate is multiplied by it after every epoch; above 0.
        update : {"momentum", "sgd", "nesterov", "adagrad", "rmsprop", "adam"}
            The lectures' rules (Notes).
        sample_batches : bool, default True
            Whether a step takes ``batch_size`` random rows and an epoch ``n // batch_size`` steps, at least one. False: an epoch is one
            step on all rows, which native steps hold once more in the dtype of the model.
        num_epochs : int, default 30
            Epochs.
        batch_size : int, default 100
            Rows a step; drawn with replacement, so it may exceed ``n``.
        acc_frequency : int, optional
            Also take accuracies after every so many steps, beginning with the first.
        verbose : bool, default False
            Whether to print one line for each time that accuracies are taken, and the best at the end.
        guard : {None, "nonfinite", "lecture"}, default None
            ``"nonfinite"`` stops after the first cost that is NaN or infinite, ``"lecture"`` also after one above three times the
            first; None lets everything pass, so that one sees a run diverge.

        Returns
        -------
        best_model : dict of str to ndarray
            Copies of the parameters when the validation accuracy was highest, the earliest if several were; those from before the first
            step if it was never taken.
        stats : dict
            ``"loss_history"`` (the cost of every step, before its update), ``"train_acc_history"``, ``"val_acc_history"`` (one item
            for each time they were taken), ``"best_val_acc"`` (NaN if never taken), ``"stop_reason"`` (``"finished"``,
            ``"nonfinite"`` or ``"limit"``) and ``"native"`` (whether the steps were).

        Raises
        ------
        TypeError, ValueError
            If an argument is of the wrong kind, unknown, or does not fit the others.
        KeyboardInterrupt
            On Ctrl-C; after native steps the model then stands at the last finished one.

        Warns
        -----
        RuntimeWarning
            If the guard stopped the run.

        Notes
        -----
        Rows come from one generator in this order: for each epoch the rows of its steps, ``choice(n, batch_size)`` each, with
        replacement; then, if there are more than 1000 training rows, the 1000 that the training accuracy is taken on. It is NumPy's
        global generator, or ``np.random.RandomState(seed)`` begun anew by each call. So native steps and those around a Python function
        see the same rows, and agree but for rounding.

        With the gradient g, momentum m and rate r:
        sgd ``w -= r * g``; momentum ``v = m * v - r * g; w += v``; nesterov ``w += (1 + m) * v - m * v_before``; adagrad
        ``c += g * g; w -= r * g / (sqrt(c) + 1e-7)``; rmsprop the same with ``c = 0.99 * c + 0.01 * g * g``; adam with 0.9, 0.999 and
        1e-7, corrected for its start. Each call begins with v, c and the moments at 0.
        """
        checked = _checked_arrays(X, y, X_val, y_val)
        if not isinstance(model, dict):
            raise TypeError(f"train: 'model' is {type(model).__name__}, expected a dict of arrays")
        if not callable(loss_function):
            raise TypeError(f"train: 'loss_function' is {loss_function!r}, expected a function such as two_layer_net")
        if update not in UPDATES:
            raise ValueError(f"train: {unknown('update', update, UPDATES)}")
        if guard not in (None, "nonfinite", "lecture"):
            raise ValueError(f"train: 'guard' is {guard!r}, expected None, 'nonfinite' or 'lecture'")
        reg = number("train", "reg", reg, 0.0, _INF)
        rate = number("train", "learning_rate", learning_rate, 0.0, _INF, open_low=True)
        decay = number("train", "learning_rate_decay", learning_rate_decay, 0.0, _INF, open_low=True)
        rule = Rule(update, number("train", "momentum", momentum, 0.0, 1.0))
        epochs = whole("train", "num_epochs", num_epochs)
        frequency = None if acc_frequency is None else whole("train", "acc_frequency", acc_frequency)
        n = len(checked[0])
        batch = whole("train", "batch_size", batch_size) if sample_batches else n
        per_epoch = max(1, n // batch)
        network = network_of(loss_function)
        steps: Steps
        if network is not None and rule.is_native(decay, epochs):
            steps = NativeSteps(network, model, checked, reg, rule, batch, guard, self.threads)
        else:
            steps = PythonSteps(loss_function, model, checked, reg, rule, batch, guard)
        rng = generator(self.seed)
        subset = n > _SUBSET
        costs: list[float] = []
        train_acc: list[float] = []
        val_acc: list[float] = []
        best, best_model, reason = math.nan, steps.weights(), "finished"
        try:
            for epoch in range(epochs):
                for count, ends in _pieces(epoch * per_epoch, per_epoch, frequency):
                    rows = rng.choice(n, count * batch) if sample_batches else None
                    found, reason = steps.run(rows, count, rate)
                    costs += found
                    if reason != "finished":
                        break
                    if ends:
                        rate *= decay
                    train_acc.append(steps.train_accuracy(rng.choice(n, _SUBSET) if subset else None))
                    val_acc.append(steps.val_accuracy())
                    if not val_acc[-1] <= best:
                        best, best_model = val_acc[-1], steps.weights()
                    if verbose:
                        print(
                            f"Finished epoch {epoch + ends} / {epochs}: cost {costs[-1]:f}, train: {train_acc[-1]:f}, "
                            f"val {val_acc[-1]:f}, lr {rate:e}"
                        )
                if reason != "finished":
                    break
        finally:
            steps.finish()
        if reason == "interrupted":
            raise KeyboardInterrupt
        if reason != "finished":
            _warn(reason, costs, rate)
        if verbose:
            print(f"finished optimization. best validation accuracy: {best:f}")
        stats = {
            "loss_history": costs,
            "train_acc_history": train_acc,
            "val_acc_history": val_acc,
            "best_val_acc": best,
            "stop_reason": reason,
            "native": steps.native,
        }
        return best_model, stats


def _pieces(done: int, per_epoch: int, frequency: int | None) -> Iterator[tuple[int, bool]]:
    """Yield the steps of an epoch up to each time that accuracies are taken, and whether the epoch ends there."""
    taken = 0
    for step in range(per_epoch):
        ends = step + 1 == per_epoch
        if ends or (frequency is not None and (done + step) % frequency == 0):
            yield step + 1 - taken, ends
            taken = step + 1


def _checked_arrays(X: Any, y: Any, X_val: Any, y_val: Any) -> tuple[Array, Array, Array, Array]:
    """Return the data as arrays with as many labels as rows."""
    arrays = {name: np.asarray(A) for name, A in (("X", X), ("y", y), ("X_val", X_val), ("y_val", y_val))}
    for rows, labels in (("X", "y"), ("X_val", "y_val")):
        if arrays[rows].ndim == 0 or len(arrays[rows]) == 0:
            raise ValueError(f"train: {rows!r} has no rows")
        if arrays[labels].ndim == 0 or len(arrays[labels]) != len(arrays[rows]):
            raise ValueError(
                f"train: {labels!r} has shape {arrays[labels].shape}, expected one label for each of the "
                f"{len(arrays[rows])} rows of {rows!r}"
            )
    return arrays["X"], arrays["y"], arrays["X_val"], arrays["y_val"]


def _warn(reason: str, costs: list[float], rate: float) -> None:
    what = f"the cost is {costs[-1]:.4g}"
    if reason == "limit":
        what += f", more than {EXPLODED:g} times the first cost {costs[0]:.4g}"
    warn(f"training stopped at step {len(costs)}: {what}; try a smaller learning_rate than {rate:g}", RuntimeWarning)
