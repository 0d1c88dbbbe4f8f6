"""Readers of the standard image files: idx (MNIST, Fashion-MNIST) and CIFAR-10 batches."""

from __future__ import annotations

import os
import re
from typing import Any

import numpy as np
import numpy.typing as npt

from pyfastnn.data._files import open_file, read_exactly, read_head
from pyfastnn.data._parts import Parts
from pyfastnn.data.errors import DataError

__all__ = [
    "is_cifar_folder",
    "is_idx_folder",
    "read_cifar_folder",
    "read_idx_folder",
    "read_idx_images",
]

Array = npt.NDArray[Any]

RECORD = 3073  # label, then 3 planes of 32 x 32
IMAGES_MAGIC = 0x00000803  # unsigned bytes, three dimensions
LABELS_MAGIC = 0x00000801  # unsigned bytes, one dimension


def _idx_file(folder: str, part: str, kind: str) -> str | None:
    """Find ``train-images-idx3-ubyte`` and the like, plain before gzip."""
    number = "3" if kind == "images" else "1"
    for mark in ("-idx", ".idx"):
        for end in ("", ".gz"):
            path = os.path.join(folder, f"{part}-{kind}{mark}{number}-ubyte{end}")
            if os.path.isfile(path):
                return path
    return None


def is_idx_folder(folder: str) -> bool:
    """Say whether a folder has any of the four MNIST files."""
    return any(_idx_file(folder, part, kind) for part in ("train", "t10k") for kind in ("images", "labels"))


def read_idx_folder(folder: str) -> Parts:
    """Read the MNIST files of a folder; the test files may be missing, both together."""
    X, y = _idx_pair(folder, "train")
    parts = Parts(X, y)
    if _idx_file(folder, "t10k", "images") or _idx_file(folder, "t10k", "labels"):
        parts.X_test, parts.y_test = _idx_pair(folder, "t10k")
        if parts.X_test.shape[1:] != X.shape[1:]:
            raise DataError(
                f"'{folder}': training images are {X.shape[1:3]} pixels but test images {parts.X_test.shape[1:3]}"
            )
    return parts


def _idx_pair(folder: str, part: str) -> tuple[Array, Array]:
    paths = [_idx_file(folder, part, kind) for kind in ("images", "labels")]
    for kind, path, other in zip(("images-idx3", "labels-idx1"), paths, paths[::-1], strict=True):
        if path is None:
            beside = f" beside '{os.path.basename(other)}'" if other else ""
            raise DataError(f"'{folder}' has no {part}-{kind}-ubyte or .gz{beside}")
    assert paths[0] is not None
    assert paths[1] is not None
    X = read_idx_images(paths[0])
    y = _read_idx(paths[1], LABELS_MAGIC, 1, "labels")
    if X.shape[0] != y.shape[0]:
        raise DataError(
            f"'{folder}': {os.path.basename(paths[0])} has {X.shape[0]} images but "
            f"{os.path.basename(paths[1])} has {y.shape[0]} labels"
        )
    return X, y.astype(np.int64)


def read_idx_images(path: str) -> Array:
    """Read an idx3 file as uint8 of shape (n, rows, columns, 1)."""
    return _read_idx(path, IMAGES_MAGIC, 3, "pixels")[..., np.newaxis]


def _read_idx(path: str, magic: int, rank: int, what: str) -> Array:
    with open_file(path) as file:
        head = read_head(path, file, 4 + 4 * rank)
        found = int.from_bytes(head[:4], "big")
        if len(head) < 4 or found != magic:
            shown = f"0x{found:08x}" if len(head) >= 4 else f"a file of {len(head)} bytes"
            raise DataError(f"'{path}': expected an idx{rank}-ubyte file (magic number 0x{magic:08x}), found {shown}")
        if len(head) < 4 + 4 * rank:
            raise DataError(f"'{path}': the header is cut off after {len(head)} bytes")
        shape = np.frombuffer(head, ">u4", rank, 4).tolist()
        count = 1
        for size in shape:
            count *= size
        if count == 0:
            raise DataError(f"'{path}' is empty: its header says {tuple(shape)}")
        data = read_exactly(path, file, count, f"{what} for {tuple(shape)}")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _cifar_home(folder: str) -> tuple[str, list[str], list[str]]:
    """Return the folder with batches, its binary batches and its pickled ones."""
    for home in (
        folder,
        os.path.join(folder, "cifar-10-batches-bin"),
        os.path.join(folder, "cifar-10-batches-py"),
    ):
        if not os.path.isdir(home):
            continue
        names = sorted(os.listdir(home))
        binary = [n for n in names if re.fullmatch(r"(data_batch_\d+|test_batch)\.bin", n)]
        pickled = [n for n in names if re.fullmatch(r"data_batch_\d+|test_batch", n)]
        if binary or pickled:
            return home, binary, pickled
    return folder, [], []


def is_cifar_folder(folder: str) -> bool:
    """Say whether a folder has CIFAR-10 batches of either kind."""
    _, binary, pickled = _cifar_home(folder)
    return bool(binary or pickled)


def read_cifar_folder(folder: str) -> Parts:
    """Read the binary CIFAR-10 batches of a folder; ``test_batch.bin`` may be missing."""
    home, binary, pickled = _cifar_home(folder)
    if not binary:
        raise DataError(
            f"'{os.path.join(home, pickled[0])}' is a pickled batch, which is never opened; use "
            "the binary version, cifar-10-binary.tar.gz, with data_batch_1.bin to test_batch.bin"
        )
    numbers = sorted(int(n[len("data_batch_") : -len(".bin")]) for n in binary if n[0] == "d")
    if not numbers:
        raise DataError(f"'{home}' has test_batch.bin but no data_batch_1.bin")
    if numbers != list(range(1, len(numbers) + 1)):
        missing = min(set(range(1, numbers[-1] + 1)) - set(numbers), default=1)
        raise DataError(f"'{home}': data_batch_{missing}.bin is missing, found batches {numbers}")
    parts = Parts(*_cifar_batches([os.path.join(home, f"data_batch_{k}.bin") for k in numbers]))
    if "test_batch.bin" in binary:
        parts.X_test, parts.y_test = _cifar_batches([os.path.join(home, "test_batch.bin")])
    parts.class_names = _cifar_names(os.path.join(home, "batches.meta.txt"))
    return parts


def _cifar_batches(paths: list[str]) -> tuple[Array, Array]:
    """Decode batches one after the other into one array."""
    from pyfastnn.data._stream import decode_cifar

    counts = []
    for path in paths:
        size = os.path.getsize(path)
        if size == 0 or size % RECORD:
            raise DataError(
                f"'{path}' has {size} bytes, expected a multiple of {RECORD} (one label and "
                "32 x 32 x 3 pixels an image); the file is cut off or of another kind"
            )
        counts.append(size // RECORD)
    images = np.empty((sum(counts), 32, 32, 3), np.uint8)
    labels = np.empty(sum(counts), np.int64)
    begin = 0
    for path, count in zip(paths, counts, strict=True):
        end = begin + count
        with open_file(path) as file:
            raw = read_exactly(path, file, count * RECORD, "CIFAR-10 records")
        decode_cifar(raw, images[begin:end], labels[begin:end])
        if labels[begin:end].max() > 9:
            where = int(np.argmax(labels[begin:end] > 9))
            raise DataError(
                f"'{path}': record {where} has label {labels[begin + where]}"
                ", expected 0 to 9; this is not a CIFAR-10 batch"
            )
        begin = end
    return images, labels


def _cifar_names(path: str) -> list[str] | None:
    """Read the ten class names; None when the file is missing or is not ten words."""
    if not os.path.isfile(path):
        return None
    with open(path, encoding="utf-8", errors="replace") as file:
        names = file.read(4096).split()
    return names if len(names) == 10 else None
