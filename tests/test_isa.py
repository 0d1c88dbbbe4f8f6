"""Every compiled instruction set, forced by PYFASTNN_ISA, runs and is right on the whole table."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pyfastnn import _core
from pyfastnn.testing import all_samples

ORDER = ("generic", "avx2", "avx512")
COMPILED = list(_core.compiled_isas())
RUNNABLE = [isa for isa in COMPILED if ORDER.index(isa) <= ORDER.index(_core.detected_isa())]

# The active one is tested in this process by the same functions: see test_op_forward.py and
# test_batch_identity.py.
OTHERS = [isa for isa in RUNNABLE if isa != _core.active_isa()]


def python(code: str, isa: str | None) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "PYFASTNN_ISA"}
    if isa is not None:
        environment["PYFASTNN_ISA"] = isa
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
        check=False,
    )


def test_generic_is_always_there():
    assert COMPILED[0] == "generic"
    assert _core.active_isa() in RUNNABLE


def test_the_forced_isa_runs_in_this_process():
    forced = os.environ.get("PYFASTNN_ISA")
    assert _core.active_isa() == (forced or _core.detected_isa())


@pytest.mark.parametrize("isa", RUNNABLE)
def test_whole_table_is_right_on(isa):
    code = "import pyfastnn.testing as t; from pyfastnn import _core; print(_core.active_isa(), t.check_table())"
    ran = python(code, isa)
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert ran.stdout.split() == [isa, str(len(list(all_samples())))]


@pytest.mark.parametrize("isa", OTHERS)
def test_linear_is_exact_on_whole_numbers_on(isa):
    """Tile edges of every instruction set with tolerance 0; test_op_forward.py holds the check."""
    code = (
        "import itertools, sys; sys.path.insert(0, 'HERE')\n"
        "import test_op_forward as t; from pyfastnn import _core\n"
        "for dtype in t.DTYPES:\n"
        "    for n, i, o in itertools.product(t.EXACT_N, t.EXACT_I[::3], t.EXACT_O[::2]):\n"
        "        t.check_exact(dtype, n, i, o)\n"
        "    for sizes in t.LARGE:\n"
        "        t.check_exact(dtype, *sizes)\n"
        "for op in t.ULP_LIMITS:\n"
        "    t.test_float32_activation_on_every_exponent(op)\n"
        "print(_core.active_isa())"
    ).replace("HERE", os.path.dirname(os.path.abspath(__file__)))
    ran = python(code, isa)
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert ran.stdout.strip() == isa


@pytest.mark.parametrize("isa", OTHERS)
def test_rows_have_the_same_bits_in_every_batch_on(isa):
    code = (
        "import sys; sys.path.insert(0, 'HERE')\n"
        "import test_batch_identity as t; from pyfastnn import _core\n"
        "for dtype in t.DTYPES:\n"
        "    for sizes in t.SIZES:\n"
        "        t.check_rows(sizes, dtype)\n"
        "print(_core.active_isa())"
    ).replace("HERE", os.path.dirname(os.path.abspath(__file__)))
    ran = python(code, isa)
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert ran.stdout.strip() == isa


@pytest.mark.skipif(sys.platform != "linux", reason="uses mprotect")
@pytest.mark.parametrize("isa", OTHERS)
def test_no_kernel_reads_or_writes_past_its_arrays_on(isa):
    """Each instruction set has tails of its own; test_op_memory.py puts the arrays between guard pages."""
    code = (
        "import sys; sys.path.insert(0, 'HERE')\n"
        "import test_op_memory as t; from pyfastnn import _core\n"
        "t.test_no_kernel_reads_or_writes_past_its_arrays()\n"
        "print(_core.active_isa())"
    ).replace("HERE", os.path.dirname(os.path.abspath(__file__)))
    ran = python(code, isa)
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert ran.stdout.strip() == isa


SUMS = ("sum_of_squares", "sum_of_squared_differences", "activation_summary")
"""Ops that add up pieces which threads have made."""


@pytest.mark.parametrize("isa", OTHERS)
def test_sums_have_the_same_bits_for_any_number_of_threads_on(isa):
    code = (
        "import sys; sys.path.insert(0, 'HERE')\n"
        "import test_threads as t; from pyfastnn import _core\n"
        "_core.set_parallel_cost(0.0)\n"
        "for op in OPS:\n"
        "    for dtype in t.DTYPES:\n"
        "        t.test_same_bits_for_any_number_of_threads(op, dtype, None)\n"
        "print(_core.active_isa())"
    )
    code = code.replace("HERE", os.path.dirname(os.path.abspath(__file__))).replace("OPS", repr(SUMS))
    ran = python(code, isa)
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert ran.stdout.strip() == isa


def test_without_force_the_best_is_taken():
    ran = python("from pyfastnn import _core; print(_core.active_isa(), _core.detected_isa())", None)
    assert ran.returncode == 0, ran.stderr
    active, detected = ran.stdout.split()
    assert active == detected


def test_unknown_isa_is_an_import_error_that_lists_the_known():
    ran = python("import pyfastnn._core", "avx1024")
    assert ran.returncode == 1
    assert "ImportError" in ran.stderr
    assert "avx1024" in ran.stderr
    for isa in COMPILED:
        assert isa in ran.stderr


def test_impossible_isa_is_an_import_error():
    impossible = [isa for isa in (*ORDER, "neon") if isa not in RUNNABLE]
    assert impossible
    for isa in impossible:
        ran = python("import pyfastnn._core", isa)
        assert ran.returncode == 1
        assert "ImportError" in ran.stderr
        assert isa in ran.stderr
