"""The L2 penalty, sums of losses and the factor of a gradient, on plain arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn._core import call as _call
from pyfastnn.functional._hyper import row_maker

_decay_row = row_maker("weight_decay")


def l2_penalty(w: NDArray[Any], *, weight_decay: float) -> float:
    """Return ``0.5 * weight_decay * sum(w * w)``, the L2 penalty of the lectures.

    Parameters
    ----------
    w : ndarray of float32 or float64
        Of any shape up to four dimensions, C-contiguous.
    weight_decay : float
        Strength; the gradient of the penalty is ``weight_decay * w``.

    Returns
    -------
    float
        The penalty.

    Raises
    ------
    TypeError
        If ``w`` is not an ndarray of float32 or float64.
    ValueError
        If ``w`` is not C-contiguous.

    Notes
    -----
    Squares are added in float64 in a fixed order.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.l2_penalty(np.array([3.0, 4.0]), weight_decay=0.5)
    6.25
    """
    penalty: float = _call("l2_penalty", (w,), None, (), _decay_row((0.0, weight_decay)))[0].item()
    return penalty


def add_losses(a: NDArray[np.float64], b: NDArray[np.float64], a_weight: float = 1.0, b_weight: float = 1.0) -> float:
    """Return ``a_weight * a + b_weight * b`` of two losses.

    Parameters
    ----------
    a, b : ndarray of float64, shape (1,)
        The losses.
    a_weight, b_weight : float, default 1
        What each counts.

    Returns
    -------
    float
        The total.

    Raises
    ------
    TypeError
        If a loss is not an ndarray of float64.
    ValueError
        If it does not have one item.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.add_losses(np.array([2.0]), np.array([3.0]), b_weight=0.5)
    3.5
    """
    total: float = _call("add_losses", (a, b), None, (a_weight, b_weight))[0].item()
    return total


def scale(x: NDArray[Any], factor: float = 1.0, *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return ``factor * x``.

    Parameters
    ----------
    x : ndarray of float32 or float64
        Of any shape up to four dimensions, C-contiguous.
    factor : float, default 1
        Rounded to the dtype of ``x``.
    out : ndarray of the dtype and shape of ``x``, optional
        Overwritten; may be ``x`` itself, must not overlap it otherwise.

    Returns
    -------
    ndarray of the dtype and shape of ``x``
        ``out`` if given, else a new array.

    Raises
    ------
    TypeError
        If ``x`` is not an ndarray of float32 or float64, or ``out`` has another dtype.
    ValueError
        If an array is not C-contiguous, or ``out`` has another shape or overlaps ``x`` in part.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.scale(np.array([1.0, 2.0]), 0.5)
    array([0.5, 1. ])
    """
    return _call("scale", (x,), None if out is None else (out,), (factor,))[0]
