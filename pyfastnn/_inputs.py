"""Checks of what users hand in: rows, labels, targets. Targets are checked, never broadcast."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn._names import unknown

if TYPE_CHECKING:
    from pyfastnn.nn.model import Model

Array = NDArray[Any]

ONLY_SCALES = "expected one that only scales: Standardize(with_mean=False), MaxAbs() or Rescale(low=0)"
"""What preprocessing of sparse rows may be, in errors."""

READ_AS_THEY_ARE = (np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.uint8))
"""Dtypes of rows that plans read in place."""


def as_rows(X: Any, name: str, features: int | None, dtype: np.dtype[Any]) -> Array:
    """Return ``X`` as a C-contiguous array of float32, float64 or uint8 with rows first.

    Those three are read as they are, without a copy; whatever else NumPy can make numbers of is converted to ``dtype``.

    Raises
    ------
    TypeError
        If ``X`` holds no numbers.
    ValueError
        If it is a single number or one-dimensional, or its rows do not have ``features`` values, or not all as many.
    """
    if isinstance(X, np.ma.MaskedArray):
        raise TypeError(f"{name!r} is a masked array, expected a plain one: pass {name}.filled(value)")
    try:
        rows = np.asarray(X)
    except ValueError:
        raise ValueError(f"{name!r} is {type(X).__name__} of rows of different shapes, expected one array") from None
    if rows.dtype == object and rows.ndim == 0:
        raise TypeError(f"{name!r} is {type(X).__name__}, expected an array of numbers")
    if rows.dtype not in READ_AS_THEY_ARE:
        if rows.dtype.kind not in "biuf":
            raise TypeError(f"{name!r} has dtype {rows.dtype}, expected numbers")
        rows = rows.astype(dtype)
    if rows.ndim < 2:
        hint = f"{name}.reshape(-1, 1) if it has one feature, {name}.reshape(1, -1) if it is one row"
        raise ValueError(f"{name!r} has shape {rows.shape}, expected (n, features): write {hint}")
    if features is not None and math.prod(rows.shape[1:]) != features:
        raise ValueError(
            f"{name!r} has shape {rows.shape}, which is {math.prod(rows.shape[1:])} values a row, expected {features}"
        )
    if not rows.dtype.isnative:
        rows = rows.astype(rows.dtype.newbyteorder("="))
    return np.ascontiguousarray(rows)


def as_numbers(X: Any, name: str, items: int | None) -> NDArray[np.int64]:
    """Return whole numbers, such as categories, as a C-contiguous int64 array with rows first.

    Raises
    ------
    TypeError
        If they are no whole numbers.
    ValueError
        If a row does not have ``items`` of them.
    """
    numbers = np.asarray(X)
    if numbers.dtype.kind not in "iub":
        raise TypeError(f"{name!r} has dtype {numbers.dtype}, expected whole numbers")
    if numbers.ndim == 0 or (items is not None and math.prod(numbers.shape[1:]) != items):
        raise ValueError(f"{name!r} has shape {numbers.shape}, expected {items} whole numbers a row")
    return np.ascontiguousarray(numbers, dtype=np.int64)


@dataclass(frozen=True)
class Csr:
    """A sparse matrix in compressed rows (CSR): row i holds ``data[p]`` in column ``columns[p]`` for p from ``starts[i]`` on.

    Attributes
    ----------
    data : ndarray, shape (stored,)
        In the dtype of the model.
    columns, starts : ndarray of int64, shapes (stored,) and (rows + 1,)
        Columns, and where each row starts and the last one ends.
    shape : tuple of int
        Rows and columns.
    """

    data: Array
    columns: NDArray[np.int64]
    starts: NDArray[np.int64]
    shape: tuple[int, int]

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.shape[0]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the stored items."""
        return self.data.dtype

    @property
    def size(self) -> int:
        """Number of items of all rows, stored or not."""
        return self.shape[0] * self.shape[1]

    def take(self, rows: NDArray[np.int64]) -> Csr:
        """Return some rows, each as often as its number stands there."""
        lengths = np.diff(self.starts)[rows]
        starts = np.concatenate([[0], np.cumsum(lengths)])
        at = np.arange(starts[-1]) + np.repeat(self.starts[rows] - starts[:-1], lengths)
        return Csr(self.data[at], self.columns[at], starts, (len(rows), self.shape[1]))


def is_sparse(X: object) -> bool:
    """Return whether ``X`` is a sparse matrix of SciPy, which need not be installed."""
    return type(X).__module__.partition(".")[0] == "scipy" and hasattr(X, "tocsr")


def as_csr(X: Any, name: str, features: int | None, dtype: np.dtype[Any]) -> Csr:
    """Return a sparse matrix as compressed rows with the items in ``dtype`` and int64 indices.

    Raises
    ------
    TypeError
        If it does not hold real numbers.
    ValueError
        If it has another number of columns, or its indices point outside of it.
    """
    if isinstance(X, Csr):
        found = X if X.data.dtype == dtype else replace(X, data=X.data.astype(dtype))
    else:
        if X.dtype.kind not in "biuf":
            raise TypeError(f"{name!r} is a sparse matrix of {X.dtype}, expected numbers")
        if X.ndim != 2:
            raise ValueError(f"{name!r} has shape {X.shape}, expected (n, features)")
        rows = X.tocsr()
        columns, starts = (np.ascontiguousarray(a, np.int64) for a in (rows.indices, rows.indptr))
        shape = (int(rows.shape[0]), int(rows.shape[1]))
        found = Csr(np.ascontiguousarray(rows.data, dtype), columns, starts, shape)
        stored = len(columns)
        if len(starts) != found.shape[0] + 1 or starts[0] < 0 or starts[-1] > stored or (np.diff(starts) < 0).any():
            raise ValueError(f"{name!r} is a damaged sparse matrix: 'indptr' must rise from 0 to at most {stored}")
        if len(found.data) != stored or (stored and not 0 <= columns.min() <= columns.max() < found.shape[1]):
            raise ValueError(
                f"{name!r} is a damaged sparse matrix: 'indices' point outside of its {found.shape[1]} columns"
            )
    if features is not None and found.shape[1] != features:
        raise ValueError(
            f"{name!r} has shape {found.shape}, which is {found.shape[1]} values a row, expected {features}"
        )
    return found


def input_arrays(inputs: Mapping[str, Array | Csr], model: Model) -> tuple[dict[str, Array], frozenset[str]]:
    """Return the rows of each input by the names of the values in a graph, and which inputs are sparse."""
    arrays: dict[str, Array] = {}
    for name, rows in inputs.items():
        suffix = model.suffix(name, "inputs")
        if isinstance(rows, Csr):
            arrays.update({f"X{suffix}": rows.data, f"columns{suffix}": rows.columns, f"starts{suffix}": rows.starts})
        else:
            arrays[f"X{suffix}"] = rows
    return arrays, frozenset(name for name, rows in inputs.items() if isinstance(rows, Csr))


def as_inputs(X: Any, name: str, model: Model) -> tuple[dict[str, Array | Csr], int]:
    """Return the rows of each input of a model, and how many there are.

    Raises
    ------
    TypeError
        If a model with several inputs does not get a dict, rows hold no numbers, or sparse ones meet a preprocessing that makes other
        numbers of their zeros.
    ValueError
        If an input is missing or unknown, shapes or numbers of rows do not fit, or a number is outside the vocabulary of an
        `Embedding` that reads the input.
    """
    inputs = model.network.inputs
    if not isinstance(X, Mapping):
        if len(inputs) > 1:
            raise TypeError(f"{name!r} is {type(X).__name__}, expected a dict with the inputs {', '.join(inputs)}")
        X = {next(iter(inputs)): X}
    elif len(inputs) == 1 and next(iter(inputs)) not in X:
        raise TypeError(f"{name!r} is a dict, expected an array: the model has one input")
    for key in X:
        if key not in inputs:
            raise ValueError(f"{name!r}: {unknown('input', key, inputs)}")
    found: dict[str, Array | Csr] = {}
    for key, symbol in inputs.items():
        if key not in X:
            raise ValueError(f"{name!r} has no rows of input {key!r}")
        shown = name if len(inputs) == 1 else f"{name}[{key!r}]"
        shape = model.row_shapes.get(key)
        items = None if shape is None else math.prod(shape)
        if symbol.dtype == "int64":
            numbers = as_numbers(X[key], shown, items)
            _check_vocabulary(numbers, shown, key, model)
            found[key] = numbers
        elif isinstance(X[key], Csr) or is_sparse(X[key]):
            preprocess = model.preprocessors.get(key)
            if preprocess is not None and not preprocess.keeps_zeros:
                raise TypeError(
                    f"{shown!r} is a sparse matrix and the model has the preprocessing {preprocess!r}, which would make numbers of its "
                    f"zeros, {ONLY_SCALES}"
                )
            found[key] = as_csr(X[key], shown, items, model.dtype)
        else:
            found[key] = as_rows(X[key], shown, items, model.dtype)
    counts = {key: len(rows) for key, rows in found.items()}
    count = next(iter(counts.values()))
    for key, other in counts.items():
        if other != count:
            first = next(iter(counts))
            raise ValueError(f"{name}[{key!r}] has {other} rows, expected {count} as {name}[{first!r}] has")
    return found, count


def split_ignored(y: Any, label: int | str, name: str) -> tuple[Array, NDArray[np.bool_]]:
    """Return the labels without those to ignore, and which rows have such a label.

    Raises
    ------
    TypeError, ValueError
        If these are no labels.
    """
    labels = _labels(y, name)
    if isinstance(label, str) != (labels.dtype.kind == "U"):
        return labels, np.zeros(len(labels), np.bool_)
    if labels.dtype.kind in "biu":
        # Compared as int64: a label such as -100 is out of the range of small and of unsigned dtypes.
        ignored = labels.astype(np.int64) == label
    else:
        ignored = labels == label
    return labels[~ignored], ignored


def _check_vocabulary(numbers: NDArray[np.int64], name: str, key: str, model: Model) -> None:
    """Raise ValueError unless every embedding that looks these numbers up has them: the rows would be NaN, and predict labels."""
    from pyfastnn.nn.embedding import Embedding

    place = list(model.network.inputs).index(key)
    readers = [model.layers[call.layer] for call in model.network.calls if call.sources == (place,)]
    words = [layer.vocabulary for layer in readers if isinstance(layer, Embedding)]
    if not words or not numbers.size:
        return
    low, high = int(numbers.min()), int(numbers.max())
    if low < 0 or high >= min(words):
        raise ValueError(
            f"{name!r} holds {low if low < 0 else high}, expected whole numbers from 0 to {min(words) - 1} as the vocabulary of "
            "nn.Embedding has"
        )


def as_weights(weights: Any, name: str, count: int, rows_name: str) -> NDArray[np.float64]:
    """Return the weights of rows as float64 of shape (n,).

    Raises
    ------
    TypeError
        If they are no numbers.
    ValueError
        If there is not one for each row, or one is negative, NaN or infinite.
    """
    found = np.asarray(weights)
    if found.dtype.kind not in "biuf":
        raise TypeError(f"{name!r} has dtype {found.dtype}, expected numbers")
    if found.ndim == 2 and found.shape[1] == 1:
        found = found[:, 0]
    if found.shape != (count,):
        raise ValueError(f"{name!r} has shape {found.shape}, expected ({count},) as {rows_name!r} has {count} rows")
    found = found.astype(np.float64)
    bad = ~(np.isfinite(found) & (found >= 0))
    if bad.any():
        raise ValueError(f"{name!r} holds {found[bad][0]}, expected finite numbers of 0 or more")
    return found


def as_row_numbers(rows: Any, name: str, count: int) -> NDArray[np.int64]:
    """Return the numbers of some of ``count`` rows as a fresh int64 array.

    Raises
    ------
    TypeError
        If they are no whole numbers.
    ValueError
        If there are none, the shape is not (n,), or one is negative or too large.
    """
    numbers = np.asarray(rows)
    if numbers.dtype.kind not in "iu":
        hint = f"; write numpy.flatnonzero({name})" if numbers.dtype.kind == "b" else ""
        raise TypeError(f"{name!r} has dtype {numbers.dtype}, expected whole numbers of rows{hint}")
    if numbers.ndim != 1 or numbers.size == 0:
        raise ValueError(f"{name!r} has shape {numbers.shape}, expected (n,) with n of 1 or more")
    low, high = int(numbers.min()), int(numbers.max())
    if low < 0 or high >= count:
        raise ValueError(f"{name!r} holds {low if low < 0 else high}, expected row numbers from 0 to {count - 1}")
    return numbers.astype(np.int64)


def check_length(y: Array, rows: Array, y_name: str, x_name: str) -> None:
    """Raise ValueError unless there is one target per row."""
    if y.ndim == 0 or len(y) != len(rows):
        raise ValueError(f"{y_name!r} has shape {y.shape}, expected {len(rows)} rows as {x_name!r} has")


def find_classes(y: Any, outputs: int) -> Array:
    """Return the labels behind the outputs of a classifier, from the training labels.

    Whole numbers from 0 to ``outputs - 1`` stand for themselves, whether all occur or not. Anything else (strings, gaps) must
    have as many different values as there are outputs; they are sorted.

    Raises
    ------
    TypeError
        If the labels are floats that are no whole numbers.
    ValueError
        If the labels do not fit the outputs.
    """
    labels = _labels(y, "y")
    if labels.dtype.kind in "iu":
        low, high = int(labels.min()), int(labels.max())
        if low >= 0 and high < outputs:
            return np.arange(outputs, dtype=np.int64)
    classes = np.unique(labels)
    if len(classes) != outputs:
        shown = ", ".join(map(repr, classes[:5].tolist())) + (", ..." if len(classes) > 5 else "")
        raise ValueError(
            f"'y' has {len(classes)} different labels ({shown}) and the model {outputs} outputs; "
            f"end the model with nn.Linear({len(classes)})"
        )
    return classes


def encode_labels(y: Any, classes: Array, name: str) -> NDArray[np.int64]:
    """Return the position of each label in ``classes`` (sorted).

    Raises
    ------
    ValueError
        If a label is not among them.
    """
    labels = _labels(y, name)
    # Sorted and all different, so that first and last say whether they count from 0.
    counting = classes.dtype == np.int64 and len(classes) > 0 and classes[0] == 0 and classes[-1] == len(classes) - 1
    if counting and labels.dtype.kind in "iub":
        codes = np.ascontiguousarray(labels, dtype=np.int64)
        bad = codes.size > 0 and (int(codes.min()) < 0 or int(codes.max()) >= len(classes))
    else:
        codes = np.searchsorted(classes, labels).astype(np.int64)
        bad = not np.array_equal(classes[np.minimum(codes, len(classes) - 1)], labels)
    if bad:
        outside = np.setdiff1d(labels, classes)
        raise ValueError(
            f"{name!r} holds the label {outside[0].item()!r}, which is none of the model's {len(classes)} classes"
        )
    return codes


def _labels(y: Any, name: str) -> Array:
    labels = np.asarray(y)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        hint = "; for one-hot rows pass y.argmax(axis=1)" if labels.ndim == 2 else ""
        raise ValueError(f"{name!r} has shape {labels.shape}, expected one label a row: (n,) or (n, 1){hint}")
    if labels.dtype.kind == "f":
        whole = labels.astype(np.int64, copy=True) if np.isfinite(labels).all() else None
        if whole is None or not np.array_equal(whole, labels):
            raise TypeError(
                f"{name!r} holds floats that are no whole numbers, expected class labels; "
                "for regression use loss='mean_squared_error'"
            )
        return whole
    if labels.dtype.kind == "O":
        kinds = {type(label).__name__ for label in labels.tolist()}
        plain = np.array(labels.tolist()) if len(kinds) == 1 else labels
        if plain.dtype.kind not in "biuU" or plain.ndim != 1:
            raise TypeError(
                f"{name!r} holds labels of type {', '.join(sorted(kinds))}, expected all strings or all whole numbers"
            )
        return plain
    return labels


RowOf = Callable[[int], int]
"""Says which row of the user's stands at a position."""


def as_targets(
    y: Any, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], row_of: RowOf = operator.index
) -> Array:
    """Return targets that are numbers as a C-contiguous float array of shape (n, *shape).

    Raises
    ------
    TypeError
        If they are no numbers.
    ValueError
        If the shape does not fit, or a target is NaN or infinite; the first one is named.
    """
    targets = np.asarray(y)
    if targets.dtype.kind not in "biuf":
        raise TypeError(
            f"{name!r} has dtype {targets.dtype}, expected numbers; for classes use loss='softmax_cross_entropy'"
        )
    if targets.ndim == 1 and shape == (1,):
        targets = targets[:, None]
    if targets.shape[1:] != shape or targets.ndim == 0:
        wanted = "(n,) or (n, 1)" if shape == (1,) else f"(n, {', '.join(map(str, shape))})"
        outputs = f"{shape[0]} outputs" if len(shape) == 1 else f"outputs of shape {shape}"
        raise ValueError(f"{name!r} has shape {np.shape(y)}, expected {wanted} because the model has {outputs}")
    targets = np.ascontiguousarray(targets, dtype=dtype)
    finite = np.isfinite(targets)
    if not finite.all():
        bad = int((~finite).sum())
        raise ValueError(
            f"{name!r} holds {bad} NaN or infinite targets, {_first(targets, ~finite, row_of)}; expected finite numbers"
        )
    return targets


def check_range(
    targets: Array,
    name: str,
    limits: tuple[float, float],
    whose: str,
    weights: NDArray[np.float64] | None = None,
    row_of: RowOf = operator.index,
) -> None:
    """Raise ValueError unless the targets of all rows whose weight is not 0 lie within limits; the first one outside is named."""
    low, high = limits
    if not targets.size or (targets.min() >= low and targets.max() <= high):
        return
    outside = (targets < low) | (targets > high)
    if weights is not None:
        outside[weights == 0] = False
    if outside.any():
        expected = f"numbers from {low:g} to {high:g}" if math.isfinite(high) else f"numbers of {low:g} or more"
        raise ValueError(
            f"{name!r} holds {int(outside.sum())} targets that {whose} does not take, {_first(targets, outside, row_of)}; "
            f"expected {expected}"
        )


def _first(targets: Array, found: NDArray[np.bool_], row_of: RowOf) -> str:
    """Say which is the first target found, and where."""
    place = tuple(int(i) for i in np.argwhere(found)[0])
    output = f", output {', '.join(map(str, place[1:]))}" if targets[0].size > 1 else ""
    return f"the first is {targets[place]:g} in row {row_of(place[0])}{output}"
