"""Judges kernels: comparators with computed bounds, and calls set up so that a careless kernel
shows.

Used by the tests of this package and by anyone who wants to know whether the build at hand is
right::

    python -c "import pyfastnn.testing as t; print(t.check_table())"
"""

from pyfastnn.testing.calls import (
    DTYPES,
    Call,
    all_samples,
    check_op,
    check_table,
    make_call,
    op_table,
    rng_of,
    run,
    samples_of,
)
from pyfastnn.testing.compare import assert_same_bits, assert_within
from pyfastnn.testing.gradients import (
    LOSSES,
    assert_gradients,
    central_difference,
    differentiate,
    random_case,
)

__all__ = [
    "DTYPES",
    "LOSSES",
    "Call",
    "all_samples",
    "assert_gradients",
    "assert_same_bits",
    "assert_within",
    "central_difference",
    "check_op",
    "check_table",
    "differentiate",
    "make_call",
    "op_table",
    "random_case",
    "rng_of",
    "run",
    "samples_of",
]
