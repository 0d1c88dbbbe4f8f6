"""Optuna's side of a search: asked for parameters, told what came of them, and asked whether a trial is worth going on with."""

from __future__ import annotations

import copy
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pyfastnn._names import unknown
from pyfastnn.search.setting import derived
from pyfastnn.search.spaces import Choice, Space
from pyfastnn.search.study import Trial

SAMPLERS = ("tpe", "qmc")
PRUNERS = ("median", "successive_halving", "hyperband")
NAME = "search"
"""Of the study in memory; Hyperband deals trials to its brackets by it."""
_OWN_STREAM = 2**32 - 1
"""Of the seed, beside those of stages."""


def optuna_module() -> Any:
    """Return Optuna.

    Raises
    ------
    ImportError
        If it is missing; names the extra.
    """
    try:
        import optuna
    except ImportError as error:
        raise ImportError("search.optuna needs Optuna: pip install pyfastnn[search]") from error
    return optuna


@contextmanager
def quiet(package: Any) -> Iterator[None]:
    """Keep Optuna from logging every trial: the search has lines of its own."""
    before = package.logging.get_verbosity()
    package.logging.set_verbosity(package.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", package.exceptions.ExperimentalWarning)
            yield
    finally:
        package.logging.set_verbosity(before)


class Proposals:
    """A study of Optuna in memory, which only ever sees whole rounds, in their order: what it proposes follows from the seed.

    Parameters
    ----------
    package : module
        Optuna.
    space : dict
        What to draw from.
    sampler : str or callable
        ``"tpe"``, ``"qmc"``, or a function of a seed.
    pruner : str, BasePruner or None
        ``"median"``, ``"successive_halving"``, ``"hyperband"``, or one of Optuna's.
    seed : int
        Of the search.
    maximize : bool
        Whether a higher score is better.
    epochs : int
        Of a trial that is not pruned.

    Raises
    ------
    TypeError, ValueError
        If ``sampler`` or ``pruner`` is nothing of that kind.
    """

    def __init__(
        self,
        package: Any,
        space: Space,
        sampler: str | Callable[[int], Any],
        pruner: Any,
        seed: int,
        maximize: bool,
        epochs: int,
    ) -> None:
        self._package = package
        self.distributions, self._values = distributions_of(package, space)
        self._direction = "maximize" if maximize else "minimize"
        self._pruner = _pruner(package, pruner, epochs)
        own_seed = derived(seed, _OWN_STREAM, 0)[0] % (2**32 - 1) + 1
        made = _sampler(package, sampler, own_seed, self.distributions)
        self._study = self._new_study(made)
        self._asked: list[Any] = []
        self._past: list[Any] = []
        self._lock = threading.Lock()

    @property
    def prunes(self) -> bool:
        """Whether trials may be pruned."""
        return self._pruner is not None

    def ask(self, count: int) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Return the parameters of the next trials, as ``build`` takes them and as Optuna knows them."""
        self._past = self._study.get_trials(deepcopy=False)
        self._asked = [self._study.ask(fixed_distributions=self.distributions) for _ in range(count)]
        return [(self.params(asked.params), dict(asked.params)) for asked in self._asked]

    def params(self, labels: dict[str, Any]) -> dict[str, Any]:
        """Return parameters as ``build`` takes them."""
        found = {}
        for name in self.distributions:
            found[name] = self._values[name][labels[name]] if name in self._values else labels[name]
        return found

    def tell(self, trials: Sequence[Trial], column: str) -> None:
        """Tell what came of the trials asked for last.

        Parameters
        ----------
        trials : sequence of Trial
            In the order in which they were asked for.
        column : str
            Of their histories, whose values Optuna gets epoch by epoch.
        """
        states = self._package.trial.TrialState
        for asked, trial in zip(self._asked, trials, strict=True):
            for epoch, value in reports(trial, column):
                asked.report(value, epoch)
                if self.prunes:
                    asked.should_prune()  # pruners that promote trials write down how far each came
            state, values = state_of(trial)
            self._study.tell(asked, values, state=states[state])

    def judge(self, place: int) -> Callable[[int, float], bool]:
        """Return what says whether to prune a trial, from its epochs and values.

        It knows the rounds before and the trial itself, not those beside it: these are as far as time would have it.

        Parameters
        ----------
        place : int
            Of the trial in its round.
        """
        study = self._new_study(self._package.samplers.RandomSampler(0))
        study.add_trials(self._past)
        for _ in range(place + 1):
            own = study.ask()

        def judge(epoch: int, value: float) -> bool:
            with self._lock:
                own.report(value, epoch)
                return bool(own.should_prune())

        return judge

    def _new_study(self, sampler: Any) -> Any:
        pruner = self._package.pruners.NopPruner() if self._pruner is None else self._pruner
        return self._package.create_study(study_name=NAME, direction=self._direction, sampler=sampler, pruner=pruner)


def reports(trial: Trial, column: str) -> list[tuple[int, float]]:
    """Return a column of a trial's history with the epochs; nothing of folds."""
    if len(trial.histories) != 1:
        return []
    return [(int(row["epoch"]), row[column]) for row in trial.histories[0].rows if column in row]


def state_of(trial: Trial) -> tuple[str, float | None]:
    """Return what Optuna calls the end of a trial, and the value it is told."""
    if trial.stop_reason == "pruned":
        return "PRUNED", None
    return ("COMPLETE", trial.score) if trial.ranked else ("FAIL", None)


def distributions_of(package: Any, space: Space) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return a space as Optuna has it, and the values of its choices by their text: storages keep nothing but text and numbers."""
    found: dict[str, Any] = {}
    values: dict[str, dict[str, Any]] = {}
    for name, part in space.items():
        if isinstance(part, Choice):
            labels = labels_of(part)
            values[name] = dict(zip(labels, part.values, strict=True))
            found[name] = package.distributions.CategoricalDistribution(labels)
        elif part.whole:
            found[name] = package.distributions.IntDistribution(int(part.low), int(part.high), log=part.log)
        else:
            found[name] = package.distributions.FloatDistribution(part.low, part.high, log=part.log)
    return found, values


def labels_of(part: Choice) -> list[str]:
    """Return a text for every value of a choice, all different, and the same ones in every process."""
    found = []
    for value in part.values:
        text = getattr(value, "__qualname__", None) or str(value)
        found.append(type(value).__qualname__ if " at 0x" in text else text)
    return found if len(set(found)) == len(found) else [f"{place}: {text}" for place, text in enumerate(found)]


def _sampler(package: Any, sampler: Any, seed: int, distributions: dict[str, Any]) -> Any:
    """Return a sampler with a seed."""
    if sampler == "tpe":
        return package.samplers.TPESampler(seed=seed)
    if sampler == "qmc":
        return _quasi_random(package, seed, distributions)
    if isinstance(sampler, str):
        raise ValueError(f"optuna: {unknown('sampler', sampler, SAMPLERS)}, or a function of a seed")
    if not callable(sampler):
        raise TypeError(f"optuna: 'sampler' is {sampler!r}, expected a name or a function of a seed")
    made = sampler(seed)
    if not isinstance(made, package.samplers.BaseSampler):
        raise TypeError(f"optuna: 'sampler' returned {made!r}, expected one of Optuna's samplers")
    return made


def _quasi_random(package: Any, seed: int, distributions: dict[str, Any]) -> Any:
    """Return Sobol points, scrambled; choices are drawn at random."""
    try:
        import scipy  # noqa: F401 - Optuna would only say so when it is asked
    except ImportError as error:
        raise ImportError("sampler='qmc' needs SciPy: pip install pyfastnn[search]") from error
    ranges = {k: part for k, part in distributions.items() if hasattr(part, "low")}

    class Sobol(package.samplers.QMCSampler):  # type: ignore[misc]
        """Knows the space from the start: otherwise the first round would be drawn at random."""

        def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
            return ranges

    return Sobol(qmc_type="sobol", scramble=True, seed=seed, warn_independent_sampling=False)


def _pruner(package: Any, pruner: Any, epochs: int) -> Any:
    """Return a pruner of our own, or None."""
    if pruner is None or isinstance(pruner, package.pruners.NopPruner):
        return None
    if isinstance(pruner, package.pruners.BasePruner):
        return copy.deepcopy(pruner)  # some remember what they have seen
    if not isinstance(pruner, str):
        raise TypeError(f"optuna: 'pruner' is {pruner!r}, expected a name, one of Optuna's pruners, or None")
    if pruner not in PRUNERS:
        raise ValueError(f"optuna: {unknown('pruner', pruner, PRUNERS)}, or one of Optuna's pruners")
    if pruner == "median":
        return package.pruners.MedianPruner()
    if pruner == "successive_halving":
        return package.pruners.SuccessiveHalvingPruner()
    return package.pruners.HyperbandPruner(max_resource=epochs)
