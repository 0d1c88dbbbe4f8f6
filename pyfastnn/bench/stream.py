"""Training on rows that are read from a file block by block, against the same rows in memory."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn import nn
from pyfastnn.bench.table import format_table
from pyfastnn.data.preprocessing import Rescale
from pyfastnn.data.stream import Stream
from pyfastnn.train.trainer import Trainer

Array = NDArray[Any]
ROWS, FEATURES, CLASSES, BATCH = 60_000, 784, 10, 128
HIDDEN = (32, 128, 512)
EPOCHS = 5


def rows_of(dtype: str, rows: int) -> tuple[Array, NDArray[np.int64]]:
    """Return random bytes, in one of the dtypes, and random labels."""
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (rows, FEATURES), dtype=np.uint8)
    return X.astype(dtype, copy=False), rng.integers(0, CLASSES, rows)


def trainer_of(hidden: int, threads: int) -> Trainer:
    """Return a trainer of a net with one hidden layer."""
    model = nn.Sequential(nn.Linear(hidden), nn.ReLU(), nn.Linear(CLASSES), preprocess=Rescale())
    return Trainer(model, threads=threads)


def seconds(work: Callable[[], object]) -> float:
    """Return how long a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def checked(stream: Stream, X: Array, y: NDArray[np.int64]) -> None:
    """Raise unless an epoch of the stream holds every row once, with its label.

    Raises
    ------
    RuntimeError
        If it does not.
    """
    found = np.zeros(len(y), np.int64)
    numbers = Stream(stream.X, np.arange(len(y)), block_rows=stream.block_rows, chunk_rows=stream.chunk_rows)
    for (rows, labels), (_, number) in zip(stream.blocks(), numbers.blocks(), strict=True):
        found[number] += 1
        if not (np.array_equal(rows, X[number]) and np.array_equal(labels, y[number])):
            raise RuntimeError("stream: rows or labels are not those of the file")
    if not (found == 1).all():
        raise RuntimeError("stream: a row does not come exactly once")


def compared(stream: Stream, X: Array, y: NDArray[np.int64], hidden: int, threads: int) -> tuple[float, float, float]:
    """Return the seconds of an epoch in memory and streamed, and the ratio: medians of pairs, each one behind the other."""
    memory, streamed = trainer_of(hidden, threads), trainer_of(hidden, threads)
    pairs = []
    for _ in range(EPOCHS + 1):
        alone = seconds(lambda: memory.fit(X, y, epochs=1, batch_size=BATCH, verbose=0))
        pairs.append((alone, seconds(lambda: streamed.fit(stream, epochs=1, batch_size=BATCH, verbose=0))))
    times = np.array(pairs[1:])
    return float(np.median(times[:, 0])), float(np.median(times[:, 1])), float(np.median(times[:, 0] / times[:, 1]))


def main(options: argparse.Namespace) -> int:
    """Run the benchmark and print its table."""
    table = []
    with tempfile.TemporaryDirectory() as folder:
        for dtype in ("uint8", "float32"):
            X, y = rows_of(dtype, ROWS)
            path = Path(folder) / f"{dtype}.npy"
            np.save(path, X)
            with Stream(path, y) as stream:
                checked(stream, X, y)
                for hidden in HIDDEN:
                    alone, streamed, ratio = compared(stream, X, y, hidden, options.threads)
                    rate = X.nbytes / streamed * 1e-9
                    net = f"{FEATURES} -> {hidden} -> {CLASSES}"
                    table.append(
                        [dtype, net, f"{alone * 1e3:.0f}", f"{streamed * 1e3:.0f}", f"{rate:.2f}", f"{ratio:.2f}"]
                    )
    print(f"{ROWS} rows from a file the system has in its cache, batches of {BATCH}, threads: {options.threads}\n")
    print(format_table(["rows", "net", "in memory, ms", "streamed, ms", "GB/s", "speed"], table))
    print(
        "\nAn epoch each, medians of pairs. The reader is a thread of its own: it wants a core that training leaves free."
    )
    return 0
