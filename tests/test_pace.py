"""What the pace of shared work decides: simulated steps whose costs are known."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
COMPILER = shutil.which(os.environ.get("CXX", "c++"))

TRIALS = 1 / 30
"""Part of the time that trials of the slower way may take (``kSteps``)."""
LATEST = 1.0
"""Seconds of steps after which the other way is tried again at the latest (``kLongest``), if steps are short."""


@pytest.fixture(scope="module")
def simulate(tmp_path_factory):
    """Return the parts of the time lost to the slower way, before and after the costs change."""
    if COMPILER is None:
        pytest.skip("needs a C++ compiler")
    program = tmp_path_factory.mktemp("pace") / "pace"
    source = ROOT / "tests" / "cpp" / "pace.cpp"
    subprocess.run(
        [COMPILER, "-std=c++17", "-O1", "-I", str(ROOT / "csrc"), str(source), "-o", str(program)],
        check=True,
        timeout=120,
    )

    def run(before, after, steps):
        args = [str(cost) for cost in (*before, *after, steps)]
        done = subprocess.run([str(program), *args], capture_output=True, text=True, check=True, timeout=60)
        return [float(line) for line in done.stdout.split()]

    return run


@pytest.mark.parametrize(("faster", "slower"), [(100, 200), (750, 1250), (12_000, 24_000), (70_000, 138_000)])
def test_trials_cost_a_few_percent_and_changes_are_noticed(simulate, faster, slower):
    steps = 3000
    shared_first = simulate((faster, slower), (slower, faster), steps)
    alone_first = simulate((slower, faster), (faster, slower), steps)
    seconds = steps * faster * 1e-6
    noticed = max(LATEST, 30 * 2 * slower * 1e-6 + 2 * slower * 1e-6) / seconds
    for found in (shared_first, alone_first):
        assert found[1] <= TRIALS * 1.5 + min(1.0, noticed)
    assert shared_first[0] <= TRIALS * 1.5
    # It begins shared, and finds out after 30 ms or 30 steps that alone is faster.
    assert alone_first[0] <= TRIALS * 1.5 + (0.03 + 31 * slower * 1e-6) / seconds
