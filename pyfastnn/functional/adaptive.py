"""AdaGrad and RMSProp on plain arrays, in place: update rules that divide by the root of past squares, as PyTorch."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from pyfastnn._core import call as _call
from pyfastnn.functional._hyper import out_of_range, row_maker

_adagrad_row = row_maker("learning_rate", "eps", "weight_decay")
_rmsprop_row = row_maker("learning_rate", "rho", "eps", "weight_decay")
_momentum_row = row_maker("learning_rate", "rho", "momentum", "eps", "weight_decay")


def adagrad_step(
    p: NDArray[Any],
    dp: NDArray[Any],
    v: NDArray[Any],
    *,
    learning_rate: float = 0.01,
    eps: float = 1e-10,
    weight_decay: float = 0.0,
) -> None:
    """Move parameters by their gradient over the root of the sum of all its squares.

    With ``g = dp + weight_decay * p``: ``v = v + g**2``, ``p -= learning_rate * g / (sqrt(v) + eps)``.

    Parameters
    ----------
    p : ndarray of float32 or float64
        Parameters, any shape up to four dimensions, C-contiguous. Updated in place.
    dp : ndarray of the dtype and shape of ``p``
        Gradient of the loss with respect to ``p``.
    v : ndarray of the dtype and shape of ``p``
        Sum of the squares, zeros before the first step. Updated in place.
    learning_rate : float, default 0.01
        Step size.
    eps : float, default 1e-10
        Added to the root, outside it.
    weight_decay : float, default 0.0
        Added to the gradient as ``weight_decay * p``.

    Raises
    ------
    TypeError
        If an argument is not an ndarray of the dtype of ``p``.
    ValueError
        If shapes differ, an array is not C-contiguous, one that is updated is read-only, or arrays
        overlap.

    Notes
    -----
    The square root is correctly rounded; the quotient too, but in float32 on AVX-512 it is within 2 ULP.

    References
    ----------
    Duchi, Hazan and Singer, "Adaptive subgradient methods for online learning and stochastic optimization" (2011).

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> p, v = np.array([1.0]), np.array([9.0])
    >>> F.adagrad_step(p, np.array([4.0]), v, learning_rate=0.25)
    >>> np.round(p, 6), v
    (array([0.8]), array([25.]))
    """
    _call("adagrad_step", (p, dp, v), None, (), _adagrad_row((0.0, learning_rate, eps, weight_decay)))


def rmsprop_step(
    p: NDArray[Any],
    dp: NDArray[Any],
    v: NDArray[Any],
    *,
    learning_rate: float = 0.01,
    rho: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> None:
    """Move parameters by their gradient over its root mean square.

    With ``g = dp + weight_decay * p``: ``v = rho * v + (1 - rho) * g**2``,
    ``p -= learning_rate * g / (sqrt(v) + eps)``.

    Parameters
    ----------
    p : ndarray of float32 or float64
        Parameters, any shape up to four dimensions, C-contiguous. Updated in place.
    dp : ndarray of the dtype and shape of ``p``
        Gradient of the loss with respect to ``p``.
    v : ndarray of the dtype and shape of ``p``
        Running mean of the squares, zeros before the first step. Updated in place.
    learning_rate : float, default 0.01
        Step size.
    rho : float, 0 <= rho < 1, default 0.99
        Share of the mean that is kept each step.
    eps : float, default 1e-8
        Added to the root, outside it.
    weight_decay : float, default 0.0
        Added to the gradient as ``weight_decay * p``.

    Raises
    ------
    TypeError
        If an argument is not an ndarray of the dtype of ``p``.
    ValueError
        If shapes differ, an array is not C-contiguous, one that is updated is read-only, or arrays
        overlap, or ``rho`` is outside [0, 1).

    Notes
    -----
    The square root is correctly rounded; the quotient too, but in float32 on AVX-512 it is within 2 ULP.

    References
    ----------
    Tieleman and Hinton, "Lecture 6.5: rmsprop" (2012).

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> p, v = np.array([1.0]), np.array([1.0])
    >>> F.rmsprop_step(p, np.array([7.0]), v, learning_rate=0.5, rho=0.5)
    >>> np.round(p, 6), v
    (array([0.3]), array([25.]))
    """
    _check_rho("rmsprop_step", rho)
    _call("rmsprop_step", (p, dp, v), None, (), _rmsprop_row((0.0, learning_rate, rho, eps, weight_decay)))


def rmsprop_momentum_step(
    p: NDArray[Any],
    dp: NDArray[Any],
    v: NDArray[Any],
    velocity: NDArray[Any],
    *,
    learning_rate: float = 0.01,
    rho: float = 0.99,
    momentum: float = 0.9,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> None:
    """Move parameters along a running sum of gradients over their root mean square.

    With ``g = dp + weight_decay * p``: ``v = rho * v + (1 - rho) * g**2``,
    ``velocity = momentum * velocity + g / (sqrt(v) + eps)``, ``p -= learning_rate * velocity``.

    Parameters
    ----------
    p : ndarray of float32 or float64
        Parameters, any shape up to four dimensions, C-contiguous. Updated in place.
    dp : ndarray of the dtype and shape of ``p``
        Gradient of the loss with respect to ``p``.
    v : ndarray of the dtype and shape of ``p``
        Running mean of the squares, zeros before the first step. Updated in place.
    velocity : ndarray of the dtype and shape of ``p``
        Decayed sum of scaled gradients, zeros before the first step. Updated in place.
    learning_rate : float, default 0.01
        Step size; applied to the velocity, not folded into it.
    rho : float, 0 <= rho < 1, default 0.99
        Share of the mean that is kept each step.
    momentum : float, default 0.9
        Share of the velocity that is kept each step.
    eps : float, default 1e-8
        Added to the root, outside it.
    weight_decay : float, default 0.0
        Added to the gradient as ``weight_decay * p``.

    Raises
    ------
    TypeError
        If an argument is not an ndarray of the dtype of ``p``.
    ValueError
        If shapes differ, an array is not C-contiguous, one that is updated is read-only, or arrays
        overlap, or ``rho`` is outside [0, 1).

    Notes
    -----
    The square root is correctly rounded; the quotient too, but in float32 on AVX-512 it is within 2 ULP.

    References
    ----------
    Tieleman and Hinton, "Lecture 6.5: rmsprop" (2012); the form with momentum as PyTorch has it.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> p, v, velocity = np.array([1.0]), np.array([1.0]), np.array([2.0])
    >>> F.rmsprop_momentum_step(p, np.array([7.0]), v, velocity, learning_rate=0.5, rho=0.5, momentum=0.5)
    >>> np.round(p, 6), v, np.round(velocity, 6)
    (array([-0.2]), array([25.]), array([2.4]))
    """
    _check_rho("rmsprop_momentum_step", rho)
    row = _momentum_row((0.0, learning_rate, rho, momentum, eps, weight_decay))
    _call("rmsprop_momentum_step", (p, dp, v, velocity), None, (), row)


def _check_rho(who: str, rho: float) -> None:
    if not 0 <= rho < 1:
        raise out_of_range(who, "rho", rho, "0 <= rho < 1")
