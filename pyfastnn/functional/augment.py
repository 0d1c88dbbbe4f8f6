"""Random changes of images on plain arrays."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from pyfastnn._core import call as _call
from pyfastnn.functional._hyper import out_of_range, row_maker

_row = row_maker("seed", "step")


def augment(
    x: NDArray[Any],
    flip: int = 0,
    pad: int = 0,
    cutout: int = 0,
    *,
    seed: int,
    step: int = 0,
    node: int = 0,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Return images that are flipped, shifted and partly covered, each by its own draw.

    In this order: ``pad`` rows and columns of zeros are put around the image and a window of the old size is cut out somewhere; the
    window is flipped with probability 1/2 in each of the directions that ``flip`` names; a square of zeros is put somewhere.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (n, height, width, channels)
        Images, C-contiguous.
    flip : {0, 1, 2, 3}, default 0
        1 flips left and right, 2 upside down, 3 both (each for itself), 0 never.
    pad : int, 0 <= pad <= 2**20, default 0
        Largest shift in pixels, in both directions; every whole number from -pad to pad is equally likely.
    cutout : int, 0 <= cutout <= 2**20, default 0
        Side of the square in pixels. Its centre is any pixel of the image with equal probability; what lies beyond the border is cut off.
    seed : int, 0 <= seed < 2**53
        Seed of the run.
    step : int, 0 <= step < 2**53, default 0
        Step of the run; its low 32 bits count.
    node : int, 0 <= node < 2**32, default 0
        Tells several layers of a network apart.
    out : ndarray of the dtype and shape of ``x``, optional
        Overwritten; must not overlap ``x``.

    Returns
    -------
    ndarray of the dtype and shape of ``x``
        ``out`` if given, else a new array.

    Raises
    ------
    TypeError
        If ``x`` is not an ndarray of float32 or float64.
    ValueError
        If a number is out of range, ``x`` has not four dimensions, an array is not C-contiguous, or ``out`` overlaps ``x``.

    Notes
    -----
    Image k draws from Philox4x32-10 at (seed, step, node, k): the same on every machine and thread count. Pixels are copied, so nothing
    is rounded.

    References
    ----------
    DeVries and Taylor, "Improved regularization of convolutional neural networks with cutout" (2017), arXiv 1708.04552.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> image = np.arange(1.0, 5.0).reshape(1, 1, 4, 1)
    >>> [F.augment(image, flip=1, seed=seed).ravel().tolist() for seed in (0, 1)]
    [[1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0]]
    >>> F.augment(image.reshape(1, 2, 2, 1), pad=1, seed=5).reshape(2, 2)
    array([[0., 0.],
           [2., 0.]])
    """
    numbers = _numbers("augment", flip, pad, cutout, seed, step, node)
    return _call("augment", (x,), None if out is None else (out,), numbers, _row((0.0, seed, step)))[0]


def augment_backward(
    dy: NDArray[Any],
    flip: int = 0,
    pad: int = 0,
    cutout: int = 0,
    *,
    seed: int,
    step: int = 0,
    node: int = 0,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Return the gradient of the input of `augment`: each pixel's goes to where the pixel came from.

    Parameters
    ----------
    dy : ndarray of float32 or float64, shape (n, height, width, channels)
        Gradient of the loss with respect to the output, C-contiguous.
    flip, pad, cutout, seed, step, node : int
        Those of the forward pass.
    out : ndarray of the dtype and shape of ``dy``, optional
        Overwritten; must not overlap ``dy``.

    Returns
    -------
    ndarray of the dtype and shape of ``dy``
        ``out`` if given, else a new array.

    Raises
    ------
    TypeError
        If ``dy`` is not an ndarray of float32 or float64.
    ValueError
        As for `augment`.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> dy = np.arange(1.0, 5.0).reshape(1, 1, 4, 1)
    >>> F.augment_backward(dy, flip=1, seed=1).ravel()
    array([4., 3., 2., 1.])
    """
    numbers = _numbers("augment_backward", flip, pad, cutout, seed, step, node)
    return _call("augment_backward", (dy,), None if out is None else (out,), numbers, _row((0.0, seed, step)))[0]


def _numbers(who: str, flip: int, pad: int, cutout: int, seed: int, step: int, node: int) -> tuple[int, int, int, int]:
    """Check the numbers and return the attributes."""
    if flip not in (0, 1, 2, 3):
        raise out_of_range(who, "flip", flip, "0, 1, 2 or 3")
    for name, value in (("pad", pad), ("cutout", cutout)):
        if not (0 <= value <= 2**20 and value == int(value)):
            raise out_of_range(who, name, value, f"a whole number, 0 <= {name} <= 2**20")
    for name, value, bits in (("seed", seed, 53), ("step", step, 53), ("node", node, 32)):
        if not 0 <= value < 2**bits:
            raise out_of_range(who, name, value, f"0 <= {name} < 2**{bits}")
    return flip, pad, cutout, node
