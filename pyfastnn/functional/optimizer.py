"""Update rules on plain arrays, in place, each with the meaning PyTorch gives it."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from pyfastnn._core import call as _call
from pyfastnn.functional._hyper import out_of_range, row_maker

_sgd_row = row_maker("learning_rate", "weight_decay")
_momentum_row = row_maker("learning_rate", "momentum", "weight_decay")
_adam_row = row_maker("learning_rate", "beta1", "beta2", "eps", "weight_decay", "correction1", "correction2")


def sgd_step(p: NDArray[Any], dp: NDArray[Any], *, learning_rate: float, weight_decay: float = 0.0) -> None:
    """Move parameters down their gradient.

    ``p -= learning_rate * (dp + weight_decay * p)``.

    Parameters
    ----------
    p : ndarray of float32 or float64
        Parameters, any shape up to four dimensions, C-contiguous. Updated in place.
    dp : ndarray of the dtype and shape of ``p``
        Gradient of the loss with respect to ``p``.
    learning_rate : float
        Step size.
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
    At most five roundings of each term.

    References
    ----------
    Robbins and Monro, "A stochastic approximation method" (1951).

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> p = np.array([1.0])
    >>> F.sgd_step(p, np.array([2.0]), learning_rate=0.25)
    >>> p
    array([0.5])
    """
    _call("sgd_step", (p, dp), None, (), _sgd_row((0.0, learning_rate, weight_decay)))


def momentum_step(
    p: NDArray[Any],
    dp: NDArray[Any],
    velocity: NDArray[Any],
    *,
    learning_rate: float,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
) -> None:
    """Move parameters along a running sum of gradients.

    ``velocity = momentum * velocity + g`` with ``g = dp + weight_decay * p``, then ``p -=
    learning_rate * velocity``.

    Parameters
    ----------
    p : ndarray of float32 or float64
        Parameters, any shape up to four dimensions, C-contiguous. Updated in place.
    dp : ndarray of the dtype and shape of ``p``
        Gradient of the loss with respect to ``p``.
    velocity : ndarray of the dtype and shape of ``p``
        Decayed sum of gradients, zeros before the first step. Updated in place.
    learning_rate : float
        Step size; applied to the velocity, not folded into it.
    momentum : float, default 0.9
        Share of the velocity that is kept each step.
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
    At most seven roundings of each term.

    References
    ----------
    Polyak (1964); Sutskever et al., "On the importance of initialization and momentum in deep
    learning" (2013).

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> p, velocity = np.array([1.0]), np.array([4.0])
    >>> F.momentum_step(p, np.array([2.0]), velocity, learning_rate=0.25, momentum=0.5)
    >>> p, velocity
    (array([0.]), array([4.]))
    """
    row = _momentum_row((0.0, learning_rate, momentum, weight_decay))
    _call("momentum_step", (p, dp, velocity), None, (), row)


def nesterov_step(
    p: NDArray[Any],
    dp: NDArray[Any],
    velocity: NDArray[Any],
    *,
    learning_rate: float,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
) -> None:
    """Move parameters along a running sum of gradients, looking one step ahead.

    ``velocity = momentum * velocity + g`` with ``g = dp + weight_decay * p``, then
    ``p -= learning_rate * (g + momentum * velocity)``.

    Parameters
    ----------
    p : ndarray of float32 or float64
        Parameters, any shape up to four dimensions, C-contiguous. Updated in place.
    dp : ndarray of the dtype and shape of ``p``
        Gradient of the loss with respect to ``p``.
    velocity : ndarray of the dtype and shape of ``p``
        Decayed sum of gradients, zeros before the first step. Updated in place.
    learning_rate : float
        Step size; applied to the velocity, not folded into it.
    momentum : float, default 0.9
        Share of the velocity that is kept each step.
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
    At most seven roundings of each term.

    References
    ----------
    Nesterov (1983); Sutskever et al., "On the importance of initialization and momentum in deep
    learning" (2013).

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> p, velocity = np.array([1.0]), np.array([4.0])
    >>> F.nesterov_step(p, np.array([2.0]), velocity, learning_rate=0.25, momentum=0.5)
    >>> p, velocity
    (array([0.]), array([4.]))
    """
    row = _momentum_row((0.0, learning_rate, momentum, weight_decay))
    _call("nesterov_step", (p, dp, velocity), None, (), row)


def adam_step(
    p: NDArray[Any],
    dp: NDArray[Any],
    m: NDArray[Any],
    v: NDArray[Any],
    *,
    step: int,
    learning_rate: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> None:
    """Move parameters by their gradient's mean over its root mean square.

    With ``g = dp + weight_decay * p``:
    ``m = beta1 * m + (1 - beta1) * g``, ``v = beta2 * v + (1 - beta2) * g**2``,
    ``p -= learning_rate * (m / (1 - beta1**step)) / (sqrt(v / (1 - beta2**step)) + eps)``.

    Parameters
    ----------
    p : ndarray of float32 or float64
        Parameters, any shape up to four dimensions, C-contiguous. Updated in place.
    dp : ndarray of the dtype and shape of ``p``
        Gradient of the loss with respect to ``p``.
    m, v : ndarray of the dtype and shape of ``p``
        Moments of the gradient, zeros before the first step. Updated in place.
    step : int, at least 1
        Number of this step, counted from 1; corrects the moments for having started at zero.
    learning_rate : float, default 1e-3
        Step size.
    beta1, beta2 : float, 0 <= beta < 1, default 0.9 and 0.999
        Share of the moments that is kept each step.
    eps : float, default 1e-8
        Added to the root of the second moment, outside the root.
    weight_decay : float, default 0.0
        Added to the gradient as ``weight_decay * p``.

    Raises
    ------
    TypeError
        If an argument is not an ndarray of the dtype of ``p``.
    ValueError
        If shapes differ, an array is not C-contiguous, one that is updated is read-only, or arrays
        overlap, ``step`` is less than 1 or a beta is outside [0, 1).

    Notes
    -----
    Square root and quotient are correctly rounded. The first step is close to ``-learning_rate *
    sign(dp)``.

    References
    ----------
    Kingma and Ba, "Adam: a method for stochastic optimization" (2015), Algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> p, m, v = np.array([1.0]), np.zeros(1), np.zeros(1)
    >>> F.adam_step(p, np.array([2.0]), m, v, step=1, learning_rate=0.25)
    >>> np.round(p, 6), np.round(m, 6), np.round(v, 6)
    (array([0.75]), array([0.2]), array([0.004]))
    """
    row = _adam_numbers("adam_step", step, learning_rate, beta1, beta2, eps, weight_decay)
    _call("adam_step", (p, dp, m, v), None, (), row)


def adamw_step(
    p: NDArray[Any],
    dp: NDArray[Any],
    m: NDArray[Any],
    v: NDArray[Any],
    *,
    step: int,
    learning_rate: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.01,
) -> None:
    """Move parameters by their gradient's mean over its root mean square, and shrink them.

    First ``p *= 1 - learning_rate * weight_decay``, then with ``g = dp``:
    ``m = beta1 * m + (1 - beta1) * g``, ``v = beta2 * v + (1 - beta2) * g**2``,
    ``p -= learning_rate * (m / (1 - beta1**step)) / (sqrt(v / (1 - beta2**step)) + eps)``.

    Parameters
    ----------
    p : ndarray of float32 or float64
        Parameters, any shape up to four dimensions, C-contiguous. Updated in place.
    dp : ndarray of the dtype and shape of ``p``
        Gradient of the loss with respect to ``p``.
    m, v : ndarray of the dtype and shape of ``p``
        Moments of the gradient, zeros before the first step. Updated in place.
    step : int, at least 1
        Number of this step, counted from 1; corrects the moments for having started at zero.
    learning_rate : float, default 1e-3
        Step size.
    beta1, beta2 : float, 0 <= beta < 1, default 0.9 and 0.999
        Share of the moments that is kept each step.
    eps : float, default 1e-8
        Added to the root of the second moment, outside the root.
    weight_decay : float, default 0.01
        Decoupled: shrinks ``p`` itself, times the learning rate.

    Raises
    ------
    TypeError
        If an argument is not an ndarray of the dtype of ``p``.
    ValueError
        If shapes differ, an array is not C-contiguous, one that is updated is read-only, or arrays
        overlap, ``step`` is less than 1 or a beta is outside [0, 1).

    Notes
    -----
    Square root and quotient are correctly rounded. The first step is close to ``-learning_rate *
    sign(dp)``.

    References
    ----------
    Loshchilov and Hutter, "Decoupled weight decay regularization" (2019), Algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> p, m, v = np.array([1.0]), np.zeros(1), np.zeros(1)
    >>> F.adamw_step(p, np.array([2.0]), m, v, step=1, learning_rate=0.25, weight_decay=0.0)
    >>> np.round(p, 6), np.round(m, 6), np.round(v, 6)
    (array([0.75]), array([0.2]), array([0.004]))
    """
    row = _adam_numbers("adamw_step", step, learning_rate, beta1, beta2, eps, weight_decay)
    _call("adamw_step", (p, dp, m, v), None, (), row)


def _adam_numbers(
    who: str,
    step: int,
    learning_rate: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
) -> tuple[float, ...]:
    """Return the hyper row of an Adam step, with the corrections that belong to its number."""
    if step < 1:
        raise out_of_range(who, "step", step, "a number from 1")
    if not 0 <= beta1 < 1:
        raise out_of_range(who, "beta1", beta1, "0 <= beta1 < 1")
    if not 0 <= beta2 < 1:
        raise out_of_range(who, "beta2", beta2, "0 <= beta2 < 1")
    return _adam_row((0.0, learning_rate, beta1, beta2, eps, weight_decay, 1 - beta1**step, 1 - beta2**step))
