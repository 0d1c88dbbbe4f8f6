"""Reports of training runs."""

from __future__ import annotations

__all__ = ["plot_history"]


def __getattr__(name: str) -> object:
    """Import the function on first use."""
    if name not in __all__:
        from pyfastnn._names import unknown

        raise AttributeError(unknown("name in pyfastnn.report", name, __all__))
    from pyfastnn.report.curves import plot_history

    return plot_history
