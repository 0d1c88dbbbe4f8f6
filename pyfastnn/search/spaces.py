"""What a search draws from: ranges in linear or log scale, whole numbers, and choices."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pyfastnn.train.settings import is_whole

Value = Any


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``; made by `uniform`, `log_uniform` and `integers`.

    A *position* is the place of a number in the range, from 0 at ``low`` to 1 at ``high``, in log scale where the range is one. A whole
    number stands for the numbers that are rounded to it: its position is the middle of them.

    Attributes
    ----------
    low, high : float
        The ends, which belong to the range.
    log : bool
        Whether numbers are spread evenly over the orders of magnitude.
    whole : bool
        Whether only whole numbers are drawn.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def value(self, position: float) -> float | int:
        """Return the number at a position from 0 to 1."""
        a, b = self._ends()
        found = a + position * (b - a)
        if self.log:
            found = math.exp(found)
        # Log and exp are not exact inverses: the ends are met, and nothing lies beyond them.
        found = self.low if position <= 0 else self.high if position >= 1 else min(max(found, self.low), self.high)
        if not self.whole:
            return found
        # Half a step is rounded up, so that every number stands for an interval of the same kind.
        return int(min(max(math.floor(found + 0.5), self.low), self.high))

    def position(self, value: float) -> float:
        """Return the position of a number, below 0 or above 1 if it lies outside."""
        a, b = self._ends()
        return ((math.log(value) if self.log else float(value)) - a) / (b - a)

    def draw(self, rng: np.random.Generator) -> float | int:
        """Draw a number."""
        return self.value(rng.random())

    def points(self, count: int) -> list[Value]:
        """Return numbers spread evenly over the range, both ends among them; fewer where whole numbers coincide."""
        if count == 1:
            return [self.value(0.5)]
        a, b = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        places = [a + k * (b - a) / (count - 1) for k in range(count)]
        found = [self.value(self.position(math.exp(p) if self.log else p)) for p in places]
        found[0], found[-1] = (int(self.low), int(self.high)) if self.whole else (self.low, self.high)
        return list(dict.fromkeys(found))

    def part(self, low: float, high: float) -> Range:
        """Return the range between two positions, clipped to this one; of whole numbers one that holds both ends."""
        low, high = self.value(min(max(low, 0.0), 1.0)), self.value(min(max(high, 0.0), 1.0))
        return replace(self, low=low, high=high) if low < high else self

    def widened(self, upper: bool) -> Range:
        """Return a range that goes on beyond one end: by a factor of 10 in log scale, else by its own width.

        What is not negative stays so, and whole numbers of 1 or more do: most are shares or counts.
        """
        width = self.high - self.low
        if upper:
            return replace(self, high=self.high * 10 if self.log else self.high + width)
        low = self.low / 10 if self.log else self.low - width
        least = 1 if self.whole and self.low >= 1 else 0
        if self.low >= least:
            low = max(low, least)
        return replace(self, low=math.ceil(low) if self.whole else low)

    def _ends(self) -> tuple[float, float]:
        """Return what positions 0 and 1 stand for, in the scale of the range."""
        low, high = (self.low - 0.5, self.high + 0.5) if self.whole else (self.low, self.high)
        return (math.log(low), math.log(high)) if self.log else (low, high)

    def __str__(self) -> str:
        """Return the call that makes the range."""
        if self.whole:
            return f"integers({self.low:d}, {self.high:d}{', log=True' if self.log else ''})"
        return f"{'log_uniform' if self.log else 'uniform'}({self.low:.6g}, {self.high:.6g})"


@dataclass(frozen=True)
class Choice:
    """One of some values, all equally likely; made by `choice`."""

    values: tuple[Value, ...]

    def draw(self, rng: np.random.Generator) -> Value:
        """Draw a value."""
        return self.values[int(rng.random() * len(self.values))]

    def points(self, count: int) -> list[Value]:
        """Return all values, whatever ``count`` is."""
        return list(self.values)

    def __str__(self) -> str:
        """Return the call that makes the choice."""
        return f"choice({list(self.values)!r})"


Space = dict[str, "Range | Choice"]


def uniform(low: float, high: float) -> Range:
    """Return the range of all numbers from ``low`` to ``high``, each as likely as the others.

    Parameters
    ----------
    low, high : float
        Finite, ``low < high``.

    Returns
    -------
    Range
        For the dict of a search.

    Raises
    ------
    TypeError, ValueError
        If the ends are no such numbers.
    """
    return Range(*_ends("uniform", low, high))


def log_uniform(low: float, high: float) -> Range:
    """Return a range whose orders of magnitude are equally likely: the logarithm is uniform.

    Parameters
    ----------
    low, high : float
        Finite, ``0 < low < high``.

    Returns
    -------
    Range
        For learning rates, weight decay, and everything else that acts by its ratio.

    Raises
    ------
    TypeError, ValueError
        If the ends are no such numbers.
    """
    low, high = _ends("log_uniform", low, high)
    if low <= 0:
        raise ValueError(f"log_uniform: 'low' is {low:g}, expected above 0")
    return Range(low, high, log=True)


def integers(low: int, high: int, *, log: bool = False) -> Range:
    """Return the range of whole numbers from ``low`` to ``high``, both included.

    Parameters
    ----------
    low, high : int
        ``low < high``, and ``low`` at least 1 with ``log``.
    log : bool, default False
        Whether orders of magnitude are equally likely, as for the widths of layers.

    Returns
    -------
    Range
        For the dict of a search.

    Raises
    ------
    TypeError, ValueError
        If the ends are no such numbers.
    """
    for name, value in (("low", low), ("high", high)):
        if not is_whole(value):
            raise TypeError(f"integers: {name!r} is {value!r}, expected a whole number")
    if low >= high:
        raise ValueError(f"integers: 'low' is {low} and 'high' is {high}, expected low < high")
    if log and low < 1:
        raise ValueError(f"integers: 'low' is {low}, expected 1 or more with log=True")
    return Range(int(low), int(high), log=bool(log), whole=True)


def choice(values: Sequence[Value]) -> Choice:
    """Return the choice among some values, all equally likely.

    Parameters
    ----------
    values : sequence
        At least one: names, numbers, tuples. A list or tuple in the dict of a search means the same.

    Returns
    -------
    Choice
        For the dict of a search.

    Raises
    ------
    TypeError, ValueError
        If this is no sequence, or an empty one.
    """
    if isinstance(values, (str, bytes, Mapping)) or not hasattr(values, "__iter__"):
        raise TypeError(f"choice: 'values' is {values!r}, expected a list")
    found = tuple(values)
    if not found:
        raise ValueError("choice: 'values' is empty")
    return Choice(found)


def checked_space(owner: str, space: Any) -> Space:
    """Return a space with lists as choices.

    Raises
    ------
    TypeError, ValueError
        If it is no dict of spaces by name, or an empty one.
    """
    if not isinstance(space, Mapping):
        raise TypeError(
            f"{owner}: 'space' is {space!r}, expected a dict such as {{'learning_rate': log_uniform(1e-5, 1e-1)}}"
        )
    if not space:
        raise ValueError(f"{owner}: 'space' is empty, there is nothing to search")
    found: Space = {}
    for name, part in space.items():
        if not isinstance(name, str):
            raise TypeError(f"{owner}: 'space' has the key {name!r}, expected names of arguments")
        if isinstance(part, (list, tuple)):
            part = choice(part)
        if not isinstance(part, (Range, Choice)):
            raise TypeError(
                f"{owner}: space[{name!r}] is {part!r}, expected uniform, log_uniform, integers, choice or a list"
            )
        found[name] = part
    return found


def _ends(owner: str, low: Any, high: Any) -> tuple[float, float]:
    for name, value in (("low", low), ("high", high)):
        if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
            raise TypeError(f"{owner}: {name!r} is {value!r}, expected a number")
        if not math.isfinite(value):
            raise ValueError(f"{owner}: {name!r} is {value!r}, expected a finite number")
    if low >= high:
        raise ValueError(f"{owner}: 'low' is {low:g} and 'high' is {high:g}, expected low < high")
    return float(low), float(high)
