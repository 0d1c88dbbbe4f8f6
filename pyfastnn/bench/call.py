"""What a call costs beside the work it does: functions, empty runs, single steps and predictions from Python."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from pyfastnn import Trainer, _core, functional
from pyfastnn._names import unknown
from pyfastnn.bench import step, tasks
from pyfastnn.bench.race import Result, race, time_text
from pyfastnn.bench.table import format_table
from pyfastnn.bench.timing import Case, LocalRunner, Subject, WrongResult

LIMITS = {
    "relu": ("functional.relu of 32x10 over its kernel", 0.5),
    "relu out": ("functional.relu of 32x10 with out= over its kernel", 0.5),
    "run": ("an empty Plan.run", 1.0),
    "step": ("Trainer.step of T5 over a step of the epoch call", 3.0),
    "predict": ("a predictor of T5, one row", 3.0),
}
"""What each case is, and the microseconds it may take beside its work."""


def cases(names: list[str] | None = None) -> list[Case]:
    """Return the cases.

    Raises
    ------
    ValueError
        If a name is unknown.
    """
    for name in names or ():
        if name not in LIMITS:
            raise ValueError(unknown("call", name, LIMITS))
    return [{"call": name} for name in names or LIMITS]


def name(case: Case) -> str:
    """Return the name of a case."""
    return str(case["call"])


class Repeat(Subject):
    """A call made again and again.

    Parameters
    ----------
    call : callable
        The call, or nothing for the cost of the loop.
    answer : callable
        What it should have done.
    """

    def __init__(self, call: Callable[[], object], answer: Callable[[], Any]) -> None:
        self.call = call
        self.answer = answer

    def check(self) -> Any:
        """Call once and return what it did."""
        self.call()
        return self.answer()

    def run(self, calls: int) -> None:
        """Call so many times."""
        call = self.call
        for _ in range(calls):
            call()


class Kernel(Subject):
    """The kernel of a ReLU of 32x10 in the loop of the executor."""

    def __init__(self) -> None:
        self.x = _relu_input()
        self.y = np.empty_like(self.x)
        size = len(self.x), self.x.shape[1]
        values: list[tuple[str, str, tuple[int, ...], bool, str, int]] = [
            (k, "T", size, True, "none", -1) for k in "xy"
        ]
        one: tuple[str, tuple[int, ...], tuple[int, ...], tuple[float, ...], int] = ("relu_forward", (0,), (1,), (), 0)
        self.plan = _core.Plan(values, {"relu": [one]}, max_batch=1)
        self.plan.bind("x", self.x)
        self.plan.bind("y", self.y)

    def check(self) -> Any:
        """Return the result."""
        self.run(1)
        return self.y.tolist()

    def run(self, calls: int) -> None:
        """Run the kernel so many times in one native call."""
        self.plan.run("relu", calls, 1)


def _relu_input() -> tasks.Array:
    return np.random.default_rng(0).standard_normal((32, 10), dtype=np.float32)


def _nothing() -> None:
    pass


def subject(case: Case, variant: str = "") -> Subject:
    """Make the call, or as ``"base"`` what it is held against."""
    kind, base = case["call"], variant == "base"
    task = tasks.get("T5")
    if kind.startswith("relu"):
        if base:
            return Kernel()
        x = _relu_input()
        out = np.empty_like(x)
        if kind == "relu":
            return Repeat(partial(functional.relu, x), lambda: functional.relu(x).tolist())
        return Repeat(partial(functional.relu, x, out=out), out.tolist)
    if kind == "step":
        if base:
            return step.Bare(task)
        X, y, order = tasks.data(task)
        rows, labels = X[order[: task.batch]], y[order[: task.batch]]
        trainer = Trainer(step.model_of(task), optimizer=step.optimizer_of(task), threads=1)
        return Repeat(lambda: trainer.step(rows, labels), lambda: {"losses": []})
    if base:
        return Repeat(_nothing, lambda: True)
    if kind == "run":
        bare = step.Bare(task)
        run, hyper = bare.plan.native.run, bare.hyper
        return Repeat(lambda: run("train", 0, task.batch, hyper=hyper), lambda: True)
    model = step.model_of(task)
    predictor, row = model.predictor(), tasks.data(task)[0][:1].copy()
    scores = np.empty((1, tasks.CLASSES), np.float32)
    return Repeat(lambda: predictor(row, scores), lambda: scores.tobytes() == model(row).tobytes() or "other bits")


def verify(case: Case, answers: Mapping[str, Any]) -> None:
    """Check that both gave the same, and the predictor the bits of the model.

    Raises
    ------
    WrongResult
        If not.
    """
    kind = case["call"]
    if kind.startswith("relu") and answers["ours"] != answers["ours base"]:
        raise WrongResult(f"{kind}: the function and its kernel differ")
    if kind == "predict" and answers["ours"] is not True:
        raise WrongResult("predict: the scores are not those of the model")


def report(results: list[Result]) -> str:
    """Return the table: 20 % quantiles, since what disturbs a microsecond only adds to it."""
    rows = []
    for result in results:
        what, limit = LIMITS[result.name]
        if result.refused:
            rows.append([what, "refused", "", "", "", ""])
            continue
        ours, base = result.times["ours"], result.times["ours base"]
        over = 1e6 * (ours.quick - base.quick)
        verdict = "met" if over <= limit else f"missed by {over - limit:.2f}"
        rows.append([what, time_text(ours.quick), time_text(base.quick), f"{over:.2f}", f"{limit:g}", verdict])
    return format_table(["call", "us", "base us", "over us", "at most", ""], rows)


def main(options: argparse.Namespace) -> int:
    """Run the benchmark and print its table; 1 if a result was wrong."""
    import sys

    this = sys.modules[__name__]
    runners = {"ours": LocalRunner(_Maker, ""), "ours base": LocalRunner(_Maker, "base")}
    rounds, seconds = options.rounds or 25, (options.sample_ms or 4.0) * 1e-3
    results = race("call", this, cases(options.cases), runners, rounds=rounds, seconds=seconds)
    print(report(results))
    return 1 if any(result.refused for result in results) else 0


class _Maker:
    @staticmethod
    def subject(bench: str, case: Case, variant: str) -> Subject:
        return subject(case, variant)
