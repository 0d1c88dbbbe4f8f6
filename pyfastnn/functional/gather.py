"""The minibatch gather on plain arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pyfastnn._core import call as _call


def gather_rows(
    data: NDArray[Any],
    index: NDArray[np.int64],
    shift: NDArray[Any] | None = None,
    scale: NDArray[Any] | None = None,
    *,
    dtype: DTypeLike = np.float32,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Return ``(data[index] - shift) * scale``: the rows of a minibatch, standardized on the way.

    Parameters
    ----------
    data : ndarray of float32, float64 or uint8, shape (m, f)
        All samples, C-contiguous; it stays as it is in memory.
    index : ndarray of int64, shape (n,)
        Rows to take, each from 0 to ``m - 1``.
    shift, scale : ndarray of float32 or float64, shape (f,), optional
        Usually the mean and one over the standard deviation of each feature. Without them 0 and 1.
    dtype : {float32, float64}, default float32
        Float type of the result if ``shift``, ``scale`` and ``out`` are all left out; they decide
        otherwise.
    out : ndarray of float32 or float64, shape (n, f), optional
        Overwritten; must not overlap the inputs.

    Returns
    -------
    ndarray, shape (n, f)
        ``out`` if given, else a new array.

    Raises
    ------
    TypeError
        If an argument is not an ndarray of a dtype named above.
    ValueError
        If shapes disagree, an index is outside ``[0, m)``, an array is not C-contiguous, or ``out``
        overlaps an input.

    Notes
    -----
    One rounding each for the conversion (only from float64 to float32), the difference and the
    product.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> images = np.array([[0, 255], [51, 102]], dtype=np.uint8)
    >>> F.gather_rows(images, np.array([1, 1, 0]))
    array([[ 51., 102.],
           [ 51., 102.],
           [  0., 255.]], dtype=float32)
    """
    if out is None:
        return _call("gather_rows", (data, index, shift, scale), None, (), None, np.dtype(dtype).name)[0]
    return _call("gather_rows", (data, index, shift, scale), (out,), (), None, out.dtype.name)[0]


def gather_labels(
    data: NDArray[np.int64], index: NDArray[np.int64], *, out: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Return ``data[index]``: the labels of a minibatch, or its rows of whole numbers.

    Parameters
    ----------
    data : ndarray of int64, shape (m, ...)
        Labels or rows of all samples; up to four dimensions, C-contiguous.
    index : ndarray of int64, shape (n,)
        Samples to take, each from 0 to ``m - 1``.
    out : ndarray of int64, shape (n, ...), optional
        Overwritten; must not overlap the inputs.

    Returns
    -------
    ndarray of int64, shape (n, ...)
        ``out`` if given, else a new array.

    Raises
    ------
    TypeError
        If an argument is not an ndarray of int64.
    ValueError
        If an index is outside ``[0, m)``, an array is not C-contiguous, or ``out`` overlaps an
        input.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.gather_labels(np.array([7, 8, 9]), np.array([2, 0]))
    array([9, 7])
    >>> F.gather_labels(np.array([[1, 2], [3, 4]]), np.array([1]))
    array([[3, 4]])
    """
    return _call("gather_labels", (data, index), None if out is None else (out,))[0]
