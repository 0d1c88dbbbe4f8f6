"""Metrics of predicted labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyfastnn._names import unknown
from pyfastnn.metrics._checks import Floats, classes_of, coded, places_in, weights_of

AVERAGES = ("binary", "macro", "weighted", "micro")


def accuracy(y_true: ArrayLike, y_pred: ArrayLike, *, sample_weight: ArrayLike | None = None) -> float:
    """Return the share of rows whose label is predicted.

    Parameters
    ----------
    y_true, y_pred : array_like, shape (n,)
        Labels: strings or whole numbers.
    sample_weight : array_like, shape (n,), optional
        Weights of the rows, 0 or more.

    Returns
    -------
    float
        ``sum(w * (y_true == y_pred)) / sum(w)``, from 0 to 1.

    Raises
    ------
    TypeError
        If these are no labels, or not of one kind.
    ValueError
        If there are none, or shapes or weights do not fit.
    """
    _, wanted, given = coded("accuracy", y_true, y_pred)
    weights = weights_of("accuracy", sample_weight, len(wanted))
    return float(np.average(wanted == given, weights=weights))


def balanced_accuracy(
    y_true: ArrayLike, y_pred: ArrayLike, *, sample_weight: ArrayLike | None = None, adjusted: bool = False
) -> float:
    """Return the mean over the classes of ``y_true`` of the share of their rows that is predicted.

    Parameters
    ----------
    y_true, y_pred : array_like, shape (n,)
        Labels: strings or whole numbers.
    sample_weight : array_like, shape (n,), optional
        Weights of the rows, 0 or more; a class whose weights are all 0 is left out.
    adjusted : bool, default False
        Whether chance is 0: ``(b - 1/k) / (1 - 1/k)`` for k classes, which must be two or more.

    Returns
    -------
    float
        From 0 to 1, unless adjusted.

    Raises
    ------
    TypeError
        If these are no labels, or not of one kind.
    ValueError
        If there are none, shapes or weights do not fit, or one class is to be adjusted.
    """
    owner = "balanced_accuracy"
    classes, wanted, given = coded(owner, y_true, y_pred)
    weights = weights_of(owner, sample_weight, len(wanted))
    of = np.bincount(wanted, weights, len(classes))
    hits = _hits(wanted, given, weights, len(classes))
    found = float(np.mean(hits[of > 0] / of[of > 0]))
    if not adjusted:
        return found
    k = int(np.count_nonzero(of))
    if k < 2:
        raise ValueError(f"{owner}: 'y_true' holds one class only, expected two or more with adjusted=True")
    return (found - 1 / k) / (1 - 1 / k)


def precision(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    labels: ArrayLike | None = None,
    pos_label: Any = 1,
    average: str = "binary",
    sample_weight: ArrayLike | None = None,
    zero_division: float = 0.0,
) -> float:
    """Return the share of the rows predicted to be of a class that are: ``tp / (tp + fp)``.

    Parameters
    ----------
    y_true, y_pred : array_like, shape (n,)
        Labels: strings or whole numbers.
    labels : array_like, optional
        The classes to average over; by default all that occur in either.
    pos_label : int or str, default 1
        The class that ``average="binary"`` is about.
    average : {"binary", "macro", "weighted", "micro"}, default "binary"
        One class of two; the mean over the classes; their mean by the weight of their rows, if there are any; or the ratio of the sums over
        the classes.
    sample_weight : array_like, shape (n,), optional
        Weights of the rows, 0 or more.
    zero_division : float, default 0
        What 0 / 0 is.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    TypeError
        If these are no labels, or not of one kind.
    ValueError
        If there are none, shapes or weights do not fit, or ``average="binary"`` meets more than two labels.
    """
    tp, given, wanted = _counts("precision", y_true, y_pred, labels, pos_label, average, sample_weight)
    return _averaged(tp, given, wanted, average, zero_division)


def recall(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    labels: ArrayLike | None = None,
    pos_label: Any = 1,
    average: str = "binary",
    sample_weight: ArrayLike | None = None,
    zero_division: float = 0.0,
) -> float:
    """Return the share of the rows of a class that are predicted to be: ``tp / (tp + fn)``.

    Parameters
    ----------
    y_true, y_pred, labels, pos_label, average, sample_weight, zero_division
        As for `precision`.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    TypeError, ValueError
        As for `precision`.
    """
    tp, _, wanted = _counts("recall", y_true, y_pred, labels, pos_label, average, sample_weight)
    return _averaged(tp, wanted, wanted, average, zero_division)


def f1(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    labels: ArrayLike | None = None,
    pos_label: Any = 1,
    average: str = "binary",
    sample_weight: ArrayLike | None = None,
    zero_division: float = 0.0,
) -> float:
    """Return the harmonic mean of precision and recall: ``2 tp / (2 tp + fp + fn)``.

    Parameters
    ----------
    y_true, y_pred, labels, pos_label, average, sample_weight, zero_division
        As for `precision`.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    TypeError, ValueError
        As for `precision`.
    """
    tp, given, wanted = _counts("f1", y_true, y_pred, labels, pos_label, average, sample_weight)
    return _averaged(2 * tp, given + wanted, wanted, average, zero_division)


def confusion_matrix(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    labels: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    normalize: str | None = None,
) -> NDArray[Any]:
    """Return how often rows of each class are predicted to be of each class.

    Parameters
    ----------
    y_true, y_pred : array_like, shape (n,)
        Labels: strings or whole numbers.
    labels : array_like, shape (k,), optional
        The classes, in the order of rows and columns; pairs with another label are left out. By default all that occur, sorted.
    sample_weight : array_like, shape (n,), optional
        Weights of the rows, 0 or more.
    normalize : {"true", "pred", "all"}, optional
        Divide by the sums over rows, over columns, or over all; 0 / 0 is 0.

    Returns
    -------
    ndarray, shape (k, k)
        Item ``[i, j]`` for rows of class i predicted to be of class j; int64, or float64 with weights or ``normalize``.

    Raises
    ------
    TypeError
        If these are no labels, or not of one kind.
    ValueError
        If there are none, shapes or weights do not fit, or ``normalize`` is unknown.
    """
    owner = "confusion_matrix"
    if normalize not in (None, "true", "pred", "all"):
        raise ValueError(f"{owner}: {unknown('normalize', normalize, ('true', 'pred', 'all'))}, or None")
    classes, wanted, given = coded(owner, y_true, y_pred)
    weights = weights_of(owner, sample_weight, len(wanted))
    shown = classes if labels is None else classes_of(owner, labels, classes.dtype.kind == "U")
    k = len(shown)
    places, there = places_in(shown, classes)
    to = np.full(len(classes), -1, np.int64)
    to[places[there]] = np.flatnonzero(there)
    rows, columns = to[wanted], to[given]
    kept = (rows >= 0) & (columns >= 0)
    cells = rows[kept] * k + columns[kept]
    table: NDArray[Any] = np.bincount(cells, None if weights is None else weights[kept], k * k).reshape(k, k)
    if normalize is None:
        return table if weights is not None else table.astype(np.int64)
    axis = {"true": 1, "pred": 0, "all": None}[normalize]
    sums = np.broadcast_to(table.sum(axis=axis, keepdims=True), table.shape)
    shares: NDArray[Any] = np.divide(table, sums, out=np.zeros((k, k)), where=sums > 0)
    return shares


def _hits(wanted: NDArray[Any], given: NDArray[Any], weights: Floats | None, k: int) -> Floats:
    same = wanted == given
    found: Floats = np.bincount(wanted[same], None if weights is None else weights[same], k).astype(np.float64)
    return found


def _counts(
    owner: str,
    y_true: ArrayLike,
    y_pred: ArrayLike,
    labels: ArrayLike | None,
    pos_label: Any,
    average: str,
    sample_weight: ArrayLike | None,
) -> tuple[Floats, Floats, Floats]:
    """Return for each class the weight of rows that are of it and predicted so, of those predicted so, and of those that are."""
    if average not in AVERAGES:
        raise ValueError(f"{owner}: {unknown('average', average, AVERAGES)}")
    classes, wanted, given = coded(owner, y_true, y_pred)
    weights = weights_of(owner, sample_weight, len(wanted))
    k = len(classes)
    counts = (
        _hits(wanted, given, weights, k),
        np.bincount(given, weights, k).astype(np.float64),
        np.bincount(wanted, weights, k).astype(np.float64),
    )
    chosen = classes if labels is None else classes_of(owner, labels, classes.dtype.kind == "U")
    if average == "binary":
        if k > 2:
            raise ValueError(
                f"{owner}: average='binary' is for two labels, and 'y_true' and 'y_pred' hold {k}: "
                "write average='macro', 'weighted' or 'micro'"
            )
        known = classes.tolist()
        if pos_label not in known and (k == 2 or isinstance(pos_label, str) != (classes.dtype.kind == "U")):
            raise ValueError(f"{owner}: 'pos_label' is {pos_label!r}, expected one of {', '.join(map(repr, known))}")
        chosen = classes[[x == pos_label for x in known]]
        if not len(chosen):
            return np.zeros(1), np.zeros(1), np.zeros(1)
    places, there = places_in(chosen, classes)
    tp, predicted, actual = (np.where(there, each[places], 0.0) for each in counts)
    return tp, predicted, actual


def _averaged(part: Floats, whole: Floats, wanted: Floats, average: str, zero_division: float) -> float:
    """Return the average of ``part / whole`` over the classes."""
    if average == "micro":
        part, whole = part.sum(keepdims=True), whole.sum(keepdims=True)
    shares = np.divide(part, whole, out=np.full(len(part), float(zero_division)), where=whole > 0)
    return float(np.average(shares, weights=wanted if average == "weighted" and wanted.any() else None))
