"""What the machine does at best, measured by native loops: multiply-adds on registers, and bytes at every level of memory."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn import _core
from pyfastnn.bench.machine import caches
from pyfastnn.bench.timing import LEAST_CLEAN, WAITED

LEVELS = ("L1", "L2", "L3", "memory")
Peaks = dict[str, Any]

_DEFAULT_BYTES = {"L1": 32 << 10, "L2": 1 << 20, "L3": 32 << 20}
_LARGEST_L3_SET = 8 << 20
_MEMORY_SET = 192 << 20
ATTEMPTS = 25
"""Samples of a rate, at most."""
_UNIT = 512
"""Bytes a probed array is a multiple of."""


def measure(threads: int = 1, seconds: float = 0.03) -> Peaks:
    """Measure what ``threads`` threads do at best with the active instruction set, in about a second.

    Parameters
    ----------
    threads : int, default 1
        Threads that run the loops at the same time, each on arrays of its own.
    seconds : float, default 0.03
        Least length of a sample.

    Returns
    -------
    dict
        ``threads``; ``gflops``; ``read`` and ``update``: GB/s by level (``"L1"``, ``"L2"``, ``"L3"``, ``"memory"``), where an update
        is ``y += a * x`` and counts two arrays read and one written; ``bytes``: the size of each cache. All threads together.
        ``scaled``: what could not be measured together because other processes took a core; these are the rates of one thread times
        the threads, which makes a floor too low rather than too high.
    """
    sizes = _cache_bytes()
    peaks: Peaks = {
        "threads": threads,
        "isa": _core.active_isa(),
        "bytes": sizes,
        "read": {},
        "update": {},
        "scaled": [],
    }
    flop = _core.probe_multiply_add(1000) / 1000

    def best(name: str, works: list[Callable[[int], object]], amount: float) -> float:
        rate, clean = _rate(works, amount, seconds)
        if clean or threads == 1:
            return rate * 1e-9
        # The cores were never free together.
        peaks["scaled"].append(name)
        return max(rate, threads * _rate(works[:1], amount, seconds)[0]) * 1e-9

    peaks["gflops"] = best("gflops", [_core.probe_multiply_add] * threads, flop)
    for level in LEVELS:
        # Half a cache leaves room for what else is in it; the last level is shared by the threads.
        whole = _MEMORY_SET if level == "memory" else min(sizes[level] // 2, _LARGEST_L3_SET)
        if level in ("L3", "memory"):
            whole //= threads
        items = max(1, whole // 2 // _UNIT) * (_UNIT // 4)
        pairs = [(np.ones(items, np.float32), np.ones(items, np.float32)) for _ in range(threads)]
        # One array after the other each time where a smaller cache would hold one alone; the others are too short for that.
        turns = level in ("L3", "memory")
        peaks["read"][level] = best(f"read {level}", [partial(_read, pair, turns) for pair in pairs], 8 * items)
        peaks["update"][level] = best(
            f"update {level}", [partial(_core.probe_update, *pair) for pair in pairs], 12 * items
        )
    return peaks


def _read(pair: tuple[NDArray[np.float32], NDArray[np.float32]], turns: bool, repeats: int) -> None:
    for _ in range(repeats if turns else 1):
        for array in pair:
            _core.probe_read(array, 1 if turns else repeats)


def level_of(peaks: Peaks, size: float) -> str:
    """Return the smallest level that holds so many bytes; each thread brings its own L1 and L2."""
    for level in LEVELS[:-1]:
        if size <= peaks["bytes"][level] * (1 if level == "L3" else peaks["threads"]):
            return level
    return "memory"


def describe(peaks: Peaks) -> str:
    """Return the peaks in one line."""
    updates = ", ".join(f"{level} {peaks['update'][level]:.0f}" for level in LEVELS)
    reads = ", ".join(f"{level} {peaks['read'][level]:.0f}" for level in LEVELS)
    text = f"measured at best, {peaks['threads']} thread(s): {peaks['gflops']:.1f} GF/s; GB/s updating {updates}; reading {reads}"
    return text + (f" (one thread times {peaks['threads']}: {', '.join(peaks['scaled'])})" if peaks["scaled"] else "")


def _cache_bytes() -> dict[str, int]:
    """Return the sizes of the caches in bytes; usual ones where the system does not tell."""
    found = dict(_DEFAULT_BYTES)
    for level, text in caches().items():
        match = re.fullmatch(r"(\d+)([KMG]?)", text)
        if match is not None and level in found:
            found[level] = int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[match[2]]
    return found


def _rate(works: list[Callable[[int], object]], amount: float, seconds: float) -> tuple[float, bool]:
    """Return the amounts a second of all works at once in the best sample, and whether in some no thread waited for a CPU."""
    repeats = 1
    while (spent := _timed(works, repeats)[0]) < seconds:
        repeats = max(2 * repeats, int(repeats * seconds / max(spent, 1e-6)))
    best, clean = spent, 0
    for _ in range(ATTEMPTS):
        spent, waited = _timed(works, repeats)
        best = min(best, spent)
        clean += waited <= WAITED * spent
        if clean == LEAST_CLEAN:
            break
    return len(works) * amount * repeats / best, clean > 0


def _timed(works: list[Callable[[int], object]], repeats: int) -> tuple[float, float]:
    """Return the seconds from the start of all works to the end of the last, and the longest that one stood ready without a CPU."""
    begun: list[float] = []
    ended: list[tuple[float, float]] = []
    barrier = threading.Barrier(len(works), action=lambda: begun.append(time.perf_counter()))

    def work(one: Callable[[int], object]) -> None:
        waited = _waited()
        barrier.wait()
        one(repeats)
        ended.append((time.perf_counter(), _waited() - waited))

    team = [threading.Thread(target=work, args=(one,)) for one in works]
    for member in team:
        member.start()
    for member in team:
        member.join()
    return max(end for end, _ in ended) - begun[0], max(waited for _, waited in ended)


def _waited() -> float:
    """Return the seconds this thread has stood ready without a CPU (Linux), or 0."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) * 1e-9
    except (OSError, IndexError, ValueError):
        return 0.0
