"""Update rules: how a gradient changes a parameter. And schedules: how the learning rate goes."""

from typing import TYPE_CHECKING

from pyfastnn._names import unknown
from pyfastnn.optim.optimizer import Optimizer
from pyfastnn.optim.plateau import ReduceOnPlateau
from pyfastnn.optim.rules import SGD, AdaGrad, Adam, AdamW, RMSProp, get
from pyfastnn.optim.schedule import Schedule
from pyfastnn.optim.schedules import (
    Chain,
    Constant,
    Cosine,
    Exponential,
    InverseTime,
    LinearWarmup,
    OneCycle,
    Step,
)
from pyfastnn.report.rates import plot_schedule

__all__ = [
    "SGD",
    "AdaGrad",
    "Adam",
    "AdamW",
    "Chain",
    "Constant",
    "Cosine",
    "Exponential",
    "InverseTime",
    "LinearWarmup",
    "OneCycle",
    "Optimizer",
    "RMSProp",
    "ReduceOnPlateau",
    "Schedule",
    "Step",
    "get",
    "plot_schedule",
]

if not TYPE_CHECKING:  # a type checker is to find wrong names itself

    def __getattr__(name: str) -> object:
        """Answer an unknown name with the nearest known one."""
        if name.startswith("_"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        raise AttributeError(unknown(f"name in {__name__}", name, __all__))
