"""Losses that are means over rows and outputs: yes-or-no questions, regression, counts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from pyfastnn.graph import Builder
from pyfastnn.nn.layer import number
from pyfastnn.nn.loss import Array, Loss, beside, weight_list

_INF = float("inf")


class BinaryCrossEntropy(Loss):
    """Sigmoid and cross-entropy in one, for outputs that are yes-or-no questions of their own (several labels a row).

    Mean over rows and outputs of ``-(pos_weight * t * log(p) + (1 - t) * log(1 - p))`` with ``p = sigmoid(score)``; the model gives scores
    (no sigmoid layer at its end), targets are 0, 1 or probabilities between. ``model.predict`` says which scores are above 0,
    ``model.predict_proba`` gives ``p``. Cox (1958).

    Parameters
    ----------
    pos_weight : float or array, optional
        What a yes counts, for all outputs or for each, above 0; a no counts 1.
    """

    kind, task = "binary_cross_entropy", "multilabel"
    target_range = (0.0, 1.0)

    def __init__(self, pos_weight: float | ArrayLike | None = None) -> None:
        self.pos_weight: float | tuple[float, ...] | None
        if pos_weight is None or np.ndim(pos_weight) == 0:
            self.pos_weight = (
                None
                if pos_weight is None
                else number("BinaryCrossEntropy", "pos_weight", pos_weight, 0.0, _INF, open_low=True)
            )
        else:
            self.pos_weight = weight_list("BinaryCrossEntropy", "pos_weight", pos_weight)

    def _more(self, builder: Builder, scores: str, name: str) -> tuple[str | None, ...]:
        if self.pos_weight is None:
            return (None,)
        return (builder.value(beside(name, "pos_weight"), builder.graph.values[scores].shape[-1:], kind="state"),)

    def arrays(self, classes: Array | None, y: Array | None, dtype: DTypeLike, name: str = "loss") -> dict[str, Array]:
        """Return ``"pos_weight"``, of shape (outputs,), if there is one; see `Loss.arrays`."""
        if self.pos_weight is None:
            return {}
        if isinstance(self.pos_weight, tuple):
            if y is not None and y.shape[-1] != len(self.pos_weight):
                raise ValueError(
                    f"BinaryCrossEntropy: 'pos_weight' has {len(self.pos_weight)} items, expected {y.shape[-1]}, one an output"
                )
            return {beside(name, "pos_weight"): np.array(self.pos_weight, dtype)}
        if y is None:
            raise ValueError("BinaryCrossEntropy: one 'pos_weight' for all outputs needs the targets")
        return {beside(name, "pos_weight"): np.full(y.shape[-1], self.pos_weight, dtype)}

    def config(self) -> dict[str, Any]:
        """Return the settings."""
        return {"pos_weight": self.pos_weight}


class MeanSquaredError(Loss):
    """Mean over rows and outputs of ``(prediction - target)**2``."""

    kind = "mean_squared_error"


class MeanAbsoluteError(Loss):
    """Mean over rows and outputs of ``abs(prediction - target)``; the gradient is 0 where they are equal."""

    kind = "mean_absolute_error"


class Huber(Loss):
    """Mean over rows and outputs of ``d**2 / 2`` where ``abs(d) <= delta``, else ``delta * (abs(d) - delta / 2)``. Huber (1964).

    Parameters
    ----------
    delta : float, default 1
        Above 0: where the quadratic part ends.
    """

    kind = "huber"

    def __init__(self, delta: float = 1.0) -> None:
        self.delta = number("Huber", "delta", delta, 0.0, _INF, open_low=True)

    def _attrs(self) -> dict[str, float]:
        return {"delta": self.delta}

    def config(self) -> dict[str, Any]:
        """Return the settings."""
        return {"delta": self.delta}


class Poisson(Loss):
    """Mean over rows and outputs of ``exp(score) - target * score``: scores are logarithms of rates, targets are counts.

    The model gives the scores (no exponential layer at its end), and ``model.predict`` the rates, ``exp(score)``. Targets are 0 or more and
    need not be whole. The negative log-likelihood but for ``log(target!)``, which no score changes. McCullagh and Nelder (1989), chapter 6.
    """

    kind, task = "poisson", "counts"
    target_range = (0.0, _INF)
