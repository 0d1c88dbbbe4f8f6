"""Comparators: values within a computed bound, and equal bits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def assert_within(got: Array, want: Array, bound: Any, what: str = "result") -> None:
    """Assert that every element of ``got`` is within an absolute bound of ``want``.

    Where either is not finite, once ``want`` is rounded to the dtype of ``got``, they must be
    equal: NaN where NaN is expected and only there, infinities of the same sign. Integers must be
    equal. A bound that is NaN accepts nothing.

    Parameters
    ----------
    got : ndarray
        What the kernel made.
    want : ndarray
        What is right, in a wider float type.
    bound : float or ndarray
        Largest error allowed, broadcast to the shape of ``want``.
    what : str
        Names the array in the message.

    Raises
    ------
    AssertionError
        If the shapes differ or an element is off; names the worst element.
    """
    assert got.shape == want.shape, f"{what}: shape {got.shape}, expected {want.shape}"
    if got.dtype.kind in "iu":
        wrong = got != want
        error = wrong.astype(np.float64)
        limit = np.zeros(got.shape)
    else:
        with np.errstate(all="ignore"):
            rounded = want.astype(got.dtype)
            same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
            error = np.abs(got.astype(want.dtype) - want)
            limit = np.broadcast_to(np.asarray(bound, dtype=want.dtype), want.shape)
            finite = np.isfinite(rounded) & np.isfinite(got)
            wrong = ~np.where(finite, error <= limit, same)
    if wrong.any():
        with np.errstate(all="ignore"):
            excess = np.where(np.isfinite(error), error / np.maximum(limit, 1e-300), np.inf)
        worst = np.unravel_index(np.argmax(np.where(wrong, excess, -1)), got.shape)
        index = tuple(int(k) for k in worst)
        raise AssertionError(
            f"{what}: {int(wrong.sum())} of {got.size} elements are off; at {index} "
            f"got {got[worst]!r}, expected {want[worst]!r} within {limit[worst]!r}"
        )


def assert_same_bits(got: Array, want: Array, what: str = "result") -> None:
    """Assert that two arrays have the same shape, dtype and bytes; NaNs of any kind count as equal.

    Parameters
    ----------
    got, want : ndarray
        The arrays.
    what : str
        Names the array in the message.

    Raises
    ------
    AssertionError
        If anything differs; names the first element that does.
    """
    assert got.shape == want.shape, f"{what}: shape {got.shape}, expected {want.shape}"
    assert got.dtype == want.dtype, f"{what}: dtype {got.dtype}, expected {want.dtype}"
    unsigned = f"u{got.dtype.itemsize}"
    a, b = np.ascontiguousarray(got), np.ascontiguousarray(want)
    differs = a.view(unsigned) != b.view(unsigned)
    if got.dtype.kind == "f":
        differs &= ~(np.isnan(a) & np.isnan(b))
    if differs.any():
        first = tuple(int(k) for k in np.argwhere(differs)[0])
        raise AssertionError(
            f"{what}: {int(differs.sum())} of {got.size} elements have other bits; at {first} got "
            f"{got[first]!r}, expected {want[first]!r}"
        )
