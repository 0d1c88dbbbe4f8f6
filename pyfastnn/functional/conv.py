"""Two-dimensional convolution of images on plain arrays, forward and backward."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn._core import call as _call


def conv2d(
    x: NDArray[Any],
    w: NDArray[Any],
    b: NDArray[Any] | None = None,
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
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Slide filters over images.

    ``y[n, i, j, o] = b[o] + sum of x[n, i * stride_h - top + ky * dilation_h, j * stride_w - left + kx * dilation_w, c] *
    w[ky, kx, c, o]`` over the filter ``ky, kx`` and the channels ``c``; pixels outside the image add nothing. The filter is not
    flipped, as everywhere in networks.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (n, height, width, in_channels)
        Images, channels last, C-contiguous. ``n`` may be 0.
    w : ndarray of the same dtype, shape (kernel_h, kernel_w, in_channels / groups, out_channels)
        Filters.
    b : ndarray of the same dtype, shape (out_channels,), optional
        Bias; none by default.
    stride_h, stride_w : int, default 1
        Steps of the filter down and to the right.
    top, bottom, left, right : int, default 0
        Rows and columns the filter may reach over the border.
    dilation_h, dilation_w : int, default 1
        Distance of neighbouring taps of the filter.
    groups : int, default 1
        Channels fall into so many groups; an output channel sees the input channels of its group. As many as input channels:
        a depthwise convolution.
    out : ndarray of the same dtype, shape of the result, optional
        Overwritten; must not overlap the inputs.

    Returns
    -------
    ndarray of the same dtype, shape (n, out_height, out_width, out_channels)
        ``out`` if given, else a new array; ``out_height = (height + top + bottom - dilation_h * (kernel_h - 1) - 1) //
        stride_h + 1`` and likewise ``out_width``.

    Raises
    ------
    TypeError
        If an argument is not an ndarray of the dtype of ``x``. Nothing is converted.
    ValueError
        If shapes disagree, the filter is larger than the padded image, a number is under its least value, ``groups`` does not
        divide the output channels, an array is not C-contiguous, or ``out`` overlaps an input.

    Notes
    -----
    Cost is 2 FLOP for each output and weight it reads. Each element is within ``2 * (terms + 1) * u`` times the sum of the
    absolute values of its ``terms = kernel_h * kernel_w * in_channels / groups`` products and its bias, where ``u`` is
    ``2**-24`` for float32 and ``2**-53`` for float64. The result is the same for every thread count, and an image has the
    same bits in every batch; it may differ between CPU types in the last bits.

    References
    ----------
    LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition" (1998).

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> x = np.arange(12.0).reshape(1, 3, 4, 1)
    >>> F.conv2d(x, np.ones((2, 2, 1, 1)))[0, :, :, 0]
    array([[10., 14., 18.],
           [26., 30., 34.]])
    """
    _check_groups("conv2d", w, groups)
    attrs = (stride_h, stride_w, top, bottom, left, right, dilation_h, dilation_w, groups)
    return _call("conv2d_forward", (x, w, b), None if out is None else (out,), attrs)[0]


def conv2d_backward(
    dy: NDArray[Any],
    x: NDArray[Any],
    w: NDArray[Any],
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
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return the gradients of `conv2d`: of its input, its filters and its bias.

    Parameters
    ----------
    dy : ndarray of float32 or float64, shape (n, out_height, out_width, out_channels)
        Gradient of the loss with respect to the output.
    x : ndarray of the same dtype, shape (n, height, width, in_channels)
        Input of the forward pass.
    w : ndarray of the same dtype, shape (kernel_h, kernel_w, in_channels / groups, out_channels)
        Filters of the forward pass.
    stride_h, stride_w : int, default 1
        As in `conv2d`, and so all the numbers that follow.
    top, bottom, left, right : int, default 0
        Padding.
    dilation_h, dilation_w : int, default 1
        Distance of neighbouring taps.
    groups : int, default 1
        Groups of channels.

    Returns
    -------
    dx : ndarray of the dtype and shape of ``x``
        Gradient of the input. Call `conv2d_dx` alone if only this is wanted.
    dw : ndarray of the dtype and shape of ``w``
        Gradient of the filters, summed over batch and positions: `conv2d_dw`.
    db : ndarray of the same dtype, shape (out_channels,)
        Gradient of the bias, summed over batch and positions.

    Raises
    ------
    TypeError
        If an argument is not an ndarray of the dtype of ``dy``.
    ValueError
        If shapes disagree, ``groups`` does not divide the output channels, or an array is not C-contiguous.

    References
    ----------
    LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition" (1998).

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> dy, x, w = np.ones((1, 1, 2, 1)), np.array([[[[1.0], [2.0], [3.0]]]]), np.array([[[[4.0]], [[5.0]]]])
    >>> dx, dw, db = F.conv2d_backward(dy, x, w)
    >>> dx.ravel(), dw.ravel(), db
    (array([4., 9., 5.]), array([3., 5.]), array([2.]))
    """
    _check_groups("conv2d_backward", w, groups)
    attrs = (stride_h, stride_w, top, bottom, left, right, dilation_h, dilation_w, groups)
    if getattr(x, "ndim", 0) != 4 or getattr(w, "ndim", 0) != 4:
        raise ValueError("conv2d_backward: expected 'x' and 'w' of four dimensions")
    dx = _call("conv2d_dx", (dy, w), None, (*attrs, x.shape[1], x.shape[2]))[0]
    return dx, _call("conv2d_dw", (x, dy), None, (*attrs, *w.shape[:2]))[0], _call("linear_db", (dy,))[0]


def conv2d_dx(
    dy: NDArray[Any],
    w: NDArray[Any],
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
    height: int = 1,
    width: int = 1,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Return the gradient of the input of `conv2d`.

    A transposed convolution: each element of ``dy`` goes back, times the weights, to the pixels it was made from.

    Parameters
    ----------
    dy : ndarray of float32 or float64, shape (n, out_height, out_width, out_channels)
        Gradient of the loss with respect to the output.
    w : ndarray of the same dtype, shape (kernel_h, kernel_w, in_channels / groups, out_channels)
        Filters of the forward pass.
    stride_h, stride_w : int, default 1
        As in `conv2d`, and so all the numbers that follow.
    top, bottom, left, right : int, default 0
        Padding.
    dilation_h, dilation_w : int, default 1
        Distance of neighbouring taps.
    groups : int, default 1
        Groups of channels.
    height, width : int, default 1
        Size of the images of the forward pass, which does not follow from that of ``dy`` where a stride skips pixels.
    out : ndarray of the same dtype, shape of the result, optional
        Overwritten; must not overlap the inputs.

    Returns
    -------
    ndarray of the same dtype, shape (n, height, width, in_channels)
        ``out`` if given, else a new array. 0 for pixels that no output was made from.

    Raises
    ------
    TypeError
        If an argument is not an ndarray of the dtype of ``dy``.
    ValueError
        If shapes disagree with each other or with ``height`` and ``width``, ``groups`` does not divide the output channels, an
        array is not C-contiguous, or ``out`` overlaps an input.

    Notes
    -----
    Error bound and bits as in `conv2d`, with ``terms = kernel_h * kernel_w * out_channels / groups``.

    References
    ----------
    LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition" (1998).

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> dy = np.ones((1, 2, 3, 1))
    >>> F.conv2d_dx(dy, np.ones((2, 2, 1, 1)), height=3, width=4)[0, :, :, 0]
    array([[1., 2., 2., 1.],
           [2., 4., 4., 2.],
           [1., 2., 2., 1.]])
    """
    _check_groups("conv2d_dx", w, groups)
    attrs = (stride_h, stride_w, top, bottom, left, right, dilation_h, dilation_w, groups, height, width)
    return _call("conv2d_dx", (dy, w), None if out is None else (out,), attrs)[0]


def conv2d_dx_pooled(
    dy: NDArray[Any],
    index: NDArray[np.uint8],
    w: NDArray[Any],
    *,
    top: int = 0,
    bottom: int = 0,
    left: int = 0,
    right: int = 0,
    height: int = 1,
    width: int = 1,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Return the gradient of the input of a convolution after which windows of 2 x 2 were pooled.

    The same as ``conv2d_dx(max_pool_backward(dy, index, ...), w, ...)``, for stride 1, no dilation and one group, without the
    three quarters of products with 0.

    Parameters
    ----------
    dy : ndarray of float32 or float64, shape (n, pooled_height, pooled_width, filters)
        Gradient of the loss with respect to the output of the pool; ``pooled_height`` is ``(height + top + bottom - kernel_h + 1)
        // 2``, and ``pooled_width`` likewise.
    index : ndarray of uint8, of the shape of ``dy``
        From `max_pool` with its default windows. Only the low two bits count.
    w : ndarray of the same dtype, shape (kernel_h, kernel_w, channels, filters)
        Filters of the forward pass.
    top, bottom, left, right : int, default 0
        Rows and columns of zeros around the images.
    height, width : int, default 1
        Size of the images of the forward pass.
    out : ndarray of the same dtype, shape of the result, optional
        Overwritten; must not overlap the inputs.

    Returns
    -------
    ndarray of the same dtype, shape (n, height, width, channels)
        ``out`` if given, else a new array. 0 for pixels that no pooled cell was made from.

    Raises
    ------
    TypeError
        If an argument has another dtype.
    ValueError
        If shapes and settings disagree, an array is not C-contiguous, or ``out`` overlaps an input.

    Notes
    -----
    Each element is within ``2 * (terms + 1) * u`` times the sum of the absolute values of its terms, ``terms = kernel_h *
    kernel_w * filters``. The same bits for every thread count and for an image alone or in a batch; other bits than `conv2d_dx`,
    which adds in another order. Where ``w`` is not finite `conv2d_dx` gives NaN for its products with 0, and this does not.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> index = np.array([3], np.uint8).reshape(1, 1, 1, 1)
    >>> w = np.array([1.0, 2.0, 3.0, 4.0]).reshape(2, 2, 1, 1)
    >>> F.conv2d_dx_pooled(np.ones((1, 1, 1, 1)), index, w, height=3, width=3)[0, :, :, 0]
    array([[0., 0., 0.],
           [0., 1., 2.],
           [0., 3., 4.]])
    """
    attrs = (top, bottom, left, right, height, width)
    return _call("conv2d_dx_pooled", (dy, index, w), None if out is None else (out,), attrs)[0]


def conv2d_max_pool(
    x: NDArray[Any],
    w: NDArray[Any],
    b: NDArray[Any] | None = None,
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
    out: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """Slide filters over images and keep the largest value of each window of 2 x 2 outputs.

    `max_pool` of `conv2d` with the same bits, faster: what the convolution gives is pooled while it is in cache, and never stored.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (n, height, width, in_channels)
        Images, channels last, C-contiguous. ``n`` may be 0.
    w : ndarray of the same dtype, shape (kernel_h, kernel_w, in_channels / groups, out_channels)
        Filters.
    b : ndarray of the same dtype, shape (out_channels,), optional
        Bias; none by default.
    stride_h, stride_w : int, default 1
        Steps of the filter, as in `conv2d`, and so all the numbers that follow. The windows of the pool touch.
    top, bottom, left, right : int, default 0
        Padding of the convolution; the pool has none.
    dilation_h, dilation_w : int, default 1
        Distance of neighbouring taps.
    groups : int, default 1
        Groups of channels.
    out : ndarray of the same dtype, shape of ``y``, optional
        Overwritten with ``y``; must not overlap the inputs.

    Returns
    -------
    y : ndarray of the same dtype, shape (n, out_height // 2, out_width // 2, out_channels)
        ``out`` if given, else a new array; ``out_height`` and ``out_width`` are those of `conv2d`. A last row or column without a
        window is left out.
    index : ndarray of uint8, shape of ``y``
        Cell of the window that the value came from, ``2 * row + column``: the first of equal values, the last NaN.

    Raises
    ------
    TypeError
        If an argument is not an ndarray of the dtype of ``x``. Nothing is converted.
    ValueError
        As `conv2d` does.

    Notes
    -----
    Error bound and bits as in `conv2d`. Gradients are those of the two: `max_pool_backward` of ``index``, then `conv2d_dx` and
    `conv2d_dw`; or `conv2d_dx_pooled` and `conv2d_dw_pooled` at once.

    References
    ----------
    LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition" (1998); Zhou and Chellappa,
    "Computation of optical flow using a neural network" (1988).

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> x = np.arange(12.0).reshape(1, 3, 4, 1)
    >>> y, index = F.conv2d_max_pool(x, np.ones((2, 2, 1, 1)))
    >>> y.ravel(), index.ravel()
    (array([30.]), array([3], dtype=uint8))
    """
    _check_groups("conv2d_max_pool", w, groups)
    attrs = (stride_h, stride_w, top, bottom, left, right, dilation_h, dilation_w, groups)
    y, index = _call("conv2d_max_pool_forward", (x, w, b), None if out is None else (out, None), attrs)
    return y, index


def _check_groups(who: str, w: NDArray[Any], groups: int) -> None:
    """Refuse output channels that do not fall into equal groups; the rest is the shape rule's."""
    channels = w.shape[3] if getattr(w, "ndim", 0) == 4 else 0
    if groups >= 1 and channels % groups:
        raise ValueError(f"{who}: 'w' has {channels} output channels, expected a multiple of 'groups', {groups}")
