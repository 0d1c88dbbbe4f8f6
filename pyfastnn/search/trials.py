"""How trials run: side by side, each with a seed of its own, whatever becomes of them."""

from __future__ import annotations

import inspect
import math
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn import _core
from pyfastnn.data import folds
from pyfastnn.nn.layer import number
from pyfastnn.search import scoring as scorings
from pyfastnn.search.scoring import Scoring
from pyfastnn.search.study import Study, Trial
from pyfastnn.train.many import SharedRows, side_by_side
from pyfastnn.train.prepare import as_stream
from pyfastnn.train.settings import GUARDS, is_whole
from pyfastnn.train.trainer import Trainer

Build = Callable[..., Trainer]
Rows = NDArray[np.int64]


@dataclass
class Setting:
    """What all trials of a search have in common; the arguments of `pyfastnn.search.random` by their names."""

    owner: str
    build: Build
    X: Any
    y: Any
    X_val: Any
    y_val: Any
    cv: Any
    scoring: str | scorings.Function | None
    batch_size: int
    shuffle: bool
    max_seconds: float | None
    threads: int | None
    seed: int
    guard: str | None
    keep: int
    verbose: int

    def check(self, names: Iterable[str]) -> None:
        """Raise TypeError or ValueError unless trials can run with these."""
        owner = self.owner
        if not callable(self.build):
            raise TypeError(f"{owner}: 'build' is {self.build!r}, expected a function that returns a Trainer")
        try:
            inspect.signature(self.build).bind(**dict.fromkeys(names))
        except TypeError as error:
            raise TypeError(f"{owner}: 'build' cannot be called with {', '.join(names)}: {error}") from None
        except ValueError:  # a callable that hides its signature shows what it takes when it is called
            pass
        check_whole(owner, {"batch_size": self.batch_size, "keep": self.keep})
        if self.threads is not None:
            check_whole(owner, {"threads": self.threads})
        if not is_whole(self.seed) or self.seed < 0:
            raise ValueError(f"{owner}: 'seed' is {self.seed!r}, expected a whole number of 0 or more")
        if self.max_seconds is not None:
            number(owner, "max_seconds", self.max_seconds, 0.0, math.inf, open_low=True)
        if self.guard not in GUARDS:
            raise ValueError(f"{owner}: 'guard' is {self.guard!r}, expected 'lecture', 'nonfinite' or None")
        if self.verbose not in (0, 1):
            raise ValueError(
                f"{owner}: 'verbose' is {self.verbose!r}, expected 0 (nothing) or 1 (a line for each trial)"
            )
        if (self.X_val is None) == (self.cv is None):
            both = "both" if self.cv is not None else "neither"
            raise ValueError(f"{owner}: {both} of 'X_val' and 'cv' given, expected X_val= and y_val=, or cv=")
        if self.X_val is not None and self.y_val is None and as_stream(self.X_val) is None:
            raise ValueError(f"{owner}: 'X_val' was given without 'y_val'")
        if self.cv is not None and as_stream(self.X) is not None:
            raise TypeError(f"{owner}: 'cv' is for rows in memory, 'X' is a stream; pass X_val= and y_val=")


def check_whole(owner: str, counts: Mapping[str, Any]) -> None:
    """Raise ValueError unless all are whole numbers of 1 or more."""
    for name, value in counts.items():
        if not is_whole(value) or value < 1:
            raise ValueError(f"{owner}: {name!r} is {value!r}, expected a whole number of 1 or more")


def derived(seed: int, stage: int, place: int) -> tuple[int, np.random.Generator]:
    """Return the seed of a trial's trainer and the generator of its parameters.

    Both follow from the seed of the search, the stage and the place in it: a longer search begins with the trials of a shorter one.
    """
    found = np.random.SeedSequence([int(seed), stage, place])
    words = found.generate_state(1, np.uint64)
    return int(words[0]) >> 11, np.random.Generator(np.random.Philox(found.spawn(1)[0]))


class _Job:
    """One fit: a trial, or one fold of it."""

    def __init__(self, trial: Trial, trainer: Trainer, fold: tuple[Rows, Rows] | None) -> None:
        self.trial, self.trainer, self.fold = trial, trainer, fold
        self.begun = False
        self.score = math.nan
        self.error = ""
        self.seconds = 0.0


class Stage:
    """The trials of one stage, run side by side.

    Parameters
    ----------
    setting : Setting
        Checked.
    study : Study
        Gets the trials.
    stage : int
        Its number.
    wanted : sequence of dict
        The parameters of the trials.
    epochs : int
        Epochs of each.
    deadline : float
        The time (`time.perf_counter`) to end at, infinite without a limit.
    """

    def __init__(
        self,
        setting: Setting,
        study: Study,
        stage: int,
        wanted: Sequence[dict[str, Any]],
        epochs: int,
        deadline: float,
    ) -> None:
        self._setting, self._study, self._epochs, self._deadline = setting, study, epochs, deadline
        first = len(study.trials)
        self._trials = [
            Trial(first + place, stage, params, derived(setting.seed, stage, place)[0])
            for place, params in enumerate(wanted)
        ]
        self._scoring: Scoring | None = None
        self._X = SharedRows(setting.X, "X")
        self._X_val = SharedRows(setting.X_val, "X_val")
        self._lock = threading.Lock()
        self._left: list[int] = []
        self._next = 0

    def run(self) -> None:
        """Run the trials; what they raise is recorded with them.

        Raises
        ------
        TypeError, ValueError
            If ``build`` does not return trainers with models of their own, or ``cv`` and ``scoring`` do not fit.
        """
        jobs = self._jobs()
        by_trial: dict[int, list[_Job]] = {trial.number: [] for trial in self._trials}
        for job in jobs:
            by_trial[job.trial.number].append(job)
        self._left = [len(by_trial[trial.number]) for trial in self._trials]
        first = self._trials[0].number

        def fit(place: int) -> None:
            job = jobs[place]
            self._fit(job, place == 0)
            with self._lock:
                of = job.trial.number - first
                self._left[of] -= 1
                if not self._left[of]:
                    self._finish(job.trial, by_trial[job.trial.number])
                self._show()

        with warnings.catch_warnings():
            # A trial that diverges is a result of the search, recorded with its reason.
            warnings.filterwarnings("ignore", "training stopped at step", RuntimeWarning)
            if jobs:
                at_once = _core.num_threads() if self._setting.threads is None else int(self._setting.threads)
                side_by_side([job.trainer for job in jobs], fit, min(len(jobs), at_once))
        self._end(by_trial)

    def _jobs(self) -> list[_Job]:
        """Build all trainers, in the order of the trials whatever runs beside what."""
        setting = self._setting
        jobs: list[_Job] = []
        parts: Sequence[tuple[Rows, Rows] | None] | None = [None] if setting.cv is None else None
        owners: dict[int, int] = {}
        for trial in self._trials:
            made: list[_Job] = []
            while parts is None or len(made) < len(parts):
                trainer = self._built(trial)
                if trainer is None:
                    break
                first = owners.setdefault(id(trainer.model), trial.number)
                if first != trial.number or any(job.trainer.model is trainer.model for job in made):
                    raise ValueError(
                        f"{setting.owner}: 'build' returned the same model twice, for the trials {first} and {trial.number}; "
                        "make a new one in every call"
                    )
                if self._scoring is None:
                    self._scoring = scorings.get(setting.owner, setting.scoring, trainer)
                    self._study.scoring, self._study.maximize = self._scoring.name, self._scoring.maximize
                if parts is None:
                    parts = _folds(setting, trainer)
                trainer.seed, trainer.guard = trial.seed, setting.guard
                made.append(_Job(trial, trainer, parts[len(made)]))
            else:
                jobs += made
        return jobs

    def _built(self, trial: Trial) -> Trainer | None:
        """Return a trainer with the parameters of a trial; None if that raised, which is recorded."""
        setting = self._setting
        try:
            trainer: object = setting.build(**trial.params)
        except Exception as error:
            trial.error, trial.stop_reason = _told(error), "failed"
            return None
        if not isinstance(trainer, Trainer):
            raise TypeError(f"{setting.owner}: 'build' returned {trainer!r}, expected a Trainer")
        return trainer

    def _fit(self, job: _Job, is_first: bool) -> None:
        """Train and judge; whatever is raised is recorded."""
        setting, trainer = self._setting, job.trainer
        begun = time.perf_counter()
        if begun >= self._deadline and not is_first:
            return
        job.begun = True
        try:
            X = self._X.of(trainer)
            trainer.fit(
                X,
                setting.y,
                rows=None if job.fold is None else job.fold[0],
                X_val=self._X_val.of(trainer),
                y_val=setting.y_val,
                epochs=self._epochs,
                batch_size=setting.batch_size,
                shuffle=setting.shuffle,
                max_seconds=None if math.isinf(self._deadline) else max(self._deadline - begun, 1e-3),
                verbose=0,
            )
            job.score = self._judge(job, X)
        except Exception as error:
            job.error = _told(error)
        job.seconds = time.perf_counter() - begun
        # The plans are compiled again should anybody train on; a hundred of them are a lot of memory.
        trainer._compiled = trainer._stepper = None

    def _judge(self, job: _Job, X: Any) -> float:
        """Return the score of the weights that a fit ended with."""
        setting, trainer, scoring = self._setting, job.trainer, self._scoring
        assert scoring is not None
        if job.fold is not None:
            held = job.fold[1]
            return float(scoring.function(trainer, _at(setting.X, held), _at(setting.y, held)))
        if scoring.recorded and trainer.history.rows and scoring.recorded in trainer.history.rows[-1]:
            # A fit that the guard stopped went back to the weights behind this row.
            return trainer.history.rows[-1][scoring.recorded]
        return float(scoring.function(trainer, setting.X_val, setting.y_val))

    def _finish(self, trial: Trial, jobs: list[_Job]) -> None:
        """Record what came of the folds of a trial."""
        if not all(job.begun for job in jobs):
            return
        reasons = [job.trainer.history.stop_reason for job in jobs]
        trial.error = next((job.error for job in jobs if job.error), "")
        trial.stop_reason = "failed" if trial.error else next((r for r in reasons if r != "finished"), "finished")
        trial.seconds = sum(job.seconds for job in jobs)
        trial.histories = [job.trainer.history for job in jobs]
        trial.scores = [job.score for job in jobs]
        if not trial.error:
            trial.score = float(np.mean(trial.scores))
            if jobs[0].fold is None:
                trial.trainer = jobs[0].trainer

    def _show(self) -> None:
        """Print the lines of the trials that are done, as far as all before them are."""
        while self._next < len(self._trials) and not self._left[self._next]:
            trial = self._trials[self._next]
            if self._setting.verbose and trial.stop_reason:
                column = self._scoring.column if self._scoring is not None else "score"
                sys.stdout.write(trial.line(column, self._next, len(self._trials)) + "\n")
                sys.stdout.flush()
            self._next += 1

    def _end(self, by_trial: Mapping[int, list[_Job]]) -> None:
        """Hand the trials that ran to the study."""
        study = self._study
        self._left = [0] * len(self._trials)
        self._show()
        ran = [trial for trial in self._trials if trial.stop_reason]
        reasons = {trial.stop_reason for trial in ran}
        reasons |= {job.trainer.history.stop_reason for jobs in by_trial.values() for job in jobs}
        if "interrupted" in reasons:
            study.stop_reason = "interrupted"
        elif len(ran) < len(self._trials) or "max_seconds" in reasons:
            study.stop_reason = "max_seconds"
        for trial in ran:
            trial.number = len(study.trials)
            study.trials.append(trial)
        kept = {id(trial) for trial in study.top(self._setting.keep)}
        for trial in study.trials:
            if id(trial) not in kept:
                trial.trainer = None


def _folds(setting: Setting, trainer: Trainer) -> list[tuple[Rows, Rows]]:
    """Return the folds that ``cv`` means."""
    cv, owner = setting.cv, setting.owner
    targets = next(iter(setting.y.values())) if isinstance(setting.y, Mapping) else setting.y
    if is_whole(cv):
        heads = trainer.heads
        labels = targets if len(heads) == 1 and heads[0].counts else None
        return folds(len(targets), int(cv), seed=setting.seed, stratify=labels)
    if hasattr(cv, "split") and not isinstance(cv, str):
        cv = cv.split(np.zeros((len(targets), 1)), targets)
    if isinstance(cv, str) or not isinstance(cv, Iterable):
        raise TypeError(f"{owner}: 'cv' is {setting.cv!r}, expected a number of folds or pairs of row numbers")
    found = [(np.asarray(train), np.asarray(held)) for train, held in cv]
    if not found:
        raise ValueError(f"{owner}: 'cv' has no folds")
    return found


def _at(rows: Any, numbers: Rows) -> Any:
    """Return rows by number, of every input where there are several."""
    if isinstance(rows, Mapping):
        return {name: _at(part, numbers) for name, part in rows.items()}
    if hasattr(rows, "tocsr"):
        return rows.tocsr()[numbers]
    return np.asarray(rows)[numbers]


def _told(error: Exception) -> str:
    """Return an error as one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())
