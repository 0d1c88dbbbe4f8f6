"""Training steps in NumPy, around any Python function that gives a loss and its gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pyfastnn.cs231n.rules import Changes, Rule

Array = NDArray[Any]
Index = NDArray[np.int64]
LossFunction = Callable[..., Any]

EXPLODED = 3.0
"""A cost of so many times the first one is an explosion, as the lecture has it."""


class Steps(Protocol):
    """The steps of one run, and what is asked between them.

    Attributes
    ----------
    native : bool
        Whether they run in native code.
    """

    native: bool

    def run(self, rows: Index | None, count: int, rate: float) -> tuple[list[float], str]:
        """Take ``count`` steps on the next rows of these, or each on all rows; return their costs and why they ended."""
        ...

    def train_accuracy(self, rows: Index | None) -> float:
        """Return the share of some training rows, or of all, whose highest score is the label."""
        ...

    def val_accuracy(self) -> float:
        """Return that of the validation rows."""
        ...

    def weights(self) -> dict[str, Array]:
        """Return copies of the parameters."""
        ...

    def finish(self) -> None:
        """Let the model of the caller have the parameters."""
        ...


class PythonSteps:
    """Steps around a function of Python.

    Parameters
    ----------
    loss_function : callable
        ``loss_function(X, model, y, reg)`` gives the loss and a dict of gradients, ``loss_function(X, model)`` scores.
    model : dict of str to ndarray
        Parameters, updated in place.
    data : tuple of ndarray
        ``X``, ``y``, ``X_val`` and ``y_val``.
    reg : float
        Passed on.
    rule : Rule
        Update rule.
    batch : int
        Rows a step.
    guard : str or None
        What ends the steps early.
    """

    native = False

    def __init__(
        self,
        loss_function: LossFunction,
        model: dict[str, Array],
        data: tuple[Array, Array, Array, Array],
        reg: float,
        rule: Rule,
        batch: int,
        guard: str | None,
    ) -> None:
        self.loss_function, self.model, self.reg, self.batch, self.guard = loss_function, model, reg, batch, guard
        self.X, self.y, self.X_val, self.y_val = data
        self.changes = Changes(rule)
        self.first = math.nan

    def run(self, rows: Index | None, count: int, rate: float) -> tuple[list[float], str]:
        """Take steps: loss and gradients from the function, the update here."""
        costs: list[float] = []
        for k in range(count):
            X, y = self.X, self.y
            if rows is not None:
                chosen = rows[k * self.batch : (k + 1) * self.batch]
                X, y = X[chosen], y[chosen]
            cost, grads = self.loss_function(X, self.model, y, self.reg)
            costs.append(float(cost))
            for name in self.model:
                if name not in grads:
                    raise ValueError(f"train: the gradients of 'loss_function' have no {name!r}, which the model has")
                self.model[name] += self.changes.change(name, grads[name], rate)
            if math.isnan(self.first):
                self.first = costs[0]
            if self.guard is not None and not math.isfinite(costs[-1]):
                return costs, "nonfinite"
            if self.guard == "lecture" and costs[-1] > EXPLODED * self.first:
                return costs, "limit"
        return costs, "finished"

    def train_accuracy(self, rows: Index | None) -> float:
        """Return the accuracy on training rows."""
        return self._accuracy(self.X, self.y) if rows is None else self._accuracy(self.X[rows], self.y[rows])

    def val_accuracy(self) -> float:
        """Return the accuracy on the validation rows."""
        return self._accuracy(self.X_val, self.y_val)

    def _accuracy(self, X: Array, y: Array) -> float:
        return float(np.mean(np.argmax(self.loss_function(X, self.model), axis=1) == y))

    def weights(self) -> dict[str, Array]:
        """Return copies of the parameters."""
        return {name: array.copy() for name, array in self.model.items()}

    def finish(self) -> None:
        """Do nothing: the model was updated in place."""
