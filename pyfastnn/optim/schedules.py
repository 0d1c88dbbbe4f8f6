"""Schedules of the learning rate: what ``learning_rate=`` of an update rule takes beside a number."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from pyfastnn._names import unknown
from pyfastnn.nn.layer import number
from pyfastnn.optim.plateau import ReduceOnPlateau
from pyfastnn.optim.schedule import Schedule, Times

_INF = float("inf")


class Constant(Schedule):
    """One rate for ever: the end of a chain, such as ``LinearWarmup(epochs=5) + 0.1``.

    Parameters
    ----------
    rate : float, optional
        The rate; by default that of the update rule.
    """

    kind = "constant"

    def __init__(self, rate: float | None = None) -> None:
        super().__init__(rate, None, None, 1.0)
        self.unit = ""

    def at(self, time: Times, rate: float, reductions: int) -> Times:
        """Return the rate at all times."""
        return np.full(time.shape, rate)


class Step(Schedule):
    """Multiplied by a factor every so often: ``rate * factor**floor(t / duration)``.

    Parameters
    ----------
    rate : float, optional
        The first rate; by default that of the update rule.
    epochs, steps : float or sequence of float, optional
        Time between two falls, or the times of all falls; ``epochs=30`` if neither is given.
    factor : float, default 0.1
        In (0, inf).
    """

    kind = "step"

    def __init__(
        self,
        rate: float | None = None,
        *,
        epochs: float | Sequence[float] | None = None,
        steps: float | Sequence[float] | None = None,
        factor: float = 0.1,
    ) -> None:
        super().__init__(rate, epochs, steps, 30.0)  # type: ignore[arg-type]
        self.factor = number("Step", "factor", factor, 0.0, _INF, open_low=True)

    def _duration(self, given: Any) -> Any:
        if not isinstance(given, (list, tuple, np.ndarray)):
            return super()._duration(given)
        times = [float(super(Step, self)._duration(t)) for t in given]
        if not times or any(b <= a for a, b in pairwise(times)):
            raise ValueError(f"Step: {self.unit!r} is {given!r}, expected rising numbers")
        return times

    def at(self, time: Times, rate: float, reductions: int) -> Times:
        """Return the rate after the falls so far."""
        if isinstance(self.duration, list):
            falls = np.searchsorted(self.duration, time, side="right").astype(np.float64)
        else:
            falls = np.floor(time / self.duration)
        return np.asarray(rate * self.factor**falls)

    def config(self) -> dict[str, Any]:
        """Return the settings."""
        return {**super().config(), "factor": self.factor}


class Exponential(Schedule):
    """Falling by a factor in every duration, a little at every step: ``rate * factor**(t / duration)``.

    Parameters
    ----------
    rate : float, optional
        The first rate; by default that of the update rule.
    epochs, steps : float, optional
        Time in which the rate is multiplied by ``factor``; ``epochs=1`` if neither is given.
    factor : float, default 0.95
        In (0, inf).
    """

    kind = "exponential"

    def __init__(
        self,
        rate: float | None = None,
        *,
        epochs: float | None = None,
        steps: float | None = None,
        factor: float = 0.95,
    ) -> None:
        super().__init__(rate, epochs, steps, 1.0)
        self.factor = number("Exponential", "factor", factor, 0.0, _INF, open_low=True)

    def at(self, time: Times, rate: float, reductions: int) -> Times:
        """Return the rate."""
        return np.asarray(rate * self.factor ** (time / self.duration))

    def config(self) -> dict[str, Any]:
        """Return the settings."""
        return {**super().config(), "factor": self.factor}


class InverseTime(Schedule):
    """Falling as 1/t: ``rate / (1 + t / duration)``, a half after one duration, a third after two.

    Parameters
    ----------
    rate : float, optional
        The first rate; by default that of the update rule.
    epochs, steps : float, optional
        Time until the rate is halved; ``epochs=10`` if neither is given.
    """

    kind = "inverse_time"

    def __init__(self, rate: float | None = None, *, epochs: float | None = None, steps: float | None = None) -> None:
        super().__init__(rate, epochs, steps, 10.0)

    def at(self, time: Times, rate: float, reductions: int) -> Times:
        """Return the rate."""
        return np.asarray(rate / (1.0 + time / self.duration))


class Cosine(Schedule):
    """Half a cosine from the rate down to ``min_rate``, then warm restarts if wanted. Loshchilov and Hutter (2017).

    ``min_rate + (rate - min_rate) * (1 + cos(pi * t / T)) / 2`` within a cycle of length T; after the last cycle ``min_rate``.

    Parameters
    ----------
    rate : float, optional
        The first rate; by default that of the update rule.
    epochs, steps : float, optional
        Length of the first cycle; ``epochs=10`` if neither is given.
    cycles : int, default 1
        Number of cycles; each begins again at the rate.
    growth : float, default 1
        Every cycle is so many times as long as the one before; 1 or more.
    min_rate : float, default 0
        Rate at the end of a cycle.
    """

    kind = "cosine"

    def __init__(
        self,
        rate: float | None = None,
        *,
        epochs: float | None = None,
        steps: float | None = None,
        cycles: int = 1,
        growth: float = 1.0,
        min_rate: float = 0.0,
    ) -> None:
        super().__init__(rate, epochs, steps, 10.0)
        if isinstance(cycles, bool) or not isinstance(cycles, (int, np.integer)) or cycles < 1:
            raise ValueError(f"Cosine: 'cycles' is {cycles!r}, expected a whole number of 1 or more")
        self.cycles = int(cycles)
        self.growth = number("Cosine", "growth", growth, 1.0, _INF)
        self.min_rate = number("Cosine", "min_rate", min_rate, 0.0, _INF)

    @property
    def length(self) -> float:
        """All cycles together."""
        return float(sum(self.duration * self.growth**k for k in range(self.cycles)))

    def at(self, time: Times, rate: float, reductions: int) -> Times:
        """Return the rate."""
        lengths = self.duration * self.growth ** np.arange(self.cycles)
        ends = np.cumsum(lengths)
        cycle = np.minimum(np.searchsorted(ends, time, side="right"), self.cycles - 1)
        into = np.minimum((time - (ends - lengths)[cycle]) / lengths[cycle], 1.0)
        return np.asarray(self.min_rate + (rate - self.min_rate) * 0.5 * (1.0 + np.cos(math.pi * into)))

    def config(self) -> dict[str, Any]:
        """Return the settings."""
        return {**super().config(), "cycles": self.cycles, "growth": self.growth, "min_rate": self.min_rate}


class LinearWarmup(Schedule):
    """Rising in a straight line to the rate, and staying there; in ``LinearWarmup(epochs=5) + other`` to the first rate of the other.

    ``rate * (start_factor + (1 - start_factor) * t / duration)``. Goyal et al. (2017).

    Parameters
    ----------
    rate : float, optional
        The last rate; by default that of the update rule. Not to be given in front of another schedule.
    epochs, steps : float, optional
        How long it takes; ``epochs=5`` if neither is given.
    start_factor : float, default 0
        Where it starts, as a part of the last rate; in [0, 1).
    """

    kind = "linear_warmup"

    def __init__(
        self,
        rate: float | None = None,
        *,
        epochs: float | None = None,
        steps: float | None = None,
        start_factor: float = 0.0,
    ) -> None:
        super().__init__(rate, epochs, steps, 5.0)
        self.start_factor = number("LinearWarmup", "start_factor", start_factor, 0.0, 1.0)

    @property
    def length(self) -> float:
        """The time it rises."""
        return float(self.duration)

    def at(self, time: Times, rate: float, reductions: int) -> Times:
        """Return the rate."""
        part = self.start_factor + (1.0 - self.start_factor) * np.minimum(time / self.duration, 1.0)
        return np.asarray(rate * part)

    def config(self) -> dict[str, Any]:
        """Return the settings."""
        return {**super().config(), "start_factor": self.start_factor}


class OneCycle(Schedule):
    """Up to the rate and down again, each half a cosine. Smith and Topin (2019); the momentum stays as it is.

    From ``rate / div_factor`` up to ``rate`` in the part ``warmup`` of the time, then down to
    ``rate / (div_factor * final_div_factor)``.

    Parameters
    ----------
    rate : float, optional
        The highest rate; by default that of the update rule.
    epochs, steps : float, optional
        Length of the cycle; ``epochs=10`` if neither is given.
    warmup : float, default 0.3
        Part of the time in which the rate rises, in (0, 1).
    div_factor, final_div_factor : float, default 25 and 1e4
        Above 0.
    """

    kind = "one_cycle"

    def __init__(
        self,
        rate: float | None = None,
        *,
        epochs: float | None = None,
        steps: float | None = None,
        warmup: float = 0.3,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
    ) -> None:
        super().__init__(rate, epochs, steps, 10.0)
        self.warmup = number("OneCycle", "warmup", warmup, 0.0, 1.0, open_low=True)
        self.div_factor = number("OneCycle", "div_factor", div_factor, 0.0, _INF, open_low=True)
        self.final_div_factor = number("OneCycle", "final_div_factor", final_div_factor, 0.0, _INF, open_low=True)

    @property
    def length(self) -> float:
        """The whole cycle."""
        return float(self.duration)

    def at(self, time: Times, rate: float, reductions: int) -> Times:
        """Return the rate."""
        into = np.minimum(time / self.duration, 1.0)
        first = rate / self.div_factor
        last = first / self.final_div_factor
        up = rate + (first - rate) * 0.5 * (1.0 + np.cos(math.pi * np.minimum(into / self.warmup, 1.0)))
        fall = np.maximum((into - self.warmup) / (1.0 - self.warmup), 0.0)
        down = last + (rate - last) * 0.5 * (1.0 + np.cos(math.pi * fall))
        return np.asarray(np.where(into < self.warmup, up, down))

    def config(self) -> dict[str, Any]:
        """Return the settings."""
        numbers = {"warmup": self.warmup, "div_factor": self.div_factor, "final_div_factor": self.final_div_factor}
        return {**super().config(), **numbers}


class Chain(Schedule):
    """Schedules one after the other: what ``a + b`` makes.

    Parameters
    ----------
    parts : sequence of Schedule or float
        Each but the last must have an end (`LinearWarmup`, `Cosine`, `OneCycle`), and all must count in the same unit. A number is
        that rate for ever.
    """

    kind = "chain"

    def __init__(self, parts: Sequence[Schedule | float]) -> None:
        self.parts: list[Schedule] = []
        for part in parts:
            made = part if isinstance(part, Schedule) else Constant(part)
            self.parts += made.parts if isinstance(made, Chain) else [made]
        if not self.parts:
            raise ValueError("Chain: no schedules given")
        units = list(dict.fromkeys(p.unit for p in self.parts if p.unit))
        if len(units) > 1:
            raise ValueError("Chain: some schedules count in epochs and others in steps, expected one unit")
        for part, behind in pairwise(self.parts):
            if part.length == _INF:
                raise ValueError(f"Chain: {part!r} never ends, so {behind!r} would not begin")
            if isinstance(part, LinearWarmup) and part.rate is not None:
                raise ValueError(f"Chain: {part!r} rises to the first rate of what follows; leave out its 'rate'")
        if sum(bool(p.monitor) for p in self.parts) > 1:
            raise ValueError("Chain: expected at most one ReduceOnPlateau")
        self.rate = None
        self.unit = units[0] if units else ""
        self.duration = sum(p.length for p in self.parts[:-1]) or 1.0

    @property
    def length(self) -> float:
        """All parts together."""
        return sum(p.length for p in self.parts)

    @property
    def monitor(self) -> str:
        """The column that a part watches, or empty."""
        return next((p.monitor for p in self.parts if p.monitor), "")

    @property
    def watching(self) -> Schedule:
        """The part that watches the history."""
        return next(p for p in self.parts if p.monitor)

    def at(self, time: Times, rate: float, reductions: int) -> Times:
        """Return the rate of the part whose turn it is."""
        found = np.empty(time.shape)
        begin = 0.0
        for k, part in enumerate(self.parts):
            here = time >= begin
            found[here] = part.at(time[here] - begin, self._rate_of(k, rate, reductions), reductions)
            begin += part.length
        return found

    def _rate_of(self, k: int, default: float, reductions: int) -> float:
        """Return the rate that a part scales: a warm-up rises to the first rate of what follows."""
        part = self.parts[k]
        if isinstance(part, LinearWarmup) and k + 1 < len(self.parts):
            behind = self.parts[k + 1].at(np.zeros(1), self._rate_of(k + 1, default, reductions), reductions)
            return float(behind[0])
        return part.base(default)

    def config(self) -> dict[str, Any]:
        """Return the settings of all parts."""
        return {"kind": self.kind, "parts": [part.config() for part in self.parts]}

    def __repr__(self) -> str:
        """Show the sum that makes the schedule."""
        return " + ".join(map(repr, self.parts))


SCHEDULES: dict[str, Any] = {
    c.kind: c for c in (Constant, Step, Exponential, InverseTime, Cosine, LinearWarmup, OneCycle, ReduceOnPlateau)
}


def get(name: str) -> Schedule:
    """Return the schedule of a name, with its defaults: ``"cosine"``, ``"one_cycle"`` and so on.

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    if name not in SCHEDULES:
        raise ValueError(unknown("schedule", name, SCHEDULES))
    made: Schedule = SCHEDULES[name]()
    return made


def from_config(config: dict[str, Any]) -> Schedule:
    """Build a schedule from what `Schedule.config` gives.

    Raises
    ------
    ValueError
        If the kind or a setting is unknown or missing.
    """
    settings = dict(config)
    kind = settings.pop("kind", None)
    if kind == Chain.kind:
        return Chain([from_config(part) for part in settings["parts"]])
    if kind not in SCHEDULES:
        raise ValueError(unknown("schedule", kind, SCHEDULES))
    known = [p for p in inspect.signature(SCHEDULES[kind].__init__).parameters if p != "self"]
    for key in settings:
        if key not in known:
            raise ValueError(unknown(f"setting of {kind}", key, known))
    made: Schedule = SCHEDULES[kind](**settings)
    return made
