"""What every schedule of the learning rate has.

A schedule is a function of time alone, so a run that goes on from a checkpoint has the same rates. Time is counted in epochs
(``epochs=``; within an epoch it goes on by a fraction at every step) or in steps (``steps=``), from 0 before the first step. The rates
of a whole epoch are written into the hyper rows before it begins: the steps themselves know nothing of it.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pyfastnn._names import helpful_keywords
from pyfastnn.nn.layer import number

Times = NDArray[np.float64]
_INF = float("inf")


class Schedule:
    """Base of all schedules.

    ``a + b`` is a schedule that follows ``a`` to its end and then ``b`` from its beginning.

    Parameters
    ----------
    rate : float or None
        The learning rate that the schedule scales; None for the default of the update rule.
    epochs, steps : float or None
        The duration the schedule is made of, in epochs or in steps; one of them is None.

    Attributes
    ----------
    unit : str
        ``"epochs"``, ``"steps"``, or ``""`` where time does not count.
    duration : float
        That duration; 0 where time does not count.
    """

    kind: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        """Let the constructor of every schedule answer unknown keywords helpfully."""
        if "__init__" in cls.__dict__:
            cls.__init__ = helpful_keywords(cls.__init__)  # type: ignore[method-assign]

    def __init__(self, rate: float | None, epochs: float | None, steps: float | None, default: float = 0.0) -> None:
        owner = type(self).__name__
        self.rate = None if rate is None else number(owner, "rate", rate, 0.0, _INF)
        if epochs is not None and steps is not None:
            raise ValueError(f"{owner}: both 'epochs' and 'steps' are given, expected one of them")
        self.unit = "steps" if steps is not None else "epochs"
        given = steps if steps is not None else default if epochs is None else epochs
        self.duration = self._duration(given)

    def _duration(self, given: Any) -> Any:
        return number(type(self).__name__, self.unit, given, 0.0, _INF, open_low=True)

    @property
    def length(self) -> float:
        """Time from the beginning to the end; infinite for schedules that never end."""
        return _INF

    @property
    def monitor(self) -> str:
        """Column of the history that the schedule watches, or empty."""
        return ""

    @property
    def watching(self) -> Schedule:
        """The part of the schedule that watches it."""
        return self

    def at(self, time: Times, rate: float, reductions: int) -> Times:
        """Return the learning rate at some times.

        Parameters
        ----------
        time : ndarray of float64
            In the schedule's unit, 0 or more.
        rate : float
            The rate to scale.
        reductions : int
            How often the watched column has stood still so far.
        """
        raise NotImplementedError

    def rates(self, step: Times, epoch: Times, default: float, reductions: int = 0) -> Times:
        """Return the learning rates of some steps.

        Parameters
        ----------
        step, epoch : ndarray of float64
            Steps and epochs done before each step.
        default : float
            The rate if the schedule has none of its own.
        reductions : int, default 0
            How often the watched column has stood still so far.
        """
        return self.at(step if self.unit == "steps" else epoch, self.base(default), reductions)

    def base(self, default: float) -> float:
        """Return the rate the schedule scales."""
        return default if self.rate is None else self.rate

    def config(self) -> dict[str, Any]:
        """Return the settings as JSON: what the constructor takes, and ``kind``."""
        found: dict[str, Any] = {"kind": self.kind}
        if self.rate is not None:
            found["rate"] = self.rate
        if self.unit:
            found[self.unit] = self.duration
        return found

    def __add__(self, other: object) -> Schedule:
        """Return the schedule that goes on with another one, or a number, after this one's end."""
        from pyfastnn.optim.schedules import Chain

        if isinstance(other, (Schedule, int, float)) and not isinstance(other, bool):
            return Chain([self, other])
        return NotImplemented

    def __eq__(self, other: object) -> bool:
        """Return whether the other one has the same kind and settings."""
        return isinstance(other, Schedule) and self.config() == other.config()

    def __hash__(self) -> int:
        """Return a number that equal schedules share."""
        return hash(repr(self))

    def __repr__(self) -> str:
        """Show the call that makes the schedule."""
        settings = {k: v for k, v in self.config().items() if k != "kind"}
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in settings.items())})"
