"""The gradient of convolution weights on plain arrays, dense and after a max pool."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn._core import call as _call


def conv2d_dw(
    x: NDArray[Any],
    dy: NDArray[Any],
    *,
    stride_h: int = 1,
    stride_w: int = 1,
    top: int = 0,
    bottom: int = 0,
    left: int = 0,
    right: int = 0,
    dilation_h: int = 1,
    dilation_w: int = 1,
    groups: int = 1,
    kernel_h: int = 1,
    kernel_w: int = 1,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Return the gradient of the weights of a convolution.

    ``dw[i, j, c, f]`` is the sum over images and output pixels ``(p, q)`` of ``x[n, p * stride_h + i * dilation_h - top, q *
    stride_w + j * dilation_w - left, c] * dy[n, p, q, f]``, where ``x`` is 0 outside the image and ``c`` runs over the channels
    of the group of ``f``. The gradient of the bias is ``linear_db(dy)``.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (n, height, width, channels)
        Images of the forward pass, C-contiguous.
    dy : ndarray of the same dtype, shape (n, out_height, out_width, filters)
        Gradient of the loss with respect to the output; ``out_height`` is ``(height + top + bottom - dilation_h * (kernel_h - 1) -
        1) // stride_h + 1``, and ``out_width`` likewise.
    stride_h, stride_w : int, default 1
        Pixels from one window to the next.
    top, bottom, left, right : int, default 0
        Rows and columns of zeros around the images.
    dilation_h, dilation_w : int, default 1
        Pixels from one cell of a window to the next.
    groups : int, default 1
        Into how many parts channels and filters are cut; both must be multiples of it.
    kernel_h, kernel_w : int, default 1
        Size of the windows.
    out : ndarray of the same dtype, shape (kernel_h, kernel_w, channels // groups, filters), optional
        Overwritten; must not overlap the inputs.

    Returns
    -------
    ndarray of the same dtype, shape (kernel_h, kernel_w, channels // groups, filters)
        ``out`` if given, else a new array. Zeros if there are no pixels.

    Raises
    ------
    TypeError
        If an argument is not an ndarray of the dtype of ``x``.
    ValueError
        If shapes and settings disagree, ``groups`` divides channels or filters with a remainder, an array is not C-contiguous,
        or ``out`` overlaps an input.

    Notes
    -----
    Each element is within ``2 * (terms + 1) * u`` times the sum of the absolute values of its ``terms = n * out_height *
    out_width`` products, as in `linear`. The same bits for every thread count. Where ``dy`` is not finite under padding, dw may
    be NaN or not.

    References
    ----------
    LeCun et al., "Backpropagation applied to handwritten zip code recognition" (1989).

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> x = np.arange(9.0).reshape(1, 3, 3, 1)
    >>> F.conv2d_dw(x, np.ones((1, 2, 2, 1)), kernel_h=2, kernel_w=2)[:, :, 0, 0]
    array([[ 8., 12.],
           [20., 24.]])
    """
    for name, array in (("x", x), ("dy", dy)):
        shape: tuple[int, ...] = getattr(array, "shape", ())
        if len(shape) == 4 and groups >= 1 and shape[3] % groups:
            what = "channels" if name == "x" else "filters"
            raise ValueError(f"conv2d_dw: {name!r} has {shape[3]} {what}, expected a multiple of 'groups' ({groups})")
    attrs = (
        stride_h,
        stride_w,
        top,
        bottom,
        left,
        right,
        dilation_h,
        dilation_w,
        groups,
        kernel_h,
        kernel_w,
    )
    return _call("conv2d_dw", (x, dy), None if out is None else (out,), attrs)[0]


def conv2d_dw_pooled(
    x: NDArray[Any],
    dy: NDArray[Any],
    index: NDArray[np.uint8],
    *,
    top: int = 0,
    bottom: int = 0,
    left: int = 0,
    right: int = 0,
    kernel_h: int = 1,
    kernel_w: int = 1,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Return the gradient of the weights of a convolution after which windows of 2 x 2 were pooled.

    The same as ``conv2d_dw(x, max_pool_backward(dy, index, ...), ...)``, for stride 1, no dilation and one group, without the
    three quarters of products with 0.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (n, height, width, channels)
        Images of the forward pass of the convolution, C-contiguous.
    dy : ndarray of the same dtype, shape (n, pooled_height, pooled_width, filters)
        Gradient of the loss with respect to the output of the pool; ``pooled_height`` is ``(height + top + bottom - kernel_h + 1)
        // 2``, and ``pooled_width`` likewise.
    index : ndarray of uint8, of the shape of ``dy``
        From `max_pool` with its default windows. Only the low two bits count.
    top, bottom, left, right : int, default 0
        Rows and columns of zeros around the images.
    kernel_h, kernel_w : int, default 1
        Size of the convolution's windows.
    out : ndarray of the same dtype, shape (kernel_h, kernel_w, channels, filters), optional
        Overwritten; must not overlap the inputs.

    Returns
    -------
    ndarray of the same dtype, shape (kernel_h, kernel_w, channels, filters)
        ``out`` if given, else a new array. Zeros if there are no pixels.

    Raises
    ------
    TypeError
        If an argument has another dtype.
    ValueError
        If shapes and settings disagree, an array is not C-contiguous, or ``out`` overlaps an input.

    Notes
    -----
    Each element is within ``2 * (terms + 1) * u`` times the sum of the absolute values of its terms, one for each pooled pixel.
    The same bits for every thread count; other bits than `conv2d_dw`, which adds in another order. Where ``x`` is not finite
    in windows that do not count, `conv2d_dw` gives NaN and this does not.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> x = np.arange(9.0).reshape(1, 3, 3, 1)
    >>> index = np.array([3], np.uint8).reshape(1, 1, 1, 1)
    >>> F.conv2d_dw_pooled(x, np.ones((1, 1, 1, 1)), index, kernel_h=2, kernel_w=2)[:, :, 0, 0]
    array([[4., 5.],
           [7., 8.]])
    """
    attrs = (top, bottom, left, right, kernel_h, kernel_w)
    return _call("conv2d_dw_pooled", (x, dy, index), None if out is None else (out,), attrs)[0]
