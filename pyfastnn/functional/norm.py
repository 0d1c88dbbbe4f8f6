"""Batch normalization on plain arrays: training, prediction and backward."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from pyfastnn._core import call as _call


def batch_norm(
    x: NDArray[Any],
    gamma: NDArray[Any],
    beta: NDArray[Any],
    running_mean: NDArray[Any],
    running_var: NDArray[Any],
    *,
    momentum: float = 0.1,
    eps: float = 1e-5,
    out: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Normalize a batch by its own statistics and move the running statistics towards them.

    ``y = (x - mean) * rstd * gamma + beta`` with ``rstd = 1 / sqrt(var + eps)``, where ``mean`` and
    ``var`` (divided by the number of rows) are taken over all axes but the last; ``running_mean =
    (1 - momentum) * running_mean + momentum * mean`` and ``running_var = (1 - momentum) *
    running_var + momentum * var * rows / (rows - 1)``.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (..., c)
        Features, or images with channels last; up to four dimensions, C-contiguous.
    gamma, beta : ndarray of the same dtype, shape (c,)
        Scale and offset of the normalized values.
    running_mean, running_var : ndarray of the same dtype, shape (c,)
        Updated in place. Untouched if there are fewer than two rows.
    momentum : float, default 0.1
        Weight of this batch in the running statistics, as in PyTorch; Keras calls ``1 - momentum``
        by that name.
    eps : float, default 1e-5
        Added to the variance, inside the root.
    out : ndarray of the dtype and shape of ``x``, optional
        Overwritten with y; must not overlap the inputs.

    Returns
    -------
    y : ndarray of the dtype and shape of ``x``
        ``out`` if given, else a new array. Equals ``beta`` in a batch of one row.
    mean, rstd : ndarray of the same dtype, shape (c,)
        What `batch_norm_backward` needs. ``rstd`` is 0 in a batch of one row.

    Raises
    ------
    TypeError
        If an argument is not an ndarray of the dtype of ``x``.
    ValueError
        If shapes disagree, an array is not C-contiguous, a running statistic is read-only, or
        outputs overlap.

    Notes
    -----
    The variance is computed from differences to a shift, never as a difference of large sums: with
    mean 1e4 and standard deviation 1 its relative error in float32 is at most 1e-5. Sums run in a
    fixed order, so the result is the same for every thread count.

    References
    ----------
    Ioffe and Szegedy, "Batch normalization" (2015), Algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> x = np.array([[0.0], [4.0]])
    >>> running_mean, running_var = np.zeros(1), np.ones(1)
    >>> y, mean, rstd = F.batch_norm(x, np.ones(1), np.zeros(1), running_mean, running_var, eps=0.0)
    >>> y
    array([[-1.],
           [ 1.]])
    >>> mean, rstd, running_mean, running_var
    (array([2.]), array([0.5]), array([0.2]), array([1.7]))
    """
    outputs = None if out is None else (out, None, None, None, None)
    inputs = (x, gamma, beta, running_mean, running_var)
    y, mean, rstd, _, _ = _call("batch_norm_forward", inputs, outputs, (momentum, eps))
    return y, mean, rstd


def batch_norm_predict(
    x: NDArray[Any],
    gamma: NDArray[Any],
    beta: NDArray[Any],
    running_mean: NDArray[Any],
    running_var: NDArray[Any],
    *,
    eps: float = 1e-5,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Normalize a batch by the running statistics.

    ``y = (x - running_mean) / sqrt(running_var + eps) * gamma + beta``.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (..., c)
        Features, or images with channels last; up to four dimensions, C-contiguous.
    gamma, beta : ndarray of the same dtype, shape (c,)
        Scale and offset of the normalized values.
    running_mean, running_var : ndarray of the same dtype, shape (c,)
        Statistics gathered in training.
    eps : float, default 1e-5
        Added to the variance, inside the root.
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
        If shapes disagree, an array is not C-contiguous, or ``out`` overlaps an input in part.

    Notes
    -----
    Each element is within ``6 * u * ((abs(x) + abs(running_mean)) * abs(gamma) / sqrt(running_var +
    eps) + abs(beta))`` of the exact result.

    References
    ----------
    Ioffe and Szegedy, "Batch normalization" (2015), Algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> one = np.ones(1)
    >>> F.batch_norm_predict(np.array([[5.0]]), one, one, one, 4 * one, eps=0.0)
    array([[3.]])
    """
    outputs = None if out is None else (out,)
    return _call("batch_norm_predict", (x, gamma, beta, running_mean, running_var), outputs, (eps,))[0]


def batch_norm_backward(
    dy: NDArray[Any],
    x: NDArray[Any],
    gamma: NDArray[Any],
    mean: NDArray[Any],
    rstd: NDArray[Any],
    *,
    out: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return the gradients of `batch_norm`: of its input, its scale and its offset.

    With ``xhat = (x - mean) * rstd`` and sums over all axes but the last: ``dgamma = sum(dy *
    xhat)``, ``dbeta = sum(dy)`` and ``dx = gamma * rstd * (dy - (dbeta + xhat * dgamma) / rows)``.

    Parameters
    ----------
    dy : ndarray of float32 or float64, shape (..., c)
        Gradient of the loss with respect to the output.
    x : ndarray of the dtype and shape of ``dy``
        Input of the forward pass.
    gamma : ndarray of the same dtype, shape (c,)
        Scale of the forward pass.
    mean, rstd : ndarray of the same dtype, shape (c,)
        As `batch_norm` returned them.
    out : ndarray of the dtype and shape of ``dy``, optional
        Overwritten with dx; must not overlap the inputs.

    Returns
    -------
    dx : ndarray of the dtype and shape of ``dy``
        ``out`` if given, else a new array. 0 in a batch of one row.
    dgamma, dbeta : ndarray of the same dtype, shape (c,)
        Gradients of scale and offset.

    Raises
    ------
    TypeError
        If an argument is not an ndarray of the dtype of ``dy``.
    ValueError
        If shapes disagree, an array is not C-contiguous, or ``out`` overlaps an input.

    Notes
    -----
    Sums run in a fixed order, so the result is the same for every thread count.

    References
    ----------
    Ioffe and Szegedy, "Batch normalization" (2015), section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> dy, x = np.array([[1.0], [3.0]]), np.array([[0.0], [4.0]])
    >>> F.batch_norm_backward(dy, x, np.ones(1), np.array([2.0]), np.array([0.5]))
    (array([[0.],
           [0.]]), array([2.]), array([4.]))
    """
    outputs = None if out is None else (out, None, None)
    dx, dgamma, dbeta = _call("batch_norm_backward", (dy, x, gamma, mean, rstd), outputs)
    return dx, dgamma, dbeta
