"""Losses over classes with their gradients, on plain arrays."""

from __future__ import annotations

from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from pyfastnn._core import call as _call
from pyfastnn.functional._hyper import out_of_range


@overload
def softmax_cross_entropy(
    scores: NDArray[Any],
    labels: NDArray[np.int64],
    class_weights: NDArray[Any] | None = None,
    weights: NDArray[Any] | None = None,
    *,
    label_smoothing: float = 0.0,
    with_correct: Literal[False] = False,
    out: NDArray[Any] | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def softmax_cross_entropy(
    scores: NDArray[Any],
    labels: NDArray[np.int64],
    class_weights: NDArray[Any] | None = None,
    weights: NDArray[Any] | None = None,
    *,
    label_smoothing: float = 0.0,
    with_correct: Literal[True],
    out: NDArray[Any] | None = None,
) -> tuple[float, NDArray[Any], int]: ...
def softmax_cross_entropy(
    scores: NDArray[Any],
    labels: NDArray[np.int64],
    class_weights: NDArray[Any] | None = None,
    weights: NDArray[Any] | None = None,
    *,
    label_smoothing: float = 0.0,
    with_correct: bool = False,
    out: NDArray[Any] | None = None,
) -> tuple[float, NDArray[Any]] | tuple[float, NDArray[Any], int]:
    """Return the mean cross-entropy of the softmax of scores, and its gradient.

    ``loss = mean over rows of (log(sum(exp(scores))) - scores[label])`` and ``dscores =
    (softmax(scores) - onehot) / n``. With weights and smoothing, for ``q = (1 - label_smoothing) * onehot + label_smoothing / c``:

    ``loss = sum over rows of weights * sum(q * class_weights * -log(softmax(scores))) / sum(weights * class_weights[label])``, as PyTorch
    combines class weights and label smoothing.

    Parameters
    ----------
    scores : ndarray of float32 or float64, shape (n, c)
        One row of unnormalized log-probabilities per sample, C-contiguous. ``n`` may be 0; the loss
        is then 0.
    labels : ndarray of int64, shape (n,)
        Right class of each row, from 0 to ``c - 1``.
    class_weights : ndarray of the dtype of ``scores``, shape (c,), optional
        What each class counts, 0 or more; 1 by default.
    weights : ndarray of the dtype of ``scores``, shape (n,), optional
        What each row counts, 0 or more; 1 by default. A row of weight 0 takes no part, whatever its scores are: its gradient is 0, and
        it is never counted as correct.
    label_smoothing : float, default 0
        From 0 to 1: the share of the target spread evenly over all classes.
    with_correct : bool, default False
        Whether to count the rows whose first maximum is the label.
    out : ndarray of the dtype and shape of ``scores``, optional
        Overwritten with dscores; must not overlap the inputs.

    Returns
    -------
    loss : float
        Mean over the rows; 0 if the weights sum to 0.
    dscores : ndarray of the dtype and shape of ``scores``
        Gradient of the loss: ``out`` if given, else a new array.
    correct : int
        Rows classified right; only with ``with_correct``.

    Raises
    ------
    TypeError
        If ``scores`` is not an ndarray of float32 or float64, ``labels`` not one of int64, or weights have another dtype than ``scores``.
    ValueError
        If shapes disagree, an array is not C-contiguous, a label is outside ``[0, c)``, ``label_smoothing`` is outside [0, 1], or
        ``out`` overlaps an input.

    Notes
    -----
    The largest score of a row is subtracted first, so nothing overflows. A row whose largest score
    is not finite has loss and gradient NaN. Row losses are added in float64 in a fixed order.

    References
    ----------
    Bridle, "Probabilistic interpretation of feedforward classification network outputs" (1990); Szegedy et al., "Rethinking the Inception
    architecture" (2016) for label smoothing.

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
    if not label_smoothing <= 1:
        raise out_of_range("softmax_cross_entropy", "label_smoothing", label_smoothing, "0 <= label_smoothing <= 1")
    outputs = None if out is None else (None, None, out)
    inputs = (scores, labels, class_weights, weights)
    loss, correct, dscores = _call("softmax_cross_entropy", inputs, outputs, (label_smoothing,))
    if with_correct:
        return loss.item(), dscores, int(correct.item())
    return loss.item(), dscores


@overload
def multiclass_hinge(
    scores: NDArray[Any],
    labels: NDArray[np.int64],
    weights: NDArray[Any] | None = None,
    *,
    margin: float = 1.0,
    with_correct: Literal[False] = False,
    out: NDArray[Any] | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def multiclass_hinge(
    scores: NDArray[Any],
    labels: NDArray[np.int64],
    weights: NDArray[Any] | None = None,
    *,
    margin: float = 1.0,
    with_correct: Literal[True],
    out: NDArray[Any] | None = None,
) -> tuple[float, NDArray[Any], int]: ...
def multiclass_hinge(
    scores: NDArray[Any],
    labels: NDArray[np.int64],
    weights: NDArray[Any] | None = None,
    *,
    margin: float = 1.0,
    with_correct: bool = False,
    out: NDArray[Any] | None = None,
) -> tuple[float, NDArray[Any]] | tuple[float, NDArray[Any], int]:
    """Return the multiclass hinge loss (the SVM loss of the lectures), and its gradient.

    ``loss = mean over rows of (sum over the other classes of max(0, scores - scores[label] + margin))``; PyTorch's MultiMarginLoss
    divides by the number of classes in addition.

    Parameters
    ----------
    scores : ndarray of float32 or float64, shape (n, c)
        One row of scores per sample, C-contiguous. ``n`` may be 0; the loss is then 0.
    labels : ndarray of int64, shape (n,)
        Right class of each row, from 0 to ``c - 1``.
    weights : ndarray of the dtype of ``scores``, shape (n,), optional
        What each row counts in the mean, 0 or more; 1 by default. A row of weight 0 takes no part, whatever its scores are.
    margin : float, default 1
        By how much the score of the label is to exceed the others.
    with_correct : bool, default False
        Whether to count the rows whose first maximum is the label.
    out : ndarray of the dtype and shape of ``scores``, optional
        Overwritten with dscores; must not overlap the inputs.

    Returns
    -------
    loss : float
        Mean over the rows; 0 if the weights sum to 0.
    dscores : ndarray of the dtype and shape of ``scores``
        Gradient of the loss, 0 where a margin is just kept: ``out`` if given, else a new array.
    correct : int
        Rows classified right; only with ``with_correct``.

    Raises
    ------
    TypeError
        If ``scores`` is not an ndarray of float32 or float64, ``labels`` not one of int64, or weights have another dtype than ``scores``.
    ValueError
        If shapes disagree, an array is not C-contiguous, a label is outside ``[0, c)``, or ``out`` overlaps an input.

    Notes
    -----
    A margin that is NaN makes the row's loss and the two gradients NaN. Row losses are added in float64 in a fixed order.

    References
    ----------
    Weston and Watkins, "Support vector machines for multi-class pattern recognition" (1999).

    Examples
    --------
    The numbers of the lecture notes:

    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> loss, dscores = F.multiclass_hinge(np.array([[13.0, -7.0, 11.0]]), np.array([0]), margin=10.0)
    >>> loss
    8.0
    >>> dscores
    array([[-1.,  0.,  1.]])
    """
    outputs = None if out is None else (None, None, out)
    loss, correct, dscores = _call("multiclass_hinge", (scores, labels, weights), outputs, (margin,))
    if with_correct:
        return loss.item(), dscores, int(correct.item())
    return loss.item(), dscores
