"""Benchmarks against peers: ``python -m bench gemm step op --against numpy torch``."""

import sys
from pathlib import Path

# `python -m` puts this repository's folder first, where a source tree without the compiled core would hide the installed package.
_ROOT = str(Path(__file__).resolve().parents[1])
sys.path[:] = [p for p in sys.path if str(Path(p).resolve()) != _ROOT] + [_ROOT]
