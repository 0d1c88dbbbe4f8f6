"""The optimizer's numbers as the executor reads them: a row for every step and group of parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn._names import unknown
from pyfastnn.backends.cpu import HYPER
from pyfastnn.optim import Optimizer, Schedule
from pyfastnn.optim.plateau import Watch
from pyfastnn.train.history import Row
from pyfastnn.train.updates import COMMON, Groups

_AHEAD = 128
"""Steps whose hyper rows are made at once for single steps."""

_PENALTIES = ("weight_decay", "l1")
"""Fields that are 0 for parameters that do not decay."""


class HyperRows:
    """The hyper rows of a run. The array is kept from one run to the next.

    Attributes
    ----------
    rates : ndarray of float64
        Learning rate of each step of the last rows, before the factors of the groups.
    """

    def __init__(self) -> None:
        self.rates: NDArray[np.float64] = np.zeros(0)
        self._array = np.zeros((0, len(COMMON.factors), len(HYPER)))
        self._key: tuple[Any, ...] = ()
        self._watch = Watch()
        self._ahead: HyperRows | None = None
        self._first = 0
        self._made_of: tuple[Any, ...] = ()

    def __getstate__(self) -> dict[str, Any]:
        """Leave the rows behind when copied or pickled: they are made anew from the optimizer."""
        return {**self.__dict__, "_array": self._array[:0], "_key": (), "_ahead": None}

    def one(
        self,
        optimizer: Optimizer,
        step: int,
        seed: int,
        groups: Groups = COMMON,
        *,
        epoch: int = 0,
        history: Sequence[Row] = (),
    ) -> NDArray[np.float64]:
        """Return the rows of one step, made together with those of the steps after it: the same bits as `fill`.

        Parameters
        ----------
        optimizer : Optimizer
            Gives its numbers.
        step : int
            Number of the step, counted from 1.
        seed : int
            Seed of dropout, under 2**53.
        groups : Groups
            Rows of a step.
        epoch : int
            Epochs done before it; single steps do not go on in it.
        history : sequence of dict
            Rows of the epochs so far, for schedules that watch them.

        Returns
        -------
        ndarray of float64, shape (1, groups, fields)
            Overwritten when the steps made ahead are used up.
        """
        at = step - self._first
        rate = optimizer.learning_rate
        made_of: tuple[Any, ...]
        if isinstance(rate, Schedule):
            made_of = (seed, optimizer, optimizer.version, groups, rate.config(), epoch, id(history), len(history))
        else:
            made_of = (seed, optimizer, optimizer.version, groups)
        if self._ahead is None or not 0 <= at < _AHEAD or made_of != self._made_of:
            if self._ahead is None:
                self._ahead = HyperRows()
            self._ahead.fill(optimizer, step, _AHEAD, seed, groups, epoch=epoch, history=history)
            self._first, self._made_of, at = step, made_of, 0
        return self._ahead._array[at : at + 1]

    def fill(
        self,
        optimizer: Optimizer,
        first_step: int,
        steps: int,
        seed: int,
        groups: Groups = COMMON,
        *,
        epoch: int = 0,
        epoch_steps: float = math.inf,
        epoch_step: int = 0,
        history: Sequence[Row] = (),
    ) -> NDArray[np.float64]:
        """Return the rows of some steps.

        Parameters
        ----------
        optimizer : Optimizer
            Gives its numbers.
        first_step : int
            Number of the first step, counted from 1.
        steps : int
            Steps of the run.
        seed : int
            Seed of dropout, under 2**53.
        groups : Groups
            Rows of a step: their rate factors, and whether penalties apply.
        epoch : int
            Epochs done before this one.
        epoch_steps : float
            Steps of this epoch; infinite if the steps are outside of epochs.
        epoch_step : int
            Steps of this epoch done before the first one.
        history : sequence of dict
            Rows of the epochs so far, for schedules that watch them.

        Returns
        -------
        ndarray of float64, shape (steps, groups, fields)
            Overwritten by the next call.

        Raises
        ------
        ValueError
            If the schedule watches a column that the history lacks.
        """
        fields = optimizer.fields()
        key = (steps, seed, groups, *fields.items())
        if key != self._key:
            row = np.zeros((len(groups.factors), len(HYPER)))
            row[:, HYPER["seed"]] = seed
            for name, value in fields.items():
                row[:, HYPER[name]] = value
            for name in _PENALTIES:
                row[[not decays for decays in groups.decays], HYPER[name]] = 0.0
            self._array = np.tile(row, (steps, 1, 1))
            self._key = key
        number = np.arange(first_step, first_step + steps, dtype=np.float64)
        self._array[:, :, HYPER["step"]] = number[:, None]
        for begun in dict.fromkeys(groups.begun):
            behind = [place for place, first in enumerate(groups.begun) if first == begun]
            for name, values in optimizer.following(number - begun).items():
                self._array[:, behind, HYPER[name]] = values[:, None]
        rate = optimizer.learning_rate
        reductions = self._watch.reductions(rate, history) if isinstance(rate, Schedule) else 0
        self.rates = optimizer.rates(
            number - 1.0, epoch + np.arange(epoch_step, epoch_step + steps) / epoch_steps, reductions
        )
        self._array[:, :, HYPER["learning_rate"]] = np.multiply.outer(self.rates, groups.factors)
        return self._array


def check_monitor(optimizer: Optimizer, figures: Sequence[str], validated: bool) -> None:
    """Refuse a schedule that watches a column which the run will not have.

    Parameters
    ----------
    optimizer : Optimizer
        Its learning rate may be a schedule.
    figures : sequence of str
        What is recorded of the training rows: ``"loss"``, ``"accuracy"`` and so on.
    validated : bool
        Whether there are validation rows.

    Raises
    ------
    ValueError
        If the column will be missing.
    """
    rate = optimizer.learning_rate
    monitor = rate.monitor if isinstance(rate, Schedule) else ""
    if not monitor:
        return
    if monitor.startswith("val_") and not validated:
        raise ValueError(f"fit: ReduceOnPlateau watches {monitor!r}: give X_val and y_val, or watch {monitor[4:]!r}")
    columns = [*figures, *(f"val_{name}" for name in figures if validated)]
    if monitor not in columns:
        raise ValueError(f"fit: ReduceOnPlateau watches an {unknown('column', monitor, columns)}")


def hyper_rows(
    optimizer: Optimizer, first_step: int, steps: int, seed: int, groups: Groups = COMMON
) -> NDArray[np.float64]:
    """Return `HyperRows.fill` of a fresh object: an array of one's own."""
    return HyperRows().fill(optimizer, first_step, steps, seed, groups)
