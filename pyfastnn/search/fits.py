"""One fit of a search: trained, judged, and whatever it raises recorded; here or in another process."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn.data import folds
from pyfastnn.search.scoring import Scoring
from pyfastnn.search.setting import Setting
from pyfastnn.search.study import Trial
from pyfastnn.train.history import Row
from pyfastnn.train.many import SharedRows
from pyfastnn.train.settings import is_whole
from pyfastnn.train.trainer import Trainer

Rows = NDArray[np.int64]
Fold = tuple[Rows, Rows]


@dataclass(frozen=True)
class How:
    """What the fits of a stage have in common.

    Attributes
    ----------
    scoring : Scoring
        What they are judged by.
    epochs, batch_size, shuffle
        As for `Trainer.fit`.
    deadline : float
        The time (`time.time`, which other machines have too) to end at, infinite without a limit.
    """

    scoring: Scoring
    epochs: int
    batch_size: int
    shuffle: bool
    deadline: float

    @property
    def over(self) -> bool:
        """Whether the time is over."""
        return time.time() >= self.deadline


class Data:
    """The rows of a search; numbers of other kinds are converted once for all that read them."""

    def __init__(self, X: Any, y: Any, X_val: Any, y_val: Any) -> None:
        self.given = X, y, X_val, y_val
        self.y, self.y_val = y, y_val
        self._X, self._X_val = SharedRows(X, "X"), SharedRows(X_val, "X_val")

    def of(self, trainer: Trainer) -> tuple[Any, Any]:
        """Return the rows for training and validation as the model of a trainer reads them."""
        return self._X.of(trainer), self._X_val.of(trainer)


@dataclass
class Job:
    """One fit: a trial, or one fold of it.

    Attributes
    ----------
    trial : Trial
        Whose it is.
    trainer : Trainer
        With the parameters and the seed of the trial.
    fold : pair of arrays of int, or None
        Rows to train on and to be judged by.
    outcome : Outcome or None
        What came of it; None until it has run.
    """

    trial: Trial
    trainer: Trainer
    fold: Fold | None
    outcome: Outcome | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of a fit: the score of the weights it ended with, NaN with an ``error``, and its time."""

    score: float
    error: str
    seconds: float


def run(
    trainer: Trainer,
    fold: Fold | None,
    how: How,
    data: Data,
    *,
    least: bool = False,
    callback: Callable[[Trainer, Row], object] | None = None,
    run_dir: Any = None,
) -> Outcome | None:
    """Train and judge.

    Parameters
    ----------
    trainer : Trainer
        Trained where it is.
    fold : pair of arrays of int, or None
        Rows to train on and to be judged by; None for all, judged by the validation rows.
    how : How
        What fits have in common.
    data : Data
        The rows.
    least : bool, default False
        Whether it runs even after the deadline, for a step.
    callback : callable, optional
        As for `Trainer.fit`.
    run_dir : path or RunDirectory, optional
        As for `Trainer.fit`.

    Returns
    -------
    Outcome or None
        What came of it, also if that was an error; None if the time was over before.
    """
    begun, left = time.perf_counter(), how.deadline - time.time()
    if left <= 0 and not least:
        return None
    more: dict[str, Any] = {} if run_dir is None else {"run_dir": run_dir}
    score, error = math.nan, ""
    try:
        X, X_val = data.of(trainer)
        trainer.fit(
            X,
            data.y,
            rows=None if fold is None else fold[0],
            X_val=X_val,
            y_val=data.y_val,
            epochs=how.epochs,
            batch_size=how.batch_size,
            shuffle=how.shuffle,
            max_seconds=None if math.isinf(left) else max(left, 1e-3),
            callbacks=() if callback is None else (callback,),
            verbose=0,
            **more,
        )
        score = judged(trainer, fold, how.scoring, data)
    except Exception as raised:
        error = told(raised)
    # The plans are compiled again should anybody train on; a hundred of them are a lot of memory.
    trainer._compiled = trainer._stepper = None
    return Outcome(score, error, time.perf_counter() - begun)


def judged(trainer: Trainer, fold: Fold | None, scoring: Scoring, data: Data) -> float:
    """Return the score of the weights that a trainer has now."""
    X, y, X_val, y_val = data.given
    if fold is not None:
        return float(scoring.function(trainer, _at(X, fold[1]), _at(y, fold[1])))
    if scoring.recorded and trainer.history.rows and scoring.recorded in trainer.history.rows[-1]:
        # A fit that the guard stopped went back to the weights after this row.
        return trainer.history.rows[-1][scoring.recorded]
    return float(scoring.function(trainer, X_val, y_val))


def folds_of(setting: Setting, trainer: Trainer) -> list[Fold]:
    """Return the folds that ``cv`` means."""
    cv, owner = setting.cv, setting.owner
    targets = next(iter(setting.y.values())) if isinstance(setting.y, Mapping) else setting.y
    if is_whole(cv):
        if not 2 <= int(cv) <= len(targets):
            raise ValueError(
                f"{owner}: 'cv' is {cv!r} for {len(targets)} rows, expected from 2 to {len(targets)} folds"
            )
        heads = trainer.heads
        labels = targets if len(heads) == 1 and heads[0].counts else None
        try:
            return folds(len(targets), int(cv), seed=setting.seed, stratify=labels)
        except ValueError as error:
            why = str(error).removeprefix("folds: ").replace("'stratify' has", "'y' has")
            raise ValueError(f"{owner}: 'cv' is {cv!r}, and {why}") from None
    if hasattr(cv, "split") and not isinstance(cv, str):
        cv = cv.split(np.zeros((len(targets), 1)), targets)
    if isinstance(cv, str) or not isinstance(cv, Iterable):
        raise TypeError(f"{owner}: 'cv' is {setting.cv!r}, expected a number of folds or pairs of row numbers")
    found = [(np.asarray(train), np.asarray(held)) for train, held in cv]
    if not found:
        raise ValueError(f"{owner}: 'cv' has no folds")
    return found


def recorded(trial: Trial, jobs: Sequence[Job]) -> None:
    """Record with a trial what came of its folds; nothing unless all have run."""
    outcomes = [job.outcome for job in jobs if job.outcome is not None]
    if not outcomes or len(outcomes) < len(jobs):
        return
    reasons = [job.trainer.history.stop_reason for job in jobs]
    trial.error = next((outcome.error for outcome in outcomes if outcome.error), "")
    trial.stop_reason = "failed" if trial.error else next((r for r in reasons if r != "finished"), "finished")
    trial.seconds = sum(outcome.seconds for outcome in outcomes)
    trial.histories = [job.trainer.history for job in jobs]
    trial.scores = [outcome.score for outcome in outcomes]
    if not trial.error:
        trial.score = float(np.mean(trial.scores))
        if jobs[0].fold is None:
            trial.trainer = jobs[0].trainer


def _at(rows: Any, numbers: Rows) -> Any:
    """Return rows by number, of every input where there are several."""
    if isinstance(rows, Mapping):
        return {name: _at(part, numbers) for name, part in rows.items()}
    if hasattr(rows, "tocsr"):
        return rows.tocsr()[numbers]
    return np.asarray(rows)[numbers]


def told(error: Exception) -> str:
    """Return an error as one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())
