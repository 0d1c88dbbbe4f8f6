"""A study of Optuna in a storage: where processes deal trials among them, and what a search goes on from."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pyfastnn.search.proposals import reports, state_of
from pyfastnn.search.study import Trial
from pyfastnn.train.history import History

OWN = "pyfastnn"
"""The attribute of the study with the settings of its search."""
NUMBER, SEED, MAKER, RESULT = "number", "seed", "maker", "result"
"""Attributes of a trial."""
STALE = 30
"""Seconds after which a lock at a journal counts as left behind by a process that was killed."""


class Ledger:
    """The trials of a search in a storage, by number.

    All processes propose the same trials for a round, so any of them may put these into the storage. A trial is run by the one that first
    sets its state to running. Whoever is left without one runs those of the others too, until it hears that they have ended: one whose
    process has died is nobody else's business, and the result is the same.

    Parameters
    ----------
    package : module
        Optuna.
    storage : str, path or BaseStorage
        A path of a journal file, a URL of a database, or one of Optuna's storages.
    name : str
        Of the study.
    maximize : bool
        Whether a higher score is better.
    settings : dict
        What the trials follow from; JSON values.

    Raises
    ------
    TypeError
        If ``storage`` or ``name`` is nothing of that kind.
    ValueError
        If the study is there already and was made with other settings, or by something else.
    """

    def __init__(self, package: Any, storage: Any, name: Any, maximize: bool, settings: Mapping[str, Any]) -> None:
        if not isinstance(name, str) or not name:
            raise TypeError(f"optuna: 'name' is {name!r}, expected the name of a study")
        self._package, self._name = package, name
        self._states = package.trial.TrialState
        self._storage = _storage(package, storage)
        self._maker = uuid.uuid4().hex
        direction = "maximize" if maximize else "minimize"
        self._study = package.create_study(
            storage=self._storage,
            study_name=name,
            direction=direction,
            load_if_exists=True,
            sampler=package.samplers.RandomSampler(0),
            pruner=package.pruners.NopPruner(),
        )
        self._id = self._storage.get_study_id_from_name(name)
        self._check(direction, dict(settings))
        self._trials: dict[int, Any] = {}

    def offer(
        self, trials: Sequence[Trial], labels: Sequence[Mapping[str, Any]], distributions: Mapping[str, Any]
    ) -> None:
        """See to it that trials are in the storage.

        Parameters
        ----------
        trials : sequence of Trial
            Of a round.
        labels : sequence of dict
            Their parameters, as Optuna knows them.
        distributions : dict
            What these were drawn from.

        Raises
        ------
        ValueError
            If trials of these numbers are there with other parameters.
        """
        self._read()
        for trial, params in zip(trials, labels, strict=True):
            if trial.number not in self._trials:
                own = {NUMBER: trial.number, SEED: trial.seed, MAKER: self._maker}
                state = self._states.WAITING
                self._study.add_trial(
                    self._package.trial.create_trial(
                        state=state, params=dict(params), distributions=dict(distributions), user_attrs=own
                    )
                )
        self._read(drop=True)
        for trial, params in zip(trials, labels, strict=True):
            found = self._trials[trial.number]
            if found.params != dict(params) or found.user_attrs.get(SEED) != trial.seed:
                raise ValueError(
                    f"optuna: trial {trial.number} of the study {self._name!r} has the parameters {found.params}, and now {dict(params)} "
                    "are proposed: it was made by another version of Optuna or pyfastnn, or with another sampler; give another 'name'"
                )

    def claim(self, number: int) -> bool:
        """Return whether a trial was waiting, and is ours to run from now on."""
        if self._trials[number].state != self._states.WAITING:
            return False
        return bool(self._try(number, self._states.RUNNING, None))

    def fill(self, trial: Trial) -> bool:
        """Write into a trial what the storage knows came of it; return whether it knows."""
        if not self._trials[trial.number].state.is_finished():
            self._read()
        found = self._trials[trial.number]
        if not found.state.is_finished():
            return False
        result = found.user_attrs.get(RESULT)
        if result is None:
            # Somebody else has ended it, such as a person at a dashboard.
            trial.stop_reason, trial.error = "failed", f"the study {self._name!r} has its end and no result"
            return True
        trial.score, trial.scores = result["score"], list(result["scores"])
        trial.seconds, trial.error = result["seconds"], result["error"]
        trial.stop_reason, trial.run_dir = result["stop_reason"], result["run_dir"]
        trial.histories, trial.trainer = [], None
        for rows, reason in result["histories"]:
            history = History(rows)
            history.stop_reason = reason
            trial.histories.append(history)
        return True

    def look(self) -> None:
        """Learn what has become of all trials."""
        self._read()

    def ended(self, number: int) -> bool:
        """Return whether a trial had ended at the last look."""
        return bool(self._trials[number].state.is_finished())

    def finish(self, trial: Trial, column: str) -> None:
        """Write down what came of a trial, unless somebody has done so."""
        self.claim(trial.number)  # one that could not be built still waits
        at = self._trial_id(trial.number)
        try:
            for epoch, reported in reports(trial, column):
                self._storage.set_trial_intermediate_value(at, epoch, reported)
            self._storage.set_trial_user_attr(at, RESULT, _result(trial))
        except self._package.exceptions.UpdateFinishedTrialError:
            return
        state, value = state_of(trial)
        values = [trial.score] if state == "PRUNED" else None if value is None else [value]
        self._try(trial.number, self._states[state], values)

    def _try(self, number: int, state: Any, values: list[float] | None) -> bool:
        """Set the state of a trial unless it has ended; return whether it was changed."""
        try:
            return bool(self._storage.set_trial_state_values(self._trial_id(number), state, values))
        except self._package.exceptions.UpdateFinishedTrialError:
            return False

    def _trial_id(self, number: int) -> int:
        at: int = self._storage.get_trial_id_from_study_id_trial_number(self._id, self._trials[number].number)
        return at

    def _read(self, *, drop: bool = False) -> None:
        """Read the trials: of several with one number, which two processes put there in one moment, the first one counts."""
        trials: dict[int, Any] = {}
        for found in self._study.get_trials(deepcopy=False):
            number = found.user_attrs.get(NUMBER)
            if number is None:
                continue
            first = trials.setdefault(number, found)
            mine = found.user_attrs.get(MAKER) == self._maker and found.state == self._states.WAITING
            if drop and mine and first is not found:
                at = self._storage.get_trial_id_from_study_id_trial_number(self._id, found.number)
                self._storage.set_trial_state_values(at, self._states.FAIL, None)
        self._trials = trials  # at once: other threads look into it

    def _check(self, direction: str, settings: dict[str, Any]) -> None:
        """Hold the settings of the search against those in the storage."""
        if self._study.direction.name.lower() != direction:
            raise ValueError(
                f"optuna: the study {self._name!r} is there already and is to {self._study.direction.name.lower()} its value, "
                f"this one would {direction} it; give another 'name'"
            )
        # In this order: another process that makes the study now puts the settings there first.
        has_trials = bool(self._study.get_trials(deepcopy=False))
        known = self._study.user_attrs.get(OWN)
        if known is None:
            if has_trials:
                raise ValueError(f"optuna: the study {self._name!r} was not made by search.optuna; give another 'name'")
            self._study.set_user_attr(OWN, settings)
            return
        for key in sorted({*known, *settings}):
            if known.get(key) != settings.get(key):
                raise ValueError(
                    f"optuna: the study {self._name!r} was made with {key} {known.get(key)!r}, now it is {settings.get(key)!r}; "
                    "give another 'name'"
                )


def _result(trial: Trial) -> dict[str, Any]:
    """Return what came of a trial as JSON values."""
    return {
        "score": trial.score,
        "scores": trial.scores,
        "seconds": trial.seconds,
        "stop_reason": trial.stop_reason,
        "error": trial.error,
        "run_dir": trial.run_dir,
        "histories": [[history.rows, history.stop_reason] for history in trial.histories],
    }


def _storage(package: Any, storage: Any) -> Any:
    """Return a storage; a path is a journal file."""
    if isinstance(storage, package.storages.BaseStorage):
        return package.storages.get_storage(storage)
    if isinstance(storage, str) and "://" in storage:
        return package.storages.get_storage(storage)
    if not isinstance(storage, (str, os.PathLike)):
        raise TypeError(
            f"optuna: 'storage' is {storage!r}, expected the path of a journal file, a URL, or one of Optuna's storages"
        )
    path = Path(storage)
    if path.is_dir():
        raise ValueError(f"optuna: 'storage' is '{path}', which is a folder, expected the path of a journal file")
    path.parent.mkdir(parents=True, exist_ok=True)
    journal = package.storages.journal
    # Not Optuna's default, a symbolic link: one of a relative path leads nowhere, and Optuna never takes such a lock for stale.
    lock = journal.JournalFileOpenLock(str(path), grace_period=STALE)
    try:
        return package.storages.JournalStorage(journal.JournalFileBackend(str(path), lock_obj=lock))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"optuna: 'storage' is '{path}', which is no journal of Optuna: {error}") from None
