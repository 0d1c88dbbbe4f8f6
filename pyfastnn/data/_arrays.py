"""Readers of NumPy files: ``.npz``, ``.npy`` tables and folders with ``X.npy`` and ``y.npy``."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from pyfastnn.data._parts import Parts, as_features, label_column
from pyfastnn.data.errors import DataError

__all__ = ["is_npy_folder", "read_npy", "read_npy_folder", "read_npz"]

Array = npt.NDArray[Any]

TRAIN_X = ("X", "x", "X_train", "x_train")
TRAIN_Y = ("y", "Y", "y_train", "Y_train")
TEST_X = ("X_test", "x_test")
TEST_Y = ("y_test", "Y_test")


def read_npz(path: str, *, labels: bool) -> Parts:
    """Read ``X, y`` or ``x_train, y_train, x_test, y_test``; other arrays are left alone."""
    # Opened here: np.load leaves a file it opened itself open when the archive is damaged.
    with open(path, "rb") as raw:
        try:
            file = np.load(raw, allow_pickle=False)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as e:
            raise DataError(f"'{path}' is not a .npz file: {_reason(e)}") from e
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise DataError(f"'{path}' is not a .npz file, but a single array")
        with file:
            return _named(path, file.files, lambda key: _guarded(path, key, lambda: file[key]), labels)


def is_npy_folder(folder: str) -> bool:
    """Say whether a folder has an ``X.npy`` in one of its spellings."""
    return any(os.path.isfile(os.path.join(folder, f"{name}.npy")) for name in (*TRAIN_X, *TEST_X))


def read_npy_folder(folder: str, *, labels: bool) -> Parts:
    """Read ``X.npy, y.npy`` or the train and test spellings."""
    names = sorted(f[:-4] for f in os.listdir(folder) if f.endswith(".npy"))
    return _named(folder, names, lambda key: _load_npy(os.path.join(folder, f"{key}.npy")), labels)


def read_npy(path: str, target: str | int | None, features: int | None) -> Parts:
    """Read one array: a table with the label in a column, or features alone."""
    array = _load_npy(path)
    if array.ndim != 2 and features is None:
        raise DataError(
            f"'{path}' has shape {array.shape}, expected a table with the label in the last "
            "column; for images use a .npz with X and y"
        )
    if array.ndim != 2:
        return Parts(as_features(path, "the array", array))
    column = label_column(path, array.shape[1], None, target, features)
    if column < 0:
        return Parts(as_features(path, "the array", array))
    X = as_features(path, "the array", np.delete(array, column, axis=1))
    return Parts(X, array[:, column].copy(), labels_from_table=True)


def _load_npy(path: str) -> Array:
    with open(path, "rb") as raw:
        array = _guarded(path, None, lambda: np.load(raw, allow_pickle=False))
    if not isinstance(array, np.ndarray):
        raise DataError(f"'{path}' is not a .npy file, but an archive; name it .npz")
    return array


def _guarded(path: str, key: str | None, load: Callable[[], Any]) -> Any:
    """Load an array, turning all that a bad file can raise into one error."""
    what = f"'{path}'" if key is None else f"'{path}', array '{key}'"
    try:
        return load()
    except MemoryError as e:
        raise DataError(f"{what} needs more memory than there is: {_reason(e)}") from e
    except ValueError as e:
        if "allow_pickle" in str(e):
            raise DataError(f"{what} holds pickled Python objects, which are never opened; save plain numbers") from e
        raise DataError(f"{what} cannot be read: {_reason(e)}") from e
    except (OSError, EOFError, SyntaxError, KeyError, zlib.error, zipfile.BadZipFile) as e:
        raise DataError(f"{what} cannot be read: {_reason(e)}") from e


def _reason(e: BaseException) -> str:
    text = " ".join(str(e).split())
    return text if text else type(e).__name__


def _named(path: str, known: list[str], load: Callable[[str], Array], labels: bool) -> Parts:
    """Pick features and labels by name."""

    def pick(names: tuple[str, ...]) -> Array | None:
        hits = [n for n in names if n in known]
        if len(hits) > 1:
            raise DataError(f"'{path}' has both '{hits[0]}' and '{hits[1]}', expected one of them")
        return load(hits[0]) if hits else None

    X, X_test = pick(TRAIN_X), pick(TEST_X)
    if X is None and (labels or X_test is None):
        raise DataError(
            f"'{path}' has the arrays {', '.join(known) or 'none'}; expected X and y, or x_train, "
            "y_train, x_test and y_test"
        )
    y, y_test = pick(TRAIN_Y), pick(TEST_Y)
    if labels and y is None:
        raise DataError(f"'{path}' has features but no labels; expected y or y_train")
    if labels and (X_test is None) != (y_test is None):
        lone, other = ("x_test", "y_test") if y_test is None else ("y_test", "x_test")
        raise DataError(f"'{path}' has {lone} but no {other}")
    parts = Parts(X_test, y_test) if X is None and X_test is not None else None
    if parts is None:
        assert X is not None
        parts = Parts(X, y, X_test, y_test)
    parts.X = as_features(path, "X", parts.X)
    if parts.X_test is not None:
        parts.X_test = as_features(path, "x_test", parts.X_test)
        if parts.X_test.shape[1:] != parts.X.shape[1:] or parts.X_test.dtype != parts.X.dtype:
            raise DataError(
                f"'{path}': training features are {parts.X.dtype} of shape {parts.X.shape[1:]}, "
                f"test features {parts.X_test.dtype} of shape {parts.X_test.shape[1:]}"
            )
    return parts
