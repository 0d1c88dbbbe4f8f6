"""Which parameters are tried: drawn at random, from a grid, or from coarse to fine."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from pyfastnn._names import helpful_keywords
from pyfastnn.search.scoring import Function
from pyfastnn.search.setting import Build, check_whole, setting_of
from pyfastnn.search.spaces import Space, checked_space
from pyfastnn.search.stages import drawn, searched
from pyfastnn.search.study import Study

MOST_POINTS = 100_000
"""Trials that a grid may have."""


@helpful_keywords
def random(
    build: Build,
    space: Mapping[str, Any],
    X: Any,
    y: Any = None,
    *,
    X_val: Any = None,
    y_val: Any = None,
    cv: Any = None,
    scoring: str | Function | None = None,
    trials: int = 20,
    epochs: int = 10,
    batch_size: int = 32,
    shuffle: bool = True,
    max_seconds: float | None = None,
    threads: int | None = None,
    parallel: str = "threads",
    seed: int = 0,
    guard: str | None = "lecture",
    keep: int = 10,
    run_dir: str | os.PathLike[str] | None = None,
    verbose: int = 1,
) -> Study:
    """Try parameters drawn at random from their spaces, side by side, each trial on one thread.

    With several parameters of which few matter, random draws find more than a grid of the same size, which tries the same few values of
    those that matter again and again (Bergstra and Bengio 2012, Random Search for Hyper-Parameter Optimization, JMLR 13).

    Parameters
    ----------
    build : callable
        ``build(**params)`` returns a new `pyfastnn.Trainer`, with a model of its own. It is called for all trials before the first one
        runs, in their order.
    space : dict
        By name of an argument of ``build`` a `uniform`, `log_uniform`, `integers` or `choice`; a list means a choice.
    X, y : array_like
        Training rows and targets, as for `Trainer.fit`; read in place by all trials.
    X_val, y_val : array_like, optional
        Rows and targets that trials are judged by.
    cv : int, iterable of (rows, rows), or splitter, optional
        In place of ``X_val``: folds (`pyfastnn.data.folds`, with the shares of the classes kept), or pairs of row numbers for training and
        validation, or an object with scikit-learn's ``split``. ``build`` is called for each fold; preprocessing that is not made
        within it would be fitted on the rows of one fold and used by all.
    scoring : str or callable, optional
        ``"accuracy"``, ``"loss"`` (lower is better) or ``"roc_auc"`` (for more than two classes the mean over classes, each against the
        rest), or a function of trainer, ``X`` and ``y`` whose value is better if higher. By default accuracy for classifiers, else loss.
    trials : int, default 20
        How many.
    epochs, batch_size, shuffle
        As for `Trainer.fit`, for each trial.
    max_seconds : float, optional
        End the search after so many seconds: trials that run are ended after their step, others do not begin. Trials cut short are
        judged as they stand, with the ``stop_reason`` ``"max_seconds"``.
    threads : int, optional
        Trials at a time; by default the number of threads of the process. The results do not depend on it.
    parallel : {"threads", "joblib"}, default "threads"
        ``"joblib"`` hands trials to other processes through `joblib.Parallel`, with the backend that `joblib.parallel_config` names:
        processes of this machine, or a cluster of dask. Results are the same bits where processors have the same instruction set.
    seed : int, default 0
        0 or more. Parameters and seed of every trial follow from it: a longer search begins with the trials of a shorter one.
    guard : {"lecture", "nonfinite", None}, default "lecture"
        The guard of all trainers, see `pyfastnn.Trainer`: by default a trial ends when its loss exceeds three times the first.
    keep : int, default 10
        Trainers to keep, those of the best trials. While a stage runs, the weights of all its trials are in memory.
    run_dir : path, optional
        A folder, in which every trial writes its run down in a folder of its own, ``trial_0000`` and so on (under ``cv`` with one for
        each fold), as ``Trainer.fit(run_dir=...)`` does: ``pyfastnn report`` draws them.
    verbose : int, default 1
        1 prints a line for each trial, in their order, and the warnings; 0 prints nothing.

    Returns
    -------
    Study
        What came of it. Trials that fail or diverge are in it. Ctrl-C ends the search cleanly, with the trials so far.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, or ``build`` does not return trainers with models of their own.
    ImportError
        If ``parallel="joblib"`` and joblib is missing; names the extra to install.
    """
    setting = setting_of("random", locals())
    check_whole("random", {"trials": trials})
    return searched(setting, space, [(trials, epochs)], drawn(seed))


@helpful_keywords
def grid(
    build: Build,
    space: Mapping[str, Any],
    X: Any,
    y: Any = None,
    *,
    X_val: Any = None,
    y_val: Any = None,
    cv: Any = None,
    scoring: str | Function | None = None,
    points: int = 5,
    epochs: int = 10,
    batch_size: int = 32,
    shuffle: bool = True,
    max_seconds: float | None = None,
    threads: int | None = None,
    parallel: str = "threads",
    seed: int = 0,
    guard: str | None = "lecture",
    keep: int = 10,
    run_dir: str | os.PathLike[str] | None = None,
    verbose: int = 1,
) -> Study:
    """Try all combinations of some points of each space.

    Parameters
    ----------
    build, space, X, y, X_val, y_val, cv, scoring
        As for `random`.
    points : int, default 5
        Points of each range, spread evenly in its scale, both ends among them; of a choice all values are tried.
    epochs, batch_size, shuffle, max_seconds, threads, parallel, seed, guard, keep, run_dir, verbose
        As for `random`.

    Returns
    -------
    Study
        What came of it; the parameter named last changes fastest.

    Raises
    ------
    TypeError, ValueError
        As for `random`, or if there are more than 100,000 combinations.
    """
    setting = setting_of("grid", locals())
    check_whole("grid", {"points": points})
    found = [part.points(points) for part in checked_space("grid", space).values()]
    count = math.prod(map(len, found))
    if count > MOST_POINTS:
        raise ValueError(
            f"grid: 'space' has {count} combinations, at most {MOST_POINTS} are tried; use random, or fewer points"
        )

    def combinations(part: Space, count: int, stage: int) -> list[dict[str, Any]]:
        return [dict(zip(part, values, strict=True)) for values in itertools.product(*found)]

    return searched(setting, space, [(count, epochs)], combinations, grid=True)


@helpful_keywords
def coarse_to_fine(
    build: Build,
    space: Mapping[str, Any],
    X: Any,
    y: Any = None,
    *,
    X_val: Any = None,
    y_val: Any = None,
    cv: Any = None,
    scoring: str | Function | None = None,
    stages: Sequence[tuple[int, int]] = ((20, 3), (20, 10)),
    batch_size: int = 32,
    shuffle: bool = True,
    max_seconds: float | None = None,
    threads: int | None = None,
    parallel: str = "threads",
    seed: int = 0,
    guard: str | None = "lecture",
    keep: int = 10,
    run_dir: str | os.PathLike[str] | None = None,
    verbose: int = 1,
) -> Study:
    """Search at random in stages, each in the part of the ranges where the one before found its best.

    The rule: the best tenth of a stage's trials, 5 at least, span an interval of each range (in its scale); the next stage draws from it
    and 5 % of the old range on either side, never beyond the old range. A parameter that does not matter has its best trials everywhere
    and keeps its range. Of a choice the values among those trials are left.

    Parameters
    ----------
    build, space, X, y, X_val, y_val, cv, scoring
        As for `random`.
    stages : sequence of (int, int), default ((20, 3), (20, 10))
        Trials and epochs of each stage.
    batch_size, shuffle, max_seconds, threads, parallel, seed, guard, keep, run_dir, verbose
        As for `random`; the time is for all stages.

    Returns
    -------
    Study
        The trials of all stages; ``study.spaces`` has what each drew from. Scores of stages with unlike epochs are compared as they are.

    Raises
    ------
    TypeError, ValueError
        As for `random`, or if ``stages`` are no pairs of whole numbers.
    """
    setting = setting_of("coarse_to_fine", locals())
    return searched(setting, space, _checked_stages(stages), drawn(seed))


def _checked_stages(stages: Any) -> list[tuple[int, int]]:
    """Return stages as pairs of whole numbers."""
    try:
        found = [(trials, epochs) for trials, epochs in stages]
    except (TypeError, ValueError):
        raise TypeError(
            f"coarse_to_fine: 'stages' is {stages!r}, expected pairs of trials and epochs such as [(100, 5), (100, 5)]"
        ) from None
    if not found:
        raise ValueError("coarse_to_fine: 'stages' is empty")
    for place, (trials, epochs) in enumerate(found):
        check_whole("coarse_to_fine", {f"stages[{place}][0]": trials, f"stages[{place}][1]": epochs})
    return found
