"""One gradient held against central differences.

An element is judged at the step ``eps * max(1, abs(x))``, then, while it disagrees, at ten times that (less rounding), and at a tenth and a
hundredth (less curvature, and fewer kinks on the way). Where the slopes to the two sides differ however small the step, the element stands
at a kink, such as that of ReLU: no difference decides there, and the analytic gradient has to lie between the two slopes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_FACTORS = (1.0, 10.0, 0.1, 0.01)
"""Steps that are tried, as multiples of the first one."""
_STRAIGHT = 0.01
"""Slopes to the two sides that differ by a larger part are looked at more closely even if the central one agrees."""
_ROUNDING = 16 * 2.0**-53
"""Relative error that rounding is taken to leave in a loss: 16 units."""


@dataclass(frozen=True)
class ParameterCheck:
    """What was found for one array.

    Attributes
    ----------
    name : str
        Such as ``"linear_1.w"``.
    shape : tuple of int
        Of the array.
    checked : int
        Elements that were looked at.
    kinks : int
        Those at or beside a kink.
    unresolved : int
        Those whose gradient differs by no more than rounding does to a difference: too small to be judged.
    failed : int
        Those that disagree.
    error : float
        Largest relative error ``abs(a - n) / max(abs(a), abs(n))`` of the elements that are not unresolved and not at a kink.
    index : tuple of int
        Where it is; of a failed element if there is one.
    analytic, numeric : float
        The two gradients there.
    """

    name: str
    shape: tuple[int, ...]
    checked: int
    kinks: int
    unresolved: int
    failed: int
    error: float
    index: tuple[int, ...]
    analytic: float
    numeric: float

    @property
    def passed(self) -> bool:
        """Whether no element disagrees."""
        return self.failed == 0


@dataclass
class Problem:
    """A value with its arrays (changed in place by the differences, and put back) and its analytic gradients."""

    value: float
    arrays: dict[str, Array]
    gradients: dict[str, Array]
    evaluate: Callable[[str], float]
    """Returns the value after a change of the array of this name."""


class _Slopes(NamedTuple):
    """Slopes at one element by one step, and what rounding of the values can do to the central one."""

    central: float
    left: float
    right: float
    resolution: float

    @property
    def jump(self) -> float:
        return abs(self.right - self.left)


class _Element(NamedTuple):
    outcome: str  # "ok", "kink", "unresolved" or "failed"
    error: float
    numeric: float
    near_kink: bool


def _relative(a: float, n: float) -> float:
    if a == n:
        return 0.0
    error = abs(a - n) / max(abs(a), abs(n))
    return error if math.isfinite(error) else math.inf


def _slopes(problem: Problem, name: str, at: int, step: float) -> _Slopes:
    flat = problem.arrays[name].reshape(-1)
    x = flat[at]
    values, distances = [], []
    try:
        for sign in (1.0, -1.0):
            flat[at] = x + sign * step
            distances.append(abs(float(flat[at] - x)))  # the step as float64 has it
            values.append(problem.evaluate(name))
    finally:
        flat[at] = x
    (up, down), (right, left) = values, distances
    largest = max(abs(up), abs(down), abs(problem.value))
    return _Slopes(
        (up - down) / (right + left),
        (problem.value - down) / left,
        (up - problem.value) / right,
        _ROUNDING * largest / min(left, right),
    )


def _judge(problem: Problem, name: str, at: int, eps: float, tolerance: float) -> _Element:
    """Hold one analytic gradient against differences of several steps."""
    analytic = float(problem.gradients[name].reshape(-1)[at])
    first = eps * max(1.0, abs(float(problem.arrays[name].reshape(-1)[at])))
    tried = {1.0: _slopes(problem, name, at, first)}
    start = tried[1.0]
    if start.jump > _STRAIGHT * max(abs(start.left), abs(start.right)):
        tried[0.1] = _slopes(problem, name, at, 0.1 * first)
    best, best_error = start, math.inf
    for factor in _FACTORS:
        slopes = tried.get(factor) or tried.setdefault(factor, _slopes(problem, name, at, factor * first))
        error = _relative(analytic, slopes.central)
        if error < best_error:
            best, best_error = slopes, error
        if error <= tolerance:
            return _Element("ok", error, slopes.central, _is_kink(tried))
        if factor >= 1.0 and abs(analytic - slopes.central) <= slopes.resolution:
            return _Element("unresolved", error, slopes.central, False)
    if _is_kink(tried):
        near = tried[0.1]
        low, high = sorted((near.left, near.right))
        slack = tolerance * max(abs(low), abs(high)) + near.resolution
        if low - slack <= analytic <= high + slack:
            return _Element("kink", best_error, best.central, True)
    return _Element("failed", best_error, best.central, False)


def _is_kink(tried: Mapping[float, _Slopes]) -> bool:
    """Return whether the slopes to the two sides differ in another way than curvature explains.

    The difference of a smooth function shrinks with the step. At a kink it stays, and beside one it vanishes as soon as the step does not
    reach the kink any more.
    """
    if 0.1 not in tried:
        return False
    large, small = tried[1.0], tried[0.1]
    if large.jump <= 10 * large.resolution:
        return False
    return not 0.05 <= small.jump / large.jump <= 0.2


def check_array(problem: Problem, name: str, chosen: NDArray[np.int64], eps: float, tolerance: float) -> ParameterCheck:
    """Judge the chosen elements of one array, numbered in C order."""
    array = problem.arrays[name]
    found = [_judge(problem, name, int(at), eps, tolerance) for at in chosen]
    outcomes = [element.outcome for element in found]
    # Those at a kink or too small have an error too, but it says nothing.
    ranked = [k for k, o in enumerate(outcomes) if o == "failed"] or [k for k, o in enumerate(outcomes) if o == "ok"]
    error, index, analytic, numeric = 0.0, (), 0.0, 0.0
    if ranked:
        worst = max(ranked, key=lambda k: found[k].error)
        error, numeric = found[worst].error, found[worst].numeric
        analytic = float(problem.gradients[name].reshape(-1)[chosen[worst]])
        index = tuple(int(i) for i in np.unravel_index(chosen[worst], array.shape))  # type: ignore[assignment]
    return ParameterCheck(
        name,
        array.shape,
        len(chosen),
        sum(element.near_kink for element in found),
        outcomes.count("unresolved"),
        outcomes.count("failed"),
        error,
        index,
        analytic,
        numeric,
    )
