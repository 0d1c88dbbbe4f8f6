"""The one exception of the data readers, and the checks they share."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from pyfastnn.data.sources import Source

__all__ = ["DataError", "check_finite", "count_nonfinite", "missing_path"]

CHUNK_ELEMENTS = 1 << 20  # 8 MiB as float64: large enough to be fast, small beside any data set


class DataError(ValueError):
    """Raised when a data source cannot be read as it is.

    The message is one line: the file, what was found, what would be right.
    """


def missing_path(path: str) -> DataError:
    """Build the error for a path that does not exist, with the nearest name that does."""
    from pyfastnn._names import nearest

    folder, name = os.path.split(path.rstrip("/\\") or path)
    shown = folder or "."
    if not os.path.isdir(shown):
        return DataError(f"'{path}' does not exist: there is no folder '{shown}'")
    near = nearest(name, [*sorted(os.listdir(shown)), *([] if folder else ["digits"])])
    if near == "digits" and not folder and not os.path.exists("digits"):
        return DataError(f"'{path}' does not exist; did you mean 'digits', the built-in data set?")
    if near is not None:
        return DataError(f"'{path}' does not exist; did you mean '{os.path.join(folder, near)}'?")
    return DataError(
        f"'{path}' does not exist; expected a folder with MNIST or CIFAR-10 files, a .npz, .npy "
        "or .csv file, or the word digits"
    )


def count_nonfinite(x: npt.NDArray[Any] | Source) -> tuple[int, int, int, int]:
    """Count NaN and infinite values by column.

    Parameters
    ----------
    x : ndarray or source, shape (n, ...)
        Any dtype; integers are finite by nature. Columns are those of ``x.reshape(n, -1)``.

    Returns
    -------
    total : int
        Number of values that are NaN or infinite.
    columns : int
        Number of columns with at least one of them.
    first : int
        Index of the first such column, -1 when there is none.
    in_first : int
        Number of such values in that column.

    Notes
    -----
    Works in chunks of rows, so the extra memory stays at a few MiB.
    """
    if x.dtype.kind not in "fc" or x.size == 0:
        return 0, 0, -1, 0
    features = x.size // x.shape[0]
    step = max(1, CHUNK_ELEMENTS // features)
    counts: npt.NDArray[np.int64] | None = None
    for begin in range(0, x.shape[0], step):
        good = np.isfinite(x[begin : begin + step])
        if good.all():
            continue
        if counts is None:
            counts = np.zeros(features, np.int64)
        counts += np.count_nonzero(~good.reshape(good.shape[0], -1), axis=0)
    if counts is None:
        return 0, 0, -1, 0
    bad = np.flatnonzero(counts)
    return int(counts.sum()), int(bad.size), int(bad[0]), int(counts[bad[0]])


def check_finite(source: str, name: str, x: npt.NDArray[Any]) -> None:
    """Raise `DataError` if ``x`` holds NaN or infinity, naming column and count."""
    total, columns, first, in_first = count_nonfinite(x)
    if total:
        more = f" ({total} in {columns} columns)" if columns > 1 else ""
        raise DataError(
            f"'{source}': {name} has {in_first} NaN or infinite values in column {first}{more}; "
            "fill or remove them first"
        )
