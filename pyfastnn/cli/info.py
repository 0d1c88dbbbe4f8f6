"""Show what this installation is and what it found on the machine."""

from __future__ import annotations

import argparse
import platform

LINES = ("version", "compiler", "compiled for", "detected", "active", "threads", "OpenMP runtime", "NumPy", "Python")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add nothing: the command has no options."""


def facts() -> dict[str, str]:
    """Return what the command prints, in its order."""
    import numpy as np

    from pyfastnn import _core

    values = (
        _core.__version__,
        _core.compiler(),
        ", ".join(_core.compiled_isas()),
        _core.detected_isa(),
        _core.active_isa(),
        str(_core.num_threads()),
        _core.openmp_runtime(),
        np.__version__,
        f"{platform.python_version()} on {platform.system()} {platform.machine()}",
    )
    return dict(zip(LINES, values, strict=True))


def run(options: argparse.Namespace) -> int:
    """Print one line per fact."""
    found = facts()
    width = max(map(len, found)) + 1
    for name, value in found.items():
        print(f"{name + ':':<{width}} {value}")
    return 0
