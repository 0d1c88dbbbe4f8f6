"""The maximum over the pieces of maxout units, on plain arrays, forward and backward."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from pyfastnn._core import call as _call


def maxout(x: NDArray[Any], *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return the maximum over the last dimension, the pieces of a unit.

    The first NaN of a unit counts as its maximum.

    Parameters
    ----------
    x : ndarray of float32 or float64
        Of shape (..., units, pieces), two to four dimensions, C-contiguous. Columns of which each ``pieces`` consecutive ones belong
        to a unit are read so by ``x.reshape(n, -1, pieces)``.
    out : ndarray of the dtype of ``x``, shape (..., units), optional
        Overwritten; must not overlap ``x``.

    Returns
    -------
    ndarray of the dtype of ``x``, shape (..., units)
        ``out`` if given, else a new array. Units of no pieces give minus infinity.

    Raises
    ------
    TypeError
        If ``x`` is not an ndarray of float32 or float64, or ``out`` has another dtype.
    ValueError
        If ``x`` has fewer than two dimensions, an array is not C-contiguous, or ``out`` has another shape or overlaps ``x``.

    Notes
    -----
    Exact.

    References
    ----------
    Goodfellow, Warde-Farley, Mirza, Courville and Bengio, "Maxout networks" (2013).

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.maxout(np.array([[1.0, 3.0], [-1.0, -2.0]]))
    array([ 3., -1.])
    """
    return _call("maxout_forward", (x,), None if out is None else (out,))[0]


def maxout_backward(dy: NDArray[Any], x: NDArray[Any], *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return the gradient of the input of `maxout`.

    ``dx`` is ``dy`` at the first maximum of each unit, else 0.

    Parameters
    ----------
    dy : ndarray of float32 or float64
        Gradient of the loss with respect to the output, of shape (..., units), C-contiguous.
    x : ndarray of the dtype of ``dy``, shape (..., units, pieces)
        Input of the forward pass.
    out : ndarray of the dtype and shape of ``x``, optional
        Overwritten; must not overlap the inputs.

    Returns
    -------
    ndarray of the dtype and shape of ``x``
        The gradient of the input: ``out`` if given, else a new array.

    Raises
    ------
    TypeError
        If an argument is not an ndarray of the dtype of ``dy``.
    ValueError
        If shapes do not fit, an array is not C-contiguous, or ``out`` overlaps an input.

    Notes
    -----
    Exact.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.maxout_backward(np.array([5.0, 7.0]), np.array([[1.0, 3.0], [-1.0, -2.0]]))
    array([[0., 5.],
           [7., 0.]])
    """
    return _call("maxout_backward", (dy, x), None if out is None else (out,))[0]
