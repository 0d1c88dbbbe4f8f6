"""What an epoch goes through: all rows at once, or the blocks of a stream; and its loss and accuracy over all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pyfastnn import _core
from pyfastnn._inputs import READ_AS_THEY_ARE, RowOf, as_weights
from pyfastnn.backends.cpu import CpuPlan
from pyfastnn.train.compiled import EVALUATION_BATCH, Form, Head
from pyfastnn.train.history import Row
from pyfastnn.train.prepare import Data, as_stream, evaluation_data, stream_data, targets_of, training_data

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
    counts : dict, optional
        What `counts` has found for these arrays in another pass, and will find.
    """

    def __init__(
        self, data: Data, batch: int, heads: Sequence[Head], counts: dict[str, NDArray[np.float64] | None] | None = None
    ) -> None:
        self.chosen = data.chosen
        self.rows = data.count
        self.form = data.form
        self.batch = min(batch, self.rows)
        self.steps = -(-self.rows // self.batch)
        self.heads = heads
        self._counts = {} if counts is None else counts
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
        self.form = Form(weighted=stream.sample_weight is not None)
        self._bound: set[str] = set()
        # Rows that are read as they are fit each time if they fit once: dtype and shape are those of the source.
        sources = stream.X if isinstance(stream.X, dict) else {"": stream.X}
        floats = all(symbol.dtype != "int64" for symbol in trainer.model.network.inputs.values())
        self._plain = floats and all(s.dtype in READ_AS_THEY_ARE for s in sources.values())
        self._first: Data | None = None
        self._whole: Data | None = None
        self._outputs: dict[str, tuple[int, ...]] = {}

    def passes(self, seed: int, epoch: int, shuffle: bool) -> Generator[Pass, None, None]:
        """Yield the blocks of an epoch; the order within one follows from seed, epoch and its number."""
        shared = self.trainer.shared_interrupts
        threads = (1 if shared is None else shared.fits) * (self.trainer.threads or _core.num_threads())
        whole = self._in_place()
        with closing(self._blocks(epoch, threads) if whole is None else self._places(whole, epoch, threads)) as blocks:
            for number, found in enumerate(blocks):
                self._bound.update(found.arrays)
                if shuffle:
                    found.shuffle(_block_seed(seed, number), epoch)
                yield found

    def _row(self, epoch: int, block: int, position: int) -> int:
        """Return which row of the stream stands at a position of a block."""
        chunk, offset = divmod(position, self.stream.chunk_rows)
        first = block * (self.stream.block_rows // self.stream.chunk_rows)
        return int(self.stream.order(epoch)[first + chunk]) + offset

    def _blocks(self, epoch: int, threads: int) -> Generator[Pass, None, None]:
        """Yield passes over copies of the blocks."""
        with closing(self.stream.blocks(epoch, threads=threads, recycle=True)) as blocks:
            for number, (X, y, *weights) in enumerate(blocks):
                data = self._data(partial(self._row, epoch, number), X, y, *weights)
                yield Pass(data, self.batch, self.trainer.heads)

    def _places(self, whole: Data, epoch: int, threads: int) -> Generator[Pass, None, None]:
        """Yield passes over the arrays of the stream, each over the rows of a block where they are."""
        counts: dict[str, NDArray[np.float64] | None] = {}
        with closing(self.stream.numbers(epoch, threads=threads)) as blocks:
            for rows in blocks:
                data = Data(whole.arrays, len(rows), rows, whole.form)
                yield Pass(data, self.batch, self.trainer.heads, counts)

    def _in_place(self) -> Data | None:
        """Return all rows, if they are arrays that plans can read where they are, and targets that take no more memory than blocks."""
        arrays = self.stream.arrays() if self._plain else None
        if self._whole is not None or arrays is None:
            return self._whole
        X, y, *weights = arrays
        targets = y if isinstance(y, dict) else {head.output: y for head in self.trainer.heads}
        converted = [targets[h.output].nbytes for h in self.trainer.heads if not h.counts and h.output in targets]
        if sum(converted) > 2 * self.stream.block_bytes:
            return None
        y_name = self.name.replace("X", "y")
        self._whole = evaluation_data(self.trainer, X, y, self.name, y_name, *weights)
        return self._whole

    def _data(self, row_of: RowOf, X: Any, y: Any, weights: Any = None) -> Data:
        """Return a block as `evaluation_data` does; what one block has shown of the rows is not looked at again."""
        trainer, name = self.trainer, self.name
        model, targets = trainer.model, name.replace("X", "y")
        if self._first is None or not self._plain:
            found = self._first = evaluation_data(trainer, X, y, name, targets, weights, row_of)
            self._outputs = model.output_shapes()
            return found
        rows: dict[str, Array] = X if isinstance(X, dict) else {next(iter(model.network.inputs)): X}
        count = len(next(iter(rows.values())))
        checked = None if weights is None else as_weights(weights, "sample_weight", count, name)
        arrays = {
            **self._first.arrays,
            **{f"X{model.suffix(key, 'inputs')}": array for key, array in rows.items()},
            **targets_of(trainer, y, self._outputs, count, checked, name, targets, row_of),
        }
        return Data(arrays, count, form=self.form)

    def unbind(self, plan: CpuPlan) -> None:
        """Let a plan forget the last block."""
        self._first = self._whole = None
        plan.bind(dict.fromkeys(self._bound))


_OF_STREAMS = {
    "y": "which holds the targets",
    "rows": "which is trained on whole",
    "sample_weight": "which holds them: Stream(X, y, sample_weight)",
}
"""Why what else is given to a fit or an evaluation cannot stand beside a stream."""


def training_passes(trainer: Trainer, X: Any, y: Any, rows: Any, weights: Any, batch: int) -> Passes:
    """Check what a fit is given, and build what is missing."""
    stream = as_stream(X)
    if stream is None:
        return Pass(training_data(trainer, X, y, rows, weights), batch, trainer.heads)
    for name, value in (("y", y), ("rows", rows), ("sample_weight", weights)):
        if value is not None:
            raise ValueError(f"fit: {name!r} was given, but 'X' is a Stream, {_OF_STREAMS[name]}")
    stream_data(trainer, stream)
    return StreamPasses(trainer, stream, batch)


def evaluation_passes(trainer: Trainer, X: Any, y: Any, x_name: str, y_name: str, weights: Any = None) -> Passes:
    """Check rows and targets against the built model."""
    stream = as_stream(X)
    if stream is None:
        return Pass(evaluation_data(trainer, X, y, x_name, y_name, weights), EVALUATION_BATCH, trainer.heads)
    for name, value in ((y_name, y), ("sample_weight", weights)):
        if value is not None:
            held = _OF_STREAMS["sample_weight" if name == "sample_weight" else "y"]
            raise ValueError(f"{name!r} was given, but {x_name!r} is a Stream, {held}")
    return StreamPasses(trainer, stream, EVALUATION_BATCH, x_name)


@lru_cache(maxsize=1 << 16)
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
