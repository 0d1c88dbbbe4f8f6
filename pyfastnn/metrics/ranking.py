"""Metrics of scores and probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyfastnn._names import unknown
from pyfastnn.metrics._checks import Floats, scored, weights_of


def roc_auc(
    y_true: ArrayLike,
    y_score: ArrayLike,
    *,
    average: str = "macro",
    sample_weight: ArrayLike | None = None,
    multi_class: str = "ovr",
    labels: ArrayLike | None = None,
) -> float:
    """Return the area under the ROC curve: the chance that a positive row scores above a negative one, ties counting half.

    Parameters
    ----------
    y_true : array_like, shape (n,)
        Labels; of two classes the second one (the greater, unless ``labels`` says otherwise) is positive.
    y_score : array_like, shape (n,) or (n, classes)
        Higher means more likely positive; for more than two classes a column for each. Of two columns the second one is read.
    average : {"macro", "weighted"}, default "macro"
        For more than two classes the mean over them, each against the rest, or their mean by the weight of their rows.
    sample_weight : array_like, shape (n,), optional
        Weights of the rows, 0 or more.
    multi_class : {"ovr"}, default "ovr"
        Each class against the rest.
    labels : array_like, shape (classes,), optional
        The classes in the order of the columns; by default those of ``y_true``, sorted.

    Returns
    -------
    float
        From 0 to 1; 0.5 is chance, NaN if a score is.

    Raises
    ------
    TypeError
        If these are no labels or no numbers.
    ValueError
        If shapes or weights do not fit, or a class has no rows, or all of them.

    Notes
    -----
    The Mann-Whitney statistic: ``sum over pairs (w_p w_n ([s_p > s_n] + [s_p = s_n] / 2)) / (sum w_p sum w_n)``.
    """
    owner = "roc_auc"
    if multi_class != "ovr":
        raise ValueError(f"{owner}: {unknown('multi_class', multi_class, ('ovr',))}")
    return _by_class(owner, _area, y_true, y_score, average, sample_weight, labels)


def average_precision(
    y_true: ArrayLike,
    y_score: ArrayLike,
    *,
    average: str = "macro",
    sample_weight: ArrayLike | None = None,
    labels: ArrayLike | None = None,
) -> float:
    """Return the area under the curve of precision over recall, in steps: ``sum (R_t - R_{t-1}) P_t`` over falling thresholds t.

    Parameters
    ----------
    y_true, y_score, average, sample_weight, labels
        As for `roc_auc`.

    Returns
    -------
    float
        From 0 to 1; NaN if a score is. Chance is the share of positive rows.

    Raises
    ------
    TypeError, ValueError
        As for `roc_auc`.
    """
    return _by_class("average_precision", _steps, y_true, y_score, average, sample_weight, labels)


def log_loss(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    labels: ArrayLike | None = None,
) -> float:
    """Return the mean of ``-log(probability of the true class)``.

    Parameters
    ----------
    y_true : array_like, shape (n,)
        Labels.
    y_proba : array_like, shape (n,) or (n, classes)
        Probabilities; one number a row is that of the second of two classes. Clipped to ``[eps, 1 - eps]`` of their dtype.
    sample_weight : array_like, shape (n,), optional
        Weights of the rows, 0 or more.
    labels : array_like, shape (classes,), optional
        The classes in the order of the columns; by default those of ``y_true``, sorted.

    Returns
    -------
    float
        0 or more, in nats; NaN if a probability is.

    Raises
    ------
    TypeError
        If these are no labels or no numbers.
    ValueError
        If shapes or weights do not fit, a probability is not from 0 to 1, or those of a row do not sum to 1.
    """
    owner = "log_loss"
    _, codes, given = scored(owner, "y_proba", y_true, y_proba, labels)
    weights = weights_of(owner, sample_weight, len(codes))
    if np.isnan(given).any():
        return float("nan")
    outside = (given < 0) | (given > 1)
    if outside.any():
        raise ValueError(f"{owner}: 'y_proba' holds {given[outside][0]}, expected probabilities from 0 to 1")
    eps = float(np.finfo(given.dtype).eps)
    found: Floats = given.astype(np.float64)
    if found.ndim == 1:
        found = np.stack([1 - found, found], axis=1)
    sums = found.sum(axis=1)
    off = np.abs(sums - 1) > eps**0.5
    if off.any():
        raise ValueError(f"{owner}: 'y_proba' has a row that sums to {sums[off][0]:.6g}, expected 1")
    true = np.clip(found[np.arange(len(codes)), codes], eps, 1 - eps)
    return float(np.average(-np.log(true), weights=weights))


def top_k_accuracy(
    y_true: ArrayLike,
    y_score: ArrayLike,
    *,
    k: int = 2,
    sample_weight: ArrayLike | None = None,
    labels: ArrayLike | None = None,
) -> float:
    """Return the share of rows whose class is among the ``k`` of the highest scores.

    Parameters
    ----------
    y_true : array_like, shape (n,)
        Labels.
    y_score : array_like, shape (n, classes)
        Scores or probabilities. Of equal scores that of the later column counts as higher, as in scikit-learn.
    k : int, default 2
        How many, up to the number of classes, where every row counts.
    sample_weight : array_like, shape (n,), optional
        Weights of the rows, 0 or more.
    labels : array_like, shape (classes,), optional
        The classes in the order of the columns; by default those of ``y_true``, sorted.

    Returns
    -------
    float
        From 0 to 1; NaN if a score is.

    Raises
    ------
    TypeError
        If these are no labels or no numbers, or ``k`` is no whole number.
    ValueError
        If shapes or weights do not fit, or ``k`` is not from 1 to the number of classes.
    """
    owner = "top_k_accuracy"
    classes, codes, scores = scored(owner, "y_score", y_true, y_score, labels)
    weights = weights_of(owner, sample_weight, len(codes))
    if scores.ndim == 1:
        raise ValueError(f"{owner}: 'y_score' has shape {scores.shape}, expected (n, 2): a column for each class")
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)):
        raise TypeError(f"{owner}: 'k' is {k!r}, expected a whole number")
    if not 1 <= k <= len(classes):
        raise ValueError(f"{owner}: 'k' is {k}, expected 1 to {len(classes)}, the number of classes")
    if np.isnan(scores).any():
        return float("nan")
    own = scores[np.arange(len(codes)), codes][:, None]
    later = np.arange(len(classes)) > codes[:, None]
    before = np.count_nonzero((scores > own) | ((scores == own) & later), axis=1)
    return float(np.average(before < k, weights=weights))


def _by_class(
    owner: str,
    measure: Any,
    y_true: ArrayLike,
    y_score: ArrayLike,
    average: str,
    sample_weight: ArrayLike | None,
    labels: ArrayLike | None,
) -> float:
    """Return a measure of two classes, or the average over more of them, each against the rest."""
    if average not in ("macro", "weighted"):
        raise ValueError(f"{owner}: {unknown('average', average, ('macro', 'weighted'))}")
    classes, codes, scores = scored(owner, "y_score", y_true, y_score, labels)
    weights = weights_of(owner, sample_weight, len(codes))
    rows: Floats = np.ones(len(codes)) if weights is None else weights
    of = np.bincount(codes, rows, len(classes))
    for c in range(len(classes)):
        if not of[c]:
            which = "" if weights is None else " of a weight above 0"
            raise ValueError(f"{owner}: 'y_true' has no rows of class {classes.tolist()[c]!r}{which}")
    if np.isnan(scores).any():
        return float("nan")
    if len(classes) == 2:
        return float(measure(codes == 1, scores if scores.ndim == 1 else scores[:, 1], rows))
    found = [measure(codes == c, scores[:, c], rows) for c in range(len(classes))]
    return float(np.average(found, weights=of if average == "weighted" else None))


def _tied(positive: NDArray[np.bool_], scores: NDArray[Any], rows: Floats) -> tuple[Floats, Floats]:
    """Return the weights of positive and of negative rows at each different score, rising."""
    values, place = np.unique(scores, return_inverse=True)
    place = place.reshape(-1)
    p: Floats = np.bincount(place, rows * positive, len(values)).astype(np.float64)
    n: Floats = np.bincount(place, rows * ~positive, len(values)).astype(np.float64)
    return p, n


def _area(positive: NDArray[np.bool_], scores: NDArray[Any], rows: Floats) -> float:
    p, n = _tied(positive, scores, rows)
    below = np.cumsum(n) - n
    return float((p * (below + n / 2)).sum() / (p.sum() * n.sum()))


def _steps(positive: NDArray[np.bool_], scores: NDArray[Any], rows: Floats) -> float:
    p, n = (each[::-1] for each in _tied(positive, scores, rows))
    tp, all_ = np.cumsum(p), np.cumsum(p + n)
    precisions = np.divide(tp, all_, out=np.zeros(len(tp)), where=all_ > 0)
    return float((p * precisions).sum() / tp[-1])
