"""Load a data set from whatever holds it."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from typing import Any

import numpy.typing as npt

from pyfastnn._names import unknown
from pyfastnn.data._parts import TASKS, Parts, decide_task
from pyfastnn.data.errors import DataError, missing_path

__all__ = ["Dataset", "load", "load_features"]

Array = npt.NDArray[Any]
Path = str | os.PathLike[str]

TABLE_ENDINGS = (".csv", ".tsv", ".txt", ".data")
KNOWN = "a folder with MNIST or CIFAR-10 files, a .npz, .npy or .csv file"


@dataclass(eq=False, repr=False)
class Dataset:  # numpydoc ignore=PR02
    """Features and labels with what is known about them.

    Parameters
    ----------
    X_train : ndarray of uint8, float32 or float64, shape (n, *feature_shape)
        Raw features, C-contiguous, finite. Images are NHWC uint8.
    y_train : ndarray of int64, float64 or text, shape (n,) or (n, k)
        Labels (int64 or text) or regression targets (float64).
    X_test, y_test : ndarray or None
        The test part; None when the source has none.
    name : str
        Name of the source without its folder and ending.
    feature_shape : tuple of int
        Shape of one row of features.
    task : {"classification", "regression"}
        What the labels suggest, or what was asked for.
    classes : list of int or list of str, or None
        Distinct labels of all parts in ascending order; None for regression.
    target_name : str or None
        Name of the label column, if the source names it.
    feature_names : list of str or None
        Names of the feature columns, if the source names them.
    X_val, y_val : ndarray or None
        The validation part, if one was asked for.
    class_names : list of str or None
        Words for class numbers 0, 1, ..., if the source has them.
    """

    X_train: Array
    y_train: Array
    X_test: Array | None
    y_test: Array | None
    name: str
    feature_shape: tuple[int, ...]
    task: str
    classes: list[int] | list[str] | None
    target_name: str | None = None
    feature_names: list[str] | None = None
    X_val: Array | None = None
    y_val: Array | None = None
    class_names: list[str] | None = None

    def __repr__(self) -> str:
        """Describe the data in one line."""
        rows = [f"{self.X_train.shape[0]} training"]
        if self.X_val is not None:
            rows.append(f"{self.X_val.shape[0]} validation")
        if self.X_test is not None:
            rows.append(f"{self.X_test.shape[0]} test")
        shape = " x ".join(str(k) for k in self.feature_shape)
        kind = self.task
        if self.classes is not None:
            kind += f" with {len(self.classes)} classes"
        return f"Dataset {self.name}: {', '.join(rows)} rows, features {shape} {self.X_train.dtype}, {kind}"


def load(
    path: Path,
    *,
    validation: float | None = None,
    seed: int = 0,
    target: str | int | None = None,
    task: str | None = None,
) -> Dataset:
    """Load a data set.

    Parameters
    ----------
    path : str or path-like
        One of:

        - a folder with the MNIST or Fashion-MNIST files (``train-images-idx3-ubyte`` and so on,
          gzip or not): uint8 of shape (n, rows, columns, 1);
        - a folder with the binary CIFAR-10 batches (``data_batch_1.bin`` ...), or the folder
          that has ``cifar-10-batches-bin`` inside: uint8 of shape (n, 32, 32, 3);
        - a ``.npz`` file with ``X, y`` or ``x_train, y_train, x_test, y_test``, or a folder with
          ``.npy`` files of these names;
        - a ``.npy`` table with the label in the last column;
        - a ``.csv`` (``.tsv``, ``.txt``, ``.data``) file, gzip or not, with numeric features and
          the label in the last column: float64;
        - the word ``digits``: the embedded 8 x 8 digits (``./digits`` is a folder).
    validation : int or float, optional
        Rows (or share of them) of the training part to hold out as ``X_val, y_val``, as in
        `split`; stratified for classification.
    seed : int, default 0
        Decides which rows are held out.
    target : str or int, optional
        Name or number (from 0, negative from the end) of the label column of a table.
    task : {"classification", "regression"}, optional
        Overrides what the labels suggest: text and whole numbers with at most 50 different
        values suggest classification, everything else regression. Float labels that are an array
        of their own suggest regression.

    Returns
    -------
    Dataset
        Always complete: a source that cannot be read to its end raises.

    Raises
    ------
    DataError
        If the source is missing, unknown, cut off, inconsistent, or has missing or infinite
        values. The message names the file and what would be right.
    """
    source = os.fspath(path)
    if task is not None and task not in TASKS:
        raise DataError(unknown("task", task, TASKS))
    parts = _read(source, target, None, labels=True, any_label=task == "classification")
    chosen, y, y_test, classes = decide_task(source, parts, task)
    made = Dataset(
        X_train=parts.X,
        y_train=y,
        X_test=parts.X_test,
        y_test=y_test,
        name=_name(source),
        feature_shape=parts.X.shape[1:],
        task=chosen,
        classes=classes,
        target_name=parts.target_name,
        feature_names=parts.feature_names,
        class_names=parts.class_names,
    )
    if validation is None:
        return made
    from pyfastnn.data._split import split

    try:
        Xt, Xv, yt, yv = split(
            parts.X,
            y,
            validation=validation,
            seed=seed,
            stratify=y if chosen == "classification" else None,
        )
    except ValueError as e:
        raise DataError(f"'{source}': {e}") from e
    return replace(made, X_train=Xt, y_train=yt, X_val=Xv, y_val=yv)


def load_features(
    path: Path, feature_count: int | None = None, *, target: str | int | None = None
) -> tuple[Array, Array | None]:
    """Load rows to predict: the sources of `load`, where labels may be missing.

    Parameters
    ----------
    path : str or path-like
        As in `load`; also a single ``...-images-idx3-ubyte`` file. Of a source with a test part
        that part is taken.
    feature_count : int, optional
        Values in one row the model expects. A table with exactly this many columns has no label,
        one with a column more has it in the last column (or in ``target``). If None, a table must
        have a label.
    target : str or int, optional
        Name or number of the label column of a table, if it is there.

    Returns
    -------
    X : ndarray of uint8, float32 or float64, shape (n, ...)
        C-contiguous features.
    y : ndarray of int64, float64 or text, or None
        The labels as `load` would give them, if the source has any.

    Raises
    ------
    DataError
        As in `load`, and if a row has another number of values than ``feature_count``.
    """
    source = os.fspath(path)
    parts = _read(source, target, feature_count, labels=False, any_label=True)
    if parts.X_test is not None:
        parts = replace(parts, X=parts.X_test, y=parts.y_test, X_test=None, y_test=None)
    found = math.prod(parts.X.shape[1:])
    if feature_count is not None and found != feature_count:
        raise DataError(f"'{source}' has rows of {found} values {parts.X.shape[1:]}, expected {feature_count}")
    if parts.y is None:
        return parts.X, None
    return parts.X, decide_task(source, parts, None)[1]


def _name(source: str) -> str:
    name = os.path.basename(os.path.normpath(source))
    if os.path.isdir(source):
        return name
    return name.removesuffix(".gz").rsplit(".", 1)[0] or name


def _read(source: str, target: str | int | None, features: int | None, *, labels: bool, any_label: bool) -> Parts:
    """Find the reader for a source and run it."""
    if source == "digits":
        from pyfastnn.data.digits import load_digits

        _no_target(source, target)
        return Parts(*load_digits())
    try:
        if not os.path.exists(source):
            raise missing_path(source)
        if os.path.isdir(source):
            _no_target(source, target)
            return _read_folder(source, labels)
        return _read_file(source, target, features, labels=labels, any_label=any_label)
    except OSError as e:
        raise DataError(f"'{source}' cannot be read: {e.strerror or e}") from e


def _read_folder(folder: str, labels: bool) -> Parts:
    from pyfastnn.data import _arrays, _images

    if _images.is_idx_folder(folder):
        return _images.read_idx_folder(folder)
    if _images.is_cifar_folder(folder):
        return _images.read_cifar_folder(folder)
    if _arrays.is_npy_folder(folder):
        return _arrays.read_npy_folder(folder, labels=labels)
    names = sorted(os.listdir(folder))
    shown = ", ".join(names[:4]) + (" ..." if len(names) > 4 else "") if names else "nothing"
    raise DataError(
        f"'{folder}' holds {shown}; expected train-images-idx3-ubyte[.gz], data_batch_1.bin or "
        "X.npy and their companions; for a table name the file"
    )


def _read_file(source: str, target: str | int | None, features: int | None, *, labels: bool, any_label: bool) -> Parts:
    lower = source.lower()
    if not os.path.isfile(source):
        raise DataError(f"'{source}' is not a file or folder, expected {KNOWN}")
    if os.path.getsize(source) == 0:
        raise DataError(f"'{source}' is empty")
    if lower.removesuffix(".gz").endswith(TABLE_ENDINGS):
        from pyfastnn.data._csv import read_csv

        return read_csv(source, target, None if labels else features, any_label=any_label)
    if lower.endswith(".npy"):
        from pyfastnn.data._arrays import read_npy

        return read_npy(source, target, None if labels else features)
    _no_target(source, target)
    if lower.endswith(".npz"):
        from pyfastnn.data._arrays import read_npz

        return read_npz(source, labels=labels)
    if "-ubyte" in os.path.basename(lower):
        if labels or "-images" not in lower:
            raise DataError(f"'{source}' is one file of a data set; name its folder instead")
        from pyfastnn.data._images import read_idx_images

        return Parts(read_idx_images(source))
    if lower.endswith(".bin"):
        raise DataError(f"'{source}' is one file of a data set; name its folder instead")
    if lower.endswith((".tar.gz", ".tgz", ".tar", ".zip")):
        raise DataError(
            f"'{source}' is an archive; unpack it and name the folder"
            + (" (of the binary version, cifar-10-binary.tar.gz)" if "cifar" in lower else "")
        )
    raise DataError(f"'{source}' is of an unknown kind, expected {KNOWN}")


def _no_target(source: str, target: str | int | None) -> None:
    if target is not None:
        raise DataError(f"'{source}' is not a table, so target {target!r} has no meaning there")
