"""Activation layers: one op each, forward and backward native."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from pyfastnn._names import unknown
from pyfastnn.graph import Builder
from pyfastnn.nn.initializers import Constant
from pyfastnn.nn.layer import Layer, Parameter, Shape, number


class _Activation(Layer):
    """A layer of one input and no arrays over the op ``<kind>_forward``."""

    def forward(self, builder: Builder, name: str, x: str) -> str:
        """Add one node."""
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


class Exp(_Activation):
    """Exponential function: ``y = exp(x)``, for outputs that must be positive, such as rates."""

    kind: ClassVar[str] = "exp"


class SELU(_Activation):
    """Scaled exponential linear unit: ``y = s * x`` for ``x > 0``, ``s * a * (exp(x) - 1)`` otherwise. Klambauer et al. (2017).

    ``s = 1.0507`` and ``a = 1.6733`` keep mean 0 and variance 1 from layer to layer if weights begin with variance ``1 / in_features``.
    """

    kind: ClassVar[str] = "selu"


class SiLU(_Activation):
    """Sigmoid linear unit, also called swish: ``y = x * sigmoid(x)``. Elfwing, Uchibe and Doya (2018)."""

    kind: ClassVar[str] = "silu"


class Softplus(_Activation):
    """Smooth rectifier: ``y = log(1 + exp(x))``, which cannot overflow. Dugas et al. (2000)."""

    kind: ClassVar[str] = "softplus"


class GELU(_Activation):
    """Gaussian error linear unit: ``y = x * Phi(x)``, Phi the distribution of normal numbers. Hendrycks and Gimpel (2016).

    Parameters
    ----------
    approximate : {"none", "tanh"}, default "none"
        ``"tanh"`` computes ``x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))``, what some published models were trained with.
        It is no faster here.
    """

    kind: ClassVar[str] = "gelu"

    def __init__(self, approximate: str = "none") -> None:
        if approximate not in _GELU:
            raise ValueError(f"GELU: {unknown('form', approximate, _GELU)}")
        self.approximate = approximate

    def forward(self, builder: Builder, name: str, x: str) -> str:
        """Add one node."""
        return builder.emit(_GELU[self.approximate], (x,), name=name)[0]

    def config(self) -> dict[str, Any]:
        """Return the settings."""
        return {"approximate": self.approximate}


_GELU = {"none": "gelu_forward", "tanh": "gelu_tanh_forward"}


class PReLU(Layer):
    """Leaky ReLU whose slope is learned: ``y = x`` for ``x > 0``, ``slope * x`` otherwise. He et al. (2015).

    Parameters
    ----------
    shared : bool, default False
        One slope for all inputs instead of one for each channel, the last dimension.
    init : float, default 0.25
        First value of every slope, any finite number.

    Notes
    -----
    Parameter: ``slope`` of shape (channels,), or (1,) when shared. Weight decay does not apply, as in the paper: it would pull the layer
    towards ReLU.
    """

    kind: ClassVar[str] = "prelu"

    def __init__(self, shared: bool = False, init: float = 0.25) -> None:
        self.shared = bool(shared)
        self.init = number("PReLU", "init", init, float("-inf"), float("inf"), open_low=True)

    def parameters(self, input_shape: Shape) -> list[Parameter]:
        """Return ``slope``."""
        return [Parameter("slope", (1,) if self.shared else input_shape[-1:], Constant(self.init))]

    def forward(self, builder: Builder, name: str, x: str) -> str:
        """Add one node, which reads its input with as many columns as there are slopes."""
        slope, values = f"{name}.slope", builder.graph.values
        shape, channels = values[x].shape, values[slope].shape[0]
        if shape[-1] != channels:
            items = math.prod(d for d in shape[1:] if isinstance(d, int))
            assert isinstance(channels, int)
            x = builder.view(x, (shape[0], items // channels, channels))
        return builder.view(builder.emit("prelu_forward", (x, slope), name=name)[0], shape)

    def config(self) -> dict[str, Any]:
        """Return the settings."""
        return {"shared": self.shared, "init": self.init}


class Softmax(_Activation):
    """Turn the scores of a row into numbers from 0 to 1 that sum to 1: ``y = exp(x) / sum(exp(x))`` over the last dimension.

    Notes
    -----
    Not after the scores that `SoftmaxCrossEntropy` gets: that loss has the softmax in it, and `Trainer` refuses the second one.
    """

    kind: ClassVar[str] = "softmax"


class LogSoftmax(_Activation):
    """Logarithm of the softmax: ``y = x - log(sum(exp(x)))`` over the last dimension, without overflow or lost digits.

    Notes
    -----
    Not after the scores that `SoftmaxCrossEntropy` gets: that loss has the softmax in it, and `Trainer` refuses the second one.
    """

    kind: ClassVar[str] = "log_softmax"
