"""Blocks of rows, read into buffers: by a thread of its own while the block before is used, or between the two by several threads.

Reading ahead is free only where a core is. Where all of them work on the block before, a reader takes the core of one of them, for which
the others then wait; it is quicker to read the next block when this one is done, with all cores. Unless reading means waiting for a disk,
which takes no core: that is always done ahead.

Rows of arrays need not be copied into blocks at all. Then only the pages of files mapped into memory are touched ahead.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Generator, Sequence
from functools import partial
from queue import SimpleQueue
from typing import Any

import numpy as np
import numpy.typing as npt

from pyfastnn.data.sources import ArrayRows, Runs, Source

__all__ = ["Reader"]

Array = npt.NDArray[Any]
Read = tuple[int, bool]
"""How many rows were read, and whether it was waited for a disk."""

PAGE = 4096
MOST_READERS = 4
"""Threads that read a block together: more find no more bandwidth."""
PIECES = 3
"""Pieces of a block for each thread that reads it: those that begin late do fewer."""


class Reader:
    """Reads blocks of rows of several sources.

    Parameters
    ----------
    sources : sequence of Source
        All of the same number of rows.
    chunk_rows, block_rows : int
        Rows of a chunk, the last one of a source may have fewer, and the most of a block.
    """

    def __init__(self, sources: Sequence[Source], chunk_rows: int, block_rows: int) -> None:
        self.sources = list(sources)
        self.chunk_rows = chunk_rows
        self.rows = len(self.sources[0])
        self.block_rows = min(block_rows, self.rows)
        self.row_bytes = sum(s.size // self.rows * s.dtype.itemsize for s in self.sources)
        self._spare: list[list[Array]] = []

    def blocks(self, parts: Sequence[Runs], threads: int, *, recycle: bool) -> Generator[list[Array], None, None]:
        """Yield blocks, each as the rows of every source.

        Parameters
        ----------
        parts : sequence of ndarray of int64
            First rows of the chunks of each block.
        threads : int
            Threads that use a block while the next one is read.
        recycle : bool
            Whether the memory may be used again by later calls: no one looks at the last block when the generator has ended.
        """
        parallel = all(source.parallel for source in self.sources)
        together = min(cores(), MOST_READERS) if parallel else 1
        free = cores() > threads
        current: list[Array] | None = None
        other: list[Array] | None = None
        ahead: _Job | None = None
        with _Helpers(max(1, together - 1)) as helpers:
            for number, part in enumerate(parts):
                if ahead is None:
                    current = self._buffer() if current is None else current
                    count, waited = self._read_together(helpers, part, current, together)
                else:
                    count, waited = ahead.result()
                    assert other is not None
                    current, other, ahead = other, current, None
                if number + 1 < len(parts) and (free or waited or not parallel):
                    other = self._buffer() if other is None else other
                    ahead = helpers.submit(partial(self._read, parts[number + 1], other))
                yield [buffer[:count] for buffer in current]
        if recycle:
            self._spare.extend(buffer for buffer in (current, other) if buffer is not None)

    def numbers(self, parts: Sequence[Runs], threads: int) -> Generator[Runs, None, None]:
        """Yield the numbers of the rows of each block; parameters are those of `blocks`.

        What is mapped from a file is touched ahead: where a core is free, and where it lies on a disk still.
        """
        arrays = [source for source in self.sources if isinstance(source, ArrayRows) and source.in_place]
        mapped = [source for source in arrays if source.mapped and source.size]
        free = cores() > threads
        ahead: _Job | None = None
        with _Helpers(1 if mapped else 0) as helpers:
            for number, part in enumerate(parts):
                if ahead is not None:
                    ahead.result()
                ahead = None
                if number + 1 < len(parts) and mapped:
                    following = parts[number + 1]
                    if free or any(_cold(source, following) for source in mapped):
                        ahead = helpers.submit(partial(self._touch, mapped, following))
                rows = (part[:, None] + np.arange(self.chunk_rows)).ravel()
                yield rows[rows < self.rows]

    def forget(self) -> None:
        """Let go of memory kept for later calls."""
        self._spare.clear()

    def _buffer(self) -> list[Array]:
        try:
            return self._spare.pop()
        except IndexError:
            return [_lying_as(s.place, (self.block_rows, *s.shape[1:]), s.dtype) for s in self.sources]

    def _read_together(self, helpers: _Helpers, first: Runs, buffers: list[Array], threads: int) -> Read:
        """Read the chunks of a block by several threads, this one among them."""
        if threads == 1:
            return self._read(first, buffers)
        pieces = []
        at = 0
        for piece in np.array_split(first, min(PIECES * threads, len(first))):
            pieces.append((piece, at))
            at += len(piece) * self.chunk_rows
        count = len(pieces)
        done: SimpleQueue[Read | BaseException] = SimpleQueue()

        def work() -> None:
            while True:
                try:
                    piece, at = pieces.pop()
                except IndexError:
                    return
                try:
                    done.put(self._read(piece, [buffer[at:] for buffer in buffers]))
                except BaseException as error:  # raised by the thread that wants the block
                    done.put(error)

        for _ in range(threads - 1):
            helpers.submit(work)
        work()
        total, disk = 0, False
        # Of pieces, not of helpers: one that does not get its core in time finds nothing left to do, and is not waited for.
        for _ in range(count):
            found = done.get()
            if isinstance(found, BaseException):
                raise found
            total, disk = total + found[0], disk or found[1]
        return total, disk

    def _read(self, first: Runs, buffers: Sequence[Array]) -> Read:
        """Read chunks into the buffers."""
        count = np.minimum(self.chunk_rows, self.rows - first)
        # Neighbours that are wanted in their order, all of them without shuffling, are one run.
        starts = np.flatnonzero(np.concatenate([[True], first[1:] != first[:-1] + count[:-1]]))
        runs, rows = first[starts], np.add.reduceat(count, starts)
        before = _waits()
        for source, buffer in zip(self.sources, buffers, strict=True):
            source.read(runs, rows, buffer)
        return int(count.sum()), _waits() > before

    def _touch(self, mapped: Sequence[ArrayRows], first: Runs) -> None:
        """Look at every page of some chunks."""
        from pyfastnn.data._stream import touch

        for source in mapped:
            begin, end = first * source.row_bytes, np.minimum(first + self.chunk_rows, self.rows) * source.row_bytes
            pages = begin[:, None] + np.arange(0, self.chunk_rows * source.row_bytes, PAGE)
            touch(source.raw, pages[pages < end[:, None]])


class _Job:
    """Work that a helper does."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work = work
        self._done: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()

    def run(self) -> None:
        try:
            self._done.put((self._work(), None))
        except BaseException as error:  # raised where the result is wanted
            self._done.put((None, error))

    def result(self) -> Any:
        """Wait for the end, and return or raise what came of it."""
        found, error = self._done.get()
        if error is not None:
            raise error
        return found


class _Helpers:
    """Some threads that wait for work: `concurrent.futures` with less to do for each piece, of which there are thousands.

    Leaving the context waits for what is under way, so that nothing writes to buffers that are gone.
    """

    def __init__(self, count: int) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"pyfastnn stream {k}", daemon=True) for k in range(count)
        ]

    def submit(self, work: Callable[[], Any]) -> _Job:
        """Hand in work; a thread that waits takes it."""
        job = _Job(work)
        self._jobs.put(job)
        return job

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.run()

    def __enter__(self) -> _Helpers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for _thread in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()


def _cold(source: ArrayRows, first: Runs) -> bool:
    """Return whether looking at the beginning of some chunks means to wait."""
    from pyfastnn.data._stream import touch

    before = _waits()
    touch(source.raw, first * source.row_bytes)
    return _waits() > before


def _lying_as(place: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return an empty array that begins as far behind the beginning of a memory page as ``place`` is, if that suits its items.

    Processors take a store for what a load after it wants when the last twelve bits of their addresses are alike. So copies to a few bytes
    after the same place of another page run at a half to a fifth of the speed. Large arrays of NumPy begin at byte 16 of a page, most data
    in files at byte 0 or 128.
    """
    size = math.prod(shape) * dtype.itemsize
    raw = np.empty(size + PAGE, np.uint8)
    at = ((0 if place % dtype.itemsize else place) - raw.__array_interface__["data"][0]) % PAGE
    return raw[at : at + size].view(dtype).reshape(shape)


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _waits() -> int:
    """Return how often this thread has waited for a disk so far."""
    from pyfastnn.data._stream import waits

    return waits()
