"""The loop over epochs behind `Trainer.fit`: a native call for each, or each block, then what is recorded, shown and decided."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn._warnings import warn
from pyfastnn.diagnose.verdicts import TrainingWarning
from pyfastnn.train.compiled import Compiled
from pyfastnn.train.history import Row
from pyfastnn.train.interrupts import HeldInterrupts
from pyfastnn.train.passes import Pass, Passes, StreamPasses, Tally, evaluated
from pyfastnn.train.preflight import Preflight
from pyfastnn.train.progress import Progress
from pyfastnn.train.run_directory import RunDirectory, RunWriter
from pyfastnn.train.watching import steps_of, stopped, watching

if TYPE_CHECKING:
    from pyfastnn.train.trainer import Trainer

Array = NDArray[Any]
Callback = Callable[["Trainer", Row], object]


@dataclass
class Loop:
    """The epochs of one fit.

    Attributes
    ----------
    trainer : Trainer
        Its counters and history are advanced.
    compiled : Compiled
        Its plans.
    data, validation : Passes
        Training rows, and validation rows or None.
    epochs : int
        Epochs to add.
    max_steps, max_seconds : int and float, or None
        End after so many steps or seconds.
    shuffle : bool
        Whether each epoch has a new order.
    callbacks : sequence of callable
        Asked after every epoch.
    progress : Progress
        Shows the fit.
    run_dir : RunDirectory or None
        Where the fit is written down.
    preflight : Preflight or None
        Looks at the data and the first steps, if this fit is to.
    """

    trainer: Trainer
    compiled: Compiled
    data: Passes
    validation: Passes | None
    epochs: int
    max_steps: int | None
    max_seconds: float | None
    shuffle: bool
    callbacks: Sequence[Callback]
    progress: Progress
    run_dir: RunDirectory | None
    preflight: Preflight | None = None
    _last_rate: float = math.nan
    _writer: RunWriter | None = None

    def __post_init__(self) -> None:
        """Begin to count steps and seconds."""
        self.budget: float = math.inf if self.max_steps is None else self.max_steps
        self.deadline = math.inf if self.max_seconds is None else time.perf_counter() + self.max_seconds

    def run(self) -> None:
        """Run the epochs; the history says why they ended."""
        trainer = self.trainer
        with ExitStack() as stack:
            stack.callback(self._close)
            if self.run_dir is not None:
                self._writer = stack.enter_context(self.run_dir.writing(trainer, self._settings()))
            reason = self._epochs(trainer.shared_interrupts or stack.enter_context(HeldInterrupts()))
            if self._writer is not None:
                self._writer.end(reason)
        if reason == "interrupted":
            self.progress.say(f"interrupted in epoch {trainer.epoch}: the model stands at step {trainer.step_count}")
        trainer.history.stop_reason = reason

    def _settings(self) -> dict[str, Any]:
        """Return what the fit was asked to do."""
        return {
            "epochs": self.epochs,
            "batch_size": self.data.batch,
            "shuffle": self.shuffle,
            "max_steps": self.max_steps,
            "max_seconds": self.max_seconds,
            "rows": self.data.rows,
            "steps_per_epoch": self.data.steps,
            "validation_rows": None if self.validation is None else self.validation.rows,
        }

    def _close(self) -> None:
        """End the progress, and let the plans forget the arrays."""
        self.progress.close()
        self.data.unbind(self.compiled.train)
        if self.validation is not None:
            self.validation.unbind(self.compiled.evaluation(self.validation.form))

    def _epochs(self, interrupts: HeldInterrupts) -> str:
        for _ in range(self.epochs):
            reason = self._epoch(interrupts)
            if reason != "finished":
                return reason
        return "finished"

    def _epoch(self, interrupts: HeldInterrupts) -> str:
        trainer = self.trainer
        begun = time.perf_counter()
        tally, done, stop = Tally(trainer.heads), 0, "finished"
        with closing(self.data.passes(trainer.seed, trainer.epoch, self.shuffle)) as passes:
            for data in passes:
                if self.preflight is not None:
                    begun += self.preflight.before(data, self.data.rows)
                steps, stop = self._pass(data, done, interrupts)
                if stop in ("nonfinite", "limit"):
                    self._explain(data, stop, steps, done)
                    return stop
                self.budget -= steps
                trainer.step_count += steps
                tally.add(data, steps, min(steps * data.batch, data.rows))
                done += steps
                if stop != "finished" or self.budget <= 0 or interrupts.pressed or time.perf_counter() >= self.deadline:
                    break
        trainer.epoch += 1
        watched = watching(trainer, self.compiled.probes)
        row = self._row(tally, time.perf_counter() - begun)
        if self.validation is not None:
            plan = self.compiled.evaluation(self.validation.form)
            found = evaluated(self.validation, trainer.heads, plan, trainer.threads, lambda _: interrupts.pressed)
            row.update({f"val_{k}": v for k, v in (found or {}).items()})
        trainer.history.rows.append(row)
        if watched is not None:
            watched.judge(done, self.data.batch)
        if self._writer is not None:
            self._writer.write()
        self.progress.epoch(row)
        if interrupts.pressed or (stop == "interrupted" and time.perf_counter() < self.deadline):
            return "interrupted"
        if any([callback(trainer, row) for callback in self.callbacks]):
            return "callback"
        if time.perf_counter() >= self.deadline:
            return "max_seconds"
        return "finished" if self.budget > 0 else "max_steps"

    def _pass(self, data: Pass, done: int, interrupts: HeldInterrupts) -> tuple[int, str]:
        """Train on one pass after ``done`` steps of the epoch; return its steps and why they ended.

        Where the guard ended them, the state is that of before the pass.
        """
        trainer = self.trainer
        guarded = trainer.guard is not None
        lecture = trainer.guard == "lecture"
        first = not trainer.epoch and not done
        rows = data.rows if self.budget >= data.steps else int(self.budget) * data.batch

        def poll(steps: int) -> bool:
            if self.progress.wants_steps:
                self.progress.step(done + steps)
            return interrupts.pressed or time.perf_counter() >= self.deadline

        watched = watching(trainer, self.compiled.probes)
        results, also = ({}, {}) if watched is None else watched.request(steps_of(data, rows))
        steps, stop = self.compiled.train.run(
            "train",
            rows,
            data.batch,
            {**data.arrays, **results} if results else data.arrays,
            hyper=trainer.hyper_rows(self.compiled.groups, data.steps, self.data.steps, done),
            watch="loss" if guarded else None,
            limit=3.0 * trainer.first_loss if lecture and not first else math.inf,
            limit_factor=3.0 if lecture and first else 0.0,
            snapshot=guarded,
            progress=poll,
            threads=trainer.threads,
            then="penalty" if trainer.optimizer.penalized and self.compiled.penalties.size else "",
            **also,
        )
        if first and steps:
            trainer.first_loss = float(data.arrays["loss"][0])
        if stop in ("nonfinite", "limit"):
            self.compiled.train.restore("train")
        elif watched is not None:
            watched.keep(results, data.arrays["loss"], steps)
        if self.preflight is not None:
            self.preflight.behind(data, steps)
        self._last_rate = float(trainer.hyper.rates[max(steps, 1) - 1])
        return steps, stop

    def _row(self, tally: Tally, seconds: float) -> Row:
        row: Row = {"epoch": self.trainer.epoch, **tally.figures()}
        if self.trainer.optimizer.penalized:
            row["penalty"] = float(self.compiled.penalties.sum())
        row["learning_rate"] = self._last_rate
        row["seconds"] = seconds
        row["samples_per_second"] = tally.rows / max(seconds, 1e-9)
        return row

    def _explain(self, data: Pass, stop: str, steps: int, before: int) -> None:
        """Say why the guard stopped: bad data raises, anything else warns."""
        refuse_nonfinite(data)
        value = float(data.arrays["loss"][steps - 1]) if steps else math.nan
        what = f"the loss is {value:.4g}"
        if stop == "limit":
            what += f", more than three times the first loss {self.trainer.first_loss:.4g}"
        elif math.isfinite(value):
            what += " and the update after it made weights NaN or infinite"
        start = "block" if isinstance(self.data, StreamPasses) else "epoch"
        remedy = f"try a smaller learning_rate than {self._last_rate:g}"
        stopped(self.trainer, self.trainer.step_count + steps, what, remedy, value)
        warn(
            f"training stopped at step {before + steps} of epoch {self.trainer.epoch + 1}: {what}. The weights are those of "
            f"the start of the {start}; {remedy}",
            TrainingWarning,
        )


def refuse_nonfinite(data: Pass) -> None:
    """Look for the cause of a loss that is not finite in the rows.

    Raises
    ------
    ValueError
        If an input holds NaN or infinity; names the first column.
    """
    for name, X in data.arrays.items():
        if name.split(".")[0] != "X" or X.dtype.kind != "f":
            continue
        columns = data.arrays.get("columns" + name[1:])
        if columns is None:
            X = X if data.chosen is None else X[data.chosen]
            bad = ~np.isfinite(X.reshape(len(X), -1))
            in_column = bad.sum(axis=0)
        else:
            bad = ~np.isfinite(X)
            in_column = np.bincount(columns[bad], minlength=1)
        if bad.any():
            column = int((in_column > 0).argmax())
            shown = "'X'" if name == "X" else f"X[{name[2:]!r}]"
            raise ValueError(
                f"{shown} holds {int(bad.sum())} NaN or infinite values, {int(in_column[column])} of them in "
                f"column {column}; fill or remove them first"
            )
