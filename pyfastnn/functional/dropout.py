"""Dropout of elements and of channels on plain arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn._core import call as _call
from pyfastnn.functional._hyper import out_of_range, row_maker

_row = row_maker("seed", "step")


def dropout(
    x: NDArray[Any],
    p: float = 0.5,
    *,
    seed: int,
    step: int = 0,
    node: int = 0,
    out: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """Set elements to 0 with probability ``p`` and scale the others by ``1 / (1 - p)``.

    Parameters
    ----------
    x : ndarray of float32 or float64
        Of any shape up to four dimensions, C-contiguous.
    p : float, 0 <= p < 1, default 0.5
        Probability that an element is dropped. 0 copies.
    seed : int, 0 <= seed < 2**53
        Seed of the run.
    step : int, 0 <= step < 2**53, default 0
        Step of the run; its low 32 bits count.
    node : int, 0 <= node < 2**32, default 0
        Tells the dropout layers of a network apart.
    out : ndarray of the dtype and shape of ``x``, optional
        Overwritten with y; may be ``x`` itself, must not overlap it otherwise.

    Returns
    -------
    y : ndarray of the dtype and shape of ``x``
        ``out`` if given, else a new array.
    mask : ndarray of uint8, of the shape of ``x``
        1 where kept, 0 where dropped.

    Raises
    ------
    TypeError
        If ``x`` is not an ndarray of float32 or float64.
    ValueError
        If a number is out of range, an array is not C-contiguous, or ``out`` overlaps ``x`` in
        part.

    Notes
    -----
    The random word of an element is that of Philox4x32-10 at (seed, step, node, element): the same
    on every machine, thread count and backend. Two roundings where kept. A dropped NaN becomes 0.

    References
    ----------
    Srivastava et al., "Dropout" (2014); Salmon et al., "Parallel random numbers: as easy as 1, 2,
    3" (2011).

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> y, mask = F.dropout(np.ones(8), 0.5, seed=0)
    >>> mask
    array([0, 1, 1, 1, 1, 0, 1, 0], dtype=uint8)
    >>> y
    array([0., 2., 2., 2., 2., 0., 2., 0.])
    """
    _check("dropout", p, seed, step, node)
    outputs = None if out is None else (out, None)
    y, mask = _call("dropout_forward", (x,), outputs, (p, node), _row((0.0, seed, step)))
    return y, mask


def dropout_backward(
    dy: NDArray[Any], mask: NDArray[np.uint8], p: float = 0.5, *, out: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Return the gradient of the input of `dropout`.

    ``dx = dy / (1 - p)`` where kept, else 0.

    Parameters
    ----------
    dy : ndarray of float32 or float64
        Gradient of the loss with respect to the output; any shape up to four dimensions,
        C-contiguous.
    mask : ndarray of uint8, of the shape of ``dy``
        As `dropout` returned it.
    p : float, 0 <= p < 1, default 0.5
        Probability of the forward pass.
    out : ndarray of the dtype and shape of ``dy``, optional
        Overwritten; may be ``dy`` itself, must not overlap the inputs otherwise.

    Returns
    -------
    ndarray of the dtype and shape of ``dy``
        ``out`` if given, else a new array.

    Raises
    ------
    TypeError
        If ``dy`` is not an ndarray of float32 or float64, or ``mask`` not one of uint8.
    ValueError
        If ``p`` is out of range, shapes differ, an array is not C-contiguous, or ``out`` overlaps
        an input in part.

    Notes
    -----
    Two roundings where kept.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.dropout_backward(np.array([3.0, 4.0]), np.array([0, 1], dtype=np.uint8))
    array([0., 8.])
    """
    if not 0 <= p < 1:
        raise out_of_range("dropout_backward", "p", p, "0 <= p < 1")
    return _call("dropout_backward", (dy, mask), None if out is None else (out,), (p,))[0]


def dropout_channels(
    x: NDArray[Any],
    p: float = 0.5,
    *,
    seed: int,
    step: int = 0,
    node: int = 0,
    out: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """Set whole channels of samples to 0 with probability ``p`` and scale the others by ``1 / (1 - p)``.

    Neighbouring positions of an image are alike, so dropping them one by one would drop little.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (n, ..., c)
        Images with channels last, or features; up to four dimensions, C-contiguous.
    p : float, 0 <= p < 1, default 0.5
        Probability that a channel of a sample is dropped. 0 copies.
    seed : int, 0 <= seed < 2**53
        Seed of the run.
    step : int, 0 <= step < 2**53, default 0
        Step of the run; its low 32 bits count.
    node : int, 0 <= node < 2**32, default 0
        Tells the dropout layers of a network apart.
    out : ndarray of the dtype and shape of ``x``, optional
        Overwritten with y; may be ``x`` itself, must not overlap it otherwise.

    Returns
    -------
    y : ndarray of the dtype and shape of ``x``
        ``out`` if given, else a new array.
    mask : ndarray of uint8, shape (n, c)
        1 where kept, 0 where dropped.

    Raises
    ------
    TypeError
        If ``x`` is not an ndarray of float32 or float64.
    ValueError
        If a number is out of range, an array is not C-contiguous, or ``out`` overlaps ``x`` in part.

    Notes
    -----
    The random words are those of `dropout` of an array of shape (n, c). Two roundings where kept. A dropped NaN becomes 0.

    References
    ----------
    Tompson, Goroshin, Jain, LeCun and Bregler, "Efficient object localization using convolutional networks" (2015), section 3.2.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> y, mask = F.dropout_channels(np.ones((2, 3, 4)), 0.5, seed=0)
    >>> mask
    array([[0, 1, 1, 1],
           [1, 0, 1, 0]], dtype=uint8)
    >>> y[0]
    array([[0., 2., 2., 2.],
           [0., 2., 2., 2.],
           [0., 2., 2., 2.]])
    """
    _check("dropout_channels", p, seed, step, node)
    outputs = None if out is None else (out, None)
    y, mask = _call("dropout_channels_forward", (x,), outputs, (p, node), _row((0.0, seed, step)))
    return y, mask


def dropout_channels_backward(
    dy: NDArray[Any], mask: NDArray[np.uint8], p: float = 0.5, *, out: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Return the gradient of the input of `dropout_channels`.

    ``dx = dy / (1 - p)`` in channels that were kept, else 0.

    Parameters
    ----------
    dy : ndarray of float32 or float64, shape (n, ..., c)
        Gradient of the loss with respect to the output; up to four dimensions, C-contiguous.
    mask : ndarray of uint8, shape (n, c)
        As `dropout_channels` returned it.
    p : float, 0 <= p < 1, default 0.5
        Probability of the forward pass.
    out : ndarray of the dtype and shape of ``dy``, optional
        Overwritten; may be ``dy`` itself, must not overlap the inputs otherwise.

    Returns
    -------
    ndarray of the dtype and shape of ``dy``
        ``out`` if given, else a new array.

    Raises
    ------
    TypeError
        If ``dy`` is not an ndarray of float32 or float64, or ``mask`` not one of uint8.
    ValueError
        If ``p`` is out of range, shapes disagree, an array is not C-contiguous, or ``out`` overlaps an input in part.

    Notes
    -----
    Two roundings where kept.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.dropout_channels_backward(np.array([[[3.0, 4.0], [5.0, 6.0]]]), np.array([[0, 1]], dtype=np.uint8))
    array([[[ 0.,  8.],
            [ 0., 12.]]])
    """
    if not 0 <= p < 1:
        raise out_of_range("dropout_channels_backward", "p", p, "0 <= p < 1")
    return _call("dropout_channels_backward", (dy, mask), None if out is None else (out,), (p,))[0]


def _check(who: str, p: float, seed: int, step: int, node: int) -> None:
    """Refuse numbers out of range."""
    if not 0 <= p < 1:
        raise out_of_range(who, "p", p, "0 <= p < 1")
    if not 0 <= seed < 2**53:
        raise out_of_range(who, "seed", seed, "0 <= seed < 2**53")
    if not 0 <= step < 2**53:
        raise out_of_range(who, "step", step, "0 <= step < 2**53")
    if not 0 <= node < 2**32:
        raise out_of_range(who, "node", node, "0 <= node < 2**32")
