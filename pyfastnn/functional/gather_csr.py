"""The minibatch gather from sparse matrices on plain arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn._core import call as _call


def gather_csr(
    data: NDArray[Any],
    columns: NDArray[np.int64],
    starts: NDArray[np.int64],
    index: NDArray[np.int64],
    scale: NDArray[Any] | None = None,
    features: int = 0,
    *,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Return rows of a sparse matrix in compressed rows (CSR) as dense rows: a minibatch.

    ``x[i, columns[p]] += data[p] * scale[columns[p]]`` for p from ``starts[index[i]]`` to ``starts[index[i] + 1]``, from zeros.

    Parameters
    ----------
    data : ndarray of float32 or float64, shape (z,)
        The stored items, row by row: ``matrix.data`` of SciPy. C-contiguous, as all arrays here.
    columns : ndarray of int64, shape (z,)
        The column of each: ``matrix.indices`` as int64. Items of one row with the same column are added up.
    starts : ndarray of int64, shape (r + 1,)
        Where each of r rows begins, and the end of the last: ``matrix.indptr`` as int64.
    index : ndarray of int64, shape (n,)
        Rows to take, each from 0 to ``r - 1``.
    scale : ndarray of the dtype of ``data``, shape (features,), optional
        What each column is multiplied by, such as one over its deviation.
    features : int, default 0
        Columns of the matrix; 0 takes as many as ``scale`` has, or without it one more than the largest number in ``columns``.
    out : ndarray of the dtype of ``data``, shape (n, features), optional
        Overwritten; must not overlap the inputs.

    Returns
    -------
    ndarray of the dtype of ``data``, shape (n, features)
        ``out`` if given, else a new array.

    Raises
    ------
    TypeError
        If an argument is not an ndarray of a dtype named above.
    ValueError
        If shapes disagree, a row or column number or a start is out of range, an array is not C-contiguous, or ``out`` overlaps an
        input.

    Notes
    -----
    One rounding for each product with ``scale``, and for each addition where a column stands twice in a row; exact without.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> data, columns, starts = np.array([1.0, 2.0, 3.0]), np.array([0, 2, 1]), np.array([0, 2, 3])
    >>> F.gather_csr(data, columns, starts, np.array([1, 0]), features=3)
    array([[0., 3., 0.],
           [1., 0., 2.]])
    """
    width = features
    arrays = (columns, starts, index)
    # What is no array of int64 gets its message from the call.
    if all(isinstance(a, np.ndarray) and a.dtype == np.int64 and a.ndim == 1 for a in arrays):
        stored = len(columns)
        if len(starts) == 0:
            raise ValueError("gather_csr: 'starts' has shape (0,), expected one item more than there are rows")
        if starts[0] < 0 or starts[-1] > stored or (np.diff(starts) < 0).any():
            raise ValueError(f"gather_csr: 'starts' must rise from 0 to at most {stored}, the items of 'columns'")
        known = scale.size if isinstance(scale, np.ndarray) else int(columns.max(initial=-1)) + 1
        width = features or known
        for name, numbers, limit in (("index", index, len(starts) - 1), ("columns", columns, width)):
            low, high = int(numbers.min(initial=0)), int(numbers.max(initial=-1))
            if low < 0 or high >= limit:
                raise ValueError(
                    f"gather_csr: {name!r} holds {low if low < 0 else high}, expected whole numbers from 0 to {limit - 1}"
                )
    return _call("gather_csr", (data, columns, starts, index, scale), None if out is None else (out,), (width,))[0]
