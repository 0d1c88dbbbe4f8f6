"""Statistics of sparse rows, taken from the stored items and the number of the others: nothing is made dense."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pyfastnn._inputs import Csr

__all__ = ["canonical", "largest", "moments", "nonfinite_of"]

Floats = npt.NDArray[np.float64]


def canonical(rows: Csr) -> Csr:
    """Return the same matrix with rising columns in every row: items that share one are added up."""
    kept = slice(int(rows.starts[0]), int(rows.starts[-1]))
    data, columns, starts = rows.data[kept], rows.columns[kept], rows.starts - rows.starts[0]
    row = np.repeat(np.arange(len(rows)), np.diff(starts))
    if not ((np.diff(row) == 0) & (np.diff(columns) <= 0)).any():
        return Csr(data, columns, starts, rows.shape)
    order = np.lexsort((columns, row))
    data, columns, row = data[order], columns[order], row[order]
    first = np.flatnonzero(np.concatenate([[True], (np.diff(row) != 0) | (np.diff(columns) != 0)]))
    starts = np.concatenate([[0], np.cumsum(np.bincount(row[first], minlength=len(rows)))])
    return Csr(np.add.reduceat(data, first), columns[first], starts, rows.shape)


def nonfinite_of(rows: Csr) -> tuple[int, int, int, int]:
    """Count NaN and infinite items by column, as `pyfastnn.data.errors.count_nonfinite` does for dense rows."""
    bad = ~np.isfinite(rows.data)
    if not bad.any():
        return 0, 0, -1, 0
    columns, counts = np.unique(rows.columns[bad], return_counts=True)
    return int(bad.sum()), len(columns), int(columns[0]), int(counts[0])


def moments(rows: Csr, width: int) -> tuple[Floats, Floats]:
    """Return mean and variance (divided by the number of values) of each of ``width`` groups of values.

    Column k is of group ``k % width``. As for dense rows, a value of each group is subtracted before anything is summed, so that a constant
    group has variance 0 exactly.
    """
    group = rows.columns % width
    values = rows.size // width
    others = values - np.bincount(group, minlength=width)
    # Where not all are stored, 0 is a value of the group; else any of the stored ones.
    first = np.zeros(width)
    first[group[::-1]] = rows.data[::-1]
    first[others > 0] = 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        x = rows.data - first[group]
        mean = np.bincount(group, x, width) / values
        squares = np.bincount(group, np.square(x - mean[group]), width) + others * np.square(mean)
        return mean + first, squares / values


def largest(rows: Csr, width: int) -> Floats:
    """Return the largest absolute value of each of ``width`` groups of values, 0 where none is stored."""
    found = np.zeros(width)
    np.maximum.at(found, rows.columns % width, np.abs(rows.data))
    return found
