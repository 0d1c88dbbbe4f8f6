"""What an epoch goes through: all rows at once, or the blocks of a stream; and its loss and accuracy over all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pyfastnn import _core
from pyfastnn.backends.cpu import CpuPlan
from pyfastnn.train.compiled import EVALUATION_BATCH, PLAIN, Form, Head
from pyfastnn.train.history import Row
from pyfastnn.train.prepare import Data, as_stream, evaluation_data, stream_data, training_data

if TYPE_CHECKING:
    from pyfastnn.data.stream import Stream
    from pyfastnn.train.trainer import Trainer

Array = NDArray[Any]


class Passes(Protocol):
    """Rows to train or evaluate on, as one or several native calls an epoch.

    Attributes
    ----------
    rows, batch, steps : int
        All rows, rows of the largest step, steps of an epoch.
    form : Form
        What plans for them are compiled for.
    """

    rows: int
    batch: int
    steps: int
    form: Form

    def passes(self, seed: int, epoch: int, shuffle: bool) -> Generator[Pass, None, None]:
        """Yield what to run one after the other; each is valid until the next is asked for."""
        ...

    def unbind(self, plan: CpuPlan) -> None:
        """Let a plan forget the arrays, so that it does not keep a data set alive."""
        ...


class Pass:
    """The arrays of one way through a data set: rows and targets, their order, and what every step writes.

    Parameters
    ----------
    data : Data
        Checked rows and targets.
    batch : int
        Rows a step.
    heads : sequence of Head
        Outputs that have a loss; classifiers also count the rows that are right.
    """

    def __init__(self, data: Data, batch: int, heads: Sequence[Head]) -> None:
        self.chosen = data.chosen
        self.rows = data.count
        self.form = data.form
        self.batch = min(batch, self.rows)
        self.steps = -(-self.rows // self.batch)
        self.heads = heads
        self._counts: dict[str, NDArray[np.float64] | None] = {}
        self.arrays: dict[str, Array] = {
            **data.arrays,
            "index": np.arange(self.rows, dtype=np.int64) if data.chosen is None else data.chosen.copy(),
            **{name: np.zeros(self.steps) for name in result_names(heads)},
        }

    def passes(self, seed: int, epoch: int, shuffle: bool) -> Generator[Pass, None, None]:
        """Yield the pass itself."""
        if shuffle:
            self.shuffle(seed, epoch)
        yield self

    def shuffle(self, seed: int, epoch: int) -> None:
        """Put the rows into the order of an epoch: a position of the order has the same row as if the rows were copied out."""
        index = self.arrays["index"]
        _core.permutation(index, seed, epoch)
        if self.chosen is not None:
            index[...] = self.chosen[index]

    def counts(self, head: Head) -> NDArray[np.float64] | None:
        """Return how much each row of the data set counts in the mean loss of an output; None if all count 1."""
        if head.suffix not in self._counts:
            row, label = (self.arrays.get(f"{k}{head.suffix}") for k in ("weights", "class_weights"))
            found = None if row is None else row[:, 0].astype(np.float64)
            if label is not None:
                of_label = label.astype(np.float64)[self.arrays[f"y{head.suffix}"]]
                found = of_label if found is None else found * of_label
            self._counts[head.suffix] = found
        return self._counts[head.suffix]

    def unbind(self, plan: CpuPlan) -> None:
        """Let a plan forget the arrays, so that it does not keep a data set alive."""
        plan.bind(dict.fromkeys(self.arrays))


class StreamPasses:
    """The blocks of a `pyfastnn.data.Stream`, one pass each.

    Parameters
    ----------
    trainer : Trainer
        Its model is built and knows its classes.
    stream : Stream
        Rows and targets.
    batch : int
        Rows a step; the last step of a block takes what is left.
    name : str
        What the rows are called in errors.
    """

    def __init__(self, trainer: Trainer, stream: Stream, batch: int, name: str = "X") -> None:
        self.trainer, self.stream, self.name = trainer, stream, name
        self.rows = len(stream)
        block = min(stream.block_rows, self.rows)
        self.batch = min(batch, block)
        whole, rest = divmod(self.rows, block)
        self.steps = whole * -(-block // self.batch) + -(-rest // self.batch)
        self.form = PLAIN
        self._bound: set[str] = set()

    def passes(self, seed: int, epoch: int, shuffle: bool) -> Generator[Pass, None, None]:
        """Yield the blocks of an epoch; the order within one follows from seed, epoch and its number."""
        targets = self.name.replace("X", "y")
        with closing(self.stream.blocks(epoch)) as blocks:
            for number, (X, y) in enumerate(blocks):
                row_of = partial(self._row, epoch, number)
                data = evaluation_data(self.trainer, X, y, self.name, targets, row_of=row_of)
                found = Pass(data, self.batch, self.trainer.heads)
                self._bound.update(found.arrays)
                if shuffle:
                    found.shuffle(_block_seed(seed, number), epoch)
                yield found

    def _row(self, epoch: int, block: int, position: int) -> int:
        """Return which row of the stream stands at a position of a block."""
        chunk, offset = divmod(position, self.stream.chunk_rows)
        first = block * (self.stream.block_rows // self.stream.chunk_rows)
        return int(self.stream.order(epoch)[first + chunk]) + offset

    def unbind(self, plan: CpuPlan) -> None:
        """Let a plan forget the last block."""
        plan.bind(dict.fromkeys(self._bound))


def training_passes(trainer: Trainer, X: Any, y: Any, rows: Any, weights: Any, batch: int) -> Passes:
    """Check what a fit is given, and build what is missing."""
    stream = as_stream(X)
    if stream is None:
        return Pass(training_data(trainer, X, y, rows, weights), batch, trainer.heads)
    for name, value in (("y", y), ("rows", rows), ("sample_weight", weights)):
        if value is not None:
            why = "which holds the targets" if name == "y" else "which is trained on whole, every row counting the same"
            raise ValueError(f"fit: {name!r} was given, but 'X' is a Stream, {why}")
    stream_data(trainer, stream)
    return StreamPasses(trainer, stream, batch)


def evaluation_passes(trainer: Trainer, X: Any, y: Any, x_name: str, y_name: str, weights: Any = None) -> Passes:
    """Check rows and targets against the built model."""
    stream = as_stream(X)
    if stream is None:
        return Pass(evaluation_data(trainer, X, y, x_name, y_name, weights), EVALUATION_BATCH, trainer.heads)
    for name, value in ((y_name, y), ("sample_weight", weights)):
        if value is not None:
            raise ValueError(f"{name!r} was given, but {x_name!r} is a Stream, which holds the targets and no weights")
    return StreamPasses(trainer, stream, EVALUATION_BATCH, x_name)


def _block_seed(seed: int, block: int) -> int:
    """Return the seed of the order within a block; the first has that of the trainer, as rows in memory have."""
    if block == 0:
        return seed
    return int(np.random.SeedSequence([seed, block]).generate_state(1, np.uint64)[0] >> np.uint64(11))


def result_names(heads: Sequence[Head]) -> list[str]:
    """Return the values that every step writes."""
    found = ["loss"] + [f"loss{head.suffix}" for head in heads if head.suffix]
    return found + [f"correct{head.suffix}" for head in heads if head.counts]


class Tally:
    """Loss and accuracy over the rows of several passes.

    A step writes the mean over its batch, so each counts as much as its rows do: their number, or the sum of their weights. Rows of
    weight 0 are left out of the accuracy. The sum of several losses, where rows have weights, is the sum of their means.

    Parameters
    ----------
    heads : sequence of Head
        Outputs and their losses.
    """

    def __init__(self, heads: Sequence[Head]) -> None:
        self.heads = heads
        self.rows = 0
        self._weighted = False
        self._sums = dict.fromkeys(result_names(heads), 0.0)
        self._of = dict.fromkeys(self._sums, 0.0)

    def add(self, data: Pass, steps: int, rows: int) -> None:
        """Count the first ``steps`` steps of a pass, which have ``rows`` rows."""
        if not steps:
            return
        self.rows += rows
        if self.heads[0].suffix:
            self._add("loss", _sum(data.arrays["loss"][:steps], data.batch, rows), rows)
        index = data.arrays["index"][:rows]
        for head in self.heads:
            name, correct = f"loss{head.suffix}", f"correct{head.suffix}"
            losses, counts = data.arrays[name][:steps], data.counts(head)
            if counts is None:
                self._add(name, _sum(losses, data.batch, rows), rows)
            else:
                self._weighted = True
                each = np.add.reduceat(counts[index], np.arange(0, rows, data.batch))
                self._add(name, float(losses @ each), float(each.sum()))
            if head.counts:
                weights = data.arrays.get(f"weights{head.suffix}")
                taking_part = rows if weights is None else int(np.count_nonzero(weights[index]))
                self._add(correct, float(data.arrays[correct][:steps].sum()), taking_part)

    def _add(self, name: str, amount: float, of: float) -> None:
        self._sums[name] += amount
        self._of[name] += of

    def figures(self) -> Row:
        """Return the mean loss, and the accuracy, of every output and of all; a mean over nothing is 0, before any step NaN."""
        found: Row = {}
        for name, amount in self._sums.items():
            kind, dot, output = name.partition(".")
            of = self._of[name]
            shown = f"{'loss' if kind == 'loss' else 'accuracy'}{dot}{output}"
            found[shown] = amount / of if of else 0.0 if self.rows or kind == "correct" else math.nan
        if self._weighted and self.heads[0].suffix:
            found["loss"] = sum(head.weight * found[f"loss{head.suffix}"] for head in self.heads)
        return found


def _sum(losses: Array, batch: int, rows: int) -> float:
    """Return the sum over rows of the mean losses of steps, of which the last may be smaller."""
    return float(losses[:-1].sum() * batch + losses[-1] * (rows - (len(losses) - 1) * batch))


def evaluated(
    data: Passes,
    heads: Sequence[Head],
    plan: CpuPlan,
    threads: int,
    progress: Callable[[int], object] | None = None,
) -> Row | None:
    """Return loss and accuracy over all rows; None if Ctrl-C or ``progress`` ended it early. The plan keeps the arrays bound."""
    tally = Tally(heads)
    with closing(data.passes(0, 0, False)) as passes:
        for each in passes:
            _, reason = plan.run("evaluate", each.rows, each.batch, each.arrays, progress=progress, threads=threads)
            if reason == "interrupted":
                return None
            tally.add(each, each.steps, each.rows)
    return tally.figures()


def evaluated_once(data: Passes, heads: Sequence[Head], plan: CpuPlan, threads: int) -> Row | None:
    """Return what `evaluated` does; the plan lets go of the arrays."""
    try:
        return evaluated(data, heads, plan, threads)
    finally:
        data.unbind(plan)
