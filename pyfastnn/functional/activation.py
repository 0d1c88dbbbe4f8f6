"""Addition and the activations on plain arrays, forward and backward; NaN propagates."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from pyfastnn._core import call as _call


def add(a: NDArray[Any], b: NDArray[Any], *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return ``a + b`` of two arrays of one shape; nothing is broadcast.

    Parameters
    ----------
    a : ndarray of float32 or float64
        Of any shape up to four dimensions, C-contiguous.
    b : ndarray of the dtype and shape of ``a``
        The other term.
    out : ndarray of the dtype and shape of ``a``, optional
        Overwritten; may be ``a`` itself, must not overlap the inputs otherwise.

    Returns
    -------
    ndarray of the dtype and shape of ``a``
        ``out`` if given, else a new array.

    Raises
    ------
    TypeError
        If an argument is not an ndarray of the dtype of ``a``.
    ValueError
        If shapes differ, an array is not C-contiguous, or ``out`` overlaps an input in part.

    Notes
    -----
    Correctly rounded.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.add(np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    array([4., 6.])
    """
    return _call("add", (a, b), None if out is None else (out,))[0]


def relu(x: NDArray[Any], *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return the rectified input.

    ``y = max(x, 0)``; NaN stays NaN, and -0 gives 0.

    Parameters
    ----------
    x : ndarray of float32 or float64
        Of any shape up to four dimensions, C-contiguous.
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

    Notes
    -----
    Exact.

    References
    ----------
    Nair and Hinton, "Rectified linear units improve restricted Boltzmann machines" (2010).

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.relu(np.array([-1.0, 2.0, np.nan]))
    array([ 0.,  2., nan])
    """
    return _call("relu_forward", (x,), None if out is None else (out,))[0]


def relu_backward(dy: NDArray[Any], y: NDArray[Any], *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return the gradient of the input of `relu`.

    ``dx = 0 if y <= 0 else dy``; where ``y`` is NaN, ``dy`` passes.

    Parameters
    ----------
    dy : ndarray of float32 or float64
        Gradient of the loss with respect to the output; any shape up to four dimensions,
        C-contiguous.
    y : ndarray of the dtype and shape of ``dy``
        Output of the forward pass.
    out : ndarray of the dtype and shape of ``dy``, optional
        Overwritten; may be ``dy`` itself, must not overlap the inputs otherwise.

    Returns
    -------
    ndarray of the dtype and shape of ``dy``
        The gradient of the input: ``out`` if given, else a new array.

    Raises
    ------
    TypeError
        If an argument is not an ndarray of the dtype of ``dy``.
    ValueError
        If shapes differ, an array is not C-contiguous, or ``out`` overlaps an input in part.

    Notes
    -----
    Exact.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.relu_backward(np.array([3.0, 4.0]), np.array([0.0, 2.0]))
    array([0., 4.])
    """
    return _call("relu_backward", (dy, y), None if out is None else (out,))[0]


def leaky_relu(x: NDArray[Any], *, negative_slope: float = 0.01, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return the input with its negative part scaled down.

    ``y = x if x > 0 else negative_slope * x``; NaN stays NaN.

    Parameters
    ----------
    x : ndarray of float32 or float64
        Of any shape up to four dimensions, C-contiguous.
    negative_slope : float, default 0.01
        Slope for negative inputs.
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

    Notes
    -----
    Two roundings where negative (of the slope and of the product), exact elsewhere.

    References
    ----------
    Maas, Hannun and Ng, "Rectifier nonlinearities improve neural network acoustic models" (2013).

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.leaky_relu(np.array([-1.0, 2.0]))
    array([-0.01,  2.  ])
    """
    return _call("leaky_relu_forward", (x,), None if out is None else (out,), (negative_slope,))[0]


def leaky_relu_backward(
    dy: NDArray[Any],
    x: NDArray[Any],
    *,
    negative_slope: float = 0.01,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Return the gradient of the input of `leaky_relu`.

    ``dx = dy if x > 0 else negative_slope * dy``.

    Parameters
    ----------
    dy : ndarray of float32 or float64
        Gradient of the loss with respect to the output; any shape up to four dimensions,
        C-contiguous.
    x : ndarray of the dtype and shape of ``dy``
        Input of the forward pass.
    negative_slope : float, default 0.01
        Slope for negative inputs.
    out : ndarray of the dtype and shape of ``dy``, optional
        Overwritten; may be ``dy`` itself, must not overlap the inputs otherwise.

    Returns
    -------
    ndarray of the dtype and shape of ``dy``
        The gradient of the input: ``out`` if given, else a new array.

    Raises
    ------
    TypeError
        If an argument is not an ndarray of the dtype of ``dy``.
    ValueError
        If shapes differ, an array is not C-contiguous, or ``out`` overlaps an input in part.

    Notes
    -----
    Two roundings where ``x`` is negative, exact elsewhere.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.leaky_relu_backward(np.array([3.0, 4.0]), np.array([-1.0, 2.0]))
    array([0.03, 4.  ])
    """
    return _call("leaky_relu_backward", (dy, x), None if out is None else (out,), (negative_slope,))[0]


def sigmoid(x: NDArray[Any], *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return the logistic function of the input.

    ``y = 1 / (1 + exp(-x))``; NaN stays NaN.

    Parameters
    ----------
    x : ndarray of float32 or float64
        Of any shape up to four dimensions, C-contiguous.
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

    Notes
    -----
    Within 3 ULP for float32 and 4 ULP for float64.

    References
    ----------
    LeCun, Bottou, Orr and Mueller, "Efficient BackProp" (1998).

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.sigmoid(np.array([-np.inf, 0.0, np.inf]))
    array([0. , 0.5, 1. ])
    """
    return _call("sigmoid_forward", (x,), None if out is None else (out,))[0]


def sigmoid_backward(dy: NDArray[Any], y: NDArray[Any], *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return the gradient of the input of `sigmoid`.

    ``dx = dy * y * (1 - y)``.

    Parameters
    ----------
    dy : ndarray of float32 or float64
        Gradient of the loss with respect to the output; any shape up to four dimensions,
        C-contiguous.
    y : ndarray of the dtype and shape of ``dy``
        Output of the forward pass.
    out : ndarray of the dtype and shape of ``dy``, optional
        Overwritten; may be ``dy`` itself, must not overlap the inputs otherwise.

    Returns
    -------
    ndarray of the dtype and shape of ``dy``
        The gradient of the input: ``out`` if given, else a new array.

    Raises
    ------
    TypeError
        If an argument is not an ndarray of the dtype of ``dy``.
    ValueError
        If shapes differ, an array is not C-contiguous, or ``out`` overlaps an input in part.

    Notes
    -----
    Three roundings.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.sigmoid_backward(np.array([4.0]), np.array([0.5]))
    array([1.])
    """
    return _call("sigmoid_backward", (dy, y), None if out is None else (out,))[0]


def tanh(x: NDArray[Any], *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return the hyperbolic tangent of the input.

    ``y = tanh(x)``; NaN stays NaN.

    Parameters
    ----------
    x : ndarray of float32 or float64
        Of any shape up to four dimensions, C-contiguous.
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

    Notes
    -----
    Within 2 ULP for float32 and 4 ULP for float64, near 0 too.

    References
    ----------
    LeCun, Bottou, Orr and Mueller, "Efficient BackProp" (1998).

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.tanh(np.array([-np.inf, 0.0, np.inf]))
    array([-1.,  0.,  1.])
    """
    return _call("tanh_forward", (x,), None if out is None else (out,))[0]


def tanh_backward(dy: NDArray[Any], y: NDArray[Any], *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return the gradient of the input of `tanh`.

    ``dx = dy * (1 - y**2)``.

    Parameters
    ----------
    dy : ndarray of float32 or float64
        Gradient of the loss with respect to the output; any shape up to four dimensions,
        C-contiguous.
    y : ndarray of the dtype and shape of ``dy``
        Output of the forward pass.
    out : ndarray of the dtype and shape of ``dy``, optional
        Overwritten; may be ``dy`` itself, must not overlap the inputs otherwise.

    Returns
    -------
    ndarray of the dtype and shape of ``dy``
        The gradient of the input: ``out`` if given, else a new array.

    Raises
    ------
    TypeError
        If an argument is not an ndarray of the dtype of ``dy``.
    ValueError
        If shapes differ, an array is not C-contiguous, or ``out`` overlaps an input in part.

    Notes
    -----
    Four roundings: computed as ``dy * (1 - y) * (1 + y)``, which keeps its digits near ``abs(y) ==
    1``.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.tanh_backward(np.array([4.0]), np.array([0.5]))
    array([3.])
    """
    return _call("tanh_backward", (dy, y), None if out is None else (out,))[0]


def exp(x: NDArray[Any], *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return the exponential of the input.

    ``y = exp(x)``; infinity where that is too large for the dtype, 0 where too small; NaN stays NaN.

    Parameters
    ----------
    x : ndarray of float32 or float64
        Of any shape up to four dimensions, C-contiguous.
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

    Notes
    -----
    Within 1 ULP for float32 and 2 ULP for float64, subnormal results included.

    References
    ----------
    Tang, "Table-driven implementation of the exponential function", ACM TOMS 15 (1989) 144.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.exp(np.array([-np.inf, 0.0, np.inf]))
    array([ 0.,  1., inf])
    """
    return _call("exp_forward", (x,), None if out is None else (out,))[0]


def exp_backward(dy: NDArray[Any], y: NDArray[Any], *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return the gradient of the input of `exp`.

    ``dx = dy * y``.

    Parameters
    ----------
    dy : ndarray of float32 or float64
        Gradient of the loss with respect to the output; any shape up to four dimensions,
        C-contiguous.
    y : ndarray of the dtype and shape of ``dy``
        Output of the forward pass.
    out : ndarray of the dtype and shape of ``dy``, optional
        Overwritten; may be ``dy`` itself, must not overlap the inputs otherwise.

    Returns
    -------
    ndarray of the dtype and shape of ``dy``
        The gradient of the input: ``out`` if given, else a new array.

    Raises
    ------
    TypeError
        If an argument is not an ndarray of the dtype of ``dy``.
    ValueError
        If shapes differ, an array is not C-contiguous, or ``out`` overlaps an input in part.

    Notes
    -----
    One rounding.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.exp_backward(np.array([4.0]), np.array([0.5]))
    array([2.])
    """
    return _call("exp_backward", (dy, y), None if out is None else (out,))[0]
