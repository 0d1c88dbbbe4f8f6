"""Searches by Optuna: quasi-random points and TPE, pruners, storages, several processes on one study."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from pyfastnn._names import helpful_keywords
from pyfastnn.search import scoring as scorings
from pyfastnn.search.fingerprint import rows_of
from pyfastnn.search.fits import Data
from pyfastnn.search.ledger import Ledger
from pyfastnn.search.proposals import Proposals, labels_of, optuna_module, quiet
from pyfastnn.search.scoring import Function
from pyfastnn.search.setting import Build, Setting, check_whole, derived, setting_of
from pyfastnn.search.spaces import Choice, Space, checked_space
from pyfastnn.search.stages import drawn, finished
from pyfastnn.search.study import Study, Trial
from pyfastnn.search.trials import Stage, Watcher, built, ends_at, enroll
from pyfastnn.train.history import Row
from pyfastnn.train.trainer import Trainer

_TRIES = 10
"""Sets of parameters that are tried to find out what trials are judged by."""
_PATIENCE = 0.2
"""Seconds between looks into a storage whether a trial has ended elsewhere."""


@helpful_keywords
def optuna(
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
    sampler: str | Callable[[int], Any] = "tpe",
    pruner: Any = None,
    round_size: int = 8,
    storage: Any = None,
    name: str = "search",
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
    """Try the parameters that a sampler of Optuna proposes, in rounds whose trials run side by side.

    A round is asked for as a whole and told as a whole, in its order. So parameters, pruning and scores follow from the seed: not from how
    many trials run at once, nor from how many processes share the work, nor from whether the search was interrupted in between.

    Parameters
    ----------
    build, space, X, y, X_val, y_val, cv, scoring
        As for `random`. ``build`` is called once more, for a trainer that shows what trials are judged by.
    trials : int, default 20
        How many there are to be in the study, those among them that are there already.
    epochs : int, default 10
        As for `random`.
    sampler : {"tpe", "qmc"} or callable, default "tpe"
        ``"tpe"`` models where good trials lie (Bergstra et al. 2011, Algorithms for Hyper-Parameter Optimization, NeurIPS 24); ``"qmc"``
        spreads them evenly, as scrambled Sobol points. A function gets a seed derived from that of the search and returns any sampler of
        Optuna: ``lambda seed: optuna.samplers.GPSampler(seed=seed)``.
    pruner : {"median", "successive_halving", "hyperband"} or BasePruner, optional
        Ends trials early whose score after an epoch is worse than that of others. It compares with the rounds before, since those of the
        same round are as far as chance has it. Pruned trials have the score they ended with and the ``stop_reason`` ``"pruned"``.
    round_size : int, default 8
        Trials that are asked for at once. More of them keep more cores busy, fewer let the sampler learn sooner.
    storage : path, str or BaseStorage, optional
        A journal file, a URL of a database (``"sqlite:///search.db"``), or one of Optuna's storages, to go on from and to share: called
        again with the same arguments, in the same process, another one or on another machine with the same instruction set, the search goes
        on with what is there, and all that run at once share the trials. Without one it stays in memory.
    name : str, default "search"
        Of the study in the storage.
    batch_size, shuffle, max_seconds, threads, parallel, seed, guard, keep, run_dir, verbose
        As for `random`; ``run_dir`` may hold trials already if there is a storage.

    Returns
    -------
    Study
        What came of all trials. Those that ran elsewhere or before have scores and histories, and no trainer.

    Raises
    ------
    TypeError, ValueError
        As for `random`, or if the study in the storage was made with other settings or other rows. Pruners are for trials of one fit in
        threads: not for ``cv``, not for ``parallel="joblib"``.
    ImportError
        If Optuna is missing, or SciPy for ``sampler="qmc"``; names the extra to install.
    """
    setting = setting_of("optuna", locals())
    check_whole("optuna", {"trials": trials, "epochs": epochs, "round_size": round_size})
    part = checked_space("optuna", space)
    setting.check(part, resumes=storage is not None)
    if pruner is not None and (cv is not None or parallel != "threads"):
        which = "cv=" if cv is not None else f"parallel={parallel!r}"
        raise ValueError(f"optuna: 'pruner' is for trials of one fit in threads of this process, not for {which}")
    package = optuna_module()
    with quiet(package):
        study = Study(part)
        study.scoring, study.maximize = _judged_by(setting, part)
        proposals = Proposals(package, part, sampler, pruner, seed, study.maximize, epochs)
        ledger = None
        if storage is not None:
            settings = {
                "space": {
                    key: str(labels_of(value) if isinstance(value, Choice) else value) for key, value in part.items()
                },
                **{key: getattr(setting, key) for key in ("seed", "batch_size", "shuffle", "guard")},
                "epochs": int(epochs),
                "round_size": int(round_size),
                "sampler": _text(sampler),
                "pruner": _text(pruner),
                "scoring": study.scoring,
                **rows_of(setting),
            }
            ledger = Ledger(package, storage, name, study.maximize, settings)
        return _Rounds(setting, study, proposals, ledger, int(trials), int(epochs), int(round_size)).run()


class _Rounds:
    """The rounds of a search."""

    def __init__(
        self,
        setting: Setting,
        study: Study,
        proposals: Proposals,
        ledger: Ledger | None,
        trials: int,
        epochs: int,
        size: int,
    ) -> None:
        self._setting, self._proposals, self._ledger = setting, proposals, ledger
        self._trials, self._epochs, self._size = trials, epochs, size
        self._study = study
        self._study.stop_reason = "finished"
        self._data = Data(setting.X, setting.y, setting.X_val, setting.y_val)

    def run(self) -> Study:
        """Run them one after the other."""
        study, setting, begun = self._study, self._setting, time.perf_counter()
        deadline = ends_at(setting)
        while len(study.trials) < self._trials and study.stop_reason == "finished":
            first = len(study.trials)
            if first and time.time() >= deadline:
                study.stop_reason = "max_seconds"
                break
            asked = self._proposals.ask(min(self._size, self._trials - first))
            made = [
                Trial(first + place, 0, params, derived(setting.seed, 0, first + place)[0])
                for place, (params, _) in enumerate(asked)
            ]
            if self._ledger is not None:
                self._ledger.offer(made, [labels for _, labels in asked], self._proposals.distributions)
            self._round(made, deadline)
            enroll(study, made, setting.keep)
            if study.stop_reason == "finished":
                self._proposals.tell(made, f"val_{study.scoring}")
        finished(study, setting, begun)
        return study

    def _round(self, made: list[Trial], deadline: float) -> None:
        """Run what nobody has run, then what others have begun and not ended."""
        for again in (False, True):
            left = [trial for trial in made if not trial.stop_reason]
            left = [trial for trial in left if self._ledger is None or not self._ledger.fill(trial)]
            if left and self._study.stop_reason == "finished":
                watcher = _Judge(
                    self._setting, self._study, self._proposals, self._ledger, made[0].number, self._epochs, again
                )
                stage = Stage(
                    self._setting,
                    self._study,
                    left,
                    self._epochs,
                    self._data,
                    deadline,
                    first=0,
                    of=self._trials,
                    watcher=watcher,
                )
                stage.run()


class _Judge(Watcher):
    """Says which trials run here, and ends those that are pruned or have ended elsewhere."""

    def __init__(
        self,
        setting: Setting,
        study: Study,
        proposals: Proposals,
        ledger: Ledger | None,
        first: int,
        epochs: int,
        again: bool,
    ) -> None:
        self._setting, self._study, self._proposals, self._ledger = setting, study, proposals, ledger
        self._first, self._epochs, self._again = first, epochs, again
        self._judges: dict[int, Callable[[int, float], bool]] = {}
        self._looked = 0.0
        self.watches_epochs = proposals.prunes or again

    def begins(self, trial: Trial) -> bool:
        """Return whether nobody else runs a trial, or, the second time, has ended it."""
        if self._ledger is not None:
            mine = not self._ledger.fill(trial) if self._again else self._ledger.claim(trial.number)
            if not mine:
                return False
        if self._proposals.prunes:
            self._judges[trial.number] = self._proposals.judge(trial.number - self._first)
        return True

    def epoch(self, trial: Trial, trainer: Trainer, row: Row) -> bool:
        """Return whether a trial is pruned, or has ended elsewhere."""
        epoch = int(row["epoch"])
        if epoch >= self._epochs:
            return False
        if self._proposals.prunes:
            setting, column = self._setting, f"val_{self._study.scoring}"
            if column not in row:
                found = scorings.get(setting.owner, setting.scoring, trainer)
                row[column] = float(found.function(trainer, setting.X_val, setting.y_val))
            if self._judges[trial.number](epoch, row[column]):
                return True
        if self._ledger is None or not self._again:
            return False
        # One look serves all trials that run here: whose epochs always end between two looks would never hear of its end.
        if time.monotonic() >= self._looked + _PATIENCE:
            self._looked = time.monotonic()
            self._ledger.look()
        return self._ledger.ended(trial.number)

    def ended(self, trial: Trial) -> None:
        """Write down what came of a trial, or read it where others were quicker."""
        if trial.stop_reason == "callback":
            trial.stop_reason = "pruned"
        if self._ledger is None or trial.stop_reason in ("interrupted", "max_seconds"):
            return
        if not self._ledger.fill(trial):
            self._ledger.finish(trial, f"val_{self._study.scoring}")


def _judged_by(setting: Setting, space: Space) -> tuple[str, bool]:
    """Return the name of the score and whether a higher one is better: the first trainer that can be built is asked.

    Raises
    ------
    TypeError, ValueError
        If the scoring does not fit it.
    """
    for place, params in enumerate(drawn(setting.seed)(space, _TRIES, 0)):
        trainer = built(setting, Trial(place, 0, params, 0))
        if trainer is not None:
            found = scorings.get(setting.owner, setting.scoring, trainer)
            return found.name, found.maximize
    return "", True  # nothing will be compared


def _text(value: Any) -> str | None:
    """Return how a sampler, pruner or scoring is called."""
    if value is None or isinstance(value, str):
        return value
    return str(getattr(value, "__name__", type(value).__name__))
