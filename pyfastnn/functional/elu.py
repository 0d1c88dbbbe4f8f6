"""Exponential linear units on plain arrays, forward and backward; NaN propagates."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from pyfastnn._core import call as _call


def elu(x: NDArray[Any], *, alpha: float = 1.0, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return the exponential linear unit of the input.

    ``y = x if x > 0 else alpha * (exp(x) - 1)``; NaN stays NaN.

    Parameters
    ----------
    x : ndarray of float32 or float64
        Of any shape up to four dimensions, C-contiguous.
    alpha : float, default 1.0
        The limit for large negative inputs is ``-alpha``.
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
    Within 2 ULP for float32 and 4 ULP for float64 at ``alpha`` 1, near 0 too.

    References
    ----------
    Clevert, Unterthiner and Hochreiter, "Fast and accurate deep network learning by exponential
    linear units" (2016).

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.elu(np.array([-np.inf, 0.0, 2.0]))
    array([-1.,  0.,  2.])
    """
    return _call("elu_forward", (x,), None if out is None else (out,), (alpha,))[0]


def elu_backward(
    dy: NDArray[Any], y: NDArray[Any], *, alpha: float = 1.0, out: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Return the gradient of the input of `elu`.

    ``dx = dy if y > 0 else dy * (y + alpha)``; NaN in ``y`` gives NaN.

    Parameters
    ----------
    dy : ndarray of float32 or float64
        Gradient of the loss with respect to the output; any shape up to four dimensions,
        C-contiguous.
    y : ndarray of the dtype and shape of ``dy``
        Output of the forward pass.
    alpha : float, default 1.0
        The limit for large negative inputs is ``-alpha``.
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
    Three roundings where ``y`` is not positive, exact elsewhere.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.elu_backward(np.array([4.0, 4.0]), np.array([-0.5, 2.0]))
    array([2., 4.])
    """
    return _call("elu_backward", (dy, y), None if out is None else (out,), (alpha,))[0]


def selu(x: NDArray[Any], *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return the scaled exponential linear unit of the input.

    ``y = scale * x if x > 0 else scale * alpha * (exp(x) - 1)`` with ``scale = 1.0507`` and ``alpha = 1.6733``, which keep mean 0 and
    variance 1 from layer to layer; NaN stays NaN.

    Parameters
    ----------
    x : ndarray of float32 or float64
        Of any shape up to four dimensions, C-contiguous.
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
    Within 3 ULP for float32 and 5 ULP for float64.

    References
    ----------
    Klambauer, Unterthiner, Mayr and Hochreiter, "Self-normalizing neural networks" (2017).

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.selu(np.array([-np.inf, 0.0, 1.0]))
    array([-1.75809934,  0.        ,  1.05070099])
    """
    return _call("selu_forward", (x,), None if out is None else (out,))[0]


def selu_backward(dy: NDArray[Any], y: NDArray[Any], *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return the gradient of the input of `selu`.

    ``dx = scale * dy if y > 0 else dy * (y + scale * alpha)``.

    Parameters
    ----------
    dy : ndarray of float32 or float64
        Gradient of the loss with respect to the output; any shape up to four dimensions,
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
    Three roundings.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.selu_backward(np.array([1.0, 1.0]), np.array([0.0, 2.0]))
    array([1.75809934, 1.05070099])
    """
    return _call("selu_backward", (dy, y), None if out is None else (out,))[0]
