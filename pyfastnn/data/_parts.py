"""What every reader returns, and the rules that turn it into features and labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pyfastnn._names import unknown
from pyfastnn.data.errors import DataError, check_finite

__all__ = ["TASKS", "Parts", "as_features", "decide_task", "label_column"]

Array = npt.NDArray[Any]

TASKS = ("classification", "regression")
MOST_CLASSES = 50


@dataclass
class Parts:
    """Features and labels as read, before the task is decided."""

    X: Array
    y: Array | None = None
    X_test: Array | None = None
    y_test: Array | None = None
    target_name: str | None = None
    feature_names: list[str] | None = None
    class_names: list[str] | None = None
    labels_from_table: bool = False  # float labels may be class numbers: the file had one dtype


def as_features(source: str, name: str, x: Array) -> Array:
    """Return ``x`` as C-contiguous uint8, float32 or float64 without NaN or infinity.

    uint8, float32 and float64 keep their dtype; bool becomes uint8, float16 float32, other
    integers float64.
    """
    if x.ndim == 0 or x.shape[0] == 0 or x.size == 0:
        raise DataError(f"'{source}': {name} has shape {x.shape}, expected at least one row")
    if x.dtype.kind == "f" and x.dtype.itemsize <= 8:
        dtype = np.dtype(np.float64 if x.dtype.itemsize == 8 else np.float32)
    elif x.dtype.kind == "b" or x.dtype == np.uint8:
        dtype = np.dtype(np.uint8)
    elif x.dtype.kind in "iu":
        dtype = np.dtype(np.float64)
    else:
        raise DataError(f"'{source}': {name} has dtype {x.dtype}, expected numbers")
    x = np.ascontiguousarray(x, dtype)
    check_finite(source, name, x)
    return x


def label_column(
    source: str,
    columns: int,
    names: list[str] | None,
    target: str | int | None,
    features: int | None,
) -> int:
    """Say which column of a table is the label, -1 when none is.

    With ``features`` None the label is required; otherwise a table of exactly that many columns
    has no label.
    """
    found: int | None
    if target is None:
        found = columns - 1
    elif isinstance(target, str) and names is not None and names.count(target) == 1:
        found = names.index(target)
    elif isinstance(target, str) and names is not None and target in names:
        raise DataError(f"'{source}': {names.count(target)} columns are named '{target}'")
    else:
        found = _column_number(source, columns, names, target, required=columns != features)
    if features is not None:
        named = isinstance(target, str) and names is not None and target in names
        if columns == features and not named:
            return -1
        if columns != features + 1:
            raise DataError(
                f"'{source}' has {columns} columns, expected {features} features, or "
                f"{features + 1} columns with the label"
            )
    if columns < 2:
        raise DataError(f"'{source}' has 1 column, expected features and a label separated by comma, semicolon or tab")
    assert found is not None
    return found


def _column_number(
    source: str, columns: int, names: list[str] | None, target: str | int, *, required: bool
) -> int | None:
    """Read a column number; None for one that is not there and need not be."""
    try:
        index = int(target)
    except ValueError:
        if not required:
            return None
        if names is None:
            raise DataError(
                f"'{source}' has no header line, so target '{target}' is unknown; give the number "
                f"of the column, 0 to {columns - 1}"
            ) from None
        raise DataError(f"'{source}': {unknown('target column', target, names)}") from None
    if not -columns <= index < columns:
        if not required:
            return None
        raise DataError(
            f"'{source}' has {columns} columns, so target {index} does not exist; expected 0 to {columns - 1}"
        )
    return index % columns


def decide_task(
    source: str, parts: Parts, task: str | None
) -> tuple[str, Array, Array | None, list[int] | list[str] | None]:
    """Decide between classification and regression and convert the labels.

    Returns
    -------
    task : str
        ``task`` if given. Otherwise text is classification; whole numbers with at most 50
        different values are classification; everything else is regression. Arrays of floats from
        ``.npz`` and from a folder are regression: their dtype says so.
    y, y_test : ndarray
        int64 or text for classification, float64 for regression.
    classes : list or None
        The distinct labels in ascending order.
    """
    assert parts.y is not None
    y = _as_labels(source, "y", parts.y, parts.X.shape[0])
    y_test = None
    if parts.y_test is not None and parts.X_test is not None:
        y_test = _as_labels(source, "y_test", parts.y_test, parts.X_test.shape[0])
        if y_test.dtype.kind != y.dtype.kind or y_test.shape[1:] != y.shape[1:]:
            raise DataError(
                f"'{source}': y is {y.dtype} of shape {y.shape} but y_test is {y_test.dtype} of shape {y_test.shape}"
            )
    both = y if y_test is None else np.concatenate([y, y_test])
    chosen = task or _natural_task(both, parts.labels_from_table)
    if chosen == "regression":
        if both.dtype.kind == "U":
            raise DataError(f"'{source}': the labels are text, which only classification can use")
        final = [None if a is None else a.astype(np.float64) for a in (y, y_test)]
        assert final[0] is not None
        return chosen, final[0], final[1], None
    if both.ndim != 1:
        raise DataError(f"'{source}': y has shape {y.shape}, expected one label a row")
    if both.dtype.kind == "f":
        if not np.array_equal(both, np.rint(both)) or np.abs(both).max() > 2.0**53:
            raise DataError(f"'{source}': the labels are not whole numbers, which classification needs")
        y = y.astype(np.int64)
        y_test = None if y_test is None else y_test.astype(np.int64)
        both = both.astype(np.int64)
    return chosen, y, y_test, np.unique(both).tolist()


def _natural_task(y: Array, from_table: bool) -> str:
    if y.dtype.kind == "U":
        return "classification"
    if y.ndim != 1 or (y.dtype.kind == "f" and not from_table):
        return "regression"
    if y.dtype.kind == "f" and not np.array_equal(y, np.rint(y)):
        return "regression"
    return "classification" if np.unique(y).size <= MOST_CLASSES else "regression"


def _as_labels(source: str, name: str, y: Array, rows: int) -> Array:
    """Return labels as int64, float64 or text, shape (n,) or (n, k)."""
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim not in (1, 2):
        raise DataError(f"'{source}': {name} has shape {y.shape}, expected one label a row")
    if y.shape[0] != rows:
        raise DataError(f"'{source}': {name} has {y.shape[0]} labels for {rows} rows of features")
    if y.dtype.kind == "f":
        y = np.ascontiguousarray(y, np.float64)
        check_finite(source, name, y)
        return y
    if y.dtype.kind in "biu":
        if y.dtype == np.uint64 and y.size and y.max() > np.iinfo(np.int64).max:
            raise DataError(f"'{source}': {name} has values over 2**63 - 1")
        return np.ascontiguousarray(y, np.int64)
    if y.dtype.kind == "S":
        try:
            return np.char.decode(y, "utf-8")
        except UnicodeDecodeError as e:
            raise DataError(f"'{source}': {name} has text that is not UTF-8") from e
    if y.dtype.kind == "U":
        return np.ascontiguousarray(y)
    raise DataError(f"'{source}': {name} has dtype {y.dtype}, expected numbers or text")
