"""Update rules: how a gradient changes a parameter. And schedules: how the learning rate goes."""

from typing import Any

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


def __getattr__(name: str) -> Any:
    """Answer a name that does not exist with the nearest that does."""
    from pyfastnn._names import unknown

    raise AttributeError(unknown("update rule or schedule", name, __all__))
