"""The time of single predictions one by one, alone and while other threads do the same."""

from __future__ import annotations

import argparse
import os
import threading
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn.bench import step, tasks
from pyfastnn.bench.table import format_table
from pyfastnn.nn.model import Model

Array = NDArray[Any]
CALLS = 20_000


def one_by_one(model: Model, row: Array, calls: int) -> NDArray[np.int64]:
    """Return the nanoseconds of each of some calls of a fresh predictor, two looks at the clock included."""
    predictor = model.predictor()
    scores = np.empty((1, tasks.CLASSES), np.float32)
    spent = np.empty(calls, np.int64)
    clock = time.perf_counter_ns
    for k in range(calls):
        start = clock()
        predictor(row, scores)
        spent[k] = clock() - start
    if scores.tobytes() != model(row).tobytes():
        raise RuntimeError("predict: the scores are not those of the model")
    return spent


def beside(model: Model, row: Array, calls: int, others: int) -> NDArray[np.int64]:
    """Return the same while so many other threads predict with predictors of their own."""
    stop = threading.Event()
    ready = threading.Barrier(others + 1)

    def work() -> None:
        predictor = model.predictor()
        scores = np.empty((1, tasks.CLASSES), np.float32)
        mine = row.copy()
        ready.wait()
        while not stop.is_set():
            predictor(mine, scores)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(others)]
    for thread in threads:
        thread.start()
    ready.wait()
    try:
        return one_by_one(model, row, calls)
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def cores() -> int:
    """Return the number of processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def main(options: argparse.Namespace) -> int:
    """Run the benchmark and print its table."""
    task = tasks.get("T5")
    model = step.model_of(task)
    row = tasks.data(task)[0][:1].copy()
    one_by_one(model, row, 1000)
    rows = []
    for others in dict.fromkeys((0, min(7, cores() - 1), 7)):
        spent = beside(model, row, CALLS, others) * 1e-3
        p50, p90, p99, p999 = np.quantile(spent, [0.5, 0.9, 0.99, 0.999])
        label = "alone" if others == 0 else f"beside {others} other thread{'s' if others > 1 else ''}"
        rows.append([label, *(f"{v:.2f}" for v in (p50, p90, p99, p999, spent.max()))])
    print(f"one row through {task.title.split(',')[0]}, {cores()} cores, microseconds of {CALLS} calls\n")
    print(format_table(["", "median", "p90", "p99", "p99.9", "longest"], rows))
    print(
        "\nThreads take turns at the GIL, 5 ms each as Python hands it on: that is the longest wait, not the usual one."
    )
    return 0
