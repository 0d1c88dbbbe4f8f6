"""Takes times on a machine that others use too: short interleaved samples, then medians, quantiles and ratios by round."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

Case = dict[str, Any]
"""Names one measurement in JSON values, such as ``{"layout": "NN", "m": 32, "k": 32, "n": 32}``."""

WAITED = 0.02
"""A sample whose threads stood ready without a CPU for more than this share of its time is disturbed."""

LEAST_CLEAN = 5
"""Disturbed rounds are left out if at least so many are clean."""

ATTEMPTS = 4
"""A disturbed sample is taken again at once, up to so many times in all."""


class WrongResult(Exception):
    """A result that is not right; what made it is not timed."""


class Subject(ABC):
    """One implementation of one case.

    Attributes
    ----------
    least_seconds : float
        Samples are made no shorter than this, for work whose cost a short run would overstate.
    unit : int
        Calls come in multiples of this, for work that does several at a time.
    warm : bool
        Whether a sample begins with work that is not timed; not for work of seconds.
    """

    least_seconds = 0.0
    unit = 1
    warm = True

    @abstractmethod
    def check(self) -> Any:
        """Do the work once and return what `verify` of the benchmark judges (JSON values)."""

    def reset(self) -> None:  # noqa: B027 - most have nothing to do
        """Put back the state every sample starts from; not timed."""

    @abstractmethod
    def run(self, calls: int) -> None:
        """Do the work so many times; this is timed."""


@dataclass(frozen=True)
class Reading:
    """One sample.

    Attributes
    ----------
    seconds : float
        Per call.
    waited : float
        Share of the time in which a thread of the process stood ready without a CPU; 0 where the system does not say.
    """

    seconds: float
    waited: float


def waiting_ns() -> int:
    """Return how long the threads of this process have stood ready without a CPU (Linux), or 0."""
    total = 0
    try:
        for task in Path("/proc/self/task").iterdir():
            total += int((task / "schedstat").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return total


def measure(subject: Subject, calls: int) -> Reading:
    """Take one sample: one call to warm the caches, then ``calls`` timed ones."""
    subject.reset()
    if subject.warm:
        subject.run(subject.unit)
    waited = waiting_ns()
    start = time.perf_counter_ns()
    subject.run(calls)
    spent = time.perf_counter_ns() - start
    waited = waiting_ns() - waited
    return Reading(spent * 1e-9 / calls, waited / spent)


def calls_for(subject: Subject, seconds: float) -> int:
    """Return how many calls last about ``seconds`` (or the subject's least), at least one."""
    seconds, calls, unit = max(seconds, subject.least_seconds), subject.unit, subject.unit
    while True:
        subject.reset()
        start = time.perf_counter()
        subject.run(calls)
        spent = time.perf_counter() - start
        if spent >= 0.3 * seconds:
            return unit * max(1, round(calls / unit * seconds / spent))
        guess = calls * 0.5 * seconds / max(spent, 1e-7) if spent > 1e-4 else 0
        calls = max(2 * calls, unit * round(guess / unit))


class Runner(Protocol):
    """A subject in this process or in another one."""

    def prepare(self, bench: str, case: Case) -> Any:
        """Set up a case and return the answer of `Subject.check`."""

    def calls_for(self, seconds: float) -> int:
        """See `calls_for`."""

    def sample(self, calls: int) -> Reading:
        """See `measure`."""


class LocalRunner:
    """Runs a subject in this process.

    Parameters
    ----------
    make : module or object
        Its ``subject(bench, case, variant)`` makes a `Subject`.
    variant : str
        Which of several ways of doing the work.
    """

    def __init__(self, make: Any, variant: str) -> None:
        self.make = make
        self.variant = variant
        self.subject: Subject | None = None

    def prepare(self, bench: str, case: Case) -> Any:
        """Make the subject and check it; the one before is let go first. None if this way of doing it does not apply."""
        self.subject = None
        try:
            self.subject = self.make.subject(bench, case, self.variant)
        except NotImplementedError:
            return None
        return self._subject().check()

    def calls_for(self, seconds: float) -> int:
        """See `calls_for`."""
        return calls_for(self._subject(), seconds)

    def sample(self, calls: int) -> Reading:
        """See `measure`."""
        return measure(self._subject(), calls)

    def _subject(self) -> Subject:
        if self.subject is None:
            raise RuntimeError("LocalRunner: prepare a case first")
        return self.subject


def interleave(
    runners: Mapping[str, Runner], *, rounds: int, seconds: float, pause: float = 0.0
) -> dict[str, list[Reading]]:
    """Ask every runner in turn for a short sample, for some rounds.

    Parameters
    ----------
    runners : mapping of str to Runner
        Prepared runners by label.
    rounds : int
        Samples per runner. The order is reversed in every second round, so no one always follows the same neighbour.
    seconds : float
        Length of a sample; a call that lasts longer is a sample alone.
    pause : float, default 0
        Seconds between two samples, for threads of the one before that still spin.

    Returns
    -------
    dict of str to list of Reading
        One reading per runner and round.
    """
    calls = {label: runner.calls_for(seconds) for label, runner in runners.items()}
    readings: dict[str, list[Reading]] = {label: [] for label in runners}
    for number in range(rounds):
        order = list(runners) if number % 2 == 0 else list(runners)[::-1]
        for label in order:
            if pause:
                time.sleep(pause)
            for _ in range(ATTEMPTS):
                reading = runners[label].sample(calls[label])
                if reading.waited <= WAITED:
                    break
            readings[label].append(reading)
    return readings


@dataclass(frozen=True)
class Summary:
    """The samples of one runner, seen beside those of a base.

    Attributes
    ----------
    median, quick, p10, p90 : float
        Seconds per call; ``quick`` is the 20 % quantile.
    ratio : float
        Median over the rounds of its time over the base's: above 1 the base is faster.
    quick_ratio : float
        Ratio of the two 20 % quantiles.
    clean : int
        Rounds the numbers are made of; ``rounds`` were taken, the others were disturbed.
    rounds : int
        Rounds taken.
    """

    median: float
    quick: float
    p10: float
    p90: float
    ratio: float
    quick_ratio: float
    clean: int
    rounds: int

    @property
    def disturbed(self) -> bool:
        """Whether too few rounds were clean, so that the others had to be used."""
        return self.clean < min(LEAST_CLEAN, self.rounds)

    @property
    def unsure(self) -> bool:
        """Whether the two ratios differ by more than 5 %."""
        return abs(self.ratio / self.quick_ratio - 1) > 0.05


def summarize(readings: Mapping[str, list[Reading]], base: str) -> dict[str, Summary]:
    """Return the summary of every runner against the runner ``base``."""
    return {label: _summary(mine, readings[base]) for label, mine in readings.items()}


def _summary(mine: list[Reading], base: list[Reading]) -> Summary:
    pairs = [(a, b) for a, b in zip(mine, base, strict=True)]
    clean = [(a, b) for a, b in pairs if a.waited <= WAITED and b.waited <= WAITED]
    used = clean if len(clean) >= min(LEAST_CLEAN, len(pairs)) else pairs
    a = np.array([x.seconds for x, _ in used])
    b = np.array([y.seconds for _, y in used])
    p10, p20, p50, p90 = np.quantile(a, [0.1, 0.2, 0.5, 0.9])
    return Summary(
        median=float(p50),
        quick=float(p20),
        p10=float(p10),
        p90=float(p90),
        ratio=float(np.median(a / b)),
        quick_ratio=float(p20 / np.quantile(b, 0.2)),
        clean=len(clean),
        rounds=len(pairs),
    )
