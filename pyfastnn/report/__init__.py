"""Reports of training runs."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyfastnn.report.activations import plot_activations
    from pyfastnn.report.curves import plot_history
    from pyfastnn.report.page import write_report
    from pyfastnn.report.rate_range import plot_learning_rates
    from pyfastnn.report.runs import Run, find_runs, read_run

__all__ = ["Run", "find_runs", "plot_activations", "plot_history", "plot_learning_rates", "read_run", "write_report"]

_HOME = {
    "Run": "runs",
    "find_runs": "runs",
    "plot_activations": "activations",
    "plot_history": "curves",
    "plot_learning_rates": "rate_range",
    "read_run": "runs",
    "write_report": "page",
}


def __getattr__(name: str) -> object:
    """Import the function on first use."""
    if name not in _HOME:
        from pyfastnn._names import unknown

        raise AttributeError(unknown("name in pyfastnn.report", name, __all__))
    return getattr(import_module(f"pyfastnn.report.{_HOME[name]}"), name)
