"""The schedule that looks at the history: less when a column stands still."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pyfastnn._names import unknown
from pyfastnn.nn.layer import number
from pyfastnn.optim.schedule import Schedule, Times

_INF = float("inf")


class ReduceOnPlateau(Schedule):
    """Multiplied by a factor whenever a column of the history has not improved for some epochs, as in PyTorch.

    ``max(rate * factor**reductions, min_rate)``. An epoch improves on the best one so far if it is lower by more than the part
    ``threshold`` of it (higher, for an accuracy). What counts is the history of the trainer from its first epoch on; so a run that
    goes on from a checkpoint goes on here too.

    Parameters
    ----------
    rate : float, optional
        The first rate; by default that of the update rule.
    monitor : str, default "val_loss"
        ``"val_loss"``, ``"val_accuracy"``, ``"loss"`` or ``"accuracy"``; of one output of several ``"val_loss.name"`` and so on.
    factor : float, default 0.1
        In (0, 1).
    patience : int, default 10
        Epochs without improvement that are let pass; the one after them reduces the rate.
    threshold : float, default 1e-4
        In [0, 1).
    cooldown : int, default 0
        Epochs after a reduction that are not counted.
    min_rate : float, default 0
        The rate falls no further.
    """

    kind = "reduce_on_plateau"
    MONITORS = ("val_loss", "val_accuracy", "loss", "accuracy")

    def __init__(
        self,
        rate: float | None = None,
        *,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        cooldown: int = 0,
        min_rate: float = 0.0,
    ) -> None:
        super().__init__(rate, None, None, 1.0)
        self.unit = ""
        if str(monitor).split(".")[0] not in self.MONITORS:
            raise ValueError(f"ReduceOnPlateau: {unknown('monitor', monitor, self.MONITORS)}")
        self._monitor = monitor
        self.factor = number("ReduceOnPlateau", "factor", factor, 0.0, 1.0, open_low=True)
        for name, value in (("patience", patience), ("cooldown", cooldown)):
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
                raise ValueError(f"ReduceOnPlateau: {name!r} is {value!r}, expected a whole number of 0 or more")
        self.patience, self.cooldown = int(patience), int(cooldown)
        self.threshold = number("ReduceOnPlateau", "threshold", threshold, 0.0, 1.0)
        self.min_rate = number("ReduceOnPlateau", "min_rate", min_rate, 0.0, _INF)

    @property
    def monitor(self) -> str:
        """The watched column."""
        return self._monitor

    def at(self, time: Times, rate: float, reductions: int) -> Times:
        """Return the rate after the reductions so far."""
        return np.full(time.shape, max(rate * self.factor**reductions, min(rate, self.min_rate)))

    def config(self) -> dict[str, Any]:
        """Return the settings."""
        names = ("monitor", "factor", "patience", "threshold", "cooldown", "min_rate")
        return {**super().config(), **{name: getattr(self, name) for name in names}}


class Watch:
    """Counts the reductions of a `ReduceOnPlateau` along a history; what was seen is not looked at again."""

    def __init__(self) -> None:
        self._rows: Sequence[dict[str, float]] = ()
        self._key: Any = None
        self._seen = 0
        self._restart()

    def _restart(self) -> None:
        self._seen = self._bad = self._cooling = self._reductions = 0
        self._best = math.nan

    def reductions(self, schedule: Schedule, rows: Sequence[dict[str, float]]) -> int:
        """Return how often the schedule has reduced the rate after these rows.

        Raises
        ------
        ValueError
            If a row lacks the watched column.
        """
        if not schedule.monitor:
            return 0
        plateau = schedule.watching
        assert isinstance(plateau, ReduceOnPlateau)
        key = plateau.config()
        if rows is not self._rows or len(rows) < self._seen or key != self._key:
            self._rows, self._key = rows, key
            self._restart()
        for row in rows[self._seen :]:
            self._count(plateau, row)
        self._seen = len(rows)
        return self._reductions

    def _count(self, plateau: ReduceOnPlateau, row: dict[str, float]) -> None:
        if plateau.monitor not in row:
            raise ValueError(
                f"ReduceOnPlateau watches {plateau.monitor!r}, which epoch {row['epoch']:g} of the history did not record"
            )
        value = row[plateau.monitor]
        if "accuracy" in plateau.monitor.split(".")[0]:
            better = value > self._best * (1.0 + plateau.threshold)
        else:
            better = value < self._best * (1.0 - plateau.threshold)
        if better or (math.isnan(self._best) and not math.isnan(value)):
            self._best, self._bad = value, 0
        else:
            self._bad += 1
        if self._cooling:
            self._cooling -= 1
            self._bad = 0
        if self._bad > plateau.patience:
            self._reductions += 1
            self._bad, self._cooling = 0, plateau.cooldown
