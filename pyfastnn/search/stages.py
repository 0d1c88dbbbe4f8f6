"""Searches as stages: what is drawn for each, run one after the other, then judged at the edges."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pyfastnn.search import edges
from pyfastnn.search.fits import Data
from pyfastnn.search.setting import Setting, check_whole, derived
from pyfastnn.search.spaces import Choice, Range, Space, checked_space
from pyfastnn.search.study import Study, Trial
from pyfastnn.search.trials import Stage, ends_at, enroll

BEST_SHARE, BEST_LEAST = 0.1, 5
"""The finer range holds the best tenth of the trials, and the best 5 at least."""
MARGIN = 0.05
"""And goes on by so much of the old range on either side."""

Wanted = Callable[[Space, int, int], "list[dict[str, Any]]"]


def drawn(seed: int) -> Wanted:
    """Return what draws the parameters of a stage."""

    def draw(space: Space, count: int, stage: int) -> list[dict[str, Any]]:
        wanted = []
        for place in range(count):
            rng = derived(seed, stage, place)[1]
            wanted.append({name: part.draw(rng) for name, part in space.items()})
        return wanted

    return draw


def narrowed(space: Space, best: Sequence[Trial]) -> Space:
    """Return the part of a space that the next stage draws from, by the rule of `coarse_to_fine`.

    Parameters
    ----------
    space : dict
        What the stage drew from.
    best : sequence of Trial
        Its best trials.

    Returns
    -------
    dict
        As ``space``, with narrower parts.
    """
    found: Space = {}
    for name, part in space.items():
        values = [trial.params[name] for trial in best]
        if isinstance(part, Range):
            places = [part.position(value) for value in values]
            found[name] = part.part(min(places) - MARGIN, max(places) + MARGIN)
        else:
            found[name] = Choice(tuple(v for v in part.values if any(v is w or v == w for w in values)))
    return found


def searched(
    setting: Setting, space: Mapping[str, Any], stages: Sequence[tuple[int, int]], wanted: Wanted, *, grid: bool = False
) -> Study:
    """Run stages one after the other.

    Parameters
    ----------
    setting : Setting
        Not checked yet.
    space : dict
        As the user wrote it.
    stages : sequence of (int, int)
        Trials and epochs of each.
    wanted : callable
        Returns the parameters of a stage's trials from space, number of trials and stage.
    grid : bool, default False
        Whether the ends of the ranges were tried.

    Returns
    -------
    Study
        What came of it.
    """
    part = checked_space(setting.owner, space)
    setting.check(part)
    for _, epochs in stages:
        check_whole(setting.owner, {"epochs": epochs})
    begun, deadline = time.perf_counter(), ends_at(setting)
    data = Data(setting.X, setting.y, setting.X_val, setting.y_val)
    study = Study(part)
    study.stop_reason = "finished"
    for stage, (count, epochs) in enumerate(stages):
        if stage:
            ran = sum(trial.stage == stage - 1 for trial in study.trials)
            best = study.top(max(BEST_LEAST, math.ceil(BEST_SHARE * ran)), stage - 1)
            if not best or study.stop_reason != "finished" or time.time() >= deadline:
                break
            part = narrowed(part, best)
            study.spaces.append(part)
        first = len(study.trials)
        trials = [
            Trial(first + place, stage, params, derived(setting.seed, stage, place)[0])
            for place, params in enumerate(wanted(part, count, stage))
        ]
        Stage(setting, study, trials, epochs, data, deadline).run()
        enroll(study, trials, setting.keep)
    finished(study, setting, begun, grid=grid)
    return study


def finished(study: Study, setting: Setting, begun: float, *, grid: bool = False) -> None:
    """Write down the time since ``begun``, and what there is to say about the ranges."""
    study.seconds = time.perf_counter() - begun
    study.warnings = edges.warnings_of(study, grid=grid)
    if setting.verbose:
        edges.show(study.warnings)
