"""A random search as users run it: 20 trials of a small net, 5 epochs each, as wall time from first to last."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from pyfastnn import Trainer, _core, train_many
from pyfastnn.bench import step, tasks
from pyfastnn.bench.floor import floor
from pyfastnn.bench.peaks import Peaks
from pyfastnn.bench.race import RATIO_NOTE, Result, ratio_text
from pyfastnn.bench.table import format_table
from pyfastnn.bench.timing import Case, Subject

TRIALS, EPOCHS = 20, 5
CHECKED_TRIALS = 2
"""Trials whose first losses are compared before anything is timed."""


def cases(names: list[str] | None = None) -> list[Case]:
    """Return the one case: task T1 on as many threads as the process has now."""
    return [{"task": tasks.get(name).name, "at_once": _core.num_threads()} for name in names or ("T1",)]


def name(case: Case) -> str:
    """Return ``T1 20x5``."""
    return f"{case['task']} {TRIALS}x{EPOCHS}"


def trials(case: Case) -> list[tasks.Task]:
    """Return the task with the learning rate and weight decay of each trial."""
    rng = np.random.default_rng(20240004)
    rates, decays = 10.0 ** rng.uniform(-4, -2.7, TRIALS), 10.0 ** rng.uniform(-5, -2, TRIALS)
    task = tasks.get(case["task"])
    return [replace(task, learning_rate=float(a), weight_decay=float(b)) for a, b in zip(rates, decays, strict=True)]


def at_once(case: Case, variant: str, *, one_pool: bool = False) -> int:
    """Return how many trials a peer runs at a time.

    Parameters
    ----------
    case : dict
        The case.
    variant : str
        With ``"side by side"`` in it, as many as ours; otherwise one.
    one_pool : bool, default False
        Whether all work of the library goes through one pool of threads: side by side then wants the process with all threads, and
        otherwise the one where each trial has a single one.

    Raises
    ------
    NotImplementedError
        If this process is not the one for the variant.
    """
    if "side by side" not in variant:
        return 1
    alone = os.environ.get("OMP_NUM_THREADS") == "1"
    if case["at_once"] == 1 or alone == one_pool:
        raise NotImplementedError(
            "side by side is for several threads, and for the process that is told to use so many"
        )
    return int(case["at_once"])


class Search(Subject):
    """Ours: `pyfastnn.train_many` over fresh models."""

    warm = False

    def __init__(self, case: Case) -> None:
        self.case = case
        self.tasks = trials(case)
        self.X, self.y, _ = tasks.data(tasks.get(case["task"]))

    def check(self) -> dict[str, Any]:
        """Train the first trials a little and return their losses."""
        return {"losses": [step.Bare(task).check()["losses"] for task in self.tasks[:CHECKED_TRIALS]]}

    def run(self, calls: int) -> None:
        """Run whole searches."""
        for _ in range(calls):
            made = [Trainer(step.model_of(task), optimizer=step.optimizer_of(task)) for task in self.tasks]
            train_many(
                made, self.X, self.y, epochs=EPOCHS, batch_size=self.tasks[0].batch, threads=self.case["at_once"]
            )


class PeerSearch(Subject):
    """A peer: its net of each trial, one after the other or some at a time in threads.

    Parameters
    ----------
    case : dict
        The case.
    make : callable
        Makes the subject of a task.
    at_once : int
        Trials at a time.
    """

    warm = False

    def __init__(self, case: Case, make: Callable[[tasks.Task], Subject], at_once: int) -> None:
        self.tasks, self.make, self.at_once = trials(case), make, at_once

    def check(self) -> dict[str, Any]:
        """Train the first trials a little and return their losses."""
        return {"losses": [self.make(task).check()["losses"] for task in self.tasks[:CHECKED_TRIALS]]}

    def run(self, calls: int) -> None:
        """Run whole searches."""
        for _ in range(calls):
            if self.at_once == 1:
                for task in self.tasks:
                    self._train(task)
            else:
                with ThreadPoolExecutor(self.at_once) as pool:
                    list(pool.map(self._train, self.tasks))

    def _train(self, task: tasks.Task) -> None:
        self.make(task).run(EPOCHS * task.steps)


def subject(case: Case, variant: str = "") -> Subject:
    """Make ours."""
    return Search(case)


def verify(case: Case, answers: Mapping[str, Any]) -> None:
    """Check that the losses of the first trials agree; see `pyfastnn.bench.step.verify`."""
    for k in range(CHECKED_TRIALS):
        step.verify(case, {label: {"losses": answer["losses"][k]} for label, answer in answers.items()})


def least_seconds(case: Case, peaks: Peaks) -> float:
    """Return the floor of a search: that of its steps on one thread, divided among those at once."""
    alone = {**peaks, "gflops": peaks["gflops"] / peaks["threads"], "threads": 1}
    for kind in ("read", "update"):
        alone[kind] = {level: rate / peaks["threads"] for level, rate in peaks[kind].items()}
    task = tasks.get(case["task"])
    at_once: int = case["at_once"]
    return floor(task, alone).seconds * TRIALS * EPOCHS * task.steps / at_once


def report(results: Sequence[Result], peaks: Peaks | None = None) -> str:
    """Return the table of a race: wall times of the whole search."""
    rows = []
    for result in results:
        if result.refused:
            rows.append([result.name, "refused", "", "", ""])
            continue
        for label, found in result.times.items():
            over = f"{found.median / least_seconds(result.case, peaks):.2f}x" if peaks else "-"
            rows.append(
                [
                    f"{result.name} {label}",
                    f"{found.median:.3f}",
                    over,
                    f"{1e3 * found.median / TRIALS:.1f}",
                    ratio_text(found),
                ]
            )
    header = ("search", "s", "over its floor", "ms a trial", "ratio")
    return format_table(header, rows) + f"\n{RATIO_NOTE}"
