"""Preprocessing: learned from the training rows, applied everywhere, undone where that can be, saved with the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyfastnn._names import unknown
from pyfastnn.data.preprocessing.affine import Center, MaxAbs, MinMax, Rescale, Standardize
from pyfastnn.data.preprocessing.base import Array, Preprocessor
from pyfastnn.data.preprocessing.compose import Compose
from pyfastnn.data.preprocessing.projection import PCA, Whiten

__all__ = [
    "PCA",
    "Center",
    "Compose",
    "MaxAbs",
    "MinMax",
    "Preprocessor",
    "Rescale",
    "Standardize",
    "Whiten",
    "from_config",
]

_REGISTRY: dict[str, type[Preprocessor]] = {
    c.name: c for c in (Center, MaxAbs, MinMax, PCA, Rescale, Standardize, Whiten)
}


def from_config(config: Mapping[str, Any], state: Mapping[str, Array] | None) -> Preprocessor:
    """Build a preprocessor from `Preprocessor.to_config` and `Preprocessor.state`.

    Only the classes of this package can be named; nothing is imported or called by name.

    Parameters
    ----------
    config : mapping
        ``name`` and the settings of that class, no more and no less.
    state : mapping or None
        The arrays of `Preprocessor.state`; None gives an object that has not been fitted.

    Returns
    -------
    Preprocessor
        A new object with copies of the arrays.

    Raises
    ------
    TypeError
        If a setting or array has the wrong type.
    ValueError
        If a name, key, value or shape is not allowed.
    """
    made = _compose(config) if config.get("name") == Compose.name else _single(config)
    if state is not None:
        made._restore(state)
    return made


def _compose(config: Mapping[str, Any]) -> Preprocessor:
    parts = config.get("parts")
    if not isinstance(parts, list) or sorted(config) != ["name", "parts"]:
        raise ValueError("preprocessing 'compose': expected the setting 'parts', a list, and no other")
    if not all(isinstance(part, Mapping) for part in parts):
        raise TypeError("preprocessing 'compose': a part is no mapping of settings")
    return Compose([_single(part) for part in parts])


def _single(config: Mapping[str, Any]) -> Preprocessor:
    name = config.get("name")
    if not isinstance(name, str) or name not in _REGISTRY:
        raise ValueError(unknown("preprocessing", name, [*_REGISTRY, Compose.name]))
    settings = {**_REGISTRY[name]._added, **{k: v for k, v in config.items() if k != "name"}}
    allowed = _REGISTRY[name]()._settings()
    for key in settings:
        if key not in allowed:
            raise ValueError(unknown(f"setting of {name}", key, allowed))
    if missing := [key for key in allowed if key not in settings]:
        raise ValueError(f"preprocessing {name!r}: missing setting {missing[0]!r}")
    return _REGISTRY[name](**settings)
