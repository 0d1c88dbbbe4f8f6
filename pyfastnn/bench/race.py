"""Runs the cases of a benchmark: prepare, verify, and only then time, everyone in turn."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from pyfastnn.bench.timing import Case, Reading, Runner, Summary, WrongResult, interleave, summarize


class Benchmark(Protocol):
    """What the modules ``gemm``, ``step`` and ``op`` have."""

    def verify(self, case: Case, answers: Mapping[str, Any]) -> None:
        """Raise `WrongResult` if an answer is wrong."""

    def name(self, case: Case) -> str:
        """Return a short name of a case."""

    # One may also have ``notes(readings)``: what else the samples of a case say, as JSON values by name.


@dataclass(frozen=True)
class Result:
    """One case.

    Attributes
    ----------
    name : str
        Of the case.
    case : dict
        The case.
    times : dict of str to Summary
        By label, ours first; empty if nothing was timed.
    refused : str
        Why nothing was timed, or empty.
    notes : dict
        More of what was found.
    """

    name: str
    case: Case
    times: dict[str, Summary]
    refused: str
    notes: dict[str, Any]

    def best_peer(self) -> tuple[str, Summary] | None:
        """Return the fastest runner that is not ours, by the median of the ratios of its rounds."""
        peers = {k: v for k, v in self.times.items() if not k.startswith("ours")}
        if not peers:
            return None
        best = min(peers, key=lambda k: peers[k].ratio)
        return best, peers[best]

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Result:
        """Return the result that `json` was made of."""
        times = {k: Summary(**v) for k, v in values["times"].items()}
        known = ("name", "case", "refused", "times")
        notes = {k: v for k, v in values.items() if k not in known}
        return cls(values["name"], values["case"], times, values["refused"], notes)

    def json(self) -> dict[str, Any]:
        """Return JSON values."""
        times = {k: asdict(v) for k, v in self.times.items()}
        return {"name": self.name, "case": self.case, "refused": self.refused, "times": times, **self.notes}


def race(
    bench: str,
    module: Benchmark,
    cases: list[Case],
    runners: Mapping[str, Runner],
    *,
    rounds: int,
    seconds: float,
    pause: float = 0.0,
    say: Callable[[str], None] | None = None,
) -> list[Result]:
    """Time all runners on all cases.

    Parameters
    ----------
    bench : str
        ``"gemm"``, ``"step"`` or ``"op"``.
    module : Benchmark
        Verifies and names the cases.
    cases : list of dict
        What to time.
    runners : mapping of str to Runner
        By label; the first is the base. One that answers None to a case does not take part in it.
    rounds, seconds, pause
        See `interleave`.
    say : callable, optional
        Gets a line per case when it is done; by default the name on the error stream of a terminal.

    Returns
    -------
    list of Result
        One per case; those whose results were wrong are refused.
    """
    results = []
    more: Callable[[Mapping[str, list[Reading]]], dict[str, Any]] = getattr(module, "notes", lambda _: {})
    for number, case in enumerate(cases):
        name = module.name(case)
        answers = {label: runner.prepare(bench, case) for label, runner in runners.items()}
        present = {label: answer for label, answer in answers.items() if answer is not None}
        refused, times, notes = "", {}, {}
        try:
            module.verify(case, present)
        except WrongResult as error:
            refused = str(error)
        else:
            taking_part = {label: runners[label] for label in present}
            readings = interleave(taking_part, rounds=rounds, seconds=seconds, pause=pause)
            times = summarize(readings, next(iter(present)))
            notes = more(readings)
        results.append(Result(name, case, times, refused, notes))
        line = f"[{number + 1}/{len(cases)}] {name}" + (f": REFUSED: {refused}" if refused else "")
        if say is not None:
            say(line)
        elif sys.stderr.isatty() or refused:
            print(line, file=sys.stderr)
    return results


RATIO_NOTE = (
    "Times are medians. A ratio is the median over the rounds of the peer's time over ours (above 1: ours is faster); "
    "after it in brackets, where it differs by more than 5 %, the ratio of the 20 % quantiles. "
    "Samples in which a thread waited for a CPU are left out; ~ marks a ratio with too few others."
)


def geometric_mean(ratios: list[float]) -> float:
    """Return the geometric mean, NaN of nothing."""
    return float(np.exp(np.mean(np.log(ratios)))) if ratios else float("nan")


def ratio_text(summary: Summary) -> str:
    """Return ``1.23x``, with the ratio of the quantiles where the two differ by more than 5 %, and ``~`` if it was disturbed."""
    text = f"{'~' if summary.disturbed else ''}{summary.ratio:.2f}x"
    return f"{text} ({summary.quick_ratio:.2f}x)" if summary.unsure else text


def time_text(seconds: float) -> str:
    """Return a time in microseconds with three or four digits."""
    us = seconds * 1e6
    return f"{us:.2f}" if us < 100 else f"{us:.1f}" if us < 1000 else f"{us:.0f}"
