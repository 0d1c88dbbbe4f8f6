"""Clipping of gradients on plain arrays, by the norm of all of them or by value."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn._core import call as _call
from pyfastnn.functional._hyper import row_maker

_norm_row = row_maker("clip_norm")
_value_row = row_maker("clip_value")


def sum_of_squares(x: NDArray[Any], before: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """Return the sum of the squares of an array, added to that of others.

    Parameters
    ----------
    x : ndarray of float32 or float64
        Of any shape up to four dimensions, C-contiguous.
    before : ndarray of float64, shape (1,), optional
        The sum over the arrays before this one.

    Returns
    -------
    ndarray of float64, shape (1,)
        A new array, to be handed to the next call as ``before``, or to `clip_by_norm`.

    Raises
    ------
    TypeError
        If ``x`` is not an ndarray of float32 or float64, or ``before`` not one of float64.
    ValueError
        If ``x`` is not C-contiguous, or ``before`` has another shape.

    Notes
    -----
    Squares are added in float64 in a fixed order: relative error ``(x.size + 2) * 2**-53`` at most.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.sum_of_squares(np.array([1.0, 2.0]), before=F.sum_of_squares(np.array([4.0])))
    array([21.])
    """
    total: NDArray[np.float64] = _call("sum_of_squares", (x, before))[0]
    return total


def clip_by_norm(
    dp: NDArray[Any], total: NDArray[np.float64], *, clip_norm: float, out: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Return a gradient scaled down so that the norm of all gradients together does not exceed a bound.

    ``y = dp * min(1, clip_norm / (sqrt(total) + 1e-6))``, as ``torch.nn.utils.clip_grad_norm_``.

    Parameters
    ----------
    dp : ndarray of float32 or float64
        One of the gradients, of any shape up to four dimensions, C-contiguous.
    total : ndarray of float64, shape (1,)
        The sum of the squares of all gradients (`sum_of_squares`).
    clip_norm : float
        The bound, above 0.
    out : ndarray of the dtype and shape of ``dp``, optional
        Overwritten; may be ``dp`` itself, must not overlap the inputs otherwise.

    Returns
    -------
    ndarray of the dtype and shape of ``dp``
        ``out`` if given, else a new array.

    Raises
    ------
    TypeError
        If ``dp`` is not an ndarray of float32 or float64, or ``total`` not one of float64.
    ValueError
        If shapes do not fit, an array is not C-contiguous, or ``out`` overlaps an input in part.

    Notes
    -----
    At most two roundings. If the norm is NaN, so is the result; if it is infinite, finite gradients become 0.

    References
    ----------
    Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks" (2013), Algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> dw, db = np.array([3.0, 0.0]), np.array([4.0])
    >>> total = F.sum_of_squares(db, before=F.sum_of_squares(dw))
    >>> np.round(F.clip_by_norm(dw, total, clip_norm=1.0), 6)
    array([0.6, 0. ])
    """
    return _call("clip_by_norm", (dp, total), None if out is None else (out,), (), _norm_row((0.0, clip_norm)))[0]


def clip_by_value(dp: NDArray[Any], *, clip_value: float, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return a gradient cut to ``[-clip_value, clip_value]``; NaN stays NaN.

    Parameters
    ----------
    dp : ndarray of float32 or float64
        Of any shape up to four dimensions, C-contiguous.
    clip_value : float
        The bound, above 0, rounded to the dtype of ``dp``.
    out : ndarray of the dtype and shape of ``dp``, optional
        Overwritten; may be ``dp`` itself, must not overlap it otherwise.

    Returns
    -------
    ndarray of the dtype and shape of ``dp``
        ``out`` if given, else a new array.

    Raises
    ------
    TypeError
        If ``dp`` is not an ndarray of float32 or float64.
    ValueError
        If an array is not C-contiguous, or ``out`` has another shape or overlaps ``dp`` in part.

    Notes
    -----
    Exact. It changes the direction of a gradient, which `clip_by_norm` does not.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.clip_by_value(np.array([-3.0, 0.25, np.nan]), clip_value=1.0)
    array([-1.  ,  0.25,   nan])
    """
    return _call("clip_by_value", (dp,), None if out is None else (out,), (), _value_row((0.0, clip_value)))[0]
