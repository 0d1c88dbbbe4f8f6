"""Losses that are means over rows and outputs, with their gradients, on plain arrays."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from pyfastnn._core import call as _call
from pyfastnn.functional._hyper import out_of_range


def binary_cross_entropy(
    scores: NDArray[Any],
    targets: NDArray[Any],
    pos_weight: NDArray[Any] | None = None,
    weights: NDArray[Any] | None = None,
    *,
    out: NDArray[Any] | None = None,
) -> tuple[float, NDArray[Any]]:
    """Return the mean binary cross-entropy of the sigmoid of scores, and its gradient.

    ``loss = mean of -(pos_weight * targets * log(p) + (1 - targets) * log(1 - p))`` with ``p = sigmoid(scores)``: each output is a
    yes-or-no question of its own, so a row may have several labels.

    Parameters
    ----------
    scores : ndarray of float32 or float64, shape (n, c) or with up to two dimensions between
        Unnormalized log-odds, C-contiguous.
    targets : ndarray of the dtype and shape of ``scores``
        0 or 1, or probabilities between.
    pos_weight : ndarray of the dtype of ``scores``, shape (c,), optional
        What a yes counts for each output, beside a no that counts 1.
    weights : ndarray of the dtype of ``scores``, shape (n,), optional
        What each row counts in the mean, 0 or more; 1 by default. A row of weight 0 takes no part, whatever it holds.
    out : ndarray of the dtype and shape of ``scores``, optional
        Overwritten with dscores; must not overlap the inputs.

    Returns
    -------
    loss : float
        Mean over rows and outputs; 0 of no element, and if the weights sum to 0.
    dscores : ndarray of the dtype and shape of ``scores``
        Gradient of the loss, ``(p - targets) / scores.size`` without weights: ``out`` if given, else a new array.

    Raises
    ------
    TypeError
        If an argument is not an ndarray of the dtype of ``scores``.
    ValueError
        If shapes disagree, an array is not C-contiguous, or ``out`` overlaps an input.

    Notes
    -----
    Made of ``log1p(exp(-abs(scores)))``, so nothing overflows and the tails keep their digits: each term is within 6 roundings of the
    float type. Terms are added in float64 in a fixed order. An infinite score has loss NaN where its target gives it no part.

    References
    ----------
    Cox, "The regression analysis of binary sequences" (1958).

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> loss, dscores = F.binary_cross_entropy(np.zeros((1, 2)), np.array([[0.0, 1.0]]))
    >>> round(loss, 4)
    0.6931
    >>> dscores
    array([[ 0.25, -0.25]])
    """
    outputs = None if out is None else (None, out)
    loss, dscores = _call("binary_cross_entropy", (scores, targets, pos_weight, weights), outputs)
    return loss.item(), dscores


def mean_squared_error(
    y_pred: NDArray[Any],
    y_true: NDArray[Any],
    weights: NDArray[Any] | None = None,
    *,
    out: NDArray[Any] | None = None,
) -> tuple[float, NDArray[Any]]:
    """Return the mean over rows and outputs of ``(y_pred - y_true)**2``, and its gradient.

    ``loss = sum(weights * (y_pred - y_true)**2) / (sum(weights) * outputs)``.

    Parameters
    ----------
    y_pred : ndarray of float32 or float64
        Predictions, one to four dimensions with rows first, C-contiguous.
    y_true : ndarray of the dtype and shape of ``y_pred``
        Targets; nothing is broadcast.
    weights : ndarray of the dtype of ``y_pred``, shape (n,), optional
        What each row counts in the mean, 0 or more; 1 by default. A row of weight 0 takes no part, whatever it holds.
    out : ndarray of the dtype and shape of ``y_pred``, optional
        Overwritten with dy_pred; must not overlap the inputs.

    Returns
    -------
    loss : float
        Mean over rows and outputs; 0 of no element, and if the weights sum to 0.
    dy_pred : ndarray of the dtype and shape of ``y_pred``
        ``2 * (y_pred - y_true) / y_pred.size`` without weights: ``out`` if given, else a new array.

    Raises
    ------
    TypeError
        If an argument is not an ndarray of the dtype of ``y_pred``.
    ValueError
        If shapes differ, an array is not C-contiguous, or ``out`` overlaps an input.

    Notes
    -----
    Squares are made and added in float64 in a fixed order.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.mean_squared_error(np.array([1.0, 4.0]), np.array([1.0, 2.0]))
    (2.0, array([0., 2.]))
    """
    loss, dy_pred = _call("mean_squared_error", (y_pred, y_true, weights), None if out is None else (None, out))
    return loss.item(), dy_pred


def mean_absolute_error(
    y_pred: NDArray[Any],
    y_true: NDArray[Any],
    weights: NDArray[Any] | None = None,
    *,
    out: NDArray[Any] | None = None,
) -> tuple[float, NDArray[Any]]:
    """Return the mean over rows and outputs of ``abs(y_pred - y_true)``, and its gradient.

    ``loss = sum(weights * abs(y_pred - y_true)) / (sum(weights) * outputs)``.

    Parameters
    ----------
    y_pred : ndarray of float32 or float64
        Predictions, one to four dimensions with rows first, C-contiguous.
    y_true : ndarray of the dtype and shape of ``y_pred``
        Targets; nothing is broadcast.
    weights : ndarray of the dtype of ``y_pred``, shape (n,), optional
        What each row counts in the mean, 0 or more; 1 by default. A row of weight 0 takes no part, whatever it holds.
    out : ndarray of the dtype and shape of ``y_pred``, optional
        Overwritten with dy_pred; must not overlap the inputs.

    Returns
    -------
    loss : float
        Mean over rows and outputs; 0 of no element, and if the weights sum to 0.
    dy_pred : ndarray of the dtype and shape of ``y_pred``
        ``sign(y_pred - y_true) / y_pred.size`` without weights, 0 where they are equal: ``out`` if given, else a new array.

    Raises
    ------
    TypeError
        If an argument is not an ndarray of the dtype of ``y_pred``.
    ValueError
        If shapes differ, an array is not C-contiguous, or ``out`` overlaps an input.

    Notes
    -----
    Terms are added in float64 in a fixed order.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.mean_absolute_error(np.array([1.0, 4.0]), np.array([1.0, 2.0]))
    (1.0, array([0. , 0.5]))
    """
    loss, dy_pred = _call("mean_absolute_error", (y_pred, y_true, weights), None if out is None else (None, out))
    return loss.item(), dy_pred


def huber(
    y_pred: NDArray[Any],
    y_true: NDArray[Any],
    weights: NDArray[Any] | None = None,
    *,
    delta: float = 1.0,
    out: NDArray[Any] | None = None,
) -> tuple[float, NDArray[Any]]:
    """Return the mean of Huber's loss, quadratic near the target and linear far away, and its gradient.

    With ``d = y_pred - y_true`` a term is ``d**2 / 2`` where ``abs(d) <= delta``, else ``delta * (abs(d) - delta / 2)``; the mean is over
    rows and outputs.

    Parameters
    ----------
    y_pred : ndarray of float32 or float64
        Predictions, one to four dimensions with rows first, C-contiguous.
    y_true : ndarray of the dtype and shape of ``y_pred``
        Targets; nothing is broadcast.
    weights : ndarray of the dtype of ``y_pred``, shape (n,), optional
        What each row counts in the mean, 0 or more; 1 by default. A row of weight 0 takes no part, whatever it holds.
    delta : float, default 1
        Where the two parts meet, above 0.
    out : ndarray of the dtype and shape of ``y_pred``, optional
        Overwritten with dy_pred; must not overlap the inputs.

    Returns
    -------
    loss : float
        Mean over rows and outputs; 0 of no element, and if the weights sum to 0.
    dy_pred : ndarray of the dtype and shape of ``y_pred``
        ``clip(d, -delta, delta) / y_pred.size`` without weights: ``out`` if given, else a new array.

    Raises
    ------
    TypeError
        If an argument is not an ndarray of the dtype of ``y_pred``.
    ValueError
        If shapes differ, an array is not C-contiguous, ``delta`` is not above 0, or ``out`` overlaps an input.

    Notes
    -----
    Terms are added in float64 in a fixed order. A term above the largest number of the float type is infinite.

    References
    ----------
    Huber, "Robust estimation of a location parameter" (1964).

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.huber(np.array([1.0, 5.0]), np.array([1.0, 2.0]))
    (1.25, array([0. , 0.5]))
    """
    if not delta > 0:
        raise out_of_range("huber", "delta", delta, "a number above 0")
    loss, dy_pred = _call("huber", (y_pred, y_true, weights), None if out is None else (None, out), (delta,))
    return loss.item(), dy_pred


def poisson(
    y_pred: NDArray[Any],
    y_true: NDArray[Any],
    weights: NDArray[Any] | None = None,
    *,
    out: NDArray[Any] | None = None,
) -> tuple[float, NDArray[Any]]:
    """Return the mean of ``exp(y_pred) - y_true * y_pred``, and its gradient: counts whose log-rate is predicted.

    The negative log-likelihood of Poisson counts but for ``log(y_true!)``, which no prediction changes.

    Parameters
    ----------
    y_pred : ndarray of float32 or float64
        Logarithms of rates, one to four dimensions with rows first, C-contiguous.
    y_true : ndarray of the dtype and shape of ``y_pred``
        Targets; nothing is broadcast.
    weights : ndarray of the dtype of ``y_pred``, shape (n,), optional
        What each row counts in the mean, 0 or more; 1 by default. A row of weight 0 takes no part, whatever it holds.
    out : ndarray of the dtype and shape of ``y_pred``, optional
        Overwritten with dy_pred; must not overlap the inputs.

    Returns
    -------
    loss : float
        Mean over rows and outputs; 0 of no element, and if the weights sum to 0.
    dy_pred : ndarray of the dtype and shape of ``y_pred``
        ``(exp(y_pred) - y_true) / y_pred.size`` without weights: ``out`` if given, else a new array.

    Raises
    ------
    TypeError
        If an argument is not an ndarray of the dtype of ``y_pred``.
    ValueError
        If shapes differ, an array is not C-contiguous, or ``out`` overlaps an input.

    Notes
    -----
    Terms are added in float64 in a fixed order. A log-rate above 88.7 (float64: 709.7) has infinite loss and gradient.

    References
    ----------
    McCullagh and Nelder, "Generalized Linear Models" (1989), chapter 6.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.poisson(np.zeros(2), np.array([1.0, 3.0]))
    (1.0, array([ 0., -1.]))
    """
    loss, dy_pred = _call("poisson", (y_pred, y_true, weights), None if out is None else (None, out))
    return loss.item(), dy_pred
