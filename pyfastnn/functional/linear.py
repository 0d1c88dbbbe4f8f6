"""The linear layer on plain arrays, forward and backward."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from pyfastnn._core import call as _call


def linear(
    x: NDArray[Any],
    w: NDArray[Any],
    b: NDArray[Any] | None = None,
    *,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Apply ``y = x @ w + b`` to every row of a batch.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (n, in_features)
        C-contiguous, as all arrays here. ``n`` may be 0.
    w : ndarray of the same dtype, shape (in_features, out_features)
        Weights, one column per output feature.
    b : ndarray of the same dtype, shape (out_features,), optional
        Bias, added to every row; none by default.
    out : ndarray of the same dtype, shape (n, out_features), optional
        Overwritten; must not overlap the inputs.

    Returns
    -------
    ndarray of the same dtype, shape (n, out_features)
        ``out`` if given, else a new array.

    Raises
    ------
    TypeError
        If an argument is not an ndarray of the dtype of ``x``. Nothing is converted.
    ValueError
        If shapes disagree, an array is not C-contiguous, or ``out`` overlaps an input.

    Notes
    -----
    Cost is ``2 * n * in_features * out_features`` FLOP. Each element is within ``2 * (in_features +
    1) * u * (abs(x) @ abs(w) + abs(b))`` of the exact result, where ``u`` is ``2**-24`` for float32
    and ``2**-53`` for float64. The result is the same for every thread count, and a row has the
    same bits in every batch; it may differ between CPU types in the last bits.

    References
    ----------
    Rumelhart, Hinton and Williams, "Learning representations by back-propagating errors" (1986).

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> x = np.array([[1, 2]], dtype=np.float32)
    >>> w = np.eye(2, dtype=np.float32)
    >>> F.linear(x, w, np.ones(2, dtype=np.float32))
    array([[2., 3.]], dtype=float32)
    """
    return _call("linear_forward", (x, w, b), None if out is None else (out,))[0]


def linear_backward(
    dy: NDArray[Any], x: NDArray[Any], w: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return the gradients of a linear layer: of its input, its weights and its bias.

    ``dx = dy @ w.T``, ``dw = x.T @ dy``, ``db = dy.sum(axis=0)``.

    Parameters
    ----------
    dy : ndarray of float32 or float64, shape (n, out_features)
        Gradient of the loss with respect to the output.
    x : ndarray of the same dtype, shape (n, in_features)
        Input of the forward pass.
    w : ndarray of the same dtype, shape (in_features, out_features)
        Weights of the forward pass.

    Returns
    -------
    dx : ndarray of the same dtype, shape (n, in_features)
        Gradient of the input. Call `linear_dx` alone if only this is wanted.
    dw : ndarray of the same dtype, shape (in_features, out_features)
        Gradient of the weights, summed over the batch.
    db : ndarray of the same dtype, shape (out_features,)
        Gradient of the bias, summed over the batch.

    Raises
    ------
    TypeError
        If an argument is not an ndarray of the dtype of ``dy``.
    ValueError
        If shapes disagree or an array is not C-contiguous.

    Notes
    -----
    Cost is ``4 * n * in_features * out_features`` FLOP. Each element is within ``2 * (terms + 1) *
    u`` times the sum of the absolute values of its terms, as in `linear`.

    References
    ----------
    Rumelhart, Hinton and Williams, "Learning representations by back-propagating errors" (1986).

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> dy, x, w = np.array([[1.0]]), np.array([[2.0, 3.0]]), np.array([[4.0], [5.0]])
    >>> F.linear_backward(dy, x, w)
    (array([[4., 5.]]), array([[2.],
           [3.]]), array([1.]))
    """
    return linear_dx(dy, w), _call("linear_dw", (x, dy))[0], _call("linear_db", (dy,))[0]


def linear_dx(dy: NDArray[Any], w: NDArray[Any], *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return the gradient of the input of a linear layer, ``dy @ w.T``.

    Parameters
    ----------
    dy : ndarray of float32 or float64, shape (n, out_features)
        Gradient of the loss with respect to the output.
    w : ndarray of the same dtype, shape (in_features, out_features)
        Weights of the forward pass.
    out : ndarray of the same dtype, shape (n, in_features), optional
        Overwritten; must not overlap the inputs.

    Returns
    -------
    ndarray of the same dtype, shape (n, in_features)
        ``out`` if given, else a new array.

    Raises
    ------
    TypeError
        If an argument is not an ndarray of the dtype of ``dy``.
    ValueError
        If shapes disagree, an array is not C-contiguous, or ``out`` overlaps an input.

    Notes
    -----
    Each element is within ``2 * (out_features + 1) * u * (abs(dy) @ abs(w.T))`` of the exact
    result, as in `linear`.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.linear_dx(np.array([[1.0]]), np.array([[4.0], [5.0]]))
    array([[4., 5.]])
    """
    return _call("linear_dx", (dy, w), None if out is None else (out,))[0]


def linear_dw(x: NDArray[Any], dy: NDArray[Any], *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return the gradient of the weights of a linear layer, ``x.T @ dy``.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (n, in_features)
        Input of the forward pass.
    dy : ndarray of the same dtype, shape (n, out_features)
        Gradient of the loss with respect to the output.
    out : ndarray of the same dtype, shape (in_features, out_features), optional
        Overwritten; must not overlap the inputs.

    Returns
    -------
    ndarray of the same dtype, shape (in_features, out_features)
        ``out`` if given, else a new array. Zeros if ``n`` is 0.

    Raises
    ------
    TypeError
        If an argument is not an ndarray of the dtype of ``x``.
    ValueError
        If shapes disagree, an array is not C-contiguous, or ``out`` overlaps an input.

    Notes
    -----
    Each element is within ``2 * (n + 1) * u * (abs(x.T) @ abs(dy))`` of the exact result, as in
    `linear`.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.linear_dw(np.array([[2.0, 3.0]]), np.array([[10.0]]))
    array([[20.],
           [30.]])
    """
    return _call("linear_dw", (x, dy), None if out is None else (out,))[0]


def linear_db(dy: NDArray[Any], *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return the gradient of the bias of a linear layer, the column sums of ``dy``.

    Parameters
    ----------
    dy : ndarray of float32 or float64, shape (..., out_features)
        Gradient of the loss with respect to the output; all dimensions but the last count as rows, the pixels of images too.
    out : ndarray of the same dtype, shape (out_features,), optional
        Overwritten; must not overlap ``dy``.

    Returns
    -------
    ndarray of the same dtype, shape (out_features,)
        ``out`` if given, else a new array. Zeros if there are no rows.

    Raises
    ------
    TypeError
        If ``dy`` is not an ndarray of float32 or float64.
    ValueError
        If ``dy`` is not C-contiguous or has no dimension, or ``out`` has another shape or overlaps it.

    Notes
    -----
    Each element is within ``2 * (rows + 1) * u`` times the sum of the absolute values of its column, as in `linear`; the
    error does not grow with the rows beyond 66 of them.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.linear_db(np.array([[1.0, 2.0], [3.0, 4.0]]))
    array([4., 6.])
    """
    return _call("linear_db", (dy,), None if out is None else (out,))[0]
