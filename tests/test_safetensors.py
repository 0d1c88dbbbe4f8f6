"""Model files: exact round trips, hostile files, and writing that survives interruption."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
import time

import numpy as np
import pytest

from pyfastnn.io import ModelFileError, atomic_write, read, write
from pyfastnn.io.safetensors import DTYPES, HEADER_KEY, MAX_HEADER, PAYLOAD_KEY, _header_hash

POSIX = pytest.mark.skipif(os.name != "posix", reason="needs POSIX files and signals")


def sample():
    rng = np.random.default_rng(0)
    tensors = {
        f"layer_{i}.{code}": (rng.standard_normal((3, i + 1)) * 50).astype(dtype)
        for i, (code, dtype) in enumerate(DTYPES.items())
    }
    tensors["scalar"] = np.array(1.5)
    tensors["empty"] = np.zeros((0, 7), np.float32)
    tensors["special"] = np.array([np.nan, np.inf, -0.0, 5e-324])
    tensors["n\u00e4me \U0001f600"] = np.arange(5, dtype=np.uint8)
    return tensors, {"architecture": '{"layers": [1, 2]}', "note": "\u00e9 \U0001f600", "": ""}


def same(a, b):
    (tensors, metadata), (others, other_metadata) = a, b
    return (
        metadata == other_metadata
        and tensors.keys() == others.keys()
        and all(x.dtype == others[k].dtype and x.shape == others[k].shape for k, x in tensors.items())
        and all(x.tobytes() == others[k].tobytes() for k, x in tensors.items())
    )


def pack(header, payload=b"", *, sign=False):
    """Build a file by hand; with ``sign`` the hashes are those of an honest writer."""
    if sign:
        header = dict(header)
        metadata = dict(header.pop("__metadata__", {}))
        metadata[PAYLOAD_KEY] = hashlib.sha256(payload).hexdigest()
        metadata[HEADER_KEY] = _header_hash(header, metadata)
        header = {"__metadata__": metadata, **header}
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + payload


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


# --- round trips ----------------------------------------------------------------------------


def test_round_trip(tmp_path):
    path = tmp_path / "m.safetensors"
    tensors, metadata = sample()
    write(path, tensors, metadata)
    found = read(path)
    assert same(found, (tensors, metadata))
    for array in found[0].values():
        assert array.flags.c_contiguous
        assert array.flags.writeable
        assert array.dtype.isnative
    raw = path.read_bytes()
    write(path, dict(reversed(tensors.items())), metadata)
    assert path.read_bytes() == raw


def test_layout_of_the_file(tmp_path):
    path = tmp_path / "m.safetensors"
    write(path, {"b": np.ones(3, np.uint8), "z": np.ones(1), "a": np.ones(2, np.float32)}, {})
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    assert length % 8 == 0
    header = json.loads(raw[8 : 8 + length])
    assert list(header) == ["__metadata__", "z", "a", "b"]
    assert [header[k]["data_offsets"] for k in "zab"] == [[0, 8], [8, 16], [16, 19]]
    assert header["__metadata__"][PAYLOAD_KEY] == hashlib.sha256(raw[8 + length :]).hexdigest()
    assert len(raw) == 8 + length + 19


def test_no_tensors(tmp_path):
    write(tmp_path / "m", {}, {"a": "b"})
    assert read(tmp_path / "m") == ({}, {"a": "b"})


def test_any_memory_layout(tmp_path):
    a = np.arange(24.0).reshape(2, 3, 4)
    layouts = {
        "f": np.asfortranarray(a),
        "t": a.transpose(2, 0, 1),
        "s": a[:, ::-1, ::2],
        "big": a.astype(">f8"),
        "big2": a.astype(">i2"),
    }
    write(tmp_path / "m", layouts, {})
    found, _ = read(tmp_path / "m")
    for name, array in layouts.items():
        np.testing.assert_array_equal(found[name], array)
    assert found["big2"].dtype == np.int16


def test_official_library_reads_ours(tmp_path):
    official = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
    import safetensors

    tensors, metadata = sample()
    path = tmp_path / "m.safetensors"
    write(path, tensors, metadata)
    found = official.load_file(path)
    assert same((found, {}), (tensors, {}))
    with safetensors.safe_open(path, "numpy") as file:
        theirs = file.metadata()
    assert metadata.items() <= theirs.items()
    assert theirs.keys() - metadata.keys() == {PAYLOAD_KEY, HEADER_KEY}


def test_we_read_the_official_library(tmp_path):
    official = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
    tensors, _ = sample()
    official.save_file(tensors, tmp_path / "m", {"who": "they"})
    with pytest.raises(ModelFileError, match="from another program"):
        read(tmp_path / "m")
    assert same(read(tmp_path / "m", verify=False), (tensors, {"who": "they"}))


# --- what the writer refuses ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("tensors", "metadata", "kind", "message"),
    [
        ({"a": [1.0]}, {}, TypeError, "'a' is list"),
        ({3: np.ones(1)}, {}, TypeError, "name 3 is int"),
        ({"": np.ones(1)}, {}, ModelFileError, "not allowed"),
        ({"__metadata__": np.ones(1)}, {}, ModelFileError, "not allowed"),
        ({"x" * 1025: np.ones(1)}, {}, ModelFileError, "not allowed"),
        ({"\ud800": np.ones(1)}, {}, ModelFileError, "not valid Unicode"),
        ({"a": np.ones(1, complex)}, {}, TypeError, "complex128"),
        ({"a": np.array(["x"])}, {}, TypeError, "<U1"),
        ({"a": np.array([{}], object)}, {}, TypeError, "object"),
        ({}, {"a": 1}, TypeError, "expected two strings"),
        ({}, {"a": "\ud800"}, ModelFileError, "not valid Unicode"),
        ({}, {PAYLOAD_KEY: "x"}, ModelFileError, "reserved"),
        ({}, {"a": "x" * MAX_HEADER}, ModelFileError, "expected at most 1048576"),
        ({f"{i}": np.ones(0) for i in range(16385)}, {}, ModelFileError, "16385 tensors"),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, dict) else None,
)
def test_write_refuses(tmp_path, tensors, metadata, kind, message):
    path = tmp_path / "m"
    path.write_bytes(b"old")
    with pytest.raises(kind, match=message):
        write(path, tensors, metadata)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["m"]


# --- hostile files --------------------------------------------------------------------------

DEEP = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"

HOSTILE = {
    "nothing": (b"", "too short"),
    "seven": (b"1234567", "too short"),
    "huge-header": (b"\xff" * 8 + b"{}", "header of 18446744073709551615 bytes"),
    "over-cap": ((MAX_HEADER + 1).to_bytes(8, "little") + b" " * (MAX_HEADER + 1), "at most"),
    "cut-header": (b"\x10" + bytes(7) + b"{}", "cut off"),
    "not-object": (pack(b"[1]     "), "begin with"),
    "leading-space": (pack(b" {}     "), "begin with"),
    "not-json": (pack(b'{"a":   '), "not JSON"),
    "two-values": (pack(b"{} {}"), "not JSON"),
    "not-utf8": (pack(b'{"\xff":1}'), "UTF-8"),
    "utf16": (pack('{"a":1}'.encode("utf-16-le")), "not JSON"),
    "deep": (pack(DEEP), "nested"),
    "many-digits": (pack(b'{"a":' + b"9" * 5000 + b"}"), "5000 digits"),
    "float": (pack(b'{"a":1.5}'), "1.5"),
    "infinity": (pack(b'{"a":Infinity}'), "Infinity"),
    "nan": (pack(b'{"a":NaN}'), "NaN"),
    "many-objects": (pack(b'{"a":[' + b"{}," * 20000 + b"{}]}"), "more than 16384"),
    "twice": (
        pack(b'{"a":%s,"a":%s}' % ((json.dumps(entry()).encode(),) * 2), bytes(8)),
        "twice",
    ),
    "twice-inside": (
        pack(b'{"a":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}}', b"x"),
        "twice",
    ),
    "metadata-list": (pack({"__metadata__": []}), "not an object"),
    "metadata-number": (pack({"__metadata__": {"a": 1}}), "not a string"),
    "metadata-surrogate": (pack(b'{"__metadata__":{"a":"\\ud800"}}'), "Unicode"),
    "entry-list": (pack({"a": []}), "expected the keys"),
    "extra-key": (pack({"a": {**entry(), "x": 1}}, bytes(8)), "expected the keys"),
    "no-shape": (pack({"a": {"dtype": "F32", "data_offsets": [0, 8]}}, bytes(8)), "the keys"),
    "bad-dtype": (pack({"a": entry("F31")}, bytes(8)), "F31"),
    "dtype-list": (pack({"a": entry(["F32"])}, bytes(8)), "dtype"),
    "negative": (pack({"a": entry(shape=[-2])}, bytes(8)), "whole numbers"),
    "bool-shape": (pack({"a": entry("U8", [True], [0, 1])}, b"x"), "whole numbers"),
    "null-shape": (pack({"a": {**entry(), "shape": None}}, bytes(8)), "whole numbers"),
    "overflow": (pack({"a": entry("U8", [2**32, 2**32], [0, 0])}), "too large"),
    "hidden-overflow": (pack({"a": entry("U8", [0, 2**61, 8], [0, 0])}), "too large"),
    "big-dimension": (pack({"a": entry("U8", [2**62], [0, 0])}), "whole numbers"),
    "rank": (pack({"a": entry("U8", [1] * 33, [0, 1])}, b"x"), "33 axes"),
    "backwards": (pack({"a": entry(offsets=[8, 0])}, bytes(8)), "begin and an end"),
    "three-offsets": (pack({"a": entry(offsets=[0, 8, 8])}, bytes(8)), "begin and an end"),
    "wrong-span": (pack({"a": entry(offsets=[0, 9])}, bytes(9)), "needs 8 bytes"),
    "hole": (pack({"a": entry(offsets=[4, 12])}, bytes(12)), "without holes"),
    "overlap": (pack({"a": entry(), "b": entry(offsets=[4, 12])}, bytes(12)), "without holes"),
    "same-bytes": (pack({"a": entry(), "b": entry()}, bytes(8)), "without holes"),
    "appended": (pack({"a": entry()}, bytes(9)), "appended"),
    "cut": (pack({"a": entry()}, bytes(7)), "cut off"),
    "claims-much": (pack({"a": entry("F64", [2**50], [0, 2**53])}, bytes(8)), "cut off"),
    "empty-name": (pack({"": entry()}, bytes(8)), "not allowed"),
    "long-name": (pack({"x" * 1025: entry()}, bytes(8)), "not allowed"),
    "surrogate-name": (pack(b'{"\\ud800":{}}'), "Unicode"),
    "no-hashes": (pack({"a": entry()}, bytes(8)), "no sha256_header"),
    "third-truth": (pack({"a": entry("BOOL", [2], [0, 2])}, b"\x01\x02", sign=True), "truth"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile(tmp_path, name):
    data, message = HOSTILE[name]
    path = tmp_path / "m"
    path.write_bytes(data)
    begin = time.perf_counter()
    with pytest.raises(ModelFileError, match=message) as caught:
        read(path)
    assert time.perf_counter() - begin < 1.0
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_hand_made_file_with_right_hashes_is_read(tmp_path):
    payload = np.array([1.0, 2.0, 3.0, 4.0], np.float32).tobytes()
    header = {"b": entry(offsets=[8, 16]), "a": entry(), "__metadata__": {"k": "v"}}
    (tmp_path / "m").write_bytes(pack(header, payload, sign=True))
    tensors, metadata = read(tmp_path / "m")
    assert {k: v.tolist() for k, v in tensors.items()} == {"a": [1, 2], "b": [3, 4]}
    assert metadata == {"k": "v"}


@pytest.mark.parametrize(
    "change",
    [
        lambda h: {"c" if k == "a" else k: v for k, v in h.items()},
        lambda h: {**h, "a": {**h["a"], "shape": [3, 2]}},
        lambda h: {**h, "a": {**h["a"], "dtype": "I32"}},
        lambda h: {**h, "__metadata__": {**h["__metadata__"], "k": "w"}},
        lambda h: {**h, "__metadata__": {**h["__metadata__"], "new": ""}},
    ],
    ids=["renamed", "transposed", "retyped", "edited", "added"],
)
def test_edited_header_is_refused(tmp_path, change):
    path = tmp_path / "m"
    write(path, {"a": np.ones((2, 3), np.float32)}, {"k": "v"})
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    path.write_bytes(pack(change(json.loads(raw[8 : 8 + length])), raw[8 + length :]))
    with pytest.raises(ModelFileError, match="header is damaged"):
        read(path)


def mutants(raw, rng, count):
    """Yield changed versions of a file: flips, cuts, splices, header edits."""
    length = 8 + int.from_bytes(raw[:8], "little")
    tokens = [b'"', b"{", b"}", b",", b"0", b"9", b"-", b"null", b"[]", b"\\u0041", b" ", b"\xff"]
    for k in range(count):
        data = bytearray(raw)
        kind = k % 8
        limit = length if kind in (1, 3, 5) else len(raw)
        at = int(rng.integers(limit))
        if kind in (0, 1):
            for _ in range(int(rng.integers(1, 4))):
                data[int(rng.integers(limit))] ^= 1 << int(rng.integers(8))
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            data[at : at + int(rng.integers(3))] = tokens[int(rng.integers(len(tokens)))]
        elif kind == 4:
            other = int(rng.integers(len(raw)))
            size = int(rng.integers(1, 40))
            data[at : at + size] = raw[other : other + size]
        elif kind == 5:
            stop = min(limit, at + int(rng.integers(1, 30)))
            data[at:stop] = b""
            if rng.integers(2):
                data[:8] = (length - 8 - (stop - at)).to_bytes(8, "little")
        elif kind == 6:
            data[at] = int(rng.integers(256))
        else:
            data += bytes(rng.integers(0, 256, int(rng.integers(1, 20)), np.uint8))
        yield bytes(data)


def test_ten_thousand_mutated_files(tmp_path):
    path = tmp_path / "m"
    tensors, metadata = sample()
    write(path, tensors, metadata)
    good = read(path)
    refusals = loaded = 0
    with open(path, "r+b") as file:
        for data in mutants(path.read_bytes(), np.random.default_rng(20), 10_000):
            file.seek(0)
            file.truncate()
            file.write(data)
            file.flush()
            try:
                found = read(path)
            except ModelFileError:
                refusals += 1
                continue
            assert same(found, good)
            loaded += 1
    assert refusals + loaded == 10_000
    assert refusals > 9_000


@pytest.mark.parametrize(
    "piece",
    [b"[],", b"{},", b"[0],", b'"ab",', b"1000,", '"\u00e9",'.encode(), b'{"":0},', b"[[]],"],
)
def test_memory_is_bounded(tmp_path, piece):
    tracemalloc = pytest.importorskip("tracemalloc", reason="this Python has no tracemalloc")
    text = b'{"a":[' + piece * ((MAX_HEADER - 30) // len(piece)) + b"0]}"
    path = tmp_path / "m"
    path.write_bytes(pack(text))
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError):
            read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= path.stat().st_size + (32 << 20)


def test_memory_of_a_large_file(tmp_path):
    tracemalloc = pytest.importorskip("tracemalloc", reason="this Python has no tracemalloc")
    path = tmp_path / "m"
    write(path, {"a": np.ones((1 << 22,), np.float32)}, {})
    tracemalloc.start()
    try:
        read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= path.stat().st_size + (4 << 20)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "no")
    with pytest.raises(ModelFileError, match="not a plain file"):
        read(tmp_path)


# --- atomic writing -------------------------------------------------------------------------


def test_interrupted_save_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "m"
    write(path, {"a": np.ones(3)}, {})
    old = path.read_bytes()
    for name in ("fsync", "replace"):

        def fail(*_, name=name):
            raise OSError(f"no {name}")

        with monkeypatch.context() as patch:
            patch.setattr(os, name, fail)
            with pytest.raises(OSError, match=f"no {name}"):
                write(path, {"a": np.zeros(3)}, {})
        assert path.read_bytes() == old
        assert os.listdir(tmp_path) == ["m"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, SystemExit])
def test_error_inside_the_block(tmp_path, error):
    path = tmp_path / "m"
    path.write_bytes(b"old")

    def save():
        with atomic_write(path) as file:
            file.write(b"new")
            raise error

    with pytest.raises(error):
        save()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["m"]


@POSIX
def test_full_disk_keeps_the_old_file(tmp_path):
    resource = pytest.importorskip("resource", reason="needs file size limits")
    path = tmp_path / "m"
    write(path, {"a": np.ones(3)}, {})
    old = path.read_bytes()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    try:
        with pytest.raises(OSError, match="large"):
            write(path, {"a": np.ones(1 << 16)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == ["m"]


WRITER = """
import sys, numpy as np
from pyfastnn.io import write
for k in range(1, 10**6):
    write(sys.argv[1], {"a": np.full(200_000, float(k))}, {"k": str(k)})
    if k == 1:
        print("ready", flush=True)
"""


@POSIX
def test_killed_writer_leaves_a_whole_file(tmp_path):
    path = tmp_path / "m"
    rng = np.random.default_rng(9)
    for _ in range(8):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE) as child:
            assert child.stdout.readline() == b"ready\n"
            time.sleep(float(rng.uniform(0.0, 0.05)))
            child.kill()
        tensors, metadata = read(path)
        assert (tensors["a"] == float(metadata["k"])).all()
    write(path, {}, {})
    assert os.listdir(tmp_path) == ["m"]


@POSIX
def test_left_temporaries_are_swept_but_live_ones_are_not(tmp_path):
    path = tmp_path / "m"
    (tmp_path / ".m.0123456789abcdef.tmp").write_bytes(b"left by a killed process")
    (tmp_path / ".m.other.tmp").write_bytes(b"not ours")
    (tmp_path / ".mm.0123456789abcdef.tmp").write_bytes(b"another file's")
    with atomic_write(path) as outer:
        outer.write(b"outer")
        with atomic_write(path) as inner:
            inner.write(b"inner")
        assert path.read_bytes() == b"inner"
    assert path.read_bytes() == b"outer"
    assert sorted(os.listdir(tmp_path)) == [".m.other.tmp", ".mm.0123456789abcdef.tmp", "m"]


@POSIX
def test_permissions_and_links(tmp_path):
    real = tmp_path / "real"
    real.mkdir()
    link = tmp_path / "link"
    link.symlink_to(real / "m")
    mask = os.umask(0o027)
    try:
        with atomic_write(link) as file:
            file.write(b"1")
    finally:
        os.umask(mask)
    assert link.is_symlink()
    assert stat.S_IMODE((real / "m").stat().st_mode) == 0o640
    (real / "m").chmod(0o604)
    with atomic_write(link) as file:
        file.write(b"2")
        (temporary,) = [n for n in os.listdir(real) if n != "m"]
        assert stat.S_IMODE((real / temporary).stat().st_mode) == 0o600
    assert link.is_symlink()
    assert (real / "m").read_bytes() == b"2"
    assert stat.S_IMODE((real / "m").stat().st_mode) == 0o604
    assert os.listdir(real) == ["m"]


def test_targets_that_cannot_be(tmp_path):
    for target, kind in (
        (tmp_path, IsADirectoryError),
        (tmp_path / "no" / "m", FileNotFoundError),
        (os.devnull, ValueError if os.name == "posix" else OSError),
    ):
        with pytest.raises(kind), atomic_write(target):
            pytest.fail("the block must not be entered")
