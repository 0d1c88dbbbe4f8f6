"""Warnings that point at the line of the user's that led to them."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from types import FrameType

_HERE = str(Path(__file__).parent) + os.sep


def warn(message: str, category: type[Warning]) -> None:
    """Warn as if the nearest caller outside this package had done it."""
    level = 1
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_code.co_filename.startswith(_HERE):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
