"""Reports of training runs."""

from __future__ import annotations

from importlib import import_module

__all__ = ["plot_activations", "plot_history", "plot_learning_rates"]

_HOME = {"plot_activations": "activations", "plot_history": "curves", "plot_learning_rates": "rate_range"}


def __getattr__(name: str) -> object:
    """Import the function on first use."""
    if name not in _HOME:
        from pyfastnn._names import unknown

        raise AttributeError(unknown("name in pyfastnn.report", name, __all__))
    return getattr(import_module(f"pyfastnn.report.{_HOME[name]}"), name)
