"""What is looked at while a network trains, on plain arrays: the size of an update, a summary of a layer's answers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn._core import call as _call


def sum_of_squared_differences(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Return the sum of the squared differences of two arrays: the squared norm of an update from weights before and after it.

    Parameters
    ----------
    a : ndarray of float32 or float64
        Of any shape up to four dimensions, C-contiguous.
    b : ndarray of the dtype and shape of ``a``
        What is subtracted.

    Returns
    -------
    ndarray of float64, shape (1,)
        A new array.

    Raises
    ------
    TypeError
        If an argument is not an ndarray of the dtype of ``a``.
    ValueError
        If shapes differ, or an array is not C-contiguous.

    Notes
    -----
    Subtracted, squared and added in float64 in a fixed order: relative error ``(a.size + 4) * 2**-53`` at most.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.sum_of_squared_differences(np.array([1.0, 2.0]), np.array([4.0, 6.0]))
    array([25.])
    """
    total: NDArray[np.float64] = _call("sum_of_squared_differences", (a, b))[0]
    return total


def activation_summary(x: NDArray[Any], *, low: float = 0.0, high: float = 0.0) -> NDArray[np.float64]:
    """Return 30 numbers that say how the units of a layer answered a batch.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (..., units)
        Answers, up to four dimensions, C-contiguous.
    low, high : float
        Items up to ``low`` and from ``high`` on are saturated; none is unless ``low < high``.

    Returns
    -------
    ndarray of float64, shape (30,)
        Mean, standard deviation, least and largest item, the share of units all of whose items are zero (dead), the share of saturated
        items, and how many items fall into each of 24 bins of equal width from the least to the largest.

    Raises
    ------
    TypeError
        If ``x`` is not an ndarray of float32 or float64.
    ValueError
        If ``x`` is not C-contiguous.

    Notes
    -----
    The largest item is in the last bin; items that are all equal are in the first. NaN makes mean and deviation NaN and is left out of the
    rest; with infinite items all bins are 0. Sums are made in float64 in a fixed order.

    References
    ----------
    Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks" (2010).

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> summary = F.activation_summary(np.array([[0.0, 3.0], [0.0, 1.0]]))
    >>> mean, std, least, largest, dead, saturated = summary[:6]
    >>> print(mean, least, largest, dead)
    1.0 0.0 3.0 0.5
    """
    return _call("activation_summary", (x,), None, (low, high))[0]
