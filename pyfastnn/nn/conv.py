"""Conv2d: filters that slide over images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyfastnn._names import unknown
from pyfastnn.graph import Builder
from pyfastnn.nn import initializers
from pyfastnn.nn.initializers import Initializer
from pyfastnn.nn.layer import Layer, Parameter, Shape

Pair = tuple[int, int]


class Conv2d(Layer):
    """Slide ``out_channels`` filters over images of shape (height, width, channels).

    Parameters
    ----------
    out_channels : int
        Filters, 1 or more.
    kernel_size : int or pair of int
        Height and width of the filters; one number for both.
    stride : int or pair of int, default 1
        Steps down and to the right.
    padding : int, pair of int, "same" or "valid", default 0
        Rows above and below the image, columns left and right of it, that the filters may reach over. ``"valid"`` is 0; ``"same"``
        gives outputs of ``ceil(size / stride)``, and where an odd number of rows or columns is needed one more below and to the right.
    dilation : int or pair of int, default 1
        Distance of neighbouring taps of a filter.
    groups : int, default 1
        Channels fall into so many groups; a filter sees the channels of its own. As many as input channels: a depthwise convolution.
    in_channels : int, optional
        Channels of the images; inferred from the data. When given it is checked.
    bias : bool, default True
        Whether ``b`` is added.
    init : str or Initializer, default "he_normal"
        First values of ``w``: He (variance ``2 / fan_in`` with ``fan_in = kernel_h * kernel_w * in_channels / groups``), made for ReLU
        layers; other names as in `Linear`. ``b`` starts at 0.

    Raises
    ------
    TypeError
        If other positional sizes are given, or a size is no whole number.
    ValueError
        If a size is under its least value, ``groups`` does not divide ``out_channels``, or a name is unknown.

    Notes
    -----
    Parameters: ``w`` of shape (kernel_h, kernel_w, in_channels / groups, out_channels), ``b`` of shape (out_channels,). Weight decay
    applies to ``w``. The filter is not flipped. Source: LeCun et al. (1998).
    """

    kind = "conv2d"

    def __init__(
        self,
        *sizes: Any,
        out_channels: int | None = None,
        kernel_size: int | Sequence[int] | None = None,
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] | str = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        in_channels: int | None = None,
        bias: bool = True,
        init: str | Initializer = "he_normal",
    ) -> None:
        named = [size for size in (out_channels, kernel_size) if size is not None]
        if len(sizes) + len(named) != 2 or (len(sizes) == 1 and out_channels is not None):
            given = ", ".join(map(repr, [*sizes, *named]))
            raise TypeError(
                "Conv2d takes out_channels and kernel_size and infers the input channels from the data: write "
                f"Conv2d(out_channels, kernel_size), not Conv2d({given})"
            )
        both: list[Any] = [*sizes, *named]
        channels, kernel = both
        self.out_channels = _whole("out_channels", channels, 1)
        self.kernel_size = _pair("kernel_size", kernel, 1)
        self.stride = _pair("stride", stride, 1)
        if isinstance(padding, str):
            if padding not in ("same", "valid"):
                raise ValueError(f"Conv2d: {unknown('padding', padding, ('same', 'valid'))}, or a number")
            self.padding: str | Pair = padding
        else:
            self.padding = _pair("padding", padding, 0)
        self.dilation = _pair("dilation", dilation, 1)
        self.groups = _whole("groups", groups, 1)
        if self.out_channels % self.groups:
            raise ValueError(
                f"Conv2d: out_channels is {self.out_channels}, expected a multiple of groups, {self.groups}"
            )
        self.in_channels = None if in_channels is None else _whole("in_channels", in_channels, 1)
        self.bias = bool(bias)
        self.init = initializers.from_config(init)

    def attributes(self, input_shape: Shape) -> dict[str, float]:
        """Return the attributes of ``conv2d_forward`` for images of one shape."""
        found: dict[str, float] = {"groups": self.groups}
        for axis, before, behind, at in (("h", "top", "bottom", 0), ("w", "left", "right", 1)):
            stride, dilation = self.stride[at], self.dilation[at]
            found[f"stride_{axis}"] = stride
            found[f"dilation_{axis}"] = dilation
            if self.padding == "same":
                size = input_shape[at]
                reach = dilation * (self.kernel_size[at] - 1) + 1
                total = max(0, (-(-size // stride) - 1) * stride + reach - size)
                found[before], found[behind] = total // 2, total - total // 2
            else:
                width = 0 if isinstance(self.padding, str) else self.padding[at]
                found[before] = found[behind] = width
        return found

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return ``(out_height, out_width, out_channels)``."""
        if len(input_shape) != 3:
            raise ValueError(
                f"Conv2d: one row of the input has shape {input_shape}, expected (height, width, channels); give the data, or "
                "build(), images of that shape"
            )
        channels = input_shape[2]
        if self.in_channels is not None and channels != self.in_channels:
            raise ValueError(f"Conv2d: the input has {channels} channels, in_channels is {self.in_channels}")
        if channels % self.groups:
            raise ValueError(f"Conv2d: the input has {channels} channels, expected a multiple of groups, {self.groups}")
        attrs = self.attributes(input_shape)
        sizes = []
        for size, before, behind, at in ((input_shape[0], "top", "bottom", 0), (input_shape[1], "left", "right", 1)):
            padded = int(size + attrs[before] + attrs[behind])
            reach = self.dilation[at] * (self.kernel_size[at] - 1) + 1
            if reach > padded:
                raise ValueError(
                    f"Conv2d: images of shape {input_shape} have {padded} {('rows', 'columns')[at]} with padding, fewer than "
                    f"the {reach} a filter covers"
                )
            sizes.append((padded - reach) // self.stride[at] + 1)
        return (*sizes, self.out_channels)

    def parameters(self, input_shape: Shape) -> list[Parameter]:
        """Return ``w`` and ``b``."""
        shape = (*self.kernel_size, input_shape[2] // self.groups, self.out_channels)
        found = [Parameter("w", shape, self.init, decay=True)]
        if self.bias:
            found.append(Parameter("b", (self.out_channels,), "zeros"))
        return found

    def forward(self, builder: Builder, name: str, x: str) -> str:
        """Add one convolution."""
        bias = f"{name}.b" if self.bias else None
        shape = tuple(int(size) for size in builder.graph.values[x].shape[1:])
        return builder.emit("conv2d_forward", (x, f"{name}.w", bias), self.attributes(shape), name=name)[0]

    def config(self) -> dict[str, Any]:
        """Return the settings."""
        return {
            "out_channels": self.out_channels,
            "kernel_size": _short(self.kernel_size),
            "stride": _short(self.stride),
            "padding": self.padding if isinstance(self.padding, str) else _short(self.padding),
            "dilation": _short(self.dilation),
            "groups": self.groups,
            "in_channels": self.in_channels,
            "bias": self.bias,
            "init": initializers.to_config(self.init),
        }


def _whole(name: str, value: object, least: int) -> int:
    """Return a whole number of at least ``least``."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"Conv2d: {name} is {value!r}, expected a whole number")
    number = int(value.__index__())
    if number < least:
        raise ValueError(f"Conv2d: {name} is {number}, expected {least} or more")
    return number


def _pair(name: str, value: object, least: int) -> Pair:
    """Return a whole number twice, or two of them."""
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise ValueError(f"Conv2d: {name} is {value!r}, expected one whole number or two")
        return _whole(name, value[0], least), _whole(name, value[1], least)
    size = _whole(name, value, least)
    return size, size


def _short(pair: Pair) -> int | list[int]:
    """Return a pair as JSON, one number where both are equal."""
    return pair[0] if pair[0] == pair[1] else list(pair)
