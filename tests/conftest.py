"""Fixtures shared by several test files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with the real data sets (mnist, fashion-mnist, cifar10, tabular); skips without."""
    named = os.environ.get("PYFASTNN_DATA")
    if named is not None:
        if not Path(named).is_dir():
            pytest.fail(f"PYFASTNN_DATA={named} is not a folder")
        return Path(named)
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not beside.is_dir():
        pytest.skip("no real data: set PYFASTNN_DATA to the folder with mnist, cifar10, tabular")
    return beside
