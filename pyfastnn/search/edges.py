"""Whether the best lies outside of the declared ranges.

That the best trial has the smallest or largest value tried says little: with many trials near an end, noise picks one of them. An edge is
reported if all of these hold, with positions in the scale of the range (0 and 1 are its ends):

* the best tenth of the trials, 3 at least, lie near it: their mean distance is under a quarter of the range;
* a third or more of the trials still nearer to it belong to the best three quarters, the *good* ones: where those trials fail, the range
  is wide enough;
* the parabola fitted to the good trials (least squares) still rises at the edge;
* in the half of the range at that edge the good trials rise towards it: a line through them has a slope of more than 1.5 standard
  errors. A plateau, which ends anywhere or nowhere, and a parameter that does not matter have none.

In a simulation (score ``-(u - best)**2`` plus noise of deviation 0.02, ``u`` uniform in 0..1) with the best up to half the range's width
outside, this misses 3 % of the cases at 30 and 60 trials, where "best equals largest tried" misses a third and a half; with the best
anywhere inside, 4 % are reported at 30 trials and fewer at 60. At an edge that a grid tried, that equality is the rule.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyfastnn.search.spaces import Range

if TYPE_CHECKING:
    from pyfastnn.search.study import Study, Trial

LEAST_TRIALS = 10
NEAR = 0.25
BEST_LEAST = 3
BEST_SHARE = 0.1
GOOD_SHARE = 3 / 4
LEAST_T = 1.5
SAME_END = 1e-9


def beyond(positions: ArrayLike, scores: ArrayLike) -> str:
    """Say beyond which end of a range the best seems to lie.

    Parameters
    ----------
    positions : array_like, shape (n,)
        Positions of the trials in the range, 0 to 1.
    scores : array_like, shape (n,)
        Their scores, finite; higher is better.

    Returns
    -------
    str
        ``"upper"``, ``"lower"``, or ``""`` for neither. Nothing is said of under 10 trials, or of under 4 different positions.

    Raises
    ------
    ValueError
        If shapes do not fit or a number is not finite.
    """
    u: NDArray[np.float64] = np.asarray(positions, np.float64)
    s: NDArray[np.float64] = np.asarray(scores, np.float64)
    if u.ndim != 1 or u.shape != s.shape:
        raise ValueError(f"beyond: 'positions' has shape {u.shape} and 'scores' {s.shape}, expected (n,) of both")
    if not (np.isfinite(u).all() and np.isfinite(s).all()):
        raise ValueError("beyond: 'positions' or 'scores' holds NaN or infinity")
    if len(u) < LEAST_TRIALS:
        return ""
    order = np.argsort(-s, kind="stable")
    best = order[: max(BEST_LEAST, int(BEST_SHARE * len(u)))]
    good = order[: math.ceil(GOOD_SHARE * len(u))]
    is_good = np.zeros(len(u), bool)
    is_good[good] = True
    for edge, name in ((1.0, "upper"), (0.0, "lower")):
        distance = np.abs(edge - u)
        near = float(distance[best].mean())
        nearer = is_good[distance < near]
        if near < NEAR and 3 * nearer.sum() >= len(nearer) and _rises(distance[good], s[good]):
            return name
    return ""


def _rises(distance: NDArray[np.float64], scores: NDArray[np.float64]) -> bool:
    """Return whether scores rise towards an edge: a line through those near it, and a parabola through all."""
    half = distance < 0.5
    if len(np.unique(distance)) < 4 or len(np.unique(distance[half])) < 3:
        return False
    x, y = distance[half] - distance[half].mean(), scores[half] - scores[half].mean()
    spread = float(x @ x)
    slope = -float(x @ y) / spread
    left = float(np.sum((y + slope * x) ** 2))
    if slope <= LEAST_T * math.sqrt(left / (len(x) - 2) / spread):
        return False
    terms = np.stack([np.ones_like(distance), distance, distance**2], axis=1)
    return bool(np.linalg.lstsq(terms, scores, rcond=None)[0][1] < 0)


def warnings_of(study: Study, *, grid: bool = False) -> list[str]:
    """Return what a study has to say about the ends of its ranges.

    Parameters
    ----------
    study : Study
        The trials of its last stage are looked at, at those ends of what it drew from that are ends of the declared ranges.
    grid : bool, default False
        Whether the ends themselves were tried.

    Returns
    -------
    list of str
        One line for each edge, with the wider range. Ranges that begin at 0, or whole numbers at 1, are not widened below it: shares
        and counts end there.
    """
    found = []
    stage = len(study.spaces) - 1
    trials = [trial for trial in study.trials if trial.stage == stage and trial.ranked]
    for name, part in study.spaces[-1].items():
        declared = study.spaces[0][name]
        if not trials or not isinstance(part, Range) or not isinstance(declared, Range):
            continue
        edge = _at_end(study, name, part) if grid else _beyond(study, trials, name, part)
        if edge and _is_end(part, declared, edge == "upper") and declared.widened(edge == "upper") != declared:
            found.append(_words(study, trials, name, declared, edge))
    return found


def _beyond(study: Study, trials: Sequence[Trial], name: str, part: Range) -> str:
    sign = 1.0 if study.maximize else -1.0
    return beyond([part.position(t.params[name]) for t in trials], [sign * t.score for t in trials])


def _at_end(study: Study, name: str, part: Range) -> str:
    """Return the end of a range that the best trial of a grid has, unless another value does as well."""
    best = study.best
    if any(t.score == best.score and t.params[name] != best.params[name] for t in study.trials):
        return ""
    value = best.params[name]
    return "upper" if value >= part.high else "lower" if value <= part.low else ""


def _is_end(part: Range, declared: Range, upper: bool) -> bool:
    """Return whether an end of a finer range is one of the declared range."""
    if upper:
        return abs(declared.position(part.high) - declared.position(declared.high)) < SAME_END
    return abs(declared.position(part.low) - declared.position(declared.low)) < SAME_END


def _words(study: Study, trials: Sequence[Trial], name: str, declared: Range, edge: str) -> str:
    """Return the warning about an edge, which offers a wider range."""
    sign = -1.0 if study.maximize else 1.0
    best = min(trials, key=lambda t: (sign * t.score, t.number)).params[name]
    end = declared.high if edge == "upper" else declared.low
    return f"best {name} {best:.3g} lies at the {edge} edge {end:g}: widen it to {declared.widened(edge == 'upper')}"


def show(lines: Sequence[str]) -> None:
    """Print warnings of a search after the lines of its trials."""
    for line in lines:
        sys.stdout.write(f"warning: {line}\n")
    sys.stdout.flush()
