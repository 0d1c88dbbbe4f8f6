"""Builds the hyper row of a call: every field in order, 0 where the op reads nothing."""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import cast

from pyfastnn._core import hyper_fields

Row = tuple[float, ...]


def row_maker(*names: str) -> Callable[[Row], Row]:
    """Return a function that makes a hyper row of ``(0.0, value of names[0], ...)``."""
    order = hyper_fields()
    missing = set(names) - set(order)
    if missing:
        raise ValueError(f"row_maker: no hyper field {sorted(missing)[0]!r}; known: {', '.join(order)}")
    return cast(
        "Callable[[Row], Row]",
        itemgetter(*(names.index(f) + 1 if f in names else 0 for f in order)),
    )


def out_of_range(who: str, name: str, value: object, expected: str) -> ValueError:
    """Return the exception for a number outside its range."""
    return ValueError(f"{who}: '{name}' is {value!r}, expected {expected}")
