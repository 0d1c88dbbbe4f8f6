"""Metrics of classification and regression on NumPy arrays, under the names and with the values of scikit-learn.

A prediction that is NaN makes a metric of scores or values NaN; a target that is NaN is an error. Names are imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyfastnn.metrics.classification import (
        accuracy,
        balanced_accuracy,
        confusion_matrix,
        f1,
        precision,
        recall,
    )
    from pyfastnn.metrics.ranking import average_precision, log_loss, roc_auc, top_k_accuracy
    from pyfastnn.metrics.registry import Metric, get, names
    from pyfastnn.metrics.regression import mae, mape, r2, rmse

_HOME = {
    "Metric": "registry",
    "accuracy": "classification",
    "average_precision": "ranking",
    "balanced_accuracy": "classification",
    "confusion_matrix": "classification",
    "f1": "classification",
    "get": "registry",
    "log_loss": "ranking",
    "mae": "regression",
    "mape": "regression",
    "names": "registry",
    "precision": "classification",
    "r2": "regression",
    "recall": "classification",
    "rmse": "regression",
    "roc_auc": "ranking",
    "top_k_accuracy": "ranking",
}

__all__ = [
    "Metric",
    "accuracy",
    "average_precision",
    "balanced_accuracy",
    "confusion_matrix",
    "f1",
    "get",
    "log_loss",
    "mae",
    "mape",
    "names",
    "precision",
    "r2",
    "recall",
    "rmse",
    "roc_auc",
    "top_k_accuracy",
]


def __getattr__(name: str) -> object:
    """Import the module that holds ``name``."""
    from importlib import import_module

    if name not in _HOME:
        from pyfastnn._names import unknown

        raise AttributeError(unknown("name in pyfastnn.metrics", name, __all__))
    value = getattr(import_module(f"pyfastnn.metrics.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
