"""Vectors looked up by whole numbers, on plain arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn._core import call as _call


def embedding(table: NDArray[Any], index: NDArray[np.int64], *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return the row of ``table`` for each number: ``y = table[index]``.

    Parameters
    ----------
    table : ndarray of float32 or float64, shape (v, d)
        One vector for each of v words, C-contiguous.
    index : ndarray of int64, shape (...)
        Whole numbers from 0 to ``v - 1``; up to three dimensions, C-contiguous.
    out : ndarray of the dtype of ``table``, shape (..., d), optional
        Overwritten; must not overlap the inputs.

    Returns
    -------
    ndarray, shape (..., d)
        ``out`` if given, else a new array.

    Raises
    ------
    TypeError
        If ``table`` is not an ndarray of float32 or float64, or ``index`` not one of int64.
    ValueError
        If an index is outside ``[0, v)``, an array is not C-contiguous, or ``out`` overlaps an input.

    Notes
    -----
    Copies bits. Inside a network an index outside the table gives a row of NaN instead of an error, which the loss shows.

    References
    ----------
    Bengio, Ducharme, Vincent and Jauvin, "A neural probabilistic language model" (2003).

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.embedding(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([1, 0, 1]))
    array([[3., 4.],
           [1., 2.],
           [3., 4.]])
    """
    return _call("embedding_forward", (table, index), None if out is None else (out,))[0]


def embedding_dw(
    dy: NDArray[Any], index: NDArray[np.int64], *, rows: int = 1, out: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Return the gradient of the table of `embedding`.

    ``dtable[k] = sum of dy[i] over the i with index[i] == k``, 0 where k is not looked up.

    Parameters
    ----------
    dy : ndarray of float32 or float64, shape (..., d)
        Gradient of the loss with respect to the output; up to four dimensions, C-contiguous.
    index : ndarray of int64, shape (...)
        As in the forward pass.
    rows : int, 1 or more, default 1
        Rows of the table.
    out : ndarray of the dtype of ``dy``, shape (rows, d), optional
        Overwritten; must not overlap the inputs.

    Returns
    -------
    ndarray, shape (rows, d)
        ``out`` if given, else a new array.

    Raises
    ------
    TypeError
        If ``dy`` is not an ndarray of float32 or float64, or ``index`` not one of int64.
    ValueError
        If an index is outside ``[0, rows)``, shapes disagree, an array is not C-contiguous, or ``out`` overlaps an input.

    Notes
    -----
    Terms are added in the order of ``index``, so the result is the same for every thread count. A row looked up k times is within
    ``(k - 1) * u * sum(abs(dy))`` of the exact sum.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.embedding_dw(np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), np.array([1, 0, 1]), rows=3)
    array([[3., 4.],
           [6., 8.],
           [0., 0.]])
    """
    return _call("embedding_dw", (dy, index), None if out is None else (out,), (rows,))[0]
