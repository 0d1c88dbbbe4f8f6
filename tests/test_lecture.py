"""The lectures' experiments in short form: every script says what it should, beside the published numbers, with and without matplotlib."""

from __future__ import annotations

import functools
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted((ROOT / "examples" / "lecture").glob("[0-9][0-9]_*.py"))
WITHOUT = "import runpy, sys; sys.modules['matplotlib'] = None; sys.path.insert(0, sys.argv[1]); del sys.argv[0:2]; sys.argv.insert(0, ''); "


def run(path: Path, *arguments: str, matplotlib: bool, fails: bool = False) -> str:
    """Run a script as a user does, or where matplotlib is missing; return what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    code = (
        f"import runpy, sys; sys.argv = {[str(path), *arguments]!r}; sys.path[0] = {str(path.parent)!r}; "
        f"{'' if matplotlib else 'sys.modules[' + repr('matplotlib') + '] = None; '}runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done.stderr if fails else done.stdout


@functools.cache
def printed(path: Path) -> str:
    """Return what a script prints in short form without matplotlib; it has run once for all tests."""
    return run(path, "--short", matplotlib=False)


def numbers(path: Path) -> dict[str, list[str]]:
    """Return the rows of the tables of a script: the name, and the cells beside it."""
    found = {}
    for line in printed(path).splitlines():
        name, *cells = re.split(r" {2,}", line.strip())
        if cells:
            found[name] = cells
    return found


def value(cell: str) -> float:
    """Return the number of a cell, shares as numbers from 0 to 1."""
    return float(cell.rstrip("%")) / (100.0 if cell.endswith("%") else 1.0)
