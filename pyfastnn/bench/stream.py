"""Training on rows that are read from files block by block, against the same rows in memory.

The files are in the system's cache when they are timed: what a disk adds is the disk's. The least that streaming costs is then one copy of
every row, from that cache to a block.
"""

from __future__ import annotations

import atexit
import importlib.util
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn import nn
from pyfastnn._names import unknown
from pyfastnn.bench.peaks import Peaks
from pyfastnn.bench.race import Result
from pyfastnn.bench.table import format_table
from pyfastnn.bench.timing import Case, Subject, WrongResult
from pyfastnn.data import HDF5
from pyfastnn.data.preprocessing import Rescale
from pyfastnn.data.stream import Stream
from pyfastnn.train.trainer import Trainer

Array = NDArray[Any]
ROWS, FEATURES, CLASSES, BATCH = 60_000, 784, 10, 128
HIDDEN = (32, 128)
SOURCES = ("npy", "memmap", "hdf5", "hdf5 chunks")
"""A ``.npy`` file, the same mapped into memory, and a data set of an HDF5 file, in one piece and in chunks of `BATCH` rows."""


def cases(names: list[str] | None = None) -> list[Case]:
    """Return the cases of some sources, by default of all that can be read here: those of HDF5 want h5py.

    Raises
    ------
    ValueError
        If a source is unknown, or h5py is missing for one that was named.
    """
    for name in names or ():
        if name not in SOURCES:
            raise ValueError(unknown("source", name, SOURCES))
    without = importlib.util.find_spec("h5py") is None
    if names and without and any(name.startswith("hdf5") for name in names):
        raise ValueError("HDF5 files need h5py: pip install pyfastnn[hdf5]")
    found = [name for name in names or SOURCES if not (without and name.startswith("hdf5"))]
    return [
        {"source": name, "dtype": dtype, "hidden": hidden}
        for name in found
        for dtype in ("uint8", "float32")
        for hidden in HIDDEN
    ]


def name(case: Case) -> str:
    """Return the name of a case, such as ``npy uint8 784-32-10``."""
    return f"{case['source']} {case['dtype']} {FEATURES}-{case['hidden']}-{CLASSES}"


@cache
def rows_of(dtype: str) -> tuple[Array, NDArray[np.int64]]:
    """Return random bytes, in one of the dtypes, and random labels."""
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (ROWS, FEATURES), dtype=np.uint8)
    return X.astype(dtype, copy=False), rng.integers(0, CLASSES, ROWS)


@cache
def folder() -> Path:
    """Return a folder for the files, which is removed when the process ends."""
    made = tempfile.TemporaryDirectory(prefix="pyfastnn-bench-")
    atexit.register(made.cleanup)
    return Path(made.name)


def source_of(source: str, dtype: str) -> Any:
    """Return the rows as a source of a stream, in a file that is written when it is first wanted."""
    X, _ = rows_of(dtype)
    path = folder() / f"{dtype}{'' if source == 'memmap' else source.replace(' ', '')}"
    if source.startswith("hdf5"):
        import h5py

        if not path.exists():
            with h5py.File(path, "w") as file:
                file.create_dataset("X", data=X, chunks=(BATCH, FEATURES) if source == "hdf5 chunks" else None)
        return HDF5(path, "X")
    path = folder() / f"{dtype}.npy"
    if not path.exists():
        np.save(path, X)
    return path if source == "npy" else np.load(path, mmap_mode="r")


class Fit(Subject):
    """Epochs of `Trainer.fit` on a net with one hidden layer.

    Parameters
    ----------
    case : dict
        The case.
    streamed : bool
        Whether the rows come from the file.
    """

    warm = False

    def __init__(self, case: Case, streamed: bool) -> None:
        self.X, self.y = rows_of(case["dtype"])
        self.stream = Stream(source_of(case["source"], case["dtype"]), self.y) if streamed else None
        model = nn.Sequential(nn.Linear(case["hidden"]), nn.ReLU(), nn.Linear(CLASSES), preprocess=Rescale())
        self.trainer = Trainer(model)

    def check(self) -> dict[str, Any]:
        """Train one epoch; return the loss of its weights on all rows, and whether each row of the file came once with its label."""
        self.run(1)
        complete = self.stream is None or checked(self.stream, self.X, self.y)
        loss = self.trainer.evaluate(self.X, self.y)["loss"]
        seen = loss if self.stream is None else self.trainer.evaluate(self.stream)["loss"]
        return {"complete": complete, "loss": loss, "seen": seen}

    def run(self, calls: int) -> None:
        """Fit for so many epochs."""
        data = (self.X, self.y) if self.stream is None else (self.stream,)
        self.trainer.fit(*data, epochs=calls, batch_size=BATCH, verbose=0)


def checked(stream: Stream, X: Array, y: NDArray[np.int64]) -> bool:
    """Return whether an epoch of the stream holds every row once, with its label."""
    found = np.zeros(len(y), np.int64)
    numbers = Stream(stream.X, np.arange(len(y)), block_rows=stream.block_rows, chunk_rows=stream.chunk_rows)
    for (rows, labels), (_, number) in zip(stream.blocks(), numbers.blocks(), strict=True):
        found[number] += 1
        if not (np.array_equal(rows, X[number]) and np.array_equal(labels, y[number])):
            return False
    return bool((found == 1).all())


def subject(case: Case, variant: str = "") -> Subject:
    """Make the fit on a stream, or as ``"memory"`` the one on arrays."""
    return Fit(case, streamed=variant == "")


def verify(case: Case, answers: Mapping[str, Any]) -> None:
    """Check that the rows are those of the file, and that both evaluations of a model agree.

    Raises
    ------
    WrongResult
        If not.
    """
    for label, answer in answers.items():
        if not answer["complete"]:
            raise WrongResult(f"{label}: the stream does not hold every row once with its label")
        if not abs(answer["seen"] - answer["loss"]) <= 1e-9 * abs(answer["loss"]):
            raise WrongResult(f"{label}: the loss over the stream is {answer['seen']}, over the rows {answer['loss']}")


def report(results: Sequence[Result], peaks: Peaks | None = None) -> str:
    """Return the table of a race: an epoch each, and the speed of the stream as a part of that in memory."""
    rows = []
    for result in results:
        if result.refused:
            rows.append([result.name, "refused", "", "", ""])
            continue
        streamed, memory = result.times["ours"], result.times["ours memory"]
        read = ROWS * FEATURES * np.dtype(result.case["dtype"]).itemsize
        epochs = [f"{1e3 * found.median:.1f}" for found in (memory, streamed)]
        mark = "~" if memory.disturbed else ""
        rows.append([result.name, *epochs, f"{read / streamed.median * 1e-9:.2f}", f"{mark}{memory.ratio:.2f}"])
    header = ("source, rows, net", "in memory, ms", "streamed, ms", "GB/s", "speed")
    return (
        format_table(header, rows)
        + f"\n{ROWS} rows, an epoch each, in batches of {BATCH}. Times are medians; the speed is the median over the rounds of the time in "
        "memory over that of the stream. ~ marks one whose samples waited for a CPU."
    )
