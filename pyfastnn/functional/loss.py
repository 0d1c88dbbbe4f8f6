"""Losses with their gradients, and the L2 penalty, on plain arrays."""

from __future__ import annotations

from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from pyfastnn._core import call as _call
from pyfastnn.functional._hyper import row_maker

_decay_row = row_maker("weight_decay")


@overload
def softmax_cross_entropy(
    scores: NDArray[Any],
    labels: NDArray[np.int64],
    *,
    with_correct: Literal[False] = False,
    out: NDArray[Any] | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def softmax_cross_entropy(
    scores: NDArray[Any],
    labels: NDArray[np.int64],
    *,
    with_correct: Literal[True],
    out: NDArray[Any] | None = None,
) -> tuple[float, NDArray[Any], int]: ...
def softmax_cross_entropy(
    scores: NDArray[Any],
    labels: NDArray[np.int64],
    *,
    with_correct: bool = False,
    out: NDArray[Any] | None = None,
) -> tuple[float, NDArray[Any]] | tuple[float, NDArray[Any], int]:
    """Return the mean cross-entropy of the softmax of scores, and its gradient.

    ``loss = mean over rows of (log(sum(exp(scores))) - scores[label])`` and ``dscores =
    (softmax(scores) - onehot) / n``.

    Parameters
    ----------
    scores : ndarray of float32 or float64, shape (n, c)
        One row of unnormalized log-probabilities per sample, C-contiguous. ``n`` may be 0; the loss
        is then 0.
    labels : ndarray of int64, shape (n,)
        Right class of each row, from 0 to ``c - 1``.
    with_correct : bool, default False
        Whether to count the rows whose first maximum is the label.
    out : ndarray of the dtype and shape of ``scores``, optional
        Overwritten with dscores; must not overlap the inputs.

    Returns
    -------
    loss : float
        Mean over the rows.
    dscores : ndarray of the dtype and shape of ``scores``
        Gradient of the loss: ``out`` if given, else a new array.
    correct : int
        Rows classified right; only with ``with_correct``.

    Raises
    ------
    TypeError
        If ``scores`` is not an ndarray of float32 or float64, or ``labels`` not one of int64.
    ValueError
        If shapes disagree, an array is not C-contiguous, a label is outside ``[0, c)``, or ``out``
        overlaps an input.

    Notes
    -----
    The largest score of a row is subtracted first, so nothing overflows. A row whose largest score
    is not finite has loss and gradient NaN. Row losses are added in float64 in a fixed order.

    References
    ----------
    Bridle, "Probabilistic interpretation of feedforward classification network outputs" (1990).

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> loss, dscores = F.softmax_cross_entropy(np.zeros((1, 4)), np.array([2]))
    >>> round(loss, 4)
    1.3863
    >>> dscores
    array([[ 0.25,  0.25, -0.75,  0.25]])
    """
    outputs = None if out is None else (None, None, out)
    loss, correct, dscores = _call("softmax_cross_entropy", (scores, labels), outputs)
    if with_correct:
        return loss.item(), dscores, int(correct.item())
    return loss.item(), dscores


def mean_squared_error(
    y_pred: NDArray[Any], y_true: NDArray[Any], *, out: NDArray[Any] | None = None
) -> tuple[float, NDArray[Any]]:
    """Return the mean over all elements of ``(y_pred - y_true)**2``, and its gradient.

    Parameters
    ----------
    y_pred : ndarray of float32 or float64
        Predictions, any shape up to four dimensions, C-contiguous. Of no element the loss is 0.
    y_true : ndarray of the dtype and shape of ``y_pred``
        Targets; nothing is broadcast.
    out : ndarray of the dtype and shape of ``y_pred``, optional
        Overwritten with dy_pred; must not overlap the inputs.

    Returns
    -------
    loss : float
        Mean over the elements.
    dy_pred : ndarray of the dtype and shape of ``y_pred``
        ``2 * (y_pred - y_true) / y_pred.size``: ``out`` if given, else a new array.

    Raises
    ------
    TypeError
        If an argument is not an ndarray of the dtype of ``y_pred``.
    ValueError
        If shapes differ, an array is not C-contiguous, or ``out`` overlaps an input.

    Notes
    -----
    Squares are added in float64 in a fixed order.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.mean_squared_error(np.array([1.0, 4.0]), np.array([1.0, 2.0]))
    (2.0, array([0., 2.]))
    """
    loss, dy_pred = _call("mean_squared_error", (y_pred, y_true), None if out is None else (None, out))
    return loss.item(), dy_pred


def l2_penalty(w: NDArray[Any], *, weight_decay: float) -> float:
    """Return ``0.5 * weight_decay * sum(w * w)``, the L2 penalty of the lectures.

    Parameters
    ----------
    w : ndarray of float32 or float64
        Of any shape up to four dimensions, C-contiguous.
    weight_decay : float
        Strength; the gradient of the penalty is ``weight_decay * w``.

    Returns
    -------
    float
        The penalty.

    Raises
    ------
    TypeError
        If ``w`` is not an ndarray of float32 or float64.
    ValueError
        If ``w`` is not C-contiguous.

    Notes
    -----
    Squares are added in float64 in a fixed order.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.l2_penalty(np.array([3.0, 4.0]), weight_decay=0.5)
    6.25
    """
    penalty: float = _call("l2_penalty", (w,), None, (), _decay_row((0.0, weight_decay)))[0].item()
    return penalty
