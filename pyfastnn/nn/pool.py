"""Pools: images made smaller by the largest or the mean value of each window, or of the whole image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from pyfastnn.graph import Builder
from pyfastnn.nn.layer import Layer, Shape

Size = int | Sequence[int]


class _Pool(Layer):
    """A layer over the op ``<kind>_forward`` with windows."""

    def __init__(
        self, *size: Size, kernel_size: Size | None = None, stride: Size | None = None, padding: Size = 0
    ) -> None:
        name = type(self).__name__
        sizes = size if kernel_size is None else (*size, kernel_size)
        if len(sizes) != 1:
            example = f"{name}(2, stride=2)" if len(sizes) > 1 else f"{name}(2)"
            raise TypeError(f"{name} takes one size: write {example}, not {name}({', '.join(map(repr, sizes))})")
        self.kernel_size = _pair(name, "kernel_size", sizes[0], 1)
        self.stride = self.kernel_size if stride is None else _pair(name, "stride", stride, 1)
        self.padding = _pair(name, "padding", padding, 0)
        for pad, kernel in zip(self.padding, self.kernel_size, strict=True):
            if 2 * pad > kernel:
                raise ValueError(
                    f"{name}: padding is {padding!r}, expected at most half of kernel_size, {_short(self.kernel_size)}"
                )

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return ``(out_height, out_width, channels)``."""
        _check_images(type(self).__name__, input_shape)
        out = tuple(
            (size + 2 * pad - kernel) // stride + 1
            for size, pad, kernel, stride in zip(input_shape, self.padding, self.kernel_size, self.stride, strict=False)
        )
        if min(out) < 1:
            raise ValueError(
                f"{type(self).__name__}: images of {input_shape[0]} x {input_shape[1]} pixels are smaller than the windows, "
                f"{self.kernel_size[0]} x {self.kernel_size[1]} (height x width; channels come last, after them)"
            )
        return (*out, input_shape[2])

    def attributes(self) -> dict[str, float]:
        """Return the windows as the attributes of the op."""
        return {
            "kernel_h": self.kernel_size[0],
            "kernel_w": self.kernel_size[1],
            "stride_h": self.stride[0],
            "stride_w": self.stride[1],
            "top": self.padding[0],
            "bottom": self.padding[0],
            "left": self.padding[1],
            "right": self.padding[1],
        }

    def forward(self, builder: Builder, name: str, x: str) -> str:
        """Add one node."""
        return builder.emit(f"{self.op}_forward", (x,), self.attributes(), name=name)[0]

    op: ClassVar[str] = ""

    def config(self) -> dict[str, Any]:
        """Return the settings."""
        return {
            "kernel_size": _short(self.kernel_size),
            "stride": _short(self.stride),
            "padding": _short(self.padding),
        }


class MaxPool2d(_Pool):
    """Keep the largest value of each window of an image, channel by channel.

    Parameters
    ----------
    kernel_size : int or pair of int
        Height and width of the windows, at most 255 cells in all.
    stride : int or pair of int, optional
        Pixels from one window to the next; the kernel size by default, so that windows touch.
    padding : int or pair of int, default 0
        Rows above and below, and columns left and right, that belong to no image; at most half the kernel size.

    Raises
    ------
    TypeError
        If a second positional size is given, or a size is no whole number.
    ValueError
        If a size is out of range.

    Notes
    -----
    Images are (height, width, channels); rows and columns that fill no window are left out. NaN is larger than any number. The
    gradient goes to the first of equal values. Zhou and Chellappa (1988).
    """

    kind = "max_pool2d"
    op = "max_pool"

    def __init__(
        self, *size: Size, kernel_size: Size | None = None, stride: Size | None = None, padding: Size = 0
    ) -> None:
        super().__init__(*size, kernel_size=kernel_size, stride=stride, padding=padding)
        cells = self.kernel_size[0] * self.kernel_size[1]
        if cells > 255:
            raise ValueError(f"MaxPool2d: windows have {cells} cells, expected at most 255")


class AvgPool2d(_Pool):
    """Replace each window of an image by its mean, channel by channel.

    Parameters
    ----------
    kernel_size : int or pair of int
        Height and width of the windows.
    stride : int or pair of int, optional
        Pixels from one window to the next; the kernel size by default, so that windows touch.
    padding : int or pair of int, default 0
        Rows above and below, and columns left and right, of zeros; at most half the kernel size.
    count_include_pad : bool, default True
        Whether these zeros count in the mean.

    Raises
    ------
    TypeError
        If a second positional size is given, or a size is no whole number.
    ValueError
        If a size is out of range.

    Notes
    -----
    Images are (height, width, channels); rows and columns that fill no window are left out. LeCun et al. (1989).
    """

    kind = "avg_pool2d"
    op = "avg_pool"

    def __init__(
        self,
        *size: Size,
        kernel_size: Size | None = None,
        stride: Size | None = None,
        padding: Size = 0,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__(*size, kernel_size=kernel_size, stride=stride, padding=padding)
        self.count_include_pad = bool(count_include_pad)

    def attributes(self) -> dict[str, float]:
        """Return the windows as the attributes of the op."""
        return {**super().attributes(), "count_include_pad": int(self.count_include_pad)}

    def config(self) -> dict[str, Any]:
        """Return the settings."""
        return {**super().config(), "count_include_pad": self.count_include_pad}


class GlobalAvgPool2d(Layer):
    """Replace each channel of an image by its mean over all pixels: (height, width, channels) becomes (channels,).

    Notes
    -----
    Lin, Chen and Yan (2014).
    """

    kind = "global_avg_pool2d"

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return ``(channels,)``."""
        _check_images("GlobalAvgPool2d", input_shape)
        return (input_shape[2],)

    def forward(self, builder: Builder, name: str, x: str) -> str:
        """Add one node."""
        return builder.emit("global_avg_pool_forward", (x,), name=name)[0]


def _check_images(layer: str, input_shape: Shape) -> None:
    if len(input_shape) != 3:
        raise ValueError(
            f"{layer}: one row of the input has shape {input_shape}, expected an image (height, width, channels)"
        )


def _pair(layer: str, name: str, value: object, least: int) -> tuple[int, int]:
    """Return two whole numbers of at least ``least``, given one for both or two."""
    parts = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(parts) != 2 or any(isinstance(p, bool) or not hasattr(p, "__index__") for p in parts):
        raise TypeError(f"{layer}: {name} is {value!r}, expected a whole number or two")
    high, wide = (int(p.__index__()) for p in parts)
    if min(high, wide) < least:
        raise ValueError(f"{layer}: {name} is {value!r}, expected {least} or more")
    return high, wide


def _short(pair: tuple[int, int]) -> int | list[int]:
    """Return one number if both are equal, else a list: as JSON."""
    return pair[0] if pair[0] == pair[1] else list(pair)
