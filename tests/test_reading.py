"""How blocks of a stream are read: ahead, together, or not at all where arrays are used in place."""

from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest

from pyfastnn.data import DataError, NpyFile, Stream, _reading
from pyfastnn.data.sources import ArrayRows
from pyfastnn.testing import assert_same_bits, rng_of

RNG = rng_of("reading")
X = RNG.standard_normal((1003, 5, 2)).astype(np.float32)
Y = RNG.integers(0, 3, 1003)


def mapped(path):
    np.save(path / "m.npy", X)
    return np.load(path / "m.npy", mmap_mode="r")


class Watched(ArrayRows):
    """Says which thread reads how many rows."""

    def __init__(self, rows):
        super().__init__(rows)
        self.reads: list[tuple[str, int]] = []
        self.done = threading.Semaphore(0)

    def read(self, first, count, out):
        super().read(first, count, out)
        self.reads.append((threading.current_thread().name, int(count.sum())))
        self.done.release()

    def wait_for(self, reads):
        for _ in range(reads):
            assert self.done.acquire(timeout=10)


@pytest.mark.parametrize("parallel", [True, False])
def test_the_next_block_is_read_meanwhile(parallel, monkeypatch):
    """While a block is in use the reader fills the other buffer; it never runs further ahead. The first one is read by all, in pieces."""
    monkeypatch.setattr(_reading, "cores", lambda: 2)
    source = Watched(X)
    source.parallel = parallel
    blocks = Stream(source, Y, block_rows=100, chunk_rows=10).blocks()
    assert source.reads == []
    first = 6 if parallel else 1
    for number in range(1, 11):
        rows, _ = next(blocks)
        kept = rows.copy()
        source.wait_for(1 if number > 1 else first + 1)
        assert len(source.reads) == number + first
        assert_same_bits(rows.copy(), kept)
    assert sum(rows for _, rows in source.reads[:first]) == 100
    assert all(name.startswith("pyfastnn stream") for name, _ in source.reads[first:])
    blocks.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("pyfastnn stream")]


@pytest.mark.parametrize("cause", ["cached", "disk", "not parallel"])
def test_where_no_core_is_free(cause, monkeypatch):
    """Blocks are read between the others, by all threads, unless that means to wait for a disk, or only one may read."""
    monkeypatch.setattr(_reading, "cores", lambda: 2)
    waits = itertools.count() if cause == "disk" else itertools.repeat(0)
    monkeypatch.setattr(_reading, "_waits", lambda: next(waits))
    source = Watched(X)
    source.parallel = cause != "not parallel"
    seen = []
    stream = Stream(source, np.arange(1003), block_rows=100, chunk_rows=10)
    places = set()
    for number, (rows, targets) in enumerate(stream.blocks(threads=2), 1):
        reads = len(source.reads)
        if cause == "cached":
            assert reads == 6 * number - 5 * (number == 11)  # the last block has one chunk
        elif number < 10:
            source.wait_for(1)
        places.add(rows.__array_interface__["data"][0])
        assert_same_bits(rows.copy(), X[targets])
        seen.extend(targets.tolist())
    assert sorted(seen) == list(range(1003))
    assert len(places) == (1 if cause == "cached" else 2)
    if cause != "cached":
        assert len(source.reads) == 11 + 5 * (cause == "disk")


def test_an_error_of_any_thread_arrives(monkeypatch):
    """Whichever thread meets it; the others end before the buffers go."""

    class Torn(ArrayRows):
        def read(self, first, count, out):
            if ((first <= 500) & (first + count > 500)).any():
                raise DataError("torn")
            super().read(first, count, out)

    monkeypatch.setattr(_reading, "cores", lambda: 3)
    for threads in (1, 3):
        with pytest.raises(DataError, match="torn"):
            list(Stream(Torn(X), Y, block_rows=600, chunk_rows=10, shuffle=False).blocks(threads=threads))
    assert not [t for t in threading.enumerate() if t.name.startswith("pyfastnn stream")]


@pytest.mark.parametrize("free", [True, False])
@pytest.mark.parametrize("cold", [True, False])
def test_mapped_pages_are_touched_ahead(free, cold, tmp_path, monkeypatch):
    """In the background where a core is free or the pages are on a disk; rows of plain arrays are left alone."""
    touched = []
    touch = _reading.Reader._touch

    def watched(self, mapped, first):
        touched.append((threading.current_thread().name, first.tolist()))
        touch(self, mapped, first)

    waits = itertools.count() if cold else itertools.repeat(0)
    monkeypatch.setattr(_reading.Reader, "_touch", watched)
    monkeypatch.setattr(_reading, "cores", lambda: 2 if free else 1)
    monkeypatch.setattr(_reading, "_waits", lambda: next(waits))
    stream = Stream(mapped(tmp_path), np.arange(1003), block_rows=100, chunk_rows=10, seed=4)
    numbers = list(stream.numbers(2))
    assert [n.tolist() for n in numbers] == [targets.tolist() for _, targets in stream.blocks(2)]
    order = stream.order(2).tolist()
    wanted = [order[at : at + 10] for at in range(10, 101, 10)] if free or cold else []
    assert [first for _, first in touched] == wanted
    assert all(name.startswith("pyfastnn stream") for name, _ in touched)
    touched.clear()
    for rows in (X, mapped(tmp_path)[:, ::2]):
        list(Stream(rows, Y, block_rows=100).numbers())
    assert touched == []


def test_arrays_that_can_be_used_in_place(tmp_path):
    assert all(a is b for a, b in zip(Stream(X, Y, Y + 1.0).arrays()[:2], (X, Y), strict=True))
    given = {"a": X, "b": mapped(tmp_path)}
    found, targets, weights = Stream(given, {"c": Y}, Y).arrays()
    assert found["b"] is given["b"]
    assert targets["c"] is weights is Y
    for other in (X[:, ::2], X.astype(">f4"), NpyFile(tmp_path / "m.npy")):
        assert Stream(other, Y).arrays() is None
        assert Stream(X, other).arrays() is None
    assert [ArrayRows(a).mapped for a in (X, given["b"], given["b"][5:].view(np.uint8), np.frombuffer(bytes(8)))] == [
        False,
        True,
        True,
        False,
    ]


def test_memory_is_used_again_where_the_caller_says_so():
    stream = Stream(X, Y, block_rows=100, chunk_rows=10)

    def places(**settings):
        return {rows.__array_interface__["data"][0] for rows, _ in stream.blocks(**settings)}

    kept = [rows for rows, _ in stream.blocks()][-1]
    before = kept.copy()
    first = places(recycle=True)
    assert places(recycle=True) == first
    assert_same_bits(kept, before)
    stream.close()
    assert not stream._reader._spare


def test_blocks_lie_in_memory_as_rows_do_in_the_file():
    for dtype, place, wanted in (
        ("f8", 128, 128),
        ("f4", 4016, 4016),
        ("f8", 4100, 0),
        ("u1", 12303, 15),
        ("f4", 0, 0),
    ):
        made = _reading._lying_as(place, (70000, 3), np.dtype(dtype))
        assert (made.shape, made.dtype, made.flags.c_contiguous) == ((70000, 3), np.dtype(dtype), True)
        assert made.__array_interface__["data"][0] % 4096 == wanted
