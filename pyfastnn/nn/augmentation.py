"""Augmentation: random changes of the training images, drawn anew in every step and left out of prediction."""

from __future__ import annotations

from typing import Any

from pyfastnn.graph import Builder
from pyfastnn.nn.layer import Layer, Shape

_FIRST_NODE = 1 << 30
"""Dropout numbers its nodes from 0: from here on the random words are others."""


class _Augmentation(Layer):
    """What the layers of this file share: one node while training, nothing in prediction."""

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of the images, which stays as it is."""
        if len(input_shape) not in (2, 3):
            raise ValueError(
                f"{type(self).__name__}: one row of the input has shape {input_shape}, expected an image: (height, width) or "
                "(height, width, channels); put it before nn.Flatten()"
            )
        return input_shape

    def forward(self, builder: Builder, name: str, x: str) -> str:
        """Add the change while training."""
        if not builder.training:
            return x
        shape = builder.graph.values[x].shape
        image = shape if len(shape) == 4 else (*shape, 1)
        drawn = sum(node.op == "augment" for node in builder.graph.nodes)
        attrs = {**self._attrs(), "node": _FIRST_NODE + drawn}
        y = builder.emit("augment", (builder.view(x, image),), attrs, name=name)[0]
        return builder.view(y, shape)

    def _attrs(self) -> dict[str, float]:
        """Return the attributes of the op."""
        raise NotImplementedError


class RandomFlip(_Augmentation):
    """Flip each training image with probability 1/2; prediction sees the images as they are.

    Parameters
    ----------
    horizontal : bool, default True
        Whether left and right may be exchanged.
    vertical : bool, default False
        Whether top and bottom may be, drawn for itself.

    Raises
    ------
    ValueError
        If both are False.

    Notes
    -----
    Rows are images (height, width) or (height, width, channels). The draw is Philox4x32-10 of (seed, step, layer, row of the batch): the
    same on every thread count. Krizhevsky, Sutskever and Hinton (2012).
    """

    kind = "random_flip"

    def __init__(self, *, horizontal: bool = True, vertical: bool = False) -> None:
        self.horizontal = bool(horizontal)
        self.vertical = bool(vertical)
        if not (self.horizontal or self.vertical):
            raise ValueError("RandomFlip: 'horizontal' and 'vertical' are both False, expected one of them to be True")

    def _attrs(self) -> dict[str, float]:
        return {"flip": self.horizontal + 2 * self.vertical}

    def config(self) -> dict[str, Any]:
        """Return the settings."""
        return {"horizontal": self.horizontal, "vertical": self.vertical}


class RandomCrop(_Augmentation):
    """Shift each training image by up to ``padding`` pixels; zeros come in at the border. Prediction sees the images as they are.

    The same as padding with zeros on all sides and cropping to the old size anywhere. Zero is what it is after the preprocessing: the
    mean, if that centers.

    Parameters
    ----------
    padding : int, default 4
        Largest shift in each direction, 1 or more; all are equally likely.

    Raises
    ------
    TypeError, ValueError
        If ``padding`` is no whole number of 1 or more.

    Notes
    -----
    Rows are images (height, width) or (height, width, channels). The draw is Philox4x32-10 of (seed, step, layer, row of the batch): the
    same on every thread count. He, Zhang, Ren and Sun (2016).
    """

    kind = "random_crop"

    def __init__(self, *, padding: int = 4) -> None:
        self.padding = _pixels("RandomCrop", "padding", padding)

    def _attrs(self) -> dict[str, float]:
        return {"pad": self.padding}

    def config(self) -> dict[str, Any]:
        """Return the settings."""
        return {"padding": self.padding}


class Cutout(_Augmentation):
    """Set a square of each training image to zero; prediction sees the images as they are.

    Parameters
    ----------
    size : int, default 8
        Side of the square in pixels, 1 or more. Its centre may be any pixel; what lies beyond the border is cut off.

    Raises
    ------
    TypeError, ValueError
        If ``size`` is no whole number of 1 or more.

    Notes
    -----
    Rows are images (height, width) or (height, width, channels). The draw is Philox4x32-10 of (seed, step, layer, row of the batch): the
    same on every thread count. DeVries and Taylor (2017).
    """

    kind = "cutout"

    def __init__(self, size: int = 8) -> None:
        self.size = _pixels("Cutout", "size", size)

    def _attrs(self) -> dict[str, float]:
        return {"cutout": self.size}

    def config(self) -> dict[str, Any]:
        """Return the settings."""
        return {"size": self.size}


def _pixels(layer: str, name: str, value: object) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{layer}: {name!r} is {value!r}, expected a whole number of pixels")
    found = int(value.__index__())
    if not 1 <= found <= 1 << 20:
        raise ValueError(f"{layer}: {name!r} is {found}, expected 1 to 2**20 pixels")
    return found
