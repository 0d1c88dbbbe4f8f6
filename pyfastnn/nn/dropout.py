"""Dropout."""

from __future__ import annotations

from typing import Any

from pyfastnn.graph import Builder
from pyfastnn.nn.layer import Layer, number


class Dropout(Layer):
    """Zero each element with probability ``p`` while training, and scale the others by ``1 / (1 - p)``.

    Prediction does nothing ("inverted" dropout). Srivastava et al. (2014).

    Parameters
    ----------
    p : float, default 0.5
        Probability that an element is dropped, in [0, 1).

    Notes
    -----
    The mask is Philox4x32-10 of (seed, step, layer, element): the same on every thread count and backend.
    """

    kind = "dropout"

    def __init__(self, p: float = 0.5) -> None:
        self.p = number("Dropout", "p", p, 0.0, 1.0)

    def forward(self, builder: Builder, name: str, x: str) -> str:
        """Add the mask while training."""
        if not builder.training:
            return x
        drawn = sum(node.op == "dropout_forward" for node in builder.graph.nodes)
        return builder.emit("dropout_forward", (x,), {"p": self.p, "node": drawn}, name=name)[0]

    def config(self) -> dict[str, Any]:
        """Return the settings."""
        return {"p": self.p}
