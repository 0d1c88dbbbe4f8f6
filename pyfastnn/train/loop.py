"""The loop over epochs behind `Trainer.fit`: one native call each, then what is recorded, shown and decided."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn import _core
from pyfastnn.backends.cpu import CpuPlan
from pyfastnn.train.compiled import Compiled, Head
from pyfastnn.train.history import Row
from pyfastnn.train.interrupts import HeldInterrupts
from pyfastnn.train.prepare import Data
from pyfastnn.train.progress import Progress

if TYPE_CHECKING:
    from pyfastnn.train.trainer import Trainer

Array = NDArray[Any]
Callback = Callable[["Trainer", Row], object]


class Pass:
    """The arrays of one way through a data set: rows and targets, their order, and what every step writes.

    Parameters
    ----------
    data : Data
        Checked rows and targets.
    batch : int
        Rows a step.
    heads : sequence of Head
        Each output has a loss; classifiers also count the rows that are right.
    """

    def __init__(self, data: Data, batch: int, heads: Sequence[Head]) -> None:
        self.chosen = data.chosen
        self.rows = data.count
        self.weighted = data.weighted
        self.batch = min(batch, self.rows)
        self.steps = -(-self.rows // self.batch)
        results = ["loss"] + [f"loss{head.suffix}" for head in heads if head.suffix]
        results += [f"correct{head.suffix}" for head in heads if head.counts]
        self.arrays: dict[str, Array] = {
            **data.arrays,
            "index": np.arange(self.rows, dtype=np.int64) if data.chosen is None else data.chosen.copy(),
            **{name: np.zeros(self.steps) for name in results},
        }
        self.results = results

    def shuffle(self, seed: int, epoch: int) -> None:
        """Put the rows into the order of an epoch: a position of the order has the same row as if the rows were copied out."""
        index = self.arrays["index"]
        _core.permutation(index, seed, epoch)
        if self.chosen is not None:
            index[...] = self.chosen[index]

    def figures(self, steps: int, rows: int) -> dict[str, float]:
        """Return the mean loss, and the accuracy, over the rows of the first steps (the last step may be smaller)."""
        found: dict[str, float] = {}
        tail = rows - (steps - 1) * self.batch
        for name in self.results:
            values = self.arrays[name][:steps]
            kind, _, output = name.partition(".")
            shown = f"{'loss' if kind == 'loss' else 'accuracy'}{'.' + output if output else ''}"
            if kind == "correct":
                found[shown] = float(values.sum()) / max(1, rows)
            else:
                found[shown] = float((values[:-1].sum() * self.batch + values[-1] * tail) / rows) if steps else math.nan
        return found

    def evaluate(self, plan: CpuPlan, threads: int, progress: Callable[[int], object] | None = None) -> Row | None:
        """Return loss and accuracy over all rows; None if Ctrl-C or ``progress`` ended it early."""
        _, reason = plan.run("evaluate", self.rows, self.batch, self.arrays, progress=progress, threads=threads)
        return None if reason == "interrupted" else self.figures(self.steps, self.rows)

    def unbind(self, plan: CpuPlan) -> None:
        """Let a plan forget the arrays, so that it does not keep a data set alive."""
        plan.bind(dict.fromkeys(self.arrays))


@dataclass
class Loop:
    """The epochs of one fit.

    Attributes
    ----------
    trainer : Trainer
        Its counters and history are advanced.
    compiled : Compiled
        Its plans.
    data, validation : Pass
        Training rows, and validation rows or None.
    epochs : int
        Epochs to add.
    budget, deadline : float
        Steps left, and the time (`time.perf_counter`) to end at; infinite when not limited.
    shuffle : bool
        Whether each epoch has a new order.
    callbacks : sequence of callable
        Asked behind every epoch.
    progress : Progress
        Shows the fit.
    """

    trainer: Trainer
    compiled: Compiled
    data: Pass
    validation: Pass | None
    epochs: int
    budget: float
    deadline: float
    shuffle: bool
    callbacks: Sequence[Callback]
    progress: Progress

    def run(self) -> str:
        """Run the epochs and return why they ended."""
        shared = self.trainer.shared_interrupts
        if shared is not None:
            return self._epochs(shared)
        with HeldInterrupts() as interrupts:
            return self._epochs(interrupts)

    def _epochs(self, interrupts: HeldInterrupts) -> str:
        for _ in range(self.epochs):
            reason = self._epoch(interrupts)
            if reason != "finished":
                return reason
        return "finished"

    def _epoch(self, interrupts: HeldInterrupts) -> str:
        trainer, data = self.trainer, self.data
        guarded = trainer.guard is not None
        lecture = trainer.guard == "lecture"
        begun = time.perf_counter()
        rows = data.rows if self.budget >= data.steps else int(self.budget) * data.batch
        if self.shuffle:
            data.shuffle(trainer.seed, trainer.epoch)

        def poll(done: int) -> bool:
            if self.progress.wants_steps:
                self.progress.step(done)
            return interrupts.pressed or time.perf_counter() >= self.deadline

        done, stop = self.compiled.train.run(
            "train",
            rows,
            data.batch,
            data.arrays,
            hyper=trainer.hyper_rows(self.compiled.groups, data.steps, data.steps),
            watch="loss" if guarded else None,
            limit=3.0 * trainer.first_loss if lecture and trainer.epoch else math.inf,
            limit_factor=3.0 if lecture and not trainer.epoch else 0.0,
            snapshot=guarded,
            progress=poll,
            threads=trainer.threads,
            then="penalty" if trainer.optimizer.penalized and self.compiled.penalties.size else "",
        )
        seconds = time.perf_counter() - begun
        if not trainer.epoch and done:
            trainer.first_loss = float(data.arrays["loss"][0])
        if stop in ("nonfinite", "limit"):
            self.compiled.train.restore("train")
            self._explain(stop, done)
            return stop
        self.budget -= done
        trainer.step_count += done
        trainer.epoch += 1
        row = self._row(done, min(done * data.batch, rows), seconds)
        if self.validation is not None:
            found = self.validation.evaluate(self.compiled.evaluate, trainer.threads, lambda _: interrupts.pressed)
            row.update({f"val_{k}": v for k, v in (found or {}).items()})
        trainer.history.rows.append(row)
        self.progress.epoch(row)
        if interrupts.pressed or (stop == "interrupted" and time.perf_counter() < self.deadline):
            return "interrupted"
        if any([callback(trainer, row) for callback in self.callbacks]):
            return "callback"
        if time.perf_counter() >= self.deadline:
            return "max_seconds"
        return "finished" if self.budget > 0 else "max_steps"

    def _row(self, steps: int, rows: int, seconds: float) -> Row:
        row: Row = {"epoch": self.trainer.epoch, **self.data.figures(steps, rows)}
        if self.trainer.optimizer.penalized:
            row["penalty"] = float(self.compiled.penalties.sum())
        row["learning_rate"] = float(self.trainer.hyper.rates[max(steps, 1) - 1])
        row["seconds"] = seconds
        row["samples_per_second"] = rows / max(seconds, 1e-9)
        return row

    def _explain(self, stop: str, steps: int) -> None:
        """Say why the guard stopped: bad data raises, anything else warns."""
        for name, X in self.data.arrays.items():
            if name.split(".")[0] != "X" or X.dtype.kind != "f":
                continue
            X = X if self.data.chosen is None else X[self.data.chosen]
            bad = ~np.isfinite(X.reshape(len(X), -1))
            if bad.any():
                column = int(bad.any(axis=0).argmax())
                shown = "'X'" if name == "X" else f"X[{name[2:]!r}]"
                raise ValueError(
                    f"{shown} holds {int(bad.sum())} NaN or infinite values, {int(bad[:, column].sum())} of them in "
                    f"column {column}; fill or remove them first"
                )
        value = float(self.data.arrays["loss"][steps - 1]) if steps else math.nan
        what = f"the loss is {value:.4g}"
        if stop == "limit":
            what += f", more than three times the first loss {self.trainer.first_loss:.4g}"
        elif math.isfinite(value):
            what += " and the update behind it made weights NaN or infinite"
        warnings.warn(
            f"training stopped at step {steps} of epoch {self.trainer.epoch + 1}: {what}. The weights are those of "
            f"the start of the epoch; try a smaller learning_rate than {self.trainer.hyper.rates[max(steps, 1) - 1]:g}",
            RuntimeWarning,
            stacklevel=5,
        )
