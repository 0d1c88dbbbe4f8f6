"""Layer and group normalization on plain arrays, forward and backward: statistics of each sample by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn._core import call as _call
from pyfastnn.functional._hyper import out_of_range


def layer_norm(
    x: NDArray[Any],
    gamma: NDArray[Any],
    beta: NDArray[Any],
    *,
    eps: float = 1e-5,
    out: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Normalize each row by its own mean and variance.

    ``y = (x - mean) * rstd * gamma + beta`` with ``rstd = 1 / sqrt(var + eps)``, where ``mean`` and ``var`` (divided by c) are
    taken over the last axis.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (..., c)
        Up to four dimensions, C-contiguous.
    gamma, beta : ndarray of the same dtype, shape (c,)
        Scale and offset of the normalized values.
    eps : float, default 1e-5
        Added to the variance, inside the root.
    out : ndarray of the dtype and shape of ``x``, optional
        Overwritten with y; must not overlap the inputs.

    Returns
    -------
    y : ndarray of the dtype and shape of ``x``
        ``out`` if given, else a new array. A row of equal numbers gives ``beta``.
    mean, rstd : ndarray of the same dtype, shape (...)
        What `layer_norm_backward` needs.

    Raises
    ------
    TypeError
        If an argument is not an ndarray of the dtype of ``x``.
    ValueError
        If shapes disagree, an array is not C-contiguous, or outputs overlap.

    Notes
    -----
    The variance is computed from differences to an element of the row, so that a common offset costs no digits.

    References
    ----------
    Ba, Kiros and Hinton, "Layer normalization" (2016), equations 3 and 4.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> y, mean, rstd = F.layer_norm(np.array([[0.0, 4.0], [1.0, 1.0]]), np.ones(2), np.zeros(2), eps=0.25)
    >>> y.round(3)
    array([[-0.97,  0.97],
           [ 0.  ,  0.  ]])
    >>> mean
    array([2., 1.])
    """
    outputs = None if out is None else (out, None, None)
    y, mean, rstd = _call("layer_norm_forward", (x, gamma, beta), outputs, (eps,))
    return y, mean, rstd


def layer_norm_backward(
    dy: NDArray[Any],
    x: NDArray[Any],
    gamma: NDArray[Any],
    mean: NDArray[Any],
    rstd: NDArray[Any],
    *,
    out: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return the gradients of `layer_norm`: of its input, its scale and its offset.

    With ``xhat = (x - mean) * rstd`` and ``g = dy * gamma``: ``dx = rstd * (g - mean of g - xhat * mean of g * xhat)``, the means
    taken over the last axis, and ``dgamma = sum(dy * xhat)``, ``dbeta = sum(dy)`` over all the others.

    Parameters
    ----------
    dy : ndarray of float32 or float64, shape (..., c)
        Gradient of the loss with respect to the output.
    x : ndarray of the dtype and shape of ``dy``
        Input of the forward pass.
    gamma : ndarray of the same dtype, shape (c,)
        Scale of the forward pass.
    mean, rstd : ndarray of the same dtype, shape (...)
        As `layer_norm` returned them.
    out : ndarray of the dtype and shape of ``dy``, optional
        Overwritten with dx; must not overlap the inputs.

    Returns
    -------
    dx : ndarray of the dtype and shape of ``dy``
        ``out`` if given, else a new array.
    dgamma, dbeta : ndarray of the same dtype, shape (c,)
        Gradients of scale and offset.

    Raises
    ------
    TypeError
        If an argument is not an ndarray of the dtype of ``dy``.
    ValueError
        If shapes disagree, an array is not C-contiguous, or ``out`` overlaps an input.

    Notes
    -----
    Sums run in a fixed order, so the result is the same for every thread count.

    References
    ----------
    Ba, Kiros and Hinton, "Layer normalization" (2016).

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> dy, x = np.array([[1.0, 3.0]]), np.array([[0.0, 4.0]])
    >>> dx, dgamma, dbeta = F.layer_norm_backward(dy, x, np.ones(2), np.array([2.0]), np.array([0.5]))
    >>> dx, dgamma, dbeta
    (array([[0., 0.]]), array([-1.,  3.]), array([1., 3.]))
    """
    outputs = None if out is None else (out, None, None)
    dx, dgamma, dbeta = _call("layer_norm_backward", (dy, x, gamma, mean, rstd), outputs)
    return dx, dgamma, dbeta


def group_norm(
    x: NDArray[Any],
    gamma: NDArray[Any],
    beta: NDArray[Any],
    *,
    groups: int = 1,
    eps: float = 1e-5,
    out: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Normalize groups of neighbouring channels of each sample by their mean and variance.

    ``y = (x - mean) * rstd * gamma + beta`` with ``rstd = 1 / sqrt(var + eps)``, where ``mean`` and ``var`` (divided by the number
    of elements) are taken over the ``c / groups`` channels of a group and all positions of one sample. ``groups=c`` is instance
    normalization.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (n, ..., c)
        Features, or images with channels last; up to four dimensions, C-contiguous.
    gamma, beta : ndarray of the same dtype, shape (c,)
        Scale and offset of the normalized values.
    groups : int, 1 or more, default 1
        Divides c.
    eps : float, default 1e-5
        Added to the variance, inside the root.
    out : ndarray of the dtype and shape of ``x``, optional
        Overwritten with y; must not overlap the inputs.

    Returns
    -------
    y : ndarray of the dtype and shape of ``x``
        ``out`` if given, else a new array. A group of equal numbers gives ``beta``.
    mean, rstd : ndarray of the same dtype, shape (n, groups)
        What `group_norm_backward` needs.

    Raises
    ------
    TypeError
        If an argument is not an ndarray of the dtype of ``x``.
    ValueError
        If ``groups`` does not divide the channels, shapes disagree, an array is not C-contiguous, or outputs overlap.

    Notes
    -----
    The variance is computed from differences to an element of each channel, so that a common offset costs no digits.

    References
    ----------
    Wu and He, "Group normalization" (2018), equations 1 to 7. Ulyanov, Vedaldi and Lempitsky, "Instance normalization" (2016).

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> y, mean, rstd = F.group_norm(np.array([[0.0, 4.0, 7.0, 7.0]]), np.ones(4), np.zeros(4), groups=2, eps=0.25)
    >>> y.round(3)
    array([[-0.97,  0.97,  0.  ,  0.  ]])
    >>> mean
    array([[2., 7.]])
    """
    _check_groups("group_norm", x, groups)
    outputs = None if out is None else (out, None, None)
    y, mean, rstd = _call("group_norm_forward", (x, gamma, beta), outputs, (groups, eps))
    return y, mean, rstd


def group_norm_backward(
    dy: NDArray[Any],
    x: NDArray[Any],
    gamma: NDArray[Any],
    mean: NDArray[Any],
    rstd: NDArray[Any],
    *,
    groups: int = 1,
    out: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return the gradients of `group_norm`: of its input, its scale and its offset.

    As `layer_norm_backward`, with means over the channels of a group at all positions of one sample; ``dgamma`` and ``dbeta`` are
    sums over samples and positions.

    Parameters
    ----------
    dy : ndarray of float32 or float64, shape (n, ..., c)
        Gradient of the loss with respect to the output.
    x : ndarray of the dtype and shape of ``dy``
        Input of the forward pass.
    gamma : ndarray of the same dtype, shape (c,)
        Scale of the forward pass.
    mean, rstd : ndarray of the same dtype, shape (n, groups)
        As `group_norm` returned them.
    groups : int, 1 or more, default 1
        As in the forward pass.
    out : ndarray of the dtype and shape of ``dy``, optional
        Overwritten with dx; must not overlap the inputs.

    Returns
    -------
    dx : ndarray of the dtype and shape of ``dy``
        ``out`` if given, else a new array.
    dgamma, dbeta : ndarray of the same dtype, shape (c,)
        Gradients of scale and offset.

    Raises
    ------
    TypeError
        If an argument is not an ndarray of the dtype of ``dy``.
    ValueError
        If ``groups`` does not divide the channels, shapes disagree, an array is not C-contiguous, or ``out`` overlaps an input.

    Notes
    -----
    Sums run in a fixed order, so the result is the same for every thread count.

    References
    ----------
    Wu and He, "Group normalization" (2018).

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> dy, x = np.array([[1.0, 3.0]]), np.array([[0.0, 4.0]])
    >>> dx, dgamma, dbeta = F.group_norm_backward(dy, x, np.ones(2), np.array([[2.0]]), np.array([[0.5]]))
    >>> dx, dgamma, dbeta
    (array([[0., 0.]]), array([-1.,  3.]), array([1., 3.]))
    """
    _check_groups("group_norm_backward", dy, groups)
    outputs = None if out is None else (out, None, None)
    dx, dgamma, dbeta = _call("group_norm_backward", (dy, x, gamma, mean, rstd), outputs, (groups,))
    return dx, dgamma, dbeta


def _check_groups(who: str, x: Any, groups: int) -> None:
    """Refuse a number of groups that does not divide the channels; whatever else is wrong the call itself finds."""
    channels = getattr(x, "shape", (0,))[-1:]
    if isinstance(groups, (int, np.integer)) and channels and groups >= 1 and channels[0] % groups:
        raise out_of_range(who, "groups", groups, f"a divisor of the {channels[0]} channels")
