"""The products of a linear layer on factors rounded to bfloat16: what training with ``precision="bf16"`` runs."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from pyfastnn._core import call as _call


def linear_forward_bf16(
    x: NDArray[Any],
    w: NDArray[Any],
    b: NDArray[Any] | None = None,
    *,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Apply ``y = r(x) @ r(w) + b`` to every row of a batch, where ``r`` rounds to bfloat16.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (n, in_features)
        C-contiguous, as all arrays here. ``n`` may be 0.
    w : ndarray of the same dtype, shape (in_features, out_features)
        Weights, one column per output feature.
    b : ndarray of the same dtype, shape (out_features,), optional
        Bias, not rounded, added to every row; none by default.
    out : ndarray of the same dtype, shape (n, out_features), optional
        Overwritten; must not overlap the inputs.

    Returns
    -------
    ndarray of the same dtype, shape (n, out_features)
        ``out`` if given, else a new array.

    Raises
    ------
    TypeError
        If an argument is not an ndarray of the dtype of ``x``. Nothing is converted.
    ValueError
        If shapes disagree, an array is not C-contiguous, or ``out`` overlaps an input.

    Notes
    -----
    ``r`` keeps 8 significant bits (relative error at most ``2**-8``), ties to even; magnitudes under ``2**-126`` become zero, those that
    round to ``2**128`` infinite. Sums are in the dtype of the arrays, within ``2 * (in_features + 1) * u`` times the sum of the absolute
    terms (float32: plus ``2**-125 * (in_features + 1)``) of the exact product of the rounded factors. With float32 and a processor that
    has AVX512-BF16 it takes about half the time of `linear`; otherwise it works on rounded copies and takes longer. The result is the
    same for every thread count, and a row has the same bits in every batch; it differs between the two forms in the last bits.

    References
    ----------
    Kalamkar et al., "A study of BFLOAT16 for deep learning training", arXiv:1905.12322 (2019).

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> x = np.array([[1 + 2**-7, 1 + 2**-10]], dtype=np.float32)
    >>> F.linear_forward_bf16(x, np.eye(2, dtype=np.float32))
    array([[1.0078125, 1.       ]], dtype=float32)
    """
    return _call("linear_forward_bf16", (x, w, b), None if out is None else (out,))[0]


def linear_dx_bf16(dy: NDArray[Any], w: NDArray[Any], *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return the gradient of the input of a linear layer, ``r(dy) @ r(w).T``, where ``r`` rounds to bfloat16.

    Parameters
    ----------
    dy : ndarray of float32 or float64, shape (n, out_features)
        Gradient of the loss with respect to the output.
    w : ndarray of the same dtype, shape (in_features, out_features)
        Weights of the forward pass.
    out : ndarray of the same dtype, shape (n, in_features), optional
        Overwritten; must not overlap the inputs.

    Returns
    -------
    ndarray of the same dtype, shape (n, in_features)
        ``out`` if given, else a new array.

    Raises
    ------
    TypeError
        If an argument is not an ndarray of the dtype of ``dy``.
    ValueError
        If shapes disagree, an array is not C-contiguous, or ``out`` overlaps an input.

    Notes
    -----
    Rounding, sums and error as in `linear_forward_bf16`, with ``out_features`` terms.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.linear_dx_bf16(np.array([[1.0]]), np.array([[4.0], [5.0]]))
    array([[4., 5.]])
    """
    return _call("linear_dx_bf16", (dy, w), None if out is None else (out,))[0]


def linear_dw_bf16(x: NDArray[Any], dy: NDArray[Any], *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return the gradient of the weights of a linear layer, ``r(x).T @ r(dy)``, where ``r`` rounds to bfloat16.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (n, in_features)
        Input of the forward pass.
    dy : ndarray of the same dtype, shape (n, out_features)
        Gradient of the loss with respect to the output.
    out : ndarray of the same dtype, shape (in_features, out_features), optional
        Overwritten; must not overlap the inputs.

    Returns
    -------
    ndarray of the same dtype, shape (in_features, out_features)
        ``out`` if given, else a new array. Zeros if ``n`` is 0.

    Raises
    ------
    TypeError
        If an argument is not an ndarray of the dtype of ``x``.
    ValueError
        If shapes disagree, an array is not C-contiguous, or ``out`` overlaps an input.

    Notes
    -----
    Rounding, sums and error as in `linear_forward_bf16`, with ``n`` terms.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import functional as F
    >>> F.linear_dw_bf16(np.array([[2.0, 3.0]]), np.array([[10.0]]))
    array([[20.],
           [30.]])
    """
    return _call("linear_dw_bf16", (x, dy), None if out is None else (out,))[0]
