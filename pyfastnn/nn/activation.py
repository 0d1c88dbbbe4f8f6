"""Activation layers: one elementwise op each, forward and backward native."""

from __future__ import annotations

from typing import Any, ClassVar

from pyfastnn.graph import Builder
from pyfastnn.nn.layer import Layer, number


class _Activation(Layer):
    """An elementwise layer over the op ``<kind>_forward``."""

    def forward(self, builder: Builder, name: str, x: str) -> str:
        """Add one elementwise node."""
        return builder.emit(f"{self.kind}_forward", (x,), self.config(), name=name)[0]


class ReLU(_Activation):
    """Rectified linear unit: ``y = max(x, 0)``; NaN stays NaN. Nair and Hinton (2010)."""

    kind: ClassVar[str] = "relu"


class LeakyReLU(_Activation):
    """Leaky ReLU: ``y = x`` for ``x > 0``, ``negative_slope * x`` otherwise. Maas et al. (2013).

    Parameters
    ----------
    negative_slope : float, default 0.01
        Any finite slope.
    """

    kind: ClassVar[str] = "leaky_relu"

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = number(
            "LeakyReLU", "negative_slope", negative_slope, float("-inf"), float("inf"), open_low=True
        )

    def config(self) -> dict[str, Any]:
        """Return the settings."""
        return {"negative_slope": self.negative_slope}


class ELU(_Activation):
    """Exponential linear unit: ``y = x`` for ``x > 0``, ``alpha * (exp(x) - 1)`` otherwise. Clevert et al. (2016).

    Parameters
    ----------
    alpha : float, default 1
        0 or more: the backward pass works from ``y``, whose sign must tell that of ``x``.
    """

    kind: ClassVar[str] = "elu"

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = number("ELU", "alpha", alpha, 0.0, float("inf"))

    def config(self) -> dict[str, Any]:
        """Return the settings."""
        return {"alpha": self.alpha}


class Sigmoid(_Activation):
    """Logistic function: ``y = 1 / (1 + exp(-x))``."""

    kind: ClassVar[str] = "sigmoid"


class Tanh(_Activation):
    """Hyperbolic tangent: ``y = tanh(x)``."""

    kind: ClassVar[str] = "tanh"
