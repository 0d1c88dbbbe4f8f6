"""Losses: the mean over the actual batch, with the gradient made in the same pass."""

from __future__ import annotations

from typing import ClassVar

from pyfastnn._names import unknown
from pyfastnn.graph import Builder


class Loss:
    """Base of all losses: adds its nodes behind the scores of a model.

    Attributes
    ----------
    task : str
        ``"classification"`` (targets are class numbers) or ``"regression"``.
    """

    kind: ClassVar[str] = ""
    task: ClassVar[str] = ""

    def forward(
        self, builder: Builder, scores: str, targets: str, weights: str | None = None, name: str = "loss"
    ) -> str:
        """Add the loss and return the name of its value.

        Parameters
        ----------
        builder : Builder
            Holds the forward graph.
        scores, targets : str
            Values of the batch; class numbers of shape (n,), or rows of the shape of the scores.
        weights : str, optional
            Weights of the rows, of shape (n,).
        name : str, default "loss"
            The name of the value; what is counted beside it is named alike, with ``correct`` in the place of ``loss``.
        """
        raise NotImplementedError

    def __repr__(self) -> str:
        """Show the call that makes the loss."""
        return f"{type(self).__name__}()"


class SoftmaxCrossEntropy(Loss):
    """Softmax and cross-entropy in one: ``loss = mean_i(log(sum_j exp(s_ij)) - s_i,label)``.

    The model gives scores (no softmax layer at its end). Also counts the rows whose highest score is the label.
    """

    kind = "softmax_cross_entropy"
    task = "classification"

    def forward(
        self, builder: Builder, scores: str, targets: str, weights: str | None = None, name: str = "loss"
    ) -> str:
        """Add the loss."""
        outputs = (name, name.replace("loss", "correct"), f"d({scores})")
        return builder.emit("softmax_cross_entropy", (scores, targets), outputs=outputs, name="loss")[0]


class MeanSquaredError(Loss):
    """Mean over rows and outputs of ``(prediction - target)**2``."""

    kind = "mean_squared_error"
    task = "regression"

    def forward(
        self, builder: Builder, scores: str, targets: str, weights: str | None = None, name: str = "loss"
    ) -> str:
        """Add the loss."""
        return builder.emit("mean_squared_error", (scores, targets), outputs=(name, f"d({scores})"), name="loss")[0]


LOSSES: dict[str, type[Loss]] = {c.kind: c for c in (SoftmaxCrossEntropy, MeanSquaredError)}


def get(loss: str | Loss) -> Loss:
    """Return a loss object for an object or a name.

    Raises
    ------
    TypeError
        If it is neither.
    ValueError
        If the name is unknown.
    """
    if isinstance(loss, Loss):
        return loss
    if not isinstance(loss, str):
        raise TypeError(f"loss is {loss!r}, expected a name or a loss of pyfastnn.nn")
    if loss not in LOSSES:
        raise ValueError(unknown("loss", loss, LOSSES))
    return LOSSES[loss]()
