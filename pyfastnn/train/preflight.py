"""What a fit does before it trains, and after its first steps: the cheap half of `pyfastnn.diagnose.preflight`."""

from __future__ import annotations

import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING

import numpy as np

from pyfastnn.diagnose import fit_checks as checks

if TYPE_CHECKING:
    from pyfastnn.train.passes import Pass
    from pyfastnn.train.trainer import Trainer

SECONDS = 2e-3
"""No check begins later: rows that come slowly from a disk are not waited for."""


class Preflight:
    """The checks of the first fit of a trainer. It reads arrays and writes none; it enters the core nowhere.

    Parameters
    ----------
    trainer : Trainer
        As it was given to the fit: before data have completed its model.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._fresh = not trainer.model.tasks
        self._begun = False
        self._sizes: dict[str, float] = {}
        self.done = False

    def before(self, data: Pass, rows: int) -> float:
        """Look at the data and the first weights, unless that was done; return the seconds that took.

        Parameters
        ----------
        data : Pass
            What the fit begins with.
        rows : int
            Rows of an epoch: a block of a stream need not have the labels of all others.
        """
        if self._begun:
            return 0.0
        self._begun = self._trainer.preflighted = True
        begun = now = time.perf_counter()
        for check in self._checks(data, rows):
            if now - begun >= SECONDS:
                break
            with np.errstate(all="ignore"):  # a number that overflows is judged by none of them
                found = check()
            _say(found)
            now = time.perf_counter()
        return now - begun

    def _checks(self, data: Pass, rows: int) -> Iterator[Callable[[], str | None]]:
        model = self._trainer.model
        if data.rows >= checks.LEAST_ROWS:
            for name, symbol in model.network.inputs.items():
                if symbol.dtype == "float" and name not in data.form.sparse:
                    yield partial(self._input, name, data)
            for head in self._trainer.heads if data.rows == rows else ():
                yield partial(checks.targets, model, head, data)
        if self._fresh:
            yield partial(checks.weights, model)

    def _input(self, name: str, data: Pass) -> str | None:
        model = self._trainer.model
        found = checks.sample(model, name, data)
        if isinstance(found, str):
            return found
        self._sizes[name] = found.size
        return checks.inputs(model, name, found)

    def behind(self, data: Pass, steps: int) -> None:
        """Look at what steps have left behind: the loss of the first one, and the answers in the first watched one."""
        trainer = self._trainer
        if not steps or self.done:
            return
        if trainer.step_count == 0 and self._fresh:
            known = [n for n, symbol in trainer.model.network.inputs.items() if symbol.dtype == "float"]
            size = max((self._sizes.get(name, math.inf) for name in known), default=1.0)
            with np.errstate(all="ignore"):
                found = checks.first_loss(trainer.model, trainer.heads, data, size)
            _say(found)
        if trainer.history.statistics.parts:
            for each in checks.activations(trainer.history.statistics.parts[0], trainer.first_loss, data.batch):
                _say(each)
        self.done = trainer.monitor is None or bool(trainer.history.statistics.parts)


def preflight_of(trainer: Trainer) -> Preflight | None:
    """Return the preflight of a fit: there is one, before the first step of a trainer."""
    if not trainer.preflight or trainer.step_count or trainer.preflighted:
        return None
    return Preflight(trainer)


def _say(found: str | None) -> None:
    """Warn where the fit was called; in a thread of ours, where the thread calls it."""
    if found is None:
        return
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and _package(frame) == "pyfastnn":
        frame, level = frame.f_back, level + 1
    warnings.warn(found, checks.PreflightWarning, stacklevel=level - (_package(frame) == "threading"))


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
