"""What a search found: its trials, the best of them, and what its ranges leave to be wished for."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyfastnn.search.spaces import Space
from pyfastnn.train.history import History
from pyfastnn.train.settings import is_whole

if TYPE_CHECKING:
    from pyfastnn.train.trainer import Trainer

FORMAT = 1
SHOWN = 10
"""Trials that a printed study shows."""

SHORT = {"learning_rate": "lr", "weight_decay": "reg"}
"""What the lines of a search call settings that the lectures have a word for."""


@dataclass
class Trial:
    """One set of parameters and what came of it.

    Attributes
    ----------
    number : int
        Its place in ``study.trials``.
    stage : int
        The stage of the search it belongs to, from 0.
    params : dict
        What ``build`` was called with.
    seed : int
        The seed of its trainer, derived from that of the search, the stage and the place in it.
    score : float
        Of the weights it ended with; under ``cv=`` the mean over the folds. NaN if it failed.
    scores : list of float
        One for each fold; the score alone without folds.
    histories : list of History
        One for each fold.
    trainer : Trainer or None
        The trained trainer, for the best trials of a search without folds.
    seconds : float
        Time it took, over all folds.
    stop_reason : str
        Why its fit ended, as ``history.stop_reason``: of the folds the first one that was not finished. ``"failed"`` if it raised,
        ``"pruned"`` if a pruner ended it.
    error : str
        What it raised, ``""`` if nothing.
    run_dir : str
        The folder that its run is written to, ``""`` without one.
    """

    number: int
    stage: int
    params: dict[str, Any]
    seed: int
    score: float = math.nan
    scores: list[float] = field(default_factory=list)
    histories: list[History] = field(default_factory=list, repr=False)
    trainer: Trainer | None = field(default=None, repr=False)
    seconds: float = 0.0
    stop_reason: str = ""
    error: str = ""
    run_dir: str = ""

    @property
    def history(self) -> History | None:
        """The history of its fit, or of that of its first fold; None if it failed before."""
        return self.histories[0] if self.histories else None

    @property
    def ranked(self) -> bool:
        """Whether it has a score to compare: a finite one."""
        return math.isfinite(self.score)

    def line(self, column: str, place: int, count: int) -> str:
        """Return it as one line: score, parameters, place."""
        parts = [f"{column}: {self.score:.6f}"]
        parts += [f"{SHORT.get(name, name)}: {shown(value)}" for name, value in self.params.items()]
        text = ", ".join([*parts, f"({place + 1} / {count})"])
        return f"{text} failed: {self.error}" if self.error else text


def shown(value: object) -> str:
    """Return a parameter as a line shows it: floats as ``1.405206e-04``."""
    return f"{float(value):e}" if isinstance(value, (float, np.floating)) else str(value)


class Study:
    """The trials of a search.

    Attributes
    ----------
    trials : list of Trial
        In the order of their numbers; those that a limit of time or Ctrl-C kept from beginning are not among them.
    scoring : str
        The name of the score.
    maximize : bool
        Whether a higher score is better.
    spaces : list of dict
        What each stage drew from; the first is the space as it was declared.
    warnings : list of str
        What the search has to say about its ranges, see `pyfastnn.search.edges`.
    stop_reason : str
        ``"finished"``, ``"max_seconds"`` or ``"interrupted"``.
    seconds : float
        Wall time.
    """

    def __init__(self, space: Space) -> None:
        self.spaces: list[Space] = [space]
        self.trials: list[Trial] = []
        self.scoring = ""
        self.maximize = True
        self.warnings: list[str] = []
        self.stop_reason = ""
        self.seconds = 0.0

    @property
    def best(self) -> Trial:
        """The trial with the best score, the first of several.

        Raises
        ------
        RuntimeError
            If no trial has a score; says what the first one raised.
        """
        found = self.top(1)
        if not found:
            raise RuntimeError(f"the study has {len(self.trials)} trials and none has a score{self._first_error()}")
        return found[0]

    def _first_error(self) -> str:
        failed = next((trial for trial in self.trials if trial.error), None)
        if failed is not None:
            return f"; trial {failed.number} raised {failed.error}"
        return f"; trial {self.trials[0].number} has the score {self.trials[0].score}" if self.trials else ""

    def top(self, k: int, stage: int | None = None) -> list[Trial]:
        """Return the ``k`` best trials, best first; fewer if there are fewer with a score.

        Parameters
        ----------
        k : int
            1 or more.
        stage : int, optional
            Only those of one stage.

        Raises
        ------
        ValueError
            If ``k`` is no such number.
        """
        if not is_whole(k) or k < 1:
            raise ValueError(f"top: 'k' is {k!r}, expected a whole number of 1 or more")
        sign = -1.0 if self.maximize else 1.0
        ranked = [trial for trial in self.trials if trial.ranked and stage in (None, trial.stage)]
        return sorted(ranked, key=lambda trial: (sign * trial.score, trial.number))[:k]

    def rows(self) -> list[dict[str, Any]]:
        """Return one flat dict a trial: number, stage, score, the parameters as ``param.name``, seed, seconds, stop_reason, error."""
        return [
            {
                "number": trial.number,
                "stage": trial.stage,
                "score": trial.score,
                **{f"param.{name}": value for name, value in trial.params.items()},
                "seed": trial.seed,
                "seconds": trial.seconds,
                "stop_reason": trial.stop_reason,
                "error": trial.error,
            }
            for trial in self.trials
        ]

    def to_frame(self) -> Any:
        """Return the `rows` as a pandas DataFrame.

        Raises
        ------
        ImportError
            If pandas is missing.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError("to_frame needs pandas: pip install pandas; rows() gives the same as dicts") from error
        return pd.DataFrame(self.rows())

    def save(self, path: str | Path) -> None:
        """Write everything but the trainers as JSON; numbers that are not finite become null, values JSON does not have their text.

        Raises
        ------
        OSError
            If the file cannot be written; an older one is left as it was then.
        """
        from pyfastnn.io.atomic import atomic_write
        from pyfastnn.io.plain import plain

        document = {
            "format": FORMAT,
            "scoring": self.scoring,
            "maximize": self.maximize,
            "stop_reason": self.stop_reason,
            "seconds": self.seconds,
            "spaces": [{name: str(part) for name, part in space.items()} for space in self.spaces],
            "warnings": self.warnings,
            "trials": [
                {
                    "number": trial.number,
                    "stage": trial.stage,
                    "params": trial.params,
                    "seed": trial.seed,
                    "score": trial.score,
                    "scores": trial.scores,
                    "seconds": trial.seconds,
                    "stop_reason": trial.stop_reason,
                    "error": trial.error,
                    "run_dir": trial.run_dir,
                    "history": [history.rows for history in trial.histories],
                }
                for trial in self.trials
            ],
        }
        text = json.dumps(plain(document), indent=1, allow_nan=False)
        with atomic_write(path) as file:
            file.write(text.encode() + b"\n")

    def __len__(self) -> int:
        """Return the number of trials."""
        return len(self.trials)

    def __iter__(self) -> Iterator[Trial]:
        """Go through the trials."""
        return iter(self.trials)

    def _head(self) -> str:
        failed = sum(not trial.ranked for trial in self.trials)
        return f"{len(self.trials)} trials in {self.seconds:.1f} s ({self.stop_reason or 'running'}), {failed} without a score"

    def _ranking(self) -> list[list[str]]:
        """Return the best trials, best first, as rows of text under their head; nothing if no trial has a score."""
        best = self.top(SHOWN)
        if not best:
            return []
        names = list(best[0].params)
        rows = [[str(t.number), f"{t.score:.6f}", *(shown(t.params[n]) for n in names)] for t in best]
        return [["trial", self.scoring, *names], *rows]

    def __repr__(self) -> str:
        """Show the best trials as a table, and the warnings."""
        table = self._ranking()
        if not table:
            return self._head() + self._first_error()
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = ["  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in table]
        return "\n".join([self._head(), *lines, *self.warnings])

    def _repr_html_(self) -> str:
        """Show the same in a notebook."""
        from pyfastnn.report.html import paragraph, table

        ranking = self._ranking()
        if not ranking:
            return paragraph(repr(self))
        said = "".join(paragraph(f"warning: {line}") for line in self.warnings)
        return f"<div>{table(ranking[0], ranking[1:], caption=self._head())}{said}</div>"
