"""What stands around an update rule, on plain arrays: L1 penalty, bound on norms, running mean of weights."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from pyfastnn._core import call as _call
from pyfastnn.functional._hyper import out_of_range, row_maker

_l1_row = row_maker("l1")
_max_norm_row = row_maker("max_norm")
_ema_row = row_maker("ema_decay")


def l1_penalty(w: NDArray[Any], *, l1: float) -> float:
    """Return ``l1 * sum(abs(w))``, the L1 penalty.

    Parameters
    ----------
    w : ndarray of float32 or float64
        Of any shape up to four dimensions, C-contiguous.
    l1 : float
        Strength; the gradient of the penalty is ``l1 * sign(w)``.

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
    Added in float64 in a fixed order.

    References
    ----------
    Tibshirani, "Regression shrinkage and selection via the lasso" (1996).

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.l1_penalty(np.array([3.0, -4.0]), l1=0.5)
    3.5
    """
    penalty: float = _call("l1_penalty", (w,), None, (), _l1_row((0.0, l1)))[0].item()
    return penalty


def l1_gradient(dp: NDArray[Any], p: NDArray[Any], *, l1: float, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return a gradient with that of the L1 penalty added.

    ``y = dp + l1 * sign(p)``, with ``sign(0) = 0``; NaN stays NaN.

    Parameters
    ----------
    dp : ndarray of float32 or float64
        Gradient of the loss, any shape up to four dimensions, C-contiguous.
    p : ndarray of the dtype and shape of ``dp``
        Parameters.
    l1 : float
        Strength of the penalty ``l1 * sum(abs(p))``.
    out : ndarray of the dtype and shape of ``dp``, optional
        Overwritten; may be ``dp`` itself, must not overlap the inputs otherwise.

    Returns
    -------
    ndarray of the dtype and shape of ``dp``
        ``out`` if given, else a new array.

    Raises
    ------
    TypeError
        If an argument is not an ndarray of the dtype of ``dp``.
    ValueError
        If shapes differ, an array is not C-contiguous, or ``out`` overlaps an input in part.

    Notes
    -----
    At most two roundings.

    References
    ----------
    Tibshirani, "Regression shrinkage and selection via the lasso" (1996).

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.l1_gradient(np.ones(3), np.array([2.0, 0.0, -2.0]), l1=0.5)
    array([1.5, 1. , 0.5])
    """
    return _call("l1_gradient", (dp, p), None if out is None else (out,), (), _l1_row((0.0, l1)))[0]


def max_norm(w: NDArray[Any], *, max_norm: float) -> None:
    """Scale the columns of a weight that are longer than a bound back to it.

    ``w[..., j] *= max_norm / norm(w[..., j])`` where that norm exceeds ``max_norm``; the other columns stay as they are.

    Parameters
    ----------
    w : ndarray of float32 or float64, shape (..., outputs)
        A column holds the weights that lead into one unit. C-contiguous, updated in place.
    max_norm : float
        The bound, above 0.

    Raises
    ------
    TypeError
        If ``w`` is not an ndarray of float32 or float64.
    ValueError
        If ``w`` is not C-contiguous or read-only.

    Notes
    -----
    Squares are added in float64 in a fixed order; two roundings of each weight. A column with a NaN stays as it is.

    References
    ----------
    Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting" (2014), section 5.1.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> w = np.array([[3.0, 0.5], [4.0, 0.5]])
    >>> F.max_norm(w, max_norm=1.0)
    >>> w
    array([[0.6, 0.5],
           [0.8, 0.5]])
    """
    _call("max_norm", (w,), None, (), _max_norm_row((0.0, max_norm)))


def ema_step(ema: NDArray[Any], p: NDArray[Any], *, decay: float) -> None:
    """Move a running mean of parameters towards them.

    ``ema += (1 - decay) * (p - ema)``.

    Parameters
    ----------
    ema : ndarray of float32 or float64
        The mean, any shape up to four dimensions, C-contiguous. Updated in place.
    p : ndarray of the dtype and shape of ``ema``
        Parameters after an update.
    decay : float, 0 <= decay < 1
        Share of the mean that is kept each step.

    Raises
    ------
    TypeError
        If an argument is not an ndarray of the dtype of ``ema``.
    ValueError
        If shapes differ, an array is not C-contiguous, ``ema`` is read-only or overlaps ``p``, or ``decay`` is outside [0, 1).

    Notes
    -----
    At most four roundings of each term; a parameter that equals its mean leaves it as it is.

    References
    ----------
    Polyak and Juditsky, "Acceleration of stochastic approximation by averaging" (1992), with a mean that forgets.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> ema = np.array([1.0])
    >>> F.ema_step(ema, np.array([3.0]), decay=0.75)
    >>> ema
    array([1.5])
    """
    if not 0 <= decay < 1:
        raise out_of_range("ema_step", "decay", decay, "0 <= decay < 1")
    _call("ema_step", (ema, p), None, (), _ema_row((0.0, decay)))
