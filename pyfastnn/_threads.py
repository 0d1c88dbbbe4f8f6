"""How many threads the process uses."""

from __future__ import annotations

from pyfastnn import _core

MOST = 2**15 - 1


def set_num_threads(n: int) -> None:
    """Set how many threads training and prediction use, unless a `Trainer` was made with a number of its own.

    No result depends on it, to the last bit.

    Parameters
    ----------
    n : int
        1 or more; 0 goes back to the default, that of OpenMP (``OMP_NUM_THREADS``, else the processors of the process).

    Raises
    ------
    TypeError
        If ``n`` is no whole number.
    ValueError
        If it is negative, or above 32767.
    """
    if isinstance(n, bool) or not hasattr(n, "__index__"):
        raise TypeError(f"set_num_threads: 'n' is {n!r}, expected a whole number")
    if not 0 <= n.__index__() <= MOST:
        raise ValueError(f"set_num_threads: 'n' is {n}, expected 1 to {MOST}, or 0 for the default")
    _core.set_num_threads(n.__index__())
