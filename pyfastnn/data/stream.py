"""Training data larger than memory, one block at a time, while the next one is read."""

from __future__ import annotations

import math
import operator
from collections.abc import Generator, Mapping
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from pyfastnn import _core
from pyfastnn.data._reading import Reader
from pyfastnn.data.sources import ArrayRows, Source, as_source

__all__ = ["Stream"]

Array = npt.NDArray[Any]

CHUNK_BYTES = 1 << 18
"""Of rows that stay together: reading so much at once costs little more than reading in order, even from a disk."""
BLOCK_BYTES = 1 << 24
"""Of a block: larger ones leave the caches and take longer to wait for at the start of an epoch."""
BLOCK_CHUNKS = 64
"""Least chunks of a block, so that it holds rows from all over the data."""
UNIT_BYTES, UNIT_CHUNKS = 1 << 22, 16
"""Pieces of a file up to this size stay whole, and so many chunks are enough for a block then."""


class Stream:
    """Rows, targets and weights that are read block by block, in an order fixed by the seed.

    The rows are cut into chunks of neighbours. In every epoch the chunks are put into a new order, and so many of them at a time make a
    block. While a block is in use the next one is read, without the GIL, into a second buffer; so memory is that of two blocks, however
    long the files are. Within a block the rows of a chunk stay together: whoever trains on it shuffles them, as
    ``Trainer.fit(stream)`` does. Arrays, those mapped from files among them, it reads in place, without copies.

    Parameters
    ----------
    X : array, path of a ``.npy`` file, RawFile or HDF5, or dict of them by input
        Rows of float32, float64 or whole numbers; they keep their dtype. A `numpy.memmap` is an array here.
    y : array, path of a ``.npy`` file, RawFile or HDF5, or dict of them by output
        As many targets or labels.
    sample_weight : array, path of a ``.npy`` file, RawFile or HDF5, optional
        As many weights of rows, 0 or more, as for `Trainer.fit`.
    block_rows : int, optional
        Rows of a block, a multiple of ``chunk_rows``; by default a power of two, of at most 16 MiB.
    chunk_rows : int, optional
        Rows that stay together; by default a power of two, of at most 256 KiB and a 64th of a block, or whole chunks of an HDF5 data set.
    shuffle : bool, default True
        Whether each epoch has a new order of the chunks. If False, the blocks come as they lie in the file.
    seed : int, 0 <= seed < 2**53, default 0
        Fixes the order of every epoch, on every machine.

    Attributes
    ----------
    X, y : Source, or dict of str to Source
        Rows and targets; slices of them (``stream.y[:]``) are read into arrays. Any preprocessing of `pyfastnn.data` can be fitted on
        ``stream.X``.
    sample_weight : Source or None
        The weights.
    block_rows, chunk_rows : int
        As above.

    Raises
    ------
    DataError
        If a file cannot be opened or is not what it should be.
    TypeError, ValueError
        If rows and targets do not belong together, or a setting is out of range.

    Notes
    -----
    The rows of the last, shorter chunk always come last, so that all blocks but the last have ``block_rows`` rows.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn.data import Stream
    >>> X, y = np.arange(10.0).reshape(5, 2), np.arange(5)
    >>> with Stream(X, y, block_rows=2, chunk_rows=1, shuffle=False) as stream:
    ...     for rows, targets in stream.blocks():
    ...         print(rows.shape, targets.tolist())
    (2, 2) [0, 1]
    (2, 2) [2, 3]
    (1, 2) [4]
    """

    def __init__(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        block_rows: int | None = None,
        chunk_rows: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
    ) -> None:
        self.X = _as_sources(X, "X")
        self.y = _as_sources(y, "y")
        self.sample_weight = None if sample_weight is None else as_source(sample_weight, "sample_weight")
        inputs = _named(self.X, "X")
        for name, source in inputs.items():
            if source.dtype not in (np.float32, np.float64) and source.dtype.kind not in "iu":
                raise TypeError(
                    f"Stream: {name!r} has dtype {source.dtype}, expected float32, float64 or whole numbers"
                )
            if source.size == 0 or (source.ndim < 2 and source.dtype.kind == "f"):
                raise ValueError(
                    f"Stream: {name!r} has shape {source.shape}, expected (n, features) with at least one row"
                )
        others = {**_named(self.y, "y")}
        if self.sample_weight is not None:
            others["sample_weight"] = self.sample_weight
        first, rows = next(iter((name, len(source)) for name, source in inputs.items()))
        for name, source in {**inputs, **others}.items():
            if len(source) != rows:
                raise ValueError(f"Stream: {first!r} has {rows} rows, {name!r} has {len(source)}")
        self._rows = rows
        self.chunk_rows, self.block_rows = self._sizes(block_rows, chunk_rows, list(inputs.values()))
        self.shuffle = bool(shuffle)
        self.seed = operator.index(seed)
        if not 0 <= self.seed < 2**53:
            raise ValueError(f"Stream: 'seed' is {seed}, expected 0 <= seed < 2**53")
        self._reader = Reader([*inputs.values(), *others.values()], self.chunk_rows, self.block_rows)

    def _sizes(self, block_rows: int | None, chunk_rows: int | None, inputs: list[Source]) -> tuple[int, int]:
        """Return the rows of a chunk and of a block."""
        for name, value in (("block_rows", block_rows), ("chunk_rows", chunk_rows)):
            if value is not None and operator.index(value) < 1:
                raise ValueError(f"Stream: {name!r} is {value}, expected 1 or more")
        widest = max(inputs, key=_row_bytes)
        row_bytes = sum(map(_row_bytes, inputs))
        unit = widest.unit if widest.unit * row_bytes <= UNIT_BYTES else 1
        least = BLOCK_CHUNKS
        if chunk_rows is not None:
            chunk = operator.index(chunk_rows)
        elif block_rows is not None:
            # The largest divisor, so that chunks fill the block.
            most = max(1, min(CHUNK_BYTES // row_bytes, block_rows // BLOCK_CHUNKS))
            chunk = next(c for c in range(most, 0, -1) if block_rows % c == 0)
            if unit > 1 and block_rows % unit == 0 and block_rows // unit >= UNIT_CHUNKS:
                chunk = next((c for c in range(most // unit * unit, 0, -unit) if block_rows % c == 0), unit)
        else:
            # A power of two, so that the usual batches fill a block.
            chunk = _power_of_two(CHUNK_BYTES // row_bytes)
            if unit > 1:
                chunk = unit * max(1, chunk // unit)
                least = BLOCK_CHUNKS if chunk * row_bytes <= CHUNK_BYTES else UNIT_CHUNKS
        if block_rows is None:
            block = chunk * max(least, _power_of_two(BLOCK_BYTES // (row_bytes * chunk)))
        else:
            block = operator.index(block_rows)
        if block % chunk:
            raise ValueError(f"Stream: 'block_rows' is {block}, expected a multiple of 'chunk_rows', {chunk}")
        return chunk, block

    def __len__(self) -> int:
        """Return the number of rows."""
        return self._rows

    @property
    def block_count(self) -> int:
        """Blocks of an epoch."""
        return -(-len(self) // self.block_rows)

    @property
    def block_bytes(self) -> int:
        """Bytes of a block: rows, targets and weights."""
        return self._reader.block_rows * self._reader.row_bytes

    def order(self, epoch: int = 0) -> npt.NDArray[np.int64]:
        """Return the first row of every chunk, in the order of an epoch.

        Parameters
        ----------
        epoch : int, 0 <= epoch < 2**32, default 0
            Number of the epoch.
        """
        whole = len(self) // self.chunk_rows
        chunks = np.arange(-(-len(self) // self.chunk_rows), dtype=np.int64)
        if self.shuffle:
            _core.permutation(chunks[:whole], self.seed, epoch)
        chunks *= self.chunk_rows
        return chunks

    def blocks(
        self, epoch: int = 0, *, threads: int = 1, recycle: bool = False
    ) -> Generator[tuple[Any, ...], None, None]:
        """Yield the blocks of an epoch as rows, targets and, if there are some, weights.

        Parameters
        ----------
        epoch : int, 0 <= epoch < 2**32, default 0
            Number of the epoch, which decides the order.
        threads : int, default 1
            Threads that the caller works with on a block. Where no core is left beside them, the next block is read when it is asked for,
            by several threads, unless reading it means waiting for a disk.
        recycle : bool, default False
            Whether later calls may use the memory again when this one has ended: promise not to look at the last block then.

        Yields
        ------
        rows : ndarray, shape (block_rows or fewer, ...), or dict of str to ndarray
            With the dtype of ``X``, valid until the next block is asked for: the memory is used again.
        targets : ndarray, shape (block_rows or fewer, ...), or dict of str to ndarray
            With the dtype of ``y``, as valid.
        weights : ndarray, shape (block_rows or fewer,)
            Only with ``sample_weight``; as valid.

        Raises
        ------
        DataError
            If a file cannot be read, or was cut meanwhile.
        """
        return self._blocks(self._parts(epoch), threads, recycle)

    def numbers(self, epoch: int = 0, *, threads: int = 1) -> Generator[npt.NDArray[np.int64], None, None]:
        """Yield the numbers of the rows in each block of an epoch, where they lie in files and arrays.

        Parameters
        ----------
        epoch, threads : int
            As for `blocks`. The pages of a `numpy.memmap` are touched ahead, so that whoever uses the rows in place does not wait for them.

        Yields
        ------
        ndarray of int64, shape (block_rows or fewer,)
            In the order in which `blocks` has the rows.
        """
        return self._reader.numbers(self._parts(epoch), threads)

    def arrays(self) -> tuple[Any, ...] | None:
        """Return rows, targets and, if there are some, weights as they were given, if all of them are arrays that can be used in place."""
        sources = self._reader.sources
        if not all(isinstance(source, ArrayRows) and source.in_place for source in sources):
            return None
        return self._as_given([source.array for source in sources if isinstance(source, ArrayRows)])

    def _parts(self, epoch: int) -> list[npt.NDArray[np.int64]]:
        """Return the first rows of the chunks of each block."""
        if not 0 <= operator.index(epoch) < 2**32:
            raise ValueError(f"blocks: 'epoch' is {epoch}, expected 0 <= epoch < 2**32")
        order = self.order(epoch)
        each = self.block_rows // self.chunk_rows
        return [order[at : at + each] for at in range(0, len(order), each)]

    def _blocks(self, parts: list[Array], threads: int, recycle: bool) -> Generator[tuple[Any, ...], None, None]:
        for block in self._reader.blocks(parts, threads, recycle=recycle):
            yield self._as_given(block)

    def _as_given(self, arrays: list[Array]) -> tuple[Any, ...]:
        """Return arrays, one for each source, in the form in which rows, targets and weights were given."""
        inputs = len(_named(self.X, "X"))
        weights = arrays[len(arrays) :] if self.sample_weight is None else arrays[-1:]
        targets = arrays[inputs : len(arrays) - len(weights)]
        return _like(self.X, arrays[:inputs]), _like(self.y, targets), *weights

    def close(self) -> None:
        """Close the files, and let go of memory kept for later blocks."""
        self._reader.forget()
        for source in self._reader.sources:
            source.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        """Show what is streamed."""
        shown = ", ".join(f"{s.shape} {s.dtype}" for s in _named(self.X, "X").values())
        return f"Stream({shown}, {self.block_count} blocks of {self.block_rows} rows, seed={self.seed})"


def _as_sources(rows: Any, name: str) -> Source | dict[str, Source]:
    """Return rows as a source, or as one for each key of a dict.

    Raises
    ------
    TypeError, ValueError
        If they are none, or the dict is empty.
    """
    if not isinstance(rows, Mapping):
        return as_source(rows, name)
    if not rows:
        raise ValueError(f"{name!r} is an empty dict, expected arrays or files by name")
    return {key: as_source(value, f"{name}[{key!r}]") for key, value in rows.items()}


def _named(sources: Source | dict[str, Source], name: str) -> dict[str, Source]:
    """Return sources by what errors call them."""
    return {name: sources} if isinstance(sources, Source) else {f"{name}[{k!r}]": v for k, v in sources.items()}


def _like(sources: Source | dict[str, Source], arrays: list[Array]) -> Any:
    """Return one array, or a dict of them, as the sources are."""
    return arrays[0] if isinstance(sources, Source) else dict(zip(sources, arrays, strict=True))


def _row_bytes(source: Source) -> int:
    return math.prod(source.shape[1:]) * source.dtype.itemsize


def _power_of_two(most: int) -> int:
    """Return the largest power of two up to ``most``, at least 1."""
    return 1 << max(0, most.bit_length() - 1)
