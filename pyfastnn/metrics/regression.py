"""Metrics of predicted values."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from pyfastnn.metrics._checks import Floats, numbers_of, weights_of


def r2(y_true: ArrayLike, y_pred: ArrayLike, *, sample_weight: ArrayLike | None = None) -> float:
    """Return the coefficient of determination: ``1 - sum(w (y - p)^2) / sum(w (y - mean(y))^2)``.

    Parameters
    ----------
    y_true, y_pred : array_like, shape (n,) or (n, outputs)
        Targets and predictions, of one shape.
    sample_weight : array_like, shape (n,), optional
        Weights of the rows, 0 or more.

    Returns
    -------
    float
        At most 1; 0 is what the weighted mean of ``y_true`` would get. The mean over several outputs. An output whose targets are all
        the same has 1 if the predictions are exact, else 0. NaN if a prediction is.

    Raises
    ------
    TypeError
        If these are no numbers.
    ValueError
        If there are fewer than two rows, shapes or weights do not fit, or a target is NaN or infinite.
    """
    y, p, weights = _pair("r2", y_true, y_pred, sample_weight)
    if len(y) < 2:
        raise ValueError("r2: 'y_true' has one row, expected two or more")
    w = np.ones((len(y), 1)) if weights is None else weights[:, None]
    errors = (w * (y - p) ** 2).sum(axis=0)
    spread = (w * (y - np.average(y, axis=0, weights=weights)) ** 2).sum(axis=0)
    ratios = np.divide(errors, spread, out=np.where(errors == 0, 0.0, 1.0), where=spread != 0)
    ratios[np.isnan(errors)] = np.nan
    return float(np.mean(1 - ratios))


def mae(y_true: ArrayLike, y_pred: ArrayLike, *, sample_weight: ArrayLike | None = None) -> float:
    """Return the mean absolute error: ``mean(|y - p|)``.

    Parameters
    ----------
    y_true, y_pred : array_like, shape (n,) or (n, outputs)
        Targets and predictions, of one shape.
    sample_weight : array_like, shape (n,), optional
        Weights of the rows, 0 or more: the mean is weighted.

    Returns
    -------
    float
        0 or more; the mean over several outputs. NaN if a prediction is.

    Raises
    ------
    TypeError
        If these are no numbers.
    ValueError
        If there are none, shapes or weights do not fit, or a target is NaN or infinite.
    """
    y, p, weights = _pair("mae", y_true, y_pred, sample_weight)
    return float(np.mean(np.average(np.abs(y - p), axis=0, weights=weights)))


def rmse(y_true: ArrayLike, y_pred: ArrayLike, *, sample_weight: ArrayLike | None = None) -> float:
    """Return the root of the mean squared error: ``sqrt(mean((y - p)^2))``.

    Parameters
    ----------
    y_true, y_pred, sample_weight
        As for `mae`.

    Returns
    -------
    float
        0 or more; the mean of the roots of several outputs. NaN if a prediction is.

    Raises
    ------
    TypeError, ValueError
        As for `mae`.
    """
    y, p, weights = _pair("rmse", y_true, y_pred, sample_weight)
    return float(np.mean(np.sqrt(np.average((y - p) ** 2, axis=0, weights=weights))))


def mape(y_true: ArrayLike, y_pred: ArrayLike, *, sample_weight: ArrayLike | None = None) -> float:
    """Return the mean absolute error relative to the targets: ``mean(|y - p| / max(|y|, eps))``, a share and no percentage.

    Parameters
    ----------
    y_true, y_pred, sample_weight
        As for `mae`. A target of 0 is taken for ``eps = 2.2e-16``: the result is huge, not infinite.

    Returns
    -------
    float
        0 or more; the mean over several outputs. NaN if a prediction is.

    Raises
    ------
    TypeError, ValueError
        As for `mae`.
    """
    y, p, weights = _pair("mape", y_true, y_pred, sample_weight)
    shares = np.abs(y - p) / np.maximum(np.abs(y), np.finfo(np.float64).eps)
    return float(np.mean(np.average(shares, axis=0, weights=weights)))


def _pair(
    owner: str, y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None
) -> tuple[Floats, Floats, Floats | None]:
    """Return targets and predictions of shape (n, outputs) in float64, and weights."""
    y: Floats = numbers_of(owner, "y_true", y_true).astype(np.float64)
    p: Floats = numbers_of(owner, "y_pred", y_pred).astype(np.float64)
    shapes = (y.shape, p.shape)
    y, p = (each[:, None] if each.ndim == 1 else each for each in (y, p))
    if y.ndim != 2:
        raise ValueError(f"{owner}: 'y_true' has shape {shapes[0]}, expected (n,) or (n, outputs)")
    if y.shape != p.shape:
        raise ValueError(f"{owner}: 'y_pred' has shape {shapes[1]} and 'y_true' {shapes[0]}, expected the same")
    bad = ~np.isfinite(y)
    if bad.any():
        raise ValueError(f"{owner}: 'y_true' holds {y[bad][0]}, expected finite numbers")
    return y, p, weights_of(owner, sample_weight, len(y))
