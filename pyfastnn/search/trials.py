"""How trials run: side by side, each with a seed of its own, whatever becomes of them."""

from __future__ import annotations

import math
import sys
import threading
import time
import warnings
from collections.abc import Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from pyfastnn import _core
from pyfastnn.diagnose.verdicts import TrainingWarning
from pyfastnn.search import scoring as scorings
from pyfastnn.search.fits import Data, Fold, How, Job, Outcome, folds_of, recorded, run, told
from pyfastnn.search.scoring import Scoring
from pyfastnn.search.setting import Setting
from pyfastnn.search.study import Study, Trial
from pyfastnn.train.history import Row
from pyfastnn.train.many import side_by_side
from pyfastnn.train.trainer import Trainer


class Watcher:
    """Is asked and told while trials run, from several threads; this one lets everything pass."""

    watches_epochs = False
    """Whether `epoch` is to be called: it cannot be where fits run in other processes."""

    def begins(self, trial: Trial) -> bool:
        """Return whether to run a trial."""
        return True

    def epoch(self, trial: Trial, trainer: Trainer, row: Row) -> bool:
        """Return whether to end the fit of a trial after an epoch."""
        return False

    def ended(self, trial: Trial) -> None:
        """Hear of a trial that has run."""


class Stage:
    """Trials that run side by side.

    Parameters
    ----------
    setting : Setting
        Checked.
    study : Study
        Gets the scoring, and the reason if not all trials run; the trials are put into it by `enroll`.
    trials : sequence of Trial
        What to run: parameters and seeds.
    epochs : int
        Epochs of each.
    data : Data
        The rows.
    deadline : float
        The time (`time.time`) to end at, infinite without a limit.
    first, of : int, optional
        The number of the trial that is the first one in the lines, and how many they count; by default those given.
    watcher : Watcher, optional
        Decides which trials run, and hears of them.
    """

    def __init__(
        self,
        setting: Setting,
        study: Study,
        trials: Sequence[Trial],
        epochs: int,
        data: Data,
        deadline: float,
        *,
        first: int | None = None,
        of: int | None = None,
        watcher: Watcher | None = None,
    ) -> None:
        self._setting, self._study, self._trials = setting, study, trials
        self._epochs, self._data, self._deadline = epochs, data, deadline
        self._first = trials[0].number if first is None else first
        self._of = len(trials) if of is None else of
        self._watcher = Watcher() if watcher is None else watcher
        self._scoring: Scoring | None = None
        self._lock = threading.Lock()
        self._wanted: dict[int, bool] = {}
        self._of_trial: dict[int, list[Job]] = {trial.number: [] for trial in trials}
        self._at = {trial.number: place for place, trial in enumerate(trials)}
        self._left = [0] * len(trials)
        self._next = 0

    def run(self) -> None:
        """Run the trials; what they raise is recorded with them.

        Raises
        ------
        TypeError, ValueError
            If ``build`` does not return trainers with models of their own, or ``cv`` and ``scoring`` do not fit.
        OSError
            If a trial cannot be written down.
        """
        setting = self._setting
        jobs = self._jobs()
        for trial in self._trials:
            if trial.stop_reason:  # it could not be built
                self._watcher.ended(trial)
        for job in jobs:
            self._of_trial[job.trial.number].append(job)
        self._left = [len(self._of_trial[trial.number]) for trial in self._trials]
        with warnings.catch_warnings():
            # A trial that goes wrong is a result of the search, recorded with its reason.
            warnings.simplefilter("ignore", TrainingWarning)
            if jobs and self._scoring is not None:
                how = How(self._scoring, self._epochs, setting.batch_size, setting.shuffle, self._deadline)
                if setting.parallel == "joblib":
                    from pyfastnn.search.elsewhere import run_elsewhere

                    run_elsewhere(jobs, how, self._data, setting.threads, self.begins, self.folder, self.ended)
                else:
                    self._side_by_side(jobs, how)
        self._left = [0] * len(self._trials)
        self._show()
        reasons = {trial.stop_reason for trial in self._trials}
        reasons |= {job.trainer.history.stop_reason for job in jobs}
        if "interrupted" in reasons:
            self._study.stop_reason = "interrupted"
        elif "max_seconds" in reasons or any(
            not t.stop_reason and self._wanted.get(t.number, True) for t in self._trials
        ):
            self._study.stop_reason = "max_seconds"

    def begins(self, job: Job) -> bool:
        """Return whether a job is to run; all folds of a trial have the same answer."""
        with self._lock:
            number = job.trial.number
            if number not in self._wanted:
                self._wanted[number] = self._watcher.begins(job.trial)
            return self._wanted[number]

    def folder(self, job: Job) -> Any:
        """Return where a job is written down; None if nowhere."""
        base, trial = self._setting.run_dir, job.trial
        if base is None:
            return None
        from pyfastnn.train.run_directory import RunDirectory

        with self._lock:
            if not trial.run_dir:
                trial.run_dir = new_folder(Path(base), f"trial_{trial.number:04d}")
        path = Path(trial.run_dir)
        jobs = self._of_trial[trial.number]
        if job.fold is not None:
            path /= f"fold_{next(k for k, other in enumerate(jobs) if other is job)}"
        return RunDirectory(path, params=trial.params, space=self._study.spaces[trial.stage])

    def ended(self, job: Job, outcome: Outcome | None) -> None:
        """Record what came of a job."""
        job.outcome = outcome
        trial = job.trial
        with self._lock:
            self._left[self._at[trial.number]] -= 1
            if not self._left[self._at[trial.number]]:
                recorded(trial, self._of_trial[trial.number])
                if trial.stop_reason:
                    self._watcher.ended(trial)
            self._show()

    def _side_by_side(self, jobs: list[Job], how: How) -> None:
        """Run jobs in threads of this process."""
        setting, watcher = self._setting, self._watcher
        raised: list[Exception] = []

        def fit(place: int) -> None:
            job = jobs[place]
            outcome = None
            least = job.trial is jobs[0].trial
            if self.begins(job) and (least or not how.over):
                callback = partial(watcher.epoch, job.trial) if watcher.watches_epochs else None
                given: dict[str, Any] = {"callback": callback, "run_dir": self.folder(job)}
                outcome = run(job.trainer, job.fold, how, self._data, least=least, **given)
            self.ended(job, outcome)

        def safely(place: int) -> None:
            # What a fit raises is recorded with it. A full disk, a storage that is gone, an output that was closed end the search.
            try:
                fit(place)
            except Exception as error:
                raised.append(error)
                held = jobs[place].trainer.shared_interrupts
                if held is not None:
                    held.pressed = True  # the fits beside it end as they do at Ctrl-C

        at_once = _core.num_threads() if setting.threads is None else int(setting.threads)
        side_by_side([job.trainer for job in jobs], safely, min(len(jobs), at_once))
        if raised:
            raise raised[0]

    def _jobs(self) -> list[Job]:
        """Build all trainers, in the order of the trials whatever runs beside what."""
        setting = self._setting
        jobs: list[Job] = []
        parts: Sequence[Fold | None] | None = [None] if setting.cv is None else None
        owners: dict[int, int] = {}
        for trial in self._trials:
            made: list[Job] = []
            while parts is None or len(made) < len(parts):
                trainer = built(setting, trial)
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
                    parts = folds_of(setting, trainer)
                trainer.seed, trainer.guard = trial.seed, setting.guard
                trainer.preflight = False  # as with verdicts: first weights and rates are what is searched
                made.append(Job(trial, trainer, parts[len(made)]))
            else:
                jobs += made
        return jobs

    def _show(self) -> None:
        """Print the lines of the trials that are done, as far as all before them are."""
        while self._next < len(self._trials) and not self._left[self._next]:
            trial = self._trials[self._next]
            if self._setting.verbose and trial.stop_reason:
                column = self._scoring.column if self._scoring is not None else "score"
                sys.stdout.write(trial.line(column, trial.number - self._first, self._of) + "\n")
                sys.stdout.flush()
            self._next += 1


def built(setting: Setting, trial: Trial) -> Trainer | None:
    """Return a trainer with the parameters of a trial; None if that raised, which is recorded.

    Raises
    ------
    TypeError
        If ``build`` returns something else.
    """
    try:
        trainer: object = setting.build(**trial.params)
    except Exception as error:
        trial.error, trial.stop_reason = told(error), "failed"
        return None
    if not isinstance(trainer, Trainer):
        raise TypeError(f"{setting.owner}: 'build' returned {trainer!r}, expected a Trainer")
    return trainer


def enroll(study: Study, trials: Sequence[Trial], keep: int) -> None:
    """Put the trials that ran into the study, and let all trainers go but the best."""
    for trial in trials:
        if trial.stop_reason:
            trial.number = len(study.trials)
            study.trials.append(trial)
    kept = {id(trial) for trial in study.top(keep)}
    for trial in study.trials:
        if id(trial) not in kept:
            trial.trainer = None


def ends_at(setting: Setting) -> float:
    """Return the time (`time.time`) that a search that begins now ends at."""
    return math.inf if setting.max_seconds is None else time.time() + setting.max_seconds


def new_folder(base: Path, name: str) -> str:
    """Make a folder that nobody else has, by this name or with a number after it, and return its path."""
    base.mkdir(parents=True, exist_ok=True)
    numbers = count(2)
    path = base / name
    while True:
        try:
            path.mkdir()
        except FileExistsError:
            path = base / f"{name}-{next(numbers)}"
        else:
            return str(path)
