"""Whole training steps: the bare executor (one native call an epoch) and `Trainer.fit`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pyfastnn import Trainer, nn, optim
from pyfastnn.bench import tasks
from pyfastnn.bench.floor import floor
from pyfastnn.bench.peaks import Peaks
from pyfastnn.bench.race import RATIO_NOTE, Result, ratio_text, time_text
from pyfastnn.bench.table import format_table
from pyfastnn.bench.timing import Case, Reading, Subject, WrongResult, summarize
from pyfastnn.diagnose import Monitor
from pyfastnn.train.compiled import compile_plans
from pyfastnn.train.history import History
from pyfastnn.train.hyper import hyper_rows
from pyfastnn.train.updates import slot_shapes

WATCHED = ("T1", "T3")
"""Tasks that watching is held against not watching on: samples of theirs are made of whole rounds of its 50 steps."""

_LAYERS = {"relu": nn.ReLU, "tanh": nn.Tanh, "batch_norm": nn.BatchNorm, "flatten": nn.Flatten}


def cases(names: list[str] | None = None) -> list[Case]:
    """Return one case per task."""
    return [{"task": tasks.get(name).name} for name in names or tasks.here()]


def name(case: Case) -> str:
    """Return the task's name."""
    return str(case["task"])


def subject(case: Case, variant: str = "") -> Subject:
    """Make ours: the bare executor, `Trainer.fit` (also without its monitor), or for a task in bf16 the bare executor in float32."""
    task = tasks.get(case["task"])
    if variant == "unwatched":
        if task.name not in WATCHED:
            raise NotImplementedError(f"watching is measured on {' and '.join(WATCHED)}")
        return Fit(task, watched=False)
    if variant == "float32":
        if task.precision == "float32":
            raise NotImplementedError("that is what the bare executor does")
        task = replace(task, precision="float32")
    return Fit(task) if variant == "fit" else Bare(task)


def verify(case: Case, answers: Mapping[str, Any]) -> None:
    """Check that all losses agree.

    Parameters
    ----------
    case : dict
        ``{"task": name}``.
    answers : mapping of str to dict
        ``{"losses": [one per step]}``, or ``{"means": [one per epoch]}`` of `Trainer.fit`, by label; the first is the base.

    Raises
    ------
    WrongResult
        If losses are not finite or differ by more than the task's tolerance; of nets of convolutions, without Adam, also if one of the
        first five differs in the fifth decimal.
    """
    task = tasks.get(case["task"])
    base_label, base_answer = next(iter(answers.items()))
    base = np.asarray(base_answer["losses"])
    for label, answer in answers.items():
        if "means" in answer:
            means = np.asarray(answer["means"])
            want = np.array([part.mean() for part in np.split(base, range(task.steps, len(base), task.steps))])
        else:
            means, want = np.asarray(answer["losses"]), base
        if means.shape != want.shape:
            raise WrongResult(f"{task.name}: {label} gave {means.shape} losses, {base_label} {want.shape}")
        with np.errstate(all="ignore"):
            off = np.abs(means / want - 1)
        if not (off <= task.tolerance).all():
            at = int(np.argmax(~(off <= task.tolerance)))
            raise WrongResult(
                f"{task.name}: losses differ at step {at + 1}: {label} {means[at]:.7g}, {base_label} {want[at]:.7g}; "
                f"the largest difference allowed is {task.tolerance:g} of the loss. Nothing is timed"
            )
        if task.image and task.optimizer != "adam" and "losses" in answer:
            first = np.abs(means - want)[: tasks.EXACT_STEPS]
            if first.max() > tasks.EXACT_ERROR:
                at = int(first.argmax())
                raise WrongResult(
                    f"{task.name}: losses differ at step {at + 1}: {label} {means[at]:.7f}, {base_label} {want[at]:.7f}; "
                    "the first are to agree to five decimals. Nothing is timed"
                )


def model_of(task: tasks.Task) -> nn.Sequential:
    """Return the built model with the task's first weights."""
    layers: list[nn.Layer] = []
    for kind, *sizes in task.layers:
        if kind == "linear":
            layers.append(nn.Linear(sizes[1]))
        elif kind == "conv2d":
            layers.append(nn.Conv2d(sizes[2], sizes[0], padding="same"))
        else:
            layers.append(nn.MaxPool2d(sizes[0]) if kind == "max_pool2d" else _LAYERS[kind]())
    model = nn.Sequential(*layers)
    model.build(task.row_shape)
    model.load_state_dict(tasks.first_weights(task), strict=False)
    return model


def optimizer_of(task: tasks.Task) -> optim.Optimizer:
    """Return the task's optimizer."""
    if task.optimizer == "adam":
        return optim.Adam(task.learning_rate, weight_decay=task.weight_decay)
    momentum = 0.9 if task.optimizer == "momentum" else 0.0
    return optim.SGD(task.learning_rate, momentum=momentum, weight_decay=task.weight_decay)


class Bare(Subject):
    """The compiled training plan alone: one native call an epoch, everything else made before."""

    def __init__(self, task: tasks.Task) -> None:
        self.task = task
        self.X, self.y, self.order = tasks.data(task)
        self.model = model_of(task)
        self.optimizer = optimizer_of(task)
        self.slots = self.model.allocate(slot_shapes(self.model, self.optimizer))
        loss = nn.SoftmaxCrossEntropy()
        bf16 = task.precision == "bf16"
        self.plan = compile_plans(self.model, loss, self.optimizer, self.slots, task.batch, bf16=bf16).train
        self.first = self.model.state_dict()
        self.hyper = hyper_rows(self.optimizer, 1, max(task.steps, tasks.CHECK_STEPS), 0)
        self.loss = np.zeros(task.steps)
        self.plan.bind({"X": self.X, "y": self.y, "loss": self.loss, "correct": np.zeros(task.steps)})

    def check(self) -> dict[str, Any]:
        """Train some steps and return their losses."""
        self.reset()
        losses: list[float] = []
        while len(losses) < tasks.CHECK_STEPS:
            steps = min(self.task.steps, tasks.CHECK_STEPS - len(losses))
            self._epoch(steps, first=len(losses))
            losses += self.loss[:steps].tolist()
        return {"losses": losses}

    def reset(self) -> None:
        """Put back the first weights and empty the optimizer's arrays."""
        self.model.load_state_dict(self.first)
        for slot in self.slots.values():
            slot[...] = 0

    def run(self, calls: int) -> None:
        """Train ``calls`` steps, an epoch a call."""
        while calls > 0:
            self._epoch(min(calls, self.task.steps))
            calls -= self.task.steps

    def step_ns(self, calls: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Return the nanoseconds of every step of the plan, summed over ``calls`` training steps, an epoch at most."""
        spent = np.zeros(len(self.plan.native.layout("train")), np.int64)
        self._epoch(min(calls, self.task.steps), spent=spent)
        return spent

    def _epoch(self, steps: int, first: int = 0, spent: np.ndarray[Any, Any] | None = None) -> None:
        rows = steps * self.task.batch
        hyper = self.hyper[first : first + steps]
        arrays = {"index": self.order[:rows]}
        self.plan.run("train", rows, self.task.batch, arrays, hyper=hyper, threads=0, step_ns=spent)


class Fit(Subject):
    """`Trainer.fit`: what a user calls, without validation, in runs of at least 50 ms."""

    least_seconds = 0.055

    def __init__(self, task: tasks.Task, watched: bool = True) -> None:
        self.task, self.watched = task, watched
        if task.name in WATCHED:
            self.unit, self.least_seconds = Monitor().every, 0.15
        self.X, self.y, self.order = tasks.data(task)
        self.trainer = self._made()
        self.first = self.trainer.model.state_dict()

    def _made(self) -> Trainer:
        monitor = Monitor() if self.watched else None
        task = self.task
        return Trainer(model_of(task), optimizer=optimizer_of(task), precision=task.precision, monitor=monitor)

    def check(self) -> dict[str, Any]:
        """Train some steps on the rows in order and return the mean loss of every epoch."""
        self._fit(self.X[self.order], self.y[self.order], tasks.CHECK_STEPS, shuffle=False)
        return {"means": self.trainer.history["loss"]}

    def reset(self) -> None:
        """Put back the first weights, empty the optimizer's arrays and the history.

        Where watching is measured all is made anew: how arrays fall into the caches is luck that may weigh more than watching does, and
        so each sample has its own.
        """
        if self.task.name in WATCHED:
            self.trainer = self._made()
            return
        self.trainer.model.load_state_dict(self.first)
        for slot in self.trainer.slots.values():
            slot[...] = 0
        self.trainer.step_count = self.trainer.epoch = 0
        self.trainer.history = History()

    def run(self, calls: int) -> None:
        """Fit ``calls`` steps in one call."""
        self._fit(self.X, self.y, calls, shuffle=True)

    def _fit(self, X: tasks.Array, y: tasks.Array, steps: int, shuffle: bool) -> None:
        epochs = -(-steps // self.task.steps)
        self.trainer.fit(X, y, epochs=epochs, batch_size=self.task.batch, max_steps=steps, shuffle=shuffle, verbose=0)


def notes(readings: Mapping[str, list[Reading]]) -> dict[str, Any]:
    """Return what watching costs as a share of a run, ``"watching"``: the median of fit over fit without a monitor, less 1."""
    fits = {k: readings[k] for k in ("ours fit", "ours unwatched") if k in readings}
    return {"watching": summarize(fits, "ours unwatched")["ours fit"].ratio - 1.0} if len(fits) == 2 else {}


def watching_text(result: Result) -> str:
    """Return what watching costs as tables show it."""
    return f"{100 * result.notes['watching']:.1f} %" if "watching" in result.notes else "-"


def report(results: Sequence[Result], peaks: Peaks | None = None) -> str:
    """Return the table of a race: ours, its floor, `Trainer.fit`, then the peers with their ratios to ours."""
    own = ("ours", "ours fit", "ours unwatched")
    labels = [k for k in dict.fromkeys(label for r in results for label in r.times) if k not in own]
    labels.sort(key=lambda k: k == "ours float32")
    header = [
        "task",
        "us/step",
        "10-90 %",
        "GF/s",
        *(["floor us", "ours/floor"] if peaks else []),
        "fit us",
        "fit/bare",
        "watching",
    ]
    for label in labels:
        header += [f"{label} us", "ratio"]
    header += ["best peer"] if labels else []
    rows = []
    for result in results:
        if result.refused:
            rows.append([result.name, "refused", *[""] * (len(header) - 2)])
            continue
        ours, fit = result.times["ours"], result.times.get("ours fit")
        row = [result.name, time_text(ours.median), f"{time_text(ours.p10)}-{time_text(ours.p90)}"]
        row.append(f"{tasks.get(result.name).flop / ours.median * 1e-9:.1f}")
        if peaks:
            task = tasks.get(result.name)
            least = floor(task, peaks).seconds
            # The floor counts float32 arithmetic.
            row += [time_text(least), f"{ours.median / least:.2f}x"] if task.precision == "float32" else ["-", "-"]
        row += [time_text(fit.median), ratio_text(fit)] if fit else ["-", "-"]
        row.append(watching_text(result))
        for label in labels:
            peer = result.times.get(label)
            row += [time_text(peer.median), ratio_text(peer)] if peer else ["-", "-"]
        best = result.best_peer()
        rows.append(row + ([f"{best[0]} {ratio_text(best[1])}" if best else "-"] if labels else []))
    return format_table(header, rows) + f"\n{RATIO_NOTE}"
