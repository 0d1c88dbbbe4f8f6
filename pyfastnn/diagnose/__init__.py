"""Looking for what is wrong with a network before and while it trains."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyfastnn.diagnose.gradients import GradientCheck, gradient_check

__all__ = ["GradientCheck", "gradient_check"]

_HOME = {"GradientCheck": "gradients", "gradient_check": "gradients"}


def __getattr__(name: str) -> object:
    """Import the module that holds ``name``."""
    if name not in _HOME:
        from pyfastnn._names import unknown

        raise AttributeError(unknown("name in pyfastnn.diagnose", name, __all__))
    from importlib import import_module

    value = getattr(import_module(f"pyfastnn.diagnose.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
