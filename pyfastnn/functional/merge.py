"""Arrays joined and taken apart along the last dimension, and their product, on plain arrays."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from pyfastnn._core import call as _call


def multiply(a: NDArray[Any], b: NDArray[Any], *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return ``a * b``.

    Its gradients are ``da = dy * b`` and ``db = dy * a``.

    Parameters
    ----------
    a : ndarray of float32 or float64
        Of any shape up to four dimensions, C-contiguous.
    b : ndarray of the dtype and shape of ``a``
        The other factor; nothing is broadcast.
    out : ndarray of the dtype and shape of ``a``, optional
        Overwritten; may be ``a`` itself, must not overlap the inputs otherwise.

    Returns
    -------
    ndarray of the dtype and shape of ``a``
        ``out`` if given, else a new array.

    Raises
    ------
    TypeError
        If an argument is not an ndarray of the dtype of ``a``.
    ValueError
        If shapes differ, an array is not C-contiguous, or ``out`` overlaps an input in part.

    Notes
    -----
    One rounding. NaN in either factor gives NaN.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.multiply(np.array([1.0, 2.0]), np.array([3.0, -1.0]))
    array([ 3., -2.])
    """
    return _call("multiply", (a, b), None if out is None else (out,))[0]


def concat(a: NDArray[Any], b: NDArray[Any], *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return ``a`` and ``b`` side by side along the last dimension.

    Its gradients are ``da = slice(dy, after=q)`` and ``db = slice(dy, start=p)``.

    Parameters
    ----------
    a : ndarray of float32 or float64, shape (..., p)
        Features, or images with channels last; up to four dimensions, C-contiguous.
    b : ndarray of the same dtype, shape (..., q)
        The other dimensions are those of ``a``.
    out : ndarray of the same dtype, shape (..., p + q), optional
        Overwritten; must not overlap the inputs.

    Returns
    -------
    ndarray, shape (..., p + q)
        ``out`` if given, else a new array.

    Raises
    ------
    TypeError
        If an argument is not an ndarray of the dtype of ``a``.
    ValueError
        If shapes disagree, an array is not C-contiguous, or ``out`` overlaps an input.

    Notes
    -----
    Copies bits.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.concat(np.array([[1.0], [2.0]]), np.array([[3.0, 4.0], [5.0, 6.0]]))
    array([[1., 3., 4.],
           [2., 5., 6.]])
    """
    return _call("concat", (a, b), None if out is None else (out,))[0]


def slice(x: NDArray[Any], *, start: int = 0, after: int = 0, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return ``x`` without its first ``start`` and its last ``after`` columns.

    ``y = x[..., start : c - after]``, as an array of its own.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (..., c)
        Features, or images with channels last; up to four dimensions, C-contiguous.
    start, after : int, 0 or more, default 0
        Columns left out at the front and at the end, together c at most.
    out : ndarray of the dtype of ``x``, shape (..., c - start - after), optional
        Overwritten; must not overlap ``x``.

    Returns
    -------
    ndarray, shape (..., c - start - after)
        ``out`` if given, else a new array.

    Raises
    ------
    TypeError
        If ``x`` is not an ndarray of float32 or float64.
    ValueError
        If ``start`` or ``after`` is under 0, no whole number or too large, an array is not C-contiguous, or ``out`` overlaps
        ``x``.

    Notes
    -----
    Copies bits.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.slice(np.array([[1.0, 2.0, 3.0, 4.0]]), start=1, after=1)
    array([[2., 3.]])
    """
    return _call("slice", (x,), None if out is None else (out,), (start, after))[0]


def slice_backward(
    dy: NDArray[Any], *, start: int = 0, after: int = 0, out: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Return the gradient of the input of `slice`: ``dy`` between ``start`` and ``after`` columns of zeros.

    Parameters
    ----------
    dy : ndarray of float32 or float64, shape (..., c)
        Gradient of the loss with respect to the output; up to four dimensions, C-contiguous.
    start, after : int, 0 or more, default 0
        Columns that the forward pass left out.
    out : ndarray of the dtype of ``dy``, shape (..., start + c + after), optional
        Overwritten; must not overlap ``dy``.

    Returns
    -------
    ndarray, shape (..., start + c + after)
        ``out`` if given, else a new array.

    Raises
    ------
    TypeError
        If ``dy`` is not an ndarray of float32 or float64.
    ValueError
        If ``start`` or ``after`` is under 0 or no whole number, an array is not C-contiguous, or ``out`` overlaps ``dy``.

    Notes
    -----
    Copies bits.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.slice_backward(np.array([[2.0, 3.0]]), start=1, after=2)
    array([[0., 2., 3., 0., 0.]])
    """
    return _call("slice_backward", (dy,), None if out is None else (out,), (start, after))[0]
