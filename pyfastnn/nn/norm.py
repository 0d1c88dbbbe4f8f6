"""Normalization layers."""

from __future__ import annotations

from typing import Any

from pyfastnn.graph import Builder
from pyfastnn.nn.layer import Layer, Parameter, Shape, number, whole


class BatchNorm(Layer):
    """Normalize each feature over the batch, then scale and shift. Ioffe and Szegedy (2015), algorithm 1.

    Training: ``y = gamma * (x - mean) / sqrt(var + eps) + beta`` with the mean and the biased variance of the batch, and
    ``running = (1 - momentum) * running + momentum * batch`` with the unbiased variance. Prediction uses the running statistics.

    Parameters
    ----------
    momentum : float, default 0.1
        Weight of the new batch in the running statistics, in [0, 1] (PyTorch's meaning; Keras writes 1 minus this).
    eps : float, default 1e-5
        Added to the variance, above 0.

    Notes
    -----
    Parameters ``gamma`` and ``beta``, state ``running_mean`` and ``running_var``, all of shape (features,); features are the last
    dimension, so images (NHWC) are normalized per channel. A batch of one row gives ``y = beta`` and leaves the statistics alone.
    """

    kind = "batch_norm"

    def __init__(self, *, momentum: float = 0.1, eps: float = 1e-5) -> None:
        self.momentum = number("BatchNorm", "momentum", momentum, 0.0, 1.0 + 2**-52)
        self.eps = number("BatchNorm", "eps", eps, 0.0, float("inf"), open_low=True)

    def parameters(self, input_shape: Shape) -> list[Parameter]:
        """Return ``gamma``, ``beta`` and the running statistics."""
        shape = (input_shape[-1],)
        return [
            Parameter("gamma", shape, "ones"),
            Parameter("beta", shape, "zeros"),
            Parameter("running_mean", shape, "zeros", learned=False),
            Parameter("running_var", shape, "ones", learned=False),
        ]

    def forward(self, builder: Builder, name: str, x: str) -> str:
        """Add the training or the prediction form."""
        arrays = [f"{name}.{a}" for a in ("gamma", "beta", "running_mean", "running_var")]
        if builder.training:
            attrs = {"momentum": self.momentum, "eps": self.eps}
            return builder.emit("batch_norm_forward", (x, *arrays), attrs, name=name)[0]
        return builder.emit("batch_norm_predict", (x, *arrays), {"eps": self.eps}, name=name)[0]

    def config(self) -> dict[str, Any]:
        """Return the settings."""
        return {"momentum": self.momentum, "eps": self.eps}


class LayerNorm(Layer):
    """Normalize each row over its last dimension, then scale and shift. Ba, Kiros and Hinton (2016).

    ``y = gamma * (x - mean) / sqrt(var + eps) + beta`` with the mean and the biased variance of the row, in training and prediction
    alike: no batch statistics, so it works for batches of one row.

    Parameters
    ----------
    eps : float, default 1e-5
        Added to the variance, above 0.

    Notes
    -----
    Parameters ``gamma`` and ``beta`` of shape (features,). Features are the last dimension: an image (NHWC) is normalized pixel by
    pixel over its channels; for the whole image put `GroupNorm` with one group.
    """

    kind = "layer_norm"

    def __init__(self, *, eps: float = 1e-5) -> None:
        self.eps = number("LayerNorm", "eps", eps, 0.0, float("inf"), open_low=True)

    def parameters(self, input_shape: Shape) -> list[Parameter]:
        """Return ``gamma`` and ``beta``."""
        return _scale_and_shift(input_shape)

    def forward(self, builder: Builder, name: str, x: str) -> str:
        """Add one normalization."""
        inputs = (x, f"{name}.gamma", f"{name}.beta")
        return builder.emit("layer_norm_forward", inputs, {"eps": self.eps}, name=name)[0]

    def config(self) -> dict[str, Any]:
        """Return the settings."""
        return {"eps": self.eps}


class GroupNorm(Layer):
    """Normalize groups of neighbouring channels of each sample, then scale and shift. Wu and He (2018).

    ``y = gamma * (x - mean) / sqrt(var + eps) + beta`` with the mean and the biased variance over the channels of a group at all
    positions of the sample, in training and prediction alike: no batch statistics, so it works for small batches.

    Parameters
    ----------
    groups : int
        Number of groups, 1 or more; divides the channels. As many groups as channels is instance normalization (Ulyanov et al.
        2016), one group normalizes the whole sample.
    eps : float, default 1e-5
        Added to the variance, above 0.

    Raises
    ------
    TypeError
        If ``groups`` is no whole number.
    ValueError
        If a number is out of range.

    Notes
    -----
    Parameters ``gamma`` and ``beta`` of shape (channels,); channels are the last dimension (NHWC).
    """

    kind = "group_norm"

    def __init__(self, groups: int, *, eps: float = 1e-5) -> None:
        self.groups = whole("GroupNorm", "groups", groups)
        self.eps = number("GroupNorm", "eps", eps, 0.0, float("inf"), open_low=True)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the input's shape."""
        if input_shape[-1] % self.groups:
            raise ValueError(f"GroupNorm: {input_shape[-1]} channels cannot be put into {self.groups} equal groups")
        return input_shape

    def parameters(self, input_shape: Shape) -> list[Parameter]:
        """Return ``gamma`` and ``beta``."""
        return _scale_and_shift(input_shape)

    def forward(self, builder: Builder, name: str, x: str) -> str:
        """Add one normalization."""
        inputs = (x, f"{name}.gamma", f"{name}.beta")
        attrs = {"groups": self.groups, "eps": self.eps}
        return builder.emit("group_norm_forward", inputs, attrs, name=name)[0]

    def config(self) -> dict[str, Any]:
        """Return the settings."""
        return {"groups": self.groups, "eps": self.eps}


def _scale_and_shift(input_shape: Shape) -> list[Parameter]:
    shape = (input_shape[-1],)
    return [Parameter("gamma", shape, "ones"), Parameter("beta", shape, "zeros")]
