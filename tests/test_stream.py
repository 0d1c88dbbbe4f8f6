"""Rows larger than memory: sources, the order of blocks, and training within a limit of memory."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import pyfastnn as fnn
from pyfastnn import nn
from pyfastnn.data import HDF5, PCA, Compose, DataError, NpyFile, RawFile, Standardize, Stream, Whiten, _stream
from pyfastnn.data.sources import ArrayRows, as_source
from pyfastnn.testing import assert_same_bits, rng_of

RNG = rng_of("stream")
X = RNG.standard_normal((1003, 5, 2)).astype(np.float32)
Y = RNG.integers(0, 3, 1003)


def h5(path, **settings):
    h5py = pytest.importorskip("h5py", reason="the extra 'hdf5' is not installed")
    with h5py.File(path, "w") as file:
        file.create_dataset("train/rows", data=X, **settings)
    return HDF5(path, "train/rows")


def npy(path):
    np.save(path / "x.npy", X)
    return NpyFile(path / "x.npy")


def raw(path):
    with open(path / "x.bin", "wb") as file:
        file.write(b"head")
        X.tofile(file)
    return RawFile(path / "x.bin", (-1, 5, 2), "float32", offset=4)


def mapped(path):
    np.save(path / "m.npy", X)
    return ArrayRows(np.load(path / "m.npy", mmap_mode="r"))


SOURCES = {
    "npy": npy,
    "raw": raw,
    "memmap": mapped,
    "array": lambda path: ArrayRows(X),
    "slice of a memmap": lambda path: ArrayRows(np.pad(X, ((7, 0), (0, 0), (0, 0)))[7:]),
    "hdf5": lambda path: h5(path / "x.h5"),
    "hdf5 in chunks": lambda path: h5(path / "x.h5", chunks=(100, 5, 2), compression="gzip"),
    "hdf5 of the other byte order": lambda path: h5(path / "x.h5", dtype=">f4"),
}


@pytest.mark.parametrize("name", SOURCES)
def test_sources_read_the_rows(name, tmp_path):
    with SOURCES[name](tmp_path) as source:
        assert (source.shape, source.dtype, len(source), source.ndim, source.size) == (
            X.shape,
            X.dtype,
            1003,
            3,
            X.size,
        )
        assert_same_bits(source[:], X)
        assert_same_bits(source[900:2000], X[900:])
        assert_same_bits(source[-1], X[-1])
        assert source[5:5].shape == source[9:3].shape == (0, 5, 2)
        first, count = np.array([7, 0, 1000]), np.array([3, 1, 3])
        out = np.full((10, 5, 2), np.nan, np.float32)
        source.read(first, count, out)
        assert_same_bits(out[:7].copy(), X[[7, 8, 9, 0, 1000, 1001, 1002]])
        assert np.isnan(out[7:]).all()
        with pytest.raises(IndexError, match="row 1003 of 1003"):
            source[1003]
        with pytest.raises(ValueError, match="step 1, not 2"):
            source[::2]
        for again in (copy.copy(source), copy.deepcopy(source)):
            assert_same_bits(again[3:9], X[3:9])


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("shuffle", [True, False])
def test_every_row_comes_once_with_its_target(name, shuffle, tmp_path):
    with Stream(SOURCES[name](tmp_path), np.arange(1003), block_rows=64, chunk_rows=8, shuffle=shuffle) as stream:
        for epoch in (0, 1):
            sizes, seen = [], []
            for rows, targets in stream.blocks(epoch):
                assert_same_bits(rows.copy(), X[targets])
                sizes.append(len(rows))
                seen.extend(targets.tolist())
            assert sizes == [64] * 15 + [43]
            assert len(sizes) == stream.block_count
            assert sorted(seen) == list(range(1003))
            assert (seen == list(range(1003))) == (not shuffle)


def test_order_is_fixed_by_seed_and_epoch():
    def order(seed, epoch):
        return np.concatenate(
            [t.copy() for _, t in Stream(X, np.arange(1003), block_rows=40, seed=seed).blocks(epoch)]
        ).tolist()

    assert order(1, 0) == order(1, 0)
    assert len({tuple(order(s, e)) for s in (1, 2) for e in (0, 1)}) == 4
    # Rows of a block come from all over the data; the last chunk is always last.
    stream = Stream(X, Y, block_rows=100, chunk_rows=10, seed=3)
    first = stream.order(0)
    assert first[-1] == 1000 and sorted(first.tolist()) == list(range(0, 1003, 10))
    assert np.ptp(first[:10]) > 300


def test_sizes_that_are_chosen():
    wide = np.zeros((4000, 3072), np.uint8)
    stream = Stream(wide, np.zeros(4000))
    assert stream.chunk_rows == 64  # 192 KiB
    assert stream.block_rows == 4096  # 12 MiB
    assert Stream(wide, np.zeros(4000), block_rows=100).chunk_rows == 1
    assert Stream(X, Y, block_rows=640).chunk_rows == 10
    assert Stream(X, Y, block_rows=6000).block_count == 1
    assert Stream(X, Y, chunk_rows=3).block_rows % 3 == 0
    assert Stream(np.zeros((3, 2**20), np.float32), np.zeros(3)).block_rows == 64
    assert repr(stream) == "Stream((4000, 3072) uint8, 1 blocks of 4096 rows, seed=0)"


def test_the_next_block_is_read_meanwhile():
    """While a block is in use the reader fills the other buffer; it never runs further ahead."""

    class Watched(ArrayRows):
        def read(self, first, count, out):
            super().read(first, count, out)
            reads.append(threading.current_thread().name)
            done.release()

    reads: list[str] = []
    done = threading.Semaphore(0)
    stream = Stream(Watched(X), Y, block_rows=100, chunk_rows=10)
    blocks = stream.blocks()
    assert reads == []
    for number in range(1, 11):
        rows, _ = next(blocks)
        kept = rows.copy()
        assert done.acquire(timeout=10) and (number > 1 or done.acquire(timeout=10))
        assert len(reads) == number + 1
        assert_same_bits(rows.copy(), kept)
    assert all(name.startswith("pyfastnn stream") for name in reads)
    blocks.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("pyfastnn stream")]


def test_errors_of_the_reader_arrive(tmp_path):
    source = raw(tmp_path)
    stream = Stream(source, Y, block_rows=100)
    blocks = stream.blocks()
    next(blocks)
    os.truncate(source.path, 5000)
    with pytest.raises(DataError, match="ended .* bytes too early"):
        list(blocks)
    source.close()
    with pytest.raises(DataError, match="was closed"):
        list(stream.blocks())


def test_fitted_on_a_source(tmp_path):
    for p in (Standardize(per="channel"), PCA(components=3), Compose([Standardize(), Whiten(eps=0.1)])):
        on_array = copy.deepcopy(p).fit(X)
        with npy(tmp_path) as source:
            p.fit(source)
            assert_same_bits(p.transform(X), on_array.transform(X))
            with pytest.raises(TypeError, match="'X' is NpyFile, expected a NumPy array"):
                p.transform(source)
    rows = X.copy()
    rows[5, 1, 1] = np.nan
    with pytest.raises(ValueError, match="'X' has 1 NaN or infinite values in column 3"):
        Standardize().fit(ArrayRows(rows))


def test_training_block_by_block():
    """One fit over a block of everything is the fit over the array, but for the order of its chunks."""
    whole, streamed = (fnn.Trainer(nn.Sequential(nn.Flatten(), nn.Linear(3)), seed=2) for _ in range(2))
    whole.fit(X, Y, epochs=1, verbose=0)
    for rows, targets in Stream(X, Y, block_rows=2000, shuffle=False).blocks():
        streamed.fit(rows, targets, epochs=1, verbose=0)
    assert_same_bits(streamed.model(X), whole.model(X))


def test_a_memmap_is_trained_on_in_place(tmp_path):
    tracemalloc = pytest.importorskip("tracemalloc", reason="this Python has no tracemalloc")
    rows = RNG.integers(0, 256, (20000, 500)).astype(np.uint8)
    labels = RNG.integers(0, 3, 20000)
    np.save(tmp_path / "big.npy", rows)
    mapped = np.load(tmp_path / "big.npy", mmap_mode="r")
    trainers = [fnn.Trainer(nn.Sequential(nn.Linear(3), preprocess=fnn.data.Rescale()), seed=1) for _ in range(2)]
    trainers[0].fit(rows, labels, epochs=1, batch_size=100, verbose=0)
    tracemalloc.start()
    try:
        trainers[1].fit(mapped, labels, epochs=1, batch_size=100, verbose=0)
        trainers[1].evaluate(mapped, labels)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < rows.nbytes / 4
    assert_same_bits(trainers[1].model(rows[:50]), trainers[0].model(rows[:50]))


LIMITED = r"""
import os, resource, sys
import numpy as np
import pyfastnn as fnn
from pyfastnn import nn
from pyfastnn.data import NpyFile, Stream

path, room, workers = sys.argv[1], int(sys.argv[2]), 2

def make():
    return fnn.Trainer(nn.Sequential(nn.Linear(16), nn.ReLU(), nn.Linear(2), preprocess=fnn.data.Rescale()), seed=1, threads=1)

X = NpyFile(path)
labels = np.load(path + ".labels.npy")
make().fit(Stream(X[:600], labels[:600], block_rows=200), epochs=1, batch_size=200, verbose=0)  # all imports, all threads
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + room, used + room))
assert X.size >= 4 * room, (X.size, room)
for load in (lambda: np.load(path), lambda: np.load(path, mmap_mode="r")):
    try:
        load()
    except (MemoryError, OSError):
        continue
    sys.exit("the whole file fits after all")
trainer = make()
stream = Stream(X, labels, block_rows=4000, seed=5)
trainer.fit(stream, X_val=stream, epochs=2, batch_size=200, verbose=0)
right = total = 0
for rows, targets in stream.blocks(9):
    right += int((trainer.model.predict(rows) == targets).sum())
    total += len(rows)
assert trainer.history["val_accuracy"][-1] == right / total
print(total, trainer.step_count, right / total)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads its memory in /proc")
def test_trains_on_four_times_the_memory_there_is(tmp_path):
    """Neither loading nor mapping the file is possible within the limit; training on all of its rows is."""
    room, features = 32 << 20, 1024
    n = 4 * room // features
    path = str(tmp_path / "rows.npy")
    rows = np.lib.format.open_memmap(path, "w+", np.uint8, (n, features))
    labels = RNG.integers(0, 2, n)
    for begin in range(0, n, 8192):
        part = labels[begin : begin + 8192]
        noise = RNG.integers(0, 200, (len(part), features), dtype=np.uint8)
        noise[:, :64] += (40 * part[:, None]).astype(np.uint8)
        rows[begin : begin + 8192] = noise
    del rows
    np.save(path + ".labels.npy", labels)
    ran = subprocess.run(
        [sys.executable, "-c", LIMITED, path, str(room)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    total, steps, accuracy = ran.stdout.split()
    assert int(total) == n
    assert int(steps) == 2 * -(-n // 200)
    assert float(accuracy) > 0.9


# What is refused


def test_files_that_are_not_what_they_should_be(tmp_path):
    np.save(tmp_path / "f.npy", np.asfortranarray(X[:, :, 0]))
    np.save(tmp_path / "one.npy", np.float64(3))
    np.save(tmp_path / "text.npy", np.array(["a"]))
    np.save(tmp_path / "swapped.npy", X.astype(">f4"))
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object))
    (tmp_path / "none.npy").write_bytes(b"nothing")
    (tmp_path / "short.npy").write_bytes(npy(tmp_path).path and (tmp_path / "x.npy").read_bytes()[:-1])
    cases = {
        "f.npy": "in Fortran order",
        "one.npy": "holds a single value",
        "text.npy": "has dtype <U1",
        "swapped.npy": "has dtype >f4",
        "objects.npy": "has dtype object",
        "none.npy": "is not a .npy file",
        "short.npy": "has 40247 bytes, expected 40248",
        "missing.npy": "cannot be opened: No such file",
    }
    for name, message in cases.items():
        with pytest.raises(DataError, match=message):
            NpyFile(tmp_path / name)
    with pytest.raises(DataError, match="has 40120 bytes behind the offset, expected whole rows of 12"):
        RawFile(raw(tmp_path).path, (-1, 3), "float32", offset=4)
    with pytest.raises(DataError, match="expected"):
        RawFile(tmp_path / "x.bin", (1004, 5, 2), "float32", offset=4)
    with pytest.raises(ValueError, match="'offset' is -1"):
        RawFile(tmp_path / "x.bin", (-1, 3), offset=-1)
    with pytest.raises(ValueError, match="'shape' is"):
        RawFile(tmp_path / "x.bin", (-1, 0))
    with pytest.raises(TypeError, match="'dtype' is >f4"):
        RawFile(tmp_path / "x.bin", (-1, 5), ">f4")


def test_hdf5_names_what_there_is(tmp_path):
    h5(tmp_path / "x.h5").close()
    with pytest.raises(DataError, match="unknown data set 'train/row', did you mean 'train/rows'"):
        HDF5(tmp_path / "x.h5", "train/row")
    (tmp_path / "no.h5").write_bytes(b"nothing")
    with pytest.raises(DataError, match="cannot be opened as HDF5"):
        HDF5(tmp_path / "no.h5", "x")


def test_h5py_is_named_when_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"pip install pyfastnn\[hdf5\]"):
        HDF5("x.h5", "rows")


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: Stream(X, Y[:-1]), ValueError, "'X' has 1003 rows, 'y' has 1002"),
        (lambda: Stream(X.astype(int), Y), TypeError, "'X' has dtype int64, expected float32, float64 or uint8"),
        (lambda: Stream(Y.astype(float), Y), ValueError, r"'X' has shape \(1003,\)"),
        (lambda: Stream(X[:0], Y[:0]), ValueError, "at least one row"),
        (lambda: Stream(X, [1, 2]), TypeError, "'y' is list, expected an array, the path"),
        (lambda: Stream("x.h5", Y), ValueError, r"'X' is the path 'x.h5', expected a .npy file; for others write .*HDF5\('x.h5', 'name'\)"),
        (lambda: Stream("x.csv", Y), ValueError, "for others write pyfastnn.data.RawFile"),
        (lambda: Stream(X, Y, block_rows=0), ValueError, "'block_rows' is 0"),
        (lambda: Stream(X, Y, block_rows=10, chunk_rows=3), ValueError, "'block_rows' is 10, expected a multiple of 'chunk_rows', 3"),
        (lambda: Stream(X, Y, seed=-1), ValueError, "'seed' is -1"),
        (lambda: Stream(X, Y).blocks(-1), ValueError, "'epoch' is -1"),
        (lambda: as_source(np.array(3), "X"), ValueError, "'X' is a single value"),
    ],
)  # fmt: skip
def test_bad_settings(make, kind, message):
    with pytest.raises(kind, match=message):
        make()


def test_the_native_reader_checks_its_arguments(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(bytes(range(100)))
    numbers = lambda *n: np.array(n, np.int64)  # noqa: E731
    fd = os.open(path, os.O_RDONLY)
    try:
        out = np.zeros(30, np.uint8)
        assert _stream.read_runs(fd, 10, 5, numbers(2, 0), numbers(1, 2), out) == 15
        assert out[:15].tolist() == [*range(20, 25), *range(10, 20)]
        assert _stream.read_runs(fd, 10, 5, numbers(16), numbers(4), out) == 10  # the file ends
        assert _stream.read_runs(fd, 0, 5, numbers(), numbers(), out) == 0
        for arguments in (
            (0, 5, numbers(0), numbers(7), out),
            (0, 5, numbers(0, 1), numbers(3, 4), out),
            (0, 5, numbers(0, 1), numbers(3), out),
            (-1, 5, numbers(0), numbers(3), out),
            (0, 5, numbers(-1), numbers(3), out),
            (0, 5, numbers(0), numbers(-3), out),
            (0, 2**62, numbers(0), numbers(4), out),
        ):
            with pytest.raises(ValueError, match="read_runs"):
                _stream.read_runs(fd, *arguments)
    finally:
        os.close(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        _stream.read_runs(fd, 0, 5, numbers(0), numbers(1), out)


def test_benchmark_against_memory(monkeypatch, capsys):
    from pyfastnn import bench
    from pyfastnn.bench import stream

    for name, value in (("ROWS", 5000), ("HIDDEN", (8,)), ("EPOCHS", 1)):
        monkeypatch.setattr(stream, name, value)
    assert bench.main(["stream"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum("784 -> 8 -> 10" in line for line in lines) == 2
    lost = Stream(X.reshape(1003, 10), Y)
    with pytest.raises(RuntimeError, match="rows or labels are not those of the file"):
        stream.checked(lost, X.reshape(1003, 10) + 1, Y)
