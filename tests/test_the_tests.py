"""Planted errors: a comparator that lets one through is wrong."""

from __future__ import annotations

import numpy as np
import pytest
from test_op_backward import KINKED, LOSSES, assert_gradients, differentiate, random_case

from pyfastnn.graph.gradients import RULES
from pyfastnn.reference import Sample, specs
from pyfastnn.testing import DTYPES, assert_same_bits, assert_within, check_op, op_table, rng_of, samples_of
