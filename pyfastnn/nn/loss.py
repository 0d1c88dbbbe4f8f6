"""The base of all losses.

With weights of rows the mean is ``sum(weights * loss of the row) / sum(weights)``, and 0, with gradient 0, where they sum to 0. A row of
weight 0 takes no part, whatever it holds.
"""

from __future__ import annotations

import inspect
import math
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pyfastnn._settings import FixedSettings
from pyfastnn.graph import Builder

Array = NDArray[Any]
Label = int | str

TASKS = ("classification", "regression", "multilabel", "counts")
"""What an output may be trained for; it decides what the model predicts."""


class Loss(FixedSettings):
    """Base of all losses: adds its nodes after the scores of a model.

    Attributes
    ----------
    kind : str
        Its name, which is also that of its op.
    task : str
        ``"classification"``, ``"regression"``, ``"multilabel"`` or ``"counts"``: what the model predicts is the class of the highest
        score, the scores, which scores are above 0, or ``exp(score)``.
    targets : str
        ``"labels"`` (one class number a row, int64) or ``"rows"`` (a number for every output).
    target_range : tuple of two floats
        Least and largest target of a row that counts, where they are numbers.
    counts : bool
        Whether the rows that are right are counted.
    ignore_index : int, str or None
        Rows of this label get weight 0.

    Notes
    -----
    The settings are fixed once a loss is made: another one is given to the trainer, ``trainer.loss = nn.Huber(0.5)``.
    """

    kind: ClassVar[str] = ""
    task: ClassVar[str] = "regression"
    targets: ClassVar[str] = "rows"
    target_range: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    counts: ClassVar[bool] = False
    ignore_index: Label | None = None
    _otherwise = "give the trainer another loss: trainer.loss = nn.{}"

    def forward(
        self, builder: Builder, scores: str, targets: str, weights: str | None = None, name: str = "loss"
    ) -> str:
        """Add the loss and return the name of its value.

        Parameters
        ----------
        builder : Builder
            The graph under construction.
        scores : str
            What the model gives, of shape (n, outputs).
        targets : str
            The targets of the same rows: labels of shape (n,), or rows of shape (n, outputs).
        weights : str, optional
            Weights of the rows, of shape (n,).
        name : str
            Of the value; the number of rows that are right, where it is counted, is named the same with "correct" for "loss", and the
            gradient ``d(<scores>)``.
        """
        inputs = (scores, targets, *self._more(builder, scores, name), weights)
        outputs = (name, beside(name, "correct"), f"d({scores})") if self.counts else (name, f"d({scores})")
        return builder.emit(self.kind, inputs, self._attrs(), outputs, name="loss")[0]

    def arrays(self, classes: Array | None, y: Array | None, dtype: DTypeLike, name: str = "loss") -> dict[str, Array]:
        """Return the arrays that the nodes of `forward` read, by value name.

        Parameters
        ----------
        classes : ndarray or None
            The label behind each output of a classifier.
        y : ndarray or None
            The targets: positions in ``classes`` (negative ones are passed over), or rows.
        dtype : dtype
            Float type of the model.
        name : str
            As for `forward`.

        Raises
        ------
        ValueError
            If the settings do not fit the targets.
        """
        return {}

    def config(self) -> dict[str, Any]:
        """Return the settings as JSON values: what the constructor takes."""
        return {}

    def _attrs(self) -> dict[str, float]:
        return {}

    def _more(self, builder: Builder, scores: str, name: str) -> tuple[str | None, ...]:
        """Add the values the op reads between targets and weights."""
        return ()

    def __repr__(self) -> str:
        """Show the call that makes the loss, without what is at its default."""
        defaults = inspect.signature(type(self)).parameters
        shown = {k: v for k, v in self.config().items() if k in defaults and v != defaults[k].default}
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in shown.items())})"


def beside(name: str, word: str) -> str:
    """Return the name of a value that belongs to a loss: ``"loss.policy"`` has ``"correct.policy"``."""
    return name.replace("loss", word, 1) if "loss" in name else f"{name}.{word}"


def weight_list(owner: str, name: str, values: Any) -> tuple[float, ...]:
    """Return one weight for each class or output, 0 or more.

    Raises
    ------
    TypeError
        If they are no numbers.
    ValueError
        If there is none, or one is negative or not finite.
    """
    try:
        found = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"{owner}: {name!r} is {values!r}, expected numbers") from None
    if found.ndim != 1 or found.size == 0:
        raise ValueError(f"{owner}: {name!r} has shape {found.shape}, expected one number each")
    if not (np.isfinite(found).all() and (found >= 0).all()):
        raise ValueError(f"{owner}: {name!r} holds {found.min():g} to {found.max():g}, expected numbers from 0 up")
    return tuple(float(v) for v in found)
