"""The rectifier with learned slopes on plain arrays, forward and backward; NaN propagates."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from pyfastnn._core import call as _call


def prelu(x: NDArray[Any], slope: NDArray[Any], *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return the input with its negative part scaled by a slope for each channel.

    ``y = x if x > 0 else slope * x``; NaN stays NaN.

    Parameters
    ----------
    x : ndarray of float32 or float64
        Of one to four dimensions, channels last, C-contiguous.
    slope : ndarray of the dtype of ``x``, shape (channels,)
        One slope for each item of the last dimension. For one slope for all, give ``x.reshape(-1, 1)``.
    out : ndarray of the dtype and shape of ``x``, optional
        Overwritten; may be ``x`` itself, must not overlap the inputs otherwise.

    Returns
    -------
    ndarray of the dtype and shape of ``x``
        ``out`` if given, else a new array.

    Raises
    ------
    TypeError
        If an argument is not an ndarray of the dtype of ``x``.
    ValueError
        If shapes do not fit, an array is not C-contiguous, or ``out`` overlaps an input in part.

    Notes
    -----
    One rounding.

    References
    ----------
    He, Zhang, Ren and Sun, "Delving deep into rectifiers" (2015).

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.prelu(np.array([[-1.0, -1.0], [2.0, 2.0]]), np.array([0.25, 0.5]))
    array([[-0.25, -0.5 ],
           [ 2.  ,  2.  ]])
    """
    return _call("prelu_forward", (x, slope), None if out is None else (out,))[0]


def prelu_backward(
    dy: NDArray[Any], x: NDArray[Any], slope: NDArray[Any], *, out: NDArray[Any] | None = None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the gradients of the input and of the slopes of `prelu`.

    ``dx = dy if x > 0 else slope * dy``; ``dslope = sum of dy * x`` over the rows where ``x <= 0``.

    Parameters
    ----------
    dy : ndarray of float32 or float64
        Gradient of the loss with respect to the output; one to four dimensions, C-contiguous.
    x : ndarray of the dtype and shape of ``dy``
        Input of the forward pass.
    slope : ndarray of the dtype of ``dy``, shape (channels,)
        One slope for each item of the last dimension.
    out : ndarray of the dtype and shape of ``dy``, optional
        Overwritten with the gradient of the input; may be ``dy`` itself, must not overlap the inputs otherwise.

    Returns
    -------
    dx : ndarray of the dtype and shape of ``dy``
        The gradient of the input: ``out`` if given, else a new array.
    dslope : ndarray of the dtype of ``dy``, shape (channels,)
        The gradient of the slopes.

    Raises
    ------
    TypeError
        If an argument is not an ndarray of the dtype of ``dy``.
    ValueError
        If shapes do not fit, an array is not C-contiguous, or ``out`` overlaps an input in part.

    Notes
    -----
    ``dx`` has one rounding. ``dslope`` is summed in an order that the shape decides.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.prelu_backward(np.ones((2, 1)), np.array([[-3.0], [2.0]]), np.array([0.25]))
    (array([[0.25],
           [1.  ]]), array([-3.]))
    """
    dx, dslope = _call("prelu_backward", (dy, x, slope), None if out is None else (out, None))
    return dx, dslope
