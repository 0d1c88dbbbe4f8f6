"""Softmax and its logarithm over the last dimension, on plain arrays, forward and backward."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from pyfastnn._core import call as _call


def softmax(x: NDArray[Any], *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return the softmax over the last dimension: numbers from 0 to 1 that sum to 1.

    ``y = exp(x - m) / sum(exp(x - m))``, m the maximum of the row. A row with a NaN or plus infinity, or of minus infinity alone, is NaN.

    Parameters
    ----------
    x : ndarray of float32 or float64
        Of one to four dimensions, C-contiguous.
    out : ndarray of the dtype and shape of ``x``, optional
        Overwritten; may be ``x`` itself, must not overlap it otherwise.

    Returns
    -------
    ndarray of the dtype and shape of ``x``
        ``out`` if given, else a new array.

    Raises
    ------
    TypeError
        If ``x`` is not an ndarray of float32 or float64, or ``out`` has another dtype.
    ValueError
        If an array is not C-contiguous, or ``out`` has another shape or overlaps ``x`` in part.

    Notes
    -----
    The relative error is at most ``(8 + abs(x - m) + c) * eps / 2`` and the mean of ``abs(x - m)`` over the row, weighted by y, times
    ``eps / 2``; c is the width of the row.

    References
    ----------
    Blanchard, Higham and Higham, "Accurately computing the log-sum-exp and softmax functions" (2021).

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.softmax(np.array([0.0, np.log(3.0)]))
    array([0.25, 0.75])
    """
    return _call("softmax_forward", (x,), None if out is None else (out,))[0]


def softmax_backward(dy: NDArray[Any], y: NDArray[Any], *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return the gradient of the input of `softmax`.

    ``dx = y * (dy - sum(dy * y))``, the sum over the last dimension.

    Parameters
    ----------
    dy : ndarray of float32 or float64
        Gradient of the loss with respect to the output; one to four dimensions,
        C-contiguous.
    y : ndarray of the dtype and shape of ``dy``
        Output of the forward pass.
    out : ndarray of the dtype and shape of ``dy``, optional
        Overwritten; may be ``dy`` itself, must not overlap the inputs otherwise.

    Returns
    -------
    ndarray of the dtype and shape of ``dy``
        The gradient of the input: ``out`` if given, else a new array.

    Raises
    ------
    TypeError
        If an argument is not an ndarray of the dtype of ``dy``.
    ValueError
        If shapes differ, an array is not C-contiguous, or ``out`` overlaps an input in part.

    Notes
    -----
    The sum is made in an order that the width of a row decides.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.softmax_backward(np.array([1.0, 0.0]), np.array([0.5, 0.5]))
    array([ 0.25, -0.25])
    """
    return _call("softmax_backward", (dy, y), None if out is None else (out,))[0]


def log_softmax(x: NDArray[Any], *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return the logarithm of the softmax over the last dimension.

    ``y = (x - m) - log(sum(exp(x - m)))``, m the maximum of the row. A row with a NaN or plus infinity, or of minus infinity alone, is NaN.

    Parameters
    ----------
    x : ndarray of float32 or float64
        Of one to four dimensions, C-contiguous.
    out : ndarray of the dtype and shape of ``x``, optional
        Overwritten; may be ``x`` itself, must not overlap it otherwise.

    Returns
    -------
    ndarray of the dtype and shape of ``x``
        ``out`` if given, else a new array.

    Raises
    ------
    TypeError
        If ``x`` is not an ndarray of float32 or float64, or ``out`` has another dtype.
    ValueError
        If an array is not C-contiguous, or ``out`` has another shape or overlaps ``x`` in part.

    Notes
    -----
    The absolute error is that of `softmax` relative, and ``eps / 2`` relative; no digits are lost where the softmax underflows.

    References
    ----------
    Blanchard, Higham and Higham, "Accurately computing the log-sum-exp and softmax functions" (2021).

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.log_softmax(np.array([0.0, 1000.0]))
    array([-1000.,     0.])
    """
    return _call("log_softmax_forward", (x,), None if out is None else (out,))[0]


def log_softmax_backward(dy: NDArray[Any], y: NDArray[Any], *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return the gradient of the input of `log_softmax`.

    ``dx = dy - exp(y) * sum(dy)``, the sum over the last dimension.

    Parameters
    ----------
    dy : ndarray of float32 or float64
        Gradient of the loss with respect to the output; one to four dimensions,
        C-contiguous.
    y : ndarray of the dtype and shape of ``dy``
        Output of the forward pass.
    out : ndarray of the dtype and shape of ``dy``, optional
        Overwritten; may be ``dy`` itself, must not overlap the inputs otherwise.

    Returns
    -------
    ndarray of the dtype and shape of ``dy``
        The gradient of the input: ``out`` if given, else a new array.

    Raises
    ------
    TypeError
        If an argument is not an ndarray of the dtype of ``dy``.
    ValueError
        If shapes differ, an array is not C-contiguous, or ``out`` overlaps an input in part.

    Notes
    -----
    The sum is made in an order that the width of a row decides.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.log_softmax_backward(np.array([1.0, 0.0]), np.log(np.array([0.5, 0.5])))
    array([ 0.5, -0.5])
    """
    return _call("log_softmax_backward", (dy, y), None if out is None else (out,))[0]
