"""What tells the rows of a search from other rows: kept with a study in a storage, so that none goes on with others."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from pyfastnn.search.setting import Setting
from pyfastnn.train.prepare import as_stream
from pyfastnn.train.settings import is_whole

FIRST = 64
"""Rows of the inputs that are looked at; of the targets all are."""


def rows_of(setting: Setting) -> dict[str, str | None]:
    """Return what the trials of a search are trained on and judged by, as text.

    Shape, first rows and targets are looked at: enough for rows that were added, left out, scaled or split otherwise.

    Parameters
    ----------
    setting : Setting
        Checked.

    Returns
    -------
    dict
        ``rows``, ``validation_rows`` and ``cv``; None for what was not given, and for streams.
    """
    return {
        "rows": _rows(setting.X, setting.y),
        "validation_rows": _rows(setting.X_val, setting.y_val),
        "cv": _cv(setting.cv),
    }


def _rows(X: Any, y: Any) -> str | None:
    if X is None or as_stream(X) is not None:
        return None
    parts = X if isinstance(X, Mapping) else {"": X}
    shapes = [f"{name} {'x'.join(map(str, np.shape(part)))}".strip() for name, part in parts.items()]
    mark = 0
    for part in parts.values():
        mark = _mark(part[:FIRST].toarray() if hasattr(part, "tocsr") else part[:FIRST], mark)
    for part in (y if isinstance(y, Mapping) else {"": y}).values():
        mark = _mark(part, mark)
    return f"{', '.join(shapes)} ({mark:08x})"


def _cv(cv: Any) -> str | None:
    if cv is None or is_whole(cv):
        return None if cv is None else str(int(cv))
    if isinstance(cv, Iterable):
        mark = 0
        for pair in cv:
            for part in pair:
                mark = _mark(part, mark)
        return f"pairs of rows ({mark:08x})"
    return type(cv).__name__ if " at 0x" in repr(cv) else " ".join(repr(cv).split())


def _mark(values: Any, before: int) -> int:
    """Return a checksum of numbers or words that does not depend on how they are stored."""
    array = np.asarray(values)
    if array.dtype.kind in "biuf":
        return zlib.crc32(np.ascontiguousarray(array, "<f8").tobytes(), before)
    return zlib.crc32("\0".join(map(str, array.ravel().tolist())).encode("utf-8", "surrogatepass"), before)
