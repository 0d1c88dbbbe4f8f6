"""Rows larger than memory: sources, the order of blocks, and training within a limit of memory."""

from __future__ import annotations

import copy
import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest

import pyfastnn as fnn
from pyfastnn import nn
from pyfastnn.bench.timing import WrongResult
from pyfastnn.data import (
    HDF5,
    PCA,
    Compose,
    DataError,
    NpyFile,
    RawFile,
    Standardize,
    Stream,
    Whiten,
    _stream,
)
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
    "hdf5 in chunks": lambda path: h5(path / "x.h5", chunks=(100, 5, 2)),
    "hdf5 in one chunk": lambda path: h5(path / "x.h5", chunks=(1003, 5, 2)),
    "hdf5 in parts of rows": lambda path: h5(path / "x.h5", chunks=(100, 5, 1)),
    "hdf5 compressed": lambda path: h5(path / "x.h5", chunks=(100, 5, 2), compression="gzip"),
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


def test_chunks_of_a_file_stay_whole(tmp_path):
    source = h5(tmp_path / "x.h5", chunks=(100, 5, 2))  # rows of 40 bytes
    assert (source.unit, source.parallel) == (100, True)
    assert Stream(source, Y).chunk_rows == 4000  # 156 KiB
    assert Stream(source, Y).block_rows == 4000 * 64
    assert Stream(source, Y, block_rows=1600).chunk_rows == 100
    assert Stream(source, Y, block_rows=12800).chunk_rows == 200
    assert Stream(source, Y, block_rows=1500).chunk_rows == 20  # too few whole ones for a block
    assert Stream(source, Y, chunk_rows=7).chunk_rows == 7
    source.unit = 8000  # 312 KiB
    stream = Stream(source, Y)
    assert (stream.chunk_rows, stream.block_rows) == (8000, 8000 * 32)
    source.unit = 10**6  # of 40 MB
    assert Stream(source, Y).chunk_rows == 4096
    source = h5(tmp_path / "y.h5")
    assert (source.unit, source.parallel) == (1, True)
    for number, settings in enumerate(({"compression": "gzip"}, {"shuffle": True}, {"chunks": (100, 1, 2)})):
        source = h5(tmp_path / f"z{number}.h5", **{"chunks": (100, 5, 2), **settings})
        assert (source.unit, source.parallel) == (100, False)


def test_chunks_that_were_never_written(tmp_path):
    h5py = pytest.importorskip("h5py", reason="the extra 'hdf5' is not installed")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        rows = file.create_dataset("x", X.shape, "f4", chunks=(100, 5, 2), fillvalue=7)
        rows[200:300] = X[200:300]
    with HDF5(tmp_path / "x.h5", "x") as source:
        assert not source.parallel
        assert_same_bits(source[250:350], np.concatenate([X[250:300], np.full((50, 5, 2), 7, np.float32)]))


def test_dicts_and_weights_come_as_they_were_given(tmp_path):
    weights = RNG.random(1003)
    np.save(tmp_path / "w.npy", weights)
    words = RNG.integers(0, 9, 1003)
    inputs = {"image": npy(tmp_path), "word": words}
    stream = Stream(inputs, {"kind": Y, "size": X[:, 0]}, tmp_path / "w.npy", block_rows=100)
    assert list(stream.X) == ["image", "word"]
    assert (len(stream), stream.sample_weight.shape) == (1003, (1003,))
    total = 0
    for rows, targets, w in stream.blocks(3):
        found = np.flatnonzero(np.isin(weights, w))
        order = found[np.argsort(weights[found])][np.argsort(np.argsort(w))]
        assert list(rows) == ["image", "word"]
        assert list(targets) == ["kind", "size"]
        assert_same_bits(rows["image"].copy(), X[order])
        assert_same_bits(rows["word"].copy(), words[order])
        assert_same_bits(targets["kind"].copy(), Y[order])
        assert_same_bits(targets["size"].copy(), X[:, 0][order])
        total += len(w)
    assert total == 1003
    assert repr(stream).startswith("Stream((1003, 5, 2) float32, (1003,) int64, 11 blocks of 100 rows")


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

path, room, weighted = sys.argv[1], int(sys.argv[2]), len(sys.argv) > 3

def make():
    return fnn.Trainer(nn.Sequential(nn.Linear(16), nn.ReLU(), nn.Linear(2), preprocess=fnn.data.Rescale()), seed=1, threads=1)

X = NpyFile(path)
labels = np.load(path + ".labels.npy")
weights = path + ".weights.npy" if weighted else None
few = NpyFile(weights)[:600] if weighted else None
make().fit(Stream(X[:600], labels[:600], few, block_rows=200), epochs=1, batch_size=200, verbose=0)  # all imports, all threads
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
stream = Stream(X, labels, weights, block_rows=4000, seed=5)
trainer.fit(stream, X_val=stream, epochs=2, batch_size=200, verbose=0)
right = total = counted = 0
for rows, targets, *w in stream.blocks(9):
    taking_part = w[0] > 0 if weighted else np.ones(len(rows), bool)
    right += int(((trainer.model.predict(rows) == targets) & taking_part).sum())
    total += len(rows)
    counted += int(taking_part.sum())
assert trainer.history["val_accuracy"][-1] == right / counted
print(total, counted, trainer.step_count, right / counted)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads its memory in /proc")
@pytest.mark.parametrize("weighted", [False, True])
def test_trains_on_four_times_the_memory_there_is(weighted, tmp_path):
    """Neither loading nor mapping the file is possible within the limit; training on all of its rows is, with weights too.

    Labels of the rows that weigh nothing are wrong: who counted them would not learn.
    """
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
    wrong = RNG.random(n) < 0.6
    np.save(path + ".labels.npy", np.where(wrong, 1 - labels, labels) if weighted else labels)
    np.save(path + ".weights.npy", np.where(wrong, 0, RNG.uniform(0.5, 2, n)))
    ran = subprocess.run(
        [sys.executable, "-c", LIMITED, path, str(room), *(["weighted"] if weighted else [])],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    total, counted, steps, accuracy = ran.stdout.split()
    assert int(total) == n
    assert int(counted) == (n - int(wrong.sum()) if weighted else n)
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
    with pytest.raises(DataError, match="has 40120 bytes after the offset, expected whole rows of 12"):
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
        (lambda: Stream(X.astype("f2"), Y), TypeError, "'X' has dtype float16, expected float32, float64 or whole numbers"),
        (lambda: Stream({"a": X, "b": X[1:]}, Y), ValueError, r"\"X\['a'\]\" has 1003 rows, \"X\['b'\]\" has 1002"),
        (lambda: Stream({}, Y), ValueError, "'X' is an empty dict"),
        (lambda: Stream({"a": X, "b": 3}, Y), TypeError, "'b'.* is int, expected an array, the path"),
        (lambda: Stream(X, Y, Y[:-1]), ValueError, "'X' has 1003 rows, 'sample_weight' has 1002"),
        (lambda: Stream(X, Y, 2.0), TypeError, "'sample_weight' is float, expected an array"),
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


def test_the_native_copy_checks_its_arguments():
    rows = np.arange(100, dtype=np.uint8)
    numbers = lambda *n: np.array(n, np.int64)  # noqa: E731
    out = np.zeros(30, np.uint8)
    _stream.copy_runs(rows, 5, numbers(2, 0), numbers(1, 2), out)
    assert out[:15].tolist() == [*range(10, 15), *range(10)]
    _stream.copy_runs(rows, 5, numbers(), numbers(), out)
    for arguments in (
        (5, numbers(0), numbers(7), out),
        (5, numbers(0, 1), numbers(3), out),
        (5, numbers(19), numbers(2), out),
        (5, numbers(-1), numbers(1), out),
        (5, numbers(0), numbers(-3), out),
        (5, numbers(2**62), numbers(4), out),
        (0, numbers(0), numbers(1), out),
    ):
        with pytest.raises(ValueError, match="copy_runs"):
            _stream.copy_runs(rows, *arguments)


def test_the_native_touch_checks_its_arguments():
    rows = np.arange(100, dtype=np.uint8)
    before = _stream.waits()
    _stream.touch(rows, np.array([0, 99]))
    _stream.touch(rows, np.array([], np.int64))
    assert _stream.waits() == before  # nothing lies on a disk
    for wrong in (-1, 100):
        with pytest.raises(ValueError, match=f"touch: there is no byte {wrong} of 100"):
            _stream.touch(rows, np.array([wrong]))


def test_runs_beyond_an_array():
    with pytest.raises(ValueError, match="the array has 1003 rows; the runs go beyond them"):
        ArrayRows(X).read(np.array([1000]), np.array([4]), np.empty((4, 5, 2), np.float32))


def test_benchmark_against_memory(monkeypatch, capsys):
    from pyfastnn import bench
    from pyfastnn.bench import stream

    for name, value in (("ROWS", 5000), ("HIDDEN", (8,))):
        monkeypatch.setattr(stream, name, value)
    stream.rows_of.cache_clear()
    sources = ["npy", "memmap"]
    if importlib.util.find_spec("h5py") is not None:
        sources += ["hdf5", "hdf5 chunks"]
    try:
        quick = ["--rounds", "2", "--sample-ms", "1"]
        assert bench.main(["stream", *quick]) == 0
        lines = capsys.readouterr().out.splitlines()
        for source in sources:
            assert sum(line.startswith(f"| {source} uint8 784-8-10") for line in lines) == 1
        assert bench.main(["stream", "--cases", "npz"]) == 2
        lost = Stream(X.reshape(1003, 10), Y)
        assert stream.checked(lost, X.reshape(1003, 10), Y)
        assert not stream.checked(lost, X.reshape(1003, 10) + 1, Y)
        right = {"complete": True, "loss": 2.0, "seen": 2.0}
        stream.verify({}, {"ours": right})
        for wrong in ({"complete": False}, {"seen": 2.1}):
            with pytest.raises(WrongResult, match="ours"):
                stream.verify({}, {"ours": {**right, **wrong}})
    finally:
        stream.rows_of.cache_clear()
        stream.folder.cache_clear()
