"""The readers of data files: what they return and what they refuse."""

from __future__ import annotations

import gzip
import hashlib
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pyfastnn._names import nearest, unknown
from pyfastnn.data import DataError, load, load_digits, load_features
from pyfastnn.data._stream import decode_cifar


def idx(array, magic=None):
    array = np.asarray(array, np.uint8)
    magic = 0x800 + array.ndim if magic is None else magic
    return struct.pack(f">{1 + array.ndim}I", magic, *array.shape) + array.tobytes()


def write_mnist(folder, *, mark="-idx", pack=False, parts=("train", "t10k")):
    rng = np.random.default_rng(0)
    made = {}
    for part in parts:
        n = 12 if part == "train" else 5
        images = rng.integers(0, 256, (n, 4, 3), np.uint8)
        labels = np.arange(n, dtype=np.uint8) % 3
        for kind, number, array in (("images", 3, images), ("labels", 1, labels)):
            data = idx(array)
            name = f"{part}-{kind}{mark}{number}-ubyte" + (".gz" if pack else "")
            (folder / name).write_bytes(gzip.compress(data) if pack else data)
        made[part] = (images, labels)
    return made


def write_cifar(folder, batches=2, rows=3, test=True):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    images, labels = [], []
    for name in [*(f"data_batch_{k + 1}" for k in range(batches)), *(["test_batch"] * test)]:
        x = rng.integers(0, 256, (rows, 32, 32, 3), np.uint8)
        y = rng.integers(0, 10, rows).astype(np.uint8)
        records = np.concatenate([y[:, None], x.transpose(0, 3, 1, 2).reshape(rows, -1)], axis=1)
        (folder / f"{name}.bin").write_bytes(records.tobytes())
        images.append(x)
        labels.append(y)
    return images, labels


def csv(tmp_path, text, name):
    path = tmp_path / name
    path.write_text(text)
    return path


def refused(path, *words, read=load, **options):
    with pytest.raises(DataError) as caught:
        read(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message
    return message


# --- embedded digits ------------------------------------------------------------------------


def test_digits_are_the_known_ones():
    X, y = load_digits()
    assert X.shape == (1797, 64)
    assert X.dtype == np.uint8
    assert y.shape == (1797,)
    assert y.dtype == np.int64
    assert X.flags.c_contiguous
    assert y.flags.c_contiguous
    assert X[0, :8].tolist() == [0, 0, 5, 13, 9, 1, 0, 0]
    assert np.bincount(y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert int(X.sum(dtype=np.int64)) == 561718


def test_digits_equal_scikit_learn():
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    bunch = datasets.load_digits()
    X, y = load_digits()
    np.testing.assert_array_equal(X, bunch.data)
    np.testing.assert_array_equal(y, bunch.target)


def test_digits_by_name():
    data = load("digits", validation=0.2, seed=3)
    assert data.name == "digits"
    assert data.feature_shape == (64,)
    assert data.task == "classification"
    assert data.classes == list(range(10))
    assert data.X_test is None
    assert data.X_train.shape[0] == 1438
    assert data.X_val.shape[0] == data.y_val.shape[0] == 359
    assert repr(data) == (
        "Dataset digits: 1438 training, 359 validation rows, features 64 uint8, classification with 10 classes"
    )
    refused("digits", "target", target="x")


# --- idx ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mark", ["-idx", ".idx"])
@pytest.mark.parametrize("pack", [False, True], ids=["plain", "gz"])
def test_idx_folder(tmp_path, mark, pack):
    made = write_mnist(tmp_path, mark=mark, pack=pack)
    data = load(tmp_path)
    np.testing.assert_array_equal(data.X_train[..., 0], made["train"][0])
    np.testing.assert_array_equal(data.X_test[..., 0], made["t10k"][0])
    np.testing.assert_array_equal(data.y_train, made["train"][1])
    np.testing.assert_array_equal(data.y_test, made["t10k"][1])
    assert data.feature_shape == (4, 3, 1)
    assert data.X_train.dtype == np.uint8
    assert data.X_train.flags.c_contiguous
    assert data.y_train.dtype == np.int64
    assert data.classes == [0, 1, 2]


def test_idx_without_test_part(tmp_path):
    write_mnist(tmp_path, parts=("train",))
    assert load(tmp_path).X_test is None


def test_idx_features(tmp_path):
    made = write_mnist(tmp_path)
    X, y = load_features(tmp_path, 12)
    np.testing.assert_array_equal(X[..., 0], made["t10k"][0])
    np.testing.assert_array_equal(y, made["t10k"][1])
    X, y = load_features(tmp_path / "train-images-idx3-ubyte", 12)
    np.testing.assert_array_equal(X[..., 0], made["train"][0])
    assert y is None
    refused(tmp_path, "12 values", "expected 13", read=load_features, feature_count=13)
    refused(tmp_path / "train-images-idx3-ubyte", "folder")


def test_idx_refuses(tmp_path):
    write_mnist(tmp_path)
    images = tmp_path / "train-images-idx3-ubyte"
    labels = tmp_path / "train-labels-idx1-ubyte"
    good_images, good_labels = images.read_bytes(), labels.read_bytes()

    images.write_bytes(good_images[:-1])
    refused(tmp_path, "train-images-idx3-ubyte", "expected 144 bytes", "only 143")
    images.write_bytes(good_images + b"x")
    refused(tmp_path, "expected 144 bytes", "more")
    images.write_bytes(good_labels)
    refused(tmp_path, "magic number 0x00000803", "0x00000801")
    images.write_bytes(good_images[:9])
    refused(tmp_path, "header is cut off after 9")
    images.write_bytes(b"")
    refused(tmp_path, "0 bytes")
    images.write_bytes(idx(np.zeros((0, 4, 3))))
    refused(tmp_path, "empty")
    # A header that claims 2**96 bytes must not be believed.
    images.write_bytes(struct.pack(">4I", 0x803, *[2**32 - 1] * 3) + bytes(100))
    refused(tmp_path, "only 100")
    images.write_bytes(good_images)
    labels.write_bytes(idx(np.zeros(11)))
    refused(tmp_path, "12 images", "11 labels")
    labels.unlink()
    refused(tmp_path, "train-labels-idx1-ubyte", "beside 'train-images-idx3-ubyte'")


def test_idx_refuses_damaged_gzip(tmp_path):
    write_mnist(tmp_path, pack=True)
    images = tmp_path / "train-images-idx3-ubyte.gz"
    good = images.read_bytes()
    for bad in (good[:-9], good[:40], good[:12], good[:-6] + b"\0\0" + good[-4:]):
        images.write_bytes(bad)
        refused(tmp_path, "train-images-idx3-ubyte.gz", "gz")
    for position in range(len(good)):
        changed = bytearray(good)
        changed[position] ^= 0x10
        images.write_bytes(changed)
        try:
            found = load(tmp_path)
        except DataError:
            continue
        images.write_bytes(good)
        np.testing.assert_array_equal(found.X_train, load(tmp_path).X_train)


# --- CIFAR-10 -------------------------------------------------------------------------------


@pytest.mark.parametrize("sub", [".", "cifar-10-batches-bin"])
def test_cifar_folder(tmp_path, sub):
    images, labels = write_cifar(tmp_path / sub)
    names = [
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ]
    (tmp_path / sub / "batches.meta.txt").write_text("\n".join(names) + "\n\n")
    data = load(tmp_path)
    np.testing.assert_array_equal(data.X_train, np.concatenate(images[:2]))
    np.testing.assert_array_equal(data.y_train, np.concatenate(labels[:2]))
    np.testing.assert_array_equal(data.X_test, images[2])
    np.testing.assert_array_equal(data.y_test, labels[2])
    assert data.X_train.dtype == np.uint8
    assert data.X_train.flags.c_contiguous
    assert data.feature_shape == (32, 32, 3)
    assert data.class_names == names


def test_cifar_order_of_ten_batches(tmp_path):
    images, _ = write_cifar(tmp_path, batches=11, rows=1, test=False)
    data = load(tmp_path)
    np.testing.assert_array_equal(data.X_train, np.concatenate(images))
    assert data.X_test is None


def test_cifar_refuses(tmp_path):
    write_cifar(tmp_path, batches=3)
    batch = tmp_path / "data_batch_2.bin"
    good = batch.read_bytes()
    batch.write_bytes(good[:-1])
    refused(tmp_path, "data_batch_2.bin", "9218 bytes", "3073")
    batch.write_bytes(b"")
    refused(tmp_path, "0 bytes")
    batch.write_bytes(good[:3073] + b"\x0a" + good[3074:])
    refused(tmp_path, "record 1 has label 10", "0 to 9")
    batch.unlink()
    refused(tmp_path, "data_batch_2.bin is missing", "[1, 3]")
    refused(tmp_path / "data_batch_1.bin", "folder")


@pytest.mark.parametrize("sub", [".", "cifar-10-batches-py"])
def test_cifar_pickles_are_never_opened(tmp_path, sub):
    (tmp_path / sub).mkdir(exist_ok=True)
    (tmp_path / sub / "data_batch_1").write_bytes(b"\x80\x04cos\nabort\n)R.")
    refused(tmp_path, "cifar-10-binary.tar.gz", "pickled")


def test_archives_are_refused(tmp_path):
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"x")
    refused(tmp_path / "cifar-10-python.tar.gz", "unpack", "cifar-10-binary.tar.gz")


def test_decode_cifar_checks_sizes():
    raw = np.zeros(2 * 3073, np.uint8)
    with pytest.raises(ValueError, match="do not belong together"):
        decode_cifar(raw, np.empty((1, 32, 32, 3), np.uint8), np.empty(2, np.int64))
    with pytest.raises(ValueError, match="do not belong together"):
        decode_cifar(raw[:-1], np.empty((2, 32, 32, 3), np.uint8), np.empty(2, np.int64))
    decode_cifar(raw[:0], np.empty((0, 32, 32, 3), np.uint8), np.empty(0, np.int64))


# --- npz and npy ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [("x_train", "y_train", "x_test", "y_test"), ("X_train", "y_train", "X_test", "y_test")],
    ids=lambda n: n[0],
)
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_npz_with_test_part(tmp_path, names, dtype):
    rng = np.random.default_rng(2)
    X = rng.integers(0, 200, (9, 2, 5)).astype(dtype)
    y = rng.integers(0, 4, (9, 1))
    arrays = dict(zip(names, (X[:6], y[:6], X[6:], y[6:]), strict=True))
    np.savez(tmp_path / "d.npz", other=np.zeros(3), **arrays)
    data = load(tmp_path / "d.npz")
    assert data.X_train.dtype == dtype
    np.testing.assert_array_equal(data.X_train, X[:6])
    np.testing.assert_array_equal(data.X_test, X[6:])
    np.testing.assert_array_equal(data.y_train, y[:6, 0])
    assert data.y_test.shape == (3,)
    assert data.classes == sorted(set(y[:, 0].tolist()))
    Xp, yp = load_features(tmp_path / "d.npz", 10)
    np.testing.assert_array_equal(Xp, X[6:])
    np.testing.assert_array_equal(yp, y[6:, 0])


def test_npz_and_folder_pairs(tmp_path):
    X = np.asfortranarray(np.arange(12.0).reshape(4, 3)).astype(">f4")
    y = np.array(["b", "a", "b", "c"])
    np.savez(tmp_path / "d.npz", X=X, y=y)
    (tmp_path / "f").mkdir()
    np.save(tmp_path / "f" / "X.npy", X)
    np.save(tmp_path / "f" / "y.npy", y)
    for path in (tmp_path / "d.npz", tmp_path / "f"):
        data = load(path)
        assert data.X_train.dtype == np.float32
        assert data.X_train.dtype.isnative
        assert data.X_train.flags.c_contiguous
        np.testing.assert_array_equal(data.X_train, X)
        assert data.y_train.tolist() == ["b", "a", "b", "c"]
        assert data.classes == ["a", "b", "c"]
        assert data.task == "classification"
    (tmp_path / "f" / "y.npy").unlink()
    refused(tmp_path / "f", "no labels")
    assert load_features(tmp_path / "f", 3)[1] is None


@pytest.mark.parametrize(
    ("y", "task", "dtype"),
    [
        (np.arange(60) % 50, "classification", np.int64),
        (np.arange(60) % 51, "regression", np.float64),
        (np.arange(60) % 2 == 0, "classification", np.int64),
        ((np.arange(60) % 2).astype(float), "regression", np.float64),
        (np.ones((60, 2)), "regression", np.float64),
        (np.array([b"x", b"y"] * 30), "classification", np.dtype("<U1")),
    ],
    ids=["int50", "int51", "bool", "float", "two-columns", "bytes"],
)
def test_task_of_arrays(tmp_path, y, task, dtype):
    np.savez(tmp_path / "d.npz", X=np.zeros((60, 1)), y=y)
    data = load(tmp_path / "d.npz")
    assert data.task == task
    assert data.y_train.dtype == dtype
    assert (data.classes is None) == (task == "regression")


def test_task_can_be_chosen(tmp_path):
    np.savez(tmp_path / "d.npz", X=np.zeros((4, 1)), y=np.array([0.0, 1.0, 1.0, 5.0]))
    assert load(tmp_path / "d.npz", task="classification").classes == [0, 1, 5]
    np.savez(tmp_path / "i.npz", X=np.zeros((4, 1)), y=np.array([0, 1, 1, 5]))
    assert load(tmp_path / "i.npz", task="regression").y_train.dtype == np.float64
    refused(tmp_path / "i.npz", "did you mean 'regression'", task="regressio")
    np.savez(tmp_path / "h.npz", X=np.zeros((2, 1)), y=np.array([0.5, 1.0]))
    refused(tmp_path / "h.npz", "not whole numbers", task="classification")
    np.savez(tmp_path / "s.npz", X=np.zeros((2, 1)), y=np.array(["a", "b"]))
    refused(tmp_path / "s.npz", "text", task="regression")


def test_npz_refuses(tmp_path):
    path = tmp_path / "d.npz"
    X, y = np.zeros((4, 3)), np.zeros(4, int)
    for arrays, words in (
        ({"a": X}, ["the arrays a", "expected X and y"]),
        ({"X": X}, ["no labels"]),
        ({"X": X, "y": y[:3]}, ["3 labels for 4 rows"]),
        ({"X": X, "x": X, "y": y}, ["both 'X' and 'x'"]),
        ({"X": X[:0], "y": y[:0]}, ["(0, 3)", "at least one row"]),
        ({"X": X, "y": y, "x_test": X}, ["x_test but no y_test"]),
        ({"X": X, "y": y, "x_test": X[:, :2], "y_test": y}, ["(3,)", "(2,)"]),
        ({"X": X.astype("U3"), "y": y}, ["expected numbers"]),
        ({"X": X + 1j, "y": y}, ["complex128"]),
        ({"X": X, "y": np.array([0, np.nan, 1, 2])}, ["y has 1 NaN"]),
        ({"X": X, "y": np.zeros((4, 2, 2))}, ["(4, 2, 2)"]),
    ):
        np.savez(path, **arrays)
        refused(path, "d.npz", *words)
    bad = X.copy()
    bad[[1, 3], 2] = np.nan
    bad[0, 1] = -np.inf
    np.savez(path, X=bad, y=y)
    refused(path, "1 NaN or infinite values in column 1", "3 in 2 columns")
    np.savez(path, X=np.array([{}], dtype=object), y=y[:1])
    refused(path, "pickled Python objects")
    np.savez(path, X=X, y=y)
    good = path.read_bytes()
    path.write_bytes(good[:-30])
    refused(path, "not a .npz")
    path.write_bytes(b"")
    refused(path, "empty")
    path.write_bytes(b"hello, this is text")
    refused(path, "d.npz")


def test_damaged_npz_is_refused_or_equal(tmp_path):
    path = tmp_path / "d.npz"
    rng = np.random.default_rng(4)
    X, y = rng.random((7, 3)), np.arange(7)
    np.savez_compressed(path, X=X, y=y)
    good = path.read_bytes()
    refusals = 0
    for position in rng.integers(0, len(good), 300).tolist():
        changed = bytearray(good)
        changed[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        try:
            data = load(path)
        except DataError:
            refusals += 1
            continue
        np.testing.assert_array_equal(data.X_train, X)
        np.testing.assert_array_equal(data.y_train, y)
    assert refusals > 100


def test_npy_table(tmp_path):
    path = tmp_path / "t.npy"
    table = np.array([[0.5, 1.5, 2], [1.0, 2.0, 0], [3.0, 4.0, 2]])
    np.save(path, table)
    data = load(path)
    np.testing.assert_array_equal(data.X_train, table[:, :2])
    assert data.y_train.tolist() == [2, 0, 2]
    assert data.y_train.dtype == np.int64
    assert load(path, target=0).task == "regression"
    assert load(path, target="-1").classes == [0, 2]
    refused(path, "target 3 does not exist", "0 to 2", target=3)
    X, y = load_features(path, 3)
    assert (X.shape, y) == ((3, 3), None)
    X, y = load_features(path, 2)
    assert (X.shape, y.tolist()) == ((3, 2), [2, 0, 2])
    refused(path, "3 columns", "expected 7 features", read=load_features, feature_count=7)
    np.save(path, np.zeros((2, 3, 4)))
    refused(path, "(2, 3, 4)", "last column")
    assert load_features(path, 12)[0].shape == (2, 3, 4)
    np.save(path, np.zeros(4))
    refused(path, "(4,)")
    path.write_bytes(path.read_bytes()[:-8])
    refused(path, "cannot be read")


# --- what else can be wrong -----------------------------------------------------------------


def test_missing_and_unknown(tmp_path, monkeypatch):
    csv(tmp_path, "1,2\n", "train.csv")
    refused(tmp_path / "trainn.csv", "does not exist", "did you mean", "train.csv")
    refused(tmp_path / "no" / "x.csv", "no folder")
    refused(tmp_path / "zzzzzzz", "expected a folder with MNIST")
    monkeypatch.chdir(tmp_path)
    refused("digit", "'digits', the built-in data set")
    (tmp_path / "x.png").write_bytes(b"x")
    refused(tmp_path / "x.png", "unknown kind", ".npz, .npy or .csv")
    (tmp_path / "e").mkdir()
    refused(tmp_path / "e", "holds nothing", "train-images-idx3-ubyte")
    refused(tmp_path, "holds e, train.csv, x.png", "name the file")


def test_validation_part(tmp_path):
    path = csv(tmp_path, "".join(f"{k},{k % 2}\n" for k in range(20)), "t.csv")
    data = load(path, validation=6, seed=1)
    assert np.bincount(data.y_val).tolist() == [3, 3]
    both = np.concatenate([data.X_train, data.X_val])[:, 0]
    assert sorted(both.tolist()) == list(range(20))
    np.testing.assert_array_equal(data.X_val, load(path, validation=6, seed=1).X_val)
    refused(path, "'validation' is 20 rows", validation=20)


def test_names():
    known = ["sgd", "Adam", "adamw"]
    assert nearest("ADAM", known) == "Adam"
    assert nearest("zzz", known) is None
    assert unknown("optimizer", "adm", known) == (
        "unknown optimizer 'adm', did you mean 'Adam'? known: sgd, Adam, adamw"
    )
    assert unknown("optimizer", 3, known) == "unknown optimizer 3; known: sgd, Adam, adamw"


def test_import_is_lazy():
    code = (
        "import sys, numpy; before = set(sys.modules); import pyfastnn.data as d; "
        "assert not {'gzip', 'csv', 'zipfile', 'difflib'} & (set(sys.modules) - before); "
        "assert 'pyfastnn.data.dataset' not in sys.modules; "
        "d.load('digits'); assert callable(d.split) and callable(d.load); print('fine')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "fine", done.stderr


# --- real data ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("mnist", "6bbc9ace898e44ae57da46a324031adb"),
        ("fashion-mnist", "f4a8712d7a061bf5bd6d2ca38dc4d50a"),
    ],
)
def test_real_idx(real_data: Path, name, digest):
    data = load(real_data / name)
    assert data.X_train.shape == (60000, 28, 28, 1)
    assert data.X_test.shape == (10000, 28, 28, 1)
    assert data.classes == list(range(10))
    header = struct.pack(">4I", 0x803, 60000, 28, 28)
    made = hashlib.md5(header + data.X_train.tobytes(), usedforsecurity=False)
    assert made.hexdigest() == digest


def test_real_cifar(real_data: Path, tmp_path):
    data = load(real_data / "cifar10" / "cifar10_exact_4k_1k.npz")
    assert data.X_train.shape == (4000, 32, 32, 3)
    done = subprocess.run(
        [sys.executable, str(real_data / "unpack_cifar10.py"), "exact", str(tmp_path)],
        check=False,
    )
    assert done.returncode == 0
    batches = load(tmp_path)
    np.testing.assert_array_equal(batches.X_train, data.X_train)
    np.testing.assert_array_equal(batches.X_test, data.X_test)
    np.testing.assert_array_equal(batches.y_train, data.y_train)
    np.testing.assert_array_equal(batches.y_test, data.y_test)
    assert batches.class_names[0] == "airplane"


def test_real_tables(real_data: Path):
    folder = real_data / "tabular"
    red = load(folder / "winequality-red.csv")
    assert red.X_train.shape == (1599, 11)
    assert red.target_name == "quality"
    assert red.classes == [3, 4, 5, 6, 7, 8]
    X, y = load_digits()
    digits = load(folder / "digits.csv.gz")
    np.testing.assert_array_equal(digits.X_train, X)
    np.testing.assert_array_equal(digits.y_train, y)
    assert load(folder / "iris.csv").class_names == ["setosa", "versicolor", "virginica"]
    assert load(folder / "wine.csv").X_train.shape == (178, 13)
    assert load(folder / "breast_cancer.csv").X_train.shape == (569, 30)
    refused(folder / "california_housing.csv.gz", "line 292", "'total_bedrooms'", "missing")
    refused(folder / "adult.data.gz", "line 1, column 1", "'State-gov' is not a number")
