"""Pools of images on plain arrays, forward and backward: maxima and averages. Images are NHWC."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn._core import call as _call

Window = tuple[int, int, int, int, int, int, int, int]


def _window(op: str, kernel_h: int, kernel_w: int, stride_h: int, stride_w: int, *pads: int) -> Window:
    """Return the settings of a max pool in the order of the op table, if an index byte and every window can hold them."""
    if kernel_h * kernel_w > 255:
        raise ValueError(f"{op}: windows have {kernel_h} x {kernel_w} cells, expected at most 255 in all")
    top, bottom, left, right = pads
    for name, pad, side, kernel in (
        ("top", top, "kernel_h", kernel_h),
        ("bottom", bottom, "kernel_h", kernel_h),
        ("left", left, "kernel_w", kernel_w),
        ("right", right, "kernel_w", kernel_w),
    ):
        if pad >= kernel > 0:
            raise ValueError(
                f"{op}: {name!r} is {pad}, expected less than {side!r} ({kernel}): windows would lie outside"
            )
    return kernel_h, kernel_w, stride_h, stride_w, top, bottom, left, right


def max_pool(
    x: NDArray[Any],
    *,
    kernel_h: int = 2,
    kernel_w: int = 2,
    stride_h: int = 2,
    stride_w: int = 2,
    top: int = 0,
    bottom: int = 0,
    left: int = 0,
    right: int = 0,
    out: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """Return the largest value of each window, and which cell it came from.

    ``y[n, p, q, c]`` is the maximum of ``x[n, p * stride_h + i - top, q * stride_w + j - left, c]`` over the cells ``(i, j)`` of
    the window that lie inside the image, and ``index = i * kernel_w + j`` of that cell.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (n, height, width, channels)
        Images, C-contiguous.
    kernel_h, kernel_w : int, default 2
        Size of the windows, at most 255 cells.
    stride_h, stride_w : int, default 2
        Pixels from one window to the next.
    top, bottom, left, right : int, default 0
        Rows and columns around the images that belong to none, fewer than the window has.
    out : ndarray of the dtype of ``x``, shape (n, out_height, out_width, channels), optional
        Overwritten with y; must not overlap ``x``.

    Returns
    -------
    y : ndarray of the dtype of ``x``, shape (n, out_height, out_width, channels)
        ``out`` if given, else a new array. ``out_height`` is ``(height + top + bottom - kernel_h) // stride_h + 1``; rows and
        columns that fill no window are left out.
    index : ndarray of uint8, of the shape of y
        For `max_pool_backward`.

    Raises
    ------
    TypeError
        If ``x`` is not an ndarray of float32 or float64.
    ValueError
        If a window has more than 255 cells or lies in the padding, the image is too small, an array is not C-contiguous, or
        ``out`` overlaps ``x``.

    Notes
    -----
    Exact. NaN is larger than any number. Of equal values the first counts, of several NaN the last (as in PyTorch).

    References
    ----------
    Zhou and Chellappa, "Computation of optical flow using a neural network" (1988).

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> y, index = F.max_pool(np.array([1.0, 5.0, 2.0, 2.0, 3.0, 4.0, 0.0, 2.0]).reshape(1, 2, 4, 1))
    >>> y.ravel(), index.ravel()
    (array([5., 2.]), array([1, 0], dtype=uint8))
    """
    attrs = _window("max_pool", kernel_h, kernel_w, stride_h, stride_w, top, bottom, left, right)
    y, index = _call("max_pool_forward", (x,), None if out is None else (out, None), attrs)
    return y, index


def max_pool_backward(
    dy: NDArray[Any],
    index: NDArray[np.uint8],
    *,
    kernel_h: int = 2,
    kernel_w: int = 2,
    stride_h: int = 2,
    stride_w: int = 2,
    top: int = 0,
    bottom: int = 0,
    left: int = 0,
    right: int = 0,
    height: int = 1,
    width: int = 1,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Return the gradient of the input of `max_pool`: each ``dy`` goes to the cell it came from.

    Parameters
    ----------
    dy : ndarray of float32 or float64, shape (n, out_height, out_width, channels)
        Gradient of the loss with respect to y.
    index : ndarray of uint8, of the shape of ``dy``
        From the forward pass. An index that names no cell of the image drops its ``dy``.
    kernel_h, kernel_w : int, default 2
        Size of the windows, as in the forward pass.
    stride_h, stride_w : int, default 2
        Pixels from one window to the next.
    top, bottom, left, right : int, default 0
        Rows and columns around the images that belong to none.
    height, width : int, default 1
        Of the images.
    out : ndarray of the dtype of ``dy``, shape (n, height, width, channels), optional
        Overwritten; must not overlap the inputs.

    Returns
    -------
    ndarray of the dtype of ``dy``, shape (n, height, width, channels)
        ``out`` if given, else a new array.

    Raises
    ------
    TypeError
        If an argument has another dtype.
    ValueError
        If shapes and settings disagree, an array is not C-contiguous, or ``out`` overlaps an input.

    Notes
    -----
    Exact where windows do not overlap; otherwise the gradients of a cell are added in the order of the windows.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> index = np.array([1, 0], np.uint8).reshape(1, 1, 2, 1)
    >>> F.max_pool_backward(np.array([3.0, 4.0]).reshape(1, 1, 2, 1), index, height=2, width=4)[0, :, :, 0]
    array([[0., 3., 4., 0.],
           [0., 0., 0., 0.]])
    """
    attrs = (kernel_h, kernel_w, stride_h, stride_w, top, bottom, left, right, height, width)
    return _call("max_pool_backward", (dy, index), None if out is None else (out,), attrs)[0]


def avg_pool(
    x: NDArray[Any],
    *,
    kernel_h: int = 2,
    kernel_w: int = 2,
    stride_h: int = 2,
    stride_w: int = 2,
    top: int = 0,
    bottom: int = 0,
    left: int = 0,
    right: int = 0,
    count_include_pad: int = 1,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Return the mean of each window.

    The sum of the cells that lie inside the image, over ``kernel_h * kernel_w``, or with ``count_include_pad=0`` over the number
    of these cells.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (n, height, width, channels)
        Images, C-contiguous.
    kernel_h, kernel_w : int, default 2
        Size of the windows.
    stride_h, stride_w : int, default 2
        Pixels from one window to the next.
    top, bottom, left, right : int, default 0
        Rows and columns around the images that belong to none; they count as zeros.
    count_include_pad : int, default 1
        Whether cells in the padding count; 0 or 1.
    out : ndarray of the dtype of ``x``, shape (n, out_height, out_width, channels), optional
        Overwritten; must not overlap ``x``.

    Returns
    -------
    ndarray of the dtype of ``x``, shape (n, out_height, out_width, channels)
        ``out`` if given, else a new array; sizes as in `max_pool`. A window without a cell in the image gives 0.

    Raises
    ------
    TypeError
        If ``x`` is not an ndarray of float32 or float64.
    ValueError
        If the image is too small, a number is out of range, an array is not C-contiguous, or ``out`` overlaps ``x``.

    Notes
    -----
    Within ``(cells + 3) * u`` times the mean of the absolute values.

    References
    ----------
    LeCun et al., "Backpropagation applied to handwritten zip code recognition" (1989).

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.avg_pool(np.arange(8.0).reshape(1, 2, 4, 1)).ravel()
    array([2.5, 4.5])
    """
    attrs = (kernel_h, kernel_w, stride_h, stride_w, top, bottom, left, right, count_include_pad)
    return _call("avg_pool_forward", (x,), None if out is None else (out,), attrs)[0]


def avg_pool_backward(
    dy: NDArray[Any],
    *,
    kernel_h: int = 2,
    kernel_w: int = 2,
    stride_h: int = 2,
    stride_w: int = 2,
    top: int = 0,
    bottom: int = 0,
    left: int = 0,
    right: int = 0,
    count_include_pad: int = 1,
    height: int = 1,
    width: int = 1,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Return the gradient of the input of `avg_pool`: each ``dy`` is shared out over the cells of its window.

    Parameters
    ----------
    dy : ndarray of float32 or float64, shape (n, out_height, out_width, channels)
        Gradient of the loss with respect to the output.
    kernel_h, kernel_w : int, default 2
        Size of the windows, as in the forward pass.
    stride_h, stride_w : int, default 2
        Pixels from one window to the next.
    top, bottom, left, right : int, default 0
        Rows and columns around the images that belong to none.
    count_include_pad : int, default 1
        As in the forward pass.
    height, width : int, default 1
        Of the images.
    out : ndarray of the dtype of ``dy``, shape (n, height, width, channels), optional
        Overwritten; must not overlap ``dy``.

    Returns
    -------
    ndarray of the dtype of ``dy``, shape (n, height, width, channels)
        ``out`` if given, else a new array.

    Raises
    ------
    TypeError
        If ``dy`` is not an ndarray of float32 or float64.
    ValueError
        If shape and settings disagree, an array is not C-contiguous, or ``out`` overlaps ``dy``.

    Notes
    -----
    Two roundings for each window that holds a cell, and their sum in the order of the windows.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.avg_pool_backward(np.array([4.0]).reshape(1, 1, 1, 1), height=2, width=3)[0, :, :, 0]
    array([[1., 1., 0.],
           [1., 1., 0.]])
    """
    attrs = (kernel_h, kernel_w, stride_h, stride_w, top, bottom, left, right, count_include_pad, height, width)
    return _call("avg_pool_backward", (dy,), None if out is None else (out,), attrs)[0]


def global_avg_pool(x: NDArray[Any], *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return the mean of each channel over all pixels of an image.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (n, height, width, channels)
        Images, C-contiguous.
    out : ndarray of the dtype of ``x``, shape (n, channels), optional
        Overwritten; must not overlap ``x``.

    Returns
    -------
    ndarray of the dtype of ``x``, shape (n, channels)
        ``out`` if given, else a new array; NaN if an image has no pixels.

    Raises
    ------
    TypeError
        If ``x`` is not an ndarray of float32 or float64.
    ValueError
        If ``x`` has not four dimensions, an array is not C-contiguous, or ``out`` overlaps ``x``.

    Notes
    -----
    Within ``(height * width + 3) * u`` times the mean of the absolute values. An image has the same bits in every batch.

    References
    ----------
    Lin, Chen and Yan, "Network in network" (2014).

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.global_avg_pool(np.arange(8.0).reshape(1, 2, 2, 2))
    array([[3., 4.]])
    """
    return _call("global_avg_pool_forward", (x,), None if out is None else (out,))[0]


def global_avg_pool_backward(
    dy: NDArray[Any], *, height: int = 1, width: int = 1, out: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Return the gradient of the input of `global_avg_pool`: ``dy / (height * width)`` at every pixel.

    Parameters
    ----------
    dy : ndarray of float32 or float64, shape (n, channels)
        Gradient of the loss with respect to the output.
    height, width : int, default 1
        Of the images.
    out : ndarray of the dtype of ``dy``, shape (n, height, width, channels), optional
        Overwritten; must not overlap ``dy``.

    Returns
    -------
    ndarray of the dtype of ``dy``, shape (n, height, width, channels)
        ``out`` if given, else a new array.

    Raises
    ------
    TypeError
        If ``dy`` is not an ndarray of float32 or float64.
    ValueError
        If ``dy`` is no C-contiguous matrix, a size is under 1, or ``out`` overlaps ``dy``.

    Notes
    -----
    Two roundings.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.global_avg_pool_backward(np.array([[4.0]]), height=2, width=2).ravel()
    array([1., 1., 1., 1.])
    """
    return _call("global_avg_pool_backward", (dy,), None if out is None else (out,), (height, width))[0]
