"""Looking for what is wrong with a network before and while it trains."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyfastnn.diagnose.activations import ActivationStatistics, LayerStatistics, activation_statistics
    from pyfastnn.diagnose.fit_checks import PreflightWarning
    from pyfastnn.diagnose.gradients import GradientCheck, gradient_check
    from pyfastnn.diagnose.monitor import Monitor
    from pyfastnn.diagnose.rate_range import LearningRateRange, lr_find
    from pyfastnn.diagnose.sanity import Check, Preflight, preflight
    from pyfastnn.diagnose.statistics import Statistics
    from pyfastnn.diagnose.verdicts import TrainingWarning, Verdict

__all__ = [
    "ActivationStatistics",
    "Check",
    "GradientCheck",
    "LayerStatistics",
    "LearningRateRange",
    "Monitor",
    "Preflight",
    "PreflightWarning",
    "Statistics",
    "TrainingWarning",
    "Verdict",
    "activation_statistics",
    "gradient_check",
    "lr_find",
    "preflight",
]

_HOME = {
    "ActivationStatistics": "activations",
    "Check": "sanity",
    "GradientCheck": "gradients",
    "LayerStatistics": "activations",
    "LearningRateRange": "rate_range",
    "Monitor": "monitor",
    "Preflight": "sanity",
    "PreflightWarning": "fit_checks",
    "Statistics": "statistics",
    "TrainingWarning": "verdicts",
    "Verdict": "verdicts",
    "activation_statistics": "activations",
    "gradient_check": "gradients",
    "lr_find": "rate_range",
    "preflight": "sanity",
}


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
