"""Hyper-parameter search: spaces; random, grid and coarse-to-fine searches and those of Optuna; what they found.

Names are imported on first use, so ``import pyfastnn.search`` costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyfastnn.metrics.ranking import roc_auc
    from pyfastnn.search.best import ensemble
    from pyfastnn.search.spaces import Choice, Range, choice, integers, log_uniform, uniform
    from pyfastnn.search.strategies import coarse_to_fine, grid, random
    from pyfastnn.search.study import Study, Trial
    from pyfastnn.search.with_optuna import optuna

__all__ = [
    "Choice",
    "Range",
    "Study",
    "Trial",
    "choice",
    "coarse_to_fine",
    "ensemble",
    "grid",
    "integers",
    "log_uniform",
    "optuna",
    "random",
    "roc_auc",
    "uniform",
]

_HOME = {
    "Choice": "spaces",
    "Range": "spaces",
    "Study": "study",
    "Trial": "study",
    "choice": "spaces",
    "coarse_to_fine": "strategies",
    "ensemble": "best",
    "grid": "strategies",
    "integers": "spaces",
    "log_uniform": "spaces",
    "optuna": "with_optuna",
    "random": "strategies",
    "roc_auc": "scoring",
    "uniform": "spaces",
}


def __getattr__(name: str) -> object:
    """Import the module that holds ``name``."""
    from importlib import import_module

    if name not in _HOME:
        from pyfastnn._names import unknown

        raise AttributeError(unknown("name in pyfastnn.search", name, __all__))
    value = getattr(import_module(f"pyfastnn.search.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
