"""All losses by name."""

from __future__ import annotations

from typing import Any

from pyfastnn._names import unknown
from pyfastnn.nn.loss import Loss
from pyfastnn.nn.losses_classes import MulticlassHinge, SoftmaxCrossEntropy
from pyfastnn.nn.losses_elementwise import BinaryCrossEntropy, Huber, MeanAbsoluteError, MeanSquaredError, Poisson

__all__ = [
    "LOSSES",
    "BinaryCrossEntropy",
    "Huber",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "MulticlassHinge",
    "Poisson",
    "SoftmaxCrossEntropy",
    "from_config",
    "get",
]

LOSSES: dict[str, type[Loss]] = {
    c.kind: c
    for c in (
        SoftmaxCrossEntropy,
        MulticlassHinge,
        BinaryCrossEntropy,
        MeanSquaredError,
        MeanAbsoluteError,
        Huber,
        Poisson,
    )
}


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


def from_config(kind: str, config: dict[str, Any]) -> Loss:
    """Build a loss from a checkpoint.

    Raises
    ------
    ValueError
        If the kind or a setting is unknown.
    """
    known = get(kind).config()
    for key in config:
        if key not in known:
            raise ValueError(unknown(f"setting of {kind}", key, known))
    return LOSSES[kind](**config)
