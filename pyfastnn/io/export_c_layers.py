"""Layers as C: which functions of a header a layer calls, with which tables and numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn import nn
from pyfastnn.nn.layer import Layer, Shape

__all__ = ["Step", "copy", "preprocess_steps", "steps_of"]

Array = NDArray[Any]
Arrays = Mapping[str, Array]


@dataclass(frozen=True)
class Step:
    """One call of a C function: ``function(x, y, *tables, *numbers)``.

    Attributes
    ----------
    function : str
        Key of `pyfastnn.io.export_c_text.FUNCTIONS`.
    size : int
        How many values it writes.
    tables : dict of str to (ndarray or None)
        Constants it reads, by name within the layer; None is a null pointer.
    numbers : tuple of int or float
        Its last arguments.
    in_place : bool
        Whether ``x`` and ``y`` may be the same array.
    """

    function: str
    size: int
    tables: dict[str, Array | None] = field(default_factory=dict)
    numbers: tuple[int | float, ...] = ()
    in_place: bool = True


def copy(size: int) -> Step:
    """Return the step that changes nothing."""
    return Step("copy", size, numbers=(size,))


def preprocess_steps(arrays: Arrays) -> list[Step]:
    """Return the steps of a preprocessing, given what `Preprocessor.arrays` returns."""
    size = arrays["shift"].size
    steps = [Step("affine", size, {k: arrays[k] for k in ("shift", "scale")}, (size,))]
    if "matrix" in arrays:
        steps.append(_product(arrays["matrix"], arrays.get("bias"), "matrix", "bias"))
    return steps


def steps_of(layer: Layer, arrays: Arrays, shape: Shape) -> list[Step]:
    """Return what a layer does in prediction.

    Parameters
    ----------
    layer : Layer
        A layer of `pyfastnn.nn`; what a class derived from one of them does is not known.
    arrays : mapping of str to ndarray
        Its arrays, by name within the layer.
    shape : tuple of int
        Shape of one row of its input.

    Returns
    -------
    list of Step
        Empty where prediction does nothing.

    Raises
    ------
    ValueError
        If there is no C for such a layer; the message does not say which layer it is.
    """
    if type(layer) not in _STEPS:
        known = ", ".join(sorted(kind.__name__ for kind in _STEPS))
        raise ValueError(f"there is no C for {type(layer).__name__}, only for {known}")
    return _STEPS[type(layer)](layer, arrays, shape)


def _product(w: Array, b: Array | None, w_name: str = "w", b_name: str = "b") -> Step:
    return Step("linear", w.shape[1], {w_name: w, b_name: b}, w.shape, in_place=False)


def _nothing(layer: Layer, arrays: Arrays, shape: Shape) -> list[Step]:
    return []


def _linear(layer: Any, arrays: Arrays, shape: Shape) -> list[Step]:
    return [_product(arrays["w"], arrays.get("b"))]


def _maxout(layer: Any, arrays: Arrays, shape: Shape) -> list[Step]:
    size = layer.out_features
    return [*_linear(layer, arrays, shape), Step("maxout", size, numbers=(size, layer.pieces), in_place=False)]


def _elementwise(function: str, *settings: str) -> Callable[[Any, Arrays, Shape], list[Step]]:
    """Return the maker of an activation whose C function has a name and settings of the layer as last arguments."""

    def make(layer: Any, arrays: Arrays, shape: Shape) -> list[Step]:
        size = math.prod(shape)
        return [Step(function, size, numbers=(size, *(float(getattr(layer, name)) for name in settings)))]

    return make


def _gelu(layer: Any, arrays: Arrays, shape: Shape) -> list[Step]:
    return _elementwise("gelu" if layer.approximate == "none" else "gelu_tanh")(layer, arrays, shape)


def _prelu(layer: Any, arrays: Arrays, shape: Shape) -> list[Step]:
    size, slope = math.prod(shape), arrays["slope"]
    return [Step("prelu", size, {"slope": slope}, (size, slope.size))]


def _rows(function: str) -> Callable[[Any, Arrays, Shape], list[Step]]:
    """Return the maker of a function of rows along the last dimension."""

    def make(layer: Any, arrays: Arrays, shape: Shape) -> list[Step]:
        return [Step(function, math.prod(shape), numbers=(math.prod(shape[:-1]), shape[-1]))]

    return make


def _batch_norm(layer: Any, arrays: Arrays, shape: Shape) -> list[Step]:
    gamma, mean, beta = arrays["gamma"], arrays["running_mean"], arrays["beta"]
    wide = np.longdouble  # so that the scale is rounded once
    with np.errstate(all="ignore"):
        scale = gamma.astype(wide) / np.sqrt(arrays["running_var"].astype(wide) + layer.eps)
        tables: dict[str, Array | None] = {"scale": scale.astype(gamma.dtype), "running_mean": mean, "beta": beta}
    return [Step("batch_norm", math.prod(shape), tables, (math.prod(shape[:-1]), shape[-1]))]


def _layer_norm(layer: Any, arrays: Arrays, shape: Shape) -> list[Step]:
    tables: dict[str, Array | None] = {k: arrays[k] for k in ("gamma", "beta")}
    return [Step("layer_norm", math.prod(shape), tables, (math.prod(shape[:-1]), shape[-1], layer.eps))]


def _conv2d(layer: Any, arrays: Arrays, shape: Shape) -> list[Step]:
    attrs = {k: int(v) for k, v in layer.attributes(shape).items()}
    out = layer.output_shape(shape)
    spread = [attrs[k] for k in ("stride_h", "stride_w", "dilation_h", "dilation_w", "top", "left", "groups")]
    tables = {"w": arrays["w"], "b": arrays.get("b")}
    return [Step("conv2d", math.prod(out), tables, (*shape, *out, *layer.kernel_size, *spread), in_place=False)]


def _pool(function: str) -> Callable[[Any, Arrays, Shape], list[Step]]:
    """Return the maker of a pool with windows."""

    def make(layer: Any, arrays: Arrays, shape: Shape) -> list[Step]:
        out = layer.output_shape(shape)
        numbers = [*shape, *out[:2], *layer.kernel_size, *layer.stride, *layer.padding]
        if function == "avg_pool":
            numbers.append(int(layer.count_include_pad))
        return [Step(function, math.prod(out), numbers=tuple(numbers), in_place=False)]

    return make


def _global_avg_pool(layer: Any, arrays: Arrays, shape: Shape) -> list[Step]:
    return [Step("global_avg_pool", shape[2], numbers=(shape[0] * shape[1], shape[2]), in_place=False)]


_STEPS: dict[type[Layer], Callable[[Any, Arrays, Shape], list[Step]]] = {
    nn.AvgPool2d: _pool("avg_pool"),
    nn.BatchNorm: _batch_norm,
    nn.Conv2d: _conv2d,
    nn.Cutout: _nothing,
    nn.Dropout: _nothing,
    nn.Dropout2d: _nothing,
    nn.ELU: _elementwise("elu", "alpha"),
    nn.Exp: _elementwise("exp"),
    nn.Flatten: _nothing,
    nn.GELU: _gelu,
    nn.GlobalAvgPool2d: _global_avg_pool,
    nn.LayerNorm: _layer_norm,
    nn.LeakyReLU: _elementwise("leaky_relu", "negative_slope"),
    nn.Linear: _linear,
    nn.LogSoftmax: _rows("log_softmax"),
    nn.MaxPool2d: _pool("max_pool"),
    nn.Maxout: _maxout,
    nn.PReLU: _prelu,
    nn.RandomCrop: _nothing,
    nn.RandomFlip: _nothing,
    nn.ReLU: _elementwise("relu"),
    nn.SELU: _elementwise("selu"),
    nn.SiLU: _elementwise("silu"),
    nn.Sigmoid: _elementwise("sigmoid"),
    nn.Softmax: _rows("softmax"),
    nn.Softplus: _elementwise("softplus"),
    nn.Tanh: _elementwise("tanh"),
}
