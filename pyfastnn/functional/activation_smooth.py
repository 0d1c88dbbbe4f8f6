"""Activations that bend smoothly from 0 to the identity, on plain arrays, forward and backward; NaN propagates."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from pyfastnn._core import call as _call
from pyfastnn._names import unknown


def gelu(x: NDArray[Any], *, approximate: str = "none", out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return the Gaussian error linear unit of the input.

    ``y = x * Phi(x)``, Phi the distribution function of normal numbers, ``Phi(x) = (1 + erf(x / sqrt(2))) / 2``; NaN stays NaN, minus
    infinity gives 0.

    Parameters
    ----------
    x : ndarray of float32 or float64
        Of any shape up to four dimensions, C-contiguous.
    approximate : {"none", "tanh"}, default "none"
        ``"tanh"`` is `gelu_tanh`.
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
        If an array is not C-contiguous, ``out`` has another shape or overlaps ``x`` in part, or the form is unknown.

    Notes
    -----
    Within 3 ULP for ``x > 0``. For negative ``x`` the error is at most ``5 * eps`` relative (eps = 2**-23 or 2**-52) and, for float32 on
    AVX-512, ``2e-12 * abs(x)`` absolute.

    References
    ----------
    Hendrycks and Gimpel, "Gaussian error linear units (GELUs)" (2016).

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.gelu(np.array([-np.inf, -1.0, 1.0]))
    array([ 0.        , -0.15865525,  0.84134475])
    """
    if approximate != "none":
        _check_form("gelu", approximate)
        return gelu_tanh(x, out=out)
    return _call("gelu_forward", (x,), None if out is None else (out,))[0]


def gelu_backward(
    dy: NDArray[Any], x: NDArray[Any], *, approximate: str = "none", out: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Return the gradient of the input of `gelu`.

    ``dx = dy * (Phi(x) + x * phi(x))``, phi the density of normal numbers.

    Parameters
    ----------
    dy : ndarray of float32 or float64
        Gradient of the loss with respect to the output; any shape up to four dimensions,
        C-contiguous.
    x : ndarray of the dtype and shape of ``dy``
        Input of the forward pass.
    approximate : {"none", "tanh"}, default "none"
        ``"tanh"`` is `gelu_tanh_backward`.
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
        If shapes differ, an array is not C-contiguous, ``out`` overlaps an input in part, or the form is unknown.

    Notes
    -----
    The slope is off by at most ``8 * eps * (Phi(-abs(x)) + abs(x) * phi(x)) + eps / 2``.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.gelu_backward(np.array([2.0, 2.0]), np.array([0.0, 9.0]))
    array([1., 2.])
    """
    if approximate != "none":
        _check_form("gelu_backward", approximate)
        return gelu_tanh_backward(dy, x, out=out)
    return _call("gelu_backward", (dy, x), None if out is None else (out,))[0]


def gelu_tanh(x: NDArray[Any], *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return the Gaussian error linear unit in its approximation by tanh.

    ``y = x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))``; NaN stays NaN, minus infinity gives 0.

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
    Within 3 ULP of this formula for ``x > 0``. For negative ``x`` the error is at most ``(3 + 2 * z) * eps`` relative, z the argument of
    exp, ``sqrt(8 / pi) * (abs(x) + 0.044715 * abs(x)**3)``, and, for float32 on AVX-512, ``2e-12 * abs(x)`` absolute.

    References
    ----------
    Hendrycks and Gimpel, "Gaussian error linear units (GELUs)" (2016).

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.gelu_tanh(np.array([-np.inf, -1.0, 1.0]))
    array([ 0.        , -0.15880801,  0.84119199])
    """
    return _call("gelu_tanh_forward", (x,), None if out is None else (out,))[0]


def gelu_tanh_backward(dy: NDArray[Any], x: NDArray[Any], *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return the gradient of the input of `gelu_tanh`.

    ``dx = dy`` times the derivative of `gelu_tanh`, exactly that of its formula.

    Parameters
    ----------
    dy : ndarray of float32 or float64
        Gradient of the loss with respect to the output; any shape up to four dimensions,
        C-contiguous.
    x : ndarray of the dtype and shape of ``dy``
        Input of the forward pass.
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
    The slope is off by at most ``(8 + 2 * z) * eps`` times its terms, and ``eps / 2``; z as for `gelu_tanh`.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.gelu_tanh_backward(np.array([2.0, 2.0]), np.array([0.0, 9.0]))
    array([1., 2.])
    """
    return _call("gelu_tanh_backward", (dy, x), None if out is None else (out,))[0]


def silu(x: NDArray[Any], *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return the sigmoid linear unit of the input, also called swish.

    ``y = x * sigmoid(x) = x / (1 + exp(-x))``; NaN stays NaN, minus infinity gives -0.

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
    Within 3 ULP for float32 and 4 ULP for float64, and 3e-37 or 4e-306 absolute: negative results smaller than that are 0.

    References
    ----------
    Elfwing, Uchibe and Doya, "Sigmoid-weighted linear units" (2018).

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.silu(np.array([-1.0, 0.0, 1.0]))
    array([-0.26894142,  0.        ,  0.73105858])
    """
    return _call("silu_forward", (x,), None if out is None else (out,))[0]


def silu_backward(dy: NDArray[Any], x: NDArray[Any], *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return the gradient of the input of `silu`.

    ``dx = dy * sigmoid(x) * (1 + x * (1 - sigmoid(x)))``.

    Parameters
    ----------
    dy : ndarray of float32 or float64
        Gradient of the loss with respect to the output; any shape up to four dimensions,
        C-contiguous.
    x : ndarray of the dtype and shape of ``dy``
        Input of the forward pass.
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
    The slope is off by at most ``6 * eps * sigmoid(x) * (1 + abs(x) * sigmoid(-x))``.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.silu_backward(np.array([4.0]), np.array([0.0]))
    array([2.])
    """
    return _call("silu_backward", (dy, x), None if out is None else (out,))[0]


def softplus(x: NDArray[Any], *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return a smooth form of the rectifier.

    ``y = log(1 + exp(x))``, computed as ``max(x, 0) + log1p(exp(-abs(x)))``, which cannot overflow; NaN stays NaN.

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
    Dugas, Bengio, Belisle, Nadeau and Garcia, "Incorporating second-order functional knowledge" (2000).

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.softplus(np.array([-np.inf, 0.0, 1000.0]))
    array([0.00000000e+00, 6.93147181e-01, 1.00000000e+03])
    """
    return _call("softplus_forward", (x,), None if out is None else (out,))[0]


def softplus_backward(dy: NDArray[Any], x: NDArray[Any], *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return the gradient of the input of `softplus`.

    ``dx = dy * sigmoid(x)``.

    Parameters
    ----------
    dy : ndarray of float32 or float64
        Gradient of the loss with respect to the output; any shape up to four dimensions,
        C-contiguous.
    x : ndarray of the dtype and shape of ``dy``
        Input of the forward pass.
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
    The error of `sigmoid` and one rounding.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.softplus_backward(np.array([4.0]), np.array([0.0]))
    array([2.])
    """
    return _call("softplus_backward", (dy, x), None if out is None else (out,))[0]


def _check_form(owner: str, form: str) -> None:
    """Raise ValueError unless a form of GELU is the one that is not the default."""
    if form != "tanh":
        raise ValueError(f"{owner}: {unknown('form', form, ('none', 'tanh'))}")
