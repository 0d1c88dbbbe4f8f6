"""Metrics by name: what each reads, and whether more of it is better."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from pyfastnn._names import unknown
from pyfastnn.metrics.classification import accuracy, balanced_accuracy, f1, precision, recall
from pyfastnn.metrics.ranking import average_precision, log_loss, roc_auc, top_k_accuracy
from pyfastnn.metrics.regression import mae, mape, r2, rmse

READS = ("labels", "probabilities", "values", "predictions")


@dataclass(frozen=True)
class Metric:
    """A figure that a model is judged by.

    Attributes
    ----------
    name : str
        What it is called in results.
    function : callable
        ``function(y_true, y_pred)``; a keyword ``sample_weight`` is needed where rows have weights.
    mode : {"max", "min", None}, default None
        Whether more or less of it is better; None where nobody said.
    reads : {"predictions", "labels", "probabilities", "values"}, default "predictions"
        What ``y_pred`` is: labels or probabilities of a classifier, values of a regression, or whatever ``model.predict`` gives.

    Raises
    ------
    TypeError, ValueError
        If an attribute is of the wrong kind or an unknown name.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn.metrics import Metric
    >>> worst = Metric("worst", lambda y_true, y_pred: float(np.max(np.abs(y_true - y_pred))), mode="min")
    >>> worst.function(np.array([1.0, 2.0]), np.array([1.5, 2.0]))
    0.5
    """

    name: str
    function: Callable[..., float]
    mode: str | None = None
    reads: str = "predictions"

    def __post_init__(self) -> None:
        """Check what was given."""
        if not isinstance(self.name, str) or not self.name:
            raise TypeError(f"Metric: 'name' is {self.name!r}, expected a name")
        if not callable(self.function):
            raise TypeError(f"Metric: 'function' is {self.function!r}, expected a function of y_true and y_pred")
        if self.mode not in ("max", "min", None):
            raise ValueError(f"Metric: {unknown('mode', self.mode, ('max', 'min'))}, or None")
        if self.reads not in READS:
            raise ValueError(f"Metric: {unknown('kind of predictions', self.reads, READS)}")


def _all() -> Mapping[str, Metric]:
    found = [
        Metric("accuracy", accuracy, "max", "labels"),
        Metric("balanced_accuracy", balanced_accuracy, "max", "labels"),
    ]
    for name, function in (("precision", precision), ("recall", recall), ("f1", f1)):
        found.append(Metric(name, function, "max", "labels"))
        for average in ("macro", "weighted", "micro"):
            found.append(Metric(f"{name}_{average}", partial(function, average=average), "max", "labels"))
    found += [
        Metric("roc_auc", roc_auc, "max", "probabilities"),
        Metric("average_precision", average_precision, "max", "probabilities"),
        Metric("log_loss", log_loss, "min", "probabilities"),
        Metric("top_k_accuracy", top_k_accuracy, "max", "probabilities"),
        Metric("top_5_accuracy", partial(top_k_accuracy, k=5), "max", "probabilities"),
        Metric("r2", r2, "max", "values"),
        Metric("mae", mae, "min", "values"),
        Metric("rmse", rmse, "min", "values"),
        Metric("mape", mape, "min", "values"),
    ]
    return {metric.name: metric for metric in found}


METRICS = _all()
OF_TWO = ("precision", "recall", "f1")
"""Those about one class of two."""


def names() -> list[str]:
    """Return the names of all metrics.

    Examples
    --------
    >>> from pyfastnn import metrics
    >>> "f1_macro" in metrics.names()
    True
    """
    return list(METRICS)


def get(name: str) -> Metric:
    """Return the metric of a name.

    Parameters
    ----------
    name : str
        One of `names`: ``"accuracy"``, ``"f1_macro"``, ``"roc_auc"``, ...

    Returns
    -------
    Metric
        With ``mode``, ``"max"`` where more is better.

    Raises
    ------
    TypeError
        If it is no string.
    ValueError
        If there is none of that name.

    Examples
    --------
    >>> from pyfastnn import metrics
    >>> metrics.get("rmse").mode
    'min'
    """
    if not isinstance(name, str):
        raise TypeError(f"metrics.get: 'name' is {name!r}, expected a name such as 'f1_macro'")
    if name not in METRICS:
        raise ValueError(f"metrics.get: {unknown('metric', name, METRICS)}")
    return METRICS[name]


def as_metric(owner: str, given: Any) -> Metric:
    """Return what a name, a `Metric` or a function stands for; the functions of this package read what they need.

    Raises
    ------
    TypeError, ValueError
        If it is none of these, or there is no metric of that name.
    """
    if isinstance(given, Metric):
        return given
    if isinstance(given, str):
        if given not in METRICS:
            raise ValueError(f"{owner}: {unknown('metric', given, METRICS)}, or a function of y_true and y_pred")
        return METRICS[given]
    if not callable(given):
        raise TypeError(f"{owner}: a metric is {given!r}, expected a name or a function of y_true and y_pred")
    for metric in METRICS.values():
        if metric.function is given:
            return metric
    inner = given.func if isinstance(given, partial) else given
    name = getattr(inner, "__name__", type(inner).__name__)
    known = next((metric for metric in METRICS.values() if metric.function is inner), None)
    return Metric(name, given) if known is None else Metric(name, given, known.mode, known.reads)
