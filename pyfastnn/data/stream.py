"""Training data larger than memory, one block at a time, while the next one is read."""

from __future__ import annotations

import math
import operator
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from pyfastnn import _core
from pyfastnn.data.sources import as_source

__all__ = ["Stream"]

Array = npt.NDArray[Any]

CHUNK_BYTES = 1 << 18
"""Of rows that stay together: reading so much at once costs little more than reading in order, even from a disk."""
BLOCK_BYTES = 1 << 24
"""Of a block: larger ones leave the caches and take longer to wait for at the start of an epoch."""
BLOCK_CHUNKS = 64
"""Least chunks of a block, so that it holds rows from all over the data."""


class Stream:
    """Rows and targets that are read block by block, in an order fixed by the seed.

    The rows are cut into chunks of neighbours. In every epoch the chunks are put into a new order, and so many of them at a time make a
    block. While a block is in use the next one is read, without the GIL, into a second buffer; so memory is that of two blocks, however
    long the files are. Within a block the rows of a chunk stay together: whoever trains on it shuffles them, as
    ``Trainer.fit(stream)`` does.

    Parameters
    ----------
    X : array, path of a ``.npy`` file, RawFile or HDF5
        Rows of float32, float64 or uint8; they keep their dtype. A `numpy.memmap` is an array here.
    y : array, path of a ``.npy`` file, RawFile or HDF5
        As many targets or labels.
    block_rows : int, optional
        Rows of a block, a multiple of ``chunk_rows``; by default a power of two, of at most 16 MiB.
    chunk_rows : int, optional
        Rows that stay together; by default a power of two, of at most 256 KiB and a 64th of a block.
    shuffle : bool, default True
        Whether each epoch has a new order of the chunks. If False, the blocks come as they lie in the file.
    seed : int, 0 <= seed < 2**53, default 0
        Fixes the order of every epoch, on every machine.

    Attributes
    ----------
    X, y : Source
        Rows and targets; slices of them (``stream.y[:]``) are read into arrays. Any preprocessing of `pyfastnn.data` can be fitted on
        ``stream.X``.
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
        *,
        block_rows: int | None = None,
        chunk_rows: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
    ) -> None:
        self.X = as_source(X, "X")
        self.y = as_source(y, "y")
        if self.X.dtype not in (np.float32, np.float64, np.uint8):
            raise TypeError(f"Stream: 'X' has dtype {self.X.dtype}, expected float32, float64 or uint8")
        if self.X.ndim < 2 or self.X.size == 0:
            raise ValueError(f"Stream: 'X' has shape {self.X.shape}, expected (n, features) with at least one row")
        if len(self.y) != len(self.X):
            raise ValueError(f"Stream: 'X' has {len(self.X)} rows, 'y' has {len(self.y)}")
        self.chunk_rows, self.block_rows = self._sizes(block_rows, chunk_rows)
        self.shuffle = bool(shuffle)
        self.seed = operator.index(seed)
        if not 0 <= self.seed < 2**53:
            raise ValueError(f"Stream: 'seed' is {seed}, expected 0 <= seed < 2**53")

    def _sizes(self, block_rows: int | None, chunk_rows: int | None) -> tuple[int, int]:
        """Return the rows of a chunk and of a block."""
        for name, value in (("block_rows", block_rows), ("chunk_rows", chunk_rows)):
            if value is not None and operator.index(value) < 1:
                raise ValueError(f"Stream: {name!r} is {value}, expected 1 or more")
        row_bytes = math.prod(self.X.shape[1:]) * self.X.dtype.itemsize
        if chunk_rows is not None:
            chunk = operator.index(chunk_rows)
        elif block_rows is not None:
            # The largest divisor, so that chunks fill the block.
            most = max(1, min(CHUNK_BYTES // row_bytes, block_rows // BLOCK_CHUNKS))
            chunk = next(c for c in range(most, 0, -1) if block_rows % c == 0)
        else:
            # A power of two, so that the usual batches fill a block.
            chunk = _power_of_two(CHUNK_BYTES // row_bytes)
        if block_rows is None:
            block = chunk * max(BLOCK_CHUNKS, _power_of_two(BLOCK_BYTES // (row_bytes * chunk)))
        else:
            block = operator.index(block_rows)
        if block % chunk:
            raise ValueError(f"Stream: 'block_rows' is {block}, expected a multiple of 'chunk_rows', {chunk}")
        return chunk, block

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.X)

    @property
    def block_count(self) -> int:
        """Blocks of an epoch."""
        return -(-len(self) // self.block_rows)

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

    def blocks(self, epoch: int = 0) -> Generator[tuple[Array, Array], None, None]:
        """Yield the blocks of an epoch as rows and targets.

        Parameters
        ----------
        epoch : int, 0 <= epoch < 2**32, default 0
            Number of the epoch, which decides the order.

        Yields
        ------
        rows : ndarray, shape (block_rows or fewer, ...)
            With the dtype of ``X``, valid until the next block is asked for: the memory is used again.
        targets : ndarray, shape (block_rows or fewer, ...)
            With the dtype of ``y``, as valid.

        Raises
        ------
        DataError
            If a file cannot be read, or was cut meanwhile.
        """
        if not 0 <= operator.index(epoch) < 2**32:
            raise ValueError(f"blocks: 'epoch' is {epoch}, expected 0 <= epoch < 2**32")
        order = self.order(epoch)
        each = self.block_rows // self.chunk_rows
        parts = [order[at : at + each] for at in range(0, len(order), each)]
        return self._blocks(parts)

    def _blocks(self, parts: list[npt.NDArray[np.int64]]) -> Generator[tuple[Array, Array], None, None]:
        rows = min(self.block_rows, len(self))
        buffers = [
            tuple(np.empty((rows, *source.shape[1:]), source.dtype) for source in (self.X, self.y))
            for _ in range(min(2, len(parts)))
        ]
        # Leaving the block waits for a read under way, so that nothing writes to buffers that are gone.
        with ThreadPoolExecutor(1, thread_name_prefix="pyfastnn stream") as reader:
            waiting = reader.submit(self._fill, parts[0], *buffers[0])
            for number in range(len(parts)):
                count = waiting.result()
                X, y = buffers[number % 2]
                if number + 1 < len(parts):
                    waiting = reader.submit(self._fill, parts[number + 1], *buffers[(number + 1) % 2])
                yield X[:count], y[:count]

    def _fill(self, first: npt.NDArray[np.int64], X: Array, y: Array) -> int:
        """Read chunks into the buffers and return how many rows they have."""
        count = np.minimum(self.chunk_rows, len(self) - first)
        # Neighbours that are wanted in their order, all of them without shuffling, are one run.
        starts = np.flatnonzero(np.concatenate([[True], first[1:] != first[:-1] + count[:-1]]))
        runs, rows = first[starts], np.add.reduceat(count, starts)
        self.X.read(runs, rows, X)
        self.y.read(runs, rows, y)
        return int(count.sum())

    def close(self) -> None:
        """Close the files."""
        self.X.close()
        self.y.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        """Show what is streamed."""
        return f"Stream({self.X.shape} {self.X.dtype}, {self.block_count} blocks of {self.block_rows} rows, seed={self.seed})"


def _power_of_two(most: int) -> int:
    """Return the largest power of two up to ``most``, at least 1."""
    return 1 << max(0, most.bit_length() - 1)
