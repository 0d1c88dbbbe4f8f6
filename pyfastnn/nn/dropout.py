"""Dropout of elements and of channels."""

from __future__ import annotations

from typing import Any

from pyfastnn.graph import Builder
from pyfastnn.nn.layer import Layer, number

_FIRST_CHANNELS_NODE = 2**31
"""Numbers of `Dropout2d` layers lie after all those of `Dropout` layers, so that no two layers draw the same words."""


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


class Dropout2d(Layer):
    """Zero whole channels of a sample with probability ``p`` while training, and scale the others by ``1 / (1 - p)``.

    For images (NHWC), whose neighbouring positions are alike. Prediction does nothing. Tompson et al. (2015), section 3.2.

    Parameters
    ----------
    p : float, default 0.5
        Probability that a channel is dropped, in [0, 1).

    Notes
    -----
    The mask is Philox4x32-10 of (seed, step, layer, sample and channel): the same on every thread count and backend.
    """

    kind = "dropout2d"

    def __init__(self, p: float = 0.5) -> None:
        self.p = number("Dropout2d", "p", p, 0.0, 1.0)

    def forward(self, builder: Builder, name: str, x: str) -> str:
        """Add the mask while training."""
        if not builder.training:
            return x
        drawn = sum(node.op == "dropout_channels_forward" for node in builder.graph.nodes)
        attrs = {"p": self.p, "node": _FIRST_CHANNELS_NODE + drawn}
        return builder.emit("dropout_channels_forward", (x,), attrs, name=name)[0]

    def config(self) -> dict[str, Any]:
        """Return the settings."""
        return {"p": self.p}
