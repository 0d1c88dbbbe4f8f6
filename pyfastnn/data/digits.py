"""The embedded data set: 1797 handwritten digits of 8 x 8 pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["load_digits"]


def load_digits() -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Load the handwritten digits that come with the package.

    Returns
    -------
    X : ndarray of uint8, shape (1797, 64)
        Images of 8 x 8 pixels, row by row; 0 is paper, 16 full ink. C-contiguous.
    y : ndarray of int64, shape (1797,)
        The digit, 0 to 9. C-contiguous.

    References
    ----------
    E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
    Repository, 1998 (CC BY 4.0): its test part, as distributed with scikit-learn.

    Examples
    --------
    >>> from pyfastnn.data import load_digits
    >>> X, y = load_digits()
    >>> X.shape, X.dtype.name, y[:5].tolist()
    ((1797, 64), 'uint8', [0, 1, 2, 3, 4])
    """
    with np.load(Path(__file__).with_name("digits.npz"), allow_pickle=False) as file:
        return file["X"], file["y"].astype(np.int64)
